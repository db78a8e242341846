"""The parameters, bytes and floating-point operations of the layers of a network."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, jaxprs_in_params
from jaxtyping import Array, PyTree

from jaxnet.core import arrays, checks, tracing
from jaxnet.core.tables import table
from jaxnet.debug.intermediates import layers_in, visits
from jaxnet.nn.combinators import residual
from jaxnet.nn.network import Network, check_network

Shape = jax.ShapeDtypeStruct


class LayerSummary(NamedTuple):
    """The outputs and the cost of a layer or of the whole network.

    Attributes:
        name: the name with the path in the network, such as "1 residual/0 dense(16, 16, relu)".
        outputs: the shape of the outputs for one example.
        parameters: the number of parameters.
        bytes: the size of the parameters.
        forward: the floating-point operations of the forward pass, per example.
        backward: the floating-point operations of the gradient, per example.
    """

    name: str
    outputs: tuple[int, ...]
    parameters: int
    bytes: int
    forward: int
    backward: int


class Summary(NamedTuple):
    """The layers of a network and their total; `print` it."""

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

    Nothing is computed or compiled, so it is fast for large networks too.

    Args:
        network: any `Network`. The layers inside serial networks and residual blocks are listed.
        inputs: one example without a batch axis: an array, a list, or a `jax.ShapeDtypeStruct`. The
            default is float32 of the size that the network knows.

    The operations are those of matrix products, `2 * M * N * K` each, and the additions of a dense
    layer's biases. Operations of which there are a few per output are left out: activations,
    losses, the sums of residual blocks. For one example `dense(K, N)` has

        forward   2 K N + N
        backward  2 K N + N  for the gradient of weights and biases, summed over the examples,
                  2 K N      for the gradient of the inputs, if an earlier layer has parameters.

    Raises:
        ValueError: no example is given, and the network does not know its number of inputs.

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

    def apply(parameters: PyTree, inputs: Array) -> list[tuple[PyTree, Array, Array]]:
        visited = visits(network, parameters, inputs)
        return [(visit.parameters, visit.inputs, visit.outputs) for visit in visited]

    rows, trained = [], False
    visited = tracing.shapes(apply, parameters, example)
    for (name, layer, own), used in zip(layers_in(network, parameters), visited, strict=True):
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


def _example(network: Network, inputs: Any) -> Shape:
    """The shape and dtype of a batch of one example."""
    if inputs is None and network.in_features is None:
        raise checks.InvalidValue(
            "expected one example as inputs, since the network does not know its number of inputs: "
            f"{network.name}. Received: None"
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
    """Counts the floating-point operations of a layer and of its gradient."""

    def both(parameters: PyTree, inputs: Array, change: Array) -> Any:
        if to_inputs:
            return jax.vjp(layer.apply, parameters, inputs)[1](change)
        return jax.vjp(lambda parameters: layer.apply(parameters, inputs), parameters)[1](change)

    forward = _count_products(layer.apply, parameters, inputs)
    backward = _count_products(both, parameters, inputs, outputs) - forward
    biases = 0
    if layer.weighted_sums is not None:
        biases = tracing.shapes(layer.weighted_sums, parameters, inputs).size
    return forward + biases, backward + biases


def _count_products(function: Callable[..., Any], *arguments: Any) -> int:
    return _count_in(tracing.trace(function, *arguments).jaxpr.jaxpr)


def _count_in(program: Jaxpr) -> int:
    """Counts the operations of matrix products; those in a `scan` count once per step."""
    total = 0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            factor: Any = equation.invars[0].aval
            product: Any = equation.outvars[0].aval
            terms = math.prod(factor.shape[axis] for axis in contracted)
            total += 2 * product.size * terms
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(map(_count_in, jaxprs_in_params(equation.params)))
    return total
