"""Checks of arguments. Every error names the argument, what was expected and what was received.

A check takes the name of an argument and its value. It raises `InvalidValue` or `InvalidType`,
without the name of the function that was called: `door` adds that name at the public function.

Shapes and dtypes are known while JAX traces a function, so they are checked there too. Values are
checked only if they are concrete.
"""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

from jaxnet.core.dtypes import is_concrete, is_integer, is_key, is_real

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

    An `InvalidValue` leaves the function as a plain ValueError, and an `InvalidType` as a plain
    TypeError. Other exceptions pass unchanged.

    Args:
        function: the public function.
        name: the prefix of the messages; by default the function's name.

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
        return enter(prefix, function, *args, **kwargs)

    return entered


def bind(name: str, function: Callable[..., Result], *fields: Any) -> Callable[..., Result]:
    """Binds the first arguments of a function, and puts a name in front of its messages.

    The result is `door(functools.partial(function, *fields), name)` in a form that can be pickled,
    if the fields can be. Pickle finds a function by its name in its module, so it finds none that
    is defined in another function.

    >>> check = bind("sweep", integer, "runs")
    >>> check(0, 1)
    Traceback (most recent call last):
    ValueError: sweep: expected runs of at least 1. Received: 0
    """
    bound = functools.partial(function, *fields)
    entered = functools.partial(enter, name, bound)
    vars(entered).update(__wrapped__=bound, __name__=function.__name__)  # for `inspect` and JAX
    return entered


def enter(
    name: str,
    function: Callable[Arguments, Result],
    /,
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result:
    """Calls a function, and puts a name in front of the messages of its checks."""
    try:
        return function(*args, **kwargs)
    except (InvalidValue, InvalidType) as error:
        kind = TypeError if isinstance(error, InvalidType) else ValueError
        raise kind(f"{name}: {error}") from error.__cause__


@contextlib.contextmanager
def about(subject: str) -> Iterator[None]:
    """Puts a subject, such as "validation", in front of the messages of the checks in a block."""
    try:
        yield
    except (InvalidValue, InvalidType) as error:
        raise type(error)(f"{subject}: {error}") from error.__cause__


# The words for a value that was received.


def describe(value: Any) -> str:
    """Returns the dtype and shape of an array, or the type and text of another value.

    >>> describe(np.zeros((2, 3))), describe("text")
    ('float64[2, 3]', "str 'text'")
    """
    if hasattr(value, "dtype") and isinstance(getattr(value, "shape", None), tuple):
        plain = not hint(value) or isinstance(value, jax.Array)
        return f"{'' if plain else type(value).__name__ + ' '}{value.dtype}{list(value.shape)}"
    return f"{type(value).__name__} {shorten(repr(value))}"


def hint(value: Any) -> str:
    """Explains how to convert an array that jaxnet does not take.

    Returns:
        Text to append to an error message; empty for an array that jaxnet takes.
    """
    if isinstance(value, jax.Array):
        deleted = is_concrete(value) and value.is_deleted()
        return ", which was deleted, as donated arrays are" if deleted else ""
    if isinstance(value, (list, tuple)):
        items = (item for item in value if not isinstance(item, (int, float)))
        return next(filter(None, map(hint, items)), "")
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
        except Exception:  # it requires gradients, is of bfloat16, or on a GPU
            return "; a tensor of PyTorch's can be given as tensor.detach().float().cpu().numpy()"
        return ""
    dense = [name for name in ("toarray", "todense") if hasattr(value, name)]
    return f", which is sparse; .{dense[0]}() gives a dense array" if dense else ""


def shorten(text: str) -> str:
    """Puts a text on one line of at most 60 characters."""
    text = " ".join(text[:1000].split())
    return text if len(text) <= 60 else text[:57] + "..."


# Numbers.


def number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    below: bool = False,
) -> Any:
    """Checks a finite real number; of a traced one only the type.

    Args:
        name: the argument.
        value: a number of Python, NumPy or JAX.
        low: the least value that is allowed.
        high: the largest value that is allowed.
        below: whether `high` itself is excluded.

    Returns:
        An array of JAX's unchanged, any other number as a Python float.
    """
    scalar(name, value)
    if not is_concrete(value):
        return value
    try:
        size = float(value)
    except OverflowError:  # an integer of Python's may be too large
        size = math.inf
    fits = low <= size < high if below else low <= size <= high
    if not fits or not math.isfinite(size):
        words = limits(low, high, "below" if below else "at most")
        raise InvalidValue(f"expected a finite {name}{words}. Received: {shorten(str(value))}")
    return value if isinstance(value, jax.Array) else size


