"""Logits to probabilities: softmax and its logarithm.

Logits, any real numbers, enter as their distance below the largest, and the sum of exponentials
as `1 + others`, so that neither a probability near 1 nor its complement is rounded to 1 or to 0.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxnet.core import arrays, checks
from jaxnet.nn.precision import at_least_float32


def _below_maximum(x: Array, axis: int) -> Array:
    """`x - max(x)`, and -inf where all of x is -inf."""
    largest = jnp.max(x, axis, keepdims=True, initial=-jnp.inf)
    return x - jnp.where(largest == -jnp.inf, 0, largest)


def _exponentials(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """`x - max(x)`, its exponential, and the sum of all the exponentials but one of the largest."""
    difference = _below_maximum(x, axis)
    exponentials = jnp.exp(difference)
    total = jnp.sum(exponentials, axis, keepdims=True)
    lower = jnp.sum(jnp.where(difference < 0, exponentials, 0), axis, keepdims=True)
    others = jnp.where(total < 2, lower, total - 1)  # from 2 on there may be several of the largest
    return difference, exponentials, others


def _softmax_jacobian(x: Array, axis: int, tangent: Array) -> tuple[Array, Array]:
    """`tangent` less its mean under the distribution softmax(x), and that distribution."""
    _, exponentials, others = _exponentials(x, axis)
    probabilities = exponentials / (1 + others)
    complements = (others + (1 - exponentials)) / (1 + others)
    weighted = probabilities * tangent
    rest = jnp.sum(weighted, axis, keepdims=True) - weighted
    return complements * tangent - rest, probabilities


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _softmax(x: Array, axis: int) -> Array:
    difference = _below_maximum(x, axis)
    exponentials = jnp.exp(difference)
    total = jnp.sum(exponentials, axis, keepdims=True)
    return exponentials / jnp.where(total == 0, 1, total)


@_softmax.defjvp
def _(axis: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    change, probabilities = _softmax_jacobian(*primals, axis, *tangents)
    return probabilities, probabilities * change


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _log_softmax(x: Array, axis: int) -> Array:
    difference, _, others = _exponentials(x, axis)
    return difference - jnp.log1p(others)


@_log_softmax.defjvp
def _(axis: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _log_softmax(*primals, axis), _softmax_jacobian(*primals, axis, *tangents)[0]


@at_least_float32
def softmax(
    x: Float[ArrayLike, "..."], axis: int = -1, *, where: Bool[ArrayLike, "..."] | None = None
) -> Float[Array, "..."]:
    """Softmax, `exp(x_k) / sum_j exp(x_j)` along `axis`: logits to probabilities.

    Where the mask `where` is false, and where `x` is -inf, the probability is 0; if that is
    everywhere along the axis, all are 0.

    >>> softmax(jnp.array([34.0, 32.0, 25.0]))
    Array([0.8807, 0.1192, 0.0001], dtype=float32)
    """
    return _softmax(*_masked(x, axis, where))


@at_least_float32
def log_softmax(
    x: Float[ArrayLike, "..."], axis: int = -1, *, where: Bool[ArrayLike, "..."] | None = None
) -> Float[Array, "..."]:
    """Logarithm of softmax, `x_k - log(sum_j exp(x_j))` along `axis`, without forming the softmax.

    Where the mask `where` is false, and where `x` is -inf, it is -inf. The logarithm of a
    probability near 1 keeps
    its digits: other libraries' become exactly 0, with its gradient, once a logit leads by 17.

    >>> log_softmax(jnp.array([34.0, 32.0, 25.0]))
    Array([-0.127, -2.127, -9.127], dtype=float32)
    >>> print(f"{log_softmax(jnp.array([0.0, 40.0]))[1]:.4g}")
    -4.248e-18
    """
    return _log_softmax(*_masked(x, axis, where))


def _masked(x: ArrayLike, axis: int, where: ArrayLike | None) -> tuple[Array, int]:
    """The logits, -inf where the mask is false, and the axis as Python's integer."""
    x = jnp.asarray(x)
    if x.ndim == 0:
        raise checks.InvalidValue("expected x with a class axis. Received: a scalar")
    axis = checks.integer("axis", axis, -x.ndim, x.ndim - 1)
    if where is None:
        return x, axis
    mask = arrays.numbers("where", where)
    if mask.dtype != bool:
        raise checks.InvalidType(f"expected a boolean mask for where. Received: {mask.dtype}")
    sizes = zip(reversed(mask.shape), reversed(x.shape), strict=False)
    if mask.ndim > x.ndim or any(m not in (1, n) for m, n in sizes):
        raise checks.InvalidValue(
            f"expected where of the shape of x, {list(x.shape)}, or one that is "
            f"broadcast to it. Received: {list(mask.shape)}"
        )
    return jnp.where(mask, x, -jnp.inf), axis
