"""Data: the examples of training and evaluation, converted to JAX arrays and checked.

Lists, NumPy arrays and pandas tables become float32, except integer targets, which become int32
labels. JAX arrays are used unchanged. An array that would lose its meaning in the conversion, such
as a masked array, raises a TypeError.
"""

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Num

from jaxnet.core import checks


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
    inputs = as_array(f"inputs of {name}", inputs)
    targets = as_array(f"targets of {name}", targets, integers=np.int32)
    if weights is not None:
        weights = as_array(f"weights of {name}", weights)
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
        if not checks.is_concrete(values):
            raise checks.InvalidType(
                f"expected {part} of {name} with values. Received: a traced array; use train"
            )
        array = np.asarray(values)
        # Both are NaN if any value is. A mask would take a quarter of the memory of the data.
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise checks.InvalidValue(
                f"expected finite {part} of {name}. "
                f"Received: {array[index]} at index {index}{_column(source, index)}"
            )
    if data.weights is not None:
        low, high = np.asarray(data.weights).min(), np.asarray(data.weights).max()
        if low < 0 or high == 0:
            raise checks.InvalidValue(
                f"expected weights of {name} that are non-negative and not all 0. "
                f"Received: weights from {low} to {high}"
            )


def as_array(name: str, value: Any, *, integers: type[np.generic] = np.float32) -> Array:
    """Converts numbers to a JAX array; integers that are not one yet become `integers`."""
    array = checks.as_array(name, value)
    if isinstance(array, jax.Array):
        if not checks.is_real(array):
            raise checks.InvalidType(
                f"expected numbers for {name}. Received: {checks.describe(array)}"
            )
        return array
    if array.dtype == object and all(isinstance(v, (bool, int, float)) for v in array.flat):
        array = array.astype(np.float64)
    if array.dtype.kind not in "fiub":
        wrong = (i for i, v in np.ndenumerate(array) if not isinstance(v, (bool, int, float)))
        example = "".join(
            f", such as {checks.shortened(repr(array[i]))}{_column(value, i)}"
            for i in itertools.islice(wrong, 1)
        )
        raise checks.InvalidType(
            f"expected numbers for {name}. Received: dtype {array.dtype}{example}"
        )
    dtype = np.float32 if array.dtype.kind == "f" else integers
    if dtype == np.int32 and array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
        raise checks.InvalidValue(
            f"expected {name} within 32 bits. Received: {array.min()} to {array.max()}"
        )
    with np.errstate(over="ignore"):  # an overflow is found to be non-finite later
        array = array.astype(dtype, copy=False)
    return checks.placed(array)


def _column(given: Any, index: tuple[int, ...]) -> str:
    """The column of a value of a table; empty if the data have no named columns."""
    named = hasattr(given, "columns") and len(index) == 2
    return f" in column {given.columns[index[1]]!r}" if named else ""
