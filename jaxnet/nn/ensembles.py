"""Several networks that share most of their weights, and the loss that trains them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxnet.core import arrays, checks
from jaxnet.nn.combinators import residual
from jaxnet.nn.layers import DenseParameters, check_inputs, unpack
from jaxnet.nn.losses import Loss
from jaxnet.nn.network import Init, Network, check_network


class BatchEnsembleParameters(NamedTuple):
    """The shared weights of a dense layer, and what each member has of its own."""

    weights: Float[Array, "inputs outputs"]
    input_scales: Float[Array, "members inputs"]
    output_scales: Float[Array, "members outputs"]
    biases: Float[Array, "members outputs"]


@checks.door
def batch_ensemble(network: Network, members: int) -> Network:
    """Makes an ensemble of a network, whose members share the weights of the dense layers.

    In place of `activation(x @ weights + biases)`, member `i` computes

        activation(((x * input_scales[i]) @ weights) * output_scales[i] + biases[i])

    so it is the network with the weights `input_scales[i][:, None] * weights * output_scales[i]`.
    Training costs about as much as that of separate networks, and the parameters are few. With a
    multilayer perceptron as the network, this is TabM: the last dense layer is not shared, but a
    separate one for each member, and the input scales of the first one start as random signs. All
    other scales start at 1. Other layers are the same for all members; dropout draws a mask for
    each.

    Args:
        network: dense layers, and any layers that treat `[..., features]` row by row, in `serial`
            networks and residual blocks. The first dense layer must not be in a residual block.
        members: the number of members, at least 1; 8 to 32 are usual.

    Returns:
        A network from `[..., features]` to `[..., members, outputs]`. Train it with the loss
        `member_mean(loss)`, and average what the members predict.

    Raises:
        ValueError: no dense layer, the first one in a residual block, or an ensemble already; when
            applied, inputs of another shape.

    Reference: Wen, Tran and Ba, BatchEnsemble: an alternative approach to efficient ensemble and
    lifelong learning, 2020, where the last layer is shared too and all scales start as random
    signs; Gorishniy, Kotelnikov and Babenko, TabM: advancing tabular deep learning with
    parameter-efficient ensembling, 2024.

    >>> from jaxnet import adam, fit, mlp, predict, softmax, softmax_cross_entropy
    >>> network = batch_ensemble(mlp([2, 16, 16, 3]), members=8)
    >>> inputs = jax.random.normal(jax.random.key(0), (60, 2))
    >>> data = inputs, jnp.argmax(inputs @ jnp.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]), -1)
    >>> loss = member_mean(softmax_cross_entropy)
    >>> options = {"key": jax.random.key(1), "epochs": 50, "batch_size": 20, "progress": False}
    >>> run = fit(network, loss, adam(0.01), data, **options)
    >>> logits = predict(network, run.parameters, inputs)
    >>> logits.shape
    (60, 8, 3)
    >>> probabilities = softmax(logits).mean(1)
    >>> float(jnp.mean(jnp.argmax(probabilities, -1) == data[1])) > 0.9
    True
    """
    check_network(network)
    members = checks.integer("members", members, 1)
    layers = list(_dense_layers(network))
    if not layers:
        raise checks.InvalidValue(f"expected a network with dense layers. Received: {network.name}")
    if layers[0][1]:
        raise checks.InvalidValue(
            "expected a network whose first dense layer is not in a residual block. "
            f"Received: {network.name}"
        )
    for layer, _ in layers:
        if layer.layers:
            raise checks.InvalidValue(f"expected a network without members. Received: {layer.name}")
    ensembles = (
        _ensemble(layer, members, is_first=i == 0, is_last=i == len(layers) - 1)
        for i, (layer, _) in enumerate(layers)
    )
    return _replace(network, ensembles)


def _dense_layers(network: Network, in_block: bool = False) -> Iterator[tuple[Network, bool]]:
    """The dense layers in order, and whether they are in a residual block."""
    if network.rebuild is not None:
        for layer in network.layers:
            yield from _dense_layers(layer, in_block or network.rebuild is residual)
    elif network.weighted_sums is not None:
        yield network, in_block


def _replace(network: Network, layers: Iterator[Network]) -> Network:
    """Builds a network again, with other layers for its dense ones."""
    if network.rebuild is not None:
        return network.rebuild(*(_replace(layer, layers) for layer in network.layers))
    return network if network.weighted_sums is None else next(layers)


def _ensemble(layer: Network, members: int, *, is_first: bool, is_last: bool) -> Network:
    """The layer of an ensemble; its inputs have an axis of members, unless it is the first."""
    inputs = checks.integer("in_features", layer.in_features, 1)
    outputs = checks.integer("out_features", layer.out_features, 1)
    own = {"biases": (members, outputs)}
    init: Init
    if is_last:
        name = f"ensemble({layer.name}, {members})"
        shapes = {"weights": (members, inputs, outputs), **own}
        init = checks.bind(name, _init_separate, layer, members)
    else:
        name = f"batch_ensemble({layer.name}, {members})"
        scales = {"input_scales": (members, inputs), "output_scales": (members, outputs)}
        shapes = {"weights": (inputs, outputs), **scales, **own}
        init = checks.bind(name, _init_shared, layer, members, is_first)
    return Network(
        init,
        checks.bind(name, _map_members, layer.apply, shapes, is_first),
        layers=(layer,),
        name=name,
        in_features=inputs,
        out_features=outputs,
        weighted_sums=checks.bind(name, _map_members, layer.weighted_sums, shapes, is_first),
    )


def _init_separate(layer: Network, members: int, key: Key[Array, ""]) -> DenseParameters:
    checks.key(key)
    return DenseParameters(*jax.vmap(layer.init)(jax.random.split(key, members)))


def _init_shared(
    layer: Network, members: int, is_first: bool, key: Key[Array, ""]
) -> BatchEnsembleParameters:
    checks.key(key)
    weight_key, sign_key = jax.random.split(key)
    weights, biases = layer.init(weight_key)
    inputs, outputs = weights.shape
    scales = jnp.ones((members, inputs), jnp.float32)
    if is_first:
        scales = jax.random.rademacher(sign_key, scales.shape, jnp.float32)
    biases = jnp.broadcast_to(biases, (members, outputs))
    return BatchEnsembleParameters(weights, scales, jnp.ones_like(biases), biases)


def _map_members(
    function: Callable[..., Array],
    shapes: Mapping[str, tuple[int, ...]],
    is_first: bool,
    parameters: Any,
    x: Float[Array, "..."],
    *,
    key: Key[Array, ""] | None = None,
) -> Float[Array, "..."]:
    """Computes a function of the weights and biases of a dense layer, and its inputs, by member."""
    del key
    weights, *scales, biases = unpack(parameters, shapes)
    members = len(biases)
    check_inputs(x, weights.shape[-2], weights.dtype)
    if not is_first and (x.ndim < 2 or x.shape[-2] != members):
        raise checks.InvalidValue(
            f"expected inputs with {members} members, [..., {members}, {x.shape[-1]}]. "
            f"Received: {list(x.shape)}"
        )
    if scales:
        input_scales, output_scales = scales
        weights = input_scales[:, :, None] * weights[None] * output_scales[:, None, :]
    mapped = jax.vmap(function, in_axes=(0, None if is_first else -2), out_axes=-2)
    return mapped((weights, biases), x)


@checks.door
def member_mean(loss: Loss) -> Loss:
    """Makes the loss of an ensemble: the mean of the losses of its members.

    Args:
        loss: a loss, or a metric, of the outputs `[batch, ...]` of one network.

    Returns:
        A loss of outputs `[batch, members, ...]`, for the targets of one network.

    The members are trained as if each were alone. The loss of their mean prediction, such as
    `cross_entropy(softmax(logits).mean(1), targets)`, is lower; it tells how well the ensemble
    predicts, but training on it makes the members less accurate.

    Reference: Gorishniy, Kotelnikov and Babenko, TabM: advancing tabular deep learning with
    parameter-efficient ensembling, 2024.

    >>> from jaxnet import squared_error
    >>> outputs = jnp.array([[[1.0], [3.0]], [[4.0], [4.0]]])
    >>> member_mean(squared_error)(outputs, jnp.array([[2.0], [2.0]]))
    Array([1., 4.], dtype=float32)
    """
    checks.function("loss", loss)
    return checks.bind("member_mean", _member_mean, loss)


def _member_mean(loss: Loss, outputs: Array, targets: Any) -> Float[Array, " batch"]:
    outputs = arrays.floating("outputs", outputs)
    if outputs.ndim < 2:
        raise checks.InvalidValue(
            f"expected outputs [batch, members, ...]. Received: {list(outputs.shape)}"
        )
    return jnp.mean(jax.vmap(loss, in_axes=(1, None), out_axes=1)(outputs, targets), 1)
