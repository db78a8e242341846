"""Formulas found by least squares: which terms make up a moment or an update, with which factors.

A formula counts only if it holds for every element and every step up to rounding, so that chance
agreement is out of the question.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

Numbers = Float[np.ndarray, "steps elements"]
Formula: TypeAlias = dict[str, float]  # the factor of each term

_RTOL = 1e-7  # of the sum of the terms


def fit_formula(target: Numbers, terms: Mapping[str, Numbers]) -> Formula | None:
    """Returns the factors with which the terms add up to the target, or None if they do not.

    >>> g, m = np.random.default_rng(0).normal(size=(2, 9, 3))
    >>> describe_formula(fit_formula(0.1 * g + 0.9 * m, {"g": g, "mu": m}))
    '0.1 g + 0.9 mu'
    """
    y = target.ravel()
    x = np.stack([term.ravel() for term in terms.values()], axis=1)
    sizes = np.maximum(np.abs(y), np.abs(x).max(axis=1))
    rows = sizes > 0
    if not np.isfinite(sizes).all() or rows.sum() < 4 * x.shape[1]:
        return None
    y, x = y[rows] / sizes[rows], x[rows] / sizes[rows, None]
    factors, _, rank, _ = np.linalg.lstsq(x, y, rcond=1e-10)
    error, scale = np.abs(x @ factors - y), np.abs(x) @ np.abs(factors) + np.abs(y)
    if rank < x.shape[1] or (error > _RTOL * scale).any():
        return None
    named = zip(terms, factors.tolist(), strict=True)
    return {name: factor for name, factor in named if abs(factor) > _RTOL}


def fit_first(target: Numbers, choices: Iterable[Mapping[str, Numbers]]) -> Formula | None:
    """Returns the first formula that fits."""
    fits = (fit_formula(target, terms) for terms in choices)
    return next((formula for formula in fits if formula is not None), None)


def is_same(a: Formula, b: Formula) -> bool:
    """Whether two formulas are equal up to the rounding of factors to float32."""
    return a.keys() == b.keys() and all(np.isclose(a[n], b[n], rtol=_RTOL, atol=2**-24) for n in a)


def describe_formula(formula: Formula) -> str:
    """Puts a formula into one line."""

    def describe(name: str, factor: float) -> str:
        number = f"{factor:.8g}"
        return {"1": name, "-1": f"-{name}"}.get(number, f"{number} {name}")

    return " + ".join(describe(*term) for term in formula.items()).replace("+ -", "- ") or "0"
