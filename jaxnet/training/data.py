"""Data: the examples of training and evaluation, converted to JAX arrays and checked.

Lists, NumPy arrays and pandas tables become float32, except integer targets, which become int32
labels. JAX arrays are used unchanged. An array that would lose its meaning in the conversion, such
as a masked array, raises a TypeError.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Num

from jaxnet.core import arrays, checks, dtypes
from jaxnet.core.finite import first_nonfinite


class Data(NamedTuple):
    """Examples: inputs, targets and weights (`None` for equal weights).

    A plain tuple `(inputs, targets)` or `(inputs, targets, weights)` is accepted wherever data is.
    """

    inputs: Num[Array, "examples ..."]
    targets: Num[Array, "examples ..."]
    weights: Float[Array, " examples"] | None = None


DataLike = tuple[Any, Any] | tuple[Any, Any, Any]


def check_data(name: str, data: Any) -> Data:
    """Converts data to arrays with one row per example, at least one."""
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise checks.InvalidType(
            f"expected {name} as a tuple (inputs, targets) or "
            f"(inputs, targets, weights). Received: {checks.describe(data)}"
        )
    inputs, targets, weights = Data(*data)
    inputs = arrays.to_array(f"inputs of {name}", inputs)
    targets = arrays.to_array(f"targets of {name}", targets, integers=np.int32)
    if weights is not None:
        weights = arrays.to_array(f"weights of {name}", weights)
    if inputs.ndim < 2 or len(inputs) == 0:
        raise checks.InvalidValue(
            f"expected inputs of {name} of shape [examples, features], with at least "
            f"one example. Received: {list(inputs.shape)}"
        )
    if targets.ndim == 0 or len(targets) != len(inputs):
        raise checks.InvalidValue(
            f"expected targets of {name} for {len(inputs)} examples, as many as there "
            f"are inputs. Received: {list(targets.shape)}"
        )
    if weights is not None and weights.shape != (len(inputs),):
        raise checks.InvalidValue(
            f"expected weights of {name} of shape [{len(inputs)}]. Received: {list(weights.shape)}"
        )
    return Data(inputs, targets, weights)


def check_values(name: str, data: Data, given: Any) -> None:
    """Checks that values are concrete and finite, and that the weights have a positive sum.

    Args:
        name: the name of the data in error messages.
        data: the converted data.
        given: the data as the caller passed it, for the name of a column.
    """
    parts = zip(data._fields, data, Data(*given), strict=True)
    for part, values, source in (row for row in parts if row[1] is not None):
        if not dtypes.is_concrete(values):
            raise checks.InvalidType(
                f"expected {part} of {name} with values. Received: a traced array; use train"
            )
        if (index := first_nonfinite(values)) is not None:
            raise checks.InvalidValue(
                f"expected finite {part} of {name}. Received: {np.asarray(values)[index]} "
                f"at index {index}{arrays.name_column(source, index)}"
            )
    if data.weights is not None:
        low, high = np.asarray(data.weights).min(), np.asarray(data.weights).max()
        if low < 0 or high == 0:
            raise checks.InvalidValue(
                f"expected weights of {name} that are non-negative and not all 0. "
                f"Received: weights from {low} to {high}"
            )
