"""Exports a network as a StableHLO program, which runs without jaxnet."""

import os
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnet.core import checks, finite, tracing, trees
from jaxnet.core.arrays import to_array
from jaxnet.core.atomic import atomic_write
from jaxnet.nn.network import Network, check_network


@checks.door
def export(
    network: Network, parameters: PyTree, path: str | os.PathLike[str], *, example: Any = None
) -> None:
    """Exports a network with its parameters as a program for CPU and CUDA that needs only JAX.

    Where JAX and flatbuffers are installed, with or without jaxnet,

        import jax.export

        program = jax.export.deserialize(open(path, "rb").read())
        outputs = program.call(inputs)

    gives the outputs of `predict`, for inputs `[batch, features]` of any batch size of at least 1.
    Each batch size is compiled on its first call. The program has no randomness and no gradients.
    Like every program exported by JAX, it contains the paths of the source files it was traced
    from.

    Args:
        network: the network.
        parameters: the network's parameters, which become constants of the program.
        path: the file, which is written completely or not at all.
        example: one example, such as `inputs[0]`, or its `jax.ShapeDtypeStruct`; only its shape and
            dtype are used. It is required if `network.in_features` is None. The default is
            `in_features` numbers in float32.

    Raises:
        TypeError: `network` is not a `Network`, or `path` is not a path.
        ValueError: the parameters do not match the network or are non-finite; the example is
            missing or does not match the network; the network does not accept every batch size, or
            divides its values among several devices.
        OSError: the file cannot be written; an existing file is unchanged.

    Reference: https://docs.jax.dev/en/latest/export/export.html, which guarantees that an
    exported program runs on versions of JAX up to six months newer, so keep the parameters too.
    The counterparts are `torch.export` in PyTorch and SavedModel in TensorFlow.

    >>> import pathlib, tempfile
    >>> from jaxnet import mlp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "network.jax")
    ...     export(mlp([2, 2]), [(jnp.eye(2), jnp.ones(2))], path)
    ...     jax.export.deserialize(path.read_bytes()).call(jnp.array([[1.0, 2.0]]))
    Array([[2., 3.]], dtype=float32)
    """
    check_network(network)
    trees.arrays("parameters", parameters)
    checks.path("path", path)
    inputs = _make_inputs(network, example)
    _check_parameters(network, parameters, inputs)
    values = jax.device_get(parameters)  # one copy, even if they are replicated on many devices
    _check_finite(values)

    def outputs(inputs: jax.Array) -> Any:
        return network.apply(jax.tree.map(jnp.asarray, values), inputs)

    with tracing.trace_anew():
        program = jax.export.export(jax.jit(outputs), platforms=("cpu", "cuda"))(inputs)
    if program.nr_devices != 1:
        raise checks.InvalidValue(
            f"expected a network that computes on one device. Received: one whose apply constrains "
            f"its values to {program.nr_devices} devices"
        )
    with atomic_write(path) as file:
        file.write(program.serialize())


def _make_inputs(network: Network, example: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of a batch of inputs, of a symbolic size."""
    if example is None and network.in_features is None:
        raise checks.InvalidValue(
            f"expected an example of the inputs, such as example=inputs[0], as "
            f"{network.name} does not know its number of features. Received: none"
        )
    if example is None:
        example = jax.ShapeDtypeStruct((network.in_features,), jnp.float32)
    elif not isinstance(example, jax.ShapeDtypeStruct):
        example = to_array("the example", example)
    (batch,) = jax.export.symbolic_shape("batch")
    return jax.ShapeDtypeStruct((batch, *example.shape), example.dtype)


def _check_parameters(network: Network, parameters: PyTree, inputs: jax.ShapeDtypeStruct) -> None:
    """Traces the network. If that fails, the parameters are compared with the network's own."""
    try:
        tracing.shapes(network.apply, parameters, inputs)
    except Exception as error:
        own = tracing.shapes(network.init, jax.random.key(0))
        trees.same_tree("parameters", parameters, "the network's", own)
        raise checks.InvalidValue(str(error)) from error


def _check_finite(parameters: PyTree) -> None:
    for name, values in trees.named_leaves(parameters).items():
        if (index := finite.first_nonfinite(values)) is not None:
            raise checks.InvalidValue(
                f"expected finite parameters. "
                f"Received: {np.asarray(values)[index]} in {name!r} at index {index}"
            )
