"""Finds the first non-finite value in a step of training."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key, PyTree

from jaxnet.core import checks, compilation
from jaxnet.core.finite import nonfinite
from jaxnet.debug.step_values import Value, list_by_layer, list_values, record_step
from jaxnet.nn.losses import Loss
from jaxnet.nn.network import Network
from jaxnet.training.data import Data, DataLike, check_data
from jaxnet.training.keys import step_key
from jaxnet.training.objective import Objective, check_means, make_objective
from jaxnet.training.state import TrainState, check_state


class NonFinite(NamedTuple):
    """The first non-finite value of a step; `print` it.

    Attributes:
        quantity: "inputs", "targets", "weights" (of examples), "parameters", "weighted sum",
            "activation", "output" (of layers that are not dense), "loss", "cost", "gradient",
            "update", "new parameters" or "optimizer state".
        layer: the name of the layer, as in `intermediates`. In a network without layers it is the
            name of the network or the path of the parameter, and for the optimizer's state the
            path of the leaf. Otherwise it is empty.
        rows: the positions in the batch of the examples whose value is non-finite. For a gradient,
            the examples whose own gradient is; there may be none.
        value: nan, inf or -inf.
        cause: a sentence about the usual cause.
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
    """Finds the first infinite value or NaN of a training step.

    Quantities are examined in the order of computation: the batch, the parameters, the weighted
    sums and activations of one layer after the other, the losses and their mean, the gradients
    from the last layer to the first, the updates, the new parameters, and the values of the new
    optimizer state that were finite before. The losses of examples of weight 0 do not count. An
    intended infinity, such as the logit of an impossible class, is reported like any other.

    Args:
        network, loss, optimizer: as in `make_step`.
        state: before the step.
        batch: `(inputs, targets)` or `(inputs, targets, weights)`, as given to the step.
        key: as given to the step.

    Returns:
        None if all values are finite.

    Raises:
        ValueError, TypeError: an invalid argument, before anything is compiled.

    >>> from jaxnet import gradient_descent, initial_state, mlp, squared_error
    >>> network, optimizer = mlp([1, 1]), gradient_descent(0.1)
    >>> state = initial_state(network, optimizer, key=jax.random.key(0))
    >>> batch = jnp.array([[1.0], [jnp.nan], [3.0]]), jnp.ones((3, 1))
    >>> print(find_nonfinite(network, squared_error, optimizer, state, batch))
    inputs: nan, in rows 1 of the batch (1 in all); missing or infinite values in the data
    """
    objective = make_objective(network, loss)
    checks.optimizer("optimizer", optimizer)
    check_state(state)
    batch = check_batch(objective, state.parameters, batch, key)
    return find_in_step(objective, optimizer, state, batch, key)


def find_in_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Data,
    key: Key[Array, ""] | None,
) -> NonFinite | None:
    """The same, for arguments that were checked."""
    step = record_step(objective, optimizer, state, batch, key)
    values = list_values(objective.network, state, batch, step)
    return find_first(objective, state, batch, key, values)


def check_batch(
    objective: Objective, parameters: PyTree, batch: DataLike, key: Key[Array, ""] | None
) -> Data:
    """Converts a batch to arrays, and traces the objective on it."""
    given, batch = batch, check_data("batch", batch)
    if key is not None:
        checks.key(key)
    check_means(objective.network, objective.functions(), parameters, batch, "batch", given)
    return batch


def find_first(
    objective: Objective,
    state: TrainState,
    batch: Data,
    key: Key[Array, ""] | None,
    values: list[Value],
) -> NonFinite | None:
    """Finds the first quantity with a non-finite value, and describes it."""
    masks = ((value, nonfinite(value.values)) for value in values)
    value, wrong = next(((v, mask) for v, mask in masks if mask.any()), (None, None))
    if value is None or wrong is None:
        return None
    rows: Any = []
    if value.quantity in _PER_EXAMPLE:
        rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(1))
    elif value.quantity == "gradient":
        arguments = state, batch, key
        program = compilation.compile_once(_find_wrong_gradients, (objective,), arguments)
        own = list_by_layer(objective.network, "", program(*arguments))
        place = value.layer or value.leaf
        rows = np.flatnonzero(
            np.any([v.values for v in own if (v.layer or v.leaf) == place], axis=0)
        )
    limit = f"{value.values.dtype}'s {float(jnp.finfo(value.values.dtype).max):.2g}"
    return NonFinite(
        value.quantity,
        value.layer or value.leaf,
        tuple(map(int, rows)),
        float(np.asarray(value.values)[wrong][0]),
        _CAUSES[value.quantity].format(limit=limit),
    )


_PER_EXAMPLE = ("inputs", "targets", "weights", "weighted sum", "activation", "output", "loss")


def _find_wrong_gradients(
    objective: Objective,
    state: TrainState,
    batch: Data,
    key: Key[Array, ""] | None,
) -> PyTree:
    """For each leaf, which examples have a non-finite gradient of their own."""

    def cost(parameters: PyTree, example: Data) -> Array:
        return objective.cost(parameters, example, step_key(key, state.step))[0]

    def wrong(row: Data) -> PyTree:
        gradients = jax.grad(cost)(state.parameters, jax.tree.map(lambda a: a[None], row))
        return jax.tree.map(lambda gradient: ~jnp.isfinite(gradient).all(), gradients)

    return jax.lax.map(wrong, batch)


_CAUSES = {
    "inputs": "missing or infinite values in the data",
    "targets": "missing or infinite values in the data",
    "weights": "the weights of the examples are non-finite",
    "parameters": "they were non-finite before this step, which is not the cause",
    "weighted sum": "its terms are finite, so the sum exceeds {limit}: usually the learning rate "
    "is too high and has made the weights grow, or the inputs are not standardized",
    "activation": "the weighted sums are finite, so the cause is the activation function: an "
    "exponential that overflows, a division by 0, or a logarithm or root outside its domain",
    "output": "the inputs of the layer are finite, so the cause is the layer: a sum or an "
    "exponential that exceeds {limit}, a division by 0, or a logarithm or root outside its domain",
    "loss": "the outputs are finite, so the cause is the loss: usually the logarithm of a "
    "probability of 0 (losses of logits avoid it), or the square of a huge error",
    "cost": "every loss is finite, but their sum exceeds {limit}: the learning rate is too high, "
    "or the targets are not standardized",
    "gradient": "the losses are finite, so the cause is a derivative: usually of a root or a "
    "logarithm at 0, even where jnp.where does not select it, or a product that exceeds {limit} "
    "because the learning rate is too high or the inputs are not standardized",
    "update": "the gradients are finite, so the cause is the optimizer: a non-finite learning "
    "rate, a division by 0 without epsilon, a product that exceeds {limit}, or a state that was "
    "non-finite before",
    "new parameters": "parameters and updates are finite, but their sum exceeds {limit}: the "
    "learning rate is too high",
    "optimizer state": "gradients and updates are finite, but a value of the optimizer's state "
    "exceeds {limit}, such as the square of a gradient of 1e20: the learning rate is too high, or "
    "the data are not standardized",
}
