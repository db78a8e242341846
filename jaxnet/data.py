"""Data: examples for training and evaluation, checked, and converted from what people have."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from jaxnet import checks

__all__ = ["Data"]


class Data(NamedTuple):
    """Examples: inputs and targets, and how much each counts (`None`: all the same).

    Wherever data is asked for, a plain tuple `(inputs, targets)` will do.
    """

    inputs: Num[Array, "examples ..."]
    targets: Num[Array, "examples ..."]
    weights: Float[Array, " examples"] | None = None


DataLike = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike | None]


def check_data(function: str, name: str, data: Any) -> Data:
    """Data whose parts have one row per example, at least one."""
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise TypeError(
            f"{function}: expected {name} as a tuple (inputs, targets) or "
            f"(inputs, targets, weights). Received: {checks.describe(data)}"
        )
    arrays: list[Any] = [a if a is None else jnp.asarray(a) for a in data]
    inputs, targets, weights = Data(*arrays)
    if inputs.ndim < 2 or len(inputs) == 0:
        raise ValueError(
            f"{function}: expected inputs of {name} of shape [examples, features], with at least "
            f"one example. Received: {list(inputs.shape)}"
        )
    if targets.ndim == 0 or len(targets) != len(inputs):
        raise ValueError(
            f"{function}: expected targets of {name} for {len(inputs)} examples, as many as there "
            f"are inputs. Received: {list(targets.shape)}"
        )
    if weights is not None and weights.shape != (len(inputs),):
        raise ValueError(
            f"{function}: expected weights of {name} of shape [{len(inputs)}]. "
            f"Received: {list(weights.shape)}"
        )
    return Data(inputs, targets, weights)


def check_batch_size(function: str, batch_size: int | None, data: Data) -> None:
    """None, or at least 1 and at most the number of examples."""
    if batch_size is not None:
        checks.whole_number(function, "batch_size", batch_size, 1, len(data.inputs))


def from_host(name: str, data: Any) -> Data:
    """Data as arrays, checked for shapes, dtypes and values."""
    if isinstance(data, tuple) and len(data) in (2, 3):
        inputs, targets, weights = Data(*data)
        inputs = _numbers(f"inputs of {name}", inputs, np.float32)
        targets = _numbers(f"targets of {name}", targets, np.int32)
        if weights is not None:
            weights = _numbers(f"weights of {name}", weights, np.float32)
        data = inputs, targets, weights
    data = check_data("fit", name, data)
    if data.weights is not None and not (np.min(data.weights) >= 0 and np.max(data.weights) > 0):
        raise ValueError(
            f"fit: expected weights of {name} that are not negative and not all 0. "
            f"Received: weights from {np.min(data.weights)} to {np.max(data.weights)}"
        )
    return data


def _numbers(name: str, value: Any, integers_become: type[np.generic]) -> Array:
    """Finite numbers as an array: on the host's side float32 or, for integers, as asked."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"fit: expected {name} with values. Received: a traced array; use train")
    if not isinstance(value, jax.Array):
        value = _to_numpy(name, value, integers_become)
    if jnp.issubdtype(value.dtype, jnp.floating):
        finite = np.isfinite(np.asarray(value))
        if not finite.all():
            index = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise ValueError(
                f"fit: expected finite {name}. Received: {value[index]} at index {index}"
            )
    return jnp.asarray(value)


def _to_numpy(name: str, value: Any, integers_become: type[np.generic]) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"fit: expected {name} as rows of equal length. Received: {checks.describe(value)}"
        ) from None
    if array.dtype == object and all(isinstance(v, (bool, int, float)) for v in array.flat):
        array = array.astype(np.float64)
    if array.dtype.kind not in "fiub":
        example = f", such as {array.flat[0]!r}" if array.size else ""
        raise TypeError(f"fit: expected numbers for {name}. Received: dtype {array.dtype}{example}")
    if array.dtype.kind == "f" or integers_become == np.float32:
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    if array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
        raise ValueError(
            f"fit: expected {name} within 32 bits. Received: {array.min()} to {array.max()}"
        )
    return array.astype(np.int32)
