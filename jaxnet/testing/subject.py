"""The optimizer under test, and the operations that its requirements share.

A requirement is a function that tests one property of a `Subject`. It returns an observation in a
few words. It raises `Failed` if the property does not hold, `Advice` if most uses do without it,
and `NotApplicable` if it cannot be tested; any other exception, raised by the optimizer, is a
failure too. All requirements use one
small tree of parameters: a matrix, a scalar and a vector.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnet.core import checks, dtypes, tracing, trees
from jaxnet.testing.candidates import OptimizerFactory
from jaxnet.testing.ulps import ULP_THRESHOLD, ulp_distance

Function: TypeAlias = Callable[..., Any]

STEPS = 4


class Subject(NamedTuple):
    """The optimizer under test.

    Attributes:
        init, update: its functions.
        factory: the function from the learning rate to the optimizer, if it is known.
        per_element: whether the optimizer claims to treat each element independently.
    """

    init: Function
    update: Function
    factory: OptimizerFactory | None
    per_element: bool


Requirement: TypeAlias = Callable[[Subject], str]


class Failed(Exception):
    """The property does not hold; the message is the observation."""


class Advice(Exception):
    """The property does not hold, which most uses do without; the message is the observation."""


class NotApplicable(Exception):
    """The property cannot be tested; the message is the reason."""


def forget_traces(subject: Subject) -> contextlib.AbstractContextManager[None]:
    """A context in which JAX reuses no trace of the optimizer, which may have changed since."""
    try:
        step = jax.jit(lambda p: subject.update(p, subject.init(p), p)).trace(make_tree(0))
    except Exception:  # the requirements report it
        return contextlib.nullcontext()
    return tracing.trace_anew() if tracing.may_be_stale(step) else contextlib.nullcontext()


check_tree = checks.door(trees.same_tree, "update")


def make_tree(seed: int, dtype: Any = np.float32) -> PyTree:
    """Draws a tree of normally distributed parameters or gradients."""
    random = np.random.default_rng(seed)
    shapes = {"matrix": (4, 3), "scalar": (), "vector": (4,)}
    return {name: jnp.asarray(random.standard_normal(s), dtype) for name, s in shapes.items()}


def stack(trees: list[PyTree]) -> PyTree:
    """Stacks the leaves of several trees along a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def run_steps(update: Function, state: Any, dtype: Any = np.float32) -> PyTree:
    """Returns the stacked updates of `STEPS` steps."""
    updates = []
    for step in range(1, STEPS + 1):
        one, state = update(make_tree(step, dtype), state, make_tree(0, dtype))
        updates.append(one)
    return stack(updates)


def advance_state(subject: Subject, steps: int) -> Any:
    """Returns the state after a number of steps."""
    state, step = subject.init(make_tree(0)), jax.jit(subject.update)
    for seed in range(1, steps + 1):
        _, state = step(make_tree(seed), state, make_tree(0))
    return state


def copy_leaves(tree: PyTree) -> list[np.ndarray]:
    """Copies the leaves to NumPy arrays; the leaves of keys are their bits."""

    def copy(leaf: Any) -> np.ndarray:
        return np.array(jax.random.key_data(leaf) if dtypes.is_key(leaf) else leaf)

    return [copy(leaf) for leaf in jax.tree.leaves(tree)]


def is_bitwise_equal(a: PyTree, b: PyTree) -> bool:
    """Whether two trees have leaves of the same dtypes and bits."""
    pairs = zip(copy_leaves(a), copy_leaves(b), strict=True)
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


def is_finite(tree: PyTree) -> bool:
    """Whether all floating-point leaves are finite."""
    floats = [n for n in copy_leaves(tree) if jnp.issubdtype(n.dtype, jnp.floating)]
    return all(bool(np.isfinite(n.astype(float)).all()) for n in floats)


def check_equal(received: PyTree, expected: PyTree, difference: str) -> None:
    """Raises `Failed` if two float64 trees differ by more than rounding; NaN equals NaN.

    Args:
        received, expected: the trees.
        difference: what it means if they differ, for the message.
    """
    pairs = zip(copy_leaves(received), copy_leaves(expected), strict=True)
    apart = max(float(ulp_distance(a, b, "float64").max()) for a, b in pairs)
    if not apart <= ULP_THRESHOLD:
        raise Failed(f"{difference}, by up to {apart:.2g} ULPs")
