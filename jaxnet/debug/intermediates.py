"""The values that the layers of a network compute for given inputs."""

from collections import OrderedDict
from typing import Any, NamedTuple

from jaxtyping import Array, Key, PyTree

from jaxnet.core import checks, trees
from jaxnet.nn.combinators import residual
from jaxnet.nn.network import Network, check_network


@checks.door
def intermediates(
    network: Network, parameters: PyTree, inputs: Array, *, key: Key[Array, ""] | None = None
) -> dict[str, Array]:
    """Computes the values of every layer, by name and in order.

    A dense layer has "weighted sums" and "activations", any other layer "outputs", in the dtype of
    the computation. The values are those of `network.apply(parameters, inputs, key=key)`, bit for
    bit. The layers inside serial networks and residual blocks are listed, and a block has "outputs"
    too. A network from another library, or written by hand, has its "outputs".

    The function can be compiled, vectorized and differentiated like `apply`.

    Args:
        network: any `Network`.
        parameters: the network's.
        inputs: `[..., features]`.
        key: for dropout; without a key there is none.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnet import mlp
    >>> network = mlp([2, 3, 1])
    >>> parameters = network.init(jax.random.key(0))
    >>> values = intermediates(network, parameters, jnp.ones((5, 2)))
    >>> for name, value in values.items():
    ...     print(name, value.shape)
    0 dense(2, 3, relu)/weighted sums (5, 3)
    0 dense(2, 3, relu)/activations (5, 3)
    1 dense(3, 1, identity)/weighted sums (5, 1)
    1 dense(3, 1, identity)/activations (5, 1)
    """
    check_network(network)
    trees.arrays("parameters", parameters)
    values = OrderedDict()  # jit preserves its order
    for visit in visits(network, parameters, inputs, key=key):
        prefix = visit.name and f"{visit.name}/"
        if visit.layer.weighted_sums is None:
            values[f"{prefix}outputs"] = visit.outputs
        else:
            sums = visit.layer.weighted_sums(visit.parameters, visit.inputs)
            values[f"{prefix}weighted sums"] = sums
            values[f"{prefix}activations"] = visit.outputs
    return values


class Visit(NamedTuple):
    """A layer as it was applied; its parameters are cast if the network has a `compute_dtype`."""

    name: str
    layer: Network
    parameters: PyTree
    inputs: Array
    outputs: Array


def visits(
    network: Network, parameters: PyTree, inputs: Array, *, key: Key[Array, ""] | None = None
) -> list[Visit]:
    """Applies a network, and records each layer of `layers_in` as it was applied.

    A network with `rebuild` is built again from layers that record their inputs and outputs. So the
    keys, residual sums and dtypes are those of the network.
    """
    recorded: list[Any] = []

    def record(layer: Network) -> Network:
        if layer.rebuild is not None:
            layer = layer.rebuild(*map(record, layer.layers))
            if layer.rebuild is not residual:
                return layer

        def apply(parameters: PyTree, x: Array, *, key: Key[Array, ""] | None = None) -> Array:
            outputs = layer.apply(parameters, x, key=key)
            recorded.append((parameters, x, outputs))
            return outputs

        return layer._replace(apply=apply)

    record(network).apply(parameters, inputs, key=key)
    layers = layers_in(network, parameters)
    return [
        Visit(name, layer, *used) for (name, layer, _), used in zip(layers, recorded, strict=True)
    ]


def layers_in(network: Network, tree: PyTree, path: str = "") -> list[tuple[str, Network, PyTree]]:
    """Lists the innermost layers, each with its name and its part of a tree like the parameters.

    A residual block follows its layers, without a part of its own. A name contains the path in the
    network; the network itself has an empty name.
    """
    if network.rebuild is None:
        return [(path, network, tree)]
    layers = []
    is_block = network.rebuild is residual
    parts = (tree,) if is_block else tree
    for i, (layer, part) in enumerate(zip(network.layers, parts, strict=True)):
        label = layer.name if layer.rebuild is None else layer.name.partition("(")[0]
        layers += layers_in(layer, part, f"{path}/{i} {label}".lstrip("/"))
    return [*layers, (path, network, ())] if is_block else layers
