"""Looking inside a network: what its layers cost, and all that they compute for given inputs.

A network with `rebuild` is built again of layers that note what they are applied to, so what is
seen is what the network computes: keys, residual sums and `compute_dtype` are its own.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, jaxprs_in_params
from jaxtyping import Array, Key, PyTree

from jaxnet.core import arrays, checks, tracing, trees
from jaxnet.nn.network import Network, check_network, residual

Shape = jax.ShapeDtypeStruct


class LayerSummary(NamedTuple):
    """What a layer, or the whole network, puts out and costs.

    Attributes:
        name: with its place in the network, such as "1 residual/0 dense(16, 16, relu)".
        outputs: the shape of what it puts out for one example.
        parameters: how many numbers they are.
        bytes: how many the parameters take.
        forward: floating-point operations for one example.
        backward: those of the gradient, for one example.
    """

    name: str
    outputs: tuple[int, ...]
    parameters: int
    bytes: int
    forward: int
    backward: int


class Summary(NamedTuple):
    """What `summary` counted; `print` it."""

    layers: tuple[LayerSummary, ...]
    total: LayerSummary

    def __str__(self) -> str:
        titles = ["layer", "outputs", "parameters", "bytes", "FLOPs forward", "FLOPs backward"]
        rows = [
            [row.name, str(list(row.outputs)), *(f"{number:,}" for number in row[2:])]
            for row in (*self.layers, self.total)
        ]
        return table([titles, *rows])


@checks.door
def summary(network: Network, inputs: Any = None) -> Summary:
    """Counts the parameters, bytes and floating-point operations of every layer.

    Nothing is computed and nothing compiled: the largest network is summarised at once.

    Args:
        network: serial networks and residual blocks are looked into.
        inputs: one example, without a batch axis: an array, a list, or a `jax.ShapeDtypeStruct`.
            By default float32 numbers, as many as the network says that it takes.

    Operations are those of matrix products, `2 * M * N * K` each, a multiplication and an addition
    for every term, and the additions of a dense layer's biases; what takes one or a few for each
    output is left out: activations, losses, the sums of residual blocks. For one example
    `dense(K, N)` has

        forward   2 K N + N
        backward  2 K N + N  for the gradient of weights and biases, summed over the examples,
                  2 K N      for the gradient of the inputs, where a layer before has parameters.

    Raises:
        ValueError: no example is given, and the network does not say how many features it takes.

    >>> from jaxnet import mlp
    >>> print(summary(mlp([10, 16, 3])))
    layer                     outputs  parameters  bytes  FLOPs forward  FLOPs backward
    0 dense(10, 16, relu)        [16]         176    704            336             336
    1 dense(16, 3, identity)      [3]          51    204             99             195
    total                         [3]         227    908            435             531
    """
    check_network(network)
    example = _example(network, inputs)
    parameters = tracing.shapes(network.init, jax.random.key(0))

    def applied(parameters: PyTree, inputs: Array) -> list[tuple[PyTree, Array, Array]]:
        seen = visits(network, parameters, inputs)
        return [(visit.parameters, visit.inputs, visit.outputs) for visit in seen]

    rows, trained = [], False
    seen = tracing.shapes(applied, parameters, example)
    for (name, layer, own), used in zip(layers_in(network, parameters), seen, strict=True):
        if layer.rebuild is residual:
            continue
        leaves = jax.tree.leaves(own)
        size, nbytes = sum(a.size for a in leaves), sum(a.size * a.dtype.itemsize for a in leaves)
        flops = _flops(layer, *used, to_inputs=trained)
        rows.append(LayerSummary(name or layer.name, used[2].shape[1:], size, nbytes, *flops))
        trained = trained or bool(leaves)
    columns = list(zip(*rows, strict=True))
    total = LayerSummary("total", rows[-1].outputs, *map(sum, columns[2:]))
    return Summary(tuple(rows), total)


@checks.door
def intermediates(
    network: Network, parameters: PyTree, inputs: Array, *, key: Key[Array, ""] | None = None
) -> dict[str, Array]:
    """All that the layers compute, by name and in order: weighted sums, activations, outputs.

    A dense layer has "weighted sums" and "activations", any other layer "outputs", in the dtype in
    which they are computed. They are those of `network.apply(parameters, inputs, key=key)`, bit for
    bit. Serial networks and residual blocks are looked into, and a block has "outputs" too; of a
    network by another library, or by hand, there are its "outputs".

    Can be compiled, vectorised and differentiated like `apply`.

    >>> from jaxnet import mlp
    >>> network = mlp([2, 3, 1])
    >>> values = intermediates(network, network.init(jax.random.key(0)), jnp.ones((5, 2)))
    >>> for name, value in values.items():
    ...     print(name, value.shape)
    0 dense(2, 3, relu)/weighted sums (5, 3)
    0 dense(2, 3, relu)/activations (5, 3)
    1 dense(3, 1, identity)/weighted sums (5, 1)
    1 dense(3, 1, identity)/activations (5, 1)
    """
    check_network(network)
    trees.arrays("parameters", parameters)
    values = OrderedDict()  # which keeps its order also when it comes out of jit
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
    """A layer as it was applied: its parameters converted, if the network does that."""

    name: str
    layer: Network
    parameters: PyTree
    inputs: Array
    outputs: Array


def visits(
    network: Network, parameters: PyTree, inputs: Array, *, key: Key[Array, ""] | None = None
) -> list[Visit]:
    """Applies the network; its layers, those of `layers_in`, as they were applied."""
    seen: list[Any] = []

    def watched(layer: Network) -> Network:
        if layer.rebuild is not None:
            layer = layer.rebuild(*map(watched, layer.layers))
            if layer.rebuild is not residual:
                return layer

        def apply(parameters: PyTree, x: Array, *, key: Key[Array, ""] | None = None) -> Array:
            outputs = layer.apply(parameters, x, key=key)
            seen.append((parameters, x, outputs))
            return outputs

        return layer._replace(apply=apply)

    watched(network).apply(parameters, inputs, key=key)
    layers = layers_in(network, parameters)
    return [Visit(name, layer, *used) for (name, layer, _), used in zip(layers, seen, strict=True)]


def layers_in(network: Network, tree: PyTree, path: str = "") -> list[tuple[str, Network, PyTree]]:
    """The innermost layers, each with its name and its part of a tree like the parameters.

    A residual block follows its layers, without a part of its own. The name tells the place, and
    is empty for the network itself.
    """
    if network.rebuild is None:
        return [(path, network, tree)]
    found = []
    is_block = network.rebuild is residual
    parts = (tree,) if is_block else tree
    for i, (layer, part) in enumerate(zip(network.layers, parts, strict=True)):
        label = layer.name if layer.rebuild is None else layer.name.partition("(")[0]
        found += layers_in(layer, part, f"{path}/{i} {label}".lstrip("/"))
    return [*found, (path, network, ())] if is_block else found


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _example(network: Network, inputs: Any) -> Shape:
    """The shape and dtype of a batch of one."""
    if inputs is None and network.in_features is None:
        raise checks.InvalidValue(
            "expected one example as inputs, as the network does not say how many "
            f"features it takes: {network.name}. Received: None"
        )
    if inputs is None:
        return Shape((1, network.in_features), jnp.float32)
    if not isinstance(inputs, Shape):
        inputs = arrays.to_array("inputs", inputs)
    if inputs.ndim == 0:
        raise checks.InvalidValue(
            f"expected one example, [features], as inputs. Received: {checks.describe(inputs)}"
        )
    return Shape((1, *inputs.shape), inputs.dtype)


def _flops(
    layer: Network, parameters: PyTree, inputs: Shape, outputs: Shape, *, to_inputs: bool
) -> tuple[int, int]:
    """Floating-point operations of a layer and of its gradient."""

    def both(parameters: PyTree, inputs: Array, change: Array) -> Any:
        if to_inputs:
            return jax.vjp(layer.apply, parameters, inputs)[1](change)
        return jax.vjp(lambda parameters: layer.apply(parameters, inputs), parameters)[1](change)

    forward = _products_of(layer.apply, parameters, inputs)
    backward = _products_of(both, parameters, inputs, outputs) - forward
    biases = 0
    if layer.weighted_sums is not None:
        biases = tracing.shapes(layer.weighted_sums, parameters, inputs).size
    return forward + biases, backward + biases


def _products_of(function: Callable[..., Any], *arguments: Any) -> int:
    return _products(tracing.trace(function, *arguments).jaxpr.jaxpr)


def _products(program: Jaxpr) -> int:
    """Operations in the matrix products of a program; those in a `scan` count at every step."""
    total = 0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            factor: Any = equation.invars[0].aval
            product: Any = equation.outvars[0].aval
            terms = math.prod(factor.shape[axis] for axis in contracted)
            total += 2 * product.size * terms
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(map(_products, jaxprs_in_params(equation.params)))
    return total
