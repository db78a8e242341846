"""Is this optimizer the one it claims to be?

`compare_optimizers` runs two optimizers in `lockstep` on a set of `problems`, says whether they are
one rule, one rule but for rounding, or two, and where they differ says what is known about it.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, PyTree

from jaxnet.core import arrays, checks, tracing, trees
from jaxnet.testing import hints
from jaxnet.testing.lockstep import (
    AGREEMENT,
    PRECISIONS,
    Leaves,
    Lockstep,
    cast,
    free_runs,
    run_lockstep,
    units_apart,
    verdict_of,
)
from jaxnet.testing.problems import Problem, standard_problems

Optimizer: TypeAlias = optax.GradientTransformation | tuple[Callable[..., Any], Callable[..., Any]]

_FEW = 64  # units: what rounding often is


class Difference(NamedTuple):
    """One number in which two optimizers differ.

    Attributes:
        problem, dtype: where, and in which precision.
        step: from 1.
        leaf: its path in the tree, with the index of the element.
        candidate, reference: the two updates.
        units: their distance in units in the last place of the larger; of the parameter, if that
            is larger still and the candidate makes its updates by subtracting parameters.
    """

    problem: str
    dtype: str
    step: int
    leaf: str
    candidate: float
    reference: float
    units: float

    def __str__(self) -> str:
        return (
            f"on {self.problem!r} in {self.dtype}, step {self.step}, {self.leaf}: "
            f"{self.candidate:.9g} in place of {self.reference:.9g}, {self.units:.3g} units"
        )


class ProblemComparison(NamedTuple):
    """What one problem showed.

    Attributes:
        name: the problem's.
        verdict: "identical", "rounding" or "different".
        steps: how many were compared; fewer than asked where the reference did not stay finite.
        units: the largest distance of two updates, in units in the last place, by precision.
        distance: how far apart the two are after each step of runs on gradients of their own: the
            Euclidean norm over all parameters, in float32.
        chaos_floor: the same of the reference and the reference that starts one unit away. No
            implementation can be told from another by what lies below it.
    """

    name: str
    verdict: str
    steps: int
    units: dict[str, float]
    distance: Float[np.ndarray, " steps"]
    chaos_floor: Float[np.ndarray, " steps"]


class Comparison(NamedTuple):
    """What `compare_optimizers` found; `print` it.

    Attributes:
        verdict: "identical" (every bit), "rounding" or "different": the worst of all problems.
        problems: what each showed.
        first: the first difference of the first problem that has the verdict.
        state: which part of the two states differs first there, as far as they can be matched.
        hints: patterns in what differs, each with the problems that show it.
    """

    verdict: str
    problems: tuple[ProblemComparison, ...]
    first: Difference | None
    state: str | None
    hints: tuple[str, ...]

    def __str__(self) -> str:
        width = max(len(problem.name) for problem in self.problems)
        lines = [
            _MEANINGS[self.verdict],
            "",
            f"{'':{width}}  {'':10}  {'':>5}  {'units apart at most':^19}  "
            f"{'runs of their own, at most':^26}",
            f"{'problem':{width}}  {'verdict':10}  {'steps':>5}  {'float32':>9} {'float64':>9}  "
            f"{'apart':>11}    {'chaos floor':>11}",
        ]
        for p in self.problems:
            lines.append(
                f"{p.name:{width}}  {p.verdict:10}  {p.steps:5}  "
                f"{p.units['float32']:9.3g} {p.units['float64']:9.3g}  "
                f"{p.distance.max():11.2g}    {p.chaos_floor.max():11.2g}"
            )
        if self.first:
            lines += ["", f"first: {self.first}"]
        if self.state:
            lines.append(f"state: {self.state}")
        return "\n".join(lines + [f"hint:  {hint}" for hint in self.hints])


_MEANINGS = {
    "identical": "identical: every bit of every update is the reference's",
    "rounding": "rounding: the rule is the reference's, rounded differently",
    "different": "different: the rule is not the reference's",
}


@checks.door
def compare_optimizers(
    candidate: Optimizer,
    reference: Optimizer,
    *,
    problems: Sequence[Problem] | None = None,
    steps: int = 1000,
) -> Comparison:
    """Says whether the candidate is the reference, in lockstep on the same gradients.

    Args:
        candidate, reference: optax `GradientTransformation`s, chains of them, or bare pairs
            `(init, update)`; hyperparameters may be numbers, schedules or `inject_hyperparams`'.
            Give both the same ones, as Python numbers: those are exact in either precision.
        problems: `standard_problems()` by default. All steps of a problem are kept in memory, so
            they should be small.
        steps: how many on each problem, at least 1.

    Raises:
        TypeError: no pair of functions, like the optimizers of PyTorch and Keras, whose state is
            their own.
        ValueError: an optimizer that fails when it is traced, does not give updates like the
            parameters, or changes the type of its state from step to step (`check_optimizer` finds
            out more about such); a reference that is not finite on its first step.

    >>> from jaxnet import sgd
    >>> compare_optimizers(sgd(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)).verdict
    'identical'
    >>> damped = optax.chain(optax.ema(0.9, debias=False), optax.sgd(0.1))
    >>> print(compare_optimizers(damped, optax.sgd(0.1, momentum=0.9)).hints[0])
    every update is 0.1 times the reference: a factor of the rate or of a moment (on all 6 ...
    """
    problems = standard_problems() if problems is None else problems
    checks.instance("problems", problems, Sequence)
    steps = checks.integer("steps", steps, 1, 2**31 - 1)
    starts = _check_problems(problems)
    rules = {}
    for role, optimizer in (("candidate", candidate), ("reference", reference)):
        rules[role] = as_optimizer(role, optimizer)
        for parameters in starts:
            _check_update(role, rules[role], parameters)
    both = rules["candidate"], rules["reference"]

    found = []
    for problem in problems:
        locksteps = [run_lockstep(*both, problem, dtype, steps) for dtype in PRECISIONS]
        distance, floor = free_runs(*both, problem, steps)
        units = {lockstep.dtype: lockstep.largest() for lockstep in locksteps}
        shortest = min(lockstep.steps for lockstep in locksteps)
        verdict = verdict_of(locksteps)
        summary = ProblemComparison(problem.name, verdict, shortest, units, distance, floor)
        found.append((summary, locksteps))
    return _conclusion(found)


def as_optimizer(role: str, optimizer: Any) -> optax.GradientTransformation:
    """A pair of functions as optax's type; anything else is refused."""
    if isinstance(optimizer, tuple) and len(optimizer) == 2 and all(map(callable, optimizer)):
        return optax.GradientTransformation(*optimizer)
    checks.optimizer(role, optimizer)
    return optax.GradientTransformation(optimizer.init, optimizer.update)


def _check_problems(problems: Sequence[Any]) -> list[PyTree]:
    """The starts of different structures or shapes, in float32."""
    if not problems:
        raise checks.InvalidValue("expected at least one problem. Received: none")
    starts = {}
    for problem in problems:
        if not isinstance(problem, Problem):
            raise checks.InvalidType(
                f"expected problems of type Problem. Received: {checks.describe(problem)}"
            )
        with checks.about(f"problem {problem.name!r}"):
            parameters = _check_problem(problem)
        starts[str(jax.tree.map(np.shape, parameters))] = parameters
    return list(starts.values())


def _check_problem(problem: Problem) -> PyTree:
    """The start in float32."""
    trees.floats("parameters", problem.parameters)
    leaves = trees.named_leaves(problem.parameters)
    if not leaves:
        raise checks.InvalidValue("expected parameters. Received: an empty tree")
    for path, leaf in leaves.items():
        arrays.within(f"parameters at {path!r}" if path else "parameters", leaf)
    checks.function("gradients", problem.gradients)
    parameters, gradients = cast(problem, "float32")
    received = tracing.shapes(gradients, parameters, jax.ShapeDtypeStruct((), jnp.int32))
    trees.same_tree("gradients", received, "the parameters", parameters)
    return parameters


def _check_update(role: str, optimizer: optax.GradientTransformation, parameters: PyTree) -> None:
    try:
        state = tracing.shapes(optimizer.init, parameters)
        updates, after = tracing.shapes(optimizer.update, parameters, state, parameters)
    except Exception as error:
        raise checks.InvalidValue(
            f"expected a {role} whose init(parameters) and update(gradients, "
            f"state, parameters) can be traced. Received: {type(error).__name__}: {error}"
        ) from error
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (updates, parameters)]
    if shapes[0] != shapes[1]:
        raise checks.InvalidValue(
            f"expected updates of the {role} with the parameters' structure "
            f"and shapes, {shapes[1]}. Received: {shapes[0]}"
        )
    trees.same_tree(f"states of the {role} after a step", after, "the one before", state)


