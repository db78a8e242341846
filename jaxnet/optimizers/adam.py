"""Adam, and its variants with weight decay and with Nesterov momentum."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Int

from jaxnet.core import checks
from jaxnet.optimizers import rule
from jaxnet.optimizers.rule import LearningRate, Mask, Number, Parameters


class AdamState(NamedTuple):
    """The number of steps so far, and decaying means of gradients (mu) and their squares (nu)."""

    count: Int[Array, ""]  # type: ignore[assignment]  # of tuples; the name is optax's
    mu: Parameters
    nu: Parameters


@checks.door
def adam(
    learning_rate: LearningRate,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Adam, adaptive moment estimation.

        m = (1 - b1) * g + b1 * m                   decaying mean of the gradients g, `state.mu`
        v = (1 - b2) * g**2 + b2 * v                decaying mean of their squares, `state.nu`
        m_hat = m / (1 - b1**t)                     bias correction, since both start at 0
        v_hat = v / (1 - b2**t)
        updates = -learning_rate * m_hat / (sqrt(v_hat + eps_root) + eps)

    in step `t = 1, 2, ...`; a schedule is called with `t - 1`. For complex gradients, `g**2` is
    `|g|**2`.

    Args:
        learning_rate: at least 0; a number, a traced array or a schedule.
        b1, b2: the decay rates of the two means, at least 0 and below 1.
        eps: at least 0; bounds the updates where gradients vanish. The default of Keras is 1e-7.
        eps_root: at least 0. A positive value keeps the derivative of the update finite at a
            gradient of 0, for differentiation through training.
        mu_dtype: the dtype of `mu`; by default that of the parameters.
        nesterov: whether to use Nesterov momentum, as in `nadam`.

    Reference: Kingma and Ba, Adam: a method for stochastic optimization, 2014.

    >>> optimizer = adam(0.1)
    >>> optimizer.update(jnp.array([2.0, -5.0]), optimizer.init(jnp.array([1.0, 1.0])))[0]
    Array([-0.1,  0.1], dtype=float32)
    """
    fields = b1, b2, eps, eps_root, nesterov
    return _make_adam("adam", learning_rate, fields, mu_dtype)


