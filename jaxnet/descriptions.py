"""Descriptions: what a function was built from, in words that another process would use too.

A run that is resumed must be the run that was begun. Of functions made by functions, as networks
and optimizers are, the description holds the values in their closures, by the variables' names; of
a user's own also its code. So two descriptions are equal if the same was built, and where they are
not, the difference has a name, such as `optimizer/update/learning_rate`.
"""

import dataclasses
import functools
import hashlib
import sys
import types
from typing import Any

import jax
import numpy as np

from jaxnet import checks
from jaxnet.statics import cells, named_globals

Description = dict[str, Any] | list[Any] | str
"""What JSON can hold."""


def described(value: Any, outer: tuple[int, ...] = ()) -> Description:
    """A description of a value; `outer` holds the objects being described.

    >>> def scaled(factor):
    ...     return lambda x: factor * x
    >>> described(scaled(2.0))["factor"]
    '2.0'
    """
    if id(value) in outer:
        return f"inside, {outer[::-1].index(id(value))} up"
    within = (*outer, id(value))
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _named(value._asdict(), within)
    if isinstance(value, (tuple, list)):
        return [described(item, within) for item in value]
    if isinstance(value, dict):
        return _named({str(key): item for key, item in value.items()}, within)
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return _of_array(value)
    if isinstance(value, functools.partial):
        parts = {"function": value.func, "arguments": value.args, "keywords": value.keywords}
        return _named(parts, within)
    if isinstance(value, types.MethodType):
        return _named({"function": value.__func__, "self": value.__self__}, within)
    if isinstance(value, types.FunctionType) and not _only_wraps(value):
        return _of_function(value, within)
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
        return _name(value)
    if hasattr(value, "__wrapped__"):  # as what jax.jit and custom derivatives return
        return described(value.__wrapped__, within)
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        return {"type": _name(type(value)), **_named(fields, within)}
    if _is_installed(type(value)):
        return {"type": _name(type(value)), "name": getattr(value, "__name__", "")}
    return {"type": _name(type(value)), **_named(getattr(value, "__dict__", {}), within)}


def difference(before: Description, now: Description, path: str = "") -> str | None:
    """The first thing in which two descriptions differ, in words."""
    if isinstance(before, list) and isinstance(now, list):
        before, now = (dict(zip(map(str, range(len(d))), d, strict=True)) for d in (before, now))
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return None if before == now else f"{path} was {_short(before)} and is {_short(now)}"
    for name in {**before, **now}:
        at = f"{path}/{name}" if path else name
        if name not in before or name not in now:
            return f"{at} was {'not ' if name not in before else ''}there"
        if found := difference(before[name], now[name], at):
            return found
    return None


def _named(items: dict[str, Any], within: tuple[int, ...]) -> dict[str, Any]:
    return {name: described(item, within) for name, item in items.items()}


def _of_array(value: Any) -> str:
    if checks.is_key(value):
        return f"{value.dtype}{_of_array(jax.random.key_data(value))}"
    array = np.asarray(value)
    if array.size == 1:
        return f"{array.dtype}{list(array.shape)} {array.item()!r}"
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return f"{array.dtype}{list(array.shape)} of SHA-256 {digest}"


def _of_function(function: types.FunctionType, within: tuple[int, ...]) -> dict[str, Any]:
    variables = dict(zip(function.__code__.co_freevars, cells(function), strict=True))
    description = {"function": _name(function), **_named(variables, within)}
    if function.__defaults__ or function.__kwdefaults__:
        defaults = function.__defaults__, function.__kwdefaults__
        description["defaults"] = described(defaults, within)
    if not _is_installed(function):
        description["code"] = _code(function.__code__)
        description |= _named(named_globals(function), within)
    return description


def _only_wraps(function: types.FunctionType) -> bool:
    """Whether a function was put around another by a package, such as one that checks types."""
    file = function.__code__.co_filename
    return hasattr(function, "__wrapped__") and ("site-packages" in file or file.startswith("<"))


def _is_installed(thing: Any) -> bool:
    """Whether a function or a type comes with Python, jaxnet or another installed package."""
    root = (thing.__module__ or "").partition(".")[0]
    if root == "jaxnet" or root in sys.stdlib_module_names:
        return True
    return "site-packages" in (getattr(sys.modules.get(root), "__file__", None) or "")


def _code(code: types.CodeType) -> str:
    """Of what the code does, not of where it stands."""
    constants = [
        _code(c)
        if isinstance(c, types.CodeType)
        else repr(sorted(c, key=repr))
        if isinstance(c, frozenset)
        else repr(c)
        for c in code.co_consts
    ]
    parts = code.co_code, code.co_names, code.co_varnames, constants
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _name(value: Any) -> str:
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", getattr(value, "__name__", repr(value)))
    return f"{module}.{name}" if module else name


def _short(description: Description) -> str:
    if isinstance(description, dict) and "function" in description:
        description = description["function"]
    text = description if isinstance(description, str) else repr(description)
    return text if len(text) <= 80 else text[:77] + "..."
