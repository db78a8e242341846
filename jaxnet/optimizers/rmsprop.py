"""RMSProp."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxnet.core import checks
from jaxnet.optimizers import rule
from jaxnet.optimizers.descent import accumulate
from jaxnet.optimizers.rule import LearningRate, Number, Parameters


class RmspropState(NamedTuple):
    """The number of steps so far, and the decaying means and sums that the rule needs.

    Attributes:
        count: the number of steps so far.
        nu: decaying means of the squares of gradients.
        mu: decaying means of gradients; None unless centred.
        trace: decaying sums of updates; None without momentum.
    """

    count: Int[Array, ""]  # type: ignore[assignment]  # of tuples; the name is optax's
    nu: Parameters
    mu: Parameters | None
    trace: Parameters | None


@checks.door
def rmsprop(
    learning_rate: LearningRate,
    decay: Number = 0.9,
    eps: Number = 1e-8,
    initial_scale: Number = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Number | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> optax.GradientTransformation:
    """RMSProp: gradients divided by the root of their mean square.

        v = (1 - decay) * g**2 + decay * v
        updates = -learning_rate * g / sqrt(v + eps)

    If `centered`, the mean square is that of the deviations from a decaying mean,
    `v - m**2` with `m = (1 - decay) * g + decay * m`. With momentum, `updates` are the trace
    `trace = updates + momentum * trace`.

    Args:
        learning_rate: at least 0; a number, a traced array or a schedule.
        decay: the decay rate of the means, at least 0 and below 1. The default of PyTorch is 0.99.
        eps: at least 0; bounds the updates where gradients vanish.
        initial_scale: the initial value of `v`, at least 0.
        eps_in_sqrt: whether eps is added in the root; otherwise to the root, `sqrt(v) + eps`, as in
            PyTorch.
        centered: whether to subtract the square of the mean.
        momentum: at least 0 and below 1; None for no trace.
        nesterov: whether to use Nesterov momentum.
        bias_correction: whether to divide the means by `1 - decay**t` in step `t`.

    Reference: Hinton, Neural networks for machine learning, lecture 6, 2012; Graves, Generating
    sequences with recurrent neural networks, 2013 (centred, with momentum).

    >>> optimizer = rmsprop(0.1)
    >>> optimizer.update(jnp.array([2.0, -5.0]), optimizer.init(jnp.array([1.0, 1.0])))[0]
    Array([-0.3162,  0.3162], dtype=float32)
    """
    learning_rate = rule.check_rate("learning_rate", learning_rate)
    rule.check_decay("decay", decay)
    checks.number("eps", eps, 0)
    checks.number("initial_scale", initial_scale, 0)
    if momentum is not None:
        rule.check_decay("momentum", momentum)
    flags = (eps_in_sqrt, centered, nesterov, bias_correction)
    names = ("eps_in_sqrt", "centered", "nesterov", "bias_correction")
    for name, flag in zip(names, flags, strict=True):
        checks.boolean(name, flag)
    return rule.make_optimizer(
        "rmsprop",
        _init_rmsprop,
        _update_rmsprop,
        starts=(initial_scale, centered, momentum is not None),
        fields=(learning_rate, decay, eps, eps_in_sqrt, momentum, nesterov, bias_correction),
    )


def _init_rmsprop(
    initial_scale: Number, has_mean: bool, has_trace: bool, parameters: Parameters
) -> RmspropState:
    nu = rule.full_like(parameters, initial_scale)
    mu = rule.zeros_like(parameters) if has_mean else None
    trace = rule.zeros_like(parameters) if has_trace else None
    return RmspropState(rule.no_steps(), nu, mu, trace)


def _update_rmsprop(
    learning_rate: LearningRate,
    decay: Number,
    eps: Number,
    eps_in_sqrt: bool,
    momentum: Number | None,
    nesterov: bool,
    bias_correction: bool,
    gradients: Parameters,
    state: RmspropState,
    params: Parameters | None = None,
    **others: Any,
) -> tuple[Parameters, RmspropState]:
    del params, others
    checks.instance("state", state, RmspropState)
    rule.check_gradients(gradients, state.nu)
    rate = rule.value_at("learning_rate", learning_rate, state.count)
    t = rule.next_step(state.count)

    def correct(means: Parameters) -> Parameters:
        return rule.correct_bias(decay, means, t) if bias_correction else means

    m, trace = None, None
    v = rule.update_mean(decay, rule.square(gradients), state.nu)
    v_hat = correct(v)
    if state.mu is not None:
        m = rule.update_mean(decay, gradients, state.mu)
        squares = rule.cast_like(rule.square(correct(m)), v_hat)
        v_hat = jax.tree.map(jnp.subtract, v_hat, squares)
        m = rule.cast_like(m, state.mu)

    def scale(g: Array, v: Array) -> Array:
        if eps_in_sqrt:
            return jax.lax.rsqrt(v + rule.cast(eps, v)) * g
        return 1 / (jnp.sqrt(v) + rule.cast(eps, v)) * g

    updates = rule.descend(rate, jax.tree.map(scale, gradients, v_hat))
    if momentum is not None:
        updates, trace = accumulate(momentum, nesterov, updates, state.trace)
    return updates, RmspropState(t, rule.cast_like(v, state.nu), m, trace)
