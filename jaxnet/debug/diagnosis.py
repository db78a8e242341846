"""Examines each layer for dead units, vanishing gradients and oversized updates."""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Key, PyTree

from jaxnet.core import checks, compilation, trees
from jaxnet.core.finite import can_be_nonfinite, nonfinite
from jaxnet.core.tables import table
from jaxnet.debug.intermediates import Visit, layers_in, visits
from jaxnet.debug.nonfinite import NonFinite, check_batch, find_first
from jaxnet.debug.step_values import RecordedStep, Value, list_values, record_step
from jaxnet.nn.losses import Loss
from jaxnet.nn.network import Network
from jaxnet.training.data import Data, DataLike
from jaxnet.training.keys import step_key
from jaxnet.training.objective import make_objective
from jaxnet.training.state import TrainState

_FLAT = 1e-3  # a derivative, such as that of tanh at 4.1 or of the sigmoid at 6.9
_MANY = 1 / 4  # of a layer's units; a few dead ones are common
_UNEVEN = 1e-4  # the ratio of two layers' gradients
_LARGE = 1 / 2  # the ratio of an update to the weights
_ROUNDED_AWAY = 2.0**-24  # the same ratio: half a unit in the last place of float32


class LayerDiagnosis(NamedTuple):
    """The diagnosis of a layer.

    Attributes:
        name: as in `intermediates`.
        weights, gradients, updates: Euclidean norms, over all of the layer's parameters; `None`
            if there are none.
        ratio: `updates / weights`; often about 0.001.
        units: the number of outputs; `None` if they cannot be examined one by one.
        dead: units whose output and derivative are exactly 0 for every example.
        saturated: units of hidden layers, not dead, whose derivative is below 0.001 for every
            example.
        non_finite: the number of non-finite values by quantity.
    """

    name: str
    weights: float | None
    gradients: float | None
    updates: float | None
    ratio: float | None
    units: int | None
    dead: int | None
    saturated: int | None
    non_finite: dict[str, int]


class Diagnosis(NamedTuple):
    """The diagnosis of a network; `print` it.

    Attributes:
        layers: in order; a residual block follows the layers inside it.
        cost: of the batch.
        non_finite_losses: the number of examples whose loss is non-finite.
        nonfinite: the first non-finite value, if there is one.
        findings: a sentence for each problem; none for a healthy network.
    """

    layers: tuple[LayerDiagnosis, ...]
    cost: float
    non_finite_losses: int
    nonfinite: NonFinite | None
    findings: tuple[str, ...]

    def __str__(self) -> str:
        titles = ["layer", "weights", "gradients", "updates", "ratio"]
        titles += ["units", "dead", "saturated", "non-finite"]
        rows = [
            [row.name, *map(_cell, row[1:-1]), str(sum(row.non_finite.values()))]
            for row in self.layers
        ]
        findings = self.findings or ("no problems found",)
        return "\n".join([f"cost {self.cost:.4g}", "", table([titles, *rows]), "", *findings])


