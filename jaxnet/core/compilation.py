"""Compiled programs, which are reused when the same program is traced again."""

import functools
import sys
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun

from jaxnet.core.programs import Fingerprint, fingerprint
from jaxnet.core.settled import settled_key, settled_parts
from jaxnet.core.tracing import trace

_MOST_PROGRAMS = 16  # kept; the least recently used one is dropped first

Made = TypeVar("Made")


def compile_once(
    function: Callable[..., Any],
    static: tuple[Any, ...],
    arguments: tuple[Any, ...],
    *,
    identity: Hashable = None,
) -> Callable[..., Any]:
    """Compiles `function(*static, *arguments)` for these types of arguments, or reuses the program.

    Unlike `jax.jit` with static arguments, which compares them by `==`, it notices an attribute or
    a global variable of a user's function that has changed.

    Args:
        function: a function of jaxnet, which may call the functions in `static`.
        static: whatever is not an array.
        arguments: trees of arrays.
        identity: the result of `identify` for a function that calls those in `static` as `function`
            does; by default that of `function`.

    Returns:
        A function of `arguments`.
    """
    bound = functools.partial(function, *static)
    leaves, structure = jax.tree.flatten(arguments)
    kinds = tuple((jnp.shape(a), jnp.result_type(a), _is_weakly_typed(a)) for a in leaves)
    call = function, structure, kinds, settings()
    if identity is None:
        identity = identify(function, static, arguments)
    if identity is None:
        return jax.jit(bound)
    if not isinstance(identity, Fingerprint):
        return reuse((call, identity), lambda: jax.jit(bound))

    def compile_program() -> Callable[..., Any]:
        # Not the function itself: JAX may trace it again later, when it reads something else.
        program = trace(bound, *arguments)
        flat = jax.jit(jaxpr_as_fun(program.jaxpr))
        results = jax.tree.structure(program.out_info)
        return lambda *args: jax.tree.unflatten(results, flat(*jax.tree.leaves(args)))

    return reuse((call, identity, settled_parts(static)), compile_program)


def identify(
    function: Callable[..., Any], static: tuple[Any, ...], arguments: tuple[Any, ...]
) -> Hashable:
    """Returns a key for what `function(*static, *arguments)` computes; None if there is none.

    The key is that of the settled `static`, or else the fingerprint of the program.
    """
    key = settled_key(static)
    return fingerprint(functools.partial(function, *static), *arguments) if key is None else key


def reuse(key: Hashable, make: Callable[[], Made]) -> Made:
    """Returns what `make` returned for an equal key before, or calls it."""
    made: Made = _make(_Key(key, make))
    return made


def clear_caches() -> None:
    """Frees the compiled programs that jaxnet keeps, and the constants that they hold.

    jaxnet keeps the last 16, so that a call with the same functions and shapes compiles nothing.
    JAX has caches of its own, which `jax.clear_caches` frees.

    >>> clear_caches()
    """
    _make.cache_clear()


class _Key:
    """A key for the cache, with the function that makes its value."""

    def __init__(self, key: Hashable, make: Callable[[], Any]) -> None:
        self.key, self.make = key, make

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.key == other.key


@functools.lru_cache(maxsize=_MOST_PROGRAMS)
def _make(key: _Key) -> Any:
    made = key.make()
    del key.make  # which holds the arguments
    return made


def settings() -> str:
    """Returns all of JAX's settings as text."""
    return sys.intern(repr(jax.config.values))


def _is_weakly_typed(value: Any) -> bool:
    return isinstance(value, (int, float, complex)) or getattr(value, "weak_type", False)
