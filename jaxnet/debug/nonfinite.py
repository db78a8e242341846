"""Where the NaN comes from: the first value of a training step that is not finite.

The step is that of `make_step`, made again by a network and an optimizer that are watched, so what
is looked at is what is computed in training.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Key, PyTree

from jaxnet.core import checks, compilation, trees
from jaxnet.debug.intermediates import Visit, layers_in, visits
from jaxnet.nn.losses import Loss
from jaxnet.nn.network import Network
from jaxnet.training.data import Data, DataLike, check_data
from jaxnet.training.evaluation import batch_means, check_measures
from jaxnet.training.train import TrainState, check_arguments, check_state, make_step


class NonFinite(NamedTuple):
    """Where the first value that is not finite appears; `print` it.

    Attributes:
        quantity: "inputs", "targets", "weights" (of examples), "parameters", "weighted sum",
            "activation", "output" (of layers that are not dense), "loss", "cost", "gradient",
            "update", "new parameters" or "optimizer state".
        layer: its name as in `intermediates`. In a network without layers, the network's name
            or the path of the parameter; of the optimizer's state the path; else empty.
        rows: the positions in the batch of the examples that have such a value there. For a
            gradient, those whose own gradient, each computed by itself, has; there may be none.
        value: nan, inf or -inf.
        cause: a sentence on what usually causes that in that place.
    """

    quantity: str
    layer: str
    rows: tuple[int, ...]
    value: float
    cause: str

    def __str__(self) -> str:
        place = f" of layer {self.layer}" if self.layer else ""
        shown = ", ".join(map(str, self.rows[:5])) + (", ..." if len(self.rows) > 5 else "")
        rows = f", in rows {shown} of the batch ({len(self.rows)} in all)" if self.rows else ""
        return f"{self.quantity}{place}: {self.value}{rows}; {self.cause}"


@checks.door
def find_nonfinite(
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: DataLike,
    key: Key[Array, ""] | None = None,
) -> NonFinite | None:
    """Finds where the first infinite value or NaN of a training step appears, if one does.

    First in the order of computation: the batch, the parameters, the weighted sums and activations
    of one layer after the other, the losses and their mean, the gradients from the last layer to
    the first, the updates, the new parameters, and what of the new optimizer state was finite
    before. The losses of examples of weight 0 do not count. An infinity that is there on purpose,
    such as the logit of a class that cannot be, is found like any other.

    Args:
        network, loss, optimizer: as in `make_step`.
        state: before the step.
        batch, key: those of the step.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.

    >>> from jaxnet import gradient_descent, initial_state, mlp, squared_error
    >>> network, optimizer = mlp([1, 1]), gradient_descent(0.1)
    >>> state = initial_state(network, optimizer, key=jax.random.key(0))
    >>> batch = jnp.array([[1.0], [jnp.nan], [3.0]]), jnp.ones((3, 1))
    >>> print(find_nonfinite(network, squared_error, optimizer, state, batch))
    inputs: nan, in rows 1 of the batch (1 in all); missing or infinite values in the data
    """
    check_arguments(network, optimizer)
    check_state(state)
    batch = check_step(network, loss, state.parameters, batch, key)
    plan = network, loss, optimizer
    step = watched_step(plan, state, batch, key)
    return origin_of(plan, state, batch, key, places_of(network, state, batch, step))


def check_step(
    network: Network,
    loss: Loss,
    parameters: PyTree,
    batch: DataLike,
    key: Key[Array, ""] | None,
) -> Data:
    """The batch as arrays; what does not fit the network, the loss or the rest is refused."""
    checks.function("loss", loss)
    given, batch = batch, check_data("batch", batch)
    if key is not None:
        checks.key(key)
    check_measures("batch", network, {"cost": loss}, batch, parameters, given)
    return batch


# A step, and all that is computed on the way.


Plan = tuple[Network, Loss, optax.GradientTransformation]


class Step(NamedTuple):
    """What a step computes; `forward` is the weighted sums, if any, and outputs of each layer."""

    forward: list[tuple[Array | None, Array]]
    losses: Array
    cost: Array
    gradients: PyTree
    updates: PyTree | None
    state: TrainState


def watched_step(plan: Plan, state: TrainState, batch: Data, key: Key[Array, ""] | None) -> Step:
    """Makes a step, and keeps all that is computed."""
    arguments = state, batch, key
    return compilation.compile_once(_watched_step, plan, arguments)(*arguments)


def _watched_step(
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Data,
    key: Key[Array, ""] | None,
) -> Step:
    seen = visits(network, state.parameters, batch.inputs, key=noise_of(key, state))
    outputs = network.apply(state.parameters, batch.inputs, key=noise_of(key, state))
    losses = loss(outputs, batch.targets)
    if batch.weights is not None:
        losses = jnp.where(batch.weights == 0, 0, losses)

    @functools.wraps(optimizer.update)
    def update(gradients: PyTree, before: PyTree, parameters: PyTree, **extra: Any) -> Any:
        updates, after = optimizer.update(gradients, before, parameters, **extra)
        return updates, (after, gradients, updates)

    watched = optax.GradientTransformation(optimizer.init, update)
    new, metrics = make_step(network, loss, watched)(state, batch, key)
    after, gradients, updates = new.optimizer_state
    new = new._replace(optimizer_state=after)
    cost = metrics["cost"]
    return Step([_sums_and_outputs(v) for v in seen], losses, cost, gradients, updates, new)


def noise_of(key: Key[Array, ""] | None, state: TrainState) -> Key[Array, ""] | None:
    """The key of a step, as `make_step` folds it."""
    return None if key is None else jax.random.fold_in(key, state.step)


def _sums_and_outputs(visit: Visit) -> tuple[Array | None, Array]:
    sums = visit.layer.weighted_sums
    return None if sums is None else sums(visit.parameters, visit.inputs), visit.outputs


class Place(NamedTuple):
    """A quantity of a step; `layer` is `None` where it belongs to none."""

    quantity: str
    layer: str | None
    leaf: str
    values: Array | np.ndarray


def places_of(network: Network, state: TrainState, batch: Data, step: Step) -> list[Place]:
    """Everything that a step computes from and computes, in the order of computation."""
    by_layer = functools.partial(_by_layer, network)
    places = [
        Place(name, None, "", values)
        for name, values in batch._asdict().items()
        if values is not None
    ]
    places += by_layer("parameters", state.parameters)
    layers = layers_in(network, state.parameters)
    for (name, layer, _), (sums, outputs) in zip(layers, step.forward, strict=True):
        if sums is None:
            places.append(Place("output", name, layer.name, outputs))
        else:
            places.append(Place("weighted sum", name, layer.name, sums))
            places.append(Place("activation", name, layer.name, outputs))
    places += [Place("loss", None, "", step.losses), Place("cost", None, "", step.cost)]
    places += reversed(by_layer("gradient", step.gradients))
    if step.updates is not None:
        places += by_layer("update", step.updates)
        places += by_layer("new parameters", step.state.parameters)
        before = trees.named_leaves(state.optimizer_state)
        after = trees.named_leaves(step.state.optimizer_state)
        for path, values in after.items():
            if has_numbers(values):  # an infinity from the start is on purpose
                changed = np.where(not_finite(before[path]), 0, values)
                places.append(Place("optimizer state", None, path, changed))
    return [place for place in places if has_numbers(place.values)]


def _by_layer(network: Network, quantity: str, tree: PyTree) -> list[Place]:
    return [
        Place(quantity, name, path, leaf)
        for name, _, part in layers_in(network, tree)
        for path, leaf in trees.named_leaves(part).items()
    ]


def has_numbers(values: Array | np.ndarray) -> bool:
    """Whether values can be other than finite: floating-point numbers."""
    return bool(jnp.issubdtype(values.dtype, jnp.inexact))


def not_finite(values: Array | np.ndarray) -> Bool[np.ndarray, "..."]:
    """Which values are infinite or NaN."""
    return np.asarray(~np.isfinite(values))


def origin_of(
    plan: Plan,
    state: TrainState,
    batch: Data,
    key: Key[Array, ""] | None,
    places: list[Place],
) -> NonFinite | None:
    """The first of the places with a value that is not finite, and what is known about it."""
    wrong_ones = ((place, not_finite(place.values)) for place in places)
    place, wrong = next(((p, w) for p, w in wrong_ones if w.any()), (None, None))
    if place is None or wrong is None:
        return None
    rows: Any = []
    if place.quantity in _OF_EXAMPLES:
        rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(1))
    elif place.quantity == "gradient":
        network, loss, _ = plan
        arguments = state, batch, key
        program = compilation.compile_once(_wrong_gradients, (network, loss), arguments)
        own = _by_layer(network, "", program(*arguments))
        same_layer = [p.values for p in own if (p.layer or p.leaf) == (place.layer or place.leaf)]
        rows = np.flatnonzero(np.any(same_layer, axis=0))
    limit = f"{place.values.dtype}'s {float(jnp.finfo(place.values.dtype).max):.2g}"
    return NonFinite(
        place.quantity,
        place.layer or place.leaf,
        tuple(map(int, rows)),
        float(np.asarray(place.values)[wrong][0]),
        _CAUSES[place.quantity].format(limit=limit),
    )


_OF_EXAMPLES = ("inputs", "targets", "weights", "weighted sum", "activation", "output", "loss")


def _wrong_gradients(
    network: Network,
    loss: Loss,
    state: TrainState,
    batch: Data,
    key: Key[Array, ""] | None,
) -> PyTree:
    """For each leaf, of which examples the gradient, computed one by one, is not finite."""

    def cost(parameters: PyTree, example: Data) -> Array:
        outputs = network.apply(parameters, example.inputs, key=noise_of(key, state))
        return batch_means({"cost": loss}, outputs, example)["cost"]

    def wrong(row: Data) -> PyTree:
        gradients = jax.grad(cost)(state.parameters, jax.tree.map(lambda a: a[None], row))
        return jax.tree.map(lambda gradient: ~jnp.isfinite(gradient).all(), gradients)

    return jax.lax.map(wrong, batch)


_CAUSES = {
    "inputs": "missing or infinite values in the data",
    "targets": "missing or infinite values in the data",
    "weights": "examples are weighted by numbers that are not finite",
    "parameters": "they were so before this step, which did not cause it",
    "weighted sum": "what is summed is finite, so it goes beyond {limit}: usually the learning "
    "rate is too high and has made the weights grow, or the inputs are not standardised",
    "activation": "the weighted sums are finite, so it is the activation function: an exponential "
    "that overflows, a division by 0, or a logarithm or root outside of its domain",
    "output": "what goes into the layer is finite, so it is the layer itself: a sum or an "
    "exponential beyond {limit}, a division by 0, or a logarithm or root outside of its domain",
    "loss": "the outputs are finite, so it is the loss: usually the logarithm of a probability "
    "that is 0 (losses that take logits have no such point), or the square of a huge error",
    "cost": "every loss is finite, but their sum goes beyond {limit}: the learning rate is too "
    "high, or the targets are not standardised",
    "gradient": "the losses are finite, so it is a derivative: usually of a root or a logarithm at "
    "0, also where jnp.where passes over it, or a product that goes beyond {limit}, as the "
    "learning rate is too high or the inputs are not standardised",
    "update": "the gradients are finite, so it is the optimizer: a learning rate that is not "
    "finite, a division by 0 without epsilon, a product beyond {limit}, or a state that was "
    "not finite before",
    "new parameters": "parameters and updates are finite, but their sum goes beyond {limit}: the "
    "learning rate is too high",
    "optimizer state": "gradients and updates are finite, but what the optimizer keeps of them "
    "goes beyond {limit}, like the square of a gradient of 1e20: the learning rate is too high, or "
    "the data are not standardised",
}
