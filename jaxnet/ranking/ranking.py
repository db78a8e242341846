"""`rank_optimizers`: the same tuning for every contender on every task, and what can be told."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Key

from jaxnet.core import checks
from jaxnet.core.console import progress_bar
from jaxnet.core.tables import table
from jaxnet.ranking.contenders import Contender, check_contender
from jaxnet.ranking.curves import steps_to_target
from jaxnet.ranking.settings import describe
from jaxnet.ranking.spaces import fold_name
from jaxnet.ranking.statistics import Comparison, compare_all, median_and_interval
from jaxnet.ranking.tasks import Task, check_task
from jaxnet.ranking.trials import GROUPS, Outcome, make_outcome


class Ranking(NamedTuple):
    """The results of `rank_optimizers`. Printed, it is a table.

    Attributes:
        contenders: their names, as given.
        tasks: their names, as given.
        outcomes: of each contender on each task, in this order.
        comparisons: of each pair of contenders.
        steps_per_epoch: of each task.
        targets: of each task; None for no target.
        settings: what the results depend on, in the form of JSON: the key, the numbers of trials
            and seeds, contenders, tasks and versions.
    """

    contenders: tuple[str, ...]
    tasks: tuple[str, ...]
    outcomes: tuple[tuple[Outcome, ...], ...]
    comparisons: tuple[Comparison, ...]
    steps_per_epoch: tuple[int, ...]
    targets: tuple[float | None, ...]
    settings: dict[str, Any]

    @property
    def losses(self) -> Float[np.ndarray, "contenders tasks seeds"]:
        """The test losses of the best trials with fresh seeds; infinite if a run diverged."""
        return np.array([[outcome.losses for outcome in row] for row in self.outcomes])

    @property
    def order(self) -> tuple[int, ...]:
        """The contenders from the lowest to the highest geometric mean of the test losses.

        Two neighbours need not be different: the comparisons say whether they are.
        """
        means = np.log(np.maximum(self.losses, np.finfo(np.float32).tiny)).mean(axis=(1, 2))
        return tuple(np.argsort(means, kind="stable").tolist())

    @property
    def steps(self) -> Float[np.ndarray, "contenders targets seeds"]:
        """The steps until the target is reached, on the tasks that have one; infinite if never."""
        kinds = list(zip(self.steps_per_epoch, self.targets, strict=True))
        rows = [
            [steps_to_target(o, *kind) for o, kind in zip(row, kinds, strict=True)]
            for row in self.outcomes
        ]
        aimed = [[steps for steps in row if steps is not None] for row in rows]
        return np.array(aimed).reshape(len(rows), len(aimed[0]), -1)

    def verdict(self, first: str, second: str) -> str:
        """Whether the first contender is "better" or "worse", or it "cannot be told"."""
        turned = {"better": "worse", "worse": "better"}
        for pair in self.comparisons:
            if (pair.first, pair.second) == (first, second):
                return pair.verdict
            if (pair.first, pair.second) == (second, first):
                return turned.get(pair.verdict, pair.verdict)
        raise ValueError(
            f"Ranking.verdict: expected two contenders of {', '.join(self.contenders)}. "
            f"Received: {first!r} and {second!r}"
        )

    def __str__(self) -> str:
        """A table of the median test losses, and how many contenders each is better than."""
        count, told = len(self.comparisons), 0
        rows = [["", *self.tasks, "better than", "worse than"]]
        for i in self.order:
            name = self.contenders[i]
            others = [self.verdict(name, other) for other in self.contenders if other != name]
            medians = [median_and_interval(losses)[0] for losses in self.losses[i]]
            numbers = [f"{median:.4g}" for median in medians]
            better, worse = others.count("better"), others.count("worse")
            rows.append([name, *numbers, str(better), str(worse)])
            told += better
        trials, seeds = self.settings["trials"], self.settings["seeds"]
        return (
            f"Median test loss of {seeds} seeds, after {trials} random trials; lower is better. "
            f"{told} of {count} pairs can be told apart.\n\n{table(rows)}"
        )


@checks.door
def rank_optimizers(
    contenders: Sequence[Contender],
    tasks: Sequence[Task],
    *,
    key: Key[Array, ""],
    trials: int = 64,
    seeds: int = 10,
    progress: bool = True,
) -> Ranking:
    """Tunes each optimizer equally on each task, and says which are better.

    Each contender makes the same number of trials with random hyperparameters. The one with the
    lowest validation loss runs again with fresh seeds, and these runs are reported, by their test
    loss. A run is measured at its best epoch by validation. Diverged runs count as the worst.

    What random search finds depends on chance, often more than a run depends on its seed. So the
    trials are dealt into four groups, and the best of each group runs with the same fresh seeds:
    four tunings, with a quarter of the trials each. They decide whether a contender is better or
    worse than another, or whether it cannot be told, at a level of 5 % for all pairs together; see
    `Comparison`. The verdicts are about the given tasks. To replicate a task, give it twice under
    different names.

    Each contender on each task compiles one program, which makes all of its runs (`sweep`). If it
    is that of the contender before, nothing is compiled.

    Args:
        contenders: at least two, of different names; see `standard_contenders`.
        tasks: at least one, of different names; see `standard_tasks` and `make_task`.
        key: the source of all randomness. The runs of a contender on a task depend on their names,
            not on the other contenders and tasks.
        trials: the number of random trials, at least 8.
        seeds: the number of runs with fresh seeds, at least 2.
        progress: whether to show a progress bar, if standard error is a terminal or a notebook.

    Returns:
        The losses of all runs, the comparisons, and what the figures and files are made of.

    Raises:
        ValueError, TypeError: an invalid argument, before anything is compiled.
        ImportError: scipy is not installed.
        KeyboardInterrupt: Ctrl-C.

    >>> import jax
    >>> from jaxnet import mlp, sgd, squared_error
    >>> from jaxnet.ranking import LogUniform, make_task
    >>> x = np.linspace(-1.0, 1.0, 64, dtype=np.float32)[:, None]
    >>> task = make_task("square", mlp([1, 8, 1]), squared_error, (x, x**2), batch_size=8, epochs=9)
    >>> contenders = [
    ...     Contender("fast", sgd, {"learning_rate": LogUniform(0.1, 0.3)}),
    ...     Contender("slow", sgd, {"learning_rate": LogUniform(1e-5, 1e-4)}),
    ... ]
    >>> found = rank_optimizers(contenders, [task], key=jax.random.key(0), trials=16, seeds=4)
    >>> found.verdict("fast", "slow")
    'better'
    >>> print(str(found).partition(".")[0])
    Median test loss of 4 seeds, after 16 random trials; lower is better

    Reference: Schmidt, Schneider and Hennig, Descending through a crowded valley, 2021; Sivaprasad
    et al., Optimizer benchmarking needs to account for hyperparameter tuning, 2020. Unlike them,
    and DeepOBS, the tuning itself is replicated, and multiple pairs are corrected
    for; unlike AlgoPerf, a score is a loss, and the time to a target is reported next to it.
    """
    contenders, tasks = _check_names("contenders", contenders), _check_names("tasks", tasks)
    if len(contenders) < 2:
        raise checks.InvalidValue("expected at least two contenders. Received: 1")
    for contender in contenders:
        check_contender(contender)
    tasks = tuple(check_task(task) for task in tasks)
    checks.key(key)
    trials = checks.integer("trials", trials, 2 * GROUPS)
    seeds = checks.integer("seeds", seeds, 2)
    checks.boolean("progress", progress)
    settings = describe(contenders, tasks, key, trials, seeds)

    outcomes: list[list[Outcome]] = [[] for _ in contenders]
    runs = trials + GROUPS * seeds
    with progress_bar(len(contenders) * len(tasks) * runs, "run", progress) as bar:
        for task in tasks:
            folded = fold_name(key, task.name)
            for contender, row in zip(contenders, outcomes, strict=True):
                row.append(make_outcome(contender, task, folded, trials, seeds))
                bar.update(runs)
    names = tuple(contender.name for contender in contenders)
    return Ranking(
        names,
        tuple(task.name for task in tasks),
        tuple(map(tuple, outcomes)),
        compare_all(names, outcomes),
        tuple(task.steps_per_epoch for task in tasks),
        tuple(task.target for task in tasks),
        settings,
    )


def _check_names(name: str, values: Any) -> tuple[Any, ...]:
    """Checks for a sequence of things that have different names."""
    if not isinstance(values, (list, tuple)) or isinstance(values, (Contender, Task)) or not values:
        raise checks.InvalidType(
            f"expected a list of at least one of {name}. Received: {checks.describe(values)}"
        )
    names = [getattr(value, "name", None) for value in values]
    twice = [each for each in names if names.count(each) > 1 and each is not None]
    if twice:
        raise checks.InvalidValue(
            f"expected {name} of different names. "
            f"Received: {twice[0]!r} {names.count(twice[0])} times"
        )
    return tuple(values)
