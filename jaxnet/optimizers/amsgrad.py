"""AMSGrad."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Int

from jaxnet.core import checks
from jaxnet.optimizers import rule
from jaxnet.optimizers.adam import divide_by_root
from jaxnet.optimizers.rule import LearningRate, Number, Parameters


class AmsgradState(NamedTuple):
    """Adam's state, and the largest bias-corrected means of squares so far (nu_max)."""

    count: Int[Array, ""]  # type: ignore[assignment]  # of tuples; the name is optax's
    mu: Parameters
    nu: Parameters
    nu_max: Parameters


@checks.door
def amsgrad(
    learning_rate: LearningRate,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformation:
    """AMSGrad: Adam with a denominator that never decreases.

        v_max = max(v_max, v_hat)
        updates = -learning_rate * m_hat / (sqrt(v_max + eps_root) + eps)

    with `m_hat` and `v_hat` as in `adam`.

    Args:
        learning_rate, b1, b2, eps, eps_root, mu_dtype: as in `adam`.

    As in optax, the maximum is that of the bias-corrected means. PyTorch takes it before the
    correction, and the paper has no correction.

    Reference: Reddi et al., On the convergence of Adam and beyond, 2018.

    >>> optimizer = amsgrad(0.1)
    >>> optimizer.update(jnp.array([2.0, -5.0]), optimizer.init(jnp.array([1.0, 1.0])))[0]
    Array([-0.1,  0.1], dtype=float32)
    """
    learning_rate = rule.check_rate("learning_rate", learning_rate)
    rule.check_decay("b1", b1)
    rule.check_decay("b2", b2)
    checks.number("eps", eps, 0)
    checks.number("eps_root", eps_root, 0)
    return rule.make_optimizer(
        "amsgrad",
        _init_amsgrad,
        _update_amsgrad,
        starts=(rule.check_dtype("mu_dtype", mu_dtype),),
        fields=(learning_rate, b1, b2, eps, eps_root),
    )


def _init_amsgrad(mu_dtype: DTypeLike | None, parameters: Parameters) -> AmsgradState:
    mu = rule.zeros_like(parameters, mu_dtype)
    nu, nu_max = rule.zeros_like(parameters), rule.zeros_like(parameters)
    return AmsgradState(rule.no_steps(), mu, nu, nu_max)


def _update_amsgrad(
    learning_rate: LearningRate,
    b1: Number,
    b2: Number,
    eps: Number,
    eps_root: Number,
    gradients: Parameters,
    state: AmsgradState,
    params: Parameters | None = None,
    **others: Any,
) -> tuple[Parameters, AmsgradState]:
    del params, others
    checks.instance("state", state, AmsgradState)
    rule.check_gradients(gradients, state.nu)
    rate = rule.value_at("learning_rate", learning_rate, state.count)
    t = rule.next_step(state.count)
    m = rule.update_mean(b1, gradients, state.mu)
    v = rule.update_mean(b2, rule.square(gradients), state.nu)
    m_hat, v_hat = rule.correct_bias(b1, m, t), rule.correct_bias(b2, v, t)
    v_max = jax.tree.map(jnp.maximum, rule.cast_like(state.nu_max, v_hat), v_hat)
    directions = divide_by_root(m_hat, v_max, eps, eps_root)
    kept = map(rule.cast_like, (m, v, v_max), (state.mu, state.nu, state.nu_max))
    return rule.descend(rate, directions), AmsgradState(t, *kept)
