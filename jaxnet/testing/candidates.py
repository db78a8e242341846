"""The forms in which users pass an optimizer, and the checks that all of them have to pass."""

import os
import traceback
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import jaxtyping
import optax
from jaxtyping import PyTree

from jaxnet.core import checks, tracing, trees

LEARNING_RATE = 0.01  # of an optimizer that is given as a function of it


@runtime_checkable
class OptimizerInit(Protocol):
    """Makes the state of an optimizer, a pure function that JAX can trace."""

    def __call__(self, parameters: PyTree, /) -> Any:
        """Returns the state before the first step, any pytree of arrays."""
        ...


@runtime_checkable
class OptimizerUpdate(Protocol):
    """Computes the updates of one step, a pure function that JAX can trace."""

    def __call__(self, gradients: PyTree, state: Any, parameters: PyTree, /) -> tuple[PyTree, Any]:
        """Returns the updates, which are to be added to the parameters, and the next state."""
        ...


Optimizer: TypeAlias = optax.GradientTransformation | tuple[OptimizerInit, OptimizerUpdate]


@runtime_checkable
class OptimizerFactory(Protocol):
    """Makes an optimizer from a learning rate; `jaxnet.adam` and `optax.adam` are examples."""

    def __call__(self, learning_rate: Any, /) -> Optimizer:
        """Returns the optimizer.

        Args:
            learning_rate: a number, or a traced array of shape `[]`.
        """
        ...


def find_factory(optimizer: Any) -> OptimizerFactory | None:
    """Returns the argument if it is a function from the learning rate to an optimizer."""
    return optimizer if callable(optimizer) and not hasattr(optimizer, "update") else None


def make_optimizer(role: str, optimizer: Any) -> optax.GradientTransformation:
    """Converts any of the forms to optax's type, with the learning rate `LEARNING_RATE`.

    Args:
        role: "optimizer", "candidate" or "reference", for messages.
        optimizer: the user's argument.

    Raises:
        InvalidType: the argument has none of the forms.
    """
    factory = find_factory(optimizer)
    try:
        made = factory(LEARNING_RATE) if factory else optimizer
    except Exception as error:
        raise checks.InvalidType(
            f"expected the {role} as a function of the learning rate. "
            f"Received: {describe_error(error)}"
        ) from error
    return as_optimizer(role, made)


def as_optimizer(role: str, optimizer: Any) -> optax.GradientTransformation:
    """Converts a pair of functions to optax's type.

    Args:
        role: "optimizer", "candidate" or "reference", for messages.
        optimizer: the user's argument.

    Raises:
        InvalidType: the argument is not a pair of functions.
    """
    if isinstance(optimizer, tuple) and len(optimizer) == 2 and all(map(callable, optimizer)):
        return optax.GradientTransformation(*optimizer)
    checks.optimizer(role, optimizer)
    return optax.GradientTransformation(optimizer.init, optimizer.update)


def check_traceable(role: str, optimizer: optax.GradientTransformation, parameters: PyTree) -> None:
    """Traces one step and checks the types of the updates and of the state.

    Args:
        role: "candidate" or "reference", for messages.
        optimizer: the optimizer.
        parameters: the parameters to trace it with.

    Raises:
        InvalidValue: tracing fails, the updates do not match the parameters, or the state changes
            its structure, shapes or dtypes.
    """
    try:
        state = tracing.shapes(optimizer.init, parameters)
        updates, after = tracing.shapes(optimizer.update, parameters, state, parameters)
    except Exception as error:
        raise checks.InvalidValue(
            f"expected a {role} whose init(parameters) and update(gradients, "
            f"state, parameters) can be traced. Received: {describe_error(error)}"
        ) from error
    received, expected = (jax.tree.map(jnp.shape, tree) for tree in (updates, parameters))
    if received != expected:
        raise checks.InvalidValue(
            f"expected updates of the {role} with the parameters' structure "
            f"and shapes, {expected}. Received: {received}"
        )
    trees.same_tree(f"states of the {role} after a step", after, "the one before", state)


def describe_error(error: Exception) -> str:
    """Returns the type of an exception, the first line of its message, and where it was raised."""
    text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    place = find_place(error)
    return f"{text} ({place})" if place else text


def find_place(error: Exception) -> str | None:
    """Finds the line of the user's code that raised an exception.

    Returns:
        "file:line" of the innermost frame that is in no file of JAX, optax, jaxnet or jaxtyping;
            None if there is none, as for a function that was called with too many arguments.
    """
    others = *tracing.FOLDERS, os.path.join(os.path.dirname(jaxtyping.__file__), ""), "<"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(others)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else None
