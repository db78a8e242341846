"""The statistics: how often they err, what they tell, and what divergence does to them."""

import numpy as np
import pytest
from scipy import stats

from jaxnet.ranking.statistics import (
    LEVEL,
    POWER,
    Part,
    add_freedoms,
    compare_all,
    correct,
    count_seeds,
    median_and_interval,
    shrink,
)
from jaxnet.ranking.statistics import compare as compare_parts
from jaxnet.ranking.trials import GROUPS, Outcome


def outcome(test, best=0):
    """An outcome with these test losses of the groups' winners."""
    test = np.asarray(test, np.float64)
    return Outcome({}, np.zeros(len(test)), best, tuple(range(len(test))), test, test, 0.0)


def simulate(random, common, *, tuning=0.2, noise=0.1, effect=0.0, trials=64):
    """A contender on several tasks, each a random search whose results are not normal."""
    row = []
    for shared in common:
        quality = random.exponential(tuning, trials)
        validation = quality + random.normal(0, noise, trials)
        parts = np.array_split(np.arange(trials), GROUPS)
        winners = tuple(int(part[validation[part].argmin()]) for part in parts)
        logs = quality[list(winners), None] + shared + effect
        test = np.exp(logs + random.normal(0, noise, (GROUPS, common.shape[1])))
        row.append(Outcome({}, validation, int(validation.argmin()), winners, test, test, 0.0))
    return row


def compare(first, second):
    return compare_all(["first", "second"], [first, second])[0]


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize(("tuning", "noise"), [(10.0, 0.05), (0.05, 0.2)])
def test_the_same_optimizer_is_rarely_better(tasks, tuning, noise):
    """In at most 5 % of 300 rankings, whether the tuning or the seeds cause the variance.

    If the level were exactly 5 %, more than 27 would be one case in 1000. A test over seeds alone
    errs in most of them, if tuning causes the variance.
    """
    random, errs, naive = np.random.default_rng(tasks), 0, 0
    for _ in range(300):
        common = random.normal(0, 0.3, (tasks, 10))
        a, b = (simulate(random, common, tuning=tuning, noise=noise) for _ in range(2))
        errs += compare(a, b).verdict != "cannot be told"
        logs = [np.log([each.losses for each in row]) for row in (a, b)]
        naive += stats.ttest_rel(logs[0].ravel(), logs[1].ravel()).pvalue < LEVEL
    assert errs <= 27
    if tuning > noise:
        assert naive > 150


def test_among_several_equal_contenders_hardly_any_pair_is_told():
    """A false verdict on any of 15 pairs in at most 5 % of 40 rankings."""
    random, errs = np.random.default_rng(5), 0
    for _ in range(40):
        common = random.normal(0, 0.3, (2, 5))
        found = compare_all("abcdef", [simulate(random, common) for _ in range(6)])
        assert len(found) == 15
        errs += any(pair.verdict != "cannot be told" for pair in found)
    assert errs <= 7  # more is one case in 1000 at exactly 5 %


def normal(random, tasks, tuning, noise, seeds, effect):
    """As the statistics assume: the tuning of each group and the seeds are normal."""
    rows = []
    for shift in (effect, 0.0):
        row = []
        for _ in range(tasks):
            means = random.normal(shift, tuning, (GROUPS, 1))
            logs = means + random.normal(0, noise, (GROUPS, seeds))
            row.append(outcome(np.exp(logs), best=int(random.integers(GROUPS))))
        rows.append(row)
    return rows


def test_a_planted_effect_is_told_with_the_stated_power():
    """With the number of seeds that `count_seeds` says, at least 80 % of 300 are told.

    If it were exactly 80 %, fewer than 218 would be one case in 1000. Half the effect is told
    much less often, so the number is not far too large.
    """
    tasks, tuning, noise, effect = 7, 0.02, 0.6, 0.15
    variances = [2 * tasks * deviation**2 / GROUPS for deviation in (tuning, noise)]
    seeds = int(count_seeds(tasks * effect, *variances, 40))
    # (2.021 + 0.851)**2 * 1.26 / (1.05**2 - (2.021 + 0.851)**2 * 0.0014) = 9.5
    assert seeds == 10
    random = np.random.default_rng(0)
    pairs = [compare(*normal(random, tasks, tuning, noise, seeds, effect)) for _ in range(300)]
    told = [pair.verdict for pair in pairs]
    assert told.count("worse") >= 218
    assert told.count("better") == 0
    half = [compare(*normal(random, tasks, tuning, noise, seeds, effect / 2)) for _ in range(300)]
    assert [pair.verdict for pair in half].count("worse") < POWER * 300 / 2
    assert 5 < np.median([pair.seeds_needed for pair in pairs]) < 20  # as far as data tell


def test_the_level_is_welchs_if_seeds_cause_no_variance():
    """One task, and groups that differ: the variances of two samples with 4 values each."""
    logs = np.random.default_rng(1).normal([[0.0], [0.4]], [[0.1], [0.3]], (2, GROUPS))
    variances = logs.var(axis=1, ddof=1)[:, None] / GROUPS
    a, b = (
        Part("", np.repeat(row[None, :, None], 3, axis=2), own, np.array([GROUPS - 1.0]))
        for row, own in zip(logs, variances, strict=True)
    )
    found = compare_parts(a, b)
    means, deviations = logs.mean(axis=1), logs.std(axis=1, ddof=1)
    expected = stats.ttest_ind_from_stats(
        means[0], deviations[0], 4, means[1], deviations[1], 4, equal_var=False
    )
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    interval = np.log([found.low, found.high])
    freedom = 3 * (deviations**2).sum() ** 2 / (deviations**4).sum()
    half = stats.t.ppf(0.975, freedom) * (means[0] - means[1]) / expected.statistic
    assert interval == pytest.approx(means[0] - means[1] + np.array([-half, half]), rel=1e-9)
    assert found.ratio == pytest.approx(np.exp(means[0] - means[1]))


