"""Arrays from what users pass: lists, numbers, NumPy, pandas and JAX arrays, converted and checked.

A conversion raises an error where it would lose information, such as the mask of an array or its
units. JAX's own arrays stay as they are. The values of traced arrays are not checked.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxnet.core.checks import InvalidType, InvalidValue, describe, hint, limits, shorten
from jaxnet.core.dtypes import is_concrete, is_integer, is_real
from jaxnet.core.finite import first_index

# Conversions.


def as_array(name: str, value: Any) -> Array | np.ndarray:
    """Converts lists and numbers to a NumPy array that JAX can hold; JAX arrays stay unchanged."""
    _check_lossless(f"{name} as an array", value)
    if isinstance(value, jax.Array):
        return value
    try:
        return _to_native(np.asarray(value))
    except ValueError:
        raise InvalidValue(
            f"expected {name} as rows of equal length. Received: {describe(value)}"
        ) from None


def to_array(name: str, value: Any, *, integers: type[np.generic] = np.float32) -> Array:
    """Converts numbers to a JAX array: floating-point numbers to float32.

    Args:
        name: the argument, for error messages.
        value: real numbers or booleans. JAX arrays stay unchanged.
        integers: the dtype for integers and booleans, `np.float32` or `np.int32`.
    """
    return to_device(convert(name, value, integers))


def convert(name: str, value: Any, integers: type[np.generic]) -> Array | np.ndarray:
    """Converts numbers as `to_array` does, without copying them to a device."""
    array = as_array(name, value)
    if isinstance(array, jax.Array):
        if not is_real(array):
            raise InvalidType(f"expected numbers for {name}. Received: {describe(array)}")
        return array
    if array.dtype == object and all(isinstance(v, (bool, int, float)) for v in array.flat):
        array = array.astype(np.float64)
    if array.dtype.kind not in "fiub":
        wrong = (i for i, v in np.ndenumerate(array) if not isinstance(v, (bool, int, float)))
        example = "".join(
            f", such as {shorten(repr(array[i]))}{name_column(value, i, _ENCODE)}"
            for i in itertools.islice(wrong, 1)
        )
        raise InvalidType(f"expected numbers for {name}. Received: dtype {array.dtype}{example}")
    dtype = np.float32 if array.dtype.kind == "f" else integers
    if dtype == np.int32 and array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
        raise InvalidValue(
            f"expected {name} within 32 bits. Received: {array.min()} to {array.max()}"
        )
    with np.errstate(over="ignore"):  # overflow gives infinity, which later checks find
        return array.astype(dtype, copy=False)


def to_device(array: Array | np.ndarray) -> Array:
    """Copies a NumPy array to a device, so that the caller may overwrite the original.

    `jnp.asarray` would compile a program and copy twice. `jax.device_put` shares the memory of a
    NumPy array that is laid out as a CPU device needs it, also with `may_alias=False`; then the
    shared array is copied once more.
    """
    if isinstance(array, jax.Array):
        return array
    on_device = jax.device_put(array)
    if is_concrete(on_device) and on_device.unsafe_buffer_pointer() == array.ctypes.data:
        on_device = jax.device_put(on_device, may_alias=False)
    return jax.block_until_ready(on_device)


def _check_lossless(expected: str, value: Any) -> None:
    """Raises InvalidType for arrays, or lists of them, that lose information within NumPy."""
    if advice := hint(value):
        raise InvalidType(f"expected {expected}. Received: {describe(value)}{advice}")


def _to_native(array: np.ndarray) -> np.ndarray:
    """Converts to native byte order and at most 64 bits, as JAX needs it."""
    if array.dtype.char == "g":
        return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _view(value: Any) -> Array | np.ndarray | None:
    """Returns a value as an array, or None if it cannot be one."""
    if isinstance(value, jax.Array):
        return value
    try:
        return _to_native(np.asarray(value))
    except (TypeError, ValueError):  # it may be a list of traced numbers
        try:
            return jnp.asarray(value)
        except (TypeError, ValueError, OverflowError):
            return None


# Words.


def describe_numbers(value: Any) -> str:
    """Describes numbers by dtype and shape, also those in a list or a table."""
    if hasattr(value, "dtype"):
        return describe(value)
    array = _view(value)
    is_table = hasattr(value, "columns")
    return describe(array if array is not None and (is_table or is_real(array)) else value)


def name_column(table: Any, index: tuple[int, ...], advice: str) -> str:
    """Names the column of an index into a pandas table, with advice; empty for other values."""
    has_columns = hasattr(table, "columns") and len(index) == 2
    return f" in column {table.columns[index[1]]!r}; {advice}" if has_columns else ""


_ENCODE = (
    "jaxnet.estimators takes text and missing values as they are, and scikit-learn's "
    "OneHotEncoder and SimpleImputer make numbers of them"
)


# Checks.


def floating(name: str, value: Any) -> Array:
    """Converts to a JAX array, which must be floating-point."""
    _check_lossless(f"floating-point {name}", value)
    array = _view(value)
    if array is None or not jnp.issubdtype(array.dtype, jnp.floating):
        raise InvalidType(f"expected floating-point {name}. Received: {describe(value)}")
    if isinstance(value, float):  # stays weakly typed
        return jax.device_put(value)
    return jnp.asarray(to_device(array))  # numbers under `jax.grad` are no JAX arrays before this


def numbers(name: str, value: Any) -> Array | np.ndarray:
    """Converts to an array of real numbers or booleans, of NumPy or JAX."""
    _check_lossless(f"numbers for {name}", value)
    array = _view(value)
    if array is None or not is_real(array):
        raise InvalidType(f"expected numbers for {name}. Received: {describe(value)}")
    return array


def like(name: str, value: Any, reference_name: str, reference: Array) -> Array:
    """Converts to an array of the reference's shape and dtype; only integers change their dtype."""
    array = numbers(name, value)
    same_shape(name, array, reference_name, reference)
    dtype = jnp.result_type(array)
    if jnp.issubdtype(dtype, jnp.floating) and dtype != reference.dtype:
        raise InvalidType(
            f"expected {name} of the same dtype as {reference_name}, "
            f"{reference.dtype}. Received: {dtype}"
        )
    return jnp.asarray(array).astype(reference.dtype)


