"""Networks made of networks."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Key, PyTree

from jaxnet.core import checks
from jaxnet.nn import activations
from jaxnet.nn.initializers import Initializer
from jaxnet.nn.layers import dense
from jaxnet.nn.network import (
    Activation,
    Apply,
    Network,
    check_network,
    name_function,
    no_parameters,
)


@checks.door
def serial(*layers: Network | Activation, compute_dtype: DTypeLike | None = None) -> Network:
    """Composes layers; the parameters are the tuple of the layers' parameters.

    Args:
        layers: networks, or activation functions, which are layers without parameters.
        compute_dtype: the dtype of the computation, such as `jnp.bfloat16`. Parameters keep their
            dtype and are cast on every call, like the inputs. Outputs have the inputs' dtype.

    A key is folded for each layer.

    Raises:
        ValueError: no layers, or a layer that outputs another number of features than the next
            one expects.

    >>> from jaxnet import dropout, layer_norm
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
                f"expected layers of matching sizes. Received: layer {i}, {before.name}, outputs "
                f"{before.out_features} features, but layer {j}, {after.name}, expects "
                f"{after.in_features}"
            )
    name = f"serial({', '.join(part.name for part in parts)})"
    rebuild = functools.partial(serial, compute_dtype=compute_dtype)

    apply: Apply = checks.bind(name, _apply_serial, parts)
    if compute_dtype is not None:
        _check_compute_dtype(compute_dtype)
        apply = functools.partial(_apply_in, compute_dtype, apply)
    return Network(
        checks.bind(name, _init_serial, parts),
        apply,
        layers=parts,
        name=name,
        in_features=sized[0][1].in_features if sized else None,
        out_features=sized[-1][1].out_features if sized else None,
        rebuild=rebuild,
        at=_bind_at(rebuild, parts),
    )


def _bind_at(
    rebuild: Callable[..., Network], layers: tuple[Network, ...]
) -> Callable[[Any], Network] | None:
    """The `at` of a network made of layers."""
    if all(layer.at is None for layer in layers):
        return None
    return functools.partial(_rebuild_at, rebuild, layers)


def _rebuild_at(
    rebuild: Callable[..., Network], layers: tuple[Network, ...], fraction: ArrayLike
) -> Network:
    return rebuild(*(layer if layer.at is None else layer.at(fraction) for layer in layers))


def _init_serial(parts: tuple[Network, ...], key: Key[Array, ""]) -> tuple[PyTree, ...]:
    checks.key(key)
    keys = jax.random.split(key, len(parts))
    return tuple(part.init(k) for part, k in zip(parts, keys, strict=True))


def _apply_serial(
    parts: tuple[Network, ...],
    parameters: Sequence[PyTree],
    x: Array,
    *,
    key: Key[Array, ""] | None = None,
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


def _apply_in(
    dtype: DTypeLike,
    apply: Apply,
    parameters: PyTree,
    x: Array,
    *,
    key: Key[Array, ""] | None = None,
) -> Array:
    """Applies a network to parameters and inputs that are cast to a dtype."""

    def cast(leaf: Any) -> Any:
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if floating else leaf

    return apply(jax.tree.map(cast, parameters), cast(x), key=key).astype(x.dtype)


@checks.door
def residual(network: Network) -> Network:
    """A residual block: `x + network(x)`, with the parameters of `network`.

    Raises:
        ValueError: the input and output sizes of the network differ.

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

    return network._replace(
        apply=checks.bind(name, _apply_residual, network),
        layers=(network,),
        name=name,
        weighted_sums=None,
        rebuild=residual,
        at=_bind_at(residual, (network,)),
    )


def _apply_residual(
    network: Network, parameters: PyTree, x: Array, *, key: Key[Array, ""] | None = None
) -> Array:
    change = network.apply(parameters, x, key=key)
    if change.shape != x.shape:
        raise checks.InvalidValue(
            f"expected outputs of the shape of the inputs, {list(x.shape)}. "
            f"Received: {list(change.shape)}"
        )
    return x + change


@checks.door
def mlp(
    sizes: Sequence[int],
    *,
    activation: Activation = activations.relu,
    output_activation: Activation = activations.identity,
    initializer: Initializer | None = None,
    compute_dtype: DTypeLike | None = None,
) -> Network:
    """A multilayer perceptron: dense layers of the given sizes.

    Args:
        sizes: `[inputs, hidden, ..., outputs]`, at least two.
        activation: the activation function of the hidden layers.
        output_activation: the activation function of the last layer. The default is the identity,
            for regression and for losses that take logits.
        initializer: the initializer of all weights, as in `dense`.
        compute_dtype: the dtype of the computation, as in `serial`.

    Raises:
        ValueError, TypeError: fewer than two sizes, or a size that is not a positive integer.

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


def _as_network(layer: Network | Activation) -> Network:
    if isinstance(layer, Network):
        return layer
    if not callable(layer):
        raise checks.InvalidType(
            f"expected networks and functions as layers. Received: {checks.describe(layer)}"
        )
    return Network(
        no_parameters, functools.partial(_apply_activation, layer), name=name_function(layer)
    )


def _apply_activation(
    activation: Activation, parameters: PyTree, x: Array, *, key: Key[Array, ""] | None = None
) -> Array:
    del parameters, key
    return activation(x)


def _check_compute_dtype(dtype: DTypeLike) -> None:
    try:
        fits = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        fits = False
    if not fits:
        raise checks.InvalidType(
            "expected a floating-point compute_dtype, such as jnp.bfloat16. "
            f"Received: {checks.describe(dtype)}"
        )
