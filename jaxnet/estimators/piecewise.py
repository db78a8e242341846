"""Piecewise-linear encoding of numeric columns, as a transformer of scikit-learn."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import (
    _check_feature_names_in,
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from jaxnet.core import checks
from jaxnet.estimators.portable import encode_numbers, piecewise_linear


class PiecewiseLinearEncoder(TransformerMixin, BaseEstimator):
    """Encodes each number as its position within bins, so that a network can bend there.

    The edges `e[0] < ... < e[n]` of a column are quantiles of the training rows. A number `x`
    becomes `n` columns

        (clip((x - e[i - 1]) / (e[i] - e[i - 1]), 0, 1) - mean) / 2,        i = 1, ..., n

    so that the bins below `x` have one value, those above it another, and its own bin one between
    them; `mean` is that of the training rows. The columns of all bins are followed by the numbers
    themselves, standardized and clipped to +-4. They are larger than the bins, so that a network
    starts close to a linear function of the numbers, which small tables need.

    Args:
        bins: the largest number of bins of a column, at least 1. Equal quantiles are merged, so a
            column of two values has one bin, and a constant column none.

    Attributes:
        edges_: the edges of each column, a list of float64 arrays.
        bin_means_: float64 `[bins of all columns]`.
        means_, scales_: float64 `[columns]`, of the numbers.
        n_features_in_, feature_names_in_: as in scikit-learn.

    Raises:
        ValueError, TypeError: in `fit`, a number of bins that is not a positive integer; NaN,
            infinities or text.

    Reference: Gorishniy, Rubachev and Babenko, On embeddings for numerical features in tabular deep
    learning, 2022. There the outer bins are unbounded, and the numbers themselves are not added.
    `sklearn.preprocessing.KBinsDiscretizer` keeps only the number of the bin.

    >>> encoder = PiecewiseLinearEncoder(bins=2).fit([[0.0], [1.0], [2.0], [5.0]])
    >>> encoder.edges_
    [array([0., 1., 5.])]
    >>> encoder.bin_means_
    array([0.75  , 0.3125])
    >>> encoder.transform([[0.5], [9.0]])
    array([[-0.125 , -0.1562, -0.8018],
           [ 0.125 ,  0.3438,  3.7417]])
    """

    def __init__(self, bins: Any = 16) -> None:
        self.bins = bins

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "PiecewiseLinearEncoder":
        """Computes the edges, means and scales.

        Args:
            X: `[rows, columns]`, finite numbers.
            y: ignored.
            sample_weight: `[rows]`, non-negative. A weight of 2 counts as two equal rows.
        """
        del y
        bins = checks.door(checks.integer, type(self).__name__)("bins", self.bins, 1)
        X = validate_data(self, X, dtype=np.float64)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        positions = np.linspace(0, 1, bins + 1)
        self.edges_ = [
            np.unique(np.quantile(column, positions, method="inverted_cdf", weights=weights))
            for column in X.T
        ]
        self.bin_means_ = np.average(piecewise_linear(X, self.edges_), 0, weights)
        self.means_ = np.average(X, 0, weights)
        deviations = np.sqrt(np.average(np.square(X - self.means_), 0, weights))
        self.scales_ = np.where(deviations > 0, deviations, 1)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Encodes `[rows, columns]` as float64 `[rows, bins of all columns + columns]`."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return encode_numbers(X, self.edges_, self.bin_means_, self.means_, self.scales_)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of the output's columns, such as `weight_bin0` and `weight`."""
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        pairs = zip(names, self.edges_, strict=True)
        bins = [f"{name}_bin{i}" for name, edges in pairs for i in range(len(edges) - 1)]
        return np.array([*bins, *names], object)
