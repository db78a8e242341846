"""A rung of a halving: the members that are advanced to a number of calls, and their ranks."""

import itertools

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree

from jaxnet.sweeping.grid import Grid
from jaxnet.sweeping.schedule import AllRuns
from jaxnet.sweeping.storage import Results

States = dict[int, list[np.ndarray]]
"""The leaves of each member's state, by the member's number in the grid."""


class Rung(AllRuns):
    """The members that are advanced to a number of calls, and the `Claims` to all of them.

    Elsewhere in a sweep, runs are numbered as in the grid. Here the members that are left are
    numbered without gaps, so that they fill chunks.

    Attributes:
        members: the number of each member in the grid, increasing.
        calls: the calls to be made: `range(before, after)`.
        groups: the members of each combination of structural values.
        results: the scores, as far as they are known.
        states: the states of the members whose scores are known.
    """

    def __init__(
        self, grid: Grid, members: Int[np.ndarray, " members"], states: States, calls: range
    ) -> None:
        """Takes the members, their states before the rung, and the calls to be made."""
        super().__init__(Results(jax.ShapeDtypeStruct((), float), len(members)))
        self.members, self.calls, self.states = members, calls, States()
        self._grid, self._states_before = grid, states
        firsts = np.arange(0, grid.runs + 1, grid.runs_each)
        ends = np.searchsorted(members, firsts).tolist()
        self.groups = [range(*pair) for pair in itertools.pairwise(ends)]

    @property
    def known(self) -> Int[np.ndarray, " known"]:
        """The numbers in the grid of the members whose scores are known."""
        return self.members[self.results.done]

    @property
    def scores(self) -> Float[np.ndarray, " known"]:
        """Their scores."""
        return self.results.tree(self.members.shape)[self.results.done]

    def take(self, runs: range, leaves: list[np.ndarray], diverged: np.ndarray) -> None:
        """Takes the scores and states of some members."""
        scores, *states = leaves
        for row, member in enumerate(self.members[runs.start : runs.stop].tolist()):
            self.states[member] = [leaf[row, ...] for leaf in states]
        self.results.put(runs, [scores], diverged)

    def arguments(self, numbers: np.ndarray, blank: list[np.ndarray]) -> tuple[PyTree, PyTree]:
        """Returns the arguments of some members' program.

        Args:
            numbers: the members, as they are numbered here.
            blank: the leaves that stand for a state before the first call.
        """
        members = self.members[numbers]
        made, until = np.int32(self.calls.start), np.int32(self.calls.stop)
        states = [self._states_before.get(member, blank) for member in members.tolist()]
        # The thread that runs the program may not have 64-bit types enabled.
        leaves = jax.device_put([np.stack(rows) for rows in zip(*states, strict=True)])
        own = (members % self._grid.runs_each).astype(np.int32), leaves
        return (tuple(self._grid.values.values()), made, until), own

    def rank(self, largest: bool) -> Int[np.ndarray, " known"]:
        """Returns the known members from the best to the worst: non-finite scores are the worst.

        Equal scores are ordered by the members' numbers.
        """
        return self.known[_order(self.scores, largest)]


def _order(scores: Float[np.ndarray, " n"], largest: bool) -> Int[np.ndarray, " n"]:
    """Sorts scores from the best to the worst, and returns their indices.

    >>> _order(np.array([3.0, np.nan, 1.0, 1.0, -np.inf]), largest=False)
    array([2, 3, 0, 1, 4])
    """
    ranked = np.where(np.isfinite(scores), -scores if largest else scores, np.inf)
    return np.argsort(ranked, kind="stable")
