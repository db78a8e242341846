"""How the updates of two optimizers are computed from gradients and moments that agree."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from jaxnet.testing.fits import Formula, Numbers, describe_formula, fit_first, is_same
from jaxnet.testing.moments import Gradients, Pair, describe_clipping

Ratios = Float[np.ndarray, "compared elements"]  # of the steps that can be compared

_LOOSE_RTOL = 1e-3  # of numbers that are equal up to a small term, such as eps
_LARGE_SQUARE = 1e-8  # its root is far above eps


def describe_formulas(candidate: Numbers, reference: Numbers, source: Gradients) -> Iterator[str]:
    """Compares updates that are sums of gradients, parameters and previous updates."""
    ours, theirs = (_fit_updates(updates, source) for updates in (candidate, reference))
    if ours and theirs:
        if not is_same(ours, theirs):
            texts = [describe_formula(formula) for formula in (ours, theirs)]
            yield f"updates = {texts[0]}; reference: {texts[1]}"
    elif ours:
        yield f"updates = {describe_formula(ours)}"
    elif theirs and theirs.keys() == {"g"}:
        yield from describe_clipping(candidate / theirs["g"], source)


def _fit_updates(updates: Numbers, source: Gradients) -> Formula | None:
    def previous(numbers: Numbers) -> Numbers:
        return np.concatenate([np.zeros_like(numbers[:1]), numbers[:-1]])

    g, p, u = {"g": source.gradients}, {"p": source.parameters}, {"u[t-1]": previous(updates)}
    last = {"g[t-1]": previous(source.gradients)}
    return fit_first(updates, [g, g | p, g | u, g | last | u, g | p | u])


def describe_ratios(
    candidate: Numbers, reference: Numbers, source: Gradients, pairs: list[Pair]
) -> Iterator[str]:
    """Compares updates of optimizers with equal moments, by their ratio in each step."""
    square = next((p for p in pairs if "g**2" in (p.formulas[1] or {})), None)
    if square is None:
        return
    mean = next((p for p in pairs if "g" in (p.formulas[1] or {})), None)
    clear = (square.reference[1:] > _LARGE_SQUARE) & (reference != 0) & np.isfinite(candidate)
    clear &= source.gradients != 0
    rows = np.flatnonzero(clear.sum(axis=1) >= 4)
    if len(rows) < 2:
        return
    ratios = np.where(clear, candidate / reference, np.nan)[rows]
    yield from _correction(ratios, rows + 1, mean, square)
    yield from _power(ratios, square, rows)
    yield from _old_square(ratios, square, rows)
    if mean is not None:
        yield from _look_ahead(ratios, source.gradients, mean, rows)


def _correction(ratios: Ratios, t: np.ndarray, mean: Pair | None, square: Pair) -> Iterator[str]:
    """Recognizes a ratio that is the same for all elements of a step, by its value in each step."""
    b1, b2 = (p.formulas[1]["itself"] if p and p.formulas[1] else 0.0 for p in (mean, square))
    factors = np.nanmedian(ratios, axis=1)
    if np.nanmax(np.abs(ratios - factors[:, None]) - _LOOSE_RTOL * np.abs(factors[:, None])) > 0:
        return
    c1, c2 = 1 - b1**t, np.sqrt(1 - b2**t)
    later1, later2 = 1 - b1 ** (t + 1), np.sqrt(1 - b2 ** (t + 1))
    m, v = (p.name if p else "" for p in (mean, square))
    known = {f"{v} is not corrected for its bias": 1 / c2}
    known[f"the bias of {v} is corrected once more than in the reference"] = c2
    if mean is not None:
        known |= {
            f"{m} is not corrected for its bias": c1,
            f"neither {m} nor {v} is corrected for its bias": c1 / c2,
            f"the bias of {m} is corrected once more than in the reference": 1 / c1,
            f"the biases of {m} and {v} are corrected once more than in the reference": c2 / c1,
            "the bias is corrected with t + 1 in place of t": c1 / later1 * later2 / c2,
            f"the bias of {m} is corrected with b2": c1 / c2**2,
        }
    fits = [
        text
        for text, expected in known.items()
        if np.allclose(factors, expected, rtol=_LOOSE_RTOL, atol=0)
    ]
    if len(fits) == 1:
        yield fits[0]


def _power(ratios: Ratios, square: Pair, rows: np.ndarray) -> Iterator[str]:
    """Recognizes a power of the mean square as the ratio."""
    slopes = []
    for row, ratio in zip(rows, ratios, strict=True):
        clear = np.isfinite(ratio) & (ratio > 0)
        x, y = np.log(square.reference[row + 1][clear]), np.log(ratio[clear])
        if clear.sum() < 4 or np.ptp(x) < 1:
            continue
        slope, offset = np.polyfit(x, y, 1)
        if np.abs(slope * x + offset - y).max() > 0.01 * np.ptp(x):
            return
        slopes.append(slope)
    if slopes and np.allclose(slopes, -0.5, atol=0.01):
        yield f"the update is divided by {square.name} and not by its square root"
    elif slopes and np.allclose(slopes, 0.5, atol=0.01):
        yield f"the update is not divided by the square root of {square.name}"


def _old_square(ratios: Ratios, square: Pair, rows: np.ndarray) -> Iterator[str]:
    old, new = square.reference[rows], square.reference[rows + 1]
    known = np.isfinite(ratios) & (old > _LARGE_SQUARE)
    expected = np.sqrt(new[known] / old[known])
    if (
        known.sum() >= 4
        and expected.max() > 1.01
        and np.allclose(ratios[known], expected, rtol=_LOOSE_RTOL, atol=0)
    ):
        yield f"the update uses {square.name} as it was before the step"


def _look_ahead(ratios: Ratios, gradients: Numbers, mean: Pair, rows: np.ndarray) -> Iterator[str]:
    """Recognizes a numerator that is the moment and a multiple of the gradient."""
    slopes = []
    for row, ratio in zip(rows, ratios, strict=True):
        x = gradients[row] / mean.reference[row + 1]
        clear = np.isfinite(ratio) & np.isfinite(x)
        if clear.sum() < 4 or np.ptp(x[clear]) < 0.1:
            continue
        slope, offset = np.polyfit(x[clear], ratio[clear], 1)
        error = np.abs(slope * x[clear] + offset - ratio[clear]).max()
        if error > _LOOSE_RTOL * np.abs(ratio[clear]).max():
            return
        slopes.append(slope)
    if len(slopes) < 2 or max(map(abs, slopes)) < 0.01:
        return
    if min(slopes) > 0:
        yield f"the update adds the gradient to {mean.name}: Nesterov momentum"
    elif max(slopes) < 0:
        yield f"the update uses {mean.name} as it was before the step"
