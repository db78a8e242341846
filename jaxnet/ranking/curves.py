"""Tuning curves, sensitivity to the learning rate, steps to the target, performance profiles."""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxnet.ranking.trials import Outcome


class TuningCurve(NamedTuple):
    """The median of the lowest validation loss after 1, 2, ... trials, with a confidence band.

    The band is simultaneous: with a probability of 95 %, it contains the whole curve of an infinite
    number of trials. It ends where the trials say no more: the upper limit is infinite for few
    trials, the lower limit 0 for many.
    """

    median: Float[np.ndarray, " trials"]
    low: Float[np.ndarray, " trials"]
    high: Float[np.ndarray, " trials"]


def tuning_curve(validation: Float[np.ndarray, " trials"]) -> TuningCurve:
    """Computes the tuning curve of a contender on a task.

    It is the median, not the mean: a mean is infinite if some trials diverge.

    Reference: Dodge et al., Show your work: improved reporting of experimental results, 2019;
    Lourie, Cho and He, Show your work with confidence, 2023 (the bands, by the package opda).

    >>> curve = tuning_curve(np.array([3.0, 1.0, np.inf, 2.0]))
    >>> curve.median
    array([2., 2., 1., 1.])
    """
    ordered = np.concatenate([[0.0], np.sort(validation), [np.inf]])
    return TuningCurve(*(ordered[1 + ranks] for ranks in _band(len(validation))))


@functools.cache
def _band(trials: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ranks of the values on the curve and on the ends of its band; -1 and `trials` for none.

    They do not depend on the values, which may be infinite or equal.
    """
    from opda.nonparametric import EmpiricalDistribution

    distributions = EmpiricalDistribution.confidence_bands(
        np.arange(trials),
        confidence=0.95,
        a=-1,
        b=trials,
        generator=np.random.default_rng(0),
        method="ld_equal_tailed",
        n_jobs=1,
    )
    counts = np.arange(1, trials + 1)
    high, median, low = (
        np.round(each.quantile_tuning_curve(counts, minimize=True)).astype(int)
        for each in distributions
    )
    return median, low, high


class Sensitivity(NamedTuple):
    """The validation losses of the trials by their learning rate, in half decades.

    Attributes:
        rates: the middle of each half decade that has trials.
        trials: their number.
        lowest, median: of the validation losses of these trials.
    """

    rates: Float[np.ndarray, " bins"]
    trials: np.ndarray
    lowest: Float[np.ndarray, " bins"]
    median: Float[np.ndarray, " bins"]


def sensitivity(outcome: Outcome) -> Sensitivity | None:
    """The sensitivity to the learning rate; None if no hyperparameter has that name."""
    if "learning_rate" not in outcome.hyperparameters:
        return None
    rates = np.asarray(outcome.hyperparameters["learning_rate"], np.float64)
    bins = np.floor(2 * np.log10(np.maximum(rates, np.finfo(np.float32).tiny))).astype(int)
    found, counts = np.unique(bins, return_counts=True)
    losses = [np.sort(outcome.validation[bins == number]) for number in found]
    return Sensitivity(
        10 ** (found / 2 + 0.25),
        counts,
        np.array([part[0] for part in losses]),
        np.array([part[len(part) // 2] for part in losses]),  # a mean of two may be inf - inf
    )


def steps_to_target(
    outcome: Outcome, steps_per_epoch: int, target: float | None
) -> Float[np.ndarray, " seeds"] | None:
    """The steps until each seed reaches the target, counted in whole epochs; infinite if never."""
    if target is None:
        return None
    reached = outcome.history <= target
    epochs = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)
    return epochs * steps_per_epoch


def profile(
    steps: Float[np.ndarray, "contenders tasks"],
) -> tuple[Float[np.ndarray, " factors"], Float[np.ndarray, "contenders factors"]]:
    """Performance profiles: the share of tasks done within a factor of the fastest's steps.

    Args:
        steps: of each contender on each task; infinite if it does not reach the target.

    Returns:
        The factors at which a profile rises, from 1 on, and the shares.

    Reference: Dolan and Moré, Benchmarking optimization software with performance profiles, 2002.

    >>> profile(np.array([[10.0, 40.0], [20.0, np.inf]]))
    (array([1., 2.]), array([[1. , 1. ], [0. , 0.5]]))
    """
    fastest = steps.min(axis=0)
    ratios = np.divide(steps, fastest, out=np.full(steps.shape, np.inf), where=fastest < np.inf)
    factors = np.unique(np.append(ratios[np.isfinite(ratios)], 1.0))
    return factors, (ratios[:, :, None] <= factors).mean(axis=1)


def medians(values: Float[np.ndarray, "*rows seeds"]) -> Float[np.ndarray, "*rows"]:
    """The upper medians of the seeds: each is one of the values, also if some are infinite."""
    return np.sort(values, axis=-1)[..., values.shape[-1] // 2]
