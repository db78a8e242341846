"""Optimizers: the rules that turn gradients into updates of the parameters.

Each is an `optax.GradientTransformation`, a pair of pure functions

    init(parameters) -> state
    update(gradients, state, parameters) -> (updates, state)

whose updates are to be added to the parameters (`optax.apply_updates`), so these work wherever
optax's do and optax's work wherever these do. Each equals optax's of the same arguments bit
for bit.

The learning rate is a number, a traced array or a schedule: a function from the number of steps
made so far to the rate (optax has many). A state's structure, shapes and dtypes never change from
step to step.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from jaxnet.core import checks, dtypes, trees

Number = float | Float[Array, ""]
LearningRate = Number | Callable[[Int[Array, ""]], Number]
Parameters: TypeAlias = PyTree[Float[Array, "..."]]
Mask: TypeAlias = PyTree[bool] | Callable[[Parameters], PyTree[bool]] | None


class GradientDescentState(NamedTuple):
    """The number of steps made."""

    step: Int[Array, ""]


@checks.door
def gradient_descent(learning_rate: LearningRate) -> optax.GradientTransformation:
    """Gradient descent: `updates = -learning_rate * gradients`.

    With the gradients of all the data it is gradient descent proper; with those of a random batch,
    stochastic gradient descent. `optax.sgd(learning_rate)` is the same rule.

    Args:
        learning_rate: at least 0; a number, a traced array or a schedule.

    Raises:
        ValueError, TypeError: a rate that is negative, not finite or not a number; and, when
            updating with parameters given, gradients that do not match them.

    Reference: Cauchy, Méthode générale pour la résolution des systèmes d'équations simultanées,
    1847; Robbins and Monro, A stochastic approximation method, 1951.

    >>> optimizer = gradient_descent(0.5)
    >>> optimizer.update(jnp.array([2.0]), optimizer.init(jnp.array([1.0])))[0]
    Array([-1.], dtype=float32)
    """
    learning_rate = _checked_rate(learning_rate)

    def init(parameters: Parameters) -> GradientDescentState:
        trees.floats("parameters", parameters)
        return GradientDescentState(jnp.zeros((), jnp.int32))

    def update(
        gradients: Parameters, state: GradientDescentState, parameters: Parameters | None = None
    ) -> tuple[Parameters, GradientDescentState]:
        checks.instance("state", state, GradientDescentState)
        trees.floats("gradients", gradients)
        if parameters is not None:
            trees.same_tree("gradients", gradients, "the parameters", parameters)
        rate = _rate(learning_rate, state.step)
        updates = _descend(rate, gradients)
        return updates, GradientDescentState(_next(state.step))

    return optax.GradientTransformation(
        checks.door(init, "gradient_descent"), checks.door(update, "gradient_descent")
    )


class SgdState(NamedTuple):
    """The number of steps made, and the velocity: a decaying sum of past gradients."""

    step: Int[Array, ""]
    velocity: Parameters


@checks.door
def sgd(
    learning_rate: LearningRate, *, momentum: Number = 0.0, nesterov: bool = False
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum.

        velocity = gradients + momentum * velocity
        updates = -learning_rate * velocity

    and with `nesterov`, `updates = -learning_rate * (gradients + momentum * velocity)`, which looks
    one step ahead. Without momentum it is `gradient_descent`.

    Args:
        learning_rate: at least 0; a number, a traced array or a schedule.
        momentum: at least 0 and below 1.
        nesterov: whether to look ahead.

    PyTorch's `SGD` with dampening 0 is the same; Keras multiplies the gradient by the rate before
    it enters the velocity, which differs under a schedule.

    Reference: Polyak, Some methods of speeding up the convergence of iteration methods, 1964;
    Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.

    >>> optimizer = sgd(0.5, momentum=0.9)
    >>> state = optimizer.init(jnp.array([1.0]))
    >>> updates, state = optimizer.update(jnp.array([2.0]), state)
    >>> optimizer.update(jnp.array([2.0]), state)[0]
    Array([-1.9], dtype=float32)
    """
    learning_rate = _checked_rate(learning_rate)
    checks.number("momentum", momentum, 0, 1, below=True)
    checks.boolean("nesterov", nesterov)

    def init(parameters: Parameters) -> SgdState:
        trees.floats("parameters", parameters)
        return SgdState(jnp.zeros((), jnp.int32), _zeros_like(parameters))

    def update(
        gradients: Parameters, state: SgdState, parameters: Parameters | None = None
    ) -> tuple[Parameters, SgdState]:
        del parameters
        checks.instance("state", state, SgdState)
        trees.same_tree("gradients", gradients, "the parameters", state.velocity)
        rate = _rate(learning_rate, state.step)

        def accumulate(g: Array, velocity: Array) -> Array:
            return g + _cast(momentum, g) * velocity

        velocity = jax.tree.map(accumulate, gradients, state.velocity)
        direction = jax.tree.map(accumulate, gradients, velocity) if nesterov else velocity
        return _descend(rate, direction), SgdState(_next(state.step), velocity)

    return optax.GradientTransformation(checks.door(init, "sgd"), checks.door(update, "sgd"))