def _conclusion(found: list[tuple[ProblemComparison, list[Lockstep]]]) -> Comparison:
    """The worst verdict, where it shows first, and what there is to say about it."""
    summaries = tuple(summary for summary, _ in found)
    verdict = max((s.verdict for s in summaries), key=list(_MEANINGS).index)
    if verdict == "identical":
        return Comparison(verdict, summaries, None, None, ())
    shown = {s.name: _telling(s, locksteps) for s, locksteps in found if s.verdict == verdict}
    name, (lockstep, limit) = next(iter(shown.items()))
    first = _first_difference(name, lockstep, limit)
    if verdict == "rounding":
        return Comparison(verdict, summaries, first, None, ())
    hints = _hints(shown)
    single = max(summary.units["float32"] for summary in summaries)
    if single <= _FEW:
        hints += (
            f"only float64 shows it, in float32 there are {single:.3g} units: a number held in "
            "float32, or a term too small for float32",
        )
    return Comparison(verdict, summaries, first, _first_state(lockstep), hints)


def _telling(summary: ProblemComparison, locksteps: list[Lockstep]) -> tuple[Lockstep, float]:
    """The precision that shows the verdict, and the units from which a number shows it."""
    single, double = locksteps
    if summary.verdict == "rounding":
        return (double if single.identical() else single), 0
    hidden = not math.isfinite(single.largest()) and double.largest() <= AGREEMENT
    return (single, sys.float_info.max) if hidden else (double, AGREEMENT)


