"""Distances in units in the last place (ULPs).

Comparing in float32 and in float64 separates rounding from a difference in the rule. Rounding
errors are about as many ULPs in either precision. A difference in the rule is `2**29` times as many
ULPs in float64. The threshold lies between, at a factor of `2**14.5`.
"""

import numpy as np
from jax.typing import ArrayLike

ULP_THRESHOLD = 2.0**14.5


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
