"""DataFrames: kinds of columns, missing values, names, weights, and continued training."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import jaxnet
from jaxnet.estimators import DenseClassifier, DenseRegressor

SMALL = {"hidden": (16,), "members": 2, "epochs": 30, "random_state": 0}
RANDOM = np.random.default_rng(0)
ROWS = 60
FRAME = pd.DataFrame(
    {
        "weight": np.where(RANDOM.random(ROWS) < 0.2, np.nan, RANDOM.normal(150, 20, ROWS)),
        "colour": RANDOM.choice(["red", "green", None], ROWS),
        "ripe": RANDOM.random(ROWS) < 0.5,
        "size": pd.Categorical(RANDOM.choice(["small", "large"], ROWS)),
        "seeds": pd.array(RANDOM.choice([1, 2, None], ROWS), "Int64"),
    }
)
KIND = np.where(FRAME["colour"] == "red", "apple", np.where(FRAME["ripe"], "pear", "plum"))


@pytest.fixture(scope="module")
def classifier():
    return DenseClassifier(**SMALL | {"epochs": 100, "patience": None}).fit(FRAME, KIND)


def test_a_frame_is_taken_as_it_is(classifier):
    assert classifier.classes_.tolist() == ["apple", "pear", "plum"]
    assert classifier.feature_names_in_.tolist() == list(FRAME)
    assert classifier.score(FRAME, KIND) > 0.9
    probabilities = classifier.predict_proba(FRAME)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    assert (classifier.classes_[probabilities.argmax(1)] == classifier.predict(FRAME)).all()


def test_columns_in_another_order_are_put_right(classifier):
    expected = classifier.predict_proba(FRAME)
    np.testing.assert_array_equal(classifier.predict_proba(FRAME[list(FRAME)[::-1]]), expected)


def test_rows_do_not_depend_on_each_other(classifier):
    expected = classifier.predict_proba(FRAME)
    np.testing.assert_allclose(classifier.predict_proba(FRAME[::-1])[::-1], expected, rtol=1e-12)
    single = [classifier.predict_proba(FRAME[i : i + 1])[0] for i in range(5)]
    np.testing.assert_allclose(single, expected[:5], rtol=1e-12)


def test_unseen_and_missing_values_are_predicted(classifier):
    new = FRAME[:2].assign(colour=["violet", None], weight=[None, None], size="huge")
    assert np.isfinite(classifier.predict_proba(new)).all()


def test_the_preprocessor_can_be_inspected(classifier):
    names = classifier.preprocessor_.get_feature_names_out()
    assert "categories__colour_red" in names
    assert "numbers__weight_bin0" in names
    assert "numbers__missingindicator_weight_bin0" in names


def test_the_same_seed_gives_the_same_bits(classifier):
    again = clone(classifier).fit(FRAME, KIND)
    np.testing.assert_array_equal(again.predict_proba(FRAME), classifier.predict_proba(FRAME))


@pytest.mark.slow
def test_real_classes_are_learned_as_well_as_by_boosted_trees():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    train, test, labels, true = train_test_split(X, y, random_state=0, stratify=y)
    models = DenseClassifier(random_state=0), HistGradientBoostingClassifier(random_state=0)
    ours, theirs = (log_loss(true, m.fit(train, labels).predict_proba(test)) for m in models)
    assert ours < 1.05 * theirs


@pytest.mark.slow
def test_real_numbers_are_predicted_as_well_as_by_boosted_trees():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    train, test, numbers, true = train_test_split(X, y, random_state=0)
    models = DenseRegressor(random_state=0), HistGradientBoostingRegressor(random_state=0)
    ours, theirs = (1 - m.fit(train, numbers).score(test, true) for m in models)
    assert ours < 1.05 * theirs


# Weights.


def test_class_weights_are_weights_of_rows():
    X, y = RANDOM.normal(size=(ROWS, 2)), np.arange(ROWS) % 3
    weights = np.array([1.0, 5.0, 2.0])
    named = DenseClassifier(**SMALL, class_weight=dict(enumerate(weights))).fit(X, y)
    given = DenseClassifier(**SMALL).fit(X, y, sample_weight=weights[y])
    np.testing.assert_array_equal(named.predict_proba(X), given.predict_proba(X))


def test_rows_of_weight_zero_are_not_used():
    X, y = FRAME[:30], KIND[:30]
    with_others = pd.concat([X, FRAME[30:].assign(weight=1e9, colour="violet")])
    weights = np.repeat([1.0, 0.0], 30)
    ours = DenseClassifier(**SMALL).fit(with_others, KIND, sample_weight=weights)
    np.testing.assert_array_equal(
        ours.predict_proba(X), DenseClassifier(**SMALL).fit(X, y).predict_proba(X)
    )


# Outputs.


def test_several_numbers_are_predicted_for_a_row():
    X = RANDOM.normal(size=(ROWS, 2))
    y = np.stack([X[:, 0] * 100 + 7, X[:, 1]], axis=1)
    model = DenseRegressor(**SMALL | {"epochs": 200}).fit(X, y)
    assert model.predict(X).shape == (ROWS, 2)
    assert model.score(X, y) > 0.8


def test_several_labels_are_predicted_for_a_row():
    X = RANDOM.normal(size=(ROWS, 2))
    y = (X > 0).astype(int)
    model = DenseClassifier(**SMALL | {"epochs": 200}).fit(X, y)
    assert model.predict_proba(X).shape == (ROWS, 2)
    assert model.score(X, y) > 0.8


# Validation data, and continued training.


def test_validation_data_decide_when_to_stop():
    X, y = RANDOM.normal(size=(ROWS, 2)), RANDOM.normal(size=ROWS)
    options = SMALL | {"epochs": 100, "patience": 2}
    model = DenseRegressor(**options).fit(X, y, X_val=X[:20], y_val=-y[:20])
    assert len(model.history_["cost"]) < 20
    assert "validation_cost" in model.history_


def test_partial_fit_goes_on_and_needs_all_classes_once():
    X, y = RANDOM.normal(size=(ROWS, 2)), np.arange(ROWS) % 2
    model = DenseClassifier(**SMALL).partial_fit(X, y, classes=[0, 1, 2])
    first = model.predict_proba(X)
    assert first.shape == (ROWS, 3)
    model.partial_fit(X, y + 1)
    assert (model.predict_proba(X) != first).any()
    # Two calls on the same rows are two epochs of one run.
    twice = DenseClassifier(**SMALL).partial_fit(X, y).partial_fit(X, y)
    once = DenseClassifier(**SMALL | {"epochs": 2, "patience": None}).fit(X, y)
    np.testing.assert_array_equal(twice.predict_proba(X), once.predict_proba(X))


def test_warm_start_goes_on_from_the_parameters():
    X, y = RANDOM.normal(size=(ROWS, 2)), RANDOM.normal(size=ROWS)
    model = DenseRegressor(**SMALL, warm_start=True, patience=None).fit(X, y)
    last = model.history_["cost"][-1]
    model.set_params(epochs=1).fit(X, y)
    assert abs(model.history_["cost"][0] - last) < 0.5 * last


# Objects of the user's.


def test_networks_optimizers_losses_and_preprocessors_are_taken():
    X, y = RANDOM.normal(size=(ROWS, 3)), RANDOM.normal(size=ROWS)
    own = {
        "network": jaxnet.mlp([3, 8, 1]),
        "optimizer": jaxnet.sgd(0.1),
        "loss": jaxnet.absolute_error,
        "preprocessor": StandardScaler(),
        "epochs": 2,
        "patience": None,
        "random_state": 0,
    }
    model = DenseRegressor(**own).fit(X, y)
    scaled = StandardScaler().fit(X)
    kept = model._parameters
    expected = jaxnet.predict(own["network"], kept, scaled.transform(X).astype(np.float32))
    numbers = np.asarray(expected)[:, 0] * model._target_scales + model._target_means
    np.testing.assert_allclose(model.predict(X), numbers, rtol=1e-5)
    made = DenseRegressor(**own | {"network": lambda i, o: jaxnet.mlp([i, 4, o])}).fit(X, y)
    assert made.predict(X).shape == (ROWS,)
