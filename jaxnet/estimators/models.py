"""The default network of the estimators, and losses of networks with several members."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxnet.nn.activations import relu
from jaxnet.nn.combinators import serial
from jaxnet.nn.ensembles import BatchEnsembleParameters, batch_ensemble, member_mean
from jaxnet.nn.layers import dense
from jaxnet.nn.losses import Loss
from jaxnet.nn.network import Network, no_parameters

RATE = 0.005  # the learning rate of AdamW
DECAY = 0.02  # the weight decay of AdamW


def make_network(
    in_features: int, out_features: int, hidden: Sequence[int], members: int, dropout: float
) -> Network:
    """Makes the default network: TabM, with dropout after each hidden layer.

    Returns:
        A network from `[rows, in_features]` to `[rows, members, out_features]`.
    """
    layers, size = [], in_features
    for width in hidden:
        layers.append(dense(size, width, relu))
        if dropout:
            layers.append(_member_dropout(dropout))
        size = width
    return batch_ensemble(serial(*layers, dense(size, out_features)), members)


def _member_dropout(rate: float) -> Network:
    """Dropout with the same mask for all members, since drawing numbers takes long on a CPU."""
    return Network(no_parameters, functools.partial(_drop, rate), name=f"member_dropout({rate})")


def _drop(
    rate: float,
    parameters: PyTree,
    x: Float[Array, "... members features"],
    *,
    key: Key[Array, ""] | None = None,
) -> Float[Array, "... members features"]:
    del parameters
    if key is None:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, (*x.shape[:-2], 1, x.shape[-1]))
    return jnp.where(jnp.broadcast_to(kept, x.shape), x / (1 - rate), 0)


def to_layers(parameters: PyTree) -> list[dict[str, np.ndarray]]:
    """The weights and biases of all members, as `portable.compute_outputs` takes them."""
    layers = []
    for layer in filter(None, parameters):  # dropout has no parameters
        weights = layer.weights
        if isinstance(layer, BatchEnsembleParameters):
            weights = layer.input_scales[:, :, None] * weights * layer.output_scales[:, None, :]
        layers.append({"weights": weights, "biases": layer.biases})
    return layers


# Losses. They are module-level functions with bound fields, so that no call traces them again.


def mean_of_losses(loss: Loss) -> Loss:
    """The mean of the members' losses, which is minimized; a network without members has one."""
    return functools.partial(_mean_of_losses, loss)


def _mean_of_losses(loss: Loss, outputs: Array, targets: Array) -> Float[Array, " rows"]:
    return loss(outputs, targets) if outputs.ndim == 2 else member_mean(loss)(outputs, targets)


def loss_of_mean(loss: Loss, kind: str) -> Loss:
    """The loss of the members' averaged prediction, which decides when to stop."""
    return functools.partial(_loss_of_mean, loss, kind)


def _loss_of_mean(loss: Loss, kind: str, outputs: Array, targets: Array) -> Float[Array, " rows"]:
    return loss(outputs if outputs.ndim == 2 else combine(outputs, kind), targets)


def combine(
    outputs: Float[Array, "rows members outputs"], kind: str
) -> Float[Array, "rows outputs"]:
    """Averages the predictions of the members, as `portable.combine` does in NumPy."""
    if kind == "numbers":
        return outputs.mean(1)
    if kind == "classes":
        return _log_mean(jax.nn.log_softmax(outputs))
    return _log_mean(jax.nn.log_sigmoid(outputs)) - _log_mean(jax.nn.log_sigmoid(-outputs))


def _log_mean(logarithms: Float[Array, "rows members outputs"]) -> Float[Array, "rows outputs"]:
    members = jnp.float32(logarithms.shape[1])
    return jax.nn.logsumexp(logarithms, axis=1) - jnp.log(members)
