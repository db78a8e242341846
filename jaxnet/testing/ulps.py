"""Distances in units in the last place (ULPs).

Comparing in float32 and in float64 separates rounding from a difference in the rule. Rounding
errors are about as many ULPs in either precision. A difference in the rule is `2**29` times as many
ULPs in float64. The threshold lies between, at a factor of `2**14.5`.
"""

from typing import Any, TypeAlias

import numpy as np
from jax.typing import ArrayLike

ULP_THRESHOLD = 2.0**14.5

Leaves: TypeAlias = dict[str, np.ndarray]  # by path, each [steps, ...]


def flatten(leaves: Leaves) -> np.ndarray:
    """Concatenates the elements of all leaves, `[steps, elements]`."""
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves.values()], axis=1)


def ulp_distance(a: np.ndarray, b: np.ndarray, dtype: str, *, scale: ArrayLike = 0.0) -> np.ndarray:
    """Returns `|a - b|` in units in the last place (ULPs), element by element.

    Args:
        a, b: arrays of one shape.
        dtype: the precision whose ULPs are counted, "float32" or "float64".
        scale: the unit is the ULP of the largest of `|a|`, `|b|` and `|scale|`.

    Returns:
        The distances in float64: 0 for equal infinities and for two NaN; infinite where only one
        element is non-finite, and for NaN and a number.

    >>> ulp_distance(np.array([1.0, 0.0, np.inf]), np.array([1.0 + 2**-22, 0.0, 1.0]), "float32")
    array([ 2.,  0., inf])
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    info = np.finfo(dtype)
    largest = np.maximum(np.maximum(np.abs(a), np.abs(b)), np.abs(scale))
    exponent = np.frexp(largest)[1] - 1
    ulp = np.ldexp(1.0, np.maximum(exponent, info.minexp) - info.nmant)
    with np.errstate(invalid="ignore", over="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        distance = np.where(same, 0, np.abs(a - b) / ulp)
    return np.where(np.isnan(distance), np.inf, distance)


def measure_distances(
    ours: Leaves, theirs: Leaves, parameters: Leaves, our_states: Leaves, dtype: str
) -> Leaves:
    """Returns the distance of the updates of two optimizers in ULPs.

    Args:
        ours, theirs: the updates of the candidate and of the reference.
        parameters: the parameters before each step.
        our_states: the candidate's states, before the first step and after each.
        dtype: the precision whose ULPs are counted.

    If the candidate returns the new parameters minus the old ones, its updates are only as exact as
    the parameters, and distances are in ULPs of the parameters where these are larger. Its state
    may contain the parameters that it subtracts, which rounding separates from those of the
    trajectory, or the parameters of the step before.
    """
    scales: dict[str, Any] = {}
    for path, updates in ours.items():
        copies = [s for s in our_states.values() if s.shape[1:] == updates.shape[1:]]
        with np.errstate(invalid="ignore", over="ignore"):
            subtracted = [s[:-1] for s in copies if s.any() and (s[1:] - s[:-1] == updates).all()]
        is_kept = any((s[1:] == parameters[path]).all() for s in copies)
        if is_kept or _is_difference(updates, parameters[path]):
            subtracted.insert(0, parameters[path])
        scales[path] = subtracted[0] if subtracted else None
    if any(scale is None for scale in scales.values()):
        scales = dict.fromkeys(parameters, np.zeros(()))
    return {p: ulp_distance(ours[p], theirs[p], dtype, scale=scales[p]) for p in theirs}


def _is_difference(updates: np.ndarray, parameters: np.ndarray) -> bool:
    """Whether every update could be the difference of new and old parameters.

    The difference of two numbers within a factor of two is exact (Sterbenz, 1974), so adding such
    an update to the parameters and subtracting them again recovers its bits.
    """
    near = np.abs(updates) < np.abs(parameters) / 2
    updates, parameters = updates.astype(parameters.dtype)[near], parameters[near]
    return bool(((parameters + updates) - parameters == updates).all())
