"""The result of a halving: the scores of all members at the rungs, and the finalists."""

import functools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, PyTree

from jaxnet.core import checks
from jaxnet.sweeping.grid import Grid
from jaxnet.sweeping.results import make_table


class Finalist(NamedTuple):
    """A member of the last rung.

    Attributes:
        place: its place in the grid, one index per axis.
        hyperparameters: its hyperparameters by name.
        score: its score at the last rung.
        state: its state at the last rung, with which `train(..., state=state)` goes on.
    """

    place: tuple[int, ...]
    hyperparameters: dict[str, Any]
    score: float
    state: PyTree


class Halving(NamedTuple):
    """The members of a halving, by the axes of its grid.

    Attributes:
        grid: the values of every traced hyperparameter, in the order of the axes.
        structural: the values of every structural hyperparameter, whose axes come first.
        zipped: whether all traced hyperparameters share one axis, instead of one axis each.
        rungs: the number of calls of `run` at each rung.
        scores: each member's score at each rung; NaN at rungs that it did not get to.
        calls: the number of calls at the last rung that each member got to; 0 for members that had
            not got to the first one before an interruption.
        finalists: the members that got furthest, from the best to the worst.
    """

    grid: dict[str, Any]
    structural: dict[str, tuple[Any, ...]]
    zipped: bool
    rungs: tuple[int, ...]
    scores: Float[np.ndarray, "*axes rungs"]
    calls: Int[np.ndarray, "*axes"]
    finalists: tuple[Finalist, ...]

    @property
    def best(self) -> Finalist:
        """The first one of the finalists.

        Raises:
            ValueError: no finalist has a finite score.
        """
        return _first(self.finalists)

    def table(self) -> Any:
        """Returns a `pandas.DataFrame` with a row per member, like `Sweep.table`.

        The columns are the hyperparameters, "score", at the last rung that the member got to, and
        "calls".
        """
        reached = np.searchsorted(self.rungs, self.calls)[..., None]
        scores = np.take_along_axis(self.scores, reached, -1)[..., 0]
        grid = Grid(self.grid, self.zipped, self.structural)
        return make_table(grid, {}, {"score": scores, "calls": self.calls})


@functools.partial(checks.door, name="Halving.best")
def _first(finalists: tuple[Finalist, ...]) -> Finalist:
    if not finalists or not np.isfinite(finalists[0].score):
        raise checks.InvalidValue("expected a finalist with a finite score. Received: none")
    return finalists[0]
