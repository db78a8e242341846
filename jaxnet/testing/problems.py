"""Problems on which two optimizers show whether they are the same.

Each is a start and a source of gradients. The standard ones share one tree of parameters, a matrix,
a vector and a scalar, so that an optimizer is compiled once for all of them; what differs is where
their gradients come from: from bowls round and narrow, from Rosenbrock's valley, from a small
network, or from a list of mostly zeros, of nothing but zeros, or of sizes twenty orders of
magnitude apart. Convergence plays no part: a mistake is to change some update somewhere.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from jaxnet.core import checks
from jaxnet.nn.activations import tanh
from jaxnet.nn.layers import DenseParameters, dense
from jaxnet.nn.losses import softmax_cross_entropy

Parameters: TypeAlias = PyTree


class Problem(NamedTuple):
    """A start and a source of gradients.

    Attributes:
        name: for reports.
        parameters: where to start, any tree of floating-point arrays; every comparison casts them
            to the precision it is made in.
        gradients: `gradients(parameters, step) -> gradients`, a tree like the parameters, for step
            0, 1, ...; pure, and computed in the parameters' precision. As a
            `jax.tree_util.Partial` of a function and arrays it has its arrays cast as well, and
            problems that differ in nothing else are compiled once.

    >>> bowl = Problem("bowl", np.ones(3), jax.grad(lambda x, step: jnp.sum(x**2)))
    >>> bowl.gradients(jnp.ones(3), 0)
    Array([2., 2., 2.], dtype=float32)
    """

    name: str
    parameters: Parameters
    gradients: Callable[[Parameters, Int[Array, ""]], Parameters]


@checks.door
def standard_problems(seed: int = 0) -> tuple[Problem, ...]:
    """The problems that optimizers are compared on; another seed draws other numbers.

    Their gradients are bounded near the start, so that no usual learning rate diverges.

    Raises:
        ValueError, TypeError: a seed that is not an integer of at least 0.

    >>> [problem.name for problem in standard_problems()]
    ['quadratic', 'narrow quadratic', 'rosenbrock', 'network', 'sparse', 'zero', 'magnitudes']
    """
    seed = checks.integer("seed", seed, 0)
    random = np.random.default_rng(seed)
    normal, uniform = random.standard_normal, random.uniform
    start = _drawn(normal)
    still = _Numbers(
        curvature=_drawn(np.zeros),
        centre=_drawn(normal),
        noise=_drawn(np.zeros, _ROWS),
        inputs=normal((_EXAMPLES, _FEATURES)),
        labels=random.integers(_FEATURES, size=_EXAMPLES),
    )
    noise = _drawn(normal, _ROWS)
    rare = jax.tree.map(lambda n: n * (random.random(n.shape) < 0.1), noise)
    spread = jax.tree.map(np.multiply, noise, _drawn(lambda shape: 10 ** uniform(-10, 10, shape)))
    narrow = _drawn(lambda shape: 10 ** uniform(-6, 0, shape))
    sources = {
        "quadratic": (0, still._replace(curvature=_drawn(lambda shape: uniform(0.5, 1, shape)))),
        "narrow quadratic": (0, still._replace(curvature=narrow)),
        "rosenbrock": (1, still),
        "network": (2, still),
        "sparse": (0, still._replace(noise=rare)),
        "zero": (0, still),
        "magnitudes": (0, still._replace(noise=spread)),
    }
    return tuple(Problem(name, start, Partial(_gradients, *s)) for name, s in sources.items())


_FEATURES, _HIDDEN = 4, 3
_LAYER = dense(_FEATURES, _HIDDEN, tanh)
_EXAMPLES, _BATCH = 32, 8
_ROWS = 97  # of noise, which repeats; a prime, to keep out of step with all else


class _Numbers(NamedTuple):
    """What the standard problems are made of; each uses a part."""

    curvature: Parameters
    centre: Parameters
    noise: Parameters
    inputs: Float[ArrayLike, "examples features"]
    labels: Int[ArrayLike, " examples"]


def _drawn(draw: Callable[[tuple[int, ...]], Any], *rows: int) -> Parameters:
    """The tree of the standard problems, each leaf `draw(shape)`."""
    layer = DenseParameters(draw((*rows, _FEATURES, _HIDDEN)), draw((*rows, _HIDDEN)))
    return {"layer": layer, "scale": draw(rows)}


def _gradients(
    kind: ArrayLike, numbers: _Numbers, parameters: Parameters, step: Int[Array, ""]
) -> Parameters:
    """One program for all, so that an optimizer is compiled with it once."""
    kinds = (_quadratic, _rosenbrock, _network)
    return jax.lax.switch(kind, kinds, numbers, parameters, step)


def _quadratic(numbers: _Numbers, parameters: Parameters, step: Int[Array, ""]) -> Parameters:
    """That of `curvature * (parameters - centre)**2 / 2`, plus a row of noise."""

    def slope(curvature: Array, centre: Array, noise: Array, p: Array) -> Array:
        return curvature * (p - centre) + noise[step % _ROWS]

    return jax.tree.map(slope, numbers.curvature, numbers.centre, numbers.noise, parameters)


def _rosenbrock(numbers: _Numbers, parameters: Parameters, step: Int[Array, ""]) -> Parameters:
    """Of `log(1 + f)`, which has the valley of Rosenbrock's function f and bounded gradients."""
    del numbers, step

    def height(parameters: Parameters) -> Array:
        x = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(parameters)])
        return jnp.log1p(jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))

    return jax.grad(height)(parameters)


def _network(numbers: _Numbers, parameters: Parameters, step: Int[Array, ""]) -> Parameters:
    """Of a classifier's cost on the batches of a small data set, in turn.

    It has a hidden layer, and out of that the same weights, transposed.
    """
    rows = (step * _BATCH + jnp.arange(_BATCH, dtype=jnp.int32)) % _EXAMPLES
    inputs, labels = jnp.asarray(numbers.inputs)[rows], jnp.asarray(numbers.labels)[rows]

    def cost(parameters: Parameters) -> Array:
        hidden = _LAYER.apply(parameters["layer"], inputs)
        logits = parameters["scale"] * hidden @ parameters["layer"].weights.T
        return jnp.mean(softmax_cross_entropy(logits, labels))

    return jax.grad(cost)(parameters)
