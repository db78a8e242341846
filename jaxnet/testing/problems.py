"""Test problems for comparing optimizers.

A problem is a starting point and a source of gradients. The standard problems share one tree of
parameters (a matrix, a vector and a scalar), so that an optimizer is compiled once for all of them.
They differ in their gradients: those of quadratics, well and ill conditioned, of Rosenbrock's
function and of a small network; or a fixed sequence of gradients that are mostly zero, all zero, or
spread over twenty orders of magnitude. Convergence does not matter: the purpose of a problem is
that a mistake in an optimizer changes some of its updates.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

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


@runtime_checkable
class GradientFunction(Protocol):
    """The gradients of a problem at given parameters, a pure function that JAX can trace."""

    def __call__(self, parameters: Parameters, step: Int[Array, ""], /) -> Parameters:
        """Returns gradients with the structure, shapes and dtypes of `parameters`.

        Args:
            parameters: the current parameters.
            step: the number of steps before this one: 0, 1, ...
        """
        ...


class Problem(NamedTuple):
    """A starting point and a source of gradients.

    Attributes:
        name: the problem's name in reports.
        parameters: the starting point, any pytree of floating-point arrays. A comparison casts
            them to float32 and to float64.
        gradients: `gradients(parameters, step) -> gradients`. If it is a `jax.tree_util.Partial`,
            its arrays are cast like the parameters, and problems that differ only in these arrays
            share one compiled program.
        precision: "float32" for a candidate that is a recording of float32, which float64 cannot
            improve. It may be 4 times as far from the reference as rounding moves the reference
            itself. By default None, for a comparison in float32 and float64.

    >>> bowl = Problem("bowl", np.ones(3), jax.grad(lambda x, step: jnp.sum(x**2)))
    >>> bowl.gradients(jnp.ones(3), 0)
    Array([2., 2., 2.], dtype=float32)
    """

    name: str
    parameters: Parameters
    gradients: GradientFunction
    precision: str | None = None


@checks.door
def standard_problems(seed: int = 0) -> tuple[Problem, ...]:
    """Returns the problems on which `compare_optimizers` compares by default.

    Near the starting point their gradients are bounded, so that no common learning rate diverges.

    Args:
        seed: the seed of the random numbers in the problems, at least 0.

    Raises:
        ValueError, TypeError: the seed is not an integer of at least 0.

    >>> [problem.name for problem in standard_problems()]
    ['quadratic', 'narrow quadratic', 'rosenbrock', 'network', 'sparse', 'zero', 'magnitudes']
    """
    seed = checks.integer("seed", seed, 0)
    random = np.random.default_rng(seed)
    normal, uniform = random.standard_normal, random.uniform
    start = _make_tree(normal)
    zero = _Constants(
        curvature=_make_tree(np.zeros),
        centre=_make_tree(normal),
        noise=_make_tree(np.zeros, _ROWS),
        inputs=normal((_EXAMPLES, _FEATURES)),
        labels=random.integers(_FEATURES, size=_EXAMPLES),
    )
    noise = _make_tree(normal, _ROWS)
    sparse = jax.tree.map(lambda n: n * (random.random(n.shape) < 0.1), noise)
    scales = _make_tree(lambda shape: 10 ** uniform(-10, 10, shape))
    magnitudes = jax.tree.map(np.multiply, noise, scales)
    narrow = _make_tree(lambda shape: 10 ** uniform(-6, 0, shape))
    sources = {
        "quadratic": (0, zero._replace(curvature=_make_tree(lambda s: uniform(0.5, 1, s)))),
        "narrow quadratic": (0, zero._replace(curvature=narrow)),
        "rosenbrock": (1, zero),
        "network": (2, zero),
        "sparse": (0, zero._replace(noise=sparse)),
        "zero": (0, zero),
        "magnitudes": (0, zero._replace(noise=magnitudes)),
    }
    return tuple(Problem(name, start, Partial(_gradients, *s)) for name, s in sources.items())


_FEATURES, _HIDDEN = 4, 3
_LAYER = dense(_FEATURES, _HIDDEN, tanh)
_EXAMPLES, _BATCH = 32, 8
_ROWS = 97  # of noise, used cyclically; a prime, so that no other period divides it


class _Constants(NamedTuple):
    """The arrays that define a standard problem; each problem uses some of them."""

    curvature: Parameters
    centre: Parameters
    noise: Parameters
    inputs: Float[ArrayLike, "examples features"]
    labels: Int[ArrayLike, " examples"]


def _make_tree(draw: Callable[[tuple[int, ...]], Any], *rows: int) -> Parameters:
    """Makes the parameter tree of the standard problems, each leaf as `draw(shape)`."""
    layer = DenseParameters(draw((*rows, _FEATURES, _HIDDEN)), draw((*rows, _HIDDEN)))
    return {"layer": layer, "scale": draw(rows)}


def _gradients(
    kind: ArrayLike, constants: _Constants, parameters: Parameters, step: Int[Array, ""]
) -> Parameters:
    """Selects the kind of problem at run time, so that all kinds share one compiled program."""
    kinds = (_quadratic, _rosenbrock, _network)
    return jax.lax.switch(kind, kinds, constants, parameters, step)


def _quadratic(constants: _Constants, parameters: Parameters, step: Int[Array, ""]) -> Parameters:
    """The gradient of `curvature * (parameters - centre)**2 / 2`, plus a row of noise."""

    def slope(curvature: Array, centre: Array, noise: Array, p: Array) -> Array:
        return curvature * (p - centre) + noise[step % _ROWS]

    return jax.tree.map(slope, constants.curvature, constants.centre, constants.noise, parameters)


def _rosenbrock(constants: _Constants, parameters: Parameters, step: Int[Array, ""]) -> Parameters:
    """The gradient of `log(1 + f)` for Rosenbrock's function f: a curved valley, bounded slopes."""
    del constants, step

    def height(parameters: Parameters) -> Array:
        x = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(parameters)])
        return jnp.log1p(jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))

    return jax.grad(height)(parameters)


def _network(constants: _Constants, parameters: Parameters, step: Int[Array, ""]) -> Parameters:
    """The gradient of a classifier's cost on consecutive batches of a small data set.

    The classifier has one hidden layer and tied weights: its output layer is the transposed first.
    """
    rows = (step * _BATCH + jnp.arange(_BATCH, dtype=jnp.int32)) % _EXAMPLES
    inputs, labels = jnp.asarray(constants.inputs)[rows], jnp.asarray(constants.labels)[rows]

    def cost(parameters: Parameters) -> Array:
        hidden = _LAYER.apply(parameters["layer"], inputs)
        logits = parameters["scale"] * hidden @ parameters["layer"].weights.T
        return jnp.mean(softmax_cross_entropy(logits, labels))

    return jax.grad(cost)(parameters)
