"""Checks a run before anything is compiled: traces its first step and its evaluation."""

import functools
from typing import Any

import jax
import optax
from jaxtyping import Array, Key, PyTree

from jaxnet.core import checks, tracing, trees
from jaxnet.training.data import Data
from jaxnet.training.objective import (
    Objective,
    blame,
    check_means,
    check_outputs,
    scale_weights,
    weighted_means,
)
from jaxnet.training.state import TrainState
from jaxnet.training.step import make_inner_step


def check_run(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    data: Data,
    validation: Data | None,
    key: Key[Array, ""],
    state: TrainState | None,
    given: tuple[Any, Any],
) -> None:
    """Traces the first step, on all data, and the losses of the validation data.

    Args:
        objective, optimizer, data, validation, key, state: the parts of a run.
        given: data and validation as the caller passed them, for error messages.
    """
    network, now = objective.network, objective.at(0.0)
    parameters = tracing.shapes(network.init, key) if state is None else state.parameters
    optimizer_state = tracing.shapes(optimizer.init, parameters)
    if state is None:
        count: Any = jax.ShapeDtypeStruct((), jax.numpy.int32)
        state = TrainState(parameters, optimizer_state, count)
    outputs = _check_step(now, optimizer, data, key, state, optimizer_state, given[0])
    if validation is None:
        return
    if _row_types(validation.inputs) != _row_types(data.inputs):
        functions = objective.functions()
        check_means(network, functions, parameters, validation, "validation", given[1])
        return
    with blame("validation", validation, given[1]):
        rows = len(validation.inputs)
        outputs = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), outputs
        )
        check_outputs(objective.functions(), outputs, validation)


def _check_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    data: Data,
    key: Key[Array, ""],
    state: TrainState,
    optimizer_state: PyTree,
    given: Any,
) -> PyTree:
    """Traces a step, which must keep the types of the optimizer's state.

    The network is traced before the state is compared with `optimizer_state`, which has the types
    of a new state: parameters of another network would explain a difference too.

    Returns:
        The types of the network's outputs.
    """
    outputs: Any = None

    @functools.wraps(optimizer.update)
    def update(gradients: PyTree, before: PyTree, *args: Any, **extra: Any) -> Any:
        trees.same_tree(
            "leaves of state.optimizer_state", before, "those of the optimizer", optimizer_state
        )
        return optimizer.update(gradients, before, *args, **extra)

    def cost(
        parameters: PyTree, batch: Data, key: Key[Array, ""] | None
    ) -> tuple[Array, dict[str, Array]]:
        nonlocal outputs
        with blame("data", data, given):
            values = objective.network.apply(parameters, batch.inputs, key=key)
            outputs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), values)
            # The values of the targets, where they are concrete, let a loss check its labels.
            batch = batch._replace(targets=data.targets)
            means = weighted_means(objective.functions(), values, batch)
        return means["cost"], means

    step = make_inner_step(cost, optax.GradientTransformation(optimizer.init, update))
    try:
        after, _ = tracing.shapes(
            lambda state, data, key: step(state, scale_weights(data), key), state, data, key
        )
    except (checks.InvalidType, checks.InvalidValue):
        raise
    except (TypeError, ValueError) as error:
        kind = checks.InvalidType if isinstance(error, TypeError) else checks.InvalidValue
        raise kind("\n".join(str(error).splitlines()[:3])) from error
    trees.same_tree(
        "leaves of the optimizer's state after a step",
        after.optimizer_state,
        "those before it",
        state.optimizer_state,
    )
    return outputs


def _row_types(inputs: Array) -> Any:
    return inputs.shape[1:], inputs.dtype
