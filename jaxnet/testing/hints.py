"""Hints at the cause of a difference: what common mistakes in optimizers look like in the updates.

A hint states a property of the updates on some problems, which is certain. It names a cause only if
a formula fits exactly, or if the property has a common cause.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxnet.testing.fits import Numbers
from jaxnet.testing.formulas import describe_formulas, describe_ratios
from jaxnet.testing.moments import (
    Gradients,
    Moments,
    describe_pairs,
    describe_precision,
    pair_moments,
)

_RTOL = 1e-6  # of numbers that are equal up to rounding
_LOOSE_RTOL = 1e-3  # of numbers that are equal up to a small term, such as eps


class Table(NamedTuple):
    """The updates of two optimizers on one problem; rows are steps, columns parameters."""

    candidate: Numbers
    reference: Numbers
    gradients: Numbers
    parameters: Numbers
    ulps: Numbers  # the distance of the updates
    limit: float  # the number of ULPs above which two updates differ
    leaves: dict[str, slice]  # the columns of each leaf
    moments: tuple[Moments, Moments]  # of the candidate and of the reference
    has_others: bool = False  # whether the candidate's state has arrays that are no moments

    def differs(self) -> np.ndarray:
        """Returns whether the two updates differ, as booleans `[steps, elements]`."""
        return self.ulps > self.limit


def find_hints(tables: dict[str, Table]) -> tuple[str, ...]:
    """Returns the hints that the updates on several problems give, with the problems' names.

    Some patterns can only appear on one kind of problem and are always returned. The others are
    returned if at least half of the problems show them, since one problem may by chance.

    >>> numbers, ones = np.linspace(1, 2, 6).reshape(3, 2), np.ones((3, 2))
    >>> table = Table(numbers, -numbers, numbers**2, ones, numbers, 0.0, {}, ({}, {}))
    >>> find_hints({"bowl": table})
    ('every update is -1 times the reference: wrong sign (on bowl)',)
    """
    shown: dict[str, list[str]] = {}
    certain = set()
    for problem, table in tables.items():
        found = list(_certain(table))
        certain |= {*found}
        others = [text for pattern in _GENERAL for text in pattern(table)]
        if not found:
            others += _factor_per_step(table)
        for text in found + others:
            shown.setdefault(text, []).append(problem)
    kept = [text for text in shown if text in certain or 2 * len(shown[text]) >= len(tables)]
    kept.sort(key=lambda text: -len(shown[text]))
    return tuple(f"{text} (on {list_names(shown[text], len(tables))})" for text in kept)


def _certain(table: Table) -> Iterator[str]:
    """Patterns that cannot appear by chance, the most informative ones only."""
    yield from _nonfinite(table)
    yield from _zero_gradients(table)
    if table.gradients.any():
        with np.errstate(all="ignore"):
            yield from next(filter(None, map(list, _by_information(table))), [])


def _by_information(table: Table) -> Iterator[Iterable[str]]:
    source = Gradients(table.gradients, table.parameters, table.leaves)
    pairs = pair_moments(*table.moments, source)
    agree = bool(pairs) and len(pairs) == len(table.moments[1]) and all(p.agrees() for p in pairs)
    yield describe_pairs([pair for pair in pairs if not pair.is_scaled()], source)
    if np.isfinite(table.candidate).all():
        yield describe_formulas(table.candidate, table.reference, source)
        if agree:
            yield describe_ratios(table.candidate, table.reference, source, pairs)
            if not any(_weight_decay(table)):
                yield _small_gradients(table)
    yield describe_pairs(pairs, source)
    yield describe_precision(*table.moments)
    if not table.has_others:
        yield _count_moments(table)


def _count_moments(table: Table) -> Iterator[str]:
    ours, theirs = map(len, table.moments)
    if ours != theirs:
        names = ", ".join(name.split("/")[-1] for name in table.moments[1])
        known = f" ({names})" if names else ""
        counted = f"{ours} moment{'' if ours == 1 else 's'}"
        yield f"the candidate's state has {counted}; the reference's: {theirs}{known}"


def list_names(names: list[str], total: int) -> str:
    """Puts the names of problems into words."""
    if len(names) == total > 1:
        return f"{'both' if total == 2 else f'all {total}'} problems that differ"
    return ", ".join(names)


def _constant_factor(table: Table) -> Iterator[str]:
    ratios = _ratios(table)
    known = ratios[np.isfinite(ratios)]
    if known.size and not np.isinf(ratios).any() and np.ptp(known) <= _RTOL * abs(known[0]):
        factor = np.median(known)
        negated = abs(factor + 1) < _RTOL
        cause = "wrong sign" if negated else "a factor in the learning rate or in a moment"
        yield f"every update is {factor:.9g} times the reference: {cause}"


def _ratios(table: Table) -> np.ndarray:
    """Candidate over reference: NaN for 0 / 0, infinite if only one is 0 or one is non-finite."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratios = table.candidate / table.reference
    both = (table.candidate == 0) & (table.reference == 0)
    undefined = (table.candidate == 0) | ~np.isfinite(table.candidate)
    return np.where(both, np.nan, np.where(undefined, np.inf, ratios))


