"""AdaGrad."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxnet.core import checks
from jaxnet.optimizers import rule
from jaxnet.optimizers.rule import LearningRate, Number, Parameters


class AdagradState(NamedTuple):
    """The number of steps so far, and the sums of the squares of all gradients."""

    count: Int[Array, ""]  # type: ignore[assignment]  # of tuples; the name is optax's
    sum_of_squares: Parameters


@checks.door
def adagrad(
    learning_rate: LearningRate,
    initial_accumulator_value: Number = 0.1,
    eps: Number = 1e-7,
) -> optax.GradientTransformation:
    """AdaGrad: gradients divided by the root of the sum of all their squares.

        s = g**2 + s
        updates = -learning_rate * g / sqrt(s + eps)

    Where `s` is 0 the update is 0.

    Args:
        learning_rate: at least 0; a number, a traced array or a schedule.
        initial_accumulator_value: the initial value of `s`, at least 0. The default is that of
            optax and Keras; the paper and PyTorch start at 0.
        eps: at least 0; added in the root. PyTorch adds it to the root.

    Reference: Duchi et al., Adaptive subgradient methods for online learning and stochastic
    optimization, 2011.

    >>> optimizer = adagrad(0.1)
    >>> optimizer.update(jnp.array([2.0, -5.0]), optimizer.init(jnp.array([1.0, 1.0])))[0]
    Array([-0.0988,  0.0998], dtype=float32)
    """
    learning_rate = rule.check_rate("learning_rate", learning_rate)
    checks.number("initial_accumulator_value", initial_accumulator_value, 0)
    checks.number("eps", eps, 0)
    return rule.make_optimizer(
        "adagrad",
        _init_adagrad,
        _update_adagrad,
        starts=(initial_accumulator_value,),
        fields=(learning_rate, eps),
    )


def _init_adagrad(initial_accumulator_value: Number, parameters: Parameters) -> AdagradState:
    sums = rule.full_like(parameters, initial_accumulator_value)
    return AdagradState(rule.no_steps(), sums)


def _update_adagrad(
    learning_rate: LearningRate,
    eps: Number,
    gradients: Parameters,
    state: AdagradState,
    params: Parameters | None = None,
    **others: Any,
) -> tuple[Parameters, AdagradState]:
    del params, others
    checks.instance("state", state, AdagradState)
    rule.check_gradients(gradients, state.sum_of_squares)
    rate = rule.value_at("learning_rate", learning_rate, state.count)
    sums = jax.tree.map(rule.add, rule.square(gradients), state.sum_of_squares)

    def scale(g: Array, s: Array) -> Array:
        return jnp.where(s > 0, jax.lax.rsqrt(s + rule.cast(eps, s)), 0) * g

    updates = rule.descend(rate, jax.tree.map(scale, gradients, sums))
    sums = rule.cast_like(sums, state.sum_of_squares)
    return updates, AdagradState(rule.next_step(state.count), sums)
