"""The columns of a table: their kinds, the checks of their values, and the default preprocessor."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from jaxnet.core import checks
from jaxnet.core.console import warn
from jaxnet.estimators.piecewise import PiecewiseLinearEncoder
from jaxnet.estimators.portable import to_levels, to_numbers

NUMBER, CATEGORY, MISSING = "numbers or booleans", "categories", "missing values only"
ANY = "any values"
_KINDS = {  # of `pandas.api.types.infer_dtype`
    "boolean": NUMBER,
    "decimal": NUMBER,
    "empty": MISSING,
    "floating": NUMBER,
    "integer": NUMBER,
    "mixed-integer-float": NUMBER,
    "string": CATEGORY,
}
_DATES = ("date", "datetime", "datetime64", "interval", "period", "time", "timedelta")


class Columns(NamedTuple):
    """The columns that an estimator was fitted on.

    Attributes:
        names: of a DataFrame's columns; the positions of an array's columns.
        kinds: `NUMBER`, `CATEGORY` or `MISSING`, for each column; `ANY` if a preprocessor of the
            user's takes the columns as they are.
        of_frame: whether they are of a DataFrame.
    """

    names: tuple[Any, ...]
    kinds: tuple[str, ...]
    of_frame: bool

    def of(self, kind: str) -> list[Any]:
        """The names of the columns of a kind."""
        return [name for name, own in zip(self.names, self.kinds, strict=True) if own == kind]


def is_frame(X: Any) -> bool:
    """Whether X is a DataFrame of pandas."""
    return isinstance(X, pd.DataFrame)


def check_frame(frame: pd.DataFrame) -> None:
    """Checks that a DataFrame has rows, and columns of different names."""
    rows, columns = frame.shape
    if rows == 0 or columns == 0:
        raise checks.InvalidValue(
            f"expected a DataFrame with rows and columns. Received: {rows} rows, {columns} columns"
        )
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise checks.InvalidValue(
            f"expected columns of different names. Received: several columns {repeated[0]!r}"
        )


def find_columns(X: Any, known: bool) -> Columns:
    """Finds the kinds of the columns, or `ANY` if they are not `known`.

    A column without any value is reported, and is not used.
    """
    names = tuple(X) if is_frame(X) else tuple(range(X.shape[1]))
    if not known:
        return Columns(names, (ANY,) * len(names), is_frame(X))
    if is_frame(X):
        kinds = tuple(_find_kind(name, X[name]) for name in names)
    else:
        kinds = tuple(MISSING if empty else NUMBER for empty in np.isnan(X).all(0))
    columns = Columns(names, kinds, is_frame(X))
    unused = columns.of(MISSING)
    if len(unused) == len(names):
        raise checks.InvalidValue(
            f"expected values in column {unused[0]!r}. Received: missing values only"
        )
    if unused:
        warn(f"expected values in column {unused[0]!r}, which is not used. Received: {MISSING}")
    return columns


def _find_kind(name: Any, column: pd.Series) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):
        _find_kind(name, column.cat.categories.to_series())
        return CATEGORY if column.notna().any() else MISSING
    received = str(column.dtype)
    if not column.notna().any():
        return MISSING
    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred in _KINDS:
        return _KINDS[inferred]
    if inferred in _DATES:
        received += "; make numbers of dates, such as frame['date'].dt.dayofyear"
    elif inferred.startswith("mixed"):
        kinds = sorted({type(value).__name__ for value in column.dropna()})
        received = f"{' and '.join(kinds)}; column.astype(str) makes categories of them"
    raise checks.InvalidType(
        f"expected numbers, booleans or categories in column {name!r}. Received: {received}"
    )


def match_names(columns: Columns, frame: pd.DataFrame) -> pd.DataFrame:
    """Puts the columns in the order of `fit`."""
    missing = [name for name in columns.names if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in columns.names]
    if missing or unknown:
        received = f"no column {missing[0]!r}" if missing else f"a new column {unknown[0]!r}"
        raise checks.InvalidValue(f"expected the columns of fit. Received: {received}")
    return frame[list(columns.names)]


def to_frame(columns: Columns, X: Any) -> pd.DataFrame:
    """Gives the columns of an array the names of `fit`."""
    return pd.DataFrame(np.asarray(X), columns=list(columns.names)).infer_objects()


def to_plain(columns: Columns, X: Any) -> Any:
    """Converts numbers to float64 and categories to strings, with NaN for missing values.

    Raises:
        InvalidType: the values are of another kind than in `fit`.
        InvalidValue: a number is infinite.
    """
    if ANY in columns.kinds:
        return X
    if not columns.of_frame:
        for name in columns.names:
            _check_not_infinite(name, X[:, name])
        return X
    plain = {}
    for name, kind in zip(columns.names, columns.kinds, strict=True):
        received = _find_kind(name, X[name]) if kind != MISSING else MISSING
        if received not in (kind, MISSING):
            raise checks.InvalidType(
                f"expected {kind} in column {name!r}, as in fit. "
                f"Received: {received}, {X[name].dtype}"
            )
        if kind == CATEGORY:
            plain[name] = pd.Series(to_levels(X[name]), X.index, object)
        elif kind == NUMBER:
            plain[name] = pd.Series(to_numbers(X[name]), X.index)
            _check_not_infinite(name, plain[name].to_numpy())
    return pd.DataFrame(plain)


def _check_not_infinite(name: Any, numbers: np.ndarray) -> None:
    infinite = np.isinf(numbers)
    if infinite.any():
        raise checks.InvalidValue(
            f"expected finite or missing numbers in column {name!r}. "
            f"Received: {numbers[infinite][0]} in row {infinite.argmax()}"
        )


def make_preprocessor(columns: Columns) -> ColumnTransformer:
    """Makes the default preprocessor for the columns of `to_plain`.

    - Numbers and booleans: `SimpleImputer` puts the median in place of missing numbers and adds a
      column that tells where they were; then `PiecewiseLinearEncoder`.
    - Categories: `OneHotEncoder`. A missing category is a category. Those beyond the most frequent
      `LEVELS`, those of a single row, and those that `fit` did not see share a column.
    """
    numbers = Pipeline(
        [
            ("impute", SimpleImputer(strategy="median", add_indicator=True)),
            ("encode", PiecewiseLinearEncoder().set_fit_request(sample_weight=True)),
        ]
    )
    categories = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        max_categories=LEVELS,
        min_frequency=2,
        sparse_output=False,
    )
    parts = [("numbers", numbers, NUMBER), ("categories", categories, CATEGORY)]
    return ColumnTransformer(
        [(name, part, columns.of(kind)) for name, part, kind in parts if columns.of(kind)]
    )


LEVELS = 64  # the largest number of columns for a column of categories