class AdamState(NamedTuple):
    """The number of steps made, and decaying means of the gradients (m) and their squares (v)."""

    step: Int[Array, ""]
    m: Parameters
    v: Parameters


@checks.door
def adam(
    learning_rate: LearningRate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
) -> optax.GradientTransformation:
    """Adam: steps of about the learning rate, whatever the size of the gradients.

        m = (1 - b1) * g + b1 * m                   decaying mean of the gradients
        v = (1 - b2) * g**2 + b2 * v                ... and of their squares
        m_hat = m / (1 - b1**t)                     both start at 0: correct for that
        v_hat = v / (1 - b2**t)
        updates = -learning_rate * m_hat / (sqrt(v_hat + eps_root) + eps)

    in step `t = 1, 2, ...`; a schedule is asked for step `t - 1`.

    Args:
        learning_rate: at least 0; a number, a traced array or a schedule.
        b1, b2: decay of the two means, at least 0 and below 1.
        eps: at least 0; bounds the updates where gradients vanish. Keras adds 1e-7.
        eps_root: at least 0; above 0 keeps the derivative of the update finite at a gradient of 0,
            for gradients through the training itself.

    Reference: Kingma and Ba, Adam: a method for stochastic optimization, 2014.

    >>> optimizer = adam(0.1)
    >>> optimizer.update(jnp.array([2.0, -5.0]), optimizer.init(jnp.array([1.0, 1.0])))[0]
    Array([-0.1,  0.1], dtype=float32)
    """
    return _adam("adam", learning_rate, b1, b2, eps, eps_root)


