"""Evaluation: a network's outputs and the means of its losses and metrics, in bounded memory.

Many examples are taken a batch at a time, within the compiled program. The last batch ends with the
last example; what it shares with the one before is counted once.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxnet.core import arrays, checks, compilation, dtypes, tracing, trees
from jaxnet.nn.losses import Loss, plain_mean, relative_weights
from jaxnet.nn.metrics import Metric
from jaxnet.nn.network import Network, check_network
from jaxnet.nn.precision import widened
from jaxnet.training.data import Data, DataLike, check_data

EXAMPLES_AT_A_TIME = 1024
"""A loss or a metric: `measure(outputs, targets) -> [batch]`."""


@checks.door
def evaluate(
    network: Network,
    parameters: PyTree,
    data: DataLike,
    measures: Mapping[str, Metric],
    *,
    batch_size: int = EXAMPLES_AT_A_TIME,
) -> dict[str, Float[Array, ""]]:
    """Weighted means of losses and metrics over all of the data, computed in batches.

    Args:
        measures: named losses and metrics.
        batch_size: how many examples at a time, which bounds the memory.

    >>> from jaxnet import accuracy, mlp
    >>> network = mlp([2, 2])
    >>> data = jnp.eye(2), jnp.array([0, 1])
    >>> evaluate(network, [(jnp.eye(2), jnp.zeros(2))], data, {"accuracy": accuracy})
    {'accuracy': Array(1., dtype=float32)}
    """
    check_network(network)
    trees.arrays("parameters", parameters)
    given, data = data, check_data("data", data)
    batch_size = checks.integer("batch_size", batch_size, 1)
    check_names("measures", measures)
    check_measures("data", network, measures, data, parameters, given)
    data = with_relative_weights(data)
    static = network, dict(measures), batch_size
    return compilation.compile_once(means_over, static, (parameters, data))(parameters, data)


def means_over(
    network: Network,
    measures: Mapping[str, Metric],
    batch_size: int,
    parameters: PyTree,
    data: Data,
) -> dict[str, Array]:
    """What `evaluate` computes, of arguments that have been checked."""

    def one_batch(batch: Data) -> Any:
        means = batch_means(measures, network.apply(parameters, batch.inputs), batch)
        return means, total_weight(batch)

    examples = len(data.inputs)
    if examples <= batch_size:
        return one_batch(data)[0]
    if data.weights is None:
        data = data._replace(weights=jnp.ones(examples))

    def from_start(start: Int[Array, ""]) -> Any:
        batch, new = _slice(data, start, batch_size)
        return one_batch(batch._replace(weights=jnp.where(new, batch.weights, 0)))

    means, weights = jax.lax.map(from_start, jnp.arange(0, examples, batch_size))
    return {name: plain_mean(values, weights) for name, values in means.items()}


@checks.door
def predict(
    network: Network,
    parameters: PyTree,
    inputs: Any,
    *,
    batch_size: int = EXAMPLES_AT_A_TIME,
) -> Float[Array, "examples ..."]:
    """The network's outputs for all inputs, computed in batches, without randomness.

    Inputs are `[examples, ...]`: a JAX array, or anything that becomes float32, as in `fit`.

    >>> from jaxnet import mlp
    >>> predict(mlp([2, 2]), [(jnp.eye(2), jnp.ones(2))], jnp.array([[1.0, 2.0]]))
    Array([[2., 3.]], dtype=float32)
    """
    check_network(network)
    trees.arrays("parameters", parameters)
    batch_size = checks.integer("batch_size", batch_size, 1)
    inputs = arrays.to_array("inputs", inputs)
    if inputs.ndim < 2:
        raise checks.InvalidValue(
            f"expected inputs of shape [examples, features]. Received: {list(inputs.shape)}"
        )
    program = compilation.compile_once(_predict, (network, batch_size), (parameters, inputs))
    return program(parameters, inputs)


def _predict(network: Network, batch_size: int, parameters: PyTree, inputs: Array) -> Array:
    examples = len(inputs)
    if examples <= batch_size:
        return network.apply(parameters, inputs)
    starts = jnp.arange(0, examples, batch_size)
    blocks = jax.lax.map(
        lambda start: network.apply(parameters, _slice(inputs, start, batch_size)[0]), starts
    )
    last = examples - (len(starts) - 1) * batch_size
    return jnp.concatenate([blocks[:-1].reshape(-1, *blocks.shape[2:]), blocks[-1, -last:]])


def named_measures(loss: Loss, metrics: Mapping[str, Metric] | None) -> dict[str, Metric]:
    """The loss, as "cost", and the metrics, which must not be called as anything else is."""
    checks.function("loss", loss)
    metrics = {} if metrics is None else metrics
    check_names("metrics", metrics)
    for name in metrics:
        if name == "cost" or name.startswith("validation_"):
            raise checks.InvalidValue(
                f"expected metrics with names other than 'cost' and 'validation_...', "
                f"which are taken. Received: {name!r}"
            )
    return {"cost": loss, **metrics}


def check_names(name: str, measures: Mapping[str, Metric]) -> None:
    """Measures as a mapping from names to functions."""
    if isinstance(measures, Mapping) and all(
        isinstance(label, str) and callable(measure) for label, measure in measures.items()
    ):
        return
    raise checks.InvalidType(
        f"expected {name} as names and functions, such as "
        f"{{'accuracy': jaxnet.accuracy}}. Received: {checks.describe(measures)}"
    )


def check_measures(
    name: str,
    network: Network,
    measures: Mapping[str, Metric],
    data: Data,
    parameters: PyTree,
    given: Any,
) -> None:
    """Traces the network and its measures on the data, whose targets' values may be at hand.

    Of targets that are no labels, an error says what they were when they were `given`.
    """
    try:
        outputs = tracing.shapes(network.apply, parameters, data.inputs)
        for label, measure in measures.items():
            tracing.shapes(
                functools.partial(_per_example, label, measure, targets=data.targets), outputs
            )
    except (TypeError, ValueError) as error:
        kind = checks.InvalidType if isinstance(error, TypeError) else checks.InvalidValue
        said = str(error).partition("\n")[0]
        if said.endswith(
            no_labels := f"integer labels. Received: {arrays.describe_numbers(data.targets)}"
        ):
            said = said.removesuffix(no_labels)
            said += f"integer labels. Received: {arrays.describe_numbers(given[1])}"
        raise kind(f"{name}: {said}") from error


def batch_means(measures: Mapping[str, Metric], outputs: Array, batch: Data) -> dict[str, Array]:
    """The weighted mean of every measure, which must give one value per example."""
    values = {
        name: _per_example(name, measure, outputs, batch.targets)
        for name, measure in measures.items()
    }
    return {name: plain_mean(each, batch.weights) for name, each in values.items()}


def _per_example(name: str, measure: Metric, outputs: Array, targets: Array) -> Array:
    with checks.about(name):
        values = arrays.floating("values", measure(outputs, targets))
        if values.shape != targets.shape[:1]:
            raise checks.InvalidValue(
                f"expected one value per example, [{len(targets)}]. Received: {list(values.shape)}"
            )
    return values


def with_relative_weights(data: Data) -> Data:
    """The data with weights of which any number have a finite sum, if they are not so already.

    Of weights that are not at hand nobody knows, so they are always scaled.
    """
    weights = data.weights
    if weights is None:
        return data
    if dtypes.is_concrete(weights) and jnp.issubdtype(weights.dtype, jnp.float32):
        if 2.0**-20 <= np.asarray(weights).max() <= 2.0**20:
            return data
    elif not jnp.issubdtype(weights.dtype, jnp.floating):
        weights = weights.astype(jnp.float32)
    scaled = relative_weights(widened(weights))
    # Without the barrier XLA would compile the scaling into the sums, and add in another order.
    return data._replace(weights=jax.lax.optimization_barrier(scaled))


def total_weight(batch: Data) -> Float[Array, ""]:
    """By how much the batch's means count in those of all batches."""
    if batch.weights is None:
        return jnp.array(len(batch.inputs), jnp.float32)
    return jnp.sum(batch.weights)


def _slice(tree: Any, start: Int[Array, ""], size: int) -> Any:
    """`size` rows from `start`, or the last ones, and which of them are at or after `start`."""
    rows = len(jax.tree.leaves(tree)[0])
    sliced = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, size), tree)
    first = jnp.minimum(start, rows - size)
    return sliced, first + jnp.arange(size) >= start
