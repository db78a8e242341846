"""Calls an optimizer with the arguments that it takes, and checks the updates it returns.

Every optimizer takes gradients, state and parameters. Some of optax's take further arguments by
keyword (`optax.GradientTransformationExtraArgs`): the cost, its gradient, or functions of them. A
step passes those that the optimizer takes.
"""

import inspect
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jaxtyping import Array, PyTree

from jaxnet.core import checks, trees


def compute_updates(
    optimizer: optax.GradientTransformation,
    gradients: PyTree,
    state: PyTree,
    parameters: PyTree,
    *,
    value: Array,
    value_fn: Callable[[PyTree], Array],
) -> tuple[PyTree, PyTree]:
    """Calls `optimizer.update`; returns the updates and the next state of the optimizer.

    Args:
        optimizer: jaxnet's or optax's.
        gradients, state, parameters: as in optax.
        value: the cost at the parameters.
        value_fn: the cost as a function of the parameters; `gradients` is its gradient.

    Raises:
        InvalidType: the optimizer needs an argument that a step does not have.
        InvalidValue: the updates do not have the parameters' structure and shapes.
    """

    def cost(trial: PyTree) -> Array:
        if _shapes(trial) != _shapes(parameters):
            raise checks.InvalidValue(f"{_PARTIAL}. Received: {trees.describe(trial)}")
        # In the parameters' dtype: line searches turn bfloat16 into float32.
        return value_fn(jax.tree.map(lambda t, p: jnp.asarray(t, p.dtype), trial, parameters))

    def gradient(trial: PyTree, number: Any) -> PyTree:
        del number  # the evaluation within this step; all use the same batch
        return jax.grad(cost)(trial)

    # `Partial`, since `jax.jit(optimizer.update)` takes no plain functions as arguments.
    offered = {"value": value, "grad": gradients, "value_fn": Partial(cost)}
    offered |= {"obj_fn": Partial(cost), "grad_fn": Partial(gradient)}
    accepted = _select(optimizer.update, (gradients, state, parameters), offered)
    try:
        updates, state = optimizer.update(gradients, state, parameters, **accepted)
    except (AttributeError, TypeError, ValueError) as error:
        explanation = _explanation(error, offered)
        if not explanation:
            raise
        raise checks.InvalidType(explanation) from error
    if _shapes(updates) != _shapes(parameters):
        raise checks.InvalidValue(
            f"expected updates of the parameters' structure and shapes, "
            f"{trees.describe(parameters)}. Received: {trees.describe(updates)}"
        )
    return updates, state


_PARTIAL = (
    "expected an optimizer that evaluates the cost at all of the network's parameters, not one "
    "that is masked, partitioned or flattened"
)


def _explanation(error: Exception, offered: Collection[str]) -> str:
    """Explains a failed update where optax's own message does not; empty otherwise."""
    if isinstance(error, AttributeError):
        return _LOOKAHEAD if error.name == "fast" else ""
    if "required keyword-only argument" in str(error):
        return (
            f"expected an optimizer that needs no extra arguments except {', '.join(offered)}, and "
            f"passes them on. Received: {error}"
        )
    first_line = str(error).partition("\n")[0]
    partial = "MaskedNode" in str(error) and _PARTIAL not in str(error)
    return f"{_PARTIAL}. Received: {first_line}" if partial else ""


_LOOKAHEAD = (
    "expected an optimizer of one tree of parameters. Received: optax.lookahead, which moves two, "
    "a LookaheadParams of fast and slow ones; an optimizer of your own can keep the slow ones in "
    "its state"
)


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.shape, tree)


def _select(
    update: Callable[..., Any], arguments: tuple[Any, ...], offered: dict[str, Any]
) -> dict[str, Any]:
    """Selects the offered arguments that an optimizer takes by keyword.

    An `update(..., **extra)` may pass them on to a function that does not take them, which shows
    only when it is called. It is called on abstract arrays, which leaves no operations in the
    program that is being traced.
    """
    try:
        parameters = inspect.signature(update).parameters.values()
    except (TypeError, ValueError):
        return {}
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        return {name: offered[name] for name in offered if name in named}
    while True:
        try:
            jax.eval_shape(lambda offered=offered: update(*arguments, **offered))
        except Exception as error:  # any other error shows in the actual call
            refused = [name for name in offered if _refuses(error, name)]
            if refused:
                offered = {n: offered[n] for n in offered if n not in refused}
                continue
        return offered


def _refuses(error: Exception, name: str) -> bool:
    """Whether an error says, in the words of Python or optax, that a keyword is unexpected."""
    words = str(error)
    unexpected = "unexpected keyword argument" in words.lower()
    return isinstance(error, TypeError) and unexpected and repr(name) in words
