"""Gradient descent, with and without momentum."""

from typing import Any, NamedTuple

import jax
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Int

from jaxnet.core import checks, trees
from jaxnet.optimizers import rule
from jaxnet.optimizers.rule import LearningRate, Number, Parameters


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

    >>> import jax.numpy as jnp
    >>> optimizer = gradient_descent(0.5)
    >>> optimizer.update(jnp.array([2.0]), optimizer.init(jnp.array([1.0])))[0]
    Array([-1.], dtype=float32)
    """
    fields = (rule.check_rate("learning_rate", learning_rate),)
    return rule.make_optimizer(
        "gradient_descent", _init_gradient_descent, _update_gradient_descent, fields=fields
    )


def _init_gradient_descent(parameters: Parameters) -> GradientDescentState:
    trees.inexact("parameters", parameters)
    return GradientDescentState(rule.no_steps())


def _update_gradient_descent(
    learning_rate: LearningRate,
    gradients: Parameters,
    state: GradientDescentState,
    params: Parameters | None = None,
    **others: Any,
) -> tuple[Parameters, GradientDescentState]:
    del others
    checks.instance("state", state, GradientDescentState)
    rule.check_gradients(gradients, gradients if params is None else params)
    rate = rule.value_at("learning_rate", learning_rate, state.count)
    return rule.descend(rate, gradients), GradientDescentState(rule.next_step(state.count))


class SgdState(NamedTuple):
    """The number of steps so far, and the trace, a decaying sum of past gradients."""

    count: Int[Array, ""]  # type: ignore[assignment]  # of tuples; the name is optax's
    trace: Parameters


@checks.door
def sgd(
    learning_rate: LearningRate,
    momentum: Number = 0.0,
    nesterov: bool = False,
    accumulator_dtype: DTypeLike | None = None,
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
        accumulator_dtype: the dtype of the trace; by default that of the parameters.

    PyTorch's `SGD` with dampening 0 is the same rule. Keras multiplies the gradient by the rate
    before adding it to the trace, which differs under a schedule.

    Reference: Polyak, Some methods of speeding up the convergence of iteration methods, 1964;
    Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.

    >>> import jax.numpy as jnp
    >>> optimizer = sgd(0.5, momentum=0.9)
    >>> state = optimizer.init(jnp.array([1.0]))
    >>> updates, state = optimizer.update(jnp.array([2.0]), state)
    >>> optimizer.update(jnp.array([2.0]), state)[0]
    Array([-1.9], dtype=float32)
    """
    learning_rate = rule.check_rate("learning_rate", learning_rate)
    rule.check_decay("momentum", momentum)
    checks.boolean("nesterov", nesterov)
    dtype = rule.check_dtype("accumulator_dtype", accumulator_dtype)
    return rule.make_optimizer(
        "sgd", _init_sgd, _update_sgd, starts=(dtype,), fields=(learning_rate, momentum, nesterov)
    )


def _init_sgd(accumulator_dtype: DTypeLike | None, parameters: Parameters) -> SgdState:
    trace = rule.zeros_like(parameters, accumulator_dtype)
    return SgdState(rule.no_steps(), trace)


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
    rule.check_gradients(gradients, state.trace)
    rate = rule.value_at("learning_rate", learning_rate, state.count)
    direction, trace = accumulate(momentum, nesterov, gradients, state.trace)
    return rule.descend(rate, direction), SgdState(rule.next_step(state.count), trace)


def accumulate(
    momentum: Number, nesterov: bool, terms: Parameters, trace: Parameters
) -> tuple[Parameters, Parameters]:
    """Adds terms to a trace; returns the direction of the step and the new trace."""

    def add(term: Array, trace: Array) -> Array:
        return rule.add(term, rule.cast(momentum, trace) * trace)

    new = jax.tree.map(add, terms, trace)
    direction = jax.tree.map(add, terms, new) if nesterov else new
    return direction, rule.cast_like(new, trace)
