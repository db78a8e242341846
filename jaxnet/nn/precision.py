"""Half precision computed in float32, and compensated arithmetic.

`exp` multiplies the absolute error of its argument into a relative error of its value. Where the
argument is rounded, its rounding error is computed and compensated.
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
    """Makes a function raise on inputs that are not floating-point, and widens half precision."""

    @functools.wraps(function)
    def wrapper(x: ArrayLike, *args: Any, **kwargs: Any) -> Array:
        x = arrays.floating("x", x)
        return narrow(function(widen(x), *args, **kwargs), x.dtype)

    return checks.door(wrapper)


def widen(x: Array) -> Array:
    """Converts half precision to float32; other dtypes are unchanged."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def narrow(result: Array, dtype: Any) -> Array:
    """Converts a result back to a half precision dtype, without making a finite value infinite.

    The gradient is not limited, so it may still exceed the largest float16.
    """
    if result.dtype == dtype:
        return result
    return saturate(result, largest(dtype)).astype(dtype)


def largest(dtype: Any) -> float:
    """The largest finite number of a dtype."""
    return float(jnp.finfo(dtype).max)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def saturate(x: Array, limit: float) -> Array:
    """Clips finite values to +-limit, with an unchanged gradient."""
    return jnp.where(jnp.isinf(x), x, jnp.clip(x, -limit, limit))


@saturate.defjvp
def _(limit: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return saturate(*primals, limit), *tangents


def exponent_bits(x: Array) -> Array:
    """The exponent bits of `x >= 0` as an integer; 0 for 0 and subnormal numbers."""
    info = jnp.finfo(x.dtype)
    return jax.lax.bitcast_convert_type(x, jnp.dtype(f"int{info.bits}")) >> info.nmant


def power_of_two(exponent: Array, dtype: Any) -> Array:
    """The power of two with these exponent bits."""
    return jax.lax.bitcast_convert_type(exponent << jnp.finfo(dtype).nmant, dtype)


def head(x: Array) -> Array:
    """Clears the lower half of the significand; the product of two heads is exact."""
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
    """`x * x` and its rounding error, together accurate to one and a half times the digits."""
    high = head(x)
    return sum_with_error(high * high, (x - high) * (x + high))