@checks.door
def adamw(
    learning_rate: LearningRate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    weight_decay: Number = 1e-4,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay: the parameters shrink apart from the adaptive step.

        direction = m_hat / (sqrt(v_hat + eps_root) + eps)
        updates = -learning_rate * (direction + weight_decay * parameters)

    with `m_hat` and `v_hat` as in `adam`.

    Args:
        learning_rate, b1, b2, eps, eps_root: as in `adam`.
        weight_decay: at least 0. It is multiplied by the learning rate, as in PyTorch and optax;
            the paper does not. The default is optax's; PyTorch's is 1e-2, Keras' 4e-3.
        mask: which parameters decay, as a tree of booleans like the parameters or a prefix of it,
            or a function from the parameters to one. `None`: all do.

    Reference: Loshchilov and Hutter, Decoupled weight decay regularization, 2017.

    >>> optimizer = adamw(0.1, weight_decay=0.5)
    >>> parameters = jnp.array([1.0])
    >>> optimizer.update(jnp.array([2.0]), optimizer.init(parameters), parameters)[0]
    Array([-0.15], dtype=float32)
    """
    checks.number("weight_decay", weight_decay, 0)
    return _adam("adamw", learning_rate, b1, b2, eps, eps_root, weight_decay, mask)


def _adam(
    name: str,
    learning_rate: LearningRate,
    b1: Number,
    b2: Number,
    eps: Number,
    eps_root: Number,
    weight_decay: Number | None = None,
    mask: Mask = None,
) -> optax.GradientTransformation:
    learning_rate = _checked_rate(learning_rate)
    checks.number("b1", b1, 0, 1, below=True)
    checks.number("b2", b2, 0, 1, below=True)
    checks.number("eps", eps, 0)
    checks.number("eps_root", eps_root, 0)

    def init(parameters: Parameters) -> AdamState:
        trees.floats("parameters", parameters)
        zeros = jnp.zeros((), jnp.int32)
        return AdamState(zeros, _zeros_like(parameters), _zeros_like(parameters))

    def update(
        gradients: Parameters, state: AdamState, parameters: Parameters | None = None
    ) -> tuple[Parameters, AdamState]:
        checks.instance("state", state, AdamState)
        trees.same_tree("gradients", gradients, "the parameters", state.m)
        decays = None if weight_decay is None else _decays(mask, gradients, parameters)
        rate = _rate(learning_rate, state.step)
        t = _next(state.step)
        m_correction = 1 - jax.lax.pow(jnp.asarray(b1), t)
        v_correction = 1 - jax.lax.pow(jnp.asarray(b2), t)

        def mean(g: Array, m: Array) -> Array:
            return _cast(1 - b1, g) * g + _cast(b1, g) * m

        def mean_square(g: Array, v: Array) -> Array:
            return _cast(1 - b2, g) * g**2 + _cast(b2, g) * v

        def direction(m: Array, v: Array) -> Array:
            m_hat = m / m_correction.astype(m.dtype)
            v_hat = v / v_correction.astype(v.dtype)
            return m_hat / (jnp.sqrt(v_hat + _cast(eps_root, v)) + _cast(eps, v))

        m = jax.tree.map(mean, gradients, state.m)
        v = jax.tree.map(mean_square, gradients, state.v)
        directions = jax.tree.map(direction, m, v)
        if weight_decay is not None:
            directions = jax.tree.map(
                lambda d, p, decay: d + _cast(weight_decay, p) * p if decay else d,
                directions,
                parameters,
                decays,
            )
        return _descend(rate, directions), AdamState(t, m, v)

    return optax.GradientTransformation(checks.door(init, name), checks.door(update, name))


def _decays(mask: Mask, gradients: Parameters, parameters: Parameters | None) -> PyTree[bool]:
    """Whether each parameter decays."""
    if parameters is None:
        raise checks.InvalidValue("expected update(gradients, state, parameters). Received: None")
    trees.same_tree("gradients", gradients, "the parameters", parameters)
    mask = mask(parameters) if callable(mask) else True if mask is None else mask
    for leaf in jax.tree.leaves(mask):
        checks.boolean("each leaf of mask", leaf)
    try:
        return jax.tree.broadcast(mask, parameters)
    except ValueError:
        raise checks.InvalidValue(
            f"expected a mask like the parameters, or a prefix of them.\n"
            f"Expected: {trees.describe(parameters)}\nReceived: {checks.shorten(str(mask))}"
        ) from None


def _rate(learning_rate: LearningRate, step: Int[Array, ""]) -> Number:
    """The learning rate of that step."""
    rate = learning_rate(step) if callable(learning_rate) else learning_rate
    checks.scalar("the learning_rate of a step", rate)
    if isinstance(rate, (np.generic, np.ndarray, jax.Array)) and dtypes.is_integer(rate):
        return jnp.asarray(rate, jnp.float32)  # as -1 is no unsigned integer
    return rate


def _descend(rate: Number, directions: Parameters) -> Parameters:
    """`-rate * directions`."""
    return jax.tree.map(lambda d: _cast(-rate, d) * d, directions)


def _checked_rate(learning_rate: LearningRate) -> LearningRate:
    if callable(learning_rate):
        return learning_rate
    return checks.number("learning_rate", learning_rate, 0)


def _cast(hyperparameter: ArrayLike, array: Array) -> Array:
    """The hyperparameter in the array's dtype: no float32 rate turns bfloat16 into float32."""
    return jnp.asarray(hyperparameter, array.dtype)


def _zeros_like(parameters: Parameters) -> Parameters:
    return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=jnp.result_type(p)), parameters)


def _next(step: Int[Array, ""]) -> Int[Array, ""]:
    """`step + 1`, but the largest integer stays."""
    return jnp.where(step < np.iinfo(step.dtype).max, step + 1, step)
