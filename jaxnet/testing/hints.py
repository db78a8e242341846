"""Patterns in how two optimizers differ: what a mistake that is often made looks like.

Each says what is seen in the numbers of one problem, which is certain, and what often causes it,
which is not.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Numbers = Float[np.ndarray, "steps elements"]

_NEAR = 1e-6  # relative: numbers that are one but for rounding
_ALIKE = 1e-3  # ... but for some small term, such as eps


class Table(NamedTuple):
    """What two optimizers made of one problem; a column is one parameter, a row one step."""

    candidate: Numbers
    reference: Numbers
    gradients: Numbers
    parameters: Numbers
    units: Numbers
    limit: float  # the units from which an update differs
    leaves: dict[str, slice]  # the columns of each

    def differs(self) -> np.ndarray:
        """Whether the two updates do, as booleans `[steps, elements]`."""
        return self.units > self.limit


def found(tables: dict[str, Table]) -> tuple[str, ...]:
    """The patterns in the tables of several problems, each with the problems that show it.

    Some mistakes show on one kind of problem only. Of the rest only that is told which at least
    half of the problems show, since one alone may do so by chance.

    >>> numbers, parameters = np.linspace(1, 2, 6).reshape(3, 2), np.ones((3, 2))
    >>> found({"bowl": Table(numbers, -numbers, numbers, parameters, numbers, 0.0, {})})
    ('every update is -1 times the reference: the sign (on bowl)',)
    """
    shown: dict[str, list[str]] = {}
    particular = set()
    for problem, table in tables.items():
        for pattern in (*_COMMON, *_PARTICULAR):
            for text in pattern(table):
                shown.setdefault(text, []).append(problem)
                if pattern in _PARTICULAR:
                    particular.add(text)
    told = [t for t in shown if t in particular or 2 * len(shown[t]) >= len(tables)]
    told.sort(key=lambda text: -len(shown[text]))
    return tuple(f"{text} (on {_listed(shown[text], len(tables))})" for text in told)


def _listed(names: list[str], of: int) -> str:
    return f"all {of} that differ" if len(names) == of > 1 else ", ".join(names)


def _one_factor(table: Table) -> Iterator[str]:
    ratios = _ratios(table)
    known = ratios[np.isfinite(ratios)]
    if known.size and not np.isinf(ratios).any() and np.ptp(known) <= _NEAR * abs(known[0]):
        factor = np.median(known)
        cause = "the sign" if abs(factor + 1) < _NEAR else "a factor of the rate or of a moment"
        yield f"every update is {factor:.9g} times the reference: {cause}"


def _ratios(table: Table) -> np.ndarray:
    """Candidate over reference; NaN where both are 0, infinite where one is or is not finite."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratios = table.candidate / table.reference
    both = (table.candidate == 0) & (table.reference == 0)
    lost = (table.candidate == 0) | ~np.isfinite(table.candidate)
    return np.where(both, np.nan, np.where(lost, np.inf, ratios))


def _not_finite(table: Table) -> Iterator[str]:
    wrong = ~np.isfinite(table.candidate)
    if wrong.any():
        silent = not table.gradients[wrong].any()
        cause = ": a division of 0 by 0" if silent else ""
        where = "where the gradient is zero" if silent else "in places"
        yield f"updates are infinite or NaN {where}{cause}"


def _factor_of_the_step(table: Table) -> Iterator[str]:
    ratios = np.sort(_ratios(table), axis=1)  # NaN come last
    known = np.isfinite(ratios).sum(axis=1)
    rows = np.flatnonzero(known)
    if len(rows) < 2 or np.isinf(ratios).any():
        return
    low = ratios[rows, known[rows] // 10]
    high = ratios[rows, known[rows] - 1 - known[rows] // 10]
    if (high - low <= _ALIKE * np.abs(low)).all() and np.ptp(low) > _ALIKE * np.abs(low).max():
        yield (
            "the updates of one step are nearly all one multiple of the reference, another in each "
            "step: a schedule or a bias correction"
        )


def _other_step(table: Table) -> Iterator[str]:
    a, b = table.candidate, table.reference
    for shift, ours, theirs in (("earlier", a[1:], b[:-1]), ("later", a[:-1], b[1:])):
        if ours.any() and np.allclose(ours, theirs, rtol=_NEAR, atol=0):
            yield f"each update is the reference's of one step {shift}"


def _steps(table: Table) -> Iterator[str]:
    rows = np.flatnonzero(table.differs().any(axis=1))
    last = len(table.units) - 1
    if rows.size and rows[0] > 0:
        yield (
            f"{'the first step agrees' if rows[0] == 1 else f'the first {rows[0]} steps agree'}: "
            "what differs is carried from step to step or depends on the step's number"
        )
    elif rows.size and rows[-1] < last:
        until = rows[-1] + 1
        yield f"only {'step 1 differs' if until == 1 else f'the first {until} steps differ'}"


def _leaves(table: Table) -> Iterator[str]:
    agree = [
        leaf for leaf, columns in table.leaves.items() if not table.differs()[:, columns].any()
    ]
    if 0 < len(agree) < len(table.leaves):
        yield f"some leaves agree: {', '.join(agree)}"


def _zero_gradients(table: Table) -> Iterator[str]:
    differs = table.differs()
    if table.gradients.any() and not table.gradients[differs].any():
        yield "only updates at a gradient of zero differ"


def _small_gradients(table: Table) -> Iterator[str]:
    """The smaller the gradients, the more; over many orders of magnitude."""
    sizes = np.abs(table.gradients).max(axis=0)
    apart = np.max(np.minimum(table.units, 2.0**52), axis=0)
    columns = np.flatnonzero(sizes)
    columns = columns[np.argsort(sizes[columns])]
    if columns.size < 8 or sizes[columns[-1]] < 1e6 * sizes[columns[0]]:
        return
    quarter = columns.size // 4
    smallest, largest = apart[columns[:quarter]], apart[columns[-quarter:]]
    if smallest.min() > 1e3 * largest.max():
        yield "the smaller the gradients, the more they differ: eps, its size or its place"


def _decay(table: Table) -> Iterator[str]:
    difference = table.candidate - table.reference
    size = np.vdot(table.parameters, table.parameters)
    if not np.isfinite(difference).all() or size == 0:
        return
    factor = np.vdot(table.parameters, difference) / size
    rest = difference - factor * table.parameters
    if factor and np.linalg.norm(rest) <= _NEAR * np.linalg.norm(difference):
        yield f"the updates differ by {factor:.6g} times the parameters: weight decay"


_COMMON = (_one_factor, _factor_of_the_step, _other_step, _steps, _leaves, _decay)
_PARTICULAR = (_not_finite, _zero_gradients, _small_gradients)
