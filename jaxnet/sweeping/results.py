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

    Attributes:
        grid: the values of every hyperparameter, in the order of the axes.
        zipped: whether all hyperparameters share one axis, instead of one axis each.
        results: what `run` returned, as NumPy arrays with the grid's axes in front.
        done: which runs are complete: all, unless the sweep was interrupted. The results of the
            others are 0.
        diverged: which runs returned a non-finite number.
    """

    grid: dict[str, Any]
    zipped: bool
    results: PyTree
    done: Bool[np.ndarray, "..."]
    diverged: Bool[np.ndarray, "..."]

    @functools.partial(checks.door, name="Sweep.at")
    def at(self, *place: int) -> SweepRun:
        """Returns the run at a place in the grid: one index per axis, which may be negative.

        Raises:
            TypeError: an index is not an integer.
            ValueError: another number of indices, or an index outside of the grid.
        """
        shape = self.done.shape
        if len(place) != len(shape):
            raise checks.InvalidValue(
                f"expected one index for each axis of the grid, {list(shape)}. "
                f"Received: {checks.describe(place)}"
            )
        sizes = zip(place, shape, strict=True)
        place = tuple(range(n)[checks.integer("place", i, -n, n - 1)] for i, n in sizes)
        hyperparameters = Grid(self.grid, self.zipped).at(place)
        return SweepRun(place, hyperparameters, jax.tree.map(lambda r: r[place], self.results))

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

        Keys and arrays are omitted. The last columns are "done" and "diverged". A hyperparameter
        with one of these names gets the prefix "grid/", and a result with the name of another
        column the prefix "results/", repeated until the name is unique.
        """
        import pandas

        size, shape = self.done.size, self.done.shape
        place = np.unravel_index(np.arange(size), shape)
        flags = {"done": self.done.reshape(size), "diverged": self.diverged.reshape(size)}
        hyperparameters = {
            name: np.asarray(values)
            for name, values in Grid(self.grid, self.zipped).at(place).items()
            if values.ndim == 1 and not is_key(values)
        }
        results = {
            path or "result": np.asarray(leaf).reshape(size)
            for path, leaf in trees.named_leaves(self.results).items()
            if leaf.shape == shape
        }
        left = _make_unique("grid", hyperparameters, flags)
        right = _make_unique("results", results, left | flags)
        return pandas.DataFrame(left | right | flags)


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
