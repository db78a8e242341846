"""Finiteness: whether arrays have infinite or NaN values, and where."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree


def can_be_nonfinite(values: Any) -> bool:
    """Whether an array holds floating-point or complex numbers, which may be infinite or NaN."""
    return bool(jnp.issubdtype(jnp.result_type(values), jnp.inexact))


def nonfinite(values: Any) -> Bool[np.ndarray, "..."]:
    """Marks the values that are infinite or NaN."""
    return np.asarray(~np.isfinite(values))


def first_index(wrong: Any) -> tuple[int, ...] | None:
    """The index of the first True in a boolean array; None if there is none.

    >>> first_index(np.array([[False, False], [True, True]]))
    (1, 0)
    """
    found = np.argwhere(wrong)
    return tuple(map(int, found[0])) if len(found) else None


def first_nonfinite(values: Any) -> tuple[int, ...] | None:
    """The index of the first infinite or NaN value; None if all values are finite.

    >>> first_nonfinite([1.0, np.nan, np.inf])
    (1,)
    """
    array = np.asarray(values)
    if array.size and not np.iscomplexobj(array):
        # Both extremes are NaN if any value is; a mask would take a quarter of the array's memory.
        with np.errstate(invalid="ignore"):  # bfloat16 warns about NaN
            if np.isfinite(array.min()) and np.isfinite(array.max()):
                return None
    return first_index(nonfinite(array))


def is_finite(tree: PyTree) -> bool:
    """Whether all floating-point numbers in a tree of concrete arrays are finite."""
    floats = list(filter(can_be_nonfinite, jax.tree.leaves(tree)))
    arrays = [leaf for leaf in floats if isinstance(leaf, jax.Array)]
    is_here = all(leaf.is_fully_addressable for leaf in arrays)
    if not is_here or any(d.platform != "cpu" for leaf in arrays for d in leaf.devices()):
        return bool(_compiled_all_finite(floats))
    return all(bool(np.isfinite(leaf).all()) for leaf in floats)  # in place, nothing compiled


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Computes `is_finite` within a compiled program.

    >>> jax.jit(all_finite)({"a": jnp.ones(3), "n": jnp.array(1)})
    Array(True, dtype=bool)
    """
    floats = filter(can_be_nonfinite, jax.tree.leaves(tree))
    finite = [jnp.isfinite(leaf).all() for leaf in floats]
    return functools.reduce(jnp.logical_and, finite, jnp.array(True))


_compiled_all_finite = jax.jit(all_finite)
