"""Activation functions: the nonlinearities between the layers of a network.

The value and the gradient of every function are accurate to a few units in the last place over the
whole float32 range. A derivative in terms of the value, such as `s * (1 - s)`, cancels to zero in
the tails, so derivatives are written in forms without cancellation.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnet.core import arrays, checks
from jaxnet.nn import normal_cdf
from jaxnet.nn.network import Activation, name_function
from jaxnet.nn.precision import at_least_float32, largest, narrow, saturate, widen

# Piecewise linear.


@at_least_float32
def identity(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """The linear activation, `x`, for regression outputs and for losses that take logits.

    >>> identity(jnp.array([-2.0, 3.0]))
    Array([-2.,  3.], dtype=float32)
    """
    return jnp.asarray(x)


@at_least_float32
def relu(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Rectified linear unit, `max(x, 0)`.

    The gradient at 0 is 0, as in PyTorch, TensorFlow and `jax.nn`; the gradient of `jnp.maximum` is
    0.5. NaN stays NaN.

    Reference: Nair and Hinton, Rectified linear units improve restricted Boltzmann machines, 2010.

    >>> relu(jnp.array([-2.0, 0.0, 3.0]))
    Array([0., 0., 3.], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.where(x <= 0, 0, x)


@at_least_float32
def leaky_relu(
    x: Float[ArrayLike, "..."], negative_slope: Float[ArrayLike, ""] = 0.01
) -> Float[Array, "..."]:
    """Leaky rectified linear unit, `x` where `x > 0` and `negative_slope * x` elsewhere.

    Args:
        x: any shape.
        negative_slope: a number. The default is that of PyTorch and `jax.nn`; Keras uses 0.3.

    Reference: Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models,
    2013.

    >>> leaky_relu(jnp.array([-2.0, 3.0]))
    Array([-0.02,  3.  ], dtype=float32)
    """
    negative_slope = checks.number("negative_slope", negative_slope)
    x = jnp.asarray(x)
    return jnp.where(x > 0, x, negative_slope * x)


@jax.custom_jvp
def _step(x: Array) -> Array:
    return jnp.where(x >= 0, 1, jnp.where(x < 0, 0, x)).astype(x.dtype)


_step.defjvps(lambda tangent, _, x: jnp.zeros_like(tangent))


@at_least_float32
def binary_step(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Binary step, 1 where `x >= 0` and 0 elsewhere.

    The gradient is zero everywhere, so gradient descent cannot train the layers before it. Use
    `straight_through(binary_step)` for training.

    Reference: McCulloch and Pitts, A logical calculus of the ideas immanent in nervous activity,
    1943.

    >>> binary_step(jnp.array([-2.0, 0.0, 3.0]))
    Array([0., 1., 1.], dtype=float32)
    >>> float(jax.grad(binary_step)(0.5))
    0.0
    """
    return _step(x)


@checks.door
def straight_through(
    activation: Callable[[Array], Array], surrogate: Callable[[Array], Array] = identity
) -> Callable[[Array], Array]:
    """Makes an activation with the value of `activation` and the gradient of `surrogate`.

    Args:
        activation: the function whose value is used.
        surrogate: the function whose gradient is used. The default, the identity, is the estimator
            of Hinton's lectures. With `sigmoid` or `tanh` the gradient vanishes far from the
            threshold.

    Reference: Bengio, Leonard and Courville, Estimating or propagating gradients through stochastic
    neurons for conditional computation, 2013.

    >>> step = straight_through(binary_step)
    >>> float(step(0.5)), float(jax.grad(step)(0.5))
    (1.0, 1.0)
    """
    checks.function("activation", activation)
    checks.function("surrogate", surrogate)

    name = name_function(activation)
    estimator = checks.bind(name, _apply_estimator, activation, surrogate)
    vars(estimator).update(__name__=name, __wrapped__=activation)  # as `functools.wraps` would
    return estimator


