"""The moments of two optimizers: how each is computed from the gradients, and where they differ.

A moment is a part of an optimizer's state with one number for each parameter.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxnet.testing.fits import Formula, Numbers, describe_formula, fit_first, is_same
from jaxnet.testing.ulps import Leaves, flatten

Moment = Float[np.ndarray, "states elements"]  # before the first step, and after each
Moments = dict[str, Moment]

_RTOL = 1e-6  # of numbers that are equal up to rounding


def find_moments(states: Leaves, parameters: Leaves) -> tuple[Moments, bool]:
    """Collects the moments of a state, with the elements in the order of the parameters.

    The leaves of a moment have names that contain those of the parameters in the same way, as in
    `mu/layer/weights`, or they follow each other in the order of the parameters. A vector of the
    size of all parameters is a moment too. A copy of the parameters is none.

    Returns:
        The moments by name, and whether all arrays of the state belong to one.
    """
    size = sum(array[0].size for array in parameters.values())
    is_vector = {n: a.shape[1:] == (size,) and len(parameters) > 1 for n, a in states.items()}
    found = {n: a for n, a in states.items() if is_vector[n]}
    rest = {n: a for n, a in states.items() if not is_vector[n]}
    for name, leaves in (*_group_by_name(rest, parameters), *_group_by_order(rest, parameters)):
        if all(leaf in rest for leaf in leaves):
            found[name] = flatten({leaf: rest.pop(leaf) for leaf in leaves})
    copied = flatten(parameters)
    moments = {
        name: array.astype(float)
        for name, array in found.items()
        if np.isfinite(array).all()
        and not any((shifted == copied).all() for shifted in (array[1:], array[:-1]))
    }
    is_complete = len(moments) == len(found) and all(a.ndim == 1 for a in rest.values())
    return moments, is_complete


def _group_by_name(states: Leaves, parameters: Leaves) -> Iterator[tuple[str, list[str]]]:
    """Groups leaves whose names are those of the parameters with the same words around."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for path, array in parameters.items():
        for name, leaf in states.items():
            before, found, after = f"/{name}/".partition(f"/{path}/") if path else (name, "/", "")
            if found and leaf.shape[1:] == array.shape[1:]:
                groups.setdefault((before.strip("/"), after.strip("/")), {})[path] = name
    for (before, after), leaves in groups.items():
        if leaves.keys() == parameters.keys():
            yield "/".join(filter(None, (before, after))), [leaves[path] for path in parameters]


def _group_by_order(states: Leaves, parameters: Leaves) -> Iterator[tuple[str, list[str]]]:
    """Groups the leaves of each parameter's shape in the order in which they come."""
    columns = []
    for array in parameters.values():
        columns.append([n for n, leaf in states.items() if leaf.shape[1:] == array.shape[1:]])
    shapes = {array.shape[1:] for array in parameters.values()}
    if len(shapes) == len(columns) and len({*map(len, columns)}) == 1:
        for group in zip(*columns, strict=True):
            yield group[0], list(group)


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
        return _are_equal(self.candidate, self.reference, 1e-4)

    def is_scaled(self) -> bool:
        """Whether the formulas are the same but for a factor, which the update may undo."""
        ours, theirs = self.formulas
        if not ours or not theirs or ours.keys() != theirs.keys():
            return False
        ratios = [ours[name] / theirs[name] for name in ours if name != "itself"]
        same = np.isclose(ours.get("itself", 0), theirs.get("itself", 0), rtol=0, atol=2**-24)
        starts = not self.candidate[0].any() and not self.reference[0].any()
        return bool(same and starts and np.allclose(ratios, ratios[0], rtol=1e-4))


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
        for mine in list(left):
            if its in open_ and _are_equal(ours[mine], theirs[its], _RTOL):
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


def _are_equal(ours: Moment, theirs: Moment, rtol: float) -> bool:
    scale = np.abs(theirs).max(axis=0)
    return bool((np.abs(ours - theirs) <= rtol * scale).all())


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
            if "p" not in theirs and ours.get("p", 0) * ours.get("g", 0) > 0:
                cause = ": weight decay in the gradient"
            yield f"{pair.name} = {texts[0]}; reference: {texts[1]}{cause}"
        elif not ours:
            used = _find_gradients(pair.candidate, theirs)
            yield from () if used is None else describe_clipping(used, source)
        elif not theirs:
            used = _find_gradients(pair.reference, ours)
            found = () if used is None else describe_clipping(used, source)
            yield from (f"in the reference, {text}" for text in found)


def describe_precision(ours: Moments, theirs: Moments) -> Iterator[str]:
    """Names the candidate's moments that are rounded to a dtype, unlike the reference's."""
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        if not any(_is_rounded(moment, dtype) for moment in theirs.values()):
            names = [name for name, moment in ours.items() if _is_rounded(moment, dtype)]
            if names:
                yield f"{' and '.join(names)} of the candidate: rounded to {jnp.dtype(dtype)}"
                return


def _is_rounded(moment: Moment, dtype: Any) -> bool:
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