def limits(low: float, high: float, up_to: str = "at most") -> str:
    """Puts a range into words: " of at least 0 and at most 1"; empty for all numbers."""
    ends = [f"at least {low:g}"] if low > -math.inf else []
    ends += [f"{up_to} {high:g}"] if high < math.inf else []
    return f" of {' and '.join(ends)}" if ends else ""


def scalar(name: str, value: Any) -> None:
    """Checks that a value is one real number, not a boolean."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and value.ndim == 0:
        real = is_real(value) and value.dtype != bool
    advice = hint(value)
    if not real or advice:
        raise InvalidType(f"expected a number for {name}. Received: {describe(value)}{advice}")


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Checks an integer from `low` to `high`.

    Returns:
        A Python integer, which does not overflow as NumPy's do.
    """
    is_numpy = isinstance(value, np.integer) and is_integer(value)
    if isinstance(value, bool) or not (isinstance(value, int) or is_numpy):
        raise InvalidType(f"expected an integer for {name}. Received: {describe(value)}")
    value = int(value)
    if value < low or (high is not None and value > high):
        end = "" if high is None or value < low else f" and at most {high}"
        raise InvalidValue(
            f"expected {name} of at least {low}{end}. Received: {shorten(str(value))}"
        )
    return value


def counter(name: str, value: Any) -> None:
    """Checks an integer of Python, NumPy or JAX: at least 0, with 32 or 64 bits."""
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        if value.shape != () or not is_integer(value) or value.dtype.itemsize < 4:
            raise InvalidType(
                f"expected an integer of 32 or 64 bits for {name}. Received: {describe(value)}"
            )
        value = int(value) if is_concrete(value) else 0
    integer(name, value, 0)


# Other arguments.


def boolean(name: str, value: Any) -> None:
    """Checks for True or False: "no" and 0 are neither."""
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidType(f"expected True or False for {name}. Received: {describe(value)}")


def function(name: str, value: Any) -> None:
    """Checks that a value can be called."""
    if not callable(value):
        raise InvalidType(f"expected a function for {name}. Received: {describe(value)}")


def instance(name: str, value: Any, kind: type) -> None:
    """Checks that a value is an object of a type."""
    if not isinstance(value, kind):
        raise InvalidType(f"expected {name} of type {kind.__name__}. Received: {describe(value)}")


def optimizer(name: str, value: Any) -> None:
    """Checks that a value has the functions `init` and `update`."""
    if all(callable(getattr(value, part, None)) for part in ("init", "update")):
        return
    received = describe(value)
    if callable(value):
        received += ", a factory: call it with a learning rate first"
    if hasattr(value, "step") or hasattr(value, "apply_gradients"):
        received += ", a stateful optimizer"
    raise InvalidType(
        f"expected the {name} as a pair of pure functions (init, update), such as "
        f"an optax GradientTransformation. Received: {received}"
    )


def path(name: str, value: Any) -> None:
    """Checks the path of a file or folder. A number would be the descriptor of an open file."""
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidType(
            f"expected {name} as a string or a pathlib.Path. Received: {describe(value)}"
        )
    if not os.fspath(value) or "\0" in os.fsdecode(value):
        raise InvalidValue(f"expected {name} as the name of a file or folder. Received: {value!r}")


def key(value: Any) -> None:
    """Checks for a single typed key, as `jax.random.key` returns it."""
    if not isinstance(value, jax.Array) or not is_key(value) or value.ndim != 0:
        raise InvalidType(
            f"expected one key made by jax.random.key(seed). Received: {describe(value)}"
        )


def keys(value: Any) -> int | None:
    """Checks for a key, or an array of keys, and returns the number of the latter."""
    if not isinstance(value, jax.Array) or not is_key(value) or value.ndim == 0:
        key(value)
        return None
    if value.ndim > 1 or len(value) == 0:
        raise InvalidValue(f"expected one key, or keys [members]. Received: {list(value.shape)}")
    return len(value)
