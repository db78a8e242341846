"""Networks: pairs of pure functions.

They are `init(key) -> parameters` and `apply(parameters, inputs) -> outputs`.

A layer is a network too, and `serial` makes one network of several. Widths are checked when layers
are joined, inputs when `apply` is traced. A pair made by another library, or by hand, is a network
as well: `Network(init, apply)`.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, PyTree

from jaxnet.core import arrays, checks, trees
from jaxnet.nn import activations

Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]
Apply = Callable[..., Array]
_MOST_FEATURES = 2**31 - 1  # more cannot be counted in an int32

Initializer = Callable[[Key[Array, ""], Sequence[int], Any], Float[Array, "..."]]


class Network(NamedTuple):
    """A pair of pure functions, and what is known about it.

    Attributes:
        init: `init(key) -> parameters`, any pytree of arrays.
        apply: `apply(parameters, inputs, *, key=None) -> outputs`; inputs `[..., features]`. With
            no key there is no randomness: dropout is then the identity.
        layers: the parts of a serial network or a residual block, for tools that look inside; empty
            for others.
        name: for error messages.
        in_features, out_features: the number of features that go in and come out, where known.
        weighted_sums: of a dense layer: `weighted_sums(parameters, inputs)`, what its activation
            takes.
        rebuild: where there are layers: `rebuild(*layers)`, the same network of other layers, such
            as ones that are watched.

    A Flax module `module` is the network

        Network(
            init=lambda key: module.init(key, example),
            apply=lambda parameters, inputs, *, key=None: module.apply(parameters, inputs),
        )
    """

    init: Callable[[Key[Array, ""]], PyTree]
    apply: Apply
    layers: tuple["Network", ...] = ()
    name: str = "network"
    in_features: int | None = None
    out_features: int | None = None
    weighted_sums: Callable[[Any, Array], Array] | None = None
    rebuild: Callable[..., "Network"] | None = None


def check_network(network: Any) -> None:
    """A `Network` of two functions."""
    checks.instance("network", network, Network)
    checks.function("network.init", network.init)
    checks.function("network.apply", network.apply)


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
    """A dense layer: `activation(x @ weights + biases)`, each output a neuron that sees all inputs.

    Args:
        in_features, out_features: the number of features that go in and come out, at least 1.
        activation: applied to each weighted sum; `softmax` to all of an example's.
        initializer: of the weights, one of `jax.nn.initializers` or a function like them. By
            default, by the name of the activation: He's normal for the relu family (relu,
            leaky_relu, elu, gelu, silu), LeCun's for selu, and Glorot's for the rest, which keep
            the size of the activations about the same from layer to layer. Biases start at 0.

    Raises:
        ValueError, TypeError: sizes that are not positive integers; when applied, inputs of
            another width or dtype.

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
        initializer = _initializer_for(activation)
    checks.function("initializer", initializer)
    name = f"dense({in_features}, {out_features}, {_name(activation)})"

    def init(key: Key[Array, ""]) -> DenseParameters:
        checks.key(key)
        weights = initializer(key, shape, jnp.float32)
        if getattr(weights, "shape", None) != shape:
            raise checks.InvalidValue(
                f"expected an initializer that gives weights {list(shape)}. "
                f"Received: {checks.describe(weights)}"
            )
        return DenseParameters(weights, jnp.zeros(out_features, jnp.float32))

    def weighted_sums(
        parameters: tuple[Array, Array], x: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        weights, biases = _arrays(parameters, {"weights": shape, "biases": shape[1:]})
        _check_inputs(x, in_features, weights.dtype)
        sums = x @ weights
        return sums + jnp.broadcast_to(biases, sums.shape)

    def apply(
        parameters: tuple[Array, Array],
        x: Float[Array, "..."],
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "..."]:
        del key
        return activation(weighted_sums(parameters, x))

    return Network(
        checks.door(init, name),
        checks.door(apply, name),
        name=name,
        in_features=in_features,
        out_features=out_features,
        weighted_sums=checks.door(weighted_sums, name),
    )


@checks.door
def dropout(rate: float) -> Network:
    """Dropout: with a key, each feature is 0 with probability `rate`, else divided by `1 - rate`.

    So the mean stays. Without a key, as in evaluation, it is the identity. It has no parameters.

    Args:
        rate: the probability of dropping, at least 0 and below 1, as in PyTorch and Keras.

    Reference: Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting,
    2014.

    >>> dropout(0.5).apply((), jnp.ones(4), key=jax.random.key(1))
    Array([2., 0., 2., 2.], dtype=float32)
    """
    name = f"dropout({rate})"
    rate = checks.number("rate", rate, 0, 1, below=True)

    def apply(
        parameters: PyTree, x: Float[Array, "..."], *, key: Key[Array, ""] | None = None
    ) -> Float[Array, "..."]:
        del parameters
        x = arrays.floating("inputs", x)
        if key is None:
            return x
        checks.key(key)
        kept = jax.random.bernoulli(key, 1 - rate, (x.size,)).reshape(x.shape)
        return jnp.where(kept, x / (1 - rate), 0)

    return Network(lambda key: (), checks.door(apply, name), name=name)


class LayerNormParameters(NamedTuple):
    """`scale [features]` and `offset [features]`."""

    scale: Float[Array, " features"]
    offset: Float[Array, " features"]


@checks.door
def layer_norm(features: int, *, epsilon: float = 1e-5) -> Network:
    """Layer normalisation: `scale * (x - mean) / sqrt(variance + epsilon) + offset`.

    Mean and variance are those of an example's features, computed in float32 at least. Scale
    starts at 1, offset at 0.

    Args:
        features: the number of features, at least 1.
        epsilon: at least 0; PyTorch has 1e-5 too, Flax 1e-6, Keras 1e-3.

    Reference: Ba, Kiros and Hinton, Layer normalization, 2016.

    >>> layer = layer_norm(2)
    >>> layer.apply(layer.init(jax.random.key(0)), jnp.array([1.0, 3.0]))
    Array([-1.,  1.], dtype=float32)
    """
    features = checks.integer("features", features, 1, _MOST_FEATURES)
    epsilon = checks.number("epsilon", epsilon, 0)
    name = f"layer_norm({features})"

    def init(key: Key[Array, ""]) -> LayerNormParameters:
        del key
        return LayerNormParameters(
            jnp.ones(features, jnp.float32), jnp.zeros(features, jnp.float32)
        )

    def apply(
        parameters: tuple[Array, Array],
        x: Float[Array, "..."],
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "..."]:
        del key
        pair = _arrays(parameters, {"scale": (features,), "offset": (features,)})
        _check_inputs(x, features, pair[0].dtype)
        scale, offset = (jnp.broadcast_to(p, x.shape) for p in pair)
        wide = x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
        centred = wide - jnp.mean(wide, -1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), -1, keepdims=True)
        return scale * (centred * jax.lax.rsqrt(variance + epsilon)).astype(x.dtype) + offset

    return Network(
        checks.door(init, name),
        checks.door(apply, name),
        name=name,
        in_features=features,
        out_features=features,
    )


