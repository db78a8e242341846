"""Optimizers: update rules that turn gradients into updates of the parameters.

Each is an `optax.GradientTransformation`, a pair of pure functions

    init(parameters) -> state
    update(gradients, state, params) -> (updates, state)

The updates are added to the parameters (`optax.apply_updates`). jaxnet's optimizers and optax's are
interchangeable, and each equals the one of optax with the same arguments bit for bit. The fields of
the states have optax's names, so that `optax.tree.get(state, "count")` finds them, and `update`
ignores extra arguments that it does not need, such as `value`.

The learning rate is a number, a traced array or a schedule, a function from the number of steps so
far to the rate. The structure, shapes and dtypes of a state never change from step to step.

An optimizer can be pickled if its schedule and its mask can. optax's schedules cannot: they are
functions within functions, which pickle does not find by name.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

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
    """The number of steps so far."""

    count: Int[Array, ""]  # type: ignore[assignment]  # of tuples; the name is optax's


@checks.door
def gradient_descent(learning_rate: LearningRate) -> optax.GradientTransformation:
    """Gradient descent: `updates = -learning_rate * gradients`.

    With gradients of a random batch this is stochastic gradient descent. The rule is that of
    `optax.sgd(learning_rate)`.

    Args:
        learning_rate: at least 0; a number, a traced array or a schedule.

    Raises:
        ValueError, TypeError: a rate that is negative, non-finite or not a number; from `update`,
            gradients that do not match the parameters.

    Reference: Cauchy, Méthode générale pour la résolution des systèmes d'équations simultanées,
    1847; Robbins and Monro, A stochastic approximation method, 1951.

    >>> optimizer = gradient_descent(0.5)
    >>> optimizer.update(jnp.array([2.0]), optimizer.init(jnp.array([1.0])))[0]
    Array([-1.], dtype=float32)
    """
    learning_rate = _check_rate(learning_rate)
    return optax.GradientTransformation(
        checks.bind("gradient_descent", _init_gradient_descent),
        checks.bind("gradient_descent", _update_gradient_descent, learning_rate),
    )


def _init_gradient_descent(parameters: Parameters) -> GradientDescentState:
    trees.floats("parameters", parameters)
    return GradientDescentState(jnp.zeros((), jnp.int32))


def _update_gradient_descent(
    learning_rate: LearningRate,
    gradients: Parameters,
    state: GradientDescentState,
    params: Parameters | None = None,
    **others: Any,
) -> tuple[Parameters, GradientDescentState]:
    checks.instance("state", state, GradientDescentState)
    trees.floats("gradients", gradients)
    del others
    if params is not None:
        trees.same_tree("gradients", gradients, "the parameters", params)
    rate = _rate(learning_rate, state.count)
    return _descend(rate, gradients), GradientDescentState(_next(state.count))


class SgdState(NamedTuple):
    """The number of steps so far, and the trace, a decaying sum of past gradients."""

    count: Int[Array, ""]  # type: ignore[assignment]  # of tuples; the name is optax's
    trace: Parameters


@checks.door
def sgd(
    learning_rate: LearningRate, momentum: Number = 0.0, *, nesterov: bool = False
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum.

        trace = gradients + momentum * trace
        updates = -learning_rate * trace

    With `nesterov`, `updates = -learning_rate * (gradients + momentum * trace)`. Without
    momentum the rule is `gradient_descent`.

    Args:
        learning_rate: at least 0; a number, a traced array or a schedule.
        momentum: at least 0 and below 1.
        nesterov: whether to use Nesterov momentum.

    PyTorch's `SGD` with dampening 0 is the same rule. Keras multiplies the gradient by the rate
    before adding it to the trace, which differs under a schedule.

    Reference: Polyak, Some methods of speeding up the convergence of iteration methods, 1964;
    Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.

    >>> optimizer = sgd(0.5, momentum=0.9)
    >>> state = optimizer.init(jnp.array([1.0]))
    >>> updates, state = optimizer.update(jnp.array([2.0]), state)
    >>> optimizer.update(jnp.array([2.0]), state)[0]
    Array([-1.9], dtype=float32)
    """
    learning_rate = _check_rate(learning_rate)
    checks.number("momentum", momentum, 0, 1, below=True)
    checks.boolean("nesterov", nesterov)
    return optax.GradientTransformation(
        checks.bind("sgd", _init_sgd),
        checks.bind("sgd", _update_sgd, learning_rate, momentum, nesterov),
    )


def _init_sgd(parameters: Parameters) -> SgdState:
    trees.floats("parameters", parameters)
    return SgdState(jnp.zeros((), jnp.int32), _zeros_like(parameters))


def _update_sgd(
    learning_rate: LearningRate,
    momentum: Number,
    nesterov: bool,
    gradients: Parameters,
    state: SgdState,
    params: Parameters | None = None,
    **others: Any,
) -> tuple[Parameters, SgdState]:
    del params, others
    checks.instance("state", state, SgdState)
    trees.same_tree("gradients", gradients, "the parameters", state.trace)
    rate = _rate(learning_rate, state.count)

    def accumulate(g: Array, trace: Array) -> Array:
        return g + _cast(momentum, g) * trace

    trace = jax.tree.map(accumulate, gradients, state.trace)
    direction = jax.tree.map(accumulate, gradients, trace) if nesterov else trace
    return _descend(rate, direction), SgdState(_next(state.count), trace)


