"""Whether two optimizers apply the same update rule.

`compare_optimizers` runs two optimizers in `lockstep` on a set of `problems`. Their updates are
identical, differ by rounding, or follow different rules, with the first `difference` and `hints`.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree
from optax import GradientTransformation

from jaxnet.core import arrays, checks, tracing, trees
from jaxnet.testing.candidates import Optimizer, as_optimizer, check_traceable
from jaxnet.testing.difference import Difference, find_difference, find_state_difference
from jaxnet.testing.hints import Table, find_hints, list_names
from jaxnet.testing.lockstep import (
    PRECISIONS,
    Lockstep,
    cast_problem,
    measure_divergence,
    measure_rounding,
    run_lockstep,
)
from jaxnet.testing.moments import find_moments
from jaxnet.testing.problems import Problem, standard_problems
from jaxnet.testing.rounding import measure_float32_effect, uses_float32
from jaxnet.testing.ulps import ULP_THRESHOLD, flatten

_FEW_ULPS = 64  # a common size of accumulated rounding
_MARGIN = 4  # times as far as rounding moves the reference, for recordings in float32


class ProblemComparison(NamedTuple):
    """The comparison of two optimizers on one problem.

    Attributes:
        name: the name of the problem.
        verdict: "identical", "rounding" or "different".
        steps: the number of steps compared; fewer than requested if the reference becomes
            non-finite.
        units: by precision, the largest distance of two updates in units in the last place (ULPs);
            NaN in float64 if the problem is compared in float32 alone.
        distance: the Euclidean distance of the two parameter vectors after each step of
            free-running trajectories, on which each optimizer computes its own gradients, in
            float32.
        chaos_floor: that of the reference started one ULP away; what is below cannot be told apart.
    """

    name: str
    verdict: str
    steps: int
    units: dict[str, float]
    distance: Float[np.ndarray, " steps"]
    chaos_floor: Float[np.ndarray, " steps"]


class Comparison(NamedTuple):
    """The result of `compare_optimizers`; `print` shows it as a table.

    Attributes:
        verdict: "identical" (bitwise), "rounding" or "different": the worst of all problems.
        problems: the comparison on each problem.
        first: the first difference on the first problem that has the verdict; None if there is
            none.
        state: the leaf of the optimizer's state that differs first on that problem, in words; None
            if the states cannot be matched.
        hints: patterns in the differences and their causes, with the problems that show them. In
            formulas, g are the gradients, p the parameters and u the updates.
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
            f"{'':{width}}  {'':10}  {'':>5}  {'max. ULPs apart':^19}  "
            f"{'free-running, max. distance':^27}",
            f"{'problem':{width}}  {'verdict':10}  {'steps':>5}  {'float32':>9} {'float64':>9}  "
            f"{'candidate':>11}    {'chaos floor':>11}",
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
    "identical": "identical: all updates are bitwise equal",
    "rounding": "rounding: the update rules agree up to rounding",
    "different": "different: the update rules differ",
}


@checks.door
def compare_optimizers(
    candidate: Optimizer,
    reference: Optimizer,
    *,
    problems: Sequence[Problem] | None = None,
    steps: int = 1000,
) -> Comparison:
    """Compares the updates that two optimizers compute from the same gradients.

    Args:
        candidate, reference: optax `GradientTransformation`s, also chained, or pairs of functions
            `(init, update)`. Hyperparameters may be numbers, schedules or injected by
            `optax.inject_hyperparams`. Pass the same hyperparameters to both, as Python numbers,
            which are exact in either precision.
        problems: the problems to compare on; `standard_problems()` by default. All steps of a
            problem are kept in memory, so problems should be small.
        steps: the number of steps on each problem, at least 1.

    Raises:
        TypeError: an optimizer is not a pair of functions. Those of PyTorch and Keras are stateful
            objects, for which `jaxnet.testing.adapters` has adapters.
        ValueError: an optimizer raises when it is traced, returns updates that do not match the
            parameters, or changes the type of its state (`check_optimizer` reports more about
            these); or the reference is non-finite at its first step.

    >>> import optax
    >>> from jaxnet import sgd
    >>> compare_optimizers(sgd(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)).verdict
    'identical'
    >>> damped = optax.chain(optax.ema(0.9, debias=False), optax.sgd(0.1))
    >>> print(compare_optimizers(damped, optax.sgd(0.1, momentum=0.9)).hints[0])
    updates = -0.01 g + 0.9 u[t-1]; reference: -0.1 g + 0.9 u[t-1] (on all 6 problems that differ)
    """
    problems = standard_problems() if problems is None else problems
    checks.instance("problems", problems, Sequence)
    steps = checks.integer("steps", steps, 1, 2**31 - 1)
    starts = _check_problems(problems)
    pair = {}
    for role, optimizer in (("candidate", candidate), ("reference", reference)):
        pair[role] = as_optimizer(role, optimizer)
        for parameters in starts:
            check_traceable(role, pair[role], parameters)

    return _conclude([_compare(**pair, problem=problem, steps=steps) for problem in problems])


class _Evidence(NamedTuple):
    """The comparison on a problem, and what shows its verdict."""

    summary: ProblemComparison
    lockstep: Lockstep
    limit: float  # the ULPs above which an update shows the verdict
    is_float32: bool  # whether the distances are those of hyperparameters in float32


