"""What keeps a network from learning, layer by layer: dead units, lost gradients, wild updates."""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Key, PyTree

from jaxnet.core import checks, compilation, trees
from jaxnet.debug.intermediates import Visit, layers_in, table, visits
from jaxnet.debug.nonfinite import (
    NonFinite,
    Place,
    Step,
    check_step,
    has_numbers,
    noise_of,
    not_finite,
    origin_of,
    places_of,
    watched_step,
)
from jaxnet.nn.losses import Loss
from jaxnet.nn.network import Network
from jaxnet.training.data import Data, DataLike
from jaxnet.training.train import TrainState, check_arguments

_FLAT = 1e-3  # a slope: that of tanh at 4.1, of the sigmoid at 6.9
_MANY = 1 / 4  # of a layer's units; a few dead ones are nothing special
_UNEVEN = 1e-4  # of two layers' gradients
_LARGE = 1 / 2  # an update, relative to what it changes
_ROUNDED_AWAY = 2.0**-24  # likewise: half a unit in the last place of float32


class LayerDiagnosis(NamedTuple):
    """What `diagnose` found in a layer.

    Attributes:
        name: as in `intermediates`.
        weights, gradients, updates: Euclidean norms, over all of the layer's parameters; `None`
            where there are none.
        ratio: `updates / weights`; often about 0.001.
        units: how many outputs; `None` where they cannot be looked at one by one.
        dead: units whose output and derivative are exactly 0 for every example.
        saturated: units of hidden layers, not dead, whose derivative is below 0.001 for every
            example.
        non_finite: how many values of each quantity, where there are any.
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
    """What `diagnose` found; `print` it.

    Attributes:
        layers: in order; a residual block follows its own.
        cost: of the batch.
        non_finite_losses: of how many examples the loss is not finite.
        nonfinite: of the first value that is not finite, if there is one.
        findings: a sentence for each thing out of the ordinary; none for a healthy network.
    """

    layers: tuple[LayerDiagnosis, ...]
    cost: float
    non_finite_losses: int
    nonfinite: NonFinite | None
    findings: tuple[str, ...]

    def __str__(self) -> str:
        titles = ["layer", "weights", "gradients", "updates", "ratio"]
        titles += ["units", "dead", "saturated", "not finite"]
        rows = [
            [row.name, *map(_cell, row[1:-1]), str(sum(row.non_finite.values()))]
            for row in self.layers
        ]
        findings = self.findings or ("nothing out of the ordinary",)
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
    """Looks at every layer for what keeps a network from learning, on one batch.

    Args:
        network, loss: as in `train`.
        parameters: the network's.
        batch: `(inputs, targets)` or `(inputs, targets, weights)`; some hundred examples are good.
        optimizer: for the updates that it would make.
        optimizer_state: by default the initial one.
        key: for dropout, as in the first step with that key; by default there is none.

    Findings are values that are not finite; a quarter or more of a layer's units dead or
    saturated; a gradient that is 0, or 10,000 times smaller or larger than that of the last layer;
    an update half as large as the weights, or so small that it is rounded away. Examples of weight
    0 do not count.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.

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
    rule = optax.identity() if optimizer is None else optimizer
    check_arguments(network, rule)
    trees.arrays("parameters", parameters)
    batch = check_step(network, loss, parameters, batch, key)
    kept = rule.init(parameters) if optimizer_state is None else optimizer_state
    state = TrainState(parameters, kept, jnp.zeros((), jnp.int32))
    plan = network, loss, rule
    step = watched_step(plan, state, batch, key)
    if optimizer is None:
        step = step._replace(updates=None)
    places = places_of(network, state, batch, step)
    arguments = state, batch, key
    units = compilation.compile_once(_units, (network,), arguments)(*arguments)
    layers = tuple(_layer_diagnoses(network, parameters, step, places, units))
    origin = origin_of(plan, state, batch, key, places)
    losses, findings = int(not_finite(step.losses).sum()), tuple(_findings(layers, origin))
    return Diagnosis(layers, float(step.cost), losses, origin, findings)


class _Units(NamedTuple):
    """Which units of a layer are dead, and which others have hardly a slope, for every example."""

    dead: Bool[Array, " units"]
    saturated: Bool[Array, " units"]


def _units(
    network: Network, state: TrainState, batch: Data, key: Key[Array, ""] | None
) -> list[_Units | None]:
    seen = visits(network, state.parameters, batch.inputs, key=noise_of(key, state))
    return [_units_of(visit, batch.weights) for visit in seen]


def _units_of(visit: Visit, weights: Array | None) -> _Units | None:
    """The units of a dense layer, or of an activation that is a layer by itself.

    Slopes are derivatives with respect to the biases, or the inputs. If the activation is
    elementwise, then units stay as they are when every other one is changed.
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
    """The layer as a function of its biases, or inputs, and what they are."""
    _, layer, parameters, inputs, _ = visit
    if layer.weighted_sums is not None:
        weights, biases = parameters
        return lambda biases: layer.apply((weights, biases), inputs), biases
    elementwise = not jax.tree.leaves(parameters) and has_numbers(inputs)
    return lambda inputs: layer.apply(parameters, inputs), inputs if elementwise else None


def _layer_diagnoses(
    network: Network,
    parameters: PyTree,
    step: Step,
    places: list[Place],
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
        for place in places:
            if place.layer == name:
                non_finite[place.quantity] += int(not_finite(place.values).sum())
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


def _findings(layers: tuple[LayerDiagnosis, ...], origin: NonFinite | None) -> Iterator[str]:
    if origin is not None:
        yield f"the first value that is not finite: {origin}"
    gradients = [layer.gradients for layer in layers if layer.gradients is not None]
    for layer in layers:
        found = [*_about_units(layer)]
        if origin is None:
            found += [*_about_gradient(layer, gradients[-1:]), *_about_update(layer)]
        yield from (f"layer {layer.name}: {finding}" for finding in found)


def _about_units(layer: LayerDiagnosis) -> Iterator[str]:
    many = _MANY * (layer.units or 0)
    if layer.dead and layer.dead >= many:
        yield (
            f"{layer.dead} of {layer.units} units are dead, 0 for every example and without a "
            "gradient; usually the learning rate is too high, or their biases are too low"
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
            "its gradient is 0; units after it are dead or have no derivative, what goes into it "
            "is 0, or nothing is left to learn"
        )
    elif gradient is not None and gradient < _UNEVEN * last[0]:
        yield (
            f"its gradient, {gradient:.2g}, has vanished beside that of the last layer, "
            f"{last[0]:.2g}; usually for many saturated or small layers, which layer_norm, "
            "residual or another activation help"
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
            "away; the learning rate is too low, or there is next to no gradient"
        )
