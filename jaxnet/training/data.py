"""Data: examples for training and evaluation, converted from what people have, and checked.

Lists, NumPy and pandas become float32 arrays, but for integer targets, which become int32 labels.
JAX's own arrays stay as they are. What would lose its meaning on the way, such as the mask of an
array or its units, is refused.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Num

from jaxnet.core import arrays, checks, dtypes


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
        if not dtypes.is_concrete(values):
            raise checks.InvalidType(
                f"expected {part} of {name} with values. Received: a traced array; use train"
            )
        array = np.asarray(values)
        # Both are NaN if any value is; a mask would take a quarter of the memory of the data.
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise checks.InvalidValue(
                f"expected finite {part} of {name}. "
                f"Received: {array[index]} at index {index}{arrays.name_column(source, index)}"
            )
    if data.weights is not None:
        low, high = np.asarray(data.weights).min(), np.asarray(data.weights).max()
        if low < 0 or high == 0:
            raise checks.InvalidValue(
                f"expected weights of {name} that are not negative and not all 0. "
                f"Received: weights from {low} to {high}"
            )