def _compare(
    candidate: GradientTransformation,
    reference: GradientTransformation,
    problem: Problem,
    steps: int,
) -> _Evidence:
    single, double = (
        run_lockstep(candidate, reference, problem, dtype, steps) for dtype in PRECISIONS
    )
    units = {lockstep.dtype: lockstep.max_ulps() for lockstep in (single, double)}
    is_float32 = False
    if problem.precision == "float32":
        units["float64"] = math.nan
        shown, limit = single, _MARGIN * max(1.0, measure_rounding(single, double))
        verdict = "rounding" if units["float32"] <= limit else "different"
        verdict = "identical" if single.is_identical() else verdict
    else:
        verdict = _classify(single, double)
        if verdict == "different" and uses_float32(candidate, reference, double):
            effect = measure_float32_effect(reference, double)
            is_float32 = _classify(single, double.allow(effect)) == "rounding"
            verdict = "rounding" if is_float32 else verdict
        shown, limit = _select_precision(verdict, single, double)
    summary = ProblemComparison(
        problem.name,
        verdict,
        min(single.steps, double.steps),
        units,
        *measure_divergence(candidate, reference, problem, steps),
    )
    return _Evidence(summary, shown, limit if verdict == "different" else 0.0, is_float32)


def _check_problems(problems: Sequence[Any]) -> list[PyTree]:
    """Returns the starting points in float32, one for each structure and shapes."""
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
    """Returns the starting point in float32."""
    trees.floats("parameters", problem.parameters)
    leaves = trees.named_leaves(problem.parameters)
    if not leaves:
        raise checks.InvalidValue("expected parameters. Received: an empty tree")
    for path, leaf in leaves.items():
        arrays.within(f"parameters at {path!r}" if path else "parameters", leaf)
    checks.function("gradients", problem.gradients)
    if problem.precision not in (None, "float32"):
        raise checks.InvalidValue(
            f"expected a precision of None or 'float32'. Received: {problem.precision!r}"
        )
    parameters, gradients = cast_problem(problem, "float32")
    received = tracing.shapes(gradients, parameters, jax.ShapeDtypeStruct((), jnp.int32))
    trees.same_tree("gradients", received, "the parameters", parameters)
    return parameters


def _classify(single: Lockstep, double: Lockstep) -> str:
    """Returns the verdict on one problem from its locksteps in float32 and in float64."""
    if single.is_identical() and double.is_identical():
        return "identical"
    units = single.max_ulps(), double.max_ulps()
    is_rounding = all(map(math.isfinite, units)) and units[1] <= ULP_THRESHOLD * max(units[0], 1)
    return "rounding" if is_rounding else "different"


def _select_precision(verdict: str, single: Lockstep, double: Lockstep) -> tuple[Lockstep, float]:
    """Selects the precision that shows a verdict, and the ULPs above which an update shows it."""
    if verdict == "rounding":
        return (double if single.is_identical() else single), 0
    overflows = not math.isfinite(single.max_ulps()) and double.max_ulps() <= ULP_THRESHOLD
    return (single, sys.float_info.max) if overflows else (double, ULP_THRESHOLD)


def _conclude(found: list[_Evidence]) -> Comparison:
    """Takes the worst verdict of all problems and describes the differences that led to it."""
    summaries = tuple(each.summary for each in found)
    verdict = max((s.verdict for s in summaries), key=list(_MEANINGS).index)
    if verdict == "identical":
        return Comparison(verdict, summaries, None, None, ())
    shown = {each.summary.name: each for each in found if each.summary.verdict == verdict}
    name, evidence = next(iter(shown.items()))
    first = find_difference(name, evidence.lockstep, evidence.limit)
    if verdict == "rounding":
        names = [name for name, each in shown.items() if each.is_float32]
        which = list_names(names, len(shown))
        text = f"the distances are those of hyperparameters in float32 (on {which})"
        return Comparison(verdict, summaries, first, None, (text,) if names else ())
    hints = find_hints({n: _make_table(each.lockstep, each.limit) for n, each in shown.items()})
    single = max(summary.units["float32"] for summary in summaries)
    if single <= _FEW_ULPS and evidence.lockstep.dtype == "float64":
        hints += (
            f"only float64 shows the difference, float32 updates are within {single:.3g} ULPs: a "
            "constant that is slightly off, or a term too small for float32",
        )
    return Comparison(verdict, summaries, first, find_state_difference(evidence.lockstep), hints)


def _make_table(lockstep: Lockstep, limit: float) -> Table:
    ours, theirs = lockstep.updates
    ends = np.cumsum([0] + [a[0].size for a in theirs.values()])
    leaves = dict(zip(theirs, map(slice, ends[:-1], ends[1:]), strict=True))
    our_moments, is_complete = find_moments(lockstep.states[0], lockstep.parameters)
    their_moments, _ = find_moments(lockstep.states[1], lockstep.parameters)
    parts = ours, theirs, lockstep.gradients, lockstep.parameters, lockstep.ulps
    candidate, reference, gradients, parameters, ulps = (flatten(p).astype(float) for p in parts)
    return Table(
        candidate,
        reference,
        gradients,
        parameters,
        ulps,
        limit,
        leaves,
        (our_moments, their_moments),
        not is_complete,
    )