def same_shape(name: str, value: Array | np.ndarray, reference_name: str, reference: Array) -> None:
    """Checks that two arrays have the same shape, without broadcasting."""
    if value.shape != reference.shape:
        raise InvalidValue(
            f"expected {name} of the same shape as {reference_name}, "
            f"{list(reference.shape)}. Received: {list(value.shape)}"
        )


def within(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Checks that concrete numbers are finite and from `low` to `high`."""
    if not is_concrete(value):
        return
    array = np.asarray(value)
    index = first_index(~((array >= low) & (array <= high) & np.isfinite(array)))
    if index is not None:
        place = f" at index {index}" if index else ""
        raise InvalidValue(
            f"expected finite {name}{limits(low, high)}. Received: {array[index]}{place}"
        )


def pair(outputs: Any, targets: Any) -> tuple[Array, Array]:
    """Converts outputs and targets to arrays of the same shape and dtype, with a batch axis.

    Targets `[batch]` are those of outputs `[batch, 1]`.
    """
    outputs = floating("outputs", outputs)
    if outputs.ndim == 0:
        raise InvalidValue("expected outputs with a batch axis. Received: a scalar")
    targets = numbers("targets", targets)
    if outputs.ndim == 2 and targets.shape == outputs.shape[:1]:
        if outputs.shape[1] != 1:
            raise InvalidValue(
                f"expected targets of the same shape as outputs, {list(outputs.shape)}. Received: "
                f"{list(targets.shape)}; targets[:, None] are those of one output per example"
            )
        targets = targets[:, None]
    return outputs, like("targets", targets, "outputs", outputs)


def labels(targets: Any, outputs: Array) -> Array:
    """Checks integer labels, one for each row of the outputs.

    Args:
        targets: integers of shape `[*batch]`, from 0 to classes - 1.
        outputs: floating-point numbers of shape `[*batch, classes]`.

    Returns:
        The labels in a dtype that can hold the index of any class.
    """
    classes, received = outputs.shape[-1], targets
    targets = as_array("targets", targets)
    if not is_integer(targets):
        raise InvalidType(f"expected integer labels. Received: {describe_numbers(received)}")
    if targets.shape != outputs.shape[:-1]:
        raise InvalidValue(
            f"expected labels of shape {list(outputs.shape[:-1])} for outputs of shape "
            f"{list(outputs.shape)}. Received: {list(targets.shape)}"
        )
    if is_concrete(targets):
        values = np.asarray(targets)
        index = first_index((values < 0) | (values >= classes))
        if index is not None:
            raise InvalidValue(
                f"expected labels from 0 to {classes - 1}, as there are {classes} "
                f"outputs. Received: {values[index]} at index {index}"
            )
    labels = jnp.asarray(targets)
    return labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels
