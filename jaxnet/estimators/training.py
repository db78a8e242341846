"""The training of an estimator's network: held-out rows, early stopping, temperature."""

from typing import Any, NamedTuple

import numpy as np
import optax
from scipy.optimize import minimize_scalar

from jaxnet.estimators.models import loss_of_mean, mean_of_losses
from jaxnet.estimators.portable import log_softmax
from jaxnet.fitting.fit import FitResult, fit
from jaxnet.nn.losses import Loss
from jaxnet.nn.network import Network
from jaxnet.training.data import Data
from jaxnet.training.state import EarlyStopping

_WIDTH = 32  # encoded columns are padded to a multiple of this
_DEVIATION = 0.1  # of the logarithm of the temperature, before the held-out rows are seen


class Examples(NamedTuple):
    """Rows of a table, as an estimator received them, with their targets and weights."""

    X: Any
    y: np.ndarray
    weights: np.ndarray

    def take(self, rows: np.ndarray) -> "Examples":
        """Takes some of the rows."""
        X = self.X.iloc[rows] if hasattr(self.X, "iloc") else self.X[rows]
        return Examples(X, self.y[rows], self.weights[rows])


def hold_out(
    examples: Examples, fraction: float, groups: np.ndarray, random: np.random.RandomState
) -> tuple[Examples, Examples | None]:
    """Separates rows for early stopping: the same fraction of every group, rounded down.

    Args:
        examples: all rows.
        fraction: the part to hold out, at least 0 and below 1.
        groups: the class of each row; the same number for all in regression.
        random: the source of randomness.

    Returns:
        The rows to train on and the others; None if these are none.
    """
    order = random.permutation(len(groups))
    held_out = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        rows = order[groups[order] == group]
        held_out[rows[: int(fraction * len(rows))]] = True
    if not held_out.any():
        return examples, None
    return examples.take(np.flatnonzero(~held_out)), examples.take(np.flatnonzero(held_out))


def pad_columns(encoded: np.ndarray) -> np.ndarray:
    """Adds columns of zeros, so that tables of about equal width share a compiled program."""
    width = encoded.shape[1]
    multiple = max(_WIDTH, 2 ** (max(width - 1, 1).bit_length() - 3))
    return np.pad(encoded, ((0, 0), (0, -width % multiple)))


def run(
    network: Network,
    loss: Loss,
    kind: str,
    optimizer: optax.GradientTransformation,
    train: Data,
    held_out: Data | None,
    patience: int | None,
    **options: Any,
) -> FitResult:
    """Trains a network, and keeps the parameters whose averaged prediction is the best.

    Args:
        network, loss, optimizer, train, held_out, patience: as of `jaxnet.fit`.
        kind: what the outputs are: "classes", "labels" or "numbers"; see `portable.combine`.
        options: the other arguments of `fit`.
    """
    return fit(
        network,
        mean_of_losses(loss),
        optimizer,
        train,
        validation=held_out,
        metrics={"loss_of_mean": loss_of_mean(loss, kind)},
        patience=EarlyStopping(patience, "loss_of_mean") if held_out else None,
        **options,
    )


def find_temperature(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Finds the most probable temperature `T` of the probabilities `softmax(logits / T)`.

    The cost is the sum of the cross-entropies and of `(log(T) / 0.1) ** 2 / 2`, as if `log(T)` were
    drawn from a normal distribution with the standard deviation 0.1. So a few rows do not move `T`
    far from 1, and thousands move it to the minimum of the cross-entropy.

    Args:
        logits: `[rows, classes]`, of rows that were held out.
        labels: integers `[rows]`.
        weights: `[rows]`, of which only the proportions count.

    Reference: Guo et al., On calibration of modern neural networks, 2017, without the second term.
    """

    def cost(logarithm: float) -> float:
        logarithms = log_softmax(logits / np.exp(logarithm))
        chosen = np.take_along_axis(logarithms, labels[:, None], 1)[:, 0]
        return (logarithm / _DEVIATION) ** 2 / 2 - len(labels) * np.average(chosen, weights=weights)

    return float(np.exp(minimize_scalar(cost, bounds=(-2, 2), method="bounded").x))