@checks.door
def residual(network: Network) -> Network:
    """A residual block: `x + network(x)`, with the parameters of `network`.

    Raises:
        ValueError: the network is known to put out another number of features than it takes.

    Reference: He et al., Deep residual learning for image recognition, 2015.

    >>> double = residual(serial(activations.identity))
    >>> double.apply(((),), jnp.array([1.0, 2.0]))
    Array([2., 4.], dtype=float32)
    """
    check_network(network)
    name = f"residual({network.name})"
    sizes = network.in_features, network.out_features
    if None not in sizes and sizes[0] != sizes[1]:
        raise checks.InvalidValue(
            f"expected a network with as many outputs as inputs. "
            f"Received: {network.name}, with {sizes[0]} inputs and {sizes[1]} outputs"
        )

    def apply(parameters: PyTree, x: Array, *, key: Key[Array, ""] | None = None) -> Array:
        change = network.apply(parameters, x, key=key)
        if change.shape != x.shape:
            raise checks.InvalidValue(
                f"expected outputs of the shape of the inputs, {list(x.shape)}. "
                f"Received: {list(change.shape)}"
            )
        return x + change

    return network._replace(
        apply=checks.door(apply, name),
        layers=(network,),
        name=name,
        weighted_sums=None,
        rebuild=residual,
    )


@checks.door
def serial(*layers: Network | Activation, compute_dtype: DTypeLike | None = None) -> Network:
    """Layers one after the other; its parameters are the tuple of theirs.

    Args:
        layers: networks; or activation functions, which are layers without parameters.
        compute_dtype: in which to compute, such as `jnp.bfloat16`. Parameters stay as they are and
            are converted on every call, with the inputs; outputs come back in the inputs' dtype.

    With a key, each layer gets its own, folded from it.

    Raises:
        ValueError: no layers, or two neighbours of which one puts out another number of features
            than the next takes.

    >>> network = serial(dense(3, 8), layer_norm(8), activations.relu, dropout(0.1), dense(8, 2))
    >>> network.apply(network.init(jax.random.key(0)), jnp.ones((5, 3))).shape
    (5, 2)
    """
    parts = tuple(_as_network(layer) for layer in layers)
    if not parts:
        raise checks.InvalidValue("expected at least one layer. Received: none")
    sized = [(i, part) for i, part in enumerate(parts) if part.in_features is not None]
    for (i, before), (j, after) in itertools.pairwise(sized):
        if before.out_features != after.in_features:
            raise checks.InvalidValue(
                f"expected layers that fit. Received: layer {i}, {before.name}, which puts "
                f"out {before.out_features} features, before layer {j}, {after.name}, which takes "
                f"{after.in_features}"
            )
    name = f"serial({', '.join(part.name for part in parts)})"

    def init(key: Key[Array, ""]) -> tuple[PyTree, ...]:
        checks.key(key)
        keys = jax.random.split(key, len(parts))
        return tuple(part.init(k) for part, k in zip(parts, keys, strict=True))

    def apply(
        parameters: Sequence[PyTree], x: Array, *, key: Key[Array, ""] | None = None
    ) -> Array:
        several = isinstance(parameters, Sequence)
        if not several or len(parameters) != len(parts):
            received = len(parameters) if several else checks.describe(parameters)
            raise checks.InvalidValue(
                f"expected the parameters of {len(parts)} layers. Received: {received}"
            )
        if key is not None:
            checks.key(key)
        for i, (part, own) in enumerate(zip(parts, parameters, strict=True)):
            x = part.apply(own, x, key=None if key is None else jax.random.fold_in(key, i))
        return x

    if compute_dtype is not None:
        apply = _in_dtype(apply, compute_dtype)
    return Network(
        checks.door(init, name),
        checks.door(apply, name),
        layers=parts,
        name=name,
        in_features=sized[0][1].in_features if sized else None,
        out_features=sized[-1][1].out_features if sized else None,
        rebuild=functools.partial(serial, compute_dtype=compute_dtype),
    )


