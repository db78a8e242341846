"""Sweeping: many runs of one function, at once, over a grid of its arguments.

The function is compiled once, for a chunk of the grid at a time, with all the chunk's runs side by
side.
"""

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, PyTree

from jaxnet.core import arrays, checks, dtypes, trees
from jaxnet.core.console import note_interrupts, progress_bar
from jaxnet.sweeping.chunks import Chunk, Values, chunk_of


class SweepRun(NamedTuple):
    """One run of a sweep.

    Attributes:
        place: where in the grid.
        hyperparameters: by name.
        results: what `run` returned.
    """

    place: tuple[int, ...]
    hyperparameters: dict[str, Any]
    results: PyTree


class Sweep(NamedTuple):
    """The runs of a sweep, by the axes of its grid.

    Attributes:
        grid: the values of every hyperparameter.
        zipped: whether they go together, along one axis, in place of one axis each.
        results: what `run` returned, as NumPy arrays with the grid's axes in front.
        done: which runs were made: all, unless it was interrupted. The others' results are 0.
        diverged: which runs returned a number that is not finite.
    """

    grid: dict[str, Any]
    zipped: bool
    results: PyTree
    done: Bool[np.ndarray, "..."]
    diverged: Bool[np.ndarray, "..."]

    @checks.door
    def at(self, *place: int) -> SweepRun:
        """One run, by its place in the grid."""
        if len(place) != self.done.ndim:
            raise checks.InvalidValue(
                f"expected a place in each of the grid's axes, {list(self.done.shape)}. "
                f"Received: {checks.describe(place)}"
            )
        sizes = zip(place, self.done.shape, strict=True)
        place = tuple(range(n)[checks.integer("place", i, -n, n - 1)] for i, n in sizes)
        places = place * len(self.grid) if self.zipped else place
        values = zip(self.grid.items(), places, strict=True)
        hyperparameters = {name: value[i] for (name, value), i in values}
        return SweepRun(place, hyperparameters, jax.tree.map(lambda r: r[place], self.results))

    @checks.door
    def best(self, scores: ArrayLike, *, largest: bool = False) -> SweepRun:
        """The run of the lowest score, or the largest, of those that were made and are finite.

        Args:
            scores: one for each run, in the grid's axes, such as a part of `results`.
            largest: whether more is better.

        Raises:
            ValueError: scores of another shape, or no run that is finite.
        """
        checks.boolean("largest", largest)
        given = arrays.as_array("scores", scores)
        if not dtypes.is_real(given):
            raise checks.InvalidType(
                f"expected numbers for scores. Received: {checks.describe(scores)}"
            )
        array = np.asarray(given, np.float64)
        if array.shape != self.done.shape:
            raise checks.InvalidValue(
                f"expected scores in the grid's axes, {list(self.done.shape)}. "
                f"Received: {list(array.shape)}"
            )
        valid = self.done & ~self.diverged & np.isfinite(array)
        if not valid.any():
            raise checks.InvalidValue("expected a run that was made and is finite. Received: none")
        ranked = np.where(valid, -array if largest else array, np.inf)
        return self.at(*(int(i) for i in np.unravel_index(ranked.argmin(), array.shape)))

    def table(self) -> Any:
        """A `pandas.DataFrame` with a row for each run: hyperparameters and results of one number.

        Keys and arrays are left out. The last columns are "done" and "diverged". A hyperparameter
        of such a name is the column "grid/done", and a result with the name of another column
        "results/done", as often as it takes to be unique.
        """
        import pandas

        size, shape = self.done.size, self.done.shape
        places = np.unravel_index(np.arange(size), shape)
        flags = {"done": self.done.reshape(size), "diverged": self.diverged.reshape(size)}
        hyperparameters = {
            name: np.asarray(values)[places[0 if self.zipped else axis]]
            for axis, (name, values) in enumerate(self.grid.items())
            if values.ndim == 1 and not dtypes.is_key(values)
        }
        results = {
            path or "result": np.asarray(leaf).reshape(size)
            for path, leaf in trees.named_leaves(self.results).items()
            if leaf.shape == shape
        }
        left = _with_unique_names("grid", hyperparameters, flags)
        right = _with_unique_names("results", results, left | flags)
        return pandas.DataFrame(left | right | flags)


def _with_unique_names(
    prefix: str, columns: dict[str, Any], others: Mapping[str, Any]
) -> dict[str, Any]:
    """The columns, of which those that are called as others are get the prefix until none is."""
    renamed: dict[str, Any] = {}
    for name, column in columns.items():
        unique = name
        while unique in others or unique in renamed or (unique != name and unique in columns):
            unique = f"{prefix}/{unique}"
        renamed[unique] = column
    return renamed


