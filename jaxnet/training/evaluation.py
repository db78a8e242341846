"""Evaluation: outputs of a network and means of losses and metrics, in bounded memory.

Many examples are processed in slices within one compiled program. The last slice ends with the last
example; the examples that it shares with the slice before count once.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
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
from jaxnet.streaming.ahead import read_ahead
from jaxnet.streaming.feeds import read_sample
from jaxnet.streaming.layout import make_layout
from jaxnet.streaming.reading import Block, Examples, read_block
from jaxnet.streaming.stream import Stream
from jaxnet.streaming.targets import TargetCheck
from jaxnet.training.data import (
    Data,
    DataLike,
    can_be_padded,
    check_data,
    pad,
    pad_rows,
    place_like,
    take_rows,
)
from jaxnet.training.objective import (
    check_means,
    check_metrics,
    scale_weights,
    total_weight,
    weighted_means,
)

SLICE = 1024  # examples that are evaluated at a time


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
    return program(parameters, data)


def _mean_over(
    network: Network,
    functions: Mapping[str, Metric],
    batch_size: int,
    sharding: NamedSharding | None,
    parameters: PyTree,
    data: Data,
) -> dict[str, Array]:
    return mean_over(network, functions, parameters, data, batch_size, sharding)


def mean_over_stream(
    network: Network,
    functions: Mapping[str, Metric],
    parameters: PyTree,
    stream: Stream,
    name: str,
    batch_size: int = SLICE,
    sharding: NamedSharding | None = None,
) -> dict[str, Array]:
    """The means over a stream, a block at a time.

    The sums over the blocks are in float64.

    Args:
        name: the name of the stream in error messages.
    """
    program, weights, sums = None, 0.0, dict.fromkeys(functions, 0.0)

    def check(examples: Examples) -> None:
        check_examples(network, functions, parameters, examples, name)

    for data, _ in iterate(stream, name, check, sharding):
        if program is None:
            static = network, dict(functions), batch_size, sharding
            program = compilation.compile_once(_mean_and_weight, static, (parameters, data))
        means, weight = program(parameters, data)
        if weight > 0:
            weights += float(weight)
            sums = {key: sums[key] + float(weight) * float(means[key]) for key in sums}
    if weights == 0:
        raise checks.InvalidValue(f"expected weights of {name} that are not all 0. Received: 0")
    return {key: jnp.asarray(value / weights, means[key].dtype) for key, value in sums.items()}


def check_examples(
    network: Network,
    functions: Mapping[str, Metric],
    parameters: PyTree,
    examples: Examples,
    name: str,
) -> None:
    """Traces a network and functions of its outputs on examples of a stream."""
    inputs: Any = jax.ShapeDtypeStruct(examples.inputs.shape, examples.inputs.dtype)
    data = Data(inputs, jnp.asarray(examples.targets))
    check_means(network, functions, parameters, data, name, data)


def _mean_and_weight(
    network: Network,
    functions: Mapping[str, Metric],
    batch_size: int,
    sharding: NamedSharding | None,
    parameters: PyTree,
    data: Data,
) -> tuple[dict[str, Array], Array]:
    means = mean_over(network, functions, parameters, data, batch_size, sharding)
    return means, total_weight(data)


def iterate(
    stream: Stream,
    name: str,
    check: Callable[[Examples], None],
    sharding: NamedSharding | None,
) -> Iterator[tuple[Data, Block]]:
    """Yields the blocks of a stream in the order of its rows, one read ahead in a thread.

    All have the same size. The rows that fill up the last one have weight 0.

    Args:
        name: the name of the stream in error messages.
        check: is called with the first rows and with targets of other values.
        sharding: of the batches; every device gets the whole block.
    """
    sample = read_sample(stream, 1, name)
    check(sample)
    layout = make_layout(stream, sample.row_bytes, 1)
    check_targets = TargetCheck(check, stream.describe)

    def load(pieces: list[range], stop: threading.Event) -> Block:
        return read_block(stream, pieces, layout.size, sample, name, stop)

    with contextlib.closing(read_ahead(load, layout.in_order())) as blocks:
        for block in blocks:
            check_targets(block)
            yield block_data(block, sharding), block


def block_data(block: Block, sharding: NamedSharding | None) -> Data:
    """The examples of a block on the device, with weight 0 for those that only fill it up."""
    inputs, targets, weights = block.examples
    real = np.arange(len(inputs)) < block.rows
    weights = real.astype(np.float32) if weights is None else np.where(real, weights, 0)
    return place_block(Data(inputs, targets, weights), sharding)  # type: ignore[arg-type]


def place_block(data: Data, sharding: NamedSharding | None) -> Data:
    """Copies NumPy arrays to the device, or to all devices of a batch sharding.

    A CPU takes arrays that are laid out as it needs them without copying.
    """
    return place("data", data, sharding) if sharding else jax.device_put(data)


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


def slices(data: Data) -> Iterator[tuple[Int[np.ndarray, " rows"], Data]]:
    """The rows and examples that `mean_over` evaluates at a time, on the host."""
    all_rows = np.arange(len(data.inputs))
    for start in range(0, len(all_rows), SLICE):
        rows = all_rows[start : start + SLICE]
        yield rows, jax.tree.map(lambda array, rows=rows: array[rows], data)


@checks.door
def predict(
    network: Network,
    parameters: PyTree,
    inputs: Any,
    *,
    batch_size: int = SLICE,
    batch_sharding: NamedSharding | None = None,
) -> Float[Array, "examples ..."] | np.ndarray:
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
        The outputs as a JAX array; those of a stream as a NumPy array in the host's memory.

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

    for data, block in iterate(stream, "data", check, sharding):
        if program is None:
            static, arguments = (network, batch_size, sharding), (parameters, data.inputs)
            program = compilation.compile_once(_predict, static, arguments)
        outputs = np.asarray(program(parameters, data.inputs))
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
