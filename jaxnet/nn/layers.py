"""Layers with parameters of their own, and dropout."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Key, PyTree

from jaxnet.core import arrays, checks, trees
from jaxnet.nn import activations
from jaxnet.nn.initializers import Initializer, default_initializer
from jaxnet.nn.network import Activation, Network, name_function, no_parameters

_MOST_FEATURES = 2**31 - 1  # that an int32 can count


class DenseParameters(NamedTuple):
    """`weights [inputs, outputs]` and `biases [outputs]`."""

    weights: Float[Array, "inputs outputs"]
    biases: Float[Array, " outputs"]


@checks.door
def dense(
    in_features: int,
    out_features: int,
    activation: Activation = activations.identity,
    *,
    initializer: Initializer | None = None,
) -> Network:
    """A dense layer: `activation(x @ weights + biases)`.

    Args:
        in_features, out_features: the numbers of inputs and outputs, at least 1.
        activation: the activation function; it is applied to the weighted sums of all outputs.
        initializer: the initializer of the weights, such as one of `jax.nn.initializers`. The
            default depends on the activation function: He's normal initializer for relu,
            leaky_relu, elu, gelu and silu of jaxnet or `jax.nn`, LeCun's for selu, and Glorot's for
            any other function, whatever its name. They keep the size of the activations about the
            same from layer to layer. Biases start at 0.

    Raises:
        ValueError, TypeError: a size that is not a positive integer; when applied, inputs of
            another size or dtype.

    Reference: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural
    networks, 2010; He et al., Delving deep into rectifiers, 2015. PyTorch draws both weights and
    biases uniformly from +-1 / sqrt(inputs).

    >>> layer = dense(3, 2, activations.relu)
    >>> parameters = DenseParameters(jnp.ones((3, 2)), jnp.array([1.0, -9.0]))
    >>> layer.apply(parameters, jnp.array([1.0, 2.0, 3.0]))
    Array([7., 0.], dtype=float32)
    """
    in_features = checks.integer("in_features", in_features, 1, _MOST_FEATURES)
    out_features = checks.integer("out_features", out_features, 1, _MOST_FEATURES)
    shape = in_features, out_features
    checks.function("activation", activation)
    if initializer is None:
        initializer = default_initializer(activation)
    checks.function("initializer", initializer)
    name = f"dense({in_features}, {out_features}, {name_function(activation)})"

    return Network(
        checks.bind(name, _init_dense, in_features, out_features, initializer),
        checks.bind(name, _apply_dense, shape, activation),
        name=name,
        in_features=in_features,
        out_features=out_features,
        weighted_sums=checks.bind(name, _weighted_sums, shape),
    )


def _init_dense(
    in_features: int, out_features: int, initializer: Initializer, key: Key[Array, ""]
) -> DenseParameters:
    checks.key(key)
    shape = in_features, out_features
    weights = initializer(key, shape, jnp.float32)
    if getattr(weights, "shape", None) != shape:
        raise checks.InvalidValue(
            f"expected an initializer that gives weights {list(shape)}. "
            f"Received: {checks.describe(weights)}"
        )
    return DenseParameters(weights, jnp.zeros(out_features, jnp.float32))


def _weighted_sums(
    shape: tuple[int, int], parameters: tuple[Array, Array], x: Float[Array, "..."]
) -> Float[Array, "..."]:
    weights, biases = unpack(parameters, {"weights": shape, "biases": shape[1:]})
    check_inputs(x, shape[0], weights.dtype)
    sums = x @ weights
    return sums + jnp.broadcast_to(biases, sums.shape)


def _apply_dense(
    shape: tuple[int, int],
    activation: Activation,
    parameters: tuple[Array, Array],
    x: Float[Array, "..."],
    *,
    key: Key[Array, ""] | None = None,
) -> Float[Array, "..."]:
    del key
    return activation(_weighted_sums(shape, parameters, x))


@checks.door
def dropout(rate: ArrayLike | Callable[[Any], Any]) -> Network:
    """Dropout: each feature is 0 with probability `rate`, else divided by `1 - rate`.

    The expected value is unchanged. Without a key, as in evaluation, dropout is the identity. It
    has no parameters.

    Args:
        rate: the probability of 0, at least 0 and below 1, as in PyTorch and Keras. A function
            computes it in every step of `train` and `fit` from the fraction of the training that
            is done, from 0 to 1; see `Network.at`.

    Reference: Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting,
    2014.

    >>> dropout(0.5).apply((), jnp.ones(4), key=jax.random.key(1))
    Array([2., 0., 2., 2.], dtype=float32)
    >>> less_and_less = dropout(lambda fraction: 0.5 * (1 - fraction))
    >>> less_and_less.at(1.0).apply((), jnp.ones(4), key=jax.random.key(1))
    Array([1., 1., 1., 1.], dtype=float32)
    """
    if callable(rate):
        name = f"dropout({name_function(rate)})"
        apply = checks.bind(name, _apply_scheduled_dropout)
        return Network(
            no_parameters, apply, name=name, at=functools.partial(_schedule_dropout, rate)
        )
    name = f"dropout({rate})"
    rate = checks.number("rate", rate, 0, 1, below=True)

    return Network(no_parameters, checks.bind(name, _apply_dropout, rate), name=name)


def _schedule_dropout(schedule: Callable[[Any], Any], fraction: ArrayLike) -> Network:
    return dropout(schedule(fraction))


def _apply_scheduled_dropout(
    parameters: PyTree, x: Float[Array, "..."], *, key: Key[Array, ""] | None = None
) -> Float[Array, "..."]:
    if key is not None:
        raise checks.InvalidValue(
            "expected network.at(fraction) with a key, since the rate depends on the fraction of "
            "the training. Received: the network itself"
        )
    return _apply_dropout(0.0, parameters, x)


def _apply_dropout(
    rate: Any, parameters: PyTree, x: Float[Array, "..."], *, key: Key[Array, ""] | None = None
) -> Float[Array, "..."]:
    del parameters
    x = arrays.floating("inputs", x)
    if key is None:
        return x
    checks.key(key)
    kept = jax.random.bernoulli(key, 1 - rate, (x.size,)).reshape(x.shape)
    return jnp.where(kept, x / (1 - rate), 0)


class LayerNormParameters(NamedTuple):
    """`scale [features]` and `offset [features]`."""

    scale: Float[Array, " features"]
    offset: Float[Array, " features"]


@checks.door
def layer_norm(features: int, *, epsilon: float = 1e-5) -> Network:
    """Layer normalization: `scale * (x - mean) / sqrt(variance + epsilon) + offset`.

    Mean and variance are taken over the features of each example, in float32 or wider. The scale
    starts at 1 and the offset at 0.

    Args:
        features: the number of features, at least 1.
        epsilon: at least 0. The default of PyTorch is 1e-5 too, of Flax 1e-6, of Keras 1e-3.

    Reference: Ba, Kiros and Hinton, Layer normalization, 2016.

    >>> layer = layer_norm(2)
    >>> layer.apply(layer.init(jax.random.key(0)), jnp.array([1.0, 3.0]))
    Array([-1.,  1.], dtype=float32)
    """
    features = checks.integer("features", features, 1, _MOST_FEATURES)
    epsilon = checks.number("epsilon", epsilon, 0)
    name = f"layer_norm({features})"

    return Network(
        checks.bind(name, _init_layer_norm, features),
        checks.bind(name, _apply_layer_norm, features, epsilon),
        name=name,
        in_features=features,
        out_features=features,
    )


def _init_layer_norm(features: int, key: Key[Array, ""]) -> LayerNormParameters:
    del key
    return LayerNormParameters(jnp.ones(features, jnp.float32), jnp.zeros(features, jnp.float32))


def _apply_layer_norm(
    features: int,
    epsilon: Any,
    parameters: tuple[Array, Array],
    x: Float[Array, "..."],
    *,
    key: Key[Array, ""] | None = None,
) -> Float[Array, "..."]:
    del key
    pair = unpack(parameters, {"scale": (features,), "offset": (features,)})
    check_inputs(x, features, pair[0].dtype)
    scale, offset = (jnp.broadcast_to(p, x.shape) for p in pair)
    wide = x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
    centered = wide - jnp.mean(wide, -1, keepdims=True)
    variance = jnp.mean(jnp.square(centered), -1, keepdims=True)
    return scale * (centered * jax.lax.rsqrt(variance + epsilon)).astype(x.dtype) + offset


def unpack(parameters: Any, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Array, ...]:
    """Returns the parameters of a layer, after a check of their shapes."""
    several = isinstance(parameters, (tuple, list))
    received = [getattr(p, "shape", None) for p in parameters] if several else None
    if received != list(shapes.values()):
        expected = " and ".join(f"{part} {list(shape)}" for part, shape in shapes.items())
        trees.arrays("parameters", parameters)
        raise checks.InvalidValue(
            f"expected parameters {expected}. "
            f"Received: {checks.shorten(trees.describe(parameters))}"
        )
    trees.arrays("parameters", parameters)
    return tuple(parameters)


def check_inputs(x: Array, features: int, dtype: DTypeLike) -> None:
    """Checks inputs `[..., features]` of the dtype of a layer's parameters."""
    hint = checks.hint(x)
    if not hasattr(x, "dtype") or hint:
        raise checks.InvalidType(
            f"expected inputs as an array. Received: {checks.describe(x)}{hint}"
        )
    if jnp.ndim(x) == 0 or x.shape[-1] != features:
        raise checks.InvalidValue(
            f"expected inputs with {features} features. Received: {list(jnp.shape(x))}"
        )
    if x.dtype != dtype:
        raise checks.InvalidType(
            f"expected inputs of the parameters' dtype, {dtype}. Received: {x.dtype}"
        )