class AdamState(NamedTuple):
    """The number of steps so far, and decaying means of gradients (mu) and their squares (nu)."""

    count: Int[Array, ""]  # type: ignore[assignment]  # of tuples; the name is optax's
    mu: Parameters
    nu: Parameters


@checks.door
def adam(
    learning_rate: LearningRate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
) -> optax.GradientTransformation:
    """Adam, adaptive moment estimation.

        m = (1 - b1) * g + b1 * m                   decaying mean of the gradients g, `state.mu`
        v = (1 - b2) * g**2 + b2 * v                decaying mean of their squares, `state.nu`
        m_hat = m / (1 - b1**t)                     bias correction, since both start at 0
        v_hat = v / (1 - b2**t)
        updates = -learning_rate * m_hat / (sqrt(v_hat + eps_root) + eps)

    in step `t = 1, 2, ...`; a schedule is called with `t - 1`.

    Args:
        learning_rate: at least 0; a number, a traced array or a schedule.
        b1, b2: the decay rates of the two means, at least 0 and below 1.
        eps: at least 0; bounds the updates where gradients vanish. The default of Keras is 1e-7.
        eps_root: at least 0. A positive value keeps the derivative of the update finite at a
            gradient of 0, for differentiation through training.

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
    """Adam with decoupled weight decay.

        direction = m_hat / (sqrt(v_hat + eps_root) + eps)
        updates = -learning_rate * (direction + weight_decay * parameters)

    with `m_hat` and `v_hat` as in `adam`.

    Args:
        learning_rate, b1, b2, eps, eps_root: as in `adam`.
        weight_decay: at least 0. It is multiplied by the learning rate, as in PyTorch and optax but
            not in the paper. The default is optax's; that of PyTorch is 1e-2, of Keras 4e-3.
        mask: the parameters that decay, a tree of booleans like the parameters or a prefix of it,
            or a function from the parameters to such a tree. `None` for all parameters.

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
    learning_rate = _check_rate(learning_rate)
    checks.number("b1", b1, 0, 1, below=True)
    checks.number("b2", b2, 0, 1, below=True)
    checks.number("eps", eps, 0)
    checks.number("eps_root", eps_root, 0)
    fields = learning_rate, b1, b2, eps, eps_root, weight_decay, mask
    return optax.GradientTransformation(
        checks.bind(name, _init_adam), checks.bind(name, _update_adam, *fields)
    )


def _init_adam(parameters: Parameters) -> AdamState:
    trees.floats("parameters", parameters)
    zeros = jnp.zeros((), jnp.int32)
    return AdamState(zeros, _zeros_like(parameters), _zeros_like(parameters))


def _update_adam(
    learning_rate: LearningRate,
    b1: Number,
    b2: Number,
    eps: Number,
    eps_root: Number,
    weight_decay: Number | None,
    mask: Mask,
    gradients: Parameters,
    state: AdamState,
    params: Parameters | None = None,
    **others: Any,
) -> tuple[Parameters, AdamState]:
    del others
    checks.instance("state", state, AdamState)
    trees.same_tree("gradients", gradients, "the parameters", state.mu)
    decays = None if weight_decay is None else _decays(mask, gradients, params)
    rate = _rate(learning_rate, state.count)
    t = _next(state.count)
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

    m = jax.tree.map(mean, gradients, state.mu)
    v = jax.tree.map(mean_square, gradients, state.nu)
    directions = jax.tree.map(direction, m, v)
    if weight_decay is not None:
        directions = jax.tree.map(
            lambda d, p, decay: d + _cast(weight_decay, p) * p if decay else d,
            directions,
            params,
            decays,
        )
    return _descend(rate, directions), AdamState(t, m, v)


def _decays(mask: Mask, gradients: Parameters, parameters: Parameters | None) -> PyTree[bool]:
    """A tree of booleans: whether each parameter decays."""
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
    """The learning rate of a step."""
    rate = learning_rate(step) if callable(learning_rate) else learning_rate
    checks.scalar("the learning_rate of a step", rate)
    if isinstance(rate, (np.generic, np.ndarray, jax.Array)) and dtypes.is_integer(rate):
        return jnp.asarray(rate, jnp.float32)  # since an unsigned integer cannot be negated
    return rate


def _descend(rate: Number, directions: Parameters) -> Parameters:
    """`-rate * directions`."""
    return jax.tree.map(lambda d: _cast(-rate, d) * d, directions)


def _check_rate(learning_rate: LearningRate) -> LearningRate:
    if callable(learning_rate):
        return learning_rate
    return checks.number("learning_rate", learning_rate, 0)


def _cast(hyperparameter: ArrayLike, array: Array) -> Array:
    """Casts a hyperparameter to the array's dtype, so that bfloat16 is not promoted to float32."""
    return jnp.asarray(hyperparameter, array.dtype)


def _zeros_like(parameters: Parameters) -> Parameters:
    return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=jnp.result_type(p)), parameters)


def _next(step: Int[Array, ""]) -> Int[Array, ""]:
    """`step + 1`, saturated at the largest integer."""
    return jnp.where(step < np.iinfo(step.dtype).max, step + 1, step)
