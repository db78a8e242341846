"""The results of a sweep: all runs in one array per result, with the axes of the grid in front."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, PyTree

from jaxnet.core import checks, trees
from jaxnet.core.arrays import as_array
from jaxnet.core.dtypes import is_key, is_real
from jaxnet.sweeping.grid import Grid
from jaxnet.sweeping.run import Run, label, remove_jit


class SweepRun(NamedTuple):
    """One run of a sweep.

    Attributes:
        place: its place in the grid, one index per axis.
        hyperparameters: its hyperparameters by name.
        results: what `run` returned.
    """

    place: tuple[int, ...]
    hyperparameters: dict[str, Any]
    results: PyTree


class Sweep(NamedTuple):
    """The runs of a sweep, by the axes of its grid.

    It can be pickled if `run` and the structural values can: a function that is defined in another
    one cannot. The results and the table always can.

    Attributes:
        grid: the values of every traced hyperparameter, in the order of the axes.
        structural: the values of every structural hyperparameter, whose axes come first.
        zipped: whether all traced hyperparameters share one axis, instead of one axis each.
        results: what `run` returned, as NumPy arrays with the grid's axes in front.
        done: which runs are complete: all, unless the sweep was interrupted or is one part. The
            results of the others are 0.
        diverged: which runs returned a non-finite number.
        run: the function that was swept.
    """

    grid: dict[str, Any]
    structural: dict[str, tuple[Any, ...]]
    zipped: bool
    results: PyTree
    done: Bool[np.ndarray, "..."]
    diverged: Bool[np.ndarray, "..."]
    run: Run

    @functools.partial(checks.door, name="Sweep.at")
    def at(self, *place: int) -> SweepRun:
        """Returns the run at a place in the grid: one index per axis, which may be negative.

        Raises:
            TypeError: an index is not an integer.
            ValueError: another number of indices, or an index outside of the grid.
        """
        place, hyperparameters = self._look_up(place)
        return SweepRun(place, hyperparameters, jax.tree.map(lambda r: r[place], self.results))

    @functools.partial(checks.door, name="Sweep.rerun")
    def rerun(self, *place: int) -> PyTree:
        """Calls `run` alone, compiled, with the hyperparameters at a place in the grid.

        A sweep over scores returns no parameters; this gives the whole result of one run, equal to
        that in the sweep up to summation order.

        Raises:
            TypeError: an index is not an integer.
            ValueError: another number of indices, or an index outside of the grid.

        >>> from jaxnet import sweep
        >>> found = sweep(lambda n, size: jax.numpy.full(size, n).sum(), {"n": [1, 2]},
        ...               structural={"size": [3, 5]})
        >>> found.results
        array([[ 3,  6],
               [ 5, 10]], dtype=int32)
        >>> found.rerun(-1, 0)
        Array(5, dtype=int32)
        """
        _, hyperparameters = self._look_up(place)
        structural = {name: hyperparameters.pop(name) for name in self.structural}
        run = functools.partial(remove_jit(self.run), **structural)
        return jax.jit(run)(**hyperparameters)

    def _look_up(self, place: tuple[Any, ...]) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Returns a place without negative indices, and its hyperparameters."""
        shape = self.done.shape
        if len(place) != len(shape):
            raise checks.InvalidValue(
                f"expected one index for each axis of the grid, {list(shape)}. "
                f"Received: {checks.describe(place)}"
            )
        sizes = zip(place, shape, strict=True)
        place = tuple(range(n)[checks.integer("place", i, -n, n - 1)] for i, n in sizes)
        return place, Grid(self.grid, self.zipped, self.structural).at(place)

    @functools.partial(checks.door, name="Sweep.best")
    def best(self, scores: ArrayLike, *, largest: bool = False) -> SweepRun:
        """Returns the run with the lowest score, or the largest, of the complete and finite ones.

        Args:
            scores: one number for each run, with the axes of the grid, such as a part of `results`.
                Runs whose score is non-finite are ignored.
            largest: whether a larger score is better.

        Raises:
            TypeError: scores that are not numbers; `largest` is not a boolean.
            ValueError: scores of another shape, or no complete run with finite results and score.
        """
        checks.boolean("largest", largest)
        array = as_array("scores", scores)
        if not is_real(array):
            raise checks.InvalidType(
                f"expected numbers for scores. Received: {checks.describe(scores)}"
            )
        array = np.asarray(array, np.float64)
        if array.shape != self.done.shape:
            raise checks.InvalidValue(
                f"expected scores with the axes of the grid, {list(self.done.shape)}. "
                f"Received: {list(array.shape)}"
            )
        valid = self.done & ~self.diverged & np.isfinite(array)
        if not valid.any():
            raise checks.InvalidValue(
                "expected a complete run with finite results and score. Received: none"
            )
        ranked = np.where(valid, -array if largest else array, np.inf)
        return self.at(*(int(i) for i in np.unravel_index(ranked.argmin(), array.shape)))

    def table(self) -> Any:
        """Returns a `pandas.DataFrame` with a row per run: hyperparameters and scalar results.

        Structural values are numbers if all values of the axis are; otherwise they are texts, a
        function by its name, and equal texts are followed by their place. Keys and arrays are
        omitted. The last columns are "done" and "diverged". A hyperparameter with one of these
        names gets the prefix "grid/", and a result with the name of another column the prefix
        "results/", repeated until the name is unique.

        The mean and the standard error over the seeds are one line of pandas:

        >>> from jaxnet import sweep
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> def run(key, scale, shift):
        ...     return {"score": scale * shift(jax.random.normal(key))}
        >>> axes = {"shift": [jax.numpy.abs, jax.numpy.exp]}
        >>> table = sweep(run, {"scale": [1.0, 2.0], "key": keys}, structural=axes).table()
        >>> table.groupby(["shift", "scale"])["score"].agg(["mean", "sem"])  # doctest: +SKIP
        """
        results = {
            path or "result": leaf
            for path, leaf in trees.named_leaves(self.results).items()
            if leaf.shape == self.done.shape
        }
        grid = Grid(self.grid, self.zipped, self.structural)
        return make_table(grid, results, {"done": self.done, "diverged": self.diverged})


