"""Equality of functions by how they were built, so that what is built again is not compiled again.

`jax.jit` compiles anew for every new static argument, and two calls of `mlp([4, 8, 3])` or of
`optax.adam(1e-3)` give functions that Python calls different, though they are the same code over
the same values. `Static` wraps such arguments and compares what they are made of: code, defaults,
the variables that a closure holds and the globals that the code names. A function that holds
something that could change unseen is equal only to itself, as for `jax.jit`. Global functions that
it calls are compared by identity; what those read in turn is not followed.
"""

import functools
import types
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

import jax
import numpy as np

Value = TypeVar("Value")


class Static(Generic[Value]):
    """A value for a static argument of `jax.jit`, equal to another if it is built equally."""

    def __init__(self, value: Value) -> None:
        """Takes the value's structure as it is now."""
        self.value = value
        self._structure = structure(value)
        self._hash = hash(self._structure)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self._structure == other._structure


class _Same:
    """Equal only to the same object, which is kept alive."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def structure(value: Any, seen: dict[int, Hashable] | None = None) -> Hashable:
    """A hashable description of a value, equal for values that are built equally.

    `seen` holds the functions that have been described, each of which is once, and those that are
    being described, so that one that refers to itself ends.

    >>> def scaled(factor):
    ...     return lambda x: factor * x
    >>> structure(scaled(2.0)) == structure(scaled(2.0))
    True
    >>> structure(scaled(2.0)) == structure(scaled(2))
    False
    """
    seen = {} if seen is None else seen
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return type(value), repr(value)
    if isinstance(value, (tuple, list)):
        return type(value), tuple(structure(item, seen) for item in value)
    if isinstance(value, dict):
        items = value.items()
        return dict, tuple((structure(k, seen), structure(v, seen)) for k, v in items)
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        return type(value), str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, functools.partial):
        parts = value.func, value.args, value.keywords
        return functools.partial, structure(parts, seen)
    if isinstance(value, types.MethodType):
        return types.MethodType, structure((value.__func__, value.__self__), seen)
    if isinstance(value, types.FunctionType):
        if id(value) not in seen:
            seen[id(value)] = "inside", len(seen)
            seen[id(value)] = _function_structure(value, seen)
        return seen[id(value)]
    if isinstance(value, (jax.custom_jvp, jax.custom_vjp)):
        return type(value), structure(vars(value), seen)
    return (type(value), value) if _compares_by_value(value) else _Same(value)


def _compares_by_value(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return type(value).__eq__ is not object.__eq__


def _is_opaque(value: Any) -> bool:
    """Whether the value could change without its structure changing."""
    if isinstance(value, (tuple, list)):
        return any(map(_is_opaque, value))
    if isinstance(value, dict):
        return any(map(_is_opaque, [*value, *value.values()]))
    fixed = (types.ModuleType, types.MethodType, type, jax.Array, np.ndarray)
    function = callable(value) and hasattr(value, "__name__")
    known = value is None or isinstance(value, (*fixed, functools.partial)) or function
    return not known and not _compares_by_value(value)


def _function_structure(function: types.FunctionType, seen: dict[int, Hashable]) -> Hashable:
    held, named = cells(function), named_globals(function)
    if any(map(_is_opaque, [*held, *named.values()])):
        return _Same(function)
    defaults = structure((function.__defaults__, function.__kwdefaults__), seen)
    described = tuple(
        (name, _Same(v) if callable(v) or isinstance(v, types.ModuleType) else structure(v, seen))
        for name, v in named.items()
    )
    return types.FunctionType, _Same(function.__code__), structure(held, seen), defaults, described


def cells(function: types.FunctionType) -> list[Any]:
    """What the closure holds."""
    return [_contents(cell) for cell in function.__closure__ or ()]


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable not yet assigned
        return "empty"


def named_globals(function: types.FunctionType) -> dict[str, Any]:
    """The globals that the code names."""
    names = _names(function.__code__)
    return {n: function.__globals__[n] for n in names if n in function.__globals__}


def _names(code: types.CodeType) -> tuple[str, ...]:
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return code.co_names + tuple(name for c in inner for name in _names(c))
