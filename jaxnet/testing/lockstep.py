"""Two optimizers in lockstep: what both make of the same gradients, step by step.

Training curves cannot tell two optimizers apart. Two right Adams that round differently drift apart
without end, and a wrong one converges as well. So both are fed the gradients that the reference
meets on its way, and what they make of each is compared, element by element, in units in the last
place.

What separates rounding from a difference is precision itself. All is done in float32 and again in
float64. Rounding is about as many units in either, however ill-conditioned the formula; a different
rule is `2**29` times as many units in float64, since each of float32's is that many of float64's.
The limit lies halfway between the two, at `2**14.5` times, so that either has a margin of 23,000.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Int, PyTree

from jaxnet.core import checks, compilation, tracing, trees
from jaxnet.testing.problems import Problem

AGREEMENT = 2.0**14.5
PRECISIONS = ("float32", "float64")

Rule: TypeAlias = optax.GradientTransformation
Leaves: TypeAlias = dict[str, np.ndarray]  # by path, each [steps, ...]


def cast(problem: Problem, dtype: str) -> tuple[PyTree, Partial]:
    """The problem's start and source of gradients, in one precision."""

    def cast(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    source = problem.gradients
    gradients = source if isinstance(source, Partial) else Partial(source)
    return jax.tree.map(cast, (problem.parameters, gradients))


class _Trajectory(NamedTuple):
    """Of every step, each leaf `[steps, ...]`."""

    parameters: PyTree  # before the step
    gradients: PyTree
    after: PyTree  # the parameters after it


def _run(
    optimizer: Rule, start: PyTree, gradients: Partial, steps: Int[Array, " steps"]
) -> _Trajectory:
    """A run on the gradients it meets."""
    arguments = start, gradients.args, gradients.keywords, steps
    return compilation.compile_once(_make_run, (optimizer, gradients.func), arguments)(*arguments)


def _make_run(
    optimizer: Rule,
    function: Callable[..., PyTree],
    start: PyTree,
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    steps: Int[Array, " steps"],
) -> _Trajectory:
    init, update = _counting_widely(optimizer, start)

    def step(carry: tuple[PyTree, Any], t: Int[Array, ""]) -> Any:
        parameters, state = carry
        g = function(*args, parameters, t, **keywords)
        updates, state = update(g, state, parameters)
        after = optax.apply_updates(parameters, updates)
        return (after, state), _Trajectory(parameters, g, after)

    return jax.lax.scan(step, (start, init(start)), steps)[1]


def _replay(optimizer: Rule, trajectory: _Trajectory) -> tuple[PyTree, PyTree]:
    """The updates and the states that the optimizer makes of someone's trajectory.

    Both optimizers are replayed by this same program, so that equal rules give equal bits.
    """
    return compilation.compile_once(_make_replay, (optimizer,), (trajectory,))(trajectory)


def _make_replay(optimizer: Rule, trajectory: _Trajectory) -> tuple[PyTree, PyTree]:
    start = jax.tree.map(lambda leaf: leaf[0], trajectory.parameters)
    init, update = _counting_widely(optimizer, start)

    def step(state: Any, recorded: _Trajectory) -> Any:
        updates, state = update(recorded.gradients, state, recorded.parameters)
        return state, (updates, state)

    return jax.lax.scan(step, init(start), trajectory)[1]


def _counting_widely(
    optimizer: optax.GradientTransformation, parameters: PyTree
) -> optax.GradientTransformation:
    """The optimizer with its counts in int64 where there are such, in runs in float64.

    JAX divides int32 by int32 in float32, even there: a schedule would have the rounding of that.
    """

    def init(parameters: PyTree) -> Any:
        return jax.tree.map(_widened, optimizer.init(parameters))

    def update(gradients: PyTree, state: Any, parameters: PyTree) -> Any:
        updates, after = optimizer.update(gradients, state, parameters)
        return updates, jax.tree.map(_widened, after)

    wide = optax.GradientTransformation(init, update)
    try:
        state = tracing.shapes(init, parameters)
        _, after = tracing.shapes(update, parameters, state, parameters)
        trees.same_tree("state", after, "the one before", state)
    except (TypeError, ValueError):  # it insists on int32
        return optimizer
    return wide


def _widened(leaf: Any) -> Any:
    is_count = jnp.ndim(leaf) == 0 and jnp.result_type(leaf) == jnp.int32
    return jnp.asarray(leaf, int) if is_count else leaf


class Lockstep(NamedTuple):
    """Two optimizers on one problem, in one precision; candidate first."""

    dtype: str
    steps: int
    gradients: Leaves
    parameters: Leaves
    updates: tuple[Leaves, Leaves]
    states: tuple[Leaves, Leaves]
    units: Leaves

    def largest(self) -> float:
        """The largest distance of two updates."""
        return max(float(units.max(initial=0)) for units in self.units.values())

    def identical(self) -> bool:
        """Whether all updates have the same bits."""
        ours, theirs = self.updates
        return all(
            ours[path].dtype == theirs[path].dtype
            and ours[path].tobytes() == theirs[path].tobytes()
            for path in theirs
        )


def run_lockstep(
    candidate: Rule,
    reference: Rule,
    problem: Problem,
    dtype: str,
    steps: int,
) -> Lockstep:
    """What both make of the gradients on the reference's way, as long as that stays finite."""
    with _precision(dtype):
        start, gradients = cast(problem, dtype)
        trajectory = _run(reference, start, gradients, jnp.arange(steps, dtype=jnp.int32))
        replays = [_replay(optimizer, trajectory) for optimizer in (candidate, reference)]
        (ours, our_state), (theirs, their_state) = (tuple(map(_floats, r)) for r in replays)
        finite = np.ones(steps, bool)
        for leaves in (_floats(trajectory), theirs):
            for leaf in leaves.values():
                finite &= np.isfinite(leaf.reshape(steps, -1)).all(1)
        until = steps if finite.all() else int(finite.argmin())
        if until == 0:
            raise checks.InvalidValue(
                "expected a reference that is finite on its first step. "
                f"Received: one that is not, on problem {problem.name!r} in {dtype}"
            )

        def cut(leaves: Leaves) -> Leaves:
            return {path: leaf[:until] for path, leaf in leaves.items()}

        ours, theirs = cut(ours), cut(theirs)
        return Lockstep(
            dtype,
            until,
            cut(_floats(trajectory.gradients)),
            cut(_floats(trajectory.parameters)),
            (ours, theirs),
            (cut(our_state), cut(their_state)),
            _units(ours, theirs, cut(_floats(trajectory.parameters)), dtype),
        )


def _units(ours: Leaves, theirs: Leaves, parameters: Leaves, dtype: str) -> Leaves:
    """How far apart the updates are.

    A candidate that returns new parameters minus old ones is as exact as parameters are, no more.
    """
    subtracted = all(_is_difference(ours[path], p) for path, p in parameters.items())
    units_of = parameters if subtracted else dict.fromkeys(parameters, np.zeros(()))
    return {p: units_apart(ours[p], theirs[p], dtype, unit_of=units_of[p]) for p in theirs}


def _is_difference(updates: np.ndarray, parameters: np.ndarray) -> bool:
    """Whether every update has just the digits that are left when parameters are subtracted.

    The difference of two numbers within a factor of two is exact (Sterbenz, 1974).
    """
    near = np.abs(updates) < np.abs(parameters) / 2
    updates, parameters = updates.astype(parameters.dtype)[near], parameters[near]
    return bool(((parameters + updates) - parameters == updates).all())


def _precision(dtype: str) -> contextlib.AbstractContextManager[Any]:
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


def _floats(tree: PyTree) -> Leaves:
    """The floating-point leaves by their paths."""
    leaves = trees.named_leaves(tree)
    floats = {p: a for p, a in leaves.items() if jnp.issubdtype(a.dtype, jnp.floating)}
    return {path: np.asarray(leaf) for path, leaf in floats.items()}


def units_apart(
    a: np.ndarray, b: np.ndarray, dtype: str, *, unit_of: ArrayLike = 0.0
) -> np.ndarray:
    """The distance of two arrays in units in the last place of the larger number, or of `unit_of`.

    Infinite where one is not finite and the other is not the same.

    >>> units_apart(np.array([1.0, 0.0, np.inf]), np.array([1.0 + 2**-22, 0.0, 1.0]), "float32")
    array([ 2.,  0., inf])
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    info = np.finfo(dtype)
    largest = np.maximum(np.maximum(np.abs(a), np.abs(b)), np.abs(unit_of))
    exponent = np.frexp(largest)[1] - 1
    unit = np.ldexp(1.0, np.maximum(exponent, info.minexp) - info.nmant)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.where(a == b, 0, np.abs(a - b) / unit)
    return np.where(np.isnan(distance), np.inf, distance)


def verdict_of(locksteps: list[Lockstep]) -> str:
    """What lockstep in float32 and in float64 shows of one problem."""
    if all(lockstep.identical() for lockstep in locksteps):
        return "identical"
    single, double = (lockstep.largest() for lockstep in locksteps)
    finite = math.isfinite(single) and math.isfinite(double)
    return "rounding" if finite and double <= AGREEMENT * max(single, 1) else "different"


def free_runs(
    candidate: Rule,
    reference: Rule,
    problem: Problem,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The candidate's distance from the reference, and that of the reference moved by one unit."""
    start, gradients = cast(problem, "float32")
    moved = jax.tree.map(lambda leaf: np.nextafter(leaf, np.float32(np.inf)), start)
    numbers = jnp.arange(steps, dtype=jnp.int32)
    cases = [(reference, start), (candidate, start), (reference, moved)]
    ends = [_floats(_run(rule, at, gradients, numbers).after) for rule, at in cases]

    def distance(ours: Leaves) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            apart = [(ours[p].astype(float) - ends[0][p]).reshape(steps, -1) for p in ours]
            return np.linalg.norm(np.concatenate(apart, 1), axis=1)

    return distance(ends[1]), distance(ends[2])
