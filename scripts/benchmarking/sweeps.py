"""How long 10,000 networks take: 10 widths, 10 learning rates and 100 seeds.

Everyone trains networks 64-width-10 with ReLU on scikit-learn's digits, 1,797 x 64, with Adam, in
batches of 64 and for 10 epochs, 290 steps. The seed decides the initial parameters, which are the
library's usual ones, and the order of the examples, which is new in every epoch. A run ends with
the loss of every network on all examples.

    jaxnet, structural   one call of `sweep`; the width is structural
    jaxnet, separate     one call of `sweep` for each width
    PyTorch              one network after the other, with fused Adam, on one core, since two are
                         not faster for these sizes
    torch.func           `vmap` over the 100 seeds of a width and a rate, with fused Adam
    ParallelMLPs         the method of Farias et al. (2022, arXiv:2206.08369) in PyTorch: 20
                         networks, two of each width, are one whose hidden layers are joined. The
                         products of the units and their outgoing weights are added up network by
                         network. All 20 take the same batches, and have the same rate, so that
                         Adam can be fused.

The sizes of these groups were the fastest of several, torch.func's for widths from 32 on. PyTorch
trains two seeds of every width and rate, torch.func two rates of every width, and ParallelMLPs ten
seeds of every width and rate; their seconds are multiplied by what is missing, but for what only
the first run needs. Each has a process of its own, and they take turns. The seconds of the first
run contain everything but imports and the reading of the data. The ratio is the median of the
ratios in the runs after the first.

Two more tables are about jaxnet alone. One compares a sweep of one width that saves its results in
a folder with one that does not. In the other, the programs of eight widths are compiled in one call
of `sweep`, and in eight calls, each with empty caches.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarking.sweep_contenders import (
    BATCH,
    CONTENDERS,
    EPOCHS,
    SIZES,
    Size,
    Train,
    jaxnet_grid,
    jaxnet_run,
)
from benchmarking.workloads import Workload, prepared

Play = Callable[[Size, np.ndarray, np.ndarray], dict[str, Any]]
Round = dict[str, dict[str, Any]]  # of every contender its answer


# Pairs: two ways to do the same with jaxnet, which take turns.


def saving() -> Play:
    """A sweep without a folder, and with a new one; both return the parameters too."""
    import jax

    import jaxnet

    def play(size: Size, inputs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        whole, grid = jaxnet_run(inputs, labels), jaxnet_grid(size.rates, size.folder_seeds)

        def run(rate: Any, key: Any) -> Any:
            return whole(32, rate, key)

        def timed(**options: Any) -> tuple[float, Any]:
            begin = time.perf_counter()
            results = jaxnet.sweep(run, grid, **options).results
            return time.perf_counter() - begin, results

        with tempfile.TemporaryDirectory() as folder:
            (plain, expected), (saved, results) = timed(), timed(folder=folder)
            files = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
            megabytes = sum(path.stat().st_size for path in files) / 1e6
        same = jax.tree.map(np.array_equal, expected, results)
        if not jax.tree.all(same):
            return {"failed": "the results differ with a folder"}
        return {"seconds": [plain, saved], "files": len(files), "megabytes": megabytes}

    return play


def compilation() -> Play:
    """Programs of several widths from one call each, and from one call for all."""
    import jax

    import jaxnet

    def play(size: Size, inputs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        whole = jaxnet_run(inputs, labels, epochs=1)
        grid = jaxnet_grid(size.rates[:1], 1)

        def run(width: int, rate: Any, key: Any) -> Any:
            return whole(width, rate, key)[0]

        def seconds(*widths: int) -> float:
            jax.clear_caches()
            jaxnet.clear_caches()
            begin = time.perf_counter()
            jaxnet.sweep(run, grid, structural={"width": widths})
            return time.perf_counter() - begin

        widths = size.widths[: size.compiled]
        return {"seconds": [sum(seconds(width) for width in widths), seconds(*widths)]}

    return play


PAIRS = {"saving": saving, "compilation": compilation}
YARDSTICK = "jaxnet, structural"


# Workers: a process for each contender and each pair.


def answer(name: str, size: str) -> None:
    """Answers every line on standard input with what was measured, in JSON."""
    task = prepared(Workload("", "", "digits", 1797, (64, 10), BATCH, EPOCHS))
    play: Play | None = None
    for _ in sys.stdin:
        try:
            play = play or (PAIRS[name]() if name in PAIRS else _timed(CONTENDERS[name]()))
            reply = play(SIZES[size], task.inputs, task.targets)
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            reply = {"failed": f"{type(error).__name__}: {reason}"[:200]}
        print(json.dumps(reply), flush=True)


def _timed(train: Train) -> Play:
    def play(size: Size, inputs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        begin = time.perf_counter()
        losses = train(size, inputs, labels)
        seconds = time.perf_counter() - begin
        with warnings.catch_warnings(action="ignore"):  # that some are not trained
            means, spreads = np.nanmean(losses, axis=2), np.nanstd(losses, axis=2, ddof=1)
        trained = int((~np.isnan(losses)).sum())
        if not trained:
            return {"failed": "no loss is a number"}
        found = {"means": means.tolist(), "spreads": spreads.tolist(), "networks": trained}
        return found | {"seconds": seconds, "share": trained / losses.size}

    return play


@contextlib.contextmanager
def _opened(name: str, quick: bool) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, name, "quick" if quick else "full"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "0"},
        cwd=pathlib.Path(__file__).parents[1],
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _ask(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next answer; a process that is gone has failed."""
    try:
        process.stdin.write("\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())
    except (OSError, json.JSONDecodeError):
        return {"failed": "the process died"}


# The measurement.


def measure(quick: bool, repeats: int) -> dict[str, Round]:
    """The results of all contenders and pairs, or why they failed."""
    total, hidden = (repeats + 1) * (len(CONTENDERS) + len(PAIRS)), not sys.stderr.isatty()
    with tqdm(total=total, delay=1, leave=False, disable=hidden) as bar:
        rounds = _rounds(CONTENDERS, quick, repeats, bar)
        pairs = _rounds(PAIRS, quick, repeats, bar)
    return {"networks": conclude(rounds), "pairs": _conclude_pairs(pairs)}


def describe(quick: bool) -> dict[str, int]:
    """The numbers of networks, widths, rates and seeds."""
    size = SIZES["quick" if quick else "full"]
    widths, rates = len(size.widths), len(size.rates)
    networks = widths * rates * size.seeds
    return {"networks": networks, "widths": widths, "rates": rates, "seeds": size.seeds}


def _rounds(names: Iterable[str], quick: bool, repeats: int, bar: tqdm) -> list[Round]:
    """The answers of all, who take turns."""
    rounds: list[Round] = []
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(_opened(name, quick)) for name in names}
        for _ in range(repeats + 1):
            rounds.append({})
            for name, process in processes.items():
                bar.set_postfix_str(name)
                rounds[-1][name] = _ask(process)
                bar.update()
    return rounds