@checks.door
def mlp(
    sizes: Sequence[int],
    *,
    activation: Activation = activations.relu,
    output_activation: Activation = activations.identity,
    initializer: Initializer | None = None,
    compute_dtype: DTypeLike | None = None,
) -> Network:
    """A multilayer perceptron: dense layers of the given sizes, from the inputs to the outputs.

    Args:
        sizes: `[inputs, hidden, ..., outputs]`, at least two.
        activation: of the hidden layers.
        output_activation: of the last layer; the identity for losses that take logits, and for
            regression.
        initializer, compute_dtype: as in `dense` and `serial`.

    >>> network = mlp([10, 16, 16, 3])
    >>> [layer.name for layer in network.layers]
    ['dense(10, 16, relu)', 'dense(16, 16, relu)', 'dense(16, 3, identity)']
    """
    if not isinstance(sizes, Sequence) or len(sizes) < 2:
        raise checks.InvalidValue(
            f"expected a list of at least two sizes. Received: {checks.describe(sizes)}"
        )
    checks.function("activation", activation)
    checks.function("output_activation", output_activation)
    *hidden, last = itertools.pairwise(sizes)
    layers = [dense(*pair, activation, initializer=initializer) for pair in hidden]
    layers.append(dense(*last, output_activation, initializer=initializer))
    return serial(*layers, compute_dtype=compute_dtype)


def _scaled_normal(variance: Callable[[int, int], float]) -> Initializer:
    """Of a variance given the widths, cut off at two deviations: `jax.nn.initializers`' numbers.

    They are drawn in one row, which compiles in a quarter of the time that a matrix takes.
    """

    def draw(key: Key[Array, ""], shape: Sequence[int], dtype: Any) -> Float[Array, "..."]:
        numbers = jax.random.truncated_normal(key, -2, 2, (math.prod(shape),), dtype)
        deviation = jnp.sqrt(jnp.array(variance(*shape), dtype))
        return numbers.reshape(shape) * (deviation / jnp.array(_DEVIATION_WHEN_CUT_OFF, dtype))

    return draw


_DEVIATION_WHEN_CUT_OFF = 0.87962566103423978  # of a standard normal number

_he = _scaled_normal(lambda inputs, outputs: 2 / inputs)
_lecun = _scaled_normal(lambda inputs, outputs: 1 / inputs)
_glorot = _scaled_normal(lambda inputs, outputs: 2 / (inputs + outputs))
_RELU_FAMILY = ("relu", "leaky_relu", "elu", "gelu", "silu")


def _initializer_for(activation: Activation) -> Initializer:
    name = _name(activation)
    return _he if name in _RELU_FAMILY else _lecun if name == "selu" else _glorot


def _name(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def _as_network(layer: Network | Activation) -> Network:
    if isinstance(layer, Network):
        return layer
    if not callable(layer):
        raise checks.InvalidType(
            f"expected networks and functions as layers. Received: {checks.describe(layer)}"
        )
    return Network(
        init=lambda key: (),
        apply=lambda parameters, x, *, key=None: layer(x),
        name=_name(layer),
    )


def _in_dtype(apply: Apply, dtype: DTypeLike) -> Apply:
    try:
        fits = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        fits = False
    if not fits:
        raise checks.InvalidType(
            "expected a floating-point compute_dtype, such as jnp.bfloat16. "
            f"Received: {checks.describe(dtype)}"
        )

    def cast(leaf: Any) -> Any:
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if floating else leaf

    def wrapped(parameters: PyTree, x: Array, *, key: Key[Array, ""] | None = None) -> Array:
        return apply(jax.tree.map(cast, parameters), cast(x), key=key).astype(x.dtype)

    return wrapped


def _arrays(parameters: Any, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Array, ...]:
    """A layer's parameters, which must have these shapes."""
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


def _check_inputs(x: Array, features: int, dtype: DTypeLike) -> None:
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