def _nonfinite(table: Table) -> Iterator[str]:
    wrong, zero = ~np.isfinite(table.candidate), table.gradients == 0
    if wrong.any():
        columns = wrong.any(axis=0)
        if (wrong.argmax(axis=0) == zero.argmax(axis=0))[columns].all() and zero[wrong].all():
            yield "updates are non-finite where the gradient is zero: a division of 0 by 0"
        else:
            yield "some updates are non-finite"


def _factor_per_step(table: Table) -> Iterator[str]:
    ratios = np.sort(_ratios(table), axis=1)  # NaN come last
    known = np.isfinite(ratios).sum(axis=1)
    rows = np.flatnonzero(known)
    if len(rows) < 2 or np.isinf(ratios).any():
        return
    low = ratios[rows, known[rows] // 10]
    high = ratios[rows, known[rows] - 1 - known[rows] // 10]
    is_uniform = (high - low <= _LOOSE_RTOL * np.abs(low)).all()
    if is_uniform and np.ptp(low) > _LOOSE_RTOL * np.abs(low).max():
        yield (
            "in each step nearly all updates are the same multiple of the reference, and the "
            "factor changes from step to step: a schedule, a bias correction or clipping"
        )


def _shifted_step(table: Table) -> Iterator[str]:
    a, b = table.candidate, table.reference
    for shift, ours, theirs in (("earlier", a[1:], b[:-1]), ("later", a[:-1], b[1:])):
        if ours.any() and np.allclose(ours, theirs, rtol=_RTOL, atol=0):
            yield f"each update is that of the reference one step {shift}"


def _some_steps(table: Table) -> Iterator[str]:
    rows = np.flatnonzero(table.differs().any(axis=1))
    last = len(table.ulps) - 1
    if rows.size and rows[0] > 0:
        yield "the first step agrees" if rows[0] == 1 else f"the first {rows[0]} steps agree"
    elif rows.size and rows[-1] < last:
        until = rows[-1] + 1
        yield f"only {'step 1 differs' if until == 1 else f'the first {until} steps differ'}"


def _some_leaves(table: Table) -> Iterator[str]:
    differs = table.differs()
    agree = [leaf for leaf, columns in table.leaves.items() if not differs[:, columns].any()]
    if 0 < len(agree) < len(table.leaves):
        yield f"some leaves agree: {', '.join(agree)}"


def _zero_gradients(table: Table) -> Iterator[str]:
    differs = table.differs()
    if table.gradients.any() and not table.gradients[differs].any():
        yield "only updates with a zero gradient differ"


def _small_gradients(table: Table) -> Iterator[str]:
    """Compares the smallest and the largest gradients if they span many orders of magnitude."""
    sizes = np.abs(table.gradients).max(axis=0)
    apart = np.max(np.minimum(table.ulps, 2.0**52), axis=0)
    columns = np.flatnonzero(sizes)
    columns = columns[np.argsort(sizes[columns])]
    if columns.size < 8 or sizes[columns[-1]] < 1e6 * sizes[columns[0]]:
        return
    quarter = columns.size // 4
    smallest, largest = apart[columns[:quarter]], apart[columns[-quarter:]]
    if smallest.min() > 1e3 * largest.max():
        yield "the smaller the gradients, the larger the difference: eps, its value or its position"


def _weight_decay(table: Table) -> Iterator[str]:
    wrong = [c for c in table.leaves.values() if table.differs()[:, c].any()]
    differs = np.zeros(table.parameters.shape[1], bool)
    for columns in wrong:
        differs[columns] = True
    difference = (table.candidate - table.reference)[:, differs]
    parameters = table.parameters[:, differs]
    size = np.vdot(parameters, parameters)
    if not np.isfinite(difference).all() or size == 0:
        return
    factor = np.vdot(parameters, difference) / size
    rest = difference - factor * parameters
    if factor and np.linalg.norm(rest) <= _RTOL * np.linalg.norm(difference):
        subject = "the" if len(wrong) == len(table.leaves) else "the other leaves'"
        yield f"{subject} updates differ by {factor:.6g} times the parameters: weight decay"


_GENERAL = (
    _constant_factor,
    _shifted_step,
    _some_steps,
    _some_leaves,
    _weight_decay,
)
