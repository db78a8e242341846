"""Compares jaxnet's estimators with others on ten real tables, each split five times.

    python scripts/benchmark_tables.py run results.jsonl [--tables fruit ...] [--methods jaxnet ...]
    python scripts/benchmark_tables.py report results.jsonl ...

`run` writes one line of JSON for each table, method and split, and skips those that the file has.
`report` prints Markdown.

Every method sees the same 80 % of the rows and is scored on the other 20 %: by the log loss where
the target is a class, and by the root mean squared error over the standard deviation of the
training targets where it is a number. Nothing is tuned on the test rows. All methods have their
default arguments, except as the functions below show. Those that take no strings or no missing
numbers get a scikit-learn pipeline, whose time counts.

Each cell has a process of its own on one core. "First" is the first fit with its prediction in that
process, which includes compilation but not the imports. "Warm" is the second. Times are CPU
seconds, with those of child processes. The split "cv" is a cross-validation with five folds of the
smaller tables, in one process.
"""

import argparse
import contextlib
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
from benchmarking import tables_report
from benchmarking.tables import TABLES, Parts, divide, encoder, load
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

PACKAGES = ["jaxnet-dense", "jax", "jaxlib", "pytabkit", "torch", "scikit-learn", "numpy", "pandas"]
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
SLOW = ["RealMLP", "RealMLP, log loss"]  # they compile nothing, so that a second call tells no more
CROSS_VALIDATED = ["fruit", "penguins", "attrition", "concrete", "sacramento"]


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
    """The regressor's targets are scaled, which makes it much better and faster."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    make = MLPClassifier if kind == "classification" else MLPRegressor
    sizes = (128, 128)
    model = make(hidden_layer_sizes=sizes, early_stopping=True, max_iter=200, random_state=seed)
    if kind == "regression":
        model = TransformedTargetRegressor(model, transformer=StandardScaler())
    return make_pipeline(encoder(), model)


def realmlp(kind: str, seed: int, **arguments: Any) -> Pipeline:
    """With medians for missing numbers, which it refuses."""
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    make = RealMLP_TD_Classifier if kind == "classification" else RealMLP_TD_Regressor
    imputer = ColumnTransformer(
        [
            (
                "numbers",
                SimpleImputer(strategy="median"),
                make_column_selector(dtype_include="number"),
            )
        ],
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


def cell(table: str, method: str, split: str) -> dict[str, Any]:
    """What one method achieves on one split of one table, or in cross-validation."""
    features, targets, kind = load(table)
    result: dict[str, Any] = {"table": table, "method": method, "split": split}
    result["imports"], _ = measure(lambda: METHODS[method](kind, 0))
    if split == "cv":
        make = StratifiedKFold if kind == "classification" else KFold
        folds = [
            (features.iloc[rows], features.iloc[others], targets.iloc[rows], targets.iloc[others])
            for rows, others in make(5, shuffle=True, random_state=0).split(features, targets)
        ]
        result["cv"], predictions = measure(
            lambda: [predict(METHODS[method](kind, 0), kind, fold) for fold in folds]
        )
        scores = [score(kind, *pair) for pair in zip(folds, predictions, strict=True)]
        result |= pd.DataFrame(scores).mean().to_dict()
    else:
        parts = divide(features, targets, kind, int(split))
        for call in ["first"] if method in SLOW else ["first", "warm"]:
            model = METHODS[method](kind, int(split))
            result[call], prediction = measure(lambda: predict(model, kind, parts))  # noqa: B023
            result |= score(kind, parts, prediction)
    return result | {"versions": versions()}


def versions() -> dict[str, str]:
    """Those of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def predict(model: Any, kind: str, parts: Parts) -> np.ndarray:
    model.fit(parts[0], parts[2])
    return model.predict_proba(parts[1]) if kind == "classification" else model.predict(parts[1])


def score(kind: str, parts: Parts, prediction: np.ndarray) -> dict[str, float]:
    """Scores the prediction of the test rows."""
    training, test = np.asarray(parts[2]), np.asarray(parts[3])
    if kind == "regression":
        return {"error": float(np.sqrt(np.mean((prediction - test) ** 2)) / np.std(training))}
    classes = np.unique(training)
    probabilities = np.asarray(prediction, np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # float32's do not sum to 1 exactly
    return {
        "error": float(log_loss(test, probabilities, labels=classes)),
        "accuracy": float(np.mean(classes[probabilities.argmax(axis=1)] == test)),
    }


def measure(call: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """The CPU and wall seconds of a call, and what it returns."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    value = call()
    return {"cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - wall}, value


def cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def applies(table: str, method: str, split: str) -> bool:
    if method == "RealMLP, log loss" and TABLES[table].kind == "regression":
        return False
    return split != "cv" or table in CROSS_VALIDATED


def run(path: pathlib.Path, tables: list[str], methods: list[str], splits: list[str]) -> bool:
    """Runs the cells that the file lacks, and says whether all succeeded."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = {(line["table"], line["method"], line["split"]) for line in map(json.loads, lines)}
    wanted = [(t, m, s) for m in methods for t in tables for s in splits]
    cells = [names for names in wanted if names not in found and applies(*names)]
    failed = 0
    for number, names in enumerate(cells, 1):
        print(f"{number} of {len(cells)}: {', '.join(names)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "cell", *names],
            env=os.environ | ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            failed += 1
            print((done.stderr.strip().splitlines() or ["no message"])[-1], flush=True)
            continue
        with path.open("a") as file:
            file.write(done.stdout.splitlines()[-1] + "\n")
    return not failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="measure what the file does not have yet")
    runner.add_argument("results", type=pathlib.Path)
    splits = [*map(str, range(SPLITS)), "cv"]
    for option, choices in [("tables", TABLES), ("methods", METHODS), ("splits", splits)]:
        runner.add_argument(f"--{option}", nargs="+", choices=choices, default=list(choices))
    reporter = commands.add_parser("report", help="print the results as Markdown")
    reporter.add_argument("results", type=pathlib.Path, nargs="+")
    commands.add_parser("cell", help="measure one cell").add_argument("names", nargs=3)
    arguments = parser.parse_args()
    if arguments.command == "cell":
        print(json.dumps(cell(*arguments.names)))
    elif arguments.command == "run":
        sys.exit(not run(arguments.results, arguments.tables, arguments.methods, arguments.splits))
    else:
        lines = [line for path in arguments.results for line in path.read_text().splitlines()]
        print(tables_report.body([json.loads(line) for line in lines]))


if __name__ == "__main__":
    main()
