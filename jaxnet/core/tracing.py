"""Tracing of functions as they are now, without the traces that JAX has kept of their parts."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr


def trace(function: Callable[..., Any], *arguments: Any) -> jax.stages.Traced:
    """Traces a function as it is now.

    JAX caches the traces of functions that are passed to `jax.jit`, `jax.lax.scan`,
    `jax.checkpoint` and others. It does not notice if what they read has changed. If the program
    has such parts, other than JAX's own, the whole program is traced again without the cache.
    """
    traced = jax.jit(lambda *args: function(*args)).trace(*arguments)
    if not may_be_stale(traced):
        return traced
    with trace_anew():
        return jax.jit(lambda *args: function(*args)).trace(*arguments)


def shapes(function: Callable[..., Any], *arguments: Any) -> Any:
    """Computes `jax.eval_shape` of a function as it is now."""
    return trace(function, *arguments).out_info


def may_be_stale(traced: jax.stages.Traced) -> bool:
    """Whether a part of a program may come from an old trace of a user's function."""
    return not all(map(_is_packaged, inner_programs(traced.jaxpr.jaxpr)))


def trace_anew() -> contextlib.AbstractContextManager[None]:
    """Returns a context in which JAX's cache of traces is empty."""
    return _context(next(_contexts))


_context = jax.make_user_context(None)
_contexts = itertools.count()


def inner_programs(program: Jaxpr) -> Iterator[Jaxpr]:
    """Yields the programs in a program: called functions, loops and branches."""
    for equation in program.eqns:
        for value in equation.params.values():
            for part in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(part, (ClosedJaxpr, Jaxpr)):
                    inner = part.jaxpr if isinstance(part, ClosedJaxpr) else part
                    yield inner
                    yield from inner_programs(inner)


def _is_packaged(program: Jaxpr) -> bool:
    """Whether a program was traced from a function of JAX, optax or jaxnet."""
    _, _, place = program.debug_info.func_src_info.partition(" at ")
    return place.startswith(FOLDERS)


FOLDERS = tuple(
    os.path.join(os.path.dirname(file), "")
    for file in (jax.__file__, optax.__file__, os.path.dirname(__file__))
)
"""The root folders of JAX, optax and jaxnet; this file is in jaxnet/core."""
