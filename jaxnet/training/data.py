"""Data: examples for training and evaluation, converted from what people have, and checked.

Lists, NumPy and pandas become float32 arrays, but for integer targets, which become int32 labels.
JAX's own arrays stay as they are. What would lose its meaning on the way, such as the mask of an
array or its units, is refused.
"""

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Num

from jaxnet.core import checks


class Data(NamedTuple):
    """Examples: inputs and targets, and how much each counts (`None`: all the same).

    Wherever data is asked for, a plain tuple `(inputs, targets)` will do.
    """

    inputs: Num[Array, "examples ..."]
    targets: Num[Array, "examples ..."]
    weights: Float[Array, " examples"] | None = None


DataLike = tuple[Any, Any] | tuple[Any, Any, Any]


def check_data(name: str, data: Any) -> Data:
    """Data as arrays whose parts have one row per example, at least one."""
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


def check_steps(epochs: int, batch_size: int | None, data: Data) -> tuple[int, int | None]:
    """A batch of at least 1 example and at most all; no more steps than an int32 can count.

    The two numbers come back as Python's.
    """
    examples = len(data.inputs)
    if batch_size is not None:
        batch_size = checks.integer("batch_size", batch_size, 1, examples)
    steps = -(-examples // (batch_size or examples))
    return checks.integer("epochs", epochs, 1, (2**31 - 1) // steps), batch_size


def check_values(name: str, data: Data, given: Any) -> None:
    """Data that is at hand, finite, and has weights to divide by; it was made of the `given`."""
    parts = zip(data._fields, data, Data(*given), strict=True)
    for part, values, source in (row for row in parts if row[1] is not None):
        if not checks.is_concrete(values):
            raise checks.InvalidType(
                f"expected {part} of {name} with values. Received: a traced array; use train"
            )
        array = np.asarray(values)
        # Both are NaN if any value is; a mask would take a quarter of the memory of the data.
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
                f"expected weights of {name} that are not negative and not all 0. "
                f"Received: weights from {low} to {high}"
            )


def as_array(name: str, value: Any, *, integers: type[np.generic] = np.float32) -> Array:
    """Numbers as a JAX array; integers that are not one yet become `integers`."""
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
    with np.errstate(over="ignore"):  # what overflows is found not to be finite
        array = array.astype(dtype, copy=False)
    return checks.placed(array)


def _column(given: Any, index: tuple[int, ...]) -> str:
    """Where that is in a table, in words; empty for what has no named columns."""
    named = hasattr(given, "columns") and len(index) == 2
    return f" in column {given.columns[index[1]]!r}" if named else ""