@checks.door
def diagnose(
    network: Network,
    loss: Loss,
    parameters: PyTree,
    batch: DataLike,
    *,
    optimizer: optax.GradientTransformation | None = None,
    optimizer_state: PyTree | None = None,
    key: Key[Array, ""] | None = None,
) -> Diagnosis:
    """Examines every layer on one batch for problems that keep a network from learning.

    Args:
        network, loss: as in `train`.
        parameters: the network's.
        batch: `(inputs, targets)` or `(inputs, targets, weights)`, a few hundred examples.
        optimizer: computes the updates to examine; by default there are none.
        optimizer_state: by default the initial state.
        key: for dropout, as in the first step with this key; by default there is no dropout.

    The findings are non-finite values; layers of which a quarter of the units or more are dead or
    saturated; gradients that are 0, or 10,000 times smaller or larger than that of the last layer;
    updates at least half as large as the weights, or so small that they are rounded away. Examples
    of weight 0 do not count.

    Raises:
        ValueError, TypeError: an invalid argument, before anything is compiled.

    >>> from jaxnet import dense, relu, serial, squared_error
    >>> network = serial(dense(1, 4, relu), dense(4, 1))
    >>> parameters = network.init(jax.random.key(0))
    >>> dead = parameters[0]._replace(biases=jnp.array([0.0, -9.0, -9.0, 0.0]))
    >>> batch = jnp.linspace(-1.0, 1.0, 9)[:, None], jnp.ones((9, 1))
    >>> for finding in diagnose(network, squared_error, (dead, parameters[1]), batch).findings:
    ...     print(finding)
    layer 0 dense(1, 4, relu): 2 of 4 units are dead, 0 for every example and without ...
    """
    if optimizer is None and optimizer_state is not None:
        raise checks.InvalidValue("expected an optimizer with optimizer_state. Received: None")
    objective = make_objective(network, loss)
    rule = optax.identity() if optimizer is None else optimizer
    checks.optimizer("optimizer", rule)
    trees.arrays("parameters", parameters)
    batch = check_batch(objective, parameters, batch, key)
    if optimizer_state is None:
        optimizer_state = rule.init(parameters)
    state = TrainState(parameters, optimizer_state, jnp.zeros((), jnp.int32))
    step = record_step(objective, rule, state, batch, key)
    if optimizer is None:
        step = step._replace(updates=None)
    values = list_values(network, state, batch, step)
    arguments = state, batch, key
    units = compilation.compile_once(_examine_units, (network,), arguments)(*arguments)
    layers = tuple(_diagnose_layers(network, parameters, step, values, units))
    first = find_first(objective, state, batch, key, values)
    losses, findings = int(nonfinite(step.losses).sum()), tuple(_find(layers, first))
    return Diagnosis(layers, float(step.cost), losses, first, findings)


class _Units(NamedTuple):
    """Which units of a layer are dead, and which others are saturated, for every example."""

    dead: Bool[Array, " units"]
    saturated: Bool[Array, " units"]


def _examine_units(
    network: Network, state: TrainState, batch: Data, key: Key[Array, ""] | None
) -> list[_Units | None]:
    seen = visits(network, state.parameters, batch.inputs, key=step_key(key, state.step))
    return [_examine_layer(visit, batch.weights) for visit in seen]


def _examine_layer(visit: Visit, weights: Array | None) -> _Units | None:
    """Examines the units of a dense layer, or of an activation that is a layer by itself.

    Slopes are derivatives with respect to the biases or the inputs. An activation is elementwise
    if changing every other unit leaves the rest unchanged.
    """
    outputs, (respond, at) = visit.outputs, _response(visit)
    if at is None or outputs.shape[-1:] != at.shape[-1:]:
        return None
    slopes = jax.jvp(respond, (at,), (jnp.ones_like(at),))[1]
    changed = jnp.arange(at.shape[-1]) % 2 == 0
    changes = jnp.broadcast_to(changed, at.shape).astype(at.dtype)
    responses = jax.jvp(respond, (at,), (changes,))[1]
    stay = jnp.broadcast_to(changed, outputs.shape) | (responses == 0)

    def always(condition: Bool[Array, "..."]) -> Bool[Array, " units"]:
        if weights is not None:
            ignored = (weights == 0).reshape(-1, *[1] * (condition.ndim - 1))
            condition = condition | jnp.broadcast_to(ignored, condition.shape)
        return condition.reshape(-1, condition.shape[-1]).all(0) & stay.all()

    dead = always((outputs == 0) & (slopes == 0))
    return _Units(dead, always(jnp.abs(slopes) < _FLAT) & ~dead)


def _response(visit: Visit) -> tuple[Callable[[Array], Array], Array | None]:
    """The layer as a function of its biases or inputs, and their values."""
    _, layer, parameters, inputs, _ = visit
    if layer.weighted_sums is not None:
        *others, biases = parameters
        return lambda biases: layer.apply((*others, biases), inputs), biases
    elementwise = not jax.tree.leaves(parameters) and can_be_nonfinite(inputs)
    return lambda inputs: layer.apply(parameters, inputs), inputs if elementwise else None


