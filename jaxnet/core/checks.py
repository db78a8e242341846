"""Checks of arguments: every error says what was expected, what was received, and of what.

What is known of an array while it is traced, its shape and dtype, is checked there; what depends on
its values is checked where they are at hand, and passed over under `jit`.
"""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class InvalidValue(ValueError):
    """An argument has a wrong value; the message does not say yet which function was called."""


class InvalidType(TypeError):
    """An argument has a wrong type; the message does not say yet which function was called."""


def door(
    function: Callable[Arguments, Result], name: str | None = None
) -> Callable[Arguments, Result]:
    """Puts the name of a public function in front of the messages of its checks.

    The checks themselves do not know who calls them. An `InvalidValue` leaves the function as a
    plain ValueError, an `InvalidType` as a plain TypeError. Other exceptions pass unchanged.

    Args:
        function: the public function.
        name: what the messages begin with; the function's name by default.

    >>> @door
    ... def double(number):
    ...     return 2 * integer("number", number, 1)
    >>> double(0)
    Traceback (most recent call last):
    ValueError: double: expected number of at least 1. Received: 0
    """
    prefix = function.__name__ if name is None else name

    @functools.wraps(function)
    def entered(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except (InvalidValue, InvalidType) as error:
            kind = TypeError if isinstance(error, InvalidType) else ValueError
            raise kind(f"{prefix}: {error}") from error.__cause__

    return entered


@contextlib.contextmanager
def about(subject: str) -> Iterator[None]:
    """Puts a subject, such as "validation", in front of the messages of the checks in a block."""
    try:
        yield
    except (InvalidValue, InvalidType) as error:
        raise type(error)(f"{subject}: {error}") from error.__cause__


def describe(value: Any) -> str:
    """What was received, in short: dtype and shape of an array, type and text of anything else."""
    if hasattr(value, "dtype") and isinstance(getattr(value, "shape", None), tuple):
        plain = not advice(value) or isinstance(value, jax.Array)
        return f"{'' if plain else type(value).__name__ + ' '}{value.dtype}{list(value.shape)}"
    return f"{type(value).__name__} {shortened(repr(value))}"


def as_given(value: Any) -> str:
    """The same of numbers in any form, a list or a table too, by the dtype that they have."""
    if hasattr(value, "dtype"):
        return describe(value)
    array = _viewed(value)
    is_table = hasattr(value, "columns")
    return describe(array if array is not None and (is_table or is_real(array)) else value)


def advice(value: Any) -> str:
    """What to do about an array that cannot be taken as it is, in words to put after it, or ""."""
    if isinstance(value, jax.Array):
        deleted = is_concrete(value) and value.is_deleted()
        return ", which was deleted, as donated arrays are" if deleted else ""
    if isinstance(value, (list, tuple)):
        items = (item for item in value if not isinstance(item, (int, float)))
        return next(filter(None, map(advice, items)), "")
    if isinstance(value, np.ma.MaskedArray):
        return ", which has a mask; array.filled(number) has none"
    if isinstance(value, np.ndarray):
        plain = type(value) in (np.ndarray, np.memmap)
        return "" if plain else "; np.asarray(array) is a plain array, without what else this means"
    if isinstance(value, jax.ShapeDtypeStruct):
        return ", which has no values"
    if hasattr(value, "detach"):
        try:
            np.asarray(value)
        except Exception:  # it needs gradients, is of bfloat16, or on a GPU
            return "; a tensor of PyTorch's can be given as tensor.detach().float().cpu().numpy()"
        return ""
    dense = [name for name in ("toarray", "todense") if hasattr(value, name)]
    return f", which is sparse; .{dense[0]}() gives a dense array" if dense else ""


def shortened(text: str) -> str:
    """The text on one line, of at most 60 characters."""
    text = " ".join(text[:1000].split())
    return text if len(text) <= 60 else text[:57] + "..."


def is_concrete(value: Any) -> bool:
    """Whether the values are at hand, not traced by `jit`, `vmap` or `grad`."""
    return not isinstance(value, jax.core.Tracer)


def as_array(name: str, value: Any) -> jax.Array | np.ndarray:
    """An array, with shape and dtype: lists and numbers become NumPy's, JAX's stay as they are."""
    _usable(f"{name} as an array", value)
    if isinstance(value, jax.Array):
        return value
    try:
        return _native(np.asarray(value))
    except ValueError:
        raise InvalidValue(
            f"expected {name} as rows of equal length. Received: {describe(value)}"
        ) from None


def _usable(expected: str, value: Any) -> None:
    """An array, or a list of them, that NumPy can take and that loses nothing by that."""
    if hint := advice(value):
        raise InvalidType(f"expected {expected}. Received: {describe(value)}{hint}")


def _is_native(dtype: np.dtype) -> bool:
    """Whether numbers are in the machine's order of bytes, and no wider than JAX's."""
    return dtype.isnative and dtype.char not in "gG"


def _native(array: np.ndarray) -> np.ndarray:
    """The array as JAX can hold it."""
    if array.dtype.char == "g":
        return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def placed(array: jax.Array | np.ndarray) -> jax.Array:
    """The array on a device; NumPy's in memory of its own, so that the caller may overwrite it.

    jnp.asarray would compile a program and copy twice; `may_alias` has no effect on NumPy's arrays,
    of which jax.device_put takes over those that lie as a CPU device would have them.
    """
    if isinstance(array, jax.Array):
        return array
    on_device = jax.device_put(array)
    if is_concrete(on_device) and on_device.unsafe_buffer_pointer() == array.ctypes.data:
        on_device = jax.device_put(on_device, may_alias=False)
    return jax.block_until_ready(on_device)


def is_real(value: Any) -> bool:
    """Whether an array holds real numbers or booleans: no text, keys or complex numbers."""
    kinds = (jnp.floating, jnp.bool_)
    return is_integer(value) or any(jnp.issubdtype(value.dtype, kind) for kind in kinds)


def is_integer(value: Any) -> bool:
    """Whether an array holds integers; NumPy counts the differences of times among them."""
    return jnp.issubdtype(value.dtype, jnp.integer) and value.dtype.kind != "m"


def is_key(value: Any) -> bool:
    """Whether an array, or what describes one, holds typed keys."""
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def floating(name: str, value: Any) -> jax.Array:
    """`value` as an array, which must be floating-point."""
    _usable(f"floating-point {name}", value)
    array = _viewed(value)
    if array is None or not jnp.issubdtype(array.dtype, jnp.floating):
        raise InvalidType(f"expected floating-point {name}. Received: {describe(value)}")
    if isinstance(value, float):  # a number stays one, of no type of its own
        return jax.device_put(value)
    return jnp.asarray(placed(array))  # a number that is differentiated is no array before this


def numbers(name: str, value: Any) -> jax.Array | np.ndarray:
    """`value` as an array of real numbers or booleans, not yet JAX's."""
    _usable(f"numbers for {name}", value)
    array = _viewed(value)
    if array is None or not is_real(array):
        raise InvalidType(f"expected numbers for {name}. Received: {describe(value)}")
    return array


def _viewed(value: Any) -> jax.Array | np.ndarray | None:
    """`value` as an array to look at, if it can be one."""
    if isinstance(value, jax.Array):
        return value
    try:
        return _native(np.asarray(value))
    except (TypeError, ValueError):  # it may be a list of traced numbers
        try:
            return jnp.asarray(value)
        except (TypeError, ValueError, OverflowError):
            return None


def like(name: str, value: Any, reference_name: str, reference: jax.Array) -> jax.Array:
    """`value` as an array of the shape and dtype of `reference`; only integers are converted."""
    array = numbers(name, value)
    same_shape(name, array, reference_name, reference)
    dtype = jnp.result_type(array)
    if jnp.issubdtype(dtype, jnp.floating) and dtype != reference.dtype:
        raise InvalidType(
            f"expected {name} of the same dtype as {reference_name}, "
            f"{reference.dtype}. Received: {dtype}"
        )
    return jnp.asarray(array).astype(reference.dtype)


def same_shape(
    name: str,
    value: jax.Array | np.ndarray,
    reference_name: str,
    reference: jax.Array,
) -> None:
    """Two arrays of one shape: nothing is broadcast."""
    if value.shape != reference.shape:
        raise InvalidValue(
            f"expected {name} of the same shape as {reference_name}, "
            f"{list(reference.shape)}. Received: {list(value.shape)}"
        )


def within(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Finite numbers from `low` to `high`, as far as they are at hand."""
    if not is_concrete(value):
        return
    array = np.asarray(value)
    wrong = ~((array >= low) & (array <= high) & np.isfinite(array))
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        place = f" at index {index}" if index else ""
        raise InvalidValue(
            f"expected finite {name}{_limits(low, high)}. Received: {array[index]}{place}"
        )


def pair(outputs: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
    """Outputs and targets as arrays of one shape and dtype, with a batch axis."""
    outputs = floating("outputs", outputs)
    if outputs.ndim == 0:
        raise InvalidValue("expected outputs with a batch axis. Received: a scalar")
    return outputs, like("targets", targets, "outputs", outputs)


def labels(targets: Any, outputs: jax.Array) -> jax.Array:
    """Integer targets, one for each row of `outputs [*batch, classes]`, within 0 to classes - 1.

    They come back in a dtype that can hold the number of any class.
    """
    classes, received = outputs.shape[-1], targets
    targets = as_array("targets", targets)
    if not is_integer(targets):
        raise InvalidType(f"expected integer labels. Received: {as_given(received)}")
    if targets.shape != outputs.shape[:-1]:
        raise InvalidValue(
            f"expected labels of shape {list(outputs.shape[:-1])} for outputs of shape "
            f"{list(outputs.shape)}. Received: {list(targets.shape)}"
        )
    if is_concrete(targets):
        values = np.asarray(targets)
        wrong = (values < 0) | (values >= classes)
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise InvalidValue(
                f"expected labels from 0 to {classes - 1}, as there are {classes} "
                f"outputs. Received: {values[index]} at index {index}"
            )
    labels = jnp.asarray(targets)
    return labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels  # may number classes


def number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    below: bool = False,
) -> Any:
    """A real number from `low` to `high`, or `below` that; of a traced one only the type.

    NumPy's numbers, and Python's, which may be too large an integer, become Python's floats.
    """
    scalar(name, value)
    if not is_concrete(value):
        return value
    try:
        size = float(value)
    except OverflowError:  # an integer
        size = math.inf
    fits = low <= size < high if below else low <= size <= high
    if not fits or not math.isfinite(size):
        limits = _limits(low, high, "below" if below else "at most")
        raise InvalidValue(f"expected a finite {name}{limits}. Received: {shortened(str(value))}")
    return value if isinstance(value, jax.Array) else size


def _limits(low: float, high: float, up_to: str = "at most") -> str:
    ends = [f"at least {low:g}"] if low > -math.inf else []
    ends += [f"{up_to} {high:g}"] if high < math.inf else []
    return f" of {' and '.join(ends)}" if ends else ""


def scalar(name: str, value: Any) -> None:
    """A single real number."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and value.ndim == 0:
        real = is_real(value) and value.dtype != bool
    hint = advice(value)
    if not real or hint:
        raise InvalidType(f"expected a number for {name}. Received: {describe(value)}{hint}")


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """A Python or NumPy integer from `low` to `high`, as Python's, which does not overflow."""
    is_numpy = isinstance(value, np.integer) and is_integer(value)
    if isinstance(value, bool) or not (isinstance(value, int) or is_numpy):
        raise InvalidType(f"expected an integer for {name}. Received: {describe(value)}")
    value = int(value)
    if value < low or (high is not None and value > high):
        end = "" if high is None or value < low else f" and at most {high}"
        raise InvalidValue(
            f"expected {name} of at least {low}{end}. Received: {shortened(str(value))}"
        )
    return value


def counter(name: str, value: Any) -> None:
    """An integer of 32 or 64 bits that counts, Python's, NumPy's or JAX's, at least 0."""
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        if value.shape != () or not is_integer(value) or value.dtype.itemsize < 4:
            raise InvalidType(
                f"expected an integer of 32 or 64 bits for {name}. Received: {describe(value)}"
            )
        value = int(value) if is_concrete(value) else 0
    integer(name, value, 0)


def boolean(name: str, value: Any) -> None:
    """True or False, not anything that Python would take for one of them, such as "no"."""
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidType(f"expected True or False for {name}. Received: {describe(value)}")


def function(name: str, value: Any) -> None:
    """A function, or anything else that can be called."""
    if not callable(value):
        raise InvalidType(f"expected a function for {name}. Received: {describe(value)}")


def instance(name: str, value: Any, kind: type) -> None:
    """An object of that type."""
    if not isinstance(value, kind):
        raise InvalidType(f"expected {name} of type {kind.__name__}. Received: {describe(value)}")


def optimizer(name: str, value: Any) -> None:
    """An object with the functions `init` and `update`."""
    if all(callable(getattr(value, part, None)) for part in ("init", "update")):
        return
    wrong = describe(value)
    if callable(value):
        wrong += ", which is to be called first, with its learning rate"
    if hasattr(value, "step") or hasattr(value, "apply_gradients"):
        wrong += ", which keeps its state to itself"
    raise InvalidType(
        f"expected the {name} as a pair of pure functions (init, update), such as "
        f"an optax GradientTransformation. Received: {wrong}"
    )


def path(name: str, value: Any) -> None:
    """Where a file or a folder is; a number would be that of an open file."""
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidType(
            f"expected {name} as a string or a pathlib.Path. Received: {describe(value)}"
        )


def key(value: Any) -> None:
    """A single typed key, as made by `jax.random.key`."""
    if not isinstance(value, jax.Array) or not is_key(value) or value.ndim != 0:
        raise InvalidType(
            f"expected one key made by jax.random.key(seed). Received: {describe(value)}"
        )


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths, in JAX's longer form if the short ones are not unique.

    >>> named_leaves({"layers": [1.0, {"scale": 2.0}]})
    {'layers/0': 1.0, 'layers/1/scale': 2.0}
    >>> named_leaves({"a": {"b": 1.0}, "a/b": 2.0})
    {"['a']['b']": 1.0, "['a/b']": 2.0}
    """
    leaves, _ = jax.tree.flatten_with_path(tree)
    named = {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}
    if len(named) == len(leaves):
        return named
    return {jax.tree_util.keystr(p): leaf for p, leaf in leaves}


def arrays(name: str, tree: Any) -> None:
    """A tree of nothing but arrays that JAX can take, and numbers."""
    _every_leaf(f"arrays in {name}", tree, _is_array)


def _shapes(name: str, tree: Any) -> None:
    """The same, or shapes that stand for arrays."""
    _every_leaf(f"arrays in {name}", tree, _is_shape)


def floats(name: str, tree: Any) -> None:
    """A tree of nothing but floating-point numbers."""
    _every_leaf(
        f"floating-point {name}",
        tree,
        lambda leaf: _is_shape(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating),
    )


def _every_leaf(expected: str, tree: Any, fits: Callable[[Any], bool]) -> None:
    if all(map(fits, jax.tree.leaves(tree))):
        return
    path, leaf = next((p, leaf) for p, leaf in named_leaves(tree).items() if not fits(leaf))
    place = f" at {path!r}" if path else ""
    hint = advice(leaf)
    if not hint and isinstance(leaf, (np.ndarray, np.generic)) and not _is_native(leaf.dtype):
        hint = ", which JAX cannot hold; convert it with .astype, to np.float32 for instance"
    raise InvalidType(f"expected {expected}. Received: {describe(leaf)}{place}{hint}")


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, (np.ndarray, np.generic)):
        numeric = is_real(leaf) or jnp.issubdtype(leaf.dtype, jnp.complexfloating)
        return numeric and _is_native(leaf.dtype) and not advice(leaf)
    return isinstance(leaf, (int, float, complex, jax.Array)) and not advice(leaf)


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct) or _is_array(leaf)


def same_tree(name: str, tree: Any, reference_name: str, reference: Any) -> None:
    """Two trees of arrays of the same structure, shapes and dtypes."""
    _shapes(name, tree)
    if types(tree) == types(reference):
        return
    outlines = [
        {path: outline(leaf) for path, leaf in named_leaves(t).items()} for t in (tree, reference)
    ]
    difference = _first_difference(*outlines) or "the containers differ"
    raise InvalidValue(
        f"expected {name} that match {reference_name}, but {difference}.\n"
        f"Expected: {outline(reference)}\nReceived: {outline(tree)}"
    )


def types(tree: Any) -> tuple[Any, tuple[Any, ...]]:
    """A tree's structure, and the shapes and dtypes of its leaves."""
    leaves, containers = jax.tree.flatten(tree)
    return containers, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)


def _first_difference(received: dict[str, str], expected: dict[str, str]) -> str | None:
    for path in [*expected, *received]:
        if path not in received:
            return f"{path!r} is missing"
        if path not in expected:
            return f"{path!r} is not expected"
        if received[path] != expected[path]:
            return f"{path!r} is {received[path]} in place of {expected[path]}"
    return None


def outline(tree: Any) -> str:
    """The tree's structure, with `dtype[shape]` for every leaf."""
    shapes = jax.tree.map(
        lambda leaf: _Shape(f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"), tree
    )
    return str(shapes)


class _Shape(str):
    """A string that prints without quotation marks."""

    __repr__ = str.__str__
