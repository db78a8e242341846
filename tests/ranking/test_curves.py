"""Tuning curves, sensitivity and profiles, against enumeration and simulation."""

import itertools

import numpy as np

from jaxnet.ranking.curves import medians, profile, sensitivity, tuning_curve
from jaxnet.ranking.trials import Outcome


def test_the_tuning_curve_is_the_median_of_the_lowest_of_all_draws():
    """Of every sequence of k trials, drawn with replacement; the lower of two medians."""
    values = np.array([0.7, 0.2, np.inf, 0.5, 0.3])
    curve = tuning_curve(values).median
    for k in range(1, 6):
        lowest = sorted(min(drawn) for drawn in itertools.product(values, repeat=k))
        assert curve[k - 1] == lowest[(len(lowest) - 1) // 2]


def test_the_band_contains_the_whole_curve_in_95_percent():
    """The curve of a uniform distribution is `1 - 0.5**(1 / k)`.

    Of 1000 bands, 923 to 970 contain it, except in one of 1000 tests, if it is exactly 95 %. Each
    curve is shorter than the distribution function for which the bands are made, so more may.
    """
    random, counts = np.random.default_rng(0), np.arange(1, 33)
    true = 1 - 0.5 ** (1 / counts)
    curves = [tuning_curve(random.uniform(size=32)) for _ in range(1000)]
    inside = sum(bool(((c.low <= true) & (true <= c.high)).all()) for c in curves)
    assert inside >= 923
    assert np.isfinite(curves[0].high[-1]) and curves[0].high[-1] < 0.3  # nor is it everything


def test_sensitivity_is_by_half_decades():
    rates = np.array([0.011, 0.02, 0.05, 0.5, 0.03], np.float32)
    losses = np.array([3.0, 1.0, 7.0, np.inf, 2.0])
    outcome = Outcome({"learning_rate": rates}, losses, 1, (), losses, losses, 0.0)
    found = sensitivity(outcome)
    np.testing.assert_allclose(found.rates, 10 ** np.array([-1.75, -1.25, -0.25]))
    assert found.trials.tolist() == [3, 1, 1]
    assert found.lowest.tolist() == [1, 7, np.inf]
    assert found.median.tolist() == [2, 7, np.inf]
    assert sensitivity(outcome._replace(hyperparameters={"rate": rates})) is None


def test_a_profile_counts_no_task_that_nobody_finishes():
    steps = np.array([[10.0, np.inf, 30.0], [20.0, np.inf, 15.0]])
    factors, shares = profile(steps)
    assert factors.tolist() == [1, 2]
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3], [1 / 3, 2 / 3]])
    nobody = profile(np.full((2, 1), np.inf))
    assert (nobody[0].tolist(), nobody[1].tolist()) == ([1], [[0], [0]])


def test_medians_of_infinite_values_are_no_nan():
    values = np.array([[1.0, np.inf, 2.0], [np.inf, 3.0, np.inf]])
    assert medians(values).tolist() == [2, np.inf]
