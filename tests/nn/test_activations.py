"""Activations against mpmath, over the whole range of every floating-point type."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import helpers
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mp

import jaxnet

UNITS = 8  # in the last place, of float32: what jaxnet.activations promises


def elementwise_gradient(function):
    """The derivative of `function`, for every element of a vector."""
    return jax.vmap(jax.grad(function))


# The exact functions and their derivatives, in forms that keep their digits in the tails.


def _near(x):
    """`x` clipped to where every exponential of it still counts: exp(-3000) times anything is 0."""
    return min(max(x, mpmath.mpf(-3000)), mpmath.mpf(3000))


def _logistic(x):
    return 1 / (1 + mp.exp(-_near(x)))


def _logistic_slope(x):
    return _logistic(x) * _logistic(-x)


def _softplus(x):
    return mp.log1p(mp.exp(_near(x))) if x < 3000 else x


def _expm1(x):
    return mp.expm1(_near(x))


@functools.cache
def _selu_constants():
    """The alpha and scale that keep mean 0 and variance 1 (Klambauer et al., 2017, eq. 14)."""
    one, two = mp.erfc(1 / mp.sqrt(2)), mp.erfc(mp.sqrt(2))
    root = mp.sqrt(mp.e)
    alpha = -mp.sqrt(2 / mp.pi) / (one * root - 1)
    inner = 2 * two * mp.e**2 + mp.pi * one**2 * mp.e - 2 * (2 + mp.pi) * one * root + mp.pi + 2
    return alpha, (1 - one * root) * mp.sqrt(2 * mp.pi) / mp.sqrt(inner)


def _selu(x):
    alpha, scale = _selu_constants()
    return scale * x if x > 0 else scale * alpha * _expm1(x)


def _selu_slope(x):
    alpha, scale = _selu_constants()
    return scale if x > 0 else scale * alpha * mp.exp(_near(x))


def _silu_slope(x):
    return _logistic(x) + x * _logistic_slope(x)


def _gelu(x):
    return x * mp.ncdf(max(min(x, 100), -100))


def _gelu_slope(x):
    near = max(min(x, 100), -100)
    return mp.ncdf(near) + near * mp.npdf(near)


def _tanh_gelu_logit(x):
    return 2 * mp.sqrt(2 / mp.pi) * (x + mpmath.mpf("0.044715") * x**3)


def _tanh_gelu(x):
    return x * _logistic(_tanh_gelu_logit(x))


def _tanh_gelu_slope(x):
    logit = _tanh_gelu_logit(x)
    slope = 2 * mp.sqrt(2 / mp.pi) * (1 + 3 * mpmath.mpf("0.044715") * x**2)
    return _logistic(logit) + x * slope * _logistic_slope(logit)


class Case(NamedTuple):
    function: Callable
    value: Callable
    slope: Callable
    zero: float = -np.inf  # where the slope crosses zero


def _pair(function):
    """`function`, a softmax, of two classes with logits x and 0: a function of x alone."""
    return lambda x: function(jnp.stack([x, jnp.zeros_like(x)], -1))[..., 0]


CASES = {
    "identity": Case(jaxnet.identity, lambda x: x, lambda x: 1),
    "relu": Case(jaxnet.relu, lambda x: max(x, 0), lambda x: int(x > 0)),
    "leaky_relu": Case(
        jaxnet.leaky_relu,
        lambda x: x if x > 0 else x / 100,
        lambda x: 1 if x > 0 else mpmath.mpf("0.01"),
    ),
    "leaky_relu(0.25)": Case(
        functools.partial(jaxnet.leaky_relu, negative_slope=0.25),
        lambda x: x if x > 0 else x / 4,
        lambda x: 1 if x > 0 else 0.25,
    ),
    "sigmoid": Case(jaxnet.sigmoid, _logistic, _logistic_slope),
    "tanh": Case(jaxnet.tanh, lambda x: mp.tanh(_near(x)), lambda x: mp.sech(_near(x)) ** 2),
    "softplus": Case(jaxnet.softplus, _softplus, _logistic),
    "elu": Case(
        jaxnet.elu,
        lambda x: x if x > 0 else _expm1(x),
        lambda x: 1 if x > 0 else mp.exp(_near(x)),
    ),
    "elu(0.75)": Case(
        functools.partial(jaxnet.elu, alpha=0.75),
        lambda x: x if x > 0 else 0.75 * _expm1(x),
        lambda x: 1 if x > 0 else 0.75 * mp.exp(_near(x)),
    ),
    "selu": Case(jaxnet.selu, _selu, _selu_slope),
    "silu": Case(jaxnet.silu, lambda x: x * _logistic(x), _silu_slope, zero=-1.2784645),
    "gelu": Case(jaxnet.gelu, _gelu, _gelu_slope, zero=-0.7517916),
    "gelu(tanh)": Case(
        functools.partial(jaxnet.gelu, approximate=True),
        _tanh_gelu,
        _tanh_gelu_slope,
        zero=-0.7524615,
    ),
    "binary_step": Case(jaxnet.binary_step, lambda x: int(x >= 0), lambda x: 0),
    "straight_through": Case(
        jaxnet.straight_through(jaxnet.binary_step, jaxnet.tanh),
        lambda x: int(x >= 0),
        lambda x: mp.sech(_near(x)) ** 2,
    ),
    "softmax": Case(_pair(jaxnet.softmax), _logistic, _logistic_slope),
    "log_softmax": Case(
        _pair(jaxnet.log_softmax), lambda x: -_softplus(-x), lambda x: _logistic(-x)
    ),
}
every_activation = pytest.mark.parametrize("name", CASES)
POINTS = {
    np.float32: helpers.sampled(np.float32, (-105, 20)),
    np.float64: helpers.sampled(np.float64, (-750, 40))[::3],
}


@functools.cache
def _exact(name, dtype):
    """Points, exact values, exact slopes, and the sizes at which units of the slopes are taken."""
    case, points = CASES[name], POINTS[dtype]
    unit_of = np.where(np.abs(points - case.zero) < 0.5, 0.1, 0)
    values, slopes = (helpers.exact(f, points) for f in (case.value, case.slope))
    return points, values, slopes, unit_of


@every_activation
def test_compiled(name):
    points, values, slopes, unit_of = _exact(name, np.float32)
    function = CASES[name].function
    helpers.assert_units(jax.jit(function)(points), values, UNITS)
    gradient = jax.jit(elementwise_gradient(function))
    helpers.assert_units(gradient(points), slopes, UNITS, unit_of=unit_of)


@every_activation
def test_op_by_op(name):
    points, values, slopes, unit_of = (array[::8] for array in _exact(name, np.float32))
    function = CASES[name].function
    helpers.assert_units(function(points), values, UNITS)
    helpers.assert_units(elementwise_gradient(function)(points), slopes, UNITS, unit_of=unit_of)


@every_activation
def test_float64(name):
    """To 1e-14, 45 units in the last place.

    The exact gelu is in float64 not held to more than JAX's own normal distribution, which rounds
    the x**2 / 2 of its exp(-x**2 / 2): three roundings, each a relative error of up to x**2 / 2
    half units. The tanh form has two constants that are rounded to float64, by half a unit each,
    in the argument of its exponential.
    """
    points, values, slopes, unit_of = _exact(name, np.float64)
    size = np.clip(np.abs(points), 0, 40)
    amplified = {"gelu": size**2, "gelu(tanh)": 1.6 * size + 0.0714 * size**3}
    allowed = 45 + amplified.get(name, 0)
    function = CASES[name].function
    with jax.enable_x64(True):
        value, gradient = jax.jit(function)(points), jax.jit(elementwise_gradient(function))(points)
    assert value.dtype == gradient.dtype == jnp.float64
    helpers.assert_units(value, values, allowed, dtype=np.float64)
    helpers.assert_units(gradient, slopes, allowed, dtype=np.float64, unit_of=unit_of)


@every_activation
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision(name, dtype):
    """At every finite number of the type: the value of float32, rounded, and nothing overflows."""
    points = np.arange(2**16, dtype=np.uint16).view(dtype)
    points = points[np.isfinite(points.astype(np.float32))]
    function = CASES[name].function
    value, gradient = jax.jit(function)(points), jax.jit(elementwise_gradient(function))(points)
    assert value.dtype == gradient.dtype == dtype
    assert jnp.isfinite(gradient).all()
    single = jax.jit(function)(points.astype(np.float32))
    helpers.assert_units(value, single, 1, dtype=dtype)


@every_activation
def test_nan_stays(name):
    assert jnp.isnan(CASES[name].function(jnp.array([jnp.nan]))).all()


@every_activation
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_shape_stays(name, shape):
    assert jax.eval_shape(CASES[name].function, jnp.zeros(shape)).shape == shape


NAMED = [
    *(name for name in CASES if "(" not in name and name != "straight_through"),
    "gelu",
]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_, jnp.complex64])
def test_refuses_what_is_not_floating_point(name, dtype):
    with helpers.refused(TypeError, f"{name}: expected floating-point x", np.dtype(dtype).name):
        getattr(jaxnet, name)(jnp.ones([2, 2], dtype))


def test_straight_through_refuses_integers():
    with helpers.refused(TypeError, "binary_step: expected floating-point x", "int32"):
        jaxnet.straight_through(jaxnet.binary_step)(jnp.ones([2], jnp.int32))


# Where the definition leaves a choice.


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize(
    ("name", "value", "slope"),
    [("relu", 0, 0), ("leaky_relu", 0, 0.01), ("elu", 0, 1), ("binary_step", 1, 0)],
)
def test_at_zero(name, value, slope, zero):
    function = getattr(jaxnet, name)
    assert function(jnp.array(zero)) == value
    assert jax.grad(function)(jnp.array(zero)) == np.float32(slope)


# straight_through


@pytest.mark.parametrize(
    "transform", [lambda f: f, jax.jit, jax.vmap], ids=["plain", "jit", "vmap"]
)
@pytest.mark.parametrize("surrogate", ["identity", "sigmoid", "tanh"])
def test_straight_through(surrogate, transform):
    surrogate = getattr(jaxnet, surrogate)
    step = jaxnet.straight_through(jaxnet.binary_step, surrogate)
    x = jnp.linspace(-3, 3, 13)
    np.testing.assert_array_equal(transform(step)(x), jaxnet.binary_step(x))
    received = transform(
        elementwise_gradient(step) if transform is not jax.vmap else jax.grad(step)
    )(x)
    np.testing.assert_allclose(received, elementwise_gradient(surrogate)(x), 1e-6)


@functools.partial(jax.jit, static_argnums=0)
def _train_on_xor(activation):
    """The cost after training 8 hidden neurons on XOR, and the first gradient of their weights."""
    inputs = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    targets = jnp.array([0.0, 1.0, 1.0, 0.0])

    def cost(params):
        hidden = activation(inputs @ params["hidden"] + jnp.broadcast_to(params["bias"], [4, 8]))
        logits = hidden @ params["output"]
        return jnp.mean(jnp.logaddexp(0.0, logits) - targets * logits)

    def step(params, _):
        return jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(cost)(params)), None

    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"bias": [8], "hidden": [2, 8], "output": [8]}
    params = {
        name: jax.random.normal(keys[i], shape) for i, (name, shape) in enumerate(shapes.items())
    }
    trained, _ = jax.lax.scan(step, params, None, 1000)
    return cost(trained), jax.grad(cost)(params)["hidden"]


def test_step_neurons_train_on_xor_with_straight_through():
    surrogate = jaxnet.straight_through(jaxnet.binary_step, jaxnet.sigmoid)
    cost, gradient = _train_on_xor(surrogate)
    assert cost < 0.05
    assert (gradient != 0).any()


def test_step_neurons_have_no_gradient_of_their_own():
    assert (_train_on_xor(jaxnet.binary_step)[1] == 0).all()
