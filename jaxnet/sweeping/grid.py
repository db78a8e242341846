"""The grid of a sweep: names of hyperparameters, and the values of each."""

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

    Attributes:
        values: the values of each hyperparameter, along the first axis of an array.
        zipped: whether all hyperparameters share one axis of the grid, instead of one axis each.

    >>> grid = Grid({"rate": jnp.array([0.1, 0.2]), "width": jnp.array([4, 5, 6])}, zipped=False)
    >>> grid.shape, grid.runs
    ((2, 3), 6)
    >>> {name: value.item() for name, value in grid.at((0, -1)).items()}
    {'rate': 0.1..., 'width': 6}
    """

    values: dict[str, Array]
    zipped: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values along each axis."""
        lengths = tuple(map(len, self.values.values()))
        return lengths[:1] if self.zipped else lengths

    @property
    def runs(self) -> int:
        """The number of runs."""
        return math.prod(self.shape)

    def at(self, place: Sequence[Any]) -> dict[str, Any]:
        """Returns the hyperparameters at a place: one index, or an array of indices, per axis."""
        indices = tuple(place) * len(self.values) if self.zipped else place
        pairs = zip(self.values.items(), indices, strict=True)
        return {name: value[index] for (name, value), index in pairs}


def make_grid(values: Mapping[str, Any], zipped: bool) -> Grid:
    """Converts names and values to a grid, which must have at least one run."""
    has_names = isinstance(values, Mapping) and all(isinstance(name, str) for name in values)
    if not has_names or not values:
        raise checks.InvalidType(
            "expected a grid of names and values, such as {'rate': [0.1, 0.01]}. "
            f"Received: {checks.describe(values)}"
        )
    grid = Grid({name: _to_values(name, value) for name, value in values.items()}, zipped)
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


def _to_values(name: str, value: Any) -> Array:
    """Converts the values of a hyperparameter to an array of finite numbers or of keys."""
    try:
        array = arrays.as_array(name, value)
    except (TypeError, ValueError):  # for instance a list of keys
        array = np.empty(0)
    if not (is_real(array) or is_key(array)) or array.ndim == 0 or len(array) == 0:
        raise checks.InvalidValue(
            f"expected at least one number or key for {name!r}. "
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
