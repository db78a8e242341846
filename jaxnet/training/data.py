"""Data: the examples of training and evaluation, converted to JAX arrays and checked.

Lists, NumPy arrays and pandas tables become float32, except integer targets, which become int32
labels. JAX arrays are used unchanged. An array that would lose its meaning in the conversion, such
as a masked array, raises a TypeError.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, Num

from jaxnet.core import arrays, checks, console, dtypes
from jaxnet.core.finite import first_nonfinite
from jaxnet.core.sharding import check_whole, constrain, place
from jaxnet.streaming.reading import Block


class Data(NamedTuple):
    """Examples: inputs, targets and weights (`None` for equal weights).

    A plain tuple `(inputs, targets)` or `(inputs, targets, weights)` is accepted wherever data is.
    """

    inputs: Num[Array, "examples ..."]
    targets: Num[Array, "examples ..."]
    weights: Float[Array, " examples"] | Float[Array, "members examples"] | None = None


DataLike = tuple[Any, Any] | tuple[Any, Any, Any]


def check_data(name: str, data: Any, members: int | None = None) -> Data:
    """Converts data to arrays with one row per example, at least one.

    Args:
        name: the name of the data in error messages.
        data: a tuple.
        members: the number of networks that may have weights of their own, if there are several.
    """
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise checks.InvalidType(
            f"expected {name} as a tuple (inputs, targets) or "
            f"(inputs, targets, weights). Received: {checks.describe(data)}"
        )
    inputs, targets, weights = Data(*data)
    check_whole(name, Data(inputs, targets, weights))
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
    shapes = [(len(inputs),)] + ([] if members is None else [(members, len(inputs))])
    if weights is not None and weights.shape not in shapes:
        words = " or ".join(str(list(shape)) for shape in shapes)
        raise checks.InvalidValue(
            f"expected weights of {name} of shape {words}. Received: {list(weights.shape)}"
        )
    return Data(inputs, targets, weights)


_IMPUTE = (
    "jaxnet.estimators takes missing values as they are, and scikit-learn's SimpleImputer fills "
    "them in"
)


def warn_of_scale(data: Data, given: Any) -> None:
    """Warns of inputs that train badly because a feature has not been standardized.

    The standard deviation of a feature, of up to 10,000 examples, is above 100, or it is below 0.01
    although more than a half of the values vary. A feature that is almost constant does no harm.

    Args:
        data: the converted data.
        given: the inputs as the caller passed them, for the name of a column.
    """
    if data.inputs.ndim != 2:
        return
    inputs = np.asarray(data.inputs)[:10_000].astype(np.float32, copy=False)
    with np.errstate(over="ignore"):
        deviations = inputs.std(axis=0)
    small = np.flatnonzero((deviations > 0) & (deviations < 0.01))
    low, high = np.quantile(inputs[:, small], [0.25, 0.75], axis=0)
    wrong = np.union1d(np.flatnonzero(deviations > 100), small[low < high])
    if not len(wrong):
        return
    first = wrong[0]
    column = f"column {given.columns[first]!r}" if hasattr(given, "columns") else f"feature {first}"
    others = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    console.warn(
        f"fit: expected inputs of data on a similar scale, such as those of scikit-learn's "
        f"StandardScaler. Received: a standard deviation of {deviations[first]:.3g} in "
        f"{column}{others}"
    )


_MOST_PADDED = 2**14  # rows: larger data take longer to train on than to compile for


def can_be_padded(*arrays: Array | None) -> bool:
    """Whether arrays have few enough rows, are on one device and not traced; None counts as one."""
    return all(
        len(array) <= _MOST_PADDED and dtypes.is_concrete(array) and len(array.devices()) == 1
        for array in arrays
        if array is not None
    )


def pad(data: Data) -> Data:
    """Pads data to the next size of a few, so that runs on similar data run the same program.

    The sizes are multiples of a sixteenth of the next power of two, and of 8. Padding repeats the
    first row with weight 0.
    """
    examples = len(data.inputs)
    weights = np.ones(examples, np.float32) if data.weights is None else np.asarray(data.weights)
    padding = np.zeros((*weights.shape[:-1], padded_size(examples) - examples), weights.dtype)
    padded = place_like(data.inputs, np.concatenate([weights, padding], axis=-1))
    return Data(pad_rows(data.inputs), pad_rows(data.targets), padded)


def padded_size(rows: int) -> int:
    """The number of rows after padding."""
    multiple = max(8, 1 << max(0, (rows - 1).bit_length() - 4))
    return -(-rows // multiple) * multiple


def pad_rows(array: Array) -> Array:
    """Pads an array with copies of its first row, on the host."""
    padding = padded_size(len(array)) - len(array)
    if not padding:
        return array
    rows = np.asarray(array)
    return place_like(array, np.concatenate([rows, np.repeat(rows[:1], padding, axis=0)]))


def take_rows(tree: Any, rows: Int[Array, " batch"], sharding: NamedSharding | None) -> Any:
    """Takes rows of traced arrays, and divides them among devices if there is a sharding."""
    rows = constrain(rows, sharding)
    return constrain(jax.tree.map(lambda array: array[rows], tree), sharding)


def place_like(array: Array, other: np.ndarray) -> Array:
    """Copies a NumPy array to the device of another array."""
    return jax.device_put(other, array.sharding if array.committed else None)


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
                f"at index {index}{arrays.name_column(source, index, _IMPUTE)}"
            )
    if data.weights is None:
        return
    for weights in np.asarray(data.weights).reshape(-1, len(data.inputs)):
        low, high = weights.min(), weights.max()
        if low < 0 or high == 0:
            raise checks.InvalidValue(
                f"expected weights of {name} that are non-negative and not all 0. "
                f"Received: weights from {low} to {high}"
            )


def block_data(block: Block, sharding: NamedSharding | None) -> Data:
    """The examples of a block on the device, with weight 0 for those that only fill it up."""
    inputs, targets, weights = block.examples
    real = np.arange(len(inputs)) < block.rows
    weights = real.astype(np.float32) if weights is None else np.where(real, weights, 0)
    return place_block(Data(inputs, targets, weights), sharding)  # type: ignore[arg-type]


def place_block(data: Data, sharding: NamedSharding | None) -> Data:
    """Copies NumPy arrays to the device, or to all devices of a batch sharding.

    A CPU takes arrays that are laid out as it needs them without copying.
    """
    return place("data", data, sharding) if sharding else jax.device_put(data)


SLICE = 1024  # examples that are evaluated at a time


def slices(data: Data) -> Iterator[tuple[Int[np.ndarray, " rows"], Data]]:
    """The rows and examples that `mean_over` evaluates at a time, on the host."""
    all_rows = np.arange(len(data.inputs))
    for start in range(0, len(all_rows), SLICE):
        rows = all_rows[start : start + SLICE]
        yield rows, jax.tree.map(lambda array, rows=rows: array[rows], data)