def _failures(rounds: list[Round]) -> Round:
    """The first answer of those who failed."""
    answers = [item for answers in reversed(rounds) for item in answers.items()]
    return {name: answer for name, answer in answers if "failed" in answer}


def _conclude_pairs(rounds: list[Round]) -> Round:
    """Medians of the second way's seconds over the first's; the first round compiles."""
    results = _failures(rounds)
    for name in [name for name in PAIRS if name not in results]:
        seconds = np.array([answers[name]["seconds"] for answers in rounds[1:]])
        medians = {"seconds": np.median(seconds, axis=0).tolist()}
        ratio = float(np.median(seconds[:, 1] / seconds[:, 0]))
        results[name] = rounds[-1][name] | medians | {"ratio": ratio}
    return {name: results[name] for name in PAIRS}


def conclude(rounds: list[Round]) -> Round:
    """Seconds for all networks, their ratios to the first contender's, and final losses."""
    results = _failures(rounds)
    ran = [name for name in CONTENDERS if name not in results]
    steady, first = {}, {}
    for name in ran:
        seconds = np.array([answers[name]["seconds"] for answers in rounds])
        steady[name] = seconds[1:] / rounds[0][name]["share"]
        once = seconds[0] - np.median(seconds[1:])  # what only the first run needs
        first[name] = float(np.median(steady[name]) + once)
    for name in ran:
        results[name] = rounds[-1][name] | {"steady_seconds": float(np.median(steady[name]))}
        results[name]["first_seconds"] = first[name]
        if YARDSTICK in ran:
            results[name]["ratio"] = float(np.median(steady[name] / steady[YARDSTICK]))
            results[name]["first_ratio"] = first[name] / first[YARDSTICK]
    _compare_losses([results[name] for name in ran])
    return {name: results[name] for name in CONTENDERS}


def _compare_losses(results: list[dict[str, Any]]) -> None:
    """Adds mean losses, the others' for the same networks, and whether they are apart.

    They are if they differ by more than the losses of one width and rate do, by the standard
    deviation over their seeds: the contenders start from different distributions.
    """
    means, spreads = (np.array([r.pop(name) for r in results]) for name in ("means", "spreads"))
    typical, spread = np.nanmedian(means, axis=0), np.nanmedian(spreads, axis=0)
    for result, mean in zip(results, means, strict=True):
        trained = ~np.isnan(mean)
        result["final_loss"] = float(mean[trained].mean())
        result["typical_loss"] = float(typical[trained].mean())
        result["spread"] = float(spread[trained].mean())
        result["apart"] = abs(result["final_loss"] - result["typical_loss"]) > result["spread"]


if __name__ == "__main__":
    answer(*sys.argv[1:])
