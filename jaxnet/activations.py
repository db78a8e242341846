"""Activations: the nonlinear functions between the layers of a network, and softmax at its end.

Every function is accurate to a few units in the last place over the whole float32 range, in its
value and in its gradient. That takes more than the formula typed in. A derivative written in terms
of the value, such as `s * (1 - s)`, cancels to zero in the tails, so derivatives are given in forms
that do not cancel. And `exp` multiplies the relative error of its argument by the argument's size,
so where the argument is itself rounded, its rounding error is computed and put back.

float16 and bfloat16 inputs are computed in float32 and rounded once, at the end.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

__all__ = [
    "binary_step",
    "elu",
    "gelu",
    "identity",
    "leaky_relu",
    "log_softmax",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "straight_through",
    "tanh",
]


def _at_least_float32(function: Callable[..., Array]) -> Callable[..., Array]:
    """Refuses inputs that are not floating-point, and computes half precision in float32."""

    @functools.wraps(function)
    def wrapper(x: ArrayLike, *args: Any, **kwargs: Any) -> Array:
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"{function.__name__}: expected a floating-point array. Received: {x.dtype}"
            )
        if x.dtype.itemsize >= 4:
            return function(x, *args, **kwargs)
        result = function(x.astype(jnp.float32), *args, **kwargs)
        return _saturate(result, float(jnp.finfo(x.dtype).max)).astype(x.dtype)

    return wrapper


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _saturate(x: Array, largest: float) -> Array:
    """Finite values beyond the largest finite one become it, with an unchanged gradient."""
    return jnp.where(jnp.isinf(x), x, jnp.clip(x, -largest, largest))


@_saturate.defjvp
def _(largest: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _saturate(*primals, largest), *tangents


# Piecewise linear.


@_at_least_float32
def identity(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """The linear activation, `x`: for the output of a regression, or where the loss takes logits.

    >>> identity(jnp.array([-2.0, 3.0]))
    Array([-2.,  3.], dtype=float32)
    """
    return jnp.asarray(x)


@_at_least_float32
def relu(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Rectified linear unit, `max(x, 0)`.

    The gradient at 0 is 0, as in PyTorch, TensorFlow and `jax.nn` (that of `jnp.maximum` is 0.5).
    NaN stays NaN.

    Reference: Nair and Hinton, Rectified linear units improve restricted Boltzmann machines, 2010.

    >>> relu(jnp.array([-2.0, 0.0, 3.0]))
    Array([0., 0., 3.], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.where(x <= 0, 0, x)


@_at_least_float32
def leaky_relu(
    x: Float[ArrayLike, "..."], negative_slope: Float[ArrayLike, ""] = 0.01
) -> Float[Array, "..."]:
    """Leaky rectified linear unit, `x` where `x > 0` and `negative_slope * x` elsewhere.

    The slope is 0.01 by default as in PyTorch and `jax.nn`; Keras takes 0.3.

    Reference: Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models,
    2013.

    >>> leaky_relu(jnp.array([-2.0, 3.0]))
    Array([-0.02,  3.  ], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.where(x > 0, x, negative_slope * x)


@jax.custom_jvp
def _step(x: Array) -> Array:
    return jnp.where(x >= 0, 1, jnp.where(x < 0, 0, x)).astype(x.dtype)


_step.defjvps(lambda tangent, _, x: jnp.zeros_like(tangent))


@_at_least_float32
def binary_step(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Binary step, 1 where `x >= 0` and 0 elsewhere: a neuron that fires or does not.

    Its gradient is zero everywhere, so gradient descent cannot train the layers before it;
    `straight_through(binary_step)` can be trained.

    Reference: McCulloch and Pitts, A logical calculus of the ideas immanent in nervous activity,
    1943.

    >>> binary_step(jnp.array([-2.0, 0.0, 3.0]))
    Array([0., 1., 1.], dtype=float32)
    >>> float(jax.grad(binary_step)(0.5))
    0.0
    """
    return _step(x)


def straight_through(
    activation: Callable[[Array], Array], surrogate: Callable[[Array], Array] = identity
) -> Callable[[Array], Array]:
    """An activation with the value of `activation` and the gradient of `surrogate`.

    `surrogate` is the identity by default, the estimator of Hinton's lectures; `sigmoid` or `tanh`
    leave neurons alone that are far from their threshold.

    Reference: Bengio, Leonard and Courville, Estimating or propagating gradients through stochastic
    neurons for conditional computation, 2013.

    >>> step = straight_through(binary_step)
    >>> float(step(0.5)), float(jax.grad(step)(0.5))
    (1.0, 1.0)
    """

    @jax.custom_jvp
    def estimator(x: Array) -> Array:
        return activation(x)

    @estimator.defjvp
    def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        return activation(*primals), jax.jvp(surrogate, primals, tangents)[1]

    @_at_least_float32
    @functools.wraps(activation)
    def wrapped(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
        return estimator(x)

    return wrapped


# Smooth, by way of exp(-|x|), which neither overflows nor cancels.


@jax.custom_jvp
def _sigmoid(x: Array) -> Array:
    decay = jnp.exp(-jnp.abs(x))
    return jnp.where(x < 0, decay, 1) / (1 + decay)


@_sigmoid.defjvps
def _(tangent: Array, _: Array, x: Array) -> Array:
    decay = jnp.exp(-jnp.abs(x))
    return tangent * (decay / jnp.square(1 + decay))


@_at_least_float32
def sigmoid(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Logistic sigmoid, `1 / (1 + exp(-x))`.

    Its gradient is `sigmoid(x) * sigmoid(-x)`, accurate in both tails. In `jax.nn` and PyTorch,
    which take `s * (1 - s)`, it is exactly 0 from `x = 17` on, where the true value is 4e-8.

    >>> sigmoid(jnp.array([-2.0, 0.0, 2.0]))
    Array([0.1192, 0.5   , 0.8808], dtype=float32)
    """
    return _sigmoid(x)


@jax.custom_jvp
def _tanh(x: Array) -> Array:
    return jnp.tanh(x)


@_tanh.defjvps
def _(tangent: Array, _: Array, x: Array) -> Array:
    decay = jnp.exp(-2 * jnp.abs(x))
    return tangent * (4 * decay / jnp.square(1 + decay))


@_at_least_float32
def tanh(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Hyperbolic tangent, with the gradient `1 / cosh(x)**2` accurate in both tails.

    >>> tanh(jnp.array([-2.0, 0.0, 2.0]))
    Array([-0.964,  0.   ,  0.964], dtype=float32)
    """
    return _tanh(x)


@jax.custom_jvp
def _softplus(x: Array) -> Array:
    return jnp.where(x < 0, 0, x) + jnp.log1p(jnp.exp(-jnp.abs(x)))


_softplus.defjvps(lambda tangent, _, x: tangent * _sigmoid(x))


@_at_least_float32
def softplus(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Softplus, `log(1 + exp(x))`: a smooth relu whose gradient is the sigmoid.

    PyTorch returns `x` itself from `x = 20` on, which costs nothing in float32.

    Reference: Dugas et al., Incorporating second-order functional knowledge for better option
    pricing, 2000.

    >>> softplus(jnp.array([-2.0, 0.0, 2.0]))
    Array([0.1269, 0.6931, 2.1269], dtype=float32)
    """
    return _softplus(x)


@jax.custom_jvp
def _expm1(x: Array) -> Array:
    return jnp.expm1(x)


_expm1.defjvps(lambda tangent, _, x: tangent * jnp.exp(x))


@_at_least_float32
def elu(x: Float[ArrayLike, "..."], alpha: Float[ArrayLike, ""] = 1.0) -> Float[Array, "..."]:
    """Exponential linear unit, `x` where `x > 0` and `alpha * (exp(x) - 1)` elsewhere.

    Reference: Clevert, Unterthiner and Hochreiter, Fast and accurate deep network learning by
    exponential linear units, 2015.

    >>> elu(jnp.array([-2.0, 0.0, 2.0]))
    Array([-0.8647,  0.    ,  2.    ], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.where(x > 0, x, alpha * _expm1(jnp.where(x > 0, 0, x)))


_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


@_at_least_float32
def selu(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Scaled exponential linear unit, `1.0507 * elu(x, 1.6733)`.

    It keeps mean 0 and variance 1 from layer to layer. That holds for weights drawn from a normal
    distribution of variance 1 / inputs, the default of `jaxnet.dense` with this activation.

    Reference: Klambauer et al., Self-normalizing neural networks, 2017.

    >>> selu(jnp.array([-2.0, 0.0, 2.0]))
    Array([-1.5202,  0.    ,  2.1014], dtype=float32)
    """
    x = jnp.asarray(x)
    limit = float(jnp.finfo(x.dtype).max) / _SELU_SCALE * (1 - 1e-7)
    negative = _SELU_SCALE * _SELU_ALPHA * _expm1(jnp.where(x > 0, 0, x))
    return jnp.where(x > 0, _SELU_SCALE * _saturate(x, limit), negative)


# The input times a gate: silu and gelu.


def _head(x: Array) -> Array:
    """`x` with the lower half of its significand cleared: the product of two heads is exact."""
    info = jnp.finfo(x.dtype)
    integer = jnp.dtype(f"uint{info.bits}")
    bits = jax.lax.bitcast_convert_type(x, integer)
    mask = integer.type(2**info.bits - 2 ** (info.nmant // 2 + 1))
    return jax.lax.bitcast_convert_type(bits & mask, x.dtype)


def _sum(large: Array, small: Array) -> tuple[Array, Array]:
    """`large + small` and its rounding error, exactly (Dekker, 1971)."""
    total = large + small
    return total, small - (total - large)


def _square(x: Array) -> tuple[Array, Array]:
    """`x * x` and its rounding error."""
    head = _head(x)
    return _sum(head * head, (x - head) * (x + head))


@jax.custom_jvp
def _normal_density(x: Array) -> Array:
    """`exp(-x**2 / 2) / sqrt(2 pi)`."""
    square, error = _square(jnp.clip(x, -40, 40))
    scale = 1 / math.sqrt(2 * math.pi)
    return jnp.exp(-square / 2) * (scale - scale / 2 * error)


_normal_density.defjvps(lambda tangent, density, x: tangent * (-x * density))


def _polynomial(x: Array, *coefficients: float) -> Array:
    """`coefficients[0] + coefficients[1] * x + ...`, by Horner's rule."""
    *lower, a, b = coefficients
    return functools.reduce(lambda sum_, c: sum_ * x + c, reversed(lower), b * x + a)


# Both polynomials interpolate at the Chebyshev nodes of their interval.


def _normal_centre(x: Array) -> Array:
    """`(normal_distribution(x) - 1/2) / x` for `|x| <= 3/4`."""
    return _polynomial(x * x, 0.3989423, -0.0664903, 0.009972361, -0.0011813189, 0.000102970516)


def _normal_tail(x: Array) -> Array:
    """`normal_distribution(-x) / normal_density(x)`, Mills' ratio, for `3/4 <= x <= 14.5`."""
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
def _normal_distribution(x: Array) -> Array:
    """The probability that a standard normal variable is below `x`."""
    if x.dtype == jnp.float64:
        return jax.scipy.stats.norm.cdf(x)
    size = jnp.abs(x)
    centre = 0.5 + x * _normal_centre(jnp.clip(x, -0.75, 0.75))
    tail = _normal_density(x) * _normal_tail(jnp.clip(size, 0.75, 14.5))
    return jnp.where(size < 0.75, centre, jnp.where(x < 0, tail, 1 - tail))


_normal_distribution.defjvps(lambda tangent, _, x: tangent * _normal_density(x))


def _gated(x: Array, against: Array) -> Array:
    """`x * sigmoid(logit)`, given the odds against, `exp(-logit)`."""
    return x / (1 + against)


def _gated_derivative(x: Array, against: Array, slope: Array | int) -> Array:
    """`sigmoid(logit) * (1 + x * slope * sigmoid(-logit))`, given also the logit's `slope` in x."""
    complement = jnp.where(against == jnp.inf, 1, against / (1 + against))
    return (1 + x * slope * complement) / (1 + against)


@jax.custom_jvp
def _silu(x: Array) -> Array:
    return _gated(x, jnp.exp(-x))


_silu.defjvps(lambda tangent, _, x: tangent * _gated_derivative(x, jnp.exp(-x), 1))


@_at_least_float32
def silu(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Sigmoid linear unit, `x * sigmoid(x)`, also known as swish.

    Reference: Elfwing, Uchibe and Doya, Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning, 2017.

    >>> silu(jnp.array([-2.0, 0.0, 2.0]))
    Array([-0.2384,  0.    ,  1.7616], dtype=float32)
    """
    return _silu(x)


def _tanh_gate(x: Array) -> tuple[Array, Array]:
    """`exp(-logit)` and the slope of the logit, `a x + b x**3`.

    The gate is `(1 + tanh(logit / 2)) / 2 = sigmoid(logit)`.
    """
    x = jnp.clip(x, -25, 25)  # the gate is 0 or 1 beyond, in float64 too
    a = 2 * math.sqrt(2 / math.pi)
    b = a * 0.044715
    a_head, b_head = round(a * 2**11) / 2**11, round(b * 2**15) / 2**15
    square = x * x
    ratio = a + b * square
    x_head, square_head, ratio_head = _head(x), _head(square), _head(ratio)
    x_tail = x - x_head
    square_tail = (x_head * x_head - square_head) + x_tail * (x + x_head)
    ratio_tail = (
        (a_head - ratio_head)
        + b_head * square_head
        + ((a - a_head) + (b - b_head) * square_head + b * square_tail)
    )
    logit, error = _sum(x_head * ratio_head, x_tail * ratio + x_head * ratio_tail)
    return jnp.exp(-logit) * (1 - error), a + 3 * b * square


@jax.custom_jvp
def _tanh_gelu(x: Array) -> Array:
    return _gated(x, _tanh_gate(x)[0])


@_tanh_gelu.defjvps
def _(tangent: Array, _: Array, x: Array) -> Array:
    return tangent * _gated_derivative(jnp.clip(x, -25, 25), *_tanh_gate(x))


@_at_least_float32
def gelu(x: Float[ArrayLike, "..."], *, approximate: bool = False) -> Float[Array, "..."]:
    """Gaussian error linear unit, `x * P(normal variable < x)`, or its approximation by tanh.

    The approximation is `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2`; it differs by
    up to 5e-4. PyTorch and Keras take the exact form by default, as here; `jax.nn` and Flax take
    the approximation.

    Reference: Hendrycks and Gimpel, Gaussian error linear units, 2016.

    >>> gelu(jnp.array([-2.0, 0.0, 2.0]))
    Array([-0.0455,  0.    ,  1.9545], dtype=float32)
    >>> gelu(jnp.array([-2.0, 0.0, 2.0]), approximate=True)
    Array([-0.0454,  0.    ,  1.9546], dtype=float32)
    """
    x = jnp.asarray(x)
    return _tanh_gelu(x) if approximate else x * _normal_distribution(x)


# Softmax: x enters as its distance below the maximum, and the sum of the exponentials as 1 +
# others, so that neither a probability near 1 nor its complement is rounded to 1 or to 0.


def _below_maximum(x: Array, axis: int) -> Array:
    """`x - max(x)`, and -inf where all of x is -inf."""
    largest = jnp.max(x, axis, keepdims=True, initial=-jnp.inf)
    return x - jax.lax.stop_gradient(jnp.where(largest == -jnp.inf, 0, largest))


def _exponentials(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """`x - max(x)`, its exponential, and the sum of all the exponentials but one of the largest."""
    difference = _below_maximum(x, axis)
    exponentials = jnp.exp(difference)
    at_top = difference == 0
    lower = jnp.sum(jnp.where(at_top, 0, exponentials), axis, keepdims=True)
    top = jnp.sum(jnp.where(at_top, exponentials, 0), axis, keepdims=True)
    return difference, exponentials, lower + jnp.where(top == 0, 0, top - 1)


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


@_at_least_float32
def softmax(
    x: Float[ArrayLike, "..."], axis: int = -1, *, where: Bool[ArrayLike, "..."] | None = None
) -> Float[Array, "..."]:
    """Softmax, `exp(x_k) / sum_j exp(x_j)` along `axis`: logits to probabilities.

    Where the mask `where` is false, and where `x` is -inf, the probability is 0; if that is
    everywhere along the axis, all are 0.

    >>> softmax(jnp.array([34.0, 32.0, 25.0]))
    Array([0.8807, 0.1192, 0.0001], dtype=float32)
    """
    return _softmax(x if where is None else jnp.where(where, x, -jnp.inf), axis)


@_at_least_float32
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
    return _log_softmax(x if where is None else jnp.where(where, x, -jnp.inf), axis)
