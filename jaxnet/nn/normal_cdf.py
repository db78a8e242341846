"""The Gaussian CDF with accurate tails, and the gate of the tanh approximation, for gelu.

The lower tail of the CDF underflows only where float32 does, at x = -13, and keeps its digits until
there.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxnet.nn.precision import head, square_with_error, sum_with_error


@jax.custom_jvp
def density(x: Array) -> Array:
    """`exp(-x**2 / 2) / sqrt(2 pi)`."""
    square, error = square_with_error(jnp.clip(x, -40, 40))
    scale = 1 / math.sqrt(2 * math.pi)
    return jnp.exp(-square / 2) * (scale - scale / 2 * error)


density.defjvps(lambda tangent, density, x: tangent * (-x * density))


def _polynomial(x: Array, *coefficients: float) -> Array:
    """`coefficients[0] + coefficients[1] * x + ...`, by Horner's rule."""
    *lower, a, b = coefficients
    return functools.reduce(lambda sum_, c: sum_ * x + c, reversed(lower), b * x + a)


# Both polynomials interpolate at the Chebyshev nodes of their interval.


def _centre(x: Array) -> Array:
    """`(cumulative(x) - 1/2) / x` for `|x| <= 3/4`."""
    return _polynomial(x * x, 0.3989423, -0.0664903, 0.009972361, -0.0011813189, 0.000102970516)


def _tail(x: Array) -> Array:
    """`cumulative(-x) / density(x)`, Mills' ratio, for `3/4 <= x <= 14.5`."""
    scale = 1 / (x + 2)
    return scale * _polynomial(
        scale,
        1.0000687,
        1.9957378,
        3.111525,
        0.38757586,
        9.110063,
        -94.06275,
        227.24742,
        -242.73941,
        101.89916,
    )


@jax.custom_jvp
def cumulative(x: Array) -> Array:
    """The probability that a standard normal variable is below `x`."""
    if x.dtype == jnp.float64:
        return jax.scipy.stats.norm.cdf(x)
    size = jnp.abs(x)
    centre = 0.5 + x * _centre(jnp.clip(x, -0.75, 0.75))
    tail = density(x) * _tail(jnp.clip(size, 0.75, 14.5))
    return jnp.where(size < 0.75, centre, jnp.where(x < 0, tail, 1 - tail))


cumulative.defjvps(lambda tangent, _, x: tangent * density(x))


def gelu_gate(x: Array) -> tuple[Array, Array]:
    """`exp(-logit)` and the derivative of the logit, `a x + b x**3`, of the tanh approximation.

    The gate of gelu is `(1 + tanh(logit / 2)) / 2 = sigmoid(logit)`.
    """
    x = jnp.clip(x, -25, 25)  # the gate is 0 or 1 beyond, in float64 too
    a = 2 * math.sqrt(2 / math.pi)
    b = a * 0.044715
    a_head, b_head = round(a * 2**11) / 2**11, round(b * 2**15) / 2**15
    # Each factor is split into a head and a tail. Products of heads are exact, the rest is small.
    square = x * x
    ratio = a + b * square
    x_head, square_head, ratio_head = head(x), head(square), head(ratio)
    x_tail = x - x_head
    square_tail = (x_head * x_head - square_head) + x_tail * (x + x_head)
    ratio_tail = (
        (a_head - ratio_head)
        + b_head * square_head
        + ((a - a_head) + (b - b_head) * square_head + b * square_tail)
    )
    logit, error = sum_with_error(x_head * ratio_head, x_tail * ratio + x_head * ratio_tail)
    return jnp.exp(-logit) * (1 - error), a + 3 * b * square