@checks.door
def sweep(
    run: Callable[..., PyTree],
    grid: Mapping[str, Any],
    *,
    zipped: bool = False,
    memory: float | None = None,
    progress: bool = True,
) -> Sweep:
    """Calls `run` with every combination of hyperparameters, many at a time, compiled once.

    Args:
        run: a pure function of named hyperparameters, each of which it is given as a traced scalar
            or key; typically a call of `train`. It returns any tree of arrays; of keys the results
            hold the bits.
        grid: for each name its values: numbers, an array whose first axis they lie along, or keys.
        zipped: whether to take the first value of each, then the second, and so on, in place of
            every combination.
        memory: bytes that the programs on one device may take, besides what `run` brings along; by
            default half of what is free.
        progress: whether to show a bar, if standard error is a terminal or a notebook.

    Every run is what a call of `run` alone gives, but for the order of sums: to 1e-12 in float64.
    One that diverges harms no other. Ctrl-C ends the sweep after the chunks that are under way,
    and what there is is returned; pressed twice, it interrupts like anywhere else. Called again
    with the same `run` and as many values, it compiles nothing.

    Raises:
        TypeError, ValueError: a grid that is empty, unequal when zipped, or has a name that `run`
            does not take or lacks one that it needs; values that are no finite numbers or keys; a
            hyperparameter that decides a shape or a branch, such as `batch_size` or `epochs`, so
            that not all runs are one program. What else `run` raises is raised as it is.

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
    values = _values(run, grid)
    lengths = [len(value) for value in values.values()]
    if zipped and len(set(lengths)) > 1:
        raise checks.InvalidValue(
            "expected as many values for every hyperparameter when zipped. Received: "
            + ", ".join(f"{name} {len(value)}" for name, value in values.items())
        )
    shape = tuple(lengths[:1] if zipped else lengths)
    members = math.prod(shape)
    if members >= 2**31:
        raise checks.InvalidValue(
            f"expected a grid of less than 2**31 runs. Received: {members}, "
            f"{' x '.join(map(str, shape))}"
        )
    chunk = chunk_of(run, values, zipped, shape, memory)
    results, done, diverged = _made(chunk, members, progress)

    def in_grid(leaf: Any) -> Any:
        return leaf.reshape(*shape, *leaf.shape[1:])

    return Sweep(values, zipped, jax.tree.map(in_grid, results), in_grid(done), in_grid(diverged))


def _values(run: Callable[..., Any], grid: Mapping[str, Any]) -> Values:
    """The grid as arrays; names are checked against what `run` takes."""
    named = isinstance(grid, Mapping) and all(isinstance(name, str) for name in grid)
    if not named or not grid:
        raise checks.InvalidType(
            "expected a grid of names and their values, {'rate': [0.1, 0.01]}. "
            f"Received: {checks.describe(grid)}"
        )
    try:
        parameters = inspect.signature(run).parameters.values()
    except ValueError:
        raise checks.InvalidValue(
            f"expected a run whose arguments Python can tell. Received: {checks.describe(run)}"
        ) from None
    takable = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes, takes_any = [p.name for p in takable], any(p.kind is p.VAR_KEYWORD for p in parameters)
    needs = [p.name for p in takable if p.default is p.empty]
    unknown = [] if takes_any else [name for name in grid if name not in takes]
    missing = [name for name in needs if name not in grid]
    if unknown or missing:
        wrong = f"{unknown[0]!r}, which it does not take" if unknown else f"no {missing[0]!r}"
        raise checks.InvalidValue(
            f"expected a grid of the arguments of run, {', '.join(takes)}. Received: {wrong}"
        )
    return {name: _array(name, value) for name, value in grid.items()}


def _array(name: str, value: Any) -> Array:
    try:
        array = arrays.as_array(name, value)
    except (TypeError, ValueError):  # such as a list of keys
        array = np.empty(0)
    fits = dtypes.is_real(array) or dtypes.is_key(array)
    if not fits or array.ndim == 0 or len(array) == 0:
        raise checks.InvalidValue(
            f"expected at least one number or key for {name!r}. "
            f"Received: {checks.describe(value)}{checks.hint(value)}"
        )
    if dtypes.is_key(array):
        return jnp.asarray(array)
    with np.errstate(over="ignore"):  # what overflows is found not to be finite
        converted = arrays.to_device(array)
    arrays.within(f"values for {name!r}", converted)
    if jnp.issubdtype(array.dtype, jnp.integer):
        limits = np.iinfo(converted.dtype)
        arrays.within(f"values for {name!r}", array, limits.min, limits.max)
    return converted


def _plain(tree: PyTree) -> PyTree:
    """Keys as their bits, which NumPy can hold."""
    return jax.tree.map(
        lambda leaf: jax.random.key_data(leaf) if dtypes.is_key(leaf) else leaf, tree
    )


def _made(chunk: Chunk, members: int, progress: bool) -> tuple[PyTree, np.ndarray, np.ndarray]:
    """Results of all members, which were made, and which are not finite."""
    done, diverged = np.zeros(members, bool), np.zeros(members, bool)
    results: PyTree = None
    starts = iter(range(0, members, chunk.size))
    with (
        progress_bar(members, "run", progress) as bar,
        note_interrupts("sweep") as interrupted,
        ThreadPoolExecutor(chunk.workers) as pool,
    ):

        def one(start: int) -> Any:
            return jax.device_get(_plain(chunk.program(jnp.array(start, jnp.int32))))

        def started() -> Iterator[tuple[int, Future[Any]]]:
            for start in itertools.islice(starts, 0 if interrupted() else 1):
                yield start, pool.submit(one, start)

        under_way = [pair for _ in range(chunk.workers) for pair in started()]
        while under_way:
            start, future = under_way.pop(0)
            rows = slice(start, min(start + chunk.size, members))
            part, finite = future.result()
            under_way += started()
            if results is None:
                results = jax.tree.map(
                    lambda leaf: np.zeros((members, *leaf.shape[1:]), leaf.dtype), part
                )
            size = rows.stop - rows.start
            for whole, leaf in zip(jax.tree.leaves(results), jax.tree.leaves(part), strict=True):
                whole[rows] = leaf[:size]
            done[rows], diverged[rows] = True, ~finite[:size]
            bar.update(size)
    return results, done, diverged
