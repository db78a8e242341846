"""Floating-point tools: half precision computed in float32, and rounding errors made visible.

`exp` multiplies the relative error of its argument by the argument's size, so where the argument is
itself rounded, its rounding error is computed and put back.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxnet.core import arrays, checks


def at_least_float32(function: Callable[..., Array]) -> Callable[..., Array]:
    """Refuses inputs that are not floating-point, and computes half precision in float32."""

    @functools.wraps(function)
    def wrapper(x: ArrayLike, *args: Any, **kwargs: Any) -> Array:
        x = arrays.floating("x", x)
        return narrowed(function(widened(x), *args, **kwargs), x.dtype)

    return checks.door(wrapper)


def widened(x: Array) -> Array:
    """Half precision as float32; anything else as it is."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def narrowed(result: Array, dtype: Any) -> Array:
    """A result of `widened` numbers in the dtype that they had, with nothing finite made infinite.

    The gradient passes as it is, so it may still be beyond float16's largest number.
    """
    if result.dtype == dtype:
        return result
    return saturate(result, largest(dtype)).astype(dtype)


def largest(dtype: Any) -> float:
    """The largest finite number of a dtype."""
    return float(jnp.finfo(dtype).max)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def saturate(x: Array, limit: float) -> Array:
    """Finite values beyond the limit become it, with an unchanged gradient."""
    return jnp.where(jnp.isinf(x), x, jnp.clip(x, -limit, limit))


@saturate.defjvp
def _(limit: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return saturate(*primals, limit), *tangents


def exponent_bits(x: Array) -> Array:
    """The bits of the exponent of `x >= 0`, as an integer; 0 of what is 0 or subnormal."""
    info = jnp.finfo(x.dtype)
    return jax.lax.bitcast_convert_type(x, jnp.dtype(f"int{info.bits}")) >> info.nmant


def power_of_two(exponent: Array, dtype: Any) -> Array:
    """The power of two with those bits of the exponent, exactly."""
    return jax.lax.bitcast_convert_type(exponent << jnp.finfo(dtype).nmant, dtype)


def head(x: Array) -> Array:
    """`x` with the lower half of its significand cleared: the product of two heads is exact."""
    info = jnp.finfo(x.dtype)
    integer = jnp.dtype(f"uint{info.bits}")
    bits = jax.lax.bitcast_convert_type(x, integer)
    mask = integer.type(2**info.bits - 2 ** (info.nmant // 2 + 1))
    return jax.lax.bitcast_convert_type(bits & mask, x.dtype)


def sum_with_error(large: Array, small: Array) -> tuple[Array, Array]:
    """`large + small` and its rounding error, exactly (Dekker, 1971)."""
    total = large + small
    return total, small - (total - large)


def square_with_error(x: Array) -> tuple[Array, Array]:
    """`x * x` and its rounding error, together good to one and a half times the digits."""
    high = head(x)
    return sum_with_error(high * high, (x - high) * (x + high))
