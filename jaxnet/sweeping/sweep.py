"""Sweeping: many runs of one function over a grid of its arguments, compiled once."""

import itertools
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, PyTree

from jaxnet.core import checks
from jaxnet.core.console import note_interrupts, progress_bar
from jaxnet.core.dtypes import is_key
from jaxnet.sweeping.chunks import Chunk, make_chunk
from jaxnet.sweeping.grid import make_grid
from jaxnet.sweeping.results import Sweep
from jaxnet.sweeping.run import Run, check_signature


@checks.door
def sweep(
    run: Run,
    grid: Mapping[str, Any],
    *,
    zipped: bool = False,
    memory: float | None = None,
    progress: bool = True,
) -> Sweep:
    """Calls `run` with every combination of hyperparameters, many at a time, compiled once.

    Each result equals that of `run` called alone, up to summation order (1e-12 in float64). A run
    that diverges does not affect the others. Ctrl-C finishes the chunks that are running, and
    returns the partial result; a second Ctrl-C raises KeyboardInterrupt immediately. Another sweep
    of the same `run` with as many values compiles nothing.

    Args:
        run: a pure function of named hyperparameters, typically a call of `train`. It is called
            with a traced scalar or key for each, and returns any tree of arrays. See `Run`.
        grid: the values of each hyperparameter by its name: numbers, keys, or an array with the
            values along its first axis.
        zipped: whether to combine the first values of all hyperparameters, then the second values,
            and so on, instead of all combinations.
        memory: the most bytes that the programs on one device may use, at least 1, without the
            arrays captured by `run`. The default is half of the free memory.
        progress: whether to show a progress bar, if standard error is a terminal or a notebook.

    Returns:
        The results of all runs. Keys in the results become their data, which are integers.

    Raises:
        TypeError: the grid is not a mapping of names or is empty; a hyperparameter decides a shape
            or a branch, such as `batch_size` or `epochs`, so that not all runs are one program.
        ValueError: the names are not the arguments of `run`; a value is neither a finite number
            nor a key; different numbers of values in a zipped grid; 2**31 runs or more.

        Errors raised by `run` are not changed.

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
    """
    checks.function("run", run)
    checks.boolean("zipped", zipped)
    checks.boolean("progress", progress)
    if memory is not None:
        memory = checks.number("memory", memory, 1)
    points = make_grid(grid, zipped)
    check_signature(run, points.values)
    results, done, diverged = _run_chunks(make_chunk(run, points, memory), points.runs, progress)

    def split_axis(leaf: Any) -> Any:
        return leaf.reshape(*points.shape, *leaf.shape[1:])

    results = jax.tree.map(split_axis, results)
    return Sweep(points.values, zipped, results, split_axis(done), split_axis(diverged))


def _run_chunks(
    chunk: Chunk, runs: int, progress: bool
) -> tuple[PyTree, Bool[np.ndarray, " runs"], Bool[np.ndarray, " runs"]]:
    """Runs all chunks: the results of all runs, which are complete, and which are non-finite."""
    done, diverged = np.zeros(runs, bool), np.zeros(runs, bool)
    results: PyTree = None
    starts = iter(range(0, runs, chunk.size))
    running: deque[tuple[int, Future[Any]]] = deque()

    def compute(start: int) -> Any:
        return jax.device_get(_replace_keys(chunk.program(jnp.array(start, jnp.int32))))

    with (
        progress_bar(runs, "run", progress) as bar,
        note_interrupts("sweep") as interrupted,
        ThreadPoolExecutor(chunk.workers) as pool,
    ):

        def submit(chunks: int) -> None:
            """Starts the next chunks, unless the sweep is interrupted."""
            for start in itertools.islice(starts, 0 if interrupted() else chunks):
                running.append((start, pool.submit(compute, start)))

        submit(chunk.workers)
        while running:
            start, future = running.popleft()
            part, is_finite = future.result()
            submit(1)
            if results is None:
                results = jax.tree.map(
                    lambda leaf: np.zeros((runs, *leaf.shape[1:]), leaf.dtype), part
                )
            rows = slice(start, min(start + chunk.size, runs))
            size = rows.stop - rows.start
            for whole, leaf in zip(jax.tree.leaves(results), jax.tree.leaves(part), strict=True):
                whole[rows] = leaf[:size]
            done[rows], diverged[rows] = True, ~is_finite[:size]
            bar.update(size)
    return results, done, diverged


def _replace_keys(tree: PyTree) -> PyTree:
    """Replaces keys by their data, which NumPy can hold."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)
