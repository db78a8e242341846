"""Encodings of numeric features by several numbers each, for tables.

A dense layer is a poor approximation of a function that changes quickly, or in steps, with one of
its inputs. It needs fewer units if every number is given as several.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key, PyTree

from jaxnet.core import arrays, checks, dtypes
from jaxnet.nn.layers import check_inputs, unpack
from jaxnet.nn.network import Network, no_parameters
from jaxnet.nn.precision import narrow, widen

Edges = tuple[tuple[float, ...], ...]


@checks.door
def piecewise_linear(edges: Sequence[ArrayLike | Sequence[float]] | np.ndarray) -> Network:
    """The piecewise-linear encoding of numeric features, which has no parameters.

    A feature with the edges `b_0 < b_1 < ... < b_T` becomes `T` numbers, one for each bin:

        (x - b_{t-1}) / (b_t - b_{t-1}),  clipped to [0, 1]

    The number is 0 below its bin and 1 above it. The first one is not clipped at 0 and the last one
    not at 1, so the encoding goes on linearly beyond the outer edges. It is continuous, and a
    linear function of it is any function of `x` that is linear in every bin.

    Args:
        edges: the edges of each feature, at least two, increasing. Features may have different
            numbers of edges. For quantiles, which put as many examples in each bin:
            `[np.unique(np.quantile(column, np.linspace(0, 1, 17))) for column in inputs.T]`.
            scikit-learn's `KBinsDiscretizer` has them as `bin_edges_`. The edges `[0, 1]` leave a
            feature as it is, for example a 0 or 1 that says whether a category applies.

    Returns:
        A network from `[..., features]` to `[..., bins of all features]`, feature by feature.

    Raises:
        ValueError, TypeError: edges that are not finite, or do not increase in float32; when
            applied, inputs of another size or dtype.

    Reference: Gorishniy, Rubachev and Babenko, On embeddings for numerical features in tabular deep
    learning, 2022.

    >>> encoding = piecewise_linear([[0.0, 10.0, 20.0, 40.0], [0.0, 1.0]])
    >>> encoding.apply((), jnp.array([[15.0, 0.3], [50.0, 1.0]]))
    Array([[1. , 0.5, 0. , 0.3],
           [1. , 1. , 1.5, 1. ]], dtype=float32)
    """
    if not isinstance(edges, (Sequence, np.ndarray)) or isinstance(edges, str) or len(edges) == 0:
        raise checks.InvalidType(
            f"expected a list of the edges of each feature. Received: {checks.describe(edges)}"
        )
    bounds = tuple(_check_edges(f"edges of feature {j}", each) for j, each in enumerate(edges))
    bins = sum(map(len, bounds)) - len(bounds)
    name = f"piecewise_linear({len(bounds)} features, {bins} bins)"
    return Network(
        no_parameters,
        checks.bind(name, _encode, bounds),
        name=name,
        in_features=len(bounds),
        out_features=bins,
    )


def _check_edges(name: str, edges: Any) -> tuple[float, ...]:
    given = arrays.numbers(name, edges)
    if not dtypes.is_concrete(given):
        raise checks.InvalidType(f"expected {name} with values. Received: a traced array")
    with np.errstate(over="ignore", invalid="ignore"):  # the widths are checked
        widths = np.diff(np.ravel(np.asarray(given, np.float32)))
    smallest = np.finfo(np.float32).tiny  # a smaller width would be 0 in a compiled program
    if given.ndim != 1 or len(given) < 2 or not ((widths >= smallest) & (widths < np.inf)).all():
        raise checks.InvalidValue(
            f"expected at least two {name}, finite and increasing in float32. "
            f"Received: {checks.shorten(str(np.asarray(given).tolist()))}"
        )
    return tuple(np.asarray(given, np.float64).tolist())


def _encode(
    edges: Edges, parameters: PyTree, x: Float[Array, "..."], *, key: Key[Array, ""] | None = None
) -> Float[Array, "..."]:
    del parameters, key
    x = arrays.floating("inputs", x)
    check_inputs(x, len(edges), x.dtype)
    wide = widen(x)
    bounds = [np.asarray(each, wide.dtype) for each in edges]
    bins = [len(each) - 1 for each in bounds]
    feature = np.repeat(np.arange(len(edges)), bins)
    low = np.concatenate([[-np.inf, *[0.0] * (n - 1)] for n in bins])
    high = np.concatenate([[*[1.0] * (n - 1), np.inf] for n in bins])
    start = np.concatenate([each[:-1] for each in bounds])
    width = np.concatenate([np.diff(each) for each in bounds])
    repeated = wide[..., feature]

    def spread(values: np.ndarray) -> Array:
        return jnp.broadcast_to(jnp.asarray(values, wide.dtype), repeated.shape)

    position = (repeated - spread(start)) / spread(width)
    return narrow(jnp.clip(position, spread(low), spread(high)), x.dtype)


class PeriodicParameters(NamedTuple):
    """The waves of each feature, and a linear layer of its own."""

    frequencies: Float[Array, "features waves"]
    phases: Float[Array, "features waves"]
    weights: Float[Array, "features waves outputs"]
    biases: Float[Array, "features outputs"]


@checks.door
def periodic(
    features: int, size: int = 4, *, waves: int = 16, frequency_scale: float = 0.1
) -> Network:
    """The periodic embedding of numeric features that is known as PBLD.

    Feature `x` becomes `size` numbers: `x` itself, followed by a linear layer of its waves,

        cos(2 pi frequencies * x + phases) @ weights + biases

    All parameters are trained, and every feature has its own. Scale the features first, for
    instance to standard deviation 1.

    Args:
        features: the number of features, at least 1.
        size: the numbers per feature, at least 2.
        waves: the waves per feature, at least 1.
        frequency_scale: the standard deviation of the initial frequencies, at least 0. The result
            depends on it: try 0.01 to 1 for features of standard deviation 1.

    Returns:
        A network from `[..., features]` to `[..., features * size]`, feature by feature.

    Raises:
        ValueError, TypeError: a size that is not a positive integer, or a negative scale; when
            applied, inputs of another size or dtype.

    Initial frequencies are normal, phases are uniform in [-pi, pi], and weights and biases are
    uniform within `+-1 / sqrt(waves)`.

    Reference: Holzmüller, Grinsztajn and Steinwart, Better by default, 2024, whose RealMLP has
    these defaults. The embedding PLR of Gorishniy, Rubachev and Babenko, On embeddings for
    numerical features in tabular deep learning, 2022, has sine and cosine without phases, relu
    after the linear layer, and not `x` itself; it needs larger sizes, such as 24.

    >>> network = periodic(3)
    >>> parameters = network.init(jax.random.key(0))
    >>> network.apply(parameters, jnp.ones((5, 3))).shape
    (5, 12)
    """
    features = checks.integer("features", features, 1)
    size = checks.integer("size", size, 2)
    waves = checks.integer("waves", waves, 1)
    frequency_scale = checks.number("frequency_scale", frequency_scale, 0)
    name = f"periodic({features}, {size})"
    shapes = {
        "frequencies": (features, waves),
        "phases": (features, waves),
        "weights": (features, waves, size - 1),
        "biases": (features, size - 1),
    }
    return Network(
        checks.bind(name, _init_periodic, shapes, frequency_scale),
        checks.bind(name, _apply_periodic, shapes),
        name=name,
        in_features=features,
        out_features=features * size,
    )


def _init_periodic(
    shapes: dict[str, tuple[int, ...]], frequency_scale: Any, key: Key[Array, ""]
) -> PeriodicParameters:
    checks.key(key)
    first, *keys = jax.random.split(key, len(shapes))
    frequencies = frequency_scale * jax.random.normal(first, shapes["frequencies"], jnp.float32)
    bound = 1 / math.sqrt(shapes["weights"][1])
    uniform = zip(keys, list(shapes.values())[1:], (math.pi, bound, bound), strict=True)
    return PeriodicParameters(
        frequencies,
        *(jax.random.uniform(k, shape, jnp.float32, -most, most) for k, shape, most in uniform),
    )


def _apply_periodic(
    shapes: dict[str, tuple[int, ...]],
    parameters: Sequence[Array],
    x: Float[Array, "..."],
    *,
    key: Key[Array, ""] | None = None,
) -> Float[Array, "..."]:
    del key
    frequencies, phases, weights, biases = unpack(parameters, shapes)
    check_inputs(x, len(biases), biases.dtype)
    angles = 2 * math.pi * _spread(frequencies, x) * widen(x)[..., None] + _spread(phases, x)
    linear = jnp.einsum("...fw,fws->...fs", jnp.cos(angles).astype(x.dtype), weights)
    linear = linear + jnp.broadcast_to(biases, linear.shape)
    return jnp.concatenate([x[..., None], linear], -1).reshape(*x.shape[:-1], -1)


def _spread(values: Float[Array, "features waves"], x: Float[Array, "..."]) -> Array:
    return jnp.broadcast_to(widen(values), (*x.shape, values.shape[-1]))
