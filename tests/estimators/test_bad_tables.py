"""Bad tables: one clear sentence with the column's name, before anything is compiled."""

import re

import jax
import numpy as np
import pandas as pd
import pytest

import jaxnet
from jaxnet.estimators import DenseClassifier, DenseRegressor

ROWS = 12
WEIGHT = np.arange(ROWS, dtype=float)
COLOUR = ["red", "green", "blue"] * 4
FRAME = pd.DataFrame({"weight": WEIGHT, "colour": COLOUR, "ripe": [True, False] * 6})
KIND = np.array(["apple", "pear"] * 6)
DATES = pd.date_range("2026-01-01", periods=ROWS)
SMALL = {"hidden": (4,), "members": 1, "epochs": 1, "random_state": 0}
CLASSIFIER = DenseClassifier(**SMALL)

COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: COMPILED.append(event) if "backend_compile" in event else None
)


@pytest.fixture(scope="module")
def fitted():
    return DenseClassifier(**SMALL).fit(FRAME, KIND)


def refused(call, message):
    jax.clear_caches()
    COMPILED.clear()
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    said = str(caught.value)
    assert re.fullmatch(re.escape(message).replace(r"\.\.\.", ".*"), said), said
    assert type(caught.value) in (TypeError, ValueError)
    assert not COMPILED


FITS = {
    "no rows": (FRAME[:0], KIND[:0], "expected a DataFrame with rows and columns. Received: 0 ..."),
    "no columns": (FRAME[[]], KIND, "expected a DataFrame with rows and columns. Received: 12 ..."),
    "one row": (
        FRAME[:1],
        KIND[:1],
        "expected y of at least 2 classes. Received: 1 class, 'apple'",
    ),
    "one class": (
        FRAME,
        ["apple"] * ROWS,
        "expected y of at least 2 classes. Received: 1 class, 'apple'",
    ),
    "repeated column": (
        pd.concat([FRAME, FRAME[["weight"]]], axis=1),
        KIND,
        "expected columns of different names. Received: several columns 'weight'",
    ),
    "infinity": (
        FRAME.assign(weight=[np.inf, *WEIGHT[1:]]),
        KIND,
        "expected finite or missing numbers in column 'weight'. Received: inf in row 0",
    ),
    "mixed types": (
        FRAME.assign(colour=["red", 1] * 6),
        KIND,
        "expected numbers, booleans or categories in column 'colour'. Received: int and str; "
        "column.astype(str) makes categories of them",
    ),
    "dates": (
        FRAME.assign(day=DATES),
        KIND,
        "expected numbers, booleans or categories in column 'day'. Received: datetime64...; make "
        "numbers of dates, such as frame['date'].dt.dayofyear",
    ),
    "differences of dates": (
        FRAME.assign(age=DATES - DATES[0]),
        KIND,
        "expected numbers, booleans or categories in column 'age'. Received: timedelta64...",
    ),
    "complex numbers": (
        FRAME.assign(weight=WEIGHT * 1j),
        KIND,
        "expected numbers, booleans or categories in column 'weight'. Received: complex128",
    ),
    "lists": (
        FRAME.assign(weight=[[1]] * ROWS),
        KIND,
        "expected numbers, booleans or categories in column 'weight'. Received: list...",
    ),
    "no value at all": (
        pd.DataFrame({"weight": [None] * ROWS}),
        KIND,
        "expected values in column 'weight'. Received: missing values only",
    ),
    "a missing label": (
        FRAME,
        [None, *KIND[1:]],
        "expected y without missing labels. Received: None in row 0",
    ),
    "labels of two types": (
        FRAME,
        np.array([1, "a"] * 6, object),
        "expected y of one type. Received: int and str",
    ),
    "text in an array": (
        np.array([["red"]] * ROWS),
        KIND,
        "expected an array of numbers, or a DataFrame with columns of categories. Received: ...",
    ),
    "no labels": (FRAME, None, "expected y, since ..."),
}