def _apply_estimator(
    activation: Activation, surrogate: Activation, x: Float[ArrayLike, "..."]
) -> Float[Array, "..."]:
    x = arrays.floating("x", x)
    return narrow(_estimator(activation, surrogate, widen(x)), x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _estimator(activation: Activation, surrogate: Activation, x: Array) -> Array:
    return activation(x)


@_estimator.defjvp
def _(
    activation: Activation, surrogate: Activation, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    return activation(*primals), jax.jvp(surrogate, primals, tangents)[1]


# Smooth functions, computed from exp(-|x|), which neither overflows nor cancels.


@jax.custom_jvp
def _sigmoid(x: Array) -> Array:
    decay = jnp.exp(-jnp.abs(x))
    return jnp.where(x < 0, decay, 1) / (1 + decay)


@_sigmoid.defjvps
def _(tangent: Array, _: Array, x: Array) -> Array:
    decay = jnp.exp(-jnp.abs(x))
    return tangent * (decay / jnp.square(1 + decay))


@at_least_float32
def sigmoid(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Logistic sigmoid, `1 / (1 + exp(-x))`.

    The gradient is `sigmoid(x) * sigmoid(-x)`, accurate in both tails. In `jax.nn` and PyTorch,
    which use `s * (1 - s)`, it is exactly 0 from `x = 17` on, where the true value is 4e-8.

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


@at_least_float32
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


@at_least_float32
def softplus(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Softplus, `log(1 + exp(x))`: a smooth relu whose gradient is the sigmoid.

    PyTorch returns `x` from `x = 20` on, which is exact in float32.

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


@at_least_float32
def elu(x: Float[ArrayLike, "..."], alpha: Float[ArrayLike, ""] = 1.0) -> Float[Array, "..."]:
    """Exponential linear unit, `x` where `x > 0` and `alpha * (exp(x) - 1)` elsewhere.

    Args:
        x: any shape.
        alpha: a number; `-alpha` is the limit at minus infinity.

    Reference: Clevert, Unterthiner and Hochreiter, Fast and accurate deep network learning by
    exponential linear units, 2015.

    >>> elu(jnp.array([-2.0, 0.0, 2.0]))
    Array([-0.8647,  0.    ,  2.    ], dtype=float32)
    """
    alpha = checks.number("alpha", alpha)
    x = jnp.asarray(x)
    return jnp.where(x > 0, x, alpha * _expm1(jnp.where(x > 0, 0, x)))


_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


@at_least_float32
def selu(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Scaled exponential linear unit, `1.0507 * elu(x, 1.6733)`.

    It preserves mean 0 and variance 1 from layer to layer if the weights are drawn from a normal
    distribution with variance 1 / inputs, the default of `jaxnet.dense` with this activation.

    Reference: Klambauer et al., Self-normalizing neural networks, 2017.

    >>> selu(jnp.array([-2.0, 0.0, 2.0]))
    Array([-1.5202,  0.    ,  2.1014], dtype=float32)
    """
    x = jnp.asarray(x)
    limit = largest(x.dtype) / _SELU_SCALE * (1 - 1e-7)
    negative = _SELU_SCALE * _SELU_ALPHA * _expm1(jnp.where(x > 0, 0, x))
    return jnp.where(x > 0, _SELU_SCALE * saturate(x, limit), negative)


# The input times a gate: silu and gelu.


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


@at_least_float32
def silu(x: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Sigmoid linear unit, `x * sigmoid(x)`, also known as swish.

    Reference: Elfwing, Uchibe and Doya, Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning, 2017.

    >>> silu(jnp.array([-2.0, 0.0, 2.0]))
    Array([-0.2384,  0.    ,  1.7616], dtype=float32)
    """
    return _silu(x)


@jax.custom_jvp
def _tanh_gelu(x: Array) -> Array:
    return _gated(x, normal_cdf.gelu_gate(x)[0])


@_tanh_gelu.defjvps
def _(tangent: Array, _: Array, x: Array) -> Array:
    return tangent * _gated_derivative(jnp.clip(x, -25, 25), *normal_cdf.gelu_gate(x))


@at_least_float32
def gelu(x: Float[ArrayLike, "..."], *, approximate: bool = False) -> Float[Array, "..."]:
    """Gaussian error linear unit, `x * P(normal variable < x)`, or its approximation by tanh.

    Args:
        x: any shape.
        approximate: whether to compute `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2`,
            which differs by up to 5e-4. PyTorch and Keras use the exact form by default, as jaxnet
            does; `jax.nn` and Flax use the approximation.

    Reference: Hendrycks and Gimpel, Gaussian error linear units, 2016.

    >>> gelu(jnp.array([-2.0, 0.0, 2.0]))
    Array([-0.0455,  0.    ,  1.9545], dtype=float32)
    >>> gelu(jnp.array([-2.0, 0.0, 2.0]), approximate=True)
    Array([-0.0454,  0.    ,  1.9546], dtype=float32)
    """
    checks.boolean("approximate", approximate)
    x = jnp.asarray(x)
    return _tanh_gelu(x) if approximate else x * normal_cdf.cumulative(x)
