"""Statistics: which of two contenders is better on these tasks, or that it cannot be told.

Two runs of the same optimizer differ by the initial parameters and the order of the examples. Two
tunings of it differ too, since random search finds other hyperparameters. The second difference is
often the larger one, and more seeds do not show it: all seeds of a contender share the
hyperparameters that were found. A test over seeds alone would call an optimizer better than itself.

So the trials of a contender are dealt into four groups, and the best trial of each group runs with
fresh seeds. The groups are independent tunings, each with a quarter of the trials, and they are
what is compared. Let `x` be the logarithms of the test losses of a contender's groups and seeds on
a task, and `d` the differences of two contenders. Then

    difference = mean(d)
    variance = var(x_a over groups) / groups + var(x_b over groups) / groups + shared / seeds
    shared = max(0, var(d over seeds) - var(residuals of d) / groups)

where the variances over groups and seeds are those of the means over the other axis. The noise of
single runs is in the variances over groups. What remains for the seeds is the variance that all
groups share: initial parameters may suit one contender more than the other. The test statistic is
the sum of the differences over the tasks, over the root of the sum of the variances. Its
distribution is Student's, with degrees of freedom after Satterthwaite. The p-values of all pairs
are corrected by Holm's method. The conclusions are about the tasks in the ranking, not about others
like them.

Four groups tell little about a variance, and one that is small by chance would make a difference
look large. So the variances of all contenders on a task are shrunk towards a common value, as far
as they agree, if there are at least five contenders (`shrink`).

Reference: Satterthwaite, An approximate distribution of estimates of variance components, 1946;
Holm, A simple sequentially rejective multiple test procedure, 1979; Fleming and Wallace, How not to
lie with statistics: the correct way to summarize benchmark results, 1986 (the geometric mean);
Smyth, Linear models and empirical Bayes methods for assessing differential expression, 2004 (the
shrinkage); Bouthillier et al., Accounting for variance in machine learning benchmarks, 2021.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxnet.ranking.trials import Outcome

LEVEL = 0.05  # the probability of any wrong verdict, if no contender differs from another
_FEWEST = 5  # variances whose distribution is estimated
POWER = 0.8  # the probability of a verdict that decides how many seeds are needed


class Comparison(NamedTuple):
    """How one contender compares with another.

    Attributes:
        first, second: the names of the contenders.
        verdict: "better", "worse" or "cannot be told"; whether the first is.
        ratio: the geometric mean over tasks, groups and seeds of the first's test loss over the
            second's; below 1 if the first is better.
        low, high: the 95 % confidence interval of the ratio, for this pair alone.
        effect: the standardized effect size, the mean difference of the logarithms over the
            standard deviation of a single tuning with one seed; negative if the first is better.
        wins: the fraction of tasks, groups and seeds in which the first is better; ties count half.
        p_value: two-sided, after the correction for the number of pairs.
        seeds_needed: the number of seeds for which a difference of the measured size would be told
            with a probability of 80 %, at the level of this pair alone. Infinite if no number of
            seeds would do, but more tunings: more trials or tasks.
    """

    first: str
    second: str
    verdict: str
    ratio: float
    low: float
    high: float
    effect: float
    wins: float
    p_value: float
    seeds_needed: float


def compare_all(
    names: Sequence[str], outcomes: Sequence[Sequence[Outcome]]
) -> tuple[Comparison, ...]:
    """Compares each pair of contenders, in the order of `itertools.combinations`.

    Args:
        names: of the contenders.
        outcomes: of each contender on each task.
    """
    logs = _logarithms(outcomes)
    groups = logs.shape[2]
    tuning = logs.mean(axis=3).var(axis=2, ddof=1) / groups
    shrunk = np.array([shrink(column, groups - 1) for column in tuning.T])
    variances, freedoms = shrunk[:, 0].T, shrunk[:, 1].T
    parts = [Part(*part) for part in zip(names, logs, variances, freedoms, strict=True)]
    compared = [compare(a, b) for a, b in itertools.combinations(parts, 2)]
    corrected = correct([pair.p_value for pair in compared])
    return tuple(
        pair._replace(p_value=p, verdict=_judge(pair.ratio, p))
        for pair, p in zip(compared, corrected, strict=True)
    )


class Part(NamedTuple):
    """What is compared of a contender.

    Attributes:
        name: of the contender.
        logs: the logarithms of its test losses.
        variances: of their means over groups and seeds, due to tuning.
        freedoms: the degrees of freedom of the variances.
    """

    name: str
    logs: Float[np.ndarray, "tasks groups seeds"]
    variances: Float[np.ndarray, " tasks"]
    freedoms: Float[np.ndarray, " tasks"]


def shrink(
    variances: Float[np.ndarray, " contenders"], freedom: int
) -> tuple[Float[np.ndarray, " contenders"], Float[np.ndarray, " contenders"]]:
    """Shrinks variances towards a common one, and returns their degrees of freedom.

    The true variances are taken to be `common * prior / chi2(prior)`. Both parameters are estimated
    from the mean and the variance of the logarithms. The more the given variances agree, the larger
    is `prior`, the degrees of freedom that are gained. A result has no more of them than all
    contenders have together. Fewer than five variances are returned unchanged.

    Reference: Smyth, 2004, section 6.2.

    >>> shrunk, freedoms = shrink(np.array([1.0, 2.0, 3.0, 2.0, 1.0]), 3)  # they agree
    >>> bool(shrunk.min() == shrunk.max()), freedoms
    (True, array([15., 15., 15., 15., 15.]))
    """
    from scipy import optimize, special

    floor = 1e-5 * np.median(variances)
    own = np.full(len(variances), float(freedom))
    if len(variances) < _FEWEST or floor == 0:
        return variances, own
    raised = np.maximum(variances, floor)
    logs = np.log(raised) - special.digamma(freedom / 2) + np.log(freedom / 2)
    excess = logs.var(ddof=1) - special.polygamma(1, freedom / 2)
    most = len(variances) * freedom
    if excess <= special.polygamma(1, 500.0):
        return np.full_like(variances, np.exp(logs.mean())), np.full_like(own, most)
    prior = 2 * optimize.brentq(lambda half: special.polygamma(1, half) - excess, 1e-6, 1e3)
    common = np.exp(logs.mean() + special.digamma(prior / 2) - np.log(prior / 2))
    shrunk = (prior * common + freedom * raised) / (prior + freedom)
    return shrunk, np.minimum(own + prior, most)


def _logarithms(
    outcomes: Sequence[Sequence[Outcome]],
) -> Float[np.ndarray, "contenders tasks groups seeds"]:
    """The logarithms of all test losses.

    A diverged run counts as twice the worst finite loss of its task. If there is none, all are 1.
    """
    tests = np.array([[outcome.test for outcome in row] for row in outcomes])
    finite = np.where(np.isfinite(tests), tests, -np.inf)
    worst = finite.max(axis=(0, 2, 3), keepdims=True)
    tests = np.where(np.isfinite(tests), tests, np.where(worst > 0, 2 * worst, 1.0))
    return np.log(np.maximum(tests, np.finfo(np.float32).tiny))


def compare(first: Part, second: Part) -> Comparison:
    """Compares two contenders, without a correction for the number of pairs."""
    from scipy import stats

    a, b = first.logs, second.logs
    tasks, groups, seeds = a.shape
    d = a - b
    tuning = np.concatenate([first.variances, second.variances])
    by_group, by_seed = d.mean(axis=2, keepdims=True), d.mean(axis=1, keepdims=True)
    residuals = d - by_group - by_seed + d.mean(axis=(1, 2), keepdims=True)
    single = (residuals**2).sum(axis=(1, 2)) / ((groups - 1) * (seeds - 1)) / groups
    shared = np.maximum(0, by_seed.var(axis=(1, 2), ddof=1) - single)
    variances = np.concatenate([tuning, shared / seeds])
    freedoms = np.concatenate([first.freedoms, second.freedoms, np.full(tasks, seeds - 1.0)])
    mean, error = d.mean(), math.sqrt(variances.sum()) / tasks
    freedom = add_freedoms(variances, freedoms)
    p = 2 * stats.t.sf(abs(mean) / error, freedom) if error else float(mean == 0)
    half = stats.t.ppf(1 - LEVEL / 2, freedom) * error
    low, high = np.exp([mean - half, mean + half])
    spread = math.sqrt(np.mean([x.var(axis=(1, 2), ddof=1) for x in (a, b)]))
    wins = np.mean((d < 0) + (d == 0) / 2)
    constant = max(0.0, tuning.sum() - single.sum() / seeds)
    needed = count_seeds(tasks * mean, constant, (single + shared).sum(), freedom)
    effect = mean / spread if spread else math.copysign(math.inf, mean) if mean else 0.0
    numbers = map(float, (np.exp(mean), low, high, effect, wins, p, needed))
    return Comparison(first.name, second.name, "cannot be told", *numbers)


def add_freedoms(
    variances: Float[np.ndarray, " parts"], freedoms: Float[np.ndarray, " parts"]
) -> float:
    """The degrees of freedom of a sum of variances, after Satterthwaite.

    >>> float(add_freedoms(np.array([2.0, 2.0]), np.array([3.0, 3.0])))
    6.0
    """
    total = variances.sum()
    return float(total**2 / (variances**2 / freedoms).sum()) if total else float(freedoms.sum())


def count_seeds(difference: float, constant: float, noise: float, freedom: float) -> float:
    """The number of seeds for which a difference is told with a probability of 80 %; at least 2.

    The variance `constant + noise / seeds` must be at most the square of the difference over the
    sum of two quantiles. The degrees of freedom are those that were found.

    >>> count_seeds(1.0, 0.0, 1.0, 1e9)  # (1.960 + 0.842)**2 = 7.85
    8.0
    >>> count_seeds(1.0, 0.2, 1.0, 1e9)
    inf
    """
    from scipy import stats

    quantiles = stats.t.ppf(1 - LEVEL / 2, freedom) + stats.t.ppf(POWER, freedom)
    left = (difference / quantiles) ** 2 - constant
    return max(2.0, float(math.ceil(noise / left))) if left > 0 else math.inf


def correct(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values by Holm's method: that of `k` hypotheses left is multiplied by `k`.

    >>> [round(p, 3) for p in correct([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    raised = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    corrected = np.empty(len(p_values))
    corrected[order] = raised
    return corrected.tolist()


def _judge(ratio: float, p: float) -> str:
    if p >= LEVEL:
        return "cannot be told"
    return "better" if ratio < 1 else "worse"


def median_and_interval(
    values: Float[np.ndarray, " seeds"],
) -> tuple[float, float, float]:
    """The median, and its 95 % confidence interval, which assumes no distribution.

    The interval is between two of the values, which the binomial distribution tells. Below six
    values it is from the lowest to the highest, with less confidence.

    Reference: Thompson, On confidence ranges for the median, 1936.

    >>> median_and_interval(np.arange(10.0))  # the 2nd and the 9th, with 97.9 %
    (4.5, 1.0, 8.0)
    """
    from scipy import stats

    ordered, count = np.sort(values), len(values)
    skipped = max(int(stats.binom.ppf((1 - 0.95) / 2, count, 0.5)) - 1, 0)
    with np.errstate(invalid="ignore"):
        median = float(np.median(ordered))
    return median, float(ordered[skipped]), float(ordered[count - 1 - skipped])
