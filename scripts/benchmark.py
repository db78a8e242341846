"""Measures how long training takes: jaxnet, its peers, and the limit of what JAX can do.

Workloads, each trained from the same weights on the same float32 data by everyone:

    W1         1,024 x 10, net 10-16-16-3, batch 32, Adam, 100 epochs
    W2         scikit-learn's digits, 1,797 x 64, net 64-128-64-10, batch 64, Adam, 50 epochs
    W3         60,000 x 784 random numbers, net 784-512-512-10, batch 128, momentum, 2 epochs
    W3 memmap  the same with inputs in a file that is mapped into memory
    W4         4,096 x 1,024, net 1024-2048-2048-1024, squared error, batch 1,024, Adam, 20 steps
    W5 x64     64 networks 64-32-10 on the digits, batch 64, Adam, 10 epochs, each with its own seed
               and learning rate
    W5 x256    256 of them

The same work: the same hyperparameters and number of steps, and a new order of the examples in
every epoch, whose making counts, but for the limit's. All see every example: PyTorch, Keras and
scikit-learn take a last batch that is short, as they do by themselves; jaxnet fills it up with
examples of weight 0, and loops around a JAX step and the limit with the first examples of the same
order. The final loss is computed from the final weights by one function, on all examples, and
marked (!) where it is not about the others'; the exit status is then 1, as it is where a contender
fails.

The yardstick, "limit", is one bare lax.scan over all steps, compiled whole, with the orders made
by NumPy beforehand, the update rule by hand, no history, no masks and no checks. W5's is the
fastest of three: one vmapped scan, the same over two virtual devices, and two threads with half
each. For W4 "jnp.dot alone" is the time of a run's matrix products, forward and backward, and
nothing else.

Every contender has a process of its own, and they are asked in turn, one at a time. Steady seconds
are the median of the runs after the first, as many as are asked for and fill a second each on
average. By then the data is on the device, but for Keras, scikit-learn and fit in W3 memmap, which
take NumPy's in every run. Cold seconds are those of the first run: imports are done and the data is
in NumPy, but everything is built, compiled and trained; where that takes less than five seconds, it
is the median of as many processes as steady runs are asked for. Peak MB is by how much training
raised the process's peak memory, on the host. A dash is a contender that does not fit a workload:
one that trains one network in W5 (and with 256, one after the other) or many in W1 to W4; Flax NNX
has no run of W5, and W3 memmap is there for the memory of jaxnet and the limit. One that fails is
in the table, with the reason.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import socket
import subprocess
import sys
import time
from typing import Any

from benchmarking import peers, report
from benchmarking.contenders import REGISTRY
from benchmarking.workloads import Workload, workloads
from tqdm import tqdm

assert peers  # imported for the contenders that it enters

PACKAGES = "jaxnet-dense jax jaxlib optax flax equinox keras torch scikit-learn numpy"
SECONDS = 1.0  # that steady runs fill at least, times the repeats
SHORT = 5.0  # seconds of a first run that is made in several processes
EXTRAS = ["growth", "first", "sweeps", "halving", "streams"]  # only where asked for
ENVIRONMENT = {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class Server:
    """A process that has imported some modules, and forks for every contender it is to play."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self.requests, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--worker", *modules],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | ENVIRONMENT,
            )

    def opened(self, contender: str, workload: str, quick: bool) -> "Worker":
        ours, theirs = socket.socketpair()
        request = {"contender": contender, "workload": workload, "quick": quick}
        with theirs, contextlib.suppress(BrokenPipeError):
            socket.send_fds(self.requests, [json.dumps(request).encode()], [theirs.fileno()])
        return Worker(ours)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.requests.close()
        self.process.kill()
        self.process.wait()


class Worker:
    """One contender at one workload; it ends at once when it is let go."""

    def __init__(self, ours: socket.socket) -> None:
        self.lines = ours.makefile("rw")

    def answer(self) -> dict[str, Any]:
        """The next answer; a process that is gone has failed."""
        try:
            return json.loads(self.lines.readline())
        except (OSError, json.JSONDecodeError):
            return {"failed": "the process died"}

    def ask(self, request: str) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            self.lines.write(request + "\n")
            self.lines.flush()
        return self.answer()