@pytest.mark.parametrize("name", FITS)
def test_a_bad_table_is_refused(name):
    X, y, message = FITS[name]
    refused(lambda: CLASSIFIER.fit(X, y), f"DenseClassifier.fit: {message}")


PREDICTIONS = {
    "missing": (
        FRAME[["weight", "ripe"]],
        "expected the columns of fit. Received: no column 'colour'",
    ),
    "new": (
        FRAME.assign(size=1),
        "expected the columns of fit. Received: a new column 'size'",
    ),
    "text for numbers": (
        FRAME.assign(weight="heavy"),
        "expected numbers or booleans in column 'weight', as in fit. Received: categories, ...",
    ),
    "numbers for text": (
        FRAME.assign(colour=1.5),
        "expected categories in column 'colour', as in fit. Received: numbers or booleans, float64",
    ),
    "infinity": (
        FRAME.assign(weight=-np.inf),
        "expected finite or missing numbers in column 'weight'. Received: -inf in row 0",
    ),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_bad_table_is_refused_in_predictions(name, fitted):
    X, message = PREDICTIONS[name]
    refused(lambda: fitted.predict(X), f"DenseClassifier.predict: {message}")


ARGUMENTS = {
    "epochs": (0, "expected epochs of at least 1. Received: 0"),
    "members": (1.5, "expected an integer for members. Received: float 1.5"),
    "batch_size": (0, "expected batch_size of at least 1. Received: 0"),
    "patience": (0, "expected patience of at least 1. Received: 0"),
    "validation_fraction": (1, "expected a finite validation_fraction ... below 1. Received: 1"),
    "dropout": (1.0, "expected a finite dropout of at least 0 and below 1. Received: 1.0"),
    "hidden": (64, "expected hidden as a tuple of sizes. Received: int 64"),
    "warm_start": (1, "expected True or False for warm_start. Received: int 1"),
    "network": ("mlp", "expected a function for network. Received: str 'mlp'"),
    "loss": ("log", "expected a function for loss. Received: str 'log'"),
    "optimizer": (jaxnet.adam, "expected the optimizer as a pair of pure functions ..."),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_wrong_argument_is_refused_by_fit(name):
    value, message = ARGUMENTS[name]
    model = DenseRegressor(**{name: value})
    refused(lambda: model.fit(FRAME, WEIGHT), f"DenseRegressor.fit: {message}")


@pytest.mark.parametrize("named", ["balance", {"plum": 2.0}])
def test_weights_of_unknown_classes_are_refused(named):
    message = {
        "balance": "as None, 'balanced' or a dict from classes to numbers. Received: str 'balance'"
    }.get(str(named), "of the classes of y. Received: 'plum'")
    model = DenseClassifier(**SMALL, class_weight=named)
    refused(lambda: model.fit(FRAME, KIND), f"DenseClassifier.fit: expected class_weight {message}")


def test_classes_for_a_regressor_are_refused():
    message = "expected y of numbers; DenseClassifier takes classes. Received: 'apple'"
    refused(lambda: DenseRegressor(**SMALL).fit(FRAME, KIND), f"DenseRegressor.fit: {message}")


def test_a_column_without_values_is_reported_and_not_used():
    message = "expected values in column 'size', which is not used. Received: missing values only"
    with pytest.warns(UserWarning, match=message):
        model = DenseClassifier(**SMALL).fit(FRAME.assign(size=None), KIND)
    assert model.predict(FRAME.assign(size="large")).shape == (ROWS,)


def test_a_column_of_missing_values_is_taken_in_predictions(fitted):
    assert fitted.predict(FRAME.assign(weight=None, colour=None)).shape == (ROWS,)


def test_ten_thousand_categories_are_taken():
    frame = pd.DataFrame({"name": [f"grower {i}" for i in range(10_000)], "weight": 1.0})
    model = DenseClassifier(**SMALL).fit(frame, np.arange(10_000) % 2)
    assert model.predict(frame[:3]).shape == (3,)