@checks.door
def adamw(
    learning_rate: LearningRate,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: DTypeLike | None = None,
    weight_decay: LearningRate = 1e-4,
    mask: Mask = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay.

        direction = m_hat / (sqrt(v_hat + eps_root) + eps)
        updates = -learning_rate * (direction + weight_decay * parameters)

    with `m_hat` and `v_hat` as in `adam`.

    Args:
        learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov: as in `adam`.
        weight_decay: at least 0; a number, a traced array or a schedule. It is multiplied by the
            learning rate, as in PyTorch and optax but not in the paper. The default is optax's;
            that of PyTorch is 1e-2, of Keras 4e-3. The decay of a bfloat16 parameter is computed
            in bfloat16, in optax in float32 if it is given by an array or a schedule.
        mask: the parameters that decay, a tree of booleans like the parameters or a prefix of it,
            or a function from the parameters to such a tree. `None` for all parameters.

    Reference: Loshchilov and Hutter, Decoupled weight decay regularization, 2017.

    >>> optimizer = adamw(0.1, weight_decay=0.5)
    >>> parameters = jnp.array([1.0])
    >>> optimizer.update(jnp.array([2.0]), optimizer.init(parameters), parameters)[0]
    Array([-0.15], dtype=float32)
    """
    fields = b1, b2, eps, eps_root, nesterov
    decay = rule.check_rate("weight_decay", weight_decay), mask
    return _make_adam("adamw", learning_rate, fields, mu_dtype, decay)


@checks.door
def nadam(
    learning_rate: LearningRate,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformation:
    """Adam with Nesterov momentum, `optax.nadam`.

        m_hat = b1 * m / (1 - b1**(t + 1)) + (1 - b1) * g / (1 - b1**t)
        updates = -learning_rate * m_hat / (sqrt(v_hat + eps_root) + eps)

    with `m` and `v_hat` as in `adam`.

    Args:
        learning_rate, b1, b2, eps, eps_root, mu_dtype: as in `adam`.

    PyTorch and Keras also let the decay rate `b1` grow from step to step. The paper multiplies
    `v_hat` by `b2` as well.

    Reference: Dozat, Incorporating Nesterov momentum into Adam, 2016.

    >>> optimizer = nadam(0.1)
    >>> optimizer.update(jnp.array([2.0]), optimizer.init(jnp.array([1.0])))[0]
    Array([-0.1474], dtype=float32)
    """
    return _make_adam("nadam", learning_rate, (b1, b2, eps, eps_root, True), mu_dtype)


def _make_adam(
    name: str,
    learning_rate: LearningRate,
    fields: tuple[Number, Number, Number, Number, bool],
    mu_dtype: DTypeLike | None,
    decay: tuple[LearningRate, Mask] | None = None,
) -> optax.GradientTransformation:
    b1, b2, eps, eps_root, nesterov = fields
    learning_rate = rule.check_rate("learning_rate", learning_rate)
    rule.check_decay("b1", b1)
    rule.check_decay("b2", b2)
    checks.number("eps", eps, 0)
    checks.number("eps_root", eps_root, 0)
    checks.boolean("nesterov", nesterov)
    return rule.make_optimizer(
        name,
        _init_adam,
        _update_adam,
        starts=(rule.check_dtype("mu_dtype", mu_dtype),),
        fields=(learning_rate, *fields, decay),
    )


def _init_adam(mu_dtype: DTypeLike | None, parameters: Parameters) -> AdamState:
    mu, nu = rule.zeros_like(parameters, mu_dtype), rule.zeros_like(parameters)
    return AdamState(rule.no_steps(), mu, nu)


def _update_adam(
    learning_rate: LearningRate,
    b1: Number,
    b2: Number,
    eps: Number,
    eps_root: Number,
    nesterov: bool,
    decay: tuple[LearningRate, Mask] | None,
    gradients: Parameters,
    state: AdamState,
    params: Parameters | None = None,
    **others: Any,
) -> tuple[Parameters, AdamState]:
    del others
    checks.instance("state", state, AdamState)
    rule.check_gradients(gradients, state.nu)
    rate = rule.value_at("learning_rate", learning_rate, state.count)
    if decay is not None:
        weight_decay, mask = decay
        weight_decay = rule.value_at("weight_decay", weight_decay, state.count)
        decays = rule.make_decays(weight_decay, mask, gradients, params)
    t = rule.next_step(state.count)
    m = rule.update_mean(b1, gradients, state.mu)
    v = rule.update_mean(b2, rule.square(gradients), state.nu)
    m_hat = _look_ahead(b1, gradients, m, t) if nesterov else rule.correct_bias(b1, m, t)
    v_hat = rule.correct_bias(b2, v, t)
    directions = divide_by_root(m_hat, v_hat, eps, eps_root)
    if decay is not None:
        directions = rule.decay_weights(decays, directions, params)
    state = AdamState(t, rule.cast_like(m, state.mu), rule.cast_like(v, state.nu))
    return rule.descend(rate, directions), state


def _look_ahead(b1: Number, gradients: Parameters, m: Parameters, t: Int[Array, ""]) -> Parameters:
    """`b1 * m / (1 - b1**(t + 1)) + (1 - b1) * g / (1 - b1**t)`."""

    def mean(m: Array, g: Array) -> Array:
        return rule.add(rule.cast(b1, m) * m, rule.cast(1 - b1, g) * g)

    later = rule.correct_bias(b1, m, rule.next_step(t))
    return jax.tree.map(mean, later, rule.correct_bias(b1, gradients, t))


def divide_by_root(m: Parameters, v: Parameters, eps: Number, eps_root: Number) -> Parameters:
    """`m / (sqrt(v + eps_root) + eps)`."""

    def divide(m: Array, v: Array) -> Array:
        return jnp.divide(*rule.widen(m, jnp.sqrt(v + rule.cast(eps_root, v)) + rule.cast(eps, v)))

    return jax.tree.map(divide, m, v)
