"""The estimators follow scikit-learn's conventions, by its own checks and in its tools."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxnet.estimators import DenseClassifier, DenseRegressor, PiecewiseLinearEncoder

# In full batches, without dropout and held-out rows: nothing but the rows and weights decides.
SMALL = {
    "hidden": (16,),
    "members": 2,
    "dropout": 0.0,
    "epochs": 40,
    "batch_size": None,
    "patience": None,
}
ESTIMATORS = [DenseClassifier(**SMALL), PiecewiseLinearEncoder(bins=4)]
FLOAT32 = "differs by up to 3e-6, by the rounding of float32; the check asks for 1e-7"


def expected_failures(estimator):
    if isinstance(estimator, PiecewiseLinearEncoder):
        return {}
    return {"check_sample_weight_equivalence_on_dense_data": FLOAT32}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.mark.slow  # the same code as the classifier's, but for the loss
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([DenseRegressor(**SMALL)], expected_failed_checks=expected_failures)
def test_scikit_learn_accepts_the_regressor(estimator, check):
    check(estimator)


@pytest.mark.parametrize("make", [DenseClassifier, DenseRegressor])
def test_a_weight_of_two_is_two_equal_rows(make):
    """The check that fails above, with what float32 allows: 40 steps with errors of 6e-8 each."""
    random = np.random.default_rng(0)
    X, y, weights = random.random((15, 30)), np.arange(15) % 3, random.integers(0, 5, 15)
    repeated = make(random_state=0, **SMALL).fit(X.repeat(weights, 0), y.repeat(weights))
    weighted = make(random_state=0, **SMALL).fit(X, y, sample_weight=weights)
    method = "predict_proba" if make is DenseClassifier else "predict"
    expected, received = (getattr(model, method)(X) for model in (repeated, weighted))
    np.testing.assert_allclose(received, expected, rtol=0, atol=40 * 2**-22)


IRIS = load_iris(return_X_y=True, as_frame=True)
FEW = {"hidden": (8,), "members": 1, "epochs": 30, "random_state": 0}


def test_it_works_in_pipelines_searches_and_processes():
    X, y = IRIS
    shift = FunctionTransformer(feature_names_out="one-to-one").set_output(transform="pandas")
    model = make_pipeline(shift, DenseClassifier(**FEW))
    grid = {"denseclassifier__hidden": [(8,), (4,)]}
    search = GridSearchCV(model, grid, cv=2, n_jobs=2, scoring="neg_log_loss").fit(X, y)
    best = search.best_estimator_[-1]
    assert best.feature_names_in_.tolist() == list(X)
    assert search.score(X, y) > -1


def test_cross_validation_routes_weights_and_validation_data():
    X, y = IRIS
    with sklearn.config_context(enable_metadata_routing=True):
        model = DenseClassifier(**FEW).set_fit_request(sample_weight=True, X_val=True, y_val=True)
        model.set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=True), model)
        params = {"sample_weight": np.ones(len(X))}
        scores = cross_val_score(pipeline, X, y, cv=2, params=params)
    assert scores.min() > 0.7


@pytest.mark.parametrize("dump", ["pickle", "joblib"])
def test_a_fitted_estimator_can_be_pickled(dump, tmp_path):
    X, y = IRIS
    model = DenseClassifier(**FEW).partial_fit(X, y)
    if dump == "pickle":
        copy = pickle.loads(pickle.dumps(model))
    else:
        joblib.dump(model, tmp_path / "model")
        copy = joblib.load(tmp_path / "model")
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    copies = [each.partial_fit(X, y).predict_proba(X) for each in (copy, model)]
    np.testing.assert_array_equal(*copies)


def test_the_encoder_names_its_columns_in_a_frame():
    encoder = PiecewiseLinearEncoder(bins=2).set_output(transform="pandas")
    frame = encoder.fit_transform(pd.DataFrame({"weight": [1.0, 2.0, 3.0]}))
    assert list(frame) == ["weight_bin0", "weight_bin1", "weight"]
