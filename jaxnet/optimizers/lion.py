"""Lion."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Int

from jaxnet.core import checks
from jaxnet.optimizers import rule
from jaxnet.optimizers.rule import LearningRate, Mask, Number, Parameters


class LionState(NamedTuple):
    """The number of steps so far, and decaying means of gradients."""

    count: Int[Array, ""]  # type: ignore[assignment]  # of tuples; the name is optax's
    mu: Parameters


@checks.door
def lion(
    learning_rate: LearningRate,
    b1: Number = 0.9,
    b2: Number = 0.99,
    mu_dtype: DTypeLike | None = None,
    weight_decay: LearningRate = 1e-3,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Lion: steps of one size, along the sign of a mean of gradients.

        direction = sign((1 - b1) * g + b1 * m)
        m = (1 - b2) * g + b2 * m
        updates = -learning_rate * (direction + weight_decay * parameters)

    Args:
        learning_rate: at least 0; a number, a traced array or a schedule. The paper advises a third
            to a tenth of Adam's.
        b1, b2: the decay rates of the mean in the direction and of the mean that is kept, at least
            0 and below 1.
        mu_dtype: the dtype of `mu`; by default that of the parameters.
        weight_decay, mask: as in `adamw`. The default is optax's; that of the paper's code is 0.

    Reference: Chen et al., Symbolic discovery of optimization algorithms, 2023.

    >>> optimizer = lion(0.1, weight_decay=0.5)
    >>> parameters = jnp.array([1.0, 1.0])
    >>> optimizer.update(jnp.array([2.0, -5.0]), optimizer.init(parameters), parameters)[0]
    Array([-0.15,  0.05], dtype=float32)
    """
    learning_rate = rule.check_rate("learning_rate", learning_rate)
    rule.check_decay("b1", b1)
    rule.check_decay("b2", b2)
    weight_decay = rule.check_rate("weight_decay", weight_decay)
    return rule.make_optimizer(
        "lion",
        _init_lion,
        _update_lion,
        starts=(rule.check_dtype("mu_dtype", mu_dtype),),
        fields=(learning_rate, b1, b2, weight_decay, mask),
    )


def _init_lion(mu_dtype: DTypeLike | None, parameters: Parameters) -> LionState:
    mu = rule.zeros_like(parameters, mu_dtype)
    return LionState(rule.no_steps(), mu)


def _update_lion(
    learning_rate: LearningRate,
    b1: Number,
    b2: Number,
    weight_decay: LearningRate,
    mask: Mask,
    gradients: Parameters,
    state: LionState,
    params: Parameters | None = None,
    **others: Any,
) -> tuple[Parameters, LionState]:
    del others
    checks.instance("state", state, LionState)
    rule.check_gradients(gradients, state.mu)
    rate = rule.value_at("learning_rate", learning_rate, state.count)
    decay = rule.value_at("weight_decay", weight_decay, state.count)
    decays = rule.make_decays(decay, mask, gradients, params)
    directions = jax.tree.map(jnp.sign, rule.update_mean(b1, gradients, state.mu))
    directions = rule.decay_weights(decays, directions, params)
    m = rule.cast_like(rule.update_mean(b2, gradients, state.mu), state.mu)
    return rule.descend(rate, directions), LionState(rule.next_step(state.count), m)