def _first_difference(problem: str, lockstep: Lockstep, limit: float) -> Difference | None:
    firsts = [(_first_step(units, limit), path) for path, units in lockstep.units.items()]
    step = min(first for first, _ in firsts)
    if step == lockstep.steps:
        return None  # only the signs of zeros differ
    path = max(
        (p for first, p in firsts if first == step), key=lambda p: lockstep.units[p][step].max()
    )
    units = lockstep.units[path][step]
    index = np.unravel_index(int(units.argmax()), units.shape)
    ours, theirs = (float(updates[path][step][index]) for updates in lockstep.updates)
    leaf = (path or "the only leaf") + (str([int(i) for i in index]) if index else "")
    return Difference(problem, lockstep.dtype, step + 1, leaf, ours, theirs, float(units[index]))


def _first_step(units: np.ndarray, limit: float) -> int:
    """The first, from 0, with more units than the limit; the number of steps where none has."""
    beyond = (units > limit).reshape(len(units), -1).any(1)
    return int(beyond.argmax()) if beyond.any() else len(units)


def _first_state(lockstep: Lockstep) -> str | None:
    """Which leaf of the reference's state the candidate's state departs from first.

    A leaf is matched with that of the candidate's, of its shape, which equals it for longest.
    """
    ours, theirs = lockstep.states
    firsts = {}
    for path, leaf in theirs.items():
        apart = {
            name: units_apart(other, leaf, lockstep.dtype)
            for name, other in ours.items()
            if other.shape == leaf.shape
        }
        if not apart:
            return None
        nearest = max(apart, key=lambda name: _first_step(apart[name], AGREEMENT))
        firsts[path] = _first_step(apart[nearest], AGREEMENT), nearest
    if not firsts:
        return None
    path = min(firsts, key=lambda path: firsts[path][0])
    step, nearest = firsts[path]
    if step == lockstep.steps:
        return "no moment differs: the updates are made of them differently"
    return f"{path!r} differs first, at step {step + 1} (from the nearest, {nearest!r})"


def _hints(shown: dict[str, tuple[Lockstep, float]]) -> tuple[str, ...]:
    tables = {}
    for name, (lockstep, limit) in shown.items():
        ours, theirs = lockstep.updates
        ends = np.cumsum([0] + [a[0].size for a in theirs.values()])
        leaves = dict(zip(theirs, map(slice, ends[:-1], ends[1:]), strict=True))
        tables[name] = hints.Table(
            _columns(ours),
            _columns(theirs),
            _columns(lockstep.gradients),
            _columns(lockstep.parameters),
            _columns(lockstep.units),
            limit,
            leaves,
        )
    return hints.found(tables)


def _columns(leaves: Leaves) -> np.ndarray:
    """All leaves side by side, `[steps, elements]`, in float64."""
    return np.concatenate([a.reshape(len(a), -1).astype(float) for a in leaves.values()], axis=1)
