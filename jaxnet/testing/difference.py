"""The first difference between two optimizers in lockstep: in their updates and in their states."""

from typing import NamedTuple

import numpy as np

from jaxnet.testing.lockstep import Lockstep
from jaxnet.testing.ulps import ULP_THRESHOLD, ulp_distance


class Difference(NamedTuple):
    """One element of the updates in which two optimizers differ.

    Attributes:
        problem: the name of the problem.
        dtype: the precision, "float32" or "float64".
        step: the step, counted from 1.
        leaf: the path of the leaf in the pytree of parameters, and the index of the element.
        candidate, reference: the two updates.
        units: their distance in units in the last place (ULPs) of the larger one; in ULPs of the
            parameter if this is larger and the candidate subtracts parameters to make its updates.
    """

    problem: str
    dtype: str
    step: int
    leaf: str
    candidate: float
    reference: float
    units: float

    def __str__(self) -> str:
        ours, theirs = _distinguish(self.candidate, self.reference)
        return (
            f"on {self.problem!r} in {self.dtype}, step {self.step}, {self.leaf}: "
            f"{ours} instead of {theirs}, {self.units:.3g} ULPs apart"
        )


def _distinguish(a: float, b: float) -> tuple[str, str]:
    """Prints two numbers with enough digits to differ, if they do."""
    digits = next((n for n in (9, 12) if f"{a:.{n}g}" != f"{b:.{n}g}"), 17)
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def find_difference(problem: str, lockstep: Lockstep, limit: float) -> Difference | None:
    """Returns the first difference of the updates, the largest one of its step.

    Args:
        problem: the name of the problem.
        lockstep: the updates of both optimizers.
        limit: the number of ULPs above which two updates differ.

    Returns:
        None if no element differs by more than the limit.
    """
    firsts = {path: _first_step(ulps, limit) for path, ulps in lockstep.ulps.items()}
    step = min(firsts.values())
    if step == lockstep.steps:
        return None  # only the signs of zeros differ
    path = max(
        (p for p, first in firsts.items() if first == step),
        key=lambda p: lockstep.ulps[p][step].max(),
    )
    ulps = lockstep.ulps[path][step]
    index = np.unravel_index(int(ulps.argmax()), ulps.shape)
    ours, theirs = (float(updates[path][step][index]) for updates in lockstep.updates)
    leaf = (path or "the only leaf") + (str([int(i) for i in index]) if index else "")
    return Difference(problem, lockstep.dtype, step + 1, leaf, ours, theirs, float(ulps[index]))


def find_state_difference(lockstep: Lockstep) -> str | None:
    """Describes which leaf of the reference's state differs first from the candidate's state.

    A leaf is matched with the candidate's leaf of the same shape that equals it for the most steps,
    up to the rounding of the largest value of each element.

    Returns:
        None if no leaf has a counterpart, or if the reference has no state.
    """
    ours, theirs = lockstep.states
    firsts = {}
    for path, leaf in theirs.items():
        scale = np.abs(leaf).max(axis=0)  # an element may cross zero
        candidates = {
            name: _first_step(ulp_distance(other, leaf, lockstep.dtype, scale=scale), ULP_THRESHOLD)
            for name, other in ours.items()
            if other.shape == leaf.shape
        }
        if candidates:
            first = max(candidates.values())
            matches = [name for name, step in candidates.items() if step == first]
            firsts[path] = first, matches
    if not firsts:
        return None
    path = min(firsts, key=lambda path: firsts[path][0])
    step, matches = firsts[path]
    if step > lockstep.steps:
        if len(firsts) < len(theirs):
            return None
        return "the moments agree; only the formula of the update differs"
    when = f"at step {step}" if step else "in its initial value"
    where = f" (compared with the candidate's {matches[0]!r})" if len(matches) == 1 else ""
    return f"{path!r} differs first, {when}{where}"


def _first_step(ulps: np.ndarray, limit: float) -> int:
    """The first step, from 0, that exceeds the limit; the number of steps if none does."""
    exceeds = (ulps > limit).reshape(len(ulps), -1).any(1)
    return int(exceeds.argmax()) if exceeds.any() else len(ulps)
