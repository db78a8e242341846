"""Updates: an optimizer is called with all that it asks for, and its answer is checked.

Every optimizer takes gradients, state and parameters. Some of optax's need more, which optax hands
through its chains and wrappers by name (`optax.GradientTransformationExtraArgs`). For those names a
step has an answer; only those that the optimizer takes are passed.
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
    """What `optimizer.update` returns: the updates, and the optimizer's next state.

    Args:
        function: the caller, for errors.
        value: the cost at the parameters.
        value_fn: the cost as a function of the parameters, of which `gradients` is the gradient.

    Raises:
        TypeError, ValueError: an optimizer that needs what no step has, or whose updates are not
            shaped like the parameters.
    """

    def cost(trial: PyTree) -> Array:
        if _shapes(trial) != _shapes(parameters):
            raise checks.InvalidValue(f"{_PARTIAL}. Received: {trees.describe(trial)}")
        # As `optax.apply_updates` would give them: line searches make float32 of bfloat16.
        return value_fn(jax.tree.map(lambda t, p: jnp.asarray(t, p.dtype), trial, parameters))

    def gradient(trial: PyTree, number: Any) -> PyTree:
        del number  # of the evaluation within this step: all are of the same batch
        return jax.grad(cost)(trial)

    # Partial, as `jax.jit(optimizer.update)` takes no bare function.
    offered = {"value": value, "grad": gradients, "value_fn": Partial(cost)}
    offered |= {"obj_fn": Partial(cost), "grad_fn": Partial(gradient)}
    taken = _taken(optimizer.update, (gradients, state, parameters), offered)
    try:
        updates, state = optimizer.update(gradients, state, parameters, **taken)
    except (AttributeError, TypeError, ValueError) as error:
        explanation = _explanation(error, offered)
        if not explanation:
            raise
        raise checks.InvalidType(f"{explanation}") from error
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
    """Why an update failed, where optax does not say so."""
    if isinstance(error, AttributeError):
        return _LOOKAHEAD if error.name == "fast" else ""
    if "required keyword-only argument" in str(error):
        return (
            f"expected an optimizer that takes by name what it needs of {', '.join(offered)}, and "
            f"needs nothing else. Received: {error}"
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


def _taken(
    update: Callable[..., Any], arguments: tuple[Any, ...], offered: dict[str, Any]
) -> dict[str, Any]:
    """Those of the offered arguments that an optimizer takes by name.

    What takes any name may hand it on to what does not. That shows only in a call: it is tried
    on abstract arrays, which leaves nothing in the program that is being traced.
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
        except Exception as error:  # what else is wrong shows when it is called in earnest
            refused = [name for name in offered if _refuses(error, name)]
            if refused:
                offered = {n: offered[n] for n in offered if n not in refused}
                continue
        return offered


def _refuses(error: Exception, name: str) -> bool:
    """Whether a function does not take an argument of that name, in Python's words or optax's."""
    words = str(error)
    unexpected = "unexpected keyword argument" in words.lower()
    return isinstance(error, TypeError) and unexpected and repr(name) in words
