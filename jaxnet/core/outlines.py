"""Outlines: what functions and values were built from, in words.

An outline explains how two runs differ, such as "optimizer/update/learning_rate was 0.01 and is
0.02". It does not decide whether they do: `programs` does.
"""

import dataclasses
import functools
import hashlib
import json
import re
import sys
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxnet.core import checks
from jaxnet.core.programs import contents

Outline = dict[str, Any] | list[Any] | str
"""What JSON can hold."""

_MOST_OBJECTS = 1000  # that are looked into; the rest is named
_MOST_ITEMS = 1000  # of a container, and characters of a text; of more there is a digest


def outline(value: Any) -> Outline:
    """The outline of a value: of a function its closure, its defaults and the globals it names.

    >>> def scale(factor):
    ...     return lambda x: factor * x
    >>> outline(scale(2.0))["factor"]
    '2.0'
    """
    try:
        return _outline(value, set())
    except Exception:  # an object that does not say what it holds, or holds itself
        return _name(value)


def _outline(value: Any, seen: set[int]) -> Outline:
    """The outline; `seen` holds the functions and objects that it has already, each once."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return _limited(repr(value))
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return _outline_of_array(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _named(value._asdict(), seen)
    if isinstance(value, (tuple, list)):
        return _limited([_outline(item, seen) for item in value])
    if isinstance(value, (set, frozenset)):
        return _limited(sorted(map(_text, value)))
    if isinstance(value, Mapping):
        return _limited(_named({str(key): item for key, item in value.items()}, seen))
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
        return _name(value)
    if id(value) in seen or len(seen) == _MOST_OBJECTS:
        return _name(value)
    seen.add(id(value))
    if isinstance(value, functools.partial):
        parts = {"function": value.func, "arguments": value.args, "keywords": value.keywords}
        return _named(parts, seen)
    if isinstance(value, types.MethodType):
        return _named({"function": value.__func__, "self": value.__self__}, seen)
    if isinstance(value, jax.stages.Wrapped) or "__wrapped__" in getattr(value, "__dict__", ()):
        return _outline(value.__wrapped__, seen)  # what jax.jit or a decorator was given
    if isinstance(value, types.FunctionType):
        return _outline_of_function(value, seen)
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        return {"type": _name(type(value)), **_named(fields, seen)}
    attributes = getattr(value, "__dict__", {})
    return {"type": _name(type(value)), **_named(attributes, seen)} if attributes else _text(value)


def difference(before: Outline, now: Outline, path: str = "") -> str | None:
    """The first thing in which two outlines differ, in words."""
    if isinstance(before, list) and isinstance(now, list):
        before, now = (dict(zip(map(str, range(len(d))), d, strict=True)) for d in (before, now))
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return None if before == now else f"{path} was {_short(before)} and is {_short(now)}"
    for kind in ("function", "type"):
        if before.get(kind) != now.get(kind):
            return f"{path} was {_short(before)} and is {_short(now)}"
    for name in {**before, **now}:
        at = f"{path}/{name}" if path else name
        if name not in before or name not in now:
            return f"{at} was {'not ' if name not in before else ''}there"
        if found := difference(before[name], now[name], at):
            return found
    return None


def _named(items: dict[str, Any], seen: set[int]) -> dict[str, Any]:
    return {name: _outline(item, seen) for name, item in items.items()}


def _outline_of_array(array: Any) -> Outline:
    if checks.is_key(array):
        return f"{array.dtype}{_outline_of_array(jax.random.key_data(array))}"
    array = np.asarray(array)
    if array.dtype == object:
        return _limited([_text(item) for item in array.flat])
    if array.size == 1:
        return f"{array.dtype}{list(array.shape)} {array.item()!r}"
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return f"{array.dtype}{list(array.shape)} of SHA-256 {digest}"


def _outline_of_function(function: types.FunctionType, seen: set[int]) -> dict[str, Any]:
    variables = dict(zip(function.__code__.co_freevars, contents(function), strict=True))
    found = {"function": _name(function), **_named(variables, seen)}
    if function.__defaults__ or function.__kwdefaults__:
        found["defaults"] = _outline((function.__defaults__, function.__kwdefaults__), seen)
    if not _is_installed(function):
        named = {n: function.__globals__.get(n) for n in _names(function.__code__)}
        found |= _named({n: v for n, v in named.items() if v is not None}, seen)
    return found


def _names(code: types.CodeType) -> list[str]:
    """The names in a function's code, and in those of the functions that it makes."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [*code.co_names, *(name for c in inner for name in _names(c))]


def _is_installed(function: types.FunctionType) -> bool:
    """Whether a function comes with Python or an installed package, whose globals are not ours."""
    root = str(function.__globals__.get("__name__")).partition(".")[0]
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return root in {"jaxnet", *sys.stdlib_module_names} or (
        root != "__main__" and "site-packages" in file
    )


def _name(value: Any) -> str:
    name = getattr(value, "__qualname__", getattr(value, "__name__", type(value).__qualname__))
    return str(name)


def _text(value: Any) -> str:
    """Of an object that holds nothing, the same in every process."""
    return str(_limited(re.sub(r" at 0x[0-9a-f]+", "", repr(value))))


def _limited(found: Outline) -> Outline:
    if len(found) <= _MOST_ITEMS:
        return found
    return f"{len(found)} of SHA-256 {hashlib.sha256(json.dumps(found).encode()).hexdigest()}"


def _short(found: Outline) -> str:
    name = found.get("function", found.get("type")) if isinstance(found, dict) else found
    return checks.shortened(name if isinstance(name, str) else repr(found))
