"""The piecewise-linear encoding, against a loop and scikit-learn's quantile bins."""

import itertools

import helpers
import numpy as np
import pytest
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler

from jaxnet.estimators import PiecewiseLinearEncoder

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(203, 2)) * [1, 100]


def test_a_number_is_its_position_within_the_bins():
    encoder = PiecewiseLinearEncoder(bins=5).fit(X)
    encoded = encoder.transform(X)[:, :10] * 2 + encoder.bin_means_
    start = 0
    for column, edges in zip(X.T, encoder.edges_, strict=True):
        for row, x in enumerate(column):
            expected = [
                min(max((x - low) / (high - low), 0), 1) for low, high in itertools.pairwise(edges)
            ]
            received = encoded[row, start : start + len(expected)]
            np.testing.assert_allclose(received, expected, atol=1e-15)  # two roundings below 1
        start += len(edges) - 1
    assert start == 10


def test_the_edges_are_quantiles():
    options = {"strategy": "quantile", "quantile_method": "inverted_cdf", "subsample": None}
    bins = KBinsDiscretizer(5, encode="ordinal", **options).fit(X)
    for ours, theirs in zip(PiecewiseLinearEncoder(5).fit(X).edges_, bins.bin_edges_, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_bins_are_followed_by_the_standardized_numbers():
    encoded = PiecewiseLinearEncoder(3).fit_transform(X)
    np.testing.assert_allclose(encoded.mean(0), 0, atol=1e-13)
    np.testing.assert_allclose(encoded[:, 6:], StandardScaler().fit_transform(X), atol=1e-13)
    beyond = PiecewiseLinearEncoder(3).fit(X).transform([[-1e9, 1e9]])
    assert beyond[0, 6:].tolist() == [-4, 4]


def test_a_weight_of_two_is_two_equal_rows():
    weights = RANDOM.integers(0, 3, len(X))
    weighted = PiecewiseLinearEncoder().fit(X, sample_weight=weights)
    repeated = PiecewiseLinearEncoder().fit(np.repeat(X, weights, axis=0))
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), atol=1e-12)


def test_constant_and_binary_columns_have_no_bin_and_one():
    encoder = PiecewiseLinearEncoder().fit([[7.0, 0.0], [7.0, 1.0], [7.0, 1.0], [7.0, 0.0]])
    assert encoder.transform([[7.0, 1.0]]).tolist() == [[0.25, 0, 1]]
    assert encoder.get_feature_names_out(["a", "b"]).tolist() == ["b_bin0", "a", "b"]


@pytest.mark.parametrize("bins", [0, 2.5, True])
def test_a_wrong_number_of_bins_is_refused(bins):
    with helpers.unchecked():
        encoder = PiecewiseLinearEncoder(bins)
        with pytest.raises(
            (TypeError, ValueError), match=r"^PiecewiseLinearEncoder: expected .*bins"
        ):
            encoder.fit(X)
