"""Two optimizers in lockstep: the updates that both compute from the same gradients.

Training curves cannot tell two optimizers apart: correct implementations diverge from each other by
rounding, and an incorrect one may converge as well. Therefore both optimizers receive the same
gradients, those along the trajectory of the reference, and their updates are compared element by
element, in units in the last place (`ulps`).
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Int, PyTree
from optax import GradientTransformation

from jaxnet.core import checks, compilation, tracing, trees
from jaxnet.testing.problems import Problem
from jaxnet.testing.ulps import Leaves, flatten, measure_distances, ulp_distance

PRECISIONS = ("float32", "float64")


def cast_problem(problem: Problem, dtype: str) -> tuple[PyTree, Partial]:
    """Returns the starting point and the gradient function of a problem, in one precision."""

    def cast(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    source = problem.gradients
    gradients = source if isinstance(source, Partial) else Partial(source)
    return jax.tree.map(cast, (problem.parameters, gradients))


class Trajectory(NamedTuple):
    """All steps of a run; every leaf is `[steps, ...]`."""

    parameters: PyTree  # before the step
    gradients: PyTree
    after: PyTree  # the parameters after the step


def _run(
    optimizer: GradientTransformation,
    start: PyTree,
    gradients: Partial,
    steps: Int[Array, " steps"],
) -> Trajectory:
    """Runs an optimizer on the gradients along its own trajectory."""
    arguments = start, gradients.args, gradients.keywords, steps
    return compilation.compile_once(_make_run, (optimizer, gradients.func), arguments)(*arguments)


def _make_run(
    optimizer: GradientTransformation,
    function: Callable[..., PyTree],
    start: PyTree,
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    steps: Int[Array, " steps"],
) -> Trajectory:
    init, update = widen_counters(optimizer, start)

    def step(carry: tuple[PyTree, Any], t: Int[Array, ""]) -> Any:
        parameters, state = carry
        g = function(*args, parameters, t, **keywords)
        updates, state = update(g, state, parameters)
        after = optax.apply_updates(parameters, updates)
        return (after, state), Trajectory(parameters, g, after)

    return jax.lax.scan(step, (start, init(start)), steps)[1]


def _replay(optimizer: GradientTransformation, trajectory: Trajectory) -> tuple[Leaves, Leaves]:
    """Computes an optimizer's updates and states from the gradients of a given trajectory.

    The reference is replayed too, by the same program, so that equal rules give equal bits.

    Returns:
        The updates, `[steps, ...]`, and the states before the first step and after each, `[steps +
        1, ...]`.
    """
    program = compilation.compile_once(_make_replay, (optimizer,), (trajectory,))
    last, (updates, states) = program(trajectory)
    before, after = floats(states), floats(last)
    return floats(updates), {p: np.concatenate([before[p], after[p][None]]) for p in before}


def _make_replay(
    optimizer: GradientTransformation, trajectory: Trajectory
) -> tuple[PyTree, tuple[PyTree, PyTree]]:
    start = jax.tree.map(lambda leaf: leaf[0], trajectory.parameters)
    init, update = widen_counters(optimizer, start)

    def step(state: Any, recorded: Trajectory) -> Any:
        updates, after = update(recorded.gradients, state, recorded.parameters)
        return after, (updates, state)

    return jax.lax.scan(step, init(start), trajectory)


def widen_counters(optimizer: GradientTransformation, parameters: PyTree) -> GradientTransformation:
    """Converts the int32 scalars of an optimizer's state to int64 if 64-bit types are enabled.

    JAX divides int32 by int32 in float32 even then, so the values of a schedule would be rounded to
    float32. An optimizer that accepts only int32 counters is returned unchanged.
    """

    def init(parameters: PyTree) -> Any:
        return jax.tree.map(_widen, optimizer.init(parameters))

    def update(gradients: PyTree, state: Any, parameters: PyTree) -> Any:
        updates, after = optimizer.update(gradients, state, parameters)
        return updates, jax.tree.map(_widen, after)

    try:
        state = tracing.shapes(init, parameters)
        _, after = tracing.shapes(update, parameters, state, parameters)
        trees.same_tree("state", after, "the one before", state)
    except (TypeError, ValueError):
        return optimizer
    return GradientTransformation(init, update)


def _widen(leaf: Any) -> Any:
    is_counter = jnp.ndim(leaf) == 0 and jnp.result_type(leaf) == jnp.int32
    return jnp.asarray(leaf, int) if is_counter else leaf


class Lockstep(NamedTuple):
    """Two optimizers on one problem, in one precision; in pairs, the candidate comes first."""

    dtype: str
    steps: int
    trajectory: Trajectory
    gradients: Leaves
    parameters: Leaves
    updates: tuple[Leaves, Leaves]
    states: tuple[Leaves, Leaves]  # [steps + 1, ...]: before the first step, and after each
    ulps: Leaves  # the distance of the updates

    def max_ulps(self) -> float:
        """Returns the largest distance of two updates, in ULPs."""
        return max(float(ulps.max(initial=0)) for ulps in self.ulps.values())

    def allow(self, effect: Leaves) -> "Lockstep":
        """Subtracts an allowed effect on the updates, by path, from their distances."""
        ours, theirs = self.updates

        def excess(path: str) -> np.ndarray:
            apart = np.abs(ours[path] - theirs[path])
            allowed = np.divide(effect[path], apart, out=np.zeros_like(apart), where=apart > 0)
            return self.ulps[path] * np.maximum(0, 1 - allowed)

        return self._replace(ulps={path: excess(path) for path in self.ulps})

    def is_identical(self) -> bool:
        """Whether all updates are bitwise equal."""
        candidate, reference = self.updates
        return all(
            candidate[path].dtype == reference[path].dtype
            and candidate[path].tobytes() == reference[path].tobytes()
            for path in reference
        )


def run_lockstep(
    candidate: GradientTransformation,
    reference: GradientTransformation,
    problem: Problem,
    dtype: str,
    steps: int,
) -> Lockstep:
    """Computes the updates of both optimizers along the trajectory of the reference.

    The result ends before the first step at which the reference is non-finite.

    Args:
        candidate, reference: the two optimizers.
        problem: the source of gradients.
        dtype: the precision, "float32" or "float64".
        steps: the number of steps, at least 1.

    Raises:
        InvalidValue: the reference is non-finite at its first step.
    """
    with use_precision(dtype):
        start, gradients = cast_problem(problem, dtype)
        trajectory = _run(reference, start, gradients, jnp.arange(steps, dtype=jnp.int32))
        (ours, our_states), (theirs, their_states) = (
            _replay(optimizer, trajectory) for optimizer in (candidate, reference)
        )
    finite = np.ones(steps, bool)
    for leaves in (floats(trajectory), theirs):
        for leaf in leaves.values():
            finite &= np.isfinite(leaf.reshape(steps, -1)).all(1)
    until = steps if finite.all() else int(finite.argmin())
    if until == 0:
        raise checks.InvalidValue(
            "expected a reference that is finite at its first step. "
            f"Received: a non-finite one, on problem {problem.name!r} in {dtype}"
        )

    def cut(leaves: Leaves, end: int = until) -> Leaves:
        return {path: leaf[:end] for path, leaf in leaves.items()}

    ours, theirs, parameters = cut(ours), cut(theirs), cut(floats(trajectory.parameters))
    our_states, their_states = cut(our_states, until + 1), cut(their_states, until + 1)
    return Lockstep(
        dtype,
        until,
        trajectory,
        cut(floats(trajectory.gradients)),
        parameters,
        (ours, theirs),
        (our_states, their_states),
        measure_distances(ours, theirs, parameters, our_states, dtype),
    )


def measure_rounding(single: Lockstep, double: Lockstep) -> float:
    """Measures how far float32 moves the updates of the reference, in ULPs of the parameters.

    Args:
        single, double: the same optimizers in float32 and in float64.
    """
    steps = min(single.steps, double.steps)
    distances = (
        ulp_distance(
            updates[:steps],
            double.updates[1][path][:steps],
            "float32",
            scale=single.parameters[path][:steps],
        )
        for path, updates in single.updates[1].items()
    )
    return max(float(distance.max()) for distance in distances)


def use_precision(dtype: str) -> contextlib.AbstractContextManager[Any]:
    """A context in which JAX computes in a precision."""
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


def floats(tree: PyTree) -> Leaves:
    """Returns the floating-point leaves by path."""
    leaves = trees.named_leaves(tree)
    floats = {p: a for p, a in leaves.items() if jnp.issubdtype(a.dtype, jnp.floating)}
    return {path: np.asarray(leaf) for path, leaf in floats.items()}


def measure_divergence(
    candidate: GradientTransformation,
    reference: GradientTransformation,
    problem: Problem,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Measures how far free-running trajectories diverge from that of the reference, in float32.

    Args:
        candidate, reference: the two optimizers.
        problem: the source of gradients.
        steps: the number of steps, at least 1.

    Returns:
        The Euclidean distance after each step, `[steps]`, of the candidate's trajectory; and that
        of the reference started one ULP away, the chaos floor.
    """
    start, gradients = cast_problem(problem, "float32")
    perturbed = jax.tree.map(lambda leaf: np.nextafter(leaf, np.float32(np.inf)), start)
    numbers = jnp.arange(steps, dtype=jnp.int32)
    runs = [(reference, start), (candidate, start), (reference, perturbed)]
    ends = [floats(_run(optimizer, p, gradients, numbers).after) for optimizer, p in runs]

    def distance(ours: Leaves) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            apart = flatten({path: ours[path].astype(float) - ends[0][path] for path in ours})
            return np.linalg.norm(apart, axis=1)

    return distance(ends[1]), distance(ends[2])