def make_table(grid: Grid, results: dict[str, np.ndarray], last: dict[str, np.ndarray]) -> Any:
    """Makes a `pandas.DataFrame` with a row per run; see `Sweep.table`.

    Args:
        grid: the hyperparameters.
        results: columns whose names may be changed, as arrays with the axes of the grid.
        last: columns whose names are kept.
    """
    import pandas

    place = np.unravel_index(np.arange(grid.runs), grid.shape)
    axes = len(grid.structural)
    pairs = zip(grid.structural.items(), place[:axes], strict=True)
    structural = {name: _to_column(values)[index] for (name, values), index in pairs}
    hyperparameters = structural | {
        name: np.asarray(values)
        for name, values in grid.traced_at(place[axes:]).items()
        if values.ndim == 1 and not is_key(values)
    }
    left = _make_unique("grid", hyperparameters, last)
    right = _make_unique("results", results, left | last)
    columns = left | right | last
    return pandas.DataFrame({name: column.reshape(-1) for name, column in columns.items()})


def _to_column(values: tuple[Any, ...]) -> np.ndarray:
    """Converts structural values to numbers, or to texts that are all different.

    >>> _to_column((16, 64)), _to_column((32, None))
    (array([16, 64]), array(['32', 'None'], dtype=object))
    """
    if all(isinstance(value, (bool, int, float, np.bool_, np.number)) for value in values):
        return np.array(values)
    texts = [label(value) for value in values]
    unique = [f"{t} {i}" if texts.count(t) > 1 else t for i, t in enumerate(texts)]
    return np.array(unique, object)


def _make_unique(prefix: str, columns: dict[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Puts the prefix in front of the names of columns until no other column has the same name.

    >>> _make_unique("grid", {"done": 1, "rate": 2}, {"done": 3})
    {'grid/done': 1, 'rate': 2}
    """
    renamed: dict[str, Any] = {}
    for name, column in columns.items():
        unique = name
        while unique in others or unique in renamed or (unique != name and unique in columns):
            unique = f"{prefix}/{unique}"
        renamed[unique] = column
    return renamed
