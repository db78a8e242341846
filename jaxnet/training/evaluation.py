"""Evaluation: outputs of a network and means of losses and metrics, in bounded memory.

Many examples are processed in slices within one compiled program. The last slice ends with the last
example; the examples that it shares with the slice before count once.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, PyTree

from jaxnet.core import arrays, checks, compilation, tracing, trees
from jaxnet.core.settled import settled_key
from jaxnet.core.sharding import constrain, find_batch_sharding, place, replicate
from jaxnet.nn.losses import plain_mean
from jaxnet.nn.metrics import Metric
from jaxnet.nn.network import Network, check_network
from jaxnet.streaming.blocks import iterate
from jaxnet.streaming.reading import Examples
from jaxnet.streaming.stream import Stream
from jaxnet.training.data import (
    SLICE,
    Data,
    DataLike,
    block_data,
    can_be_padded,
    check_data,
    pad,
    pad_rows,
    place_like,
    take_rows,
)
from jaxnet.training.objective import (
    check_examples,
    check_means,
    check_metrics,
    scale_weights,
    total_weight,
    weighted_means,
)


@checks.door
def evaluate(
    network: Network,
    parameters: PyTree,
    data: DataLike | Stream,
    metrics: Mapping[str, Metric],
    *,
    batch_size: int = SLICE,
    batch_sharding: NamedSharding | None = None,
) -> dict[str, Float[Array, ""]]:
    """Computes the weighted means of losses and metrics over data, in batches.

    Args:
        network: any `Network`.
        parameters: the network's.
        data: `(inputs, targets)` or `(inputs, targets, weights)`, as in `fit`; or a `Stream`, which
            is read in the order of its rows, a block at a time.
        metrics: losses and metrics by name.
        batch_size: the number of examples that are processed at a time, which bounds the memory.
        batch_sharding: how these examples are divided among devices, as in `train`.

    Returns:
        The means by name.

    Raises:
        ValueError, TypeError: an invalid argument, before anything is compiled.

    >>> from jaxnet import accuracy, mlp
    >>> network = mlp([2, 2])
    >>> data = jnp.eye(2), jnp.array([0, 1])
    >>> evaluate(network, [(jnp.eye(2), jnp.zeros(2))], data, {"accuracy": accuracy})
    {'accuracy': Array(1., dtype=float32)}
    """
    check_network(network)
    trees.arrays("parameters", parameters)
    batch_size = checks.integer("batch_size", batch_size, 1)
    check_metrics(metrics)
    if isinstance(data, Stream):
        sharding = find_batch_sharding(batch_sharding, ())
        parameters = place("parameters", parameters, sharding)
        return mean_over_stream(network, metrics, parameters, data, "data", batch_size, sharding)
    given, data = data, check_data("data", data)
    sharding = find_batch_sharding(batch_sharding, data)
    check_means(network, metrics, parameters, data, "data", given)
    parameters = place("parameters", parameters, sharding)
    data = scale_weights(place("data", data, sharding))
    return mean_over_data(network, metrics, parameters, data, batch_size, sharding)


def mean_over_data(
    network: Network,
    functions: Mapping[str, Metric],
    parameters: PyTree,
    data: Data,
    batch_size: int = SLICE,
    sharding: NamedSharding | None = None,
) -> dict[str, Array]:
    """The means over concrete data with scaled weights, by a compiled program."""
    static = network, dict(functions), batch_size, sharding
    identity = settled_key(static)
    if identity is not None and can_be_padded(*data):
        data = pad(data)
    program = compilation.compile_once(_mean_over, static, (parameters, data), identity=identity)
    return program(parameters, data)[0]


def _mean_over(
    network: Network,
    functions: Mapping[str, Metric],
    batch_size: int,
    sharding: NamedSharding | None,
    parameters: PyTree,
    data: Data,
) -> tuple[dict[str, Array], Array]:
    means = mean_over(network, functions, parameters, data, batch_size, sharding)
    return means, total_weight(data)


def mean_over_stream(
    network: Network,
    functions: Mapping[str, Metric],
    parameters: PyTree,
    stream: Stream,
    name: str,
    batch_size: int = SLICE,
    sharding: NamedSharding | None = None,
) -> dict[str, Array]:
    """The means over a stream, which has a name in error messages; added up in float64."""
    program, weights, sums = None, 0.0, dict.fromkeys(functions, 0.0)

    def check(examples: Examples) -> None:
        check_examples(network, functions, parameters, examples, name)

    for block in iterate(stream, name, check):
        data = block_data(block, sharding)
        if program is None:
            static = network, dict(functions), batch_size, sharding
            program = compilation.compile_once(_mean_over, static, (parameters, data))
        means, weight = program(parameters, data)
        if weight > 0:
            weights += float(weight)
            sums = {key: sums[key] + float(weight) * float(means[key]) for key in sums}
    if weights == 0:
        raise checks.InvalidValue(f"expected weights of {name} that are not all 0. Received: 0")
    return {key: jnp.asarray(value / weights, means[key].dtype) for key, value in sums.items()}


def mean_over(
    network: Network,
    functions: Mapping[str, Metric],
    parameters: PyTree,
    data: Data,
    batch_size: int = SLICE,
    sharding: NamedSharding | None = None,
) -> dict[str, Array]:
    """The weighted means of functions of the outputs, for checked arguments and scaled weights."""

    def evaluate_slice(batch: Data) -> Any:
        means = weighted_means(functions, network.apply(parameters, batch.inputs), batch)
        return means, total_weight(batch)

    examples = len(data.inputs)
    if examples <= batch_size:
        return evaluate_slice(constrain(data, sharding))[0]
    if data.weights is None:
        data = data._replace(weights=jnp.ones(examples))

    def evaluate_from(start: Int[Array, ""]) -> Any:
        batch, new = _slice(data, start, batch_size, sharding)
        return evaluate_slice(batch._replace(weights=jnp.where(new, batch.weights, 0)))

    means, weights = jax.lax.map(evaluate_from, jnp.arange(0, examples, batch_size))
    return {name: plain_mean(values, weights) for name, values in means.items()}


@checks.door
def predict(
    network: Network,
    parameters: PyTree,
    inputs: Any,
    *,
    batch_size: int = SLICE,
    batch_sharding: NamedSharding | None = None,
) -> Any:
    """Computes the network's outputs for all inputs, in batches and without noise.

    Args:
        network: any `Network`.
        parameters: the network's.
        inputs: `[examples, ...]`, a JAX array or anything that becomes float32, as in `fit`; or a
            `Stream`, whose targets are read but not used.
        batch_size: the number of examples that are processed at a time, which bounds the memory.
        batch_sharding: how these examples are divided among devices, as in `train`. Every device
            then has all outputs.

    Returns:
        The outputs `[examples, ...]`: a JAX array, or for a stream a NumPy array of all its rows.

    Raises:
        ValueError, TypeError: an invalid argument, before anything is compiled.

    >>> from jaxnet import mlp
    >>> predict(mlp([2, 2]), [(jnp.eye(2), jnp.ones(2))], jnp.array([[1.0, 2.0]]))
    Array([[2., 3.]], dtype=float32)
    """
    check_network(network)
    trees.arrays("parameters", parameters)
    batch_size = checks.integer("batch_size", batch_size, 1)
    if isinstance(inputs, Stream):
        sharding = find_batch_sharding(batch_sharding, ())
        parameters = place("parameters", parameters, sharding)
        return _predict_stream(network, parameters, inputs, batch_size, sharding)
    inputs = arrays.to_array("inputs", inputs)
    if inputs.ndim < 2:
        raise checks.InvalidValue(
            f"expected inputs of shape [examples, features]. Received: {list(inputs.shape)}"
        )
    sharding = find_batch_sharding(batch_sharding, inputs)
    parameters = place("parameters", parameters, sharding)
    inputs = place("inputs", inputs, sharding)
    static, given, examples = (network, batch_size, sharding), inputs, len(inputs)
    identity = settled_key(static)
    if identity is not None and can_be_padded(inputs):
        inputs = pad_rows(inputs)
    program = compilation.compile_once(_predict, static, (parameters, inputs), identity=identity)
    try:
        outputs = program(parameters, inputs)
    except (TypeError, ValueError):
        if len(inputs) != examples:  # the message is to have the shape of the inputs as given
            tracing.shapes(functools.partial(_predict, *static), parameters, given)
        raise
    if len(inputs) == examples:
        return outputs
    return place_like(outputs, np.asarray(outputs)[:examples])  # slicing on the device compiles


def _predict_stream(
    network: Network,
    parameters: PyTree,
    stream: Stream,
    batch_size: int,
    sharding: NamedSharding | None,
) -> np.ndarray:
    """The outputs for a stream, a block at a time."""
    program, results, made = None, np.empty(0), 0

    def check(examples: Examples) -> None:
        tracing.shapes(network.apply, parameters, examples.inputs)

    for block in iterate(stream, "data", check):
        inputs = block_data(block, sharding).inputs
        if program is None:
            static, arguments = (network, batch_size, sharding), (parameters, inputs)
            program = compilation.compile_once(_predict, static, arguments)
        outputs = np.asarray(program(parameters, inputs))
        if made == 0:
            results = np.empty((stream.rows, *outputs.shape[1:]), outputs.dtype)
        results[made : made + block.rows] = outputs[: block.rows]
        made += block.rows
    return results


def _predict(
    network: Network,
    batch_size: int,
    sharding: NamedSharding | None,
    parameters: PyTree,
    inputs: Array,
) -> Array:
    examples = len(inputs)
    if examples <= batch_size:
        outputs = network.apply(parameters, constrain(inputs, sharding))
        return replicate(outputs, sharding)

    def evaluate_from(start: Int[Array, ""]) -> Array:
        batch, _ = _slice(inputs, start, batch_size, sharding)
        return network.apply(parameters, batch)

    starts = jnp.arange(0, examples, batch_size)
    blocks = replicate(jax.lax.map(evaluate_from, starts), sharding)
    last = examples - (len(starts) - 1) * batch_size
    return jnp.concatenate([blocks[:-1].reshape(-1, *blocks.shape[2:]), blocks[-1, -last:]])


def _slice(tree: Any, start: Int[Array, ""], size: int, sharding: NamedSharding | None) -> Any:
    """Takes `size` rows from `start`, or the last ones; a mask tells those from `start` on."""
    rows = len(jax.tree.leaves(tree)[0])
    places = jnp.minimum(start, rows - size) + jnp.arange(size)
    if sharding is None:
        taken = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, size), tree)
    else:  # a slice would copy all rows to every device
        taken = take_rows(tree, places, sharding)
    return taken, places >= start
