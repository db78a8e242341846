"""Outlines: readable descriptions of what functions and values were built from.

An outline explains how two runs differ, such as "optimizer/update/learning_rate was 0.01 and is
0.02". It does not decide whether they differ: their fingerprints do.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
import re
import sys
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet.core import checks, trees
from jaxnet.core.dtypes import is_key
from jaxnet.core.programs import Fingerprint
from jaxnet.core.settled import closure

Outline = dict[str, Any] | list[Any] | str
"""A value that JSON can hold."""

_MOST_OBJECTS = 1000  # to look into; others are only named
_MOST_ITEMS = 1000  # of a container, and characters of a text; larger ones get a digest


class _Walk(NamedTuple):
    """A walk through a value: the ids of what it has seen, and whether it notes code."""

    seen: set[int]
    code: bool


def outline(value: Any, *, code: bool = False) -> Outline:
    """Outlines a value; a function by its closure, its defaults and the globals that it names.

    A partial function is outlined by the names of its arguments, as a closure by its variables.
    With `code`, a function also has a digest of its code.

    >>> def scale(factor):
    ...     return lambda x: factor * x
    >>> outline(scale(2.0))["factor"]
    '2.0'
    """
    try:
        return _outline(value, _Walk(set(), code))
    except Exception:  # an object whose attributes raise, or that contains itself
        return _name(value)


def _outline(value: Any, walk: _Walk) -> Outline:
    """Outlines a value; functions and objects seen before are only named."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return _limit(repr(value))
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return _outline_array(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _outline_items(value._asdict(), walk)
    if isinstance(value, (tuple, list)):
        return _limit([_outline(item, walk) for item in value])
    if isinstance(value, (set, frozenset)):
        return _limit(sorted(map(_text, value)))
    if isinstance(value, Mapping):
        return _limit(_outline_items({str(key): item for key, item in value.items()}, walk))
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
        return _name(value)
    if id(value) in walk.seen or len(walk.seen) == _MOST_OBJECTS:
        return _name(value)
    walk.seen.add(id(value))
    if isinstance(value, functools.partial):
        bound = value.args[1] if value.func is checks.enter else value  # by `checks.bind`
        function = _outline(bound.func, walk)
        found = function if isinstance(function, dict) else {"function": function}
        fields = {**_name_arguments(bound), "keywords": bound.keywords}
        return found | _outline_items(fields, walk)
    if isinstance(value, types.MethodType):
        return _outline_items({"function": value.__func__, "self": value.__self__}, walk)
    if isinstance(value, jax.stages.Wrapped) or "__wrapped__" in getattr(value, "__dict__", ()):
        return _outline(value.__wrapped__, walk)  # the argument of jax.jit or of a decorator
    if isinstance(value, types.FunctionType):
        return _outline_function(value, walk)
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        return {"type": _name(type(value)), **_outline_items(fields, walk)}
    attributes = _attributes(value)
    if walk.code and not isinstance(value, types.BuiltinMethodType):
        attributes["__call__"] = inspect.getattr_static(type(value), "__call__", None)
    if not attributes:
        return _text(value)
    return {"type": _name(type(value)), **_outline_items(attributes, walk)}


def outline_program(program: Fingerprint) -> list[Outline]:
    """Outlines a traced program: its digest, and the Python functions whose results it uses."""
    callbacks = (callback.value for callback in program.callbacks)
    return [program.digest, *(outline(callback, code=True) for callback in callbacks)]


def difference(before: Outline, now: Outline) -> str | None:
    """Puts the first difference of two outlines into words; None if they are equal.

    >>> difference({"rate": "0.1"}, {"rate": "0.2"})
    'rate was 0.1 and is 0.2'
    """
    found = trees.first_difference(now, before, _split)
    if found is None:
        return None
    place = "/".join(found.path)
    if found.received is trees.MISSING:
        return f"{place} was there"
    if found.expected is trees.MISSING:
        return f"{place} was not there"
    return f"{place} was {_summarize(found.expected)} and is {_summarize(found.received)}"


def _split(node: Outline) -> tuple[Any, dict[str, Any]]:
    """Returns what is compared of a node itself, and its children by name."""
    if isinstance(node, dict):
        return (node.get("function"), node.get("type")), node
    if isinstance(node, list):
        return list, {str(i): item for i, item in enumerate(node)}
    return node, {}


def _attributes(value: Any) -> dict[str, Any]:
    """Returns the attributes of an object, also those in slots."""
    slots = [kind.__dict__.get("__slots__", ()) for kind in type(value).__mro__]
    names = [n for some in slots for n in ((some,) if isinstance(some, str) else some)]
    in_slots = {name: getattr(value, name) for name in names if hasattr(value, name)}
    return in_slots | getattr(value, "__dict__", {})


def _outline_items(items: dict[str, Any], walk: _Walk) -> dict[str, Any]:
    return {name: _outline(item, walk) for name, item in items.items()}


def _name_arguments(bound: functools.partial[Any]) -> dict[str, Any]:
    """Returns the positional arguments of a partial function by the names of its parameters."""
    try:
        return inspect.signature(bound.func).bind_partial(*bound.args).arguments
    except (TypeError, ValueError):  # a function that is written in C may not tell its parameters
        return {"arguments": bound.args}


def _outline_array(array: Any) -> Outline:
    if is_key(array):
        return f"{array.dtype}{_outline_array(jax.random.key_data(array))}"
    array = np.asarray(array)
    if array.dtype == object:
        return _limit([_text(item) for item in array.flat])
    if array.size == 1:
        return f"{array.dtype}{list(array.shape)} {array.item()!r}"
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return f"{array.dtype}{list(array.shape)} of SHA-256 {digest}"


def _outline_function(function: types.FunctionType, walk: _Walk) -> dict[str, Any]:
    variables = dict(zip(function.__code__.co_freevars, closure(function), strict=True))
    found = {"function": _name(function), **_outline_items(variables, walk)}
    if walk.code:
        found["code"] = hashlib.sha256(_write_code(function.__code__).encode()).hexdigest()
    if function.__defaults__ or function.__kwdefaults__:
        found["defaults"] = _outline((function.__defaults__, function.__kwdefaults__), walk)
    if not _is_installed(function):
        values = {name: function.__globals__.get(name) for name in _names(function.__code__)}
        found |= _outline_items({n: v for n, v in values.items() if v is not None}, walk)
    return found


def _write_code(code: types.CodeType) -> str:
    """Writes what a function does, without its name and its place in the source."""

    def write(constant: Any) -> str:
        if isinstance(constant, types.CodeType):
            return _write_code(constant)
        return (
            str(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)
        )

    constants = list(map(write, code.co_consts))
    return repr((code.co_code, code.co_names, code.co_varnames, constants))


def _names(code: types.CodeType) -> list[str]:
    """Returns the names in a function's code, and in the code of its inner functions."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [*code.co_names, *(name for c in inner for name in _names(c))]


def _is_installed(function: types.FunctionType) -> bool:
    """Whether a function comes with Python or an installed package; its globals do not count."""
    root = str(function.__globals__.get("__name__")).partition(".")[0]
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return root in {"jaxnet", *sys.stdlib_module_names} or (
        root != "__main__" and "site-packages" in file
    )


def _name(value: Any) -> str:
    name = getattr(value, "__qualname__", getattr(value, "__name__", type(value).__qualname__))
    return str(name)


def _text(value: Any) -> str:
    """Returns the text of an object without its address, so that it is equal in every process."""
    return str(_limit(re.sub(r" at 0x[0-9a-f]+", "", repr(value))))


def _limit(found: Outline) -> Outline:
    """Replaces a large outline by its digest."""
    if len(found) <= _MOST_ITEMS:
        return found
    return f"{len(found)} of SHA-256 {hashlib.sha256(json.dumps(found).encode()).hexdigest()}"


def _summarize(found: Outline) -> str:
    name = found.get("function", found.get("type")) if isinstance(found, dict) else found
    return checks.shorten(name if isinstance(name, str) else repr(found))
