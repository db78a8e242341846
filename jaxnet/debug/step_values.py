"""Everything that a step of training computes, in the order of computation.

The step is that of `make_step`, with a network and an optimizer that record what they compute.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key, PyTree

from jaxnet.core import compilation, trees
from jaxnet.core.finite import can_be_nonfinite, nonfinite
from jaxnet.debug.intermediates import Visit, layers_in, visits
from jaxnet.nn.network import Network
from jaxnet.training.data import Data
from jaxnet.training.keys import step_key
from jaxnet.training.objective import Objective, scale_weights
from jaxnet.training.state import TrainState
from jaxnet.training.step import make_inner_step


class RecordedStep(NamedTuple):
    """The quantities of a step.

    Attributes:
        forward: the weighted sums, if any, and the outputs of each layer.
        losses: one per example, 0 for examples of weight 0.
        cost, gradients, updates: as in training; the updates may be left out.
        state: after the step.
    """

    forward: list[tuple[Array | None, Array]]
    losses: Array
    cost: Array
    gradients: PyTree
    updates: PyTree | None
    state: TrainState


def record_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Data,
    key: Key[Array, ""] | None,
) -> RecordedStep:
    """Makes a step, and returns everything that it computes."""
    arguments = state, batch, key
    return compilation.compile_once(_record_step, (objective, optimizer), arguments)(*arguments)


def _record_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Data,
    key: Key[Array, ""] | None,
) -> RecordedStep:
    network, loss = objective.network, objective.loss
    layers = visits(network, state.parameters, batch.inputs, key=step_key(key, state.step))
    outputs = network.apply(state.parameters, batch.inputs, key=step_key(key, state.step))
    losses = loss(outputs, batch.targets)
    if batch.weights is not None:
        losses = jnp.where(batch.weights == 0, 0, losses)

    @functools.wraps(optimizer.update)
    def update(gradients: PyTree, before: PyTree, parameters: PyTree, **extra: Any) -> Any:
        updates, after = optimizer.update(gradients, before, parameters, **extra)
        return updates, (after, gradients, updates)

    recording = optax.GradientTransformation(optimizer.init, update)
    step = make_inner_step(objective.cost, recording)
    new, metrics = step(state, scale_weights(batch), key)
    after, gradients, updates = new.optimizer_state
    new = new._replace(optimizer_state=after)
    forward = [_sums_and_outputs(layer) for layer in layers]
    return RecordedStep(forward, losses, metrics["cost"], gradients, updates, new)


def _sums_and_outputs(visit: Visit) -> tuple[Array | None, Array]:
    sums = visit.layer.weighted_sums
    return None if sums is None else sums(visit.parameters, visit.inputs), visit.outputs


class Value(NamedTuple):
    """The values of a quantity of a step; `layer` is None if they belong to no layer."""

    quantity: str
    layer: str | None
    leaf: str
    values: Array | np.ndarray


def list_values(
    network: Network, state: TrainState, batch: Data, step: RecordedStep
) -> list[Value]:
    """Lists the quantities of a step in the order of computation."""
    by_layer = functools.partial(list_by_layer, network)
    listed = [
        Value(name, None, "", values)
        for name, values in batch._asdict().items()
        if values is not None
    ]
    listed += by_layer("parameters", state.parameters)
    layers = layers_in(network, state.parameters)
    for (name, layer, _), (sums, outputs) in zip(layers, step.forward, strict=True):
        if sums is None:
            listed.append(Value("output", name, layer.name, outputs))
        else:
            listed.append(Value("weighted sum", name, layer.name, sums))
            listed.append(Value("activation", name, layer.name, outputs))
    listed += [Value("loss", None, "", step.losses), Value("cost", None, "", step.cost)]
    listed += reversed(by_layer("gradient", step.gradients))
    if step.updates is not None:
        listed += by_layer("update", step.updates)
        listed += by_layer("new parameters", step.state.parameters)
        before = trees.named_leaves(state.optimizer_state)
        after = trees.named_leaves(step.state.optimizer_state)
        for path, values in after.items():
            if can_be_nonfinite(values):  # an infinity from the start is intended
                changed = np.where(nonfinite(before[path]), 0, values)
                listed.append(Value("optimizer state", None, path, changed))
    return [value for value in listed if can_be_nonfinite(value.values)]


def list_by_layer(network: Network, quantity: str, tree: PyTree) -> list[Value]:
    """Lists the leaves of a tree like the parameters by layer."""
    return [
        Value(quantity, name, path, leaf)
        for name, _, part in layers_in(network, tree)
        for path, leaf in trees.named_leaves(part).items()
    ]