def measured(
    workload: Workload, servers: dict[str, Server], arguments: argparse.Namespace, bar: tqdm
) -> dict[str, dict[str, Any]]:
    """Of every contender its times, peak memory and losses, or why it failed."""
    quick, repeats = arguments.quick, arguments.repeats
    end = time.monotonic() + arguments.seconds
    results: dict[str, dict[str, Any]] = {name: {"seconds": [], "cold": []} for name in servers}
    workers = {}

    def is_late() -> bool:
        return time.monotonic() > end

    def opened(name: str) -> Worker:
        bar.set_postfix_str(f"{workload.name}, {name}")
        worker = servers[name].opened(name, workload.name, quick)
        noted(name, worker.answer())
        return worker

    def ran(name: str, worker: Worker, into: str) -> None:
        bar.set_postfix_str(f"{workload.name}, {name}")
        if is_late() and results[name].get("seconds") == []:
            noted(name, {"failed": "no time was left"})
        if "seconds" in results[name] and not is_late():
            seconds = noted(name, worker.ask("run")).get("seconds")
            if seconds is not None:
                results[name][into].append(seconds)
        bar.update()

    def noted(name: str, answer: dict[str, Any]) -> dict[str, Any]:
        if "failed" in answer or "unsuited" in answer:
            results[name] = answer
        return answer

    for name in servers:
        workers[name] = opened(name)
    for name, worker in workers.items():
        ran(name, worker, "cold")
    enough = 0.0 if quick else repeats * SECONDS
    while waiting := [
        name
        for name in servers
        if _lacks(results[name], repeats, enough) and not (is_late() and results[name]["seconds"])
    ]:
        bar.total += len(waiting)
        for name in waiting:
            ran(name, workers[name], "seconds")
    for name, worker in workers.items():
        if "seconds" in results[name]:
            closing = noted(name, worker.ask("close"))
            results[name] |= closing
    short = [name for name in servers if results[name].get("cold", [SHORT])[0] < SHORT]
    bar.total += len(short) * (arguments.cold - 1)
    for name in short * (arguments.cold - 1):
        ran(name, opened(name), "cold")
    return {name: result for name, result in results.items() if "unsuited" not in result}


def _lacks(result: dict[str, Any], repeats: int, enough: float) -> bool:
    """Whether a contender that has not failed needs more steady runs."""
    seconds = result.get("seconds")
    return seconds is not None and (len(seconds) < repeats or sum(seconds) < enough)


