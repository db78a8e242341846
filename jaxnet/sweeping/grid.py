"""The grid of a sweep: names of hyperparameters, and the values of each.

Traced hyperparameters are arrays, and all of their values share one compiled program. Structural
ones are Python values that decide the program, such as a width; each combination has its own.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxnet.core import arrays, checks
from jaxnet.core.dtypes import is_key, is_real


class Grid(NamedTuple):
    """The hyperparameters of a sweep.

    The axes of the structural hyperparameters come first. Runs are numbered in the order of the
    axes, so those of one combination of structural values are consecutive.

    Attributes:
        values: the values of each traced hyperparameter, along the first axis of an array.
        zipped: whether all traced hyperparameters share one axis, instead of one axis each.
        structural: the values of each structural hyperparameter.

    >>> rates, widths = jnp.array([0.1, 0.2]), (4, 8, 16)
    >>> grid = Grid({"rate": rates}, zipped=False, structural={"width": widths})
    >>> grid.shape, grid.runs
    ((3, 2), 6)
    >>> {name: value for name, value in grid.at((-1, 0)).items()}
    {'width': 16, 'rate': Array(0.1, dtype=float32)}
    """

    values: dict[str, Array]
    zipped: bool
    structural: dict[str, tuple[Any, ...]]

    @property
    def traced_shape(self) -> tuple[int, ...]:
        """The number of values along each axis of the traced hyperparameters."""
        lengths = tuple(map(len, self.values.values()))
        return lengths[:1] if self.zipped else lengths

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values along each axis."""
        return (*map(len, self.structural.values()), *self.traced_shape)

    @property
    def runs(self) -> int:
        """The number of runs."""
        return math.prod(self.shape)

    @property
    def runs_each(self) -> int:
        """The number of runs of one combination of structural values."""
        return math.prod(self.traced_shape)

    def combinations(self) -> list[dict[str, Any]]:
        """Returns all combinations of structural values; one without a name if there are none."""
        names = self.structural.keys()
        chosen = itertools.product(*self.structural.values())
        return [dict(zip(names, values, strict=True)) for values in chosen]

    def at(self, place: Sequence[int]) -> dict[str, Any]:
        """Returns the hyperparameters at a place: one index per axis."""
        axes = len(self.structural)
        pairs = zip(self.structural.items(), place[:axes], strict=True)
        return {name: values[i] for (name, values), i in pairs} | self.traced_at(place[axes:])

    def traced_at(self, place: Sequence[Any]) -> dict[str, Any]:
        """Returns the traced hyperparameters at one index, or an array of indices, per axis."""
        indices = tuple(place) * len(self.values) if self.zipped else place
        pairs = zip(self.values.items(), indices, strict=True)
        return {name: value[index] for (name, value), index in pairs}


def make_grid(
    values: Mapping[str, Any],
    structural: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    zipped: bool = False,
) -> Grid:
    """Converts names and values to a grid, which must have at least one run."""
    structural = _check_structural(structural)
    if not _has_names(values) or not (values or structural):
        raise checks.InvalidType(
            "expected a grid of names and values, such as {'rate': [0.1, 0.01]}. "
            f"Received: {checks.describe(values)}"
        )
    if both := [name for name in structural if name in values]:
        raise checks.InvalidValue(
            "expected every hyperparameter either in grid or in structural. "
            f"Received: {both[0]!r} in both"
        )
    traced = {name: _to_values(name, value) for name, value in values.items()}
    grid = Grid(traced, zipped, structural)
    lengths = {name: len(value) for name, value in grid.values.items()}
    if zipped and len(set(lengths.values())) > 1:
        raise checks.InvalidValue(
            "expected the same number of values for every hyperparameter of a zipped grid. "
            "Received: " + ", ".join(f"{name} {length}" for name, length in lengths.items())
        )
    if grid.runs >= 2**31:
        raise checks.InvalidValue(
            f"expected a grid of fewer than 2**31 runs. Received: {grid.runs}, "
            f"{' x '.join(map(str, grid.shape))}"
        )
    return grid


def _has_names(values: Any) -> bool:
    return isinstance(values, Mapping) and all(isinstance(name, str) for name in values)


def _check_structural(structural: Any) -> dict[str, tuple[Any, ...]]:
    """Converts names and sequences of Python values; None stands for no names."""
    if structural is None:
        return {}
    if not _has_names(structural):
        raise checks.InvalidType(
            "expected structural as names and lists of values, such as {'width': [16, 64]}. "
            f"Received: {checks.describe(structural)}"
        )
    for name, values in structural.items():
        is_list = isinstance(values, Sequence) or np.ndim(values) > 0
        if not is_list or isinstance(values, (str, bytes)) or len(values) == 0:
            raise checks.InvalidType(
                f"expected a list of at least one value for {name!r} in structural. "
                f"Received: {checks.describe(values)}"
            )
    return {name: tuple(values) for name, values in structural.items()}


def _to_values(name: str, value: Any) -> Array:
    """Converts the values of a hyperparameter to an array of finite numbers or of keys."""
    try:
        array = arrays.as_array(name, value)
    except (TypeError, ValueError):  # for instance a list of keys
        array = np.empty(0)
    if not (is_real(array) or is_key(array)) or array.ndim == 0 or len(array) == 0:
        others = isinstance(value, (list, tuple)) and len(value) > 0 and not checks.hint(value)
        raise checks.InvalidValue(
            f"expected at least one number or key for {name!r}"
            f"{'; pass other values in structural' if others else ''}. "
            f"Received: {checks.describe(value)}{checks.hint(value)}"
        )
    if is_key(array):
        return jnp.asarray(array)
    with np.errstate(over="ignore"):  # overflow gives infinity, which is found below
        converted = arrays.to_device(array)
    arrays.within(f"values for {name!r}", converted)
    if jnp.issubdtype(array.dtype, jnp.integer):
        limits = np.iinfo(converted.dtype)
        arrays.within(f"values for {name!r}", array, limits.min, limits.max)
    return converted