@pytest.mark.parametrize(("prior", "common"), [(4.0, 0.5), (8.0, 2.0)])
def test_shrunk_variances_are_closer_to_the_true_ones(prior, common):
    """Those of the model that is assumed; the best shrinkage knows its parameters.

    The sampling error of a variance of 4000 logarithms is 2 to 3 %, which is 10 % of the excess.
    """
    random = np.random.default_rng(0)
    true = common * prior / random.chisquare(prior, 4000)
    given = true * random.chisquare(3, 4000) / 3
    shrunk, freedoms = shrink(given, 3)
    np.testing.assert_allclose(shrunk, (prior * common + 3 * given) / (prior + 3), rtol=0.15)
    assert freedoms == pytest.approx(np.full(4000, prior + 3), rel=0.2)


def test_variances_that_differ_are_not_shrunk():
    given = np.array([1e-4, 1.0, 1e4, 1e8, 1e12])
    shrunk, freedoms = shrink(given, 3)
    np.testing.assert_allclose(shrunk[1:], given[1:], rtol=0.2)
    assert (freedoms < 3.5).all()
    assert (shrink(np.zeros(6), 3)[0] == 0).all()
    assert shrink(np.array([1.0, 2.0]), 3)[0].tolist() == [1, 2]  # nor are two


def test_pairing_removes_what_the_seeds_have_in_common():
    random = np.random.default_rng(2)
    common, own = random.normal(0, 2, (1, 8)), random.normal(0, 0.01, (2, GROUPS, 8))
    a, b = (outcome(np.exp(common + part)) for part in own - np.array([0.3, 0])[:, None, None])
    assert compare([a], [b]).verdict == "better"
    turned = outcome(b.test[:, ::-1])  # the same losses, paired with other seeds
    assert compare([a], [turned]).verdict == "cannot be told"


def test_the_order_of_a_pair_only_turns_the_verdict():
    random = np.random.default_rng(3)
    common = random.normal(0, 0.1, (3, 5))
    a, b = simulate(random, common, tuning=0.05, effect=-0.5), simulate(random, common, tuning=0.05)
    one, other = compare(a, b), compare(b, a)
    assert (one.verdict, other.verdict) == ("better", "worse")
    assert one.ratio * other.ratio == pytest.approx(1)
    assert one.low * other.high == pytest.approx(1)
    assert one.wins + other.wins == 1
    assert one.effect == pytest.approx(-other.effect)
    assert one.p_value == pytest.approx(other.p_value)
    assert one.seeds_needed == other.seeds_needed == 2


def test_equal_losses_cannot_be_told():
    same = outcome(np.full((GROUPS, 3), 0.5))
    found = compare([same], [same])
    assert found.verdict == "cannot be told"
    assert (found.ratio, found.p_value, found.wins, found.effect) == (1, 1, 0.5, 0)
    assert found.seeds_needed == np.inf


def test_a_contender_that_always_diverges_loses():
    random, tests = np.random.default_rng(4), []
    for _ in range(3):
        tests.append(np.exp(random.normal(0, 0.05, (GROUPS, 5))))
    never = [outcome(np.full((GROUPS, 5), np.inf)) for _ in range(3)]
    finite = [outcome(test) for test in tests]
    found = compare(never, finite)
    assert found.verdict == "worse"
    assert found.ratio > 1.5  # a diverged run counts as twice the worst
    both = compare(never, never)
    assert (both.verdict, both.wins, both.p_value) == ("cannot be told", 0.5, 1)


def test_losses_of_zero_are_compared():
    zero = [outcome(np.zeros((GROUPS, 3)))]
    assert compare(zero, [outcome(np.ones((GROUPS, 3)))]).verdict == "better"
    assert compare(zero, zero).verdict == "cannot be told"


def test_correction_is_holms_by_its_definition():
    """The i-th smallest is rejected if all smaller ones are, and it is at most level / (m - i)."""
    random = np.random.default_rng(0)
    for count in (1, 2, 7):
        values = random.uniform(0, 0.2, count)
        corrected = correct(values.tolist())
        for level in random.uniform(0, 1, 50):
            order, rejected = np.argsort(values), set()
            for i, place in enumerate(order):
                if values[place] > level / (count - i):
                    break
                rejected.add(int(place))
            assert {i for i, p in enumerate(corrected) if p <= level} == rejected
    assert correct([]) == []


def test_freedoms_are_between_the_least_and_the_sum():
    assert add_freedoms(np.array([1.0, 0.0]), np.array([3.0, 9.0])) == 3
    assert add_freedoms(np.array([3.0, 9.0]), np.array([3.0, 9.0])) == pytest.approx(12)
    assert add_freedoms(np.zeros(2), np.array([3.0, 9.0])) == 12


def test_median_and_its_interval_by_the_binomial_distribution():
    """The interval leaves out as many values on each side as 95 % allow; scipy's is the oracle."""
    for count in range(6, 40):
        values = np.random.default_rng(count).normal(size=count)
        expected = stats.quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
        median, low, high = median_and_interval(values)
        assert (low, high) == (expected.low, expected.high)
        assert median == np.median(values)
    assert median_and_interval(np.array([2.0, 1.0])) == (1.5, 1, 2)
    assert median_and_interval(np.array([np.inf] * 7))[0] == np.inf