def _diagnose_layers(
    network: Network,
    parameters: PyTree,
    step: RecordedStep,
    values: list[Value],
    units: list[_Units | None],
) -> Iterator[LayerDiagnosis]:
    layers = layers_in(network, parameters)
    gradients = [_norm(part) for _, _, part in layers_in(network, step.gradients)]
    updates: list[float | None] = [None] * len(layers)
    if step.updates is not None:
        updates = [_norm(part) for _, _, part in layers_in(network, step.updates)]
    for i, (name, layer, own) in enumerate(layers):
        weights, update, unit = _norm(own), updates[i], units[i]
        hidden = i < len(layers) - 1
        non_finite: collections.Counter[str] = collections.Counter()
        for value in values:
            if value.layer == name:
                non_finite[value.quantity] += int(nonfinite(value.values).sum())
        yield LayerDiagnosis(
            name or layer.name,
            weights,
            gradients[i],
            update,
            update / weights if weights and update is not None else None,
            None if unit is None else len(unit.dead),
            None if unit is None else int(unit.dead.sum()),
            None if unit is None else int(unit.saturated.sum()) if hidden else 0,
            {quantity: count for quantity, count in non_finite.items() if count},
        )


def _norm(tree: PyTree) -> float | None:
    """The Euclidean norm over all leaves, in float64."""
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return float(np.linalg.norm(np.concatenate(leaves))) if leaves else None


def _cell(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.2g}"


def _find(layers: tuple[LayerDiagnosis, ...], first: NonFinite | None) -> Iterator[str]:
    if first is not None:
        yield f"the first non-finite value: {first}"
    gradients = [layer.gradients for layer in layers if layer.gradients is not None]
    for layer in layers:
        found = [*_about_units(layer)]
        if first is None:
            found += [*_about_gradient(layer, gradients[-1:]), *_about_update(layer)]
        yield from (f"layer {layer.name}: {finding}" for finding in found)


def _about_units(layer: LayerDiagnosis) -> Iterator[str]:
    many = _MANY * (layer.units or 0)
    if layer.dead and layer.dead >= many:
        yield (
            f"{layer.dead} of {layer.units} units are dead, 0 for every example and without a "
            "gradient; usually the learning rate is too high or the biases are too low"
        )
    if layer.saturated and layer.saturated >= many:
        yield (
            f"{layer.saturated} of {layer.units} units are saturated, with a derivative below "
            f"{_FLAT:g} for every example; usually the weights or the inputs are too large"
        )


def _about_gradient(layer: LayerDiagnosis, last: Sequence[float]) -> Iterator[str]:
    gradient = layer.gradients
    if gradient == 0:
        yield (
            "its gradient is 0; the units after it are dead or have no derivative, its "
            "inputs are 0, or nothing is left to learn"
        )
    elif gradient is not None and gradient < _UNEVEN * last[0]:
        yield (
            f"its gradient, {gradient:.2g}, has vanished beside that of the last layer, "
            f"{last[0]:.2g}; usually because many layers saturate or have small weights; "
            "layer_norm, residual or another activation may help"
        )
    elif gradient is not None and gradient * _UNEVEN > last[0]:
        yield (
            f"its gradient, {gradient:.2g}, has exploded beside that of the last layer, "
            f"{last[0]:.2g}; usually the weights between them are too large"
        )


def _about_update(layer: LayerDiagnosis) -> Iterator[str]:
    if layer.ratio is not None and layer.ratio >= _LARGE:
        yield (
            f"its update is {layer.ratio:.2g} times as large as its weights; the learning rate is "
            "too high"
        )
    if layer.ratio is not None and 0 < layer.ratio < _ROUNDED_AWAY:
        yield (
            f"its update is {layer.ratio:.2g} times as large as its weights, which float32 rounds "
            "away; the learning rate is too low or the gradient is nearly 0"
        )
