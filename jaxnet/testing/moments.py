"""The moments of two optimizers: how each is computed from the gradients, and where they differ.

A moment is a part of an optimizer's state with one number for each parameter.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxnet.testing.fits import Formula, Numbers, describe_formula, fit_first, is_same
from jaxnet.testing.ulps import Leaves

Moment = Float[np.ndarray, "states elements"]  # before the first step, and after each
Moments = dict[str, Moment]

_RTOL = 1e-6  # of numbers that are equal up to rounding


def find_moments(states: Leaves, parameters: Leaves) -> Moments:
    """Collects the moments of a state, with the elements in the order of the parameters.

    The path of a moment's leaf ends with that of the parameter, as in `mu/layer/weights`. A vector
    of the size of all parameters is a moment too.
    """
    moments: Moments = {}
    sizes = {path: array[0].size for path, array in parameters.items()}
    for path, states_of_leaf in states.items():
        if states_of_leaf.ndim == 2 and states_of_leaf.shape[1] == sum(sizes.values()):
            moments[path] = states_of_leaf
    leaves: dict[str, Leaves] = {}
    for path, array in parameters.items():
        for name, leaf in states.items():
            if name.endswith(path) and leaf.shape[1:] == array.shape[1:]:
                leaves.setdefault(name.removesuffix(path).rstrip("/"), {})[path] = leaf
    for name, parts in leaves.items():
        if parts.keys() == parameters.keys():
            moments[name] = np.concatenate([p.reshape(len(p), -1) for p in parts.values()], axis=1)
    return {name: array.astype(float) for name, array in moments.items()}


class Gradients(NamedTuple):
    """What a moment may be computed from; rows are steps, columns parameters."""

    gradients: Numbers
    parameters: Numbers
    leaves: dict[str, slice]  # the columns of each leaf

    def terms(self) -> list[dict[str, Numbers]]:
        """Returns the terms that optimizers add to a moment, the usual ones first."""
        g, p = self.gradients, self.parameters
        of_leaf = np.empty_like(g)
        for columns in self.leaves.values():
            of_leaf[:, columns] = np.mean(g[:, columns] ** 2, axis=1, keepdims=True)
        return [
            {"g": g},
            {"g**2": g**2},
            {"|g|": np.abs(g)},
            {"mean(g**2)": of_leaf},
            {"g": g, "p": p},
        ]


class Pair(NamedTuple):
    """A moment of the reference and its counterpart; rows are steps, from before the first."""

    name: str
    candidate: Moment
    reference: Moment
    formulas: tuple[Formula | None, Formula | None]  # the candidate's comes first

    def agrees(self) -> bool:
        """Whether the moments are equal up to rounding."""
        scale = np.abs(self.reference).max(axis=0)
        return bool((np.abs(self.candidate - self.reference) <= _RTOL * scale).all())


def pair_moments(ours: Moments, theirs: Moments, source: Gradients) -> list[Pair]:
    """Finds the counterpart of each of the reference's moments.

    Counterparts are equal; or are computed from the same powers of the gradients; or are the only
    ones that are left.
    """

    def formula(name: str, moments: Moments) -> Formula | None:
        old, new = moments[name][:-1], moments[name][1:]
        squares = [{"mu**2": other[1:] ** 2} for n, other in moments.items() if n != name]
        return fit_first(new, [terms | {"itself": old} for terms in source.terms() + squares])

    left = {name: formula(name, ours) for name in ours}
    open_ = {name: formula(name, theirs) for name in theirs}
    pairs = []

    def settle(mine: str, its: str) -> None:
        label = its.split("/")[-1]
        formulas = left.pop(mine), open_.pop(its)
        pairs.append(Pair(label, ours[mine], theirs[its], formulas))

    for its in theirs:
        scale = np.abs(theirs[its]).max(axis=0)
        for mine in list(left):
            if its in open_ and (np.abs(ours[mine] - theirs[its]) <= _RTOL * scale).all():
                settle(mine, its)
    for its, expected in list(open_.items()):
        alike = [m for m, f in left.items() if f and expected and _power(f) == _power(expected)]
        if len(alike) == 1:
            settle(alike[0], its)
    for its, expected in list(open_.items()):
        for mine in list(left):
            used = _find_gradients(ours[mine], expected)
            if its in open_ and used is not None and any(describe_clipping(used, source)):
                settle(mine, its)
    if len(left) == len(open_) == 1:
        settle(next(iter(left)), next(iter(open_)))
    return pairs


def _find_gradients(moment: Moment, formula: Formula | None) -> Numbers | None:
    """The gradients that give a moment by a formula, if they do so linearly."""
    if not formula or formula.keys() - {"itself"} != {"g"}:
        return None
    return (moment[1:] - formula.get("itself", 0) * moment[:-1]) / formula["g"]


def _power(formula: Formula) -> str:
    """The term that a moment averages."""
    return next(iter(formula))


def describe_pairs(pairs: list[Pair], source: Gradients) -> Iterator[str]:
    """Describes the moments that differ."""
    wrong = [pair for pair in pairs if not pair.agrees()]
    swapped = _are_swapped(wrong)
    for pair in wrong:
        ours, theirs = pair.formulas
        starts = pair.candidate[0], pair.reference[0]
        if all(np.ptp(start) == 0 for start in starts) and starts[0][0] != starts[1][0]:
            yield f"{pair.name} starts at {starts[0][0]:.6g}; reference: {starts[1][0]:.6g}"
        if (pair.candidate == pair.candidate[0]).all():
            yield f"{pair.name} never changes"
        elif ours and theirs and not is_same(ours, theirs):
            texts = [describe_formula(f).replace("itself", pair.name) for f in (ours, theirs)]
            cause = ": b1 and b2 are swapped" if swapped else ""
            if "p" in ours and "p" not in theirs:
                cause = ": weight decay in the gradient"
            yield f"{pair.name} = {texts[0]}; reference: {texts[1]}{cause}"
        elif not ours:
            used = _find_gradients(pair.candidate, theirs)
            yield from () if used is None else describe_clipping(used, source)


def describe_precision(ours: Moments, theirs: Moments) -> Iterator[str]:
    """Names the candidate's moments that are rounded to a dtype, unlike the reference's."""
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        if not any(_is_rounded(moment, dtype) for moment in theirs.values()):
            names = [name for name, moment in ours.items() if _is_rounded(moment, dtype)]
            if names:
                yield f"{' and '.join(names)} of the candidate: rounded to {jnp.dtype(dtype)}"
                return


def _is_rounded(moment: Moment, dtype: Any) -> bool:
    with np.errstate(over="ignore"):
        return bool(moment.any() and (moment.astype(dtype).astype(float) == moment).all())


def _are_swapped(pairs: list[Pair]) -> bool:
    """Whether two moments have each other's decay rates."""
    if len(pairs) != 2 or not all(all(pair.formulas) for pair in pairs):
        return False
    decays = [[f.get("itself", 0.0) for f in pair.formulas if f] for pair in pairs]
    (ours, theirs), (ours_2, theirs_2) = decays
    return bool(np.allclose([ours, ours_2], [theirs_2, theirs], rtol=_RTOL, atol=0))


