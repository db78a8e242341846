"""Sweeping: many runs of one function over a grid of its arguments, compiled once."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.core import checks
from jaxnet.core.console import note_interrupts, progress_bar
from jaxnet.sweeping.chunks import make_chunk
from jaxnet.sweeping.description import describe
from jaxnet.sweeping.folder import SweepFolder, check_results
from jaxnet.sweeping.grid import make_grid
from jaxnet.sweeping.results import Sweep
from jaxnet.sweeping.run import Run, check_signature, trace_runs
from jaxnet.sweeping.schedule import AllRuns, Claims, Programs, run_chunks
from jaxnet.sweeping.storage import Results


@checks.door
def sweep(
    run: Run,
    grid: Mapping[str, Any],
    *,
    structural: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    zipped: bool = False,
    memory: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    part: tuple[int, int] | None = None,
    progress: bool = True,
) -> Sweep:
    """Calls `run` with every combination of hyperparameters, many at a time.

    All values in `grid` share one compiled program. Each combination of structural values is a
    program of its own, which is compiled while the one before runs.

    Each result equals that of `run` called alone, up to summation order (1e-12 in float64). A run
    that diverges does not affect the others. Ctrl-C finishes the chunks that are running, and
    returns the partial result; a second Ctrl-C raises KeyboardInterrupt immediately. With a folder,
    SIGTERM does the same. Another sweep of the same `run` with as many values compiles nothing, up
    to 16 combinations.

    With a folder, results are kept on disk, a file for about two seconds' work, and the same call
    completes what is missing: after Ctrl-C, SIGTERM, a crash or a power failure. Any number of
    processes, also on several hosts, may make the same call with the same folder. They share the
    work, and each returns the results of all, bit for bit. A process locks the runs that it makes.
    The system releases the locks when the process ends, however it ends.

    Args:
        run: a pure function of named hyperparameters, typically a call of `train`. It is called
            with a traced scalar or key for each in `grid`, and returns any tree of arrays. See
            `Run`.
        grid: the values of each hyperparameter by its name: numbers, keys, or an array with the
            values along its first axis. It may be empty if there are structural values.
        structural: lists of Python values by name, which are passed to `run` as they are, such as
            widths, activations or batch sizes. The shapes of the results must not depend on them:
            return scores, and get the parameters of a run by `Sweep.rerun`.
        zipped: whether to combine the first values of all hyperparameters in `grid`, then the
            second values, and so on, instead of all combinations. Structural values are always
            combined with each other and with all of those.
        memory: the most bytes that the programs on one device may use, at least 1, without the
            arrays captured by `run`. The default is half of the free memory.
        folder: the folder of this sweep, which is created if it does not exist. The results that
            are returned are mapped from a temporary file in it, so they may exceed the memory.
        part: `(i, n)`: complete only the i-th of n parts, and use no locks, for job arrays and for
            file systems without locks. `Sweep.done` tells which runs are in the folder so far. Call
            without `part` once the parts have ended; before, it would make their runs, too.
        progress: whether to show a progress bar, if standard error is a terminal or a notebook.

    Returns:
        The results of all runs, with the axes of the structural hyperparameters in front, then
        those of the grid. Keys in the results become their data, which are integers.

    Raises:
        TypeError: the grid is not a mapping of names or is empty; a hyperparameter in `grid`
            decides a shape or a branch, such as `batch_size` or `epochs`, so that not all runs are
            one program; results that cannot be saved in a folder, such as complex128.
        ValueError: the names are not the arguments of `run`; a value is neither a finite number
            nor a key; different numbers of values in a zipped grid; 2**31 runs or more; results
            whose shapes depend on a structural value; the folder of another sweep: of another
            program, grid, version of JAX or setting.
        OSError: the folder cannot be read, written or locked.

        Errors raised by `run` are not changed.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnet import mlp, sgd, squared_error, train
    >>> x = jnp.linspace(-1.0, 1.0, 32)[:, None]
    >>> def run(key, rate):
    ...     data, sizes = (x, x**2), {"epochs": 20, "batch_size": 8}
    ...     return train(mlp([1, 8, 1]), squared_error, sgd(rate), data, key=key, **sizes)
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> found = sweep(run, {"rate": [0.001, 0.1, 1e6], "key": keys})
    >>> _, history = found.results
    >>> history["cost"].shape
    (3, 3, 20)
    >>> found.diverged.all(axis=1).tolist()
    [False, False, True]
    >>> best = found.best(history["cost"][..., -1])
    >>> round(float(best.hyperparameters["rate"]), 3)
    0.1

    A width decides the shapes, so it is structural:

    >>> def score(key, rate, width):
    ...     data, sizes = (x, x**2), {"epochs": 20, "batch_size": 8}
    ...     network = mlp([1, width, 1])
    ...     _, history = train(network, squared_error, sgd(rate), data, key=key, **sizes)
    ...     return history["cost"][-1]
    >>> found = sweep(score, {"rate": [0.01, 0.1], "key": keys}, structural={"width": [4, 16]})
    >>> found.results.shape
    (2, 2, 3)
    """
    checks.function("run", run)
    checks.boolean("zipped", zipped)
    checks.boolean("progress", progress)
    if memory is not None:
        memory = checks.number("memory", memory, 1)
    axes = make_grid(grid, structural, zipped)
    check_signature(run, [*axes.structural, *axes.values])
    path = None if folder is None else _check_folder(folder)
    part = _check_part(part, folder)
    traced = trace_runs(run, axes)
    types = traced[0].types[0]
    with contextlib.ExitStack() as stack:
        if path is None:
            results = Results(types, axes.runs)
            claims: Claims = AllRuns(results)
            runs = range(axes.runs)
        else:
            check_results(types)
            path.mkdir(parents=True, exist_ok=True)
            results = stack.enter_context(contextlib.closing(Results(types, axes.runs, path)))
            description = describe(run, axes, traced)
            claims = stack.enter_context(SweepFolder(path, description, results, part))
            runs = claims.runs
        starts = range(0, axes.runs, axes.runs_each)
        groups = [
            range(max(start, runs.start), min(start + axes.runs_each, runs.stop))
            for start in starts
        ]
        programs = Programs(lambda number: make_chunk(traced[number], axes, memory))
        stack.enter_context(contextlib.closing(programs))
        bar = stack.enter_context(progress_bar(axes.runs, "run", progress, results.count))
        interrupted = stack.enter_context(note_interrupts("sweep", termination=path is not None))

        def update(count: int) -> None:
            bar.update(count - bar.n)

        run_chunks(programs, groups, results, claims, interrupted, update)
        tree = results.tree(axes.shape)
    done, diverged = (a.reshape(axes.shape) for a in (results.done, results.diverged))
    return Sweep(axes.values, axes.structural, zipped, tree, done, diverged, run)


def _check_folder(folder: Any) -> Path:
    checks.path("folder", folder)
    path = Path(os.path.realpath(folder))
    if path.exists() and not path.is_dir():
        raise checks.InvalidValue(f"expected folder to be a folder. Received: {folder}, a file")
    return path


def _check_part(part: Any, folder: Any) -> tuple[int, int] | None:
    """Checks the number of a part and the number of parts."""
    if part is None:
        return None
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        raise checks.InvalidType(
            "expected part as its number and the number of parts, such as (0, 8). "
            f"Received: {checks.describe(part)}"
        )
    if folder is None:
        raise checks.InvalidValue("expected a folder for the results of a part. Received: None")
    parts = checks.integer("the number of parts", part[1], 1)
    return checks.integer("the number of the part", part[0], 0, parts - 1), parts
