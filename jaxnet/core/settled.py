"""Settled values: those that cannot have changed, so that tracing them again can be skipped.

Tracing takes 20 to 30 ms, as long as a small network trains. It is skipped for functions of jaxnet,
optax and JAX that hold nothing but numbers, text and each other. `settled_key` says why that is
sound.
"""

import functools
import sys
import types
from collections.abc import Hashable
from typing import Any

import jax
import numpy as np


class Same:
    """A key that equals only keys of the same object, which is kept alive."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value


class _Unsettled(Exception):
    """A value may have changed, or may change later."""


def settled_key(value: Any) -> Hashable | None:
    """Returns a key for a value made of numbers, text and functions of jaxnet, optax and JAX.

    None for any other value.

    Values with equal keys behave equally, so a trace of one is the trace of the other:

    - A number, a string, a dtype or a sharding is its own key. The key of a tuple, list or dict is
      what it contains now.
    - A function is its code and what that code can read. That is its closure and its defaults,
      which are in the key; its arguments, which are a part of the traced program; JAX's settings,
      which are in the key of every compiled program; and the global variables of its module. The
      modules of jaxnet, optax and JAX assign theirs once, when they are imported.
    - Nothing else is settled: no function of the user's, no object with attributes, no array, and
      nothing that holds one of them.

    Whether a function belongs to one of these packages is decided by the module whose globals its
    code reads, which a decorator such as `functools.wraps` does not change.
    """
    try:
        return _key(value, (), {})
    except _Unsettled:
        return None


def settled_parts(value: Any) -> Hashable:
    """Returns the keys of the settled parts of a tuple, with None for the others."""
    key = settled_key(value)
    return tuple(map(settled_parts, value)) if key is None and isinstance(value, tuple) else key


def _key(value: Any, within: tuple[int, ...], known: dict[int, Hashable]) -> Hashable:
    """Returns the key.

    Args:
        value: any value.
        within: the ids of the values that contain it.
        known: the keys of the partial functions and named tuples met before, by their ids. A layer
            of a network is met several times. The values that hold them keep them alive.
    """

    def each(*parts: Any) -> Hashable:
        return tuple(_key(part, (*within, id(value)), known) for part in parts)

    if id(value) in within:
        raise _Unsettled
    if id(value) in known:
        return known[id(value)]
    if value is None or type(value) in PLAIN:
        return type(value), repr(value)
    if isinstance(value, (np.dtype, jax.sharding.NamedSharding)):
        return value
    if type(value) is dict:
        return dict, each(*value, *value.values())
    if type(value) in (tuple, list):
        return type(value), each(*value)
    if _is_packaged_tuple(value):
        return known.setdefault(id(value), (type(value), each(*value)))
    if type(value) is functools.partial:
        key = functools.partial, each(value.func, value.args, value.keywords)
        return known.setdefault(id(value), key)
    if type(value) is types.FunctionType and reads_package(value):
        held = each(closure(value), value.__defaults__, value.__kwdefaults__)
        return value.__code__, value.__globals__["__name__"], held
    if _is_global_of_package(value):  # such as jax.nn.relu, which jax.jit made
        return Same(value)
    if type(value) in (jax.custom_jvp, jax.custom_vjp):
        own = {name: part for name, part in vars(value).items() if not name.startswith("__")}
        return type(value), each(own)
    raise _Unsettled


PLAIN = (bool, int, float, complex, str, bytes)
"""Types whose values are what their text says."""

_PACKAGES = ("jax", "jaxlib", "jaxnet", "ml_dtypes", "numpy", "optax")


def is_of_package(module: Any) -> bool:
    """Whether the name of a module is that of one of the packages."""
    return str(module).partition(".")[0] in _PACKAGES


def _is_packaged_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and _is_global_of_package(type(value))


def _is_global_of_package(value: Any) -> bool:
    """Whether a module of one of the packages has that object under its own name."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__name__", None)
    return is_of_package(module) and getattr(sys.modules.get(str(module)), str(name), None) is value


def reads_package(function: types.FunctionType) -> bool:
    """Whether the global variables of a function are those of a module of one of the packages."""
    name = function.__globals__.get("__name__")
    module = sys.modules.get(str(name)) if is_of_package(name) else None
    return module is not None and vars(module) is function.__globals__


def closure(function: types.FunctionType) -> tuple[Any, ...]:
    """Returns the values in the closure of a function."""
    return tuple(map(_read_cell, function.__closure__ or ()))


def _read_cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has not been assigned yet
        return _UNASSIGNED


_UNASSIGNED = object()