def describe_clipping(effective: Numbers, source: Gradients) -> Iterator[str]:
    """Describes what was done to the gradients before they were used, if only one thing fits.

    Args:
        effective: the gradients that were used.
        source: the gradients that were given.
    """
    largest = np.abs(effective).max()
    if not np.isfinite(largest) or largest == 0:
        return
    clipped = np.clip(source.gradients, -largest, largest)
    found = []
    if (clipped != source.gradients).any() and _is_close(effective, clipped):
        found.append(f"gradients are clipped to {largest:.6g}, each element by itself")
    groups = {"the global norm of the gradients": [slice(None)]}
    if len(source.leaves) > 1:
        groups["the norm of each leaf's gradients"] = list(source.leaves.values())
    for name, columns in groups.items():
        found += (f"{name} is {text}" for text in _describe_norms(effective, source, columns))
    if len(found) == 1:
        yield found[0]


def _describe_norms(effective: Numbers, source: Gradients, groups: list[slice]) -> Iterator[str]:
    def norms(numbers: Numbers) -> np.ndarray:
        return np.stack([np.linalg.norm(numbers[:, c], axis=1) for c in groups], axis=1)

    given, used = norms(source.gradients), norms(effective)
    factors = np.divide(used, given, out=np.zeros_like(given), where=given > 0)
    parts = [factors[:, i, None] * source.gradients[:, c] for i, c in enumerate(groups)]
    if not _is_close(effective, np.concatenate(parts, axis=1)):
        return
    limit = used.max()
    if (given > limit).any() and np.allclose(used, np.minimum(given, limit), rtol=1e-5, atol=0):
        yield f"clipped to {limit:.6g}"
    elif np.allclose(used[given > 0], limit, rtol=1e-3):
        yield "divided out"


def _is_close(a: Numbers, b: Numbers) -> bool:
    return bool(np.abs(a - b).max() <= _RTOL * np.abs(b).max())