def compared(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The results of every chosen workload."""
    chosen = [w for w in workloads(arguments.quick) if w.name in arguments.workloads]
    names = {w.name: [n for n in arguments.contenders if _fits(n, w.name)] for w in chosen}
    needed = {REGISTRY[name].modules for many in names.values() for name in many}
    results = []
    first = sum(map(len, names.values()))
    bar = tqdm(total=first, delay=1, leave=False, disable=not sys.stderr.isatty())
    with contextlib.ExitStack() as stack, bar:
        servers = {modules: stack.enter_context(Server(modules)) for modules in needed}
        for workload in chosen:
            some = {name: servers[REGISTRY[name].modules] for name in names[workload.name]}
            found = measured(workload, some, arguments, bar)
            sizes = {key: getattr(workload, key) for key in ("steps", "products", "networks")}
            result = {"name": workload.name, "title": workload.title, **sizes, "contenders": found}
            report.concluded(result)
            results.append(result)
    return results


def _fits(contender: str, workload: str) -> bool:
    return workload in REGISTRY[contender].workloads


def described() -> dict[str, Any]:
    """What it was measured on, and with which versions."""
    versions = {}
    for package in PACKAGES.split():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "date": datetime.date.today().isoformat(),
        "platform": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"Python": platform.python_version(), **versions},
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [w.name for w in workloads(quick=False)]
    parser.add_argument("--quick", action="store_true", help="small W1 and W5 x64")
    parser.add_argument(
        "--only",
        metavar="NAMES",
        help=f"of: {', '.join([*names, *EXTRAS])}; W5 is both of its sizes, and so on",
    )
    parser.add_argument(
        "--contenders",
        metavar="NAMES",
        help=f"names, or how they begin, of: {', '.join(REGISTRY)}",
    )
    parser.add_argument(
        "--repeats", type=int, help="steady runs, at least (default 5, with --quick 1)"
    )
    parser.add_argument(
        "--cold", type=int, help="processes whose first run is timed, if short (default --repeats)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=math.inf,
        help="after which no run of a workload begins; a contender without one has failed then",
    )
    parser.add_argument("--growth", action="store_true", help="also how cost grows with each size")
    parser.add_argument("--first", action="store_true", help="also how long a first result takes")
    parser.add_argument("--sweeps", action="store_true", help="also 10,000 networks of ten widths")
    parser.add_argument("--halving", action="store_true", help="also what halving saves")
    parser.add_argument("--streams", action="store_true", help="also 4 GB of data in 1 GB")
    parser.add_argument("--json", metavar="FILE", help="write the results as JSON")
    parser.add_argument(
        "--markdown",
        metavar="FILE",
        help="write the tables, below the line --- if the file has one",
    )
    parser.add_argument("--picture", metavar="FILE", help="draw the ratios")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.repeats = arguments.repeats or (1 if arguments.quick else 5)
    arguments.cold = arguments.repeats if arguments.cold is None else arguments.cold
    if min(arguments.repeats, arguments.cold) < 1:
        parser.error("expected --repeats and --cold of at least 1")
    chosen = _chosen(parser, arguments.only, [*names, *EXTRAS])
    if not arguments.only:
        chosen = ["W1", "W5 x64"] if arguments.quick else names
    for extra in EXTRAS:
        setattr(arguments, extra, getattr(arguments, extra) or extra in chosen)
    arguments.workloads = [name for name in chosen if name in names]
    arguments.contenders = _chosen(parser, arguments.contenders, list(REGISTRY))
    return arguments


def _chosen(parser: argparse.ArgumentParser, words: str | None, names: list[str]) -> list[str]:
    """The names that one of the words begins, all without words."""
    beginnings = [word.strip().lower() for word in (words or "").split(",")]
    for beginning in beginnings:
        if not any(name.lower().startswith(beginning) for name in names):
            parser.error(f"there is no {beginning!r} among {', '.join(names)}")
    return [name for name in names if name.lower().startswith(tuple(beginnings))]


def write_below_line(path: pathlib.Path, text: str) -> None:
    """What stands above a line of three hyphens is kept."""
    before, line, _ = (path.read_text() if path.exists() else "").partition("\n---\n")
    path.write_text(f"{before}{line}\n{text}" if line else text)


def main() -> None:
    arguments = parsed()
    if arguments.worker:
        from benchmarking.worker import serve

        serve(arguments.worker)
        return
    results = described() | {"quick": arguments.quick, "repeats": arguments.repeats}
    results["workloads"] = compared(arguments)
    results["growth"] = {}
    if arguments.growth:
        from benchmarking import growth

        results["growth"] = growth.grown(arguments.quick, arguments.repeats)
        results["growth_held"] = growth.Sizes()._asdict()
    results["first"] = {}
    if arguments.first:
        from benchmarking import first

        results["first"] = first.measure(arguments.repeats)
    results["sweeps"] = {}
    if arguments.sweeps:
        from benchmarking import sweeps

        results["sweeps"] = sweeps.measure(arguments.quick, arguments.repeats)
        results["sweeps_size"] = sweeps.describe(arguments.quick)
    results["halving"] = {}
    if arguments.halving:
        from benchmarking import halving

        results["halving"] = halving.measure(arguments.quick)
    results["streams"] = {}
    if arguments.streams:
        from benchmarking import streams

        results["streams"] = streams.measure(arguments.quick, arguments.repeats)
    found = [result for w in results["workloads"] for result in w["contenders"].values()]
    found += [result for rows in results["sweeps"].values() for result in rows.values()]
    results["devices"] = sorted({result["device"] for result in found if "device" in result})
    print(text := report.body(results))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=2) + "\n")
    if arguments.markdown:
        write_below_line(pathlib.Path(arguments.markdown), text)
    if arguments.picture:
        report.draw(results, arguments.picture)
    sys.exit(any("failed" in result or result.get("apart") for result in found))


if __name__ == "__main__":
    main()
