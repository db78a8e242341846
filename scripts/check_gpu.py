"""Checks jaxnet on a GPU, measures how fast it is there, and writes that into BENCHMARKS.md.

    python scripts/check_gpu.py
    python scripts/check_gpu.py --reduced --output section.md   # on a CPU, in a minute

It takes at most 20 minutes on a machine with one NVIDIA GPU and the extras `cuda`, `test` and
`bench`. The parts are

    tests          the tests that are about numbers, bits and devices, on the GPU
    repeatability  whether `fit` has the same bits in another process, and after an interruption
    W1 to W5       the workloads of `scripts/benchmark.py`: jaxnet, its peers, and the limit
    products       W4 in bfloat16 as a fraction of the measured rate of one large matrix product
    many networks  10,000 small networks in one `sweep`
    flags          what XLA's flags and the precision of products change
    memory         the peak of the device's memory for each workload

Each part has processes of its own and a limit of time, which passes what it does not need on to the
parts after it. A part that fails is reported as such, and the others go on. At the end, the section
"On a GPU" of BENCHMARKS.md is written or replaced; the rest of the file stays as it is, and so does
the whole file after Ctrl-C. `--output` names another file. Without a GPU, the parts are reduced to
what a CPU can do, and `--output` must be given.

The exit status is 1 if a test or a check of repeatability failed or did not finish.
"""

import argparse
import functools
import pathlib
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from benchmark import described
from checking_gpu import device_tests, many, products, repeatability, speed, trials
from checking_gpu.children import ROOT, Failed, Setting, ask
from checking_gpu.outcome import Outcome
from checking_gpu.section import HEADING, replace_section

MINUTES = 20


class Part(NamedTuple):
    """A measurement, or a check that decides the exit status."""

    name: str
    seconds: float  # of the time that is there in any case
    run: Callable[[Setting, float], Outcome]
    is_check: bool = False


PARTS = [
    Part("tests", 240, device_tests.check, is_check=True),
    Part("repeatability", 100, repeatability.check, is_check=True),
    Part("W1", 120, functools.partial(speed.compare, "W1")),
    Part("W2", 110, functools.partial(speed.compare, "W2")),
    Part("W3", 110, functools.partial(speed.compare, "W3")),
    Part("W4", 100, functools.partial(speed.compare, "W4")),
    Part("W5", 150, functools.partial(speed.compare, "W5")),
    Part("products", 50, products.compare),
    Part("many networks", 50, many.measure_sweep),
    Part("flags", 100, trials.compare_flags),
    Part("memory", 70, trials.measure_memory),
]
REDUCED = [part for part in PARTS if part.name not in ("W2", "W3", "W4", "W5")]


def perform(parts: list[Part], setting: Setting, seconds: float) -> dict[str, Outcome]:
    """Runs the parts; each has what is left when the later parts have been given their seconds."""
    end, outcomes = time.monotonic() + seconds, {}
    for i, part in enumerate(parts):
        begin = time.monotonic()
        later = sum(other.seconds for other in parts[i + 1 :])
        try:
            outcome = part.run(setting, end - begin - later)
        except Exception as error:
            reason = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            outcome = Outcome(f"Failed: {' '.join(reason.split())[:300]}.", passed=False)
        outcomes[part.name] = outcome
        verdict = "done" if outcome.passed else "FAILED"
        print(f"{part.name}: {verdict}, {time.monotonic() - begin:.0f} s", flush=True)
    return outcomes


def compose(
    outcomes: dict[str, Outcome], device: dict[str, Any], missing: Iterable[str], reduced: bool
) -> str:
    """The section, with its heading."""
    about = described()
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    memory = f", {device['memory'] / 1e9:.1f} GB for JAX" if device["memory"] else ""
    others = ", ".join(missing)
    lines = [
        f"Measured on {about['date']} by `python scripts/check_gpu.py` on {device['kind']}{memory}"
        f", {device['version']}; {about['platform']['processor']}, {about['platform']['cores']} "
        f"cores, {platform.system()}. {versions}.",
        f"Not installed, so left out: {others}." if others else "",
        speed.ABOUT,
        "These are reduced sizes, which are too small to quote." if reduced else "",
    ]
    parts = [HEADING, " ".join(filter(None, lines))]
    for name, outcome in outcomes.items():
        parts += [f"### {name[0].upper()}{name[1:]}", outcome.text]
    return "\n\n".join(parts)


def choose(parser: argparse.ArgumentParser, names: str) -> list[Part]:
    chosen, known = [name.strip() for name in names.split(",")], [part.name for part in PARTS]
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"expected parts among {', '.join(known)}. Received: {', '.join(unknown)}")
    return [part for part in PARTS if part.name in chosen]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reduced", action="store_true", help="small sizes, on a CPU")
    parser.add_argument("--output", metavar="FILE", help="instead of BENCHMARKS.md")
    parser.add_argument("--only", metavar="PARTS", help="separated by commas; with --output")
    arguments = parser.parse_args()
    chosen = choose(parser, arguments.only) if arguments.only else None
    begin = time.monotonic()

    reduced, device = arguments.reduced, None
    if not reduced:
        try:
            device = ask(Setting("cuda,cpu", reduced=False), 60, "device")
        except Failed as failure:
            print(f"JAX finds no NVIDIA GPU, so the parts are reduced ({failure})")
            reduced = True
    if (reduced or chosen) and not arguments.output:
        parser.error("expected --output, since BENCHMARKS.md has all parts in full size")
    setting = Setting("cpu" if reduced else "cuda,cpu", reduced)
    parts = chosen or (REDUCED if reduced else PARTS)
    try:
        device = device or ask(setting, 60, "device")
        outcomes = perform(parts, setting, 60 * MINUTES - (time.monotonic() - begin))
        section = compose(outcomes, device, speed.missing(), reduced)
        path = pathlib.Path(arguments.output or ROOT / "BENCHMARKS.md")
        replace_section(path, section)
    except KeyboardInterrupt:
        print("interrupted: nothing was written")
        return 130
    print(f"written to {path}")
    return int(any(not outcomes[part.name].passed for part in parts if part.is_check))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends the children too
    sys.exit(main())
