"""How an estimator reads tables: from a DataFrame or an array to what its network takes."""

from typing import Any

import numpy as np
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags, check_array
from sklearn.utils.validation import validate_data

from jaxnet.core import checks
from jaxnet.estimators import columns, training
from jaxnet.estimators.columns import Columns
from jaxnet.estimators.training import Examples
from jaxnet.nn.network import Network


class TableEstimator(BaseEstimator):
    """An estimator with a preprocessor for the columns of a table, and a network."""

    preprocessor: Any
    network: Any
    _columns: Columns  # of the last `fit`

    def _read_rows(self, X: Any, *, reset: bool) -> Any:
        """Checks rows, finds the columns or compares them, and converts their values."""
        is_frame = columns.is_frame(X)
        if is_frame:
            columns.check_frame(X)
            if not reset and self._columns.of_frame:
                X = columns.match_names(self._columns, X)
            validate_data(self, X, reset=reset, skip_check_array=True)
        elif reset or not self._columns.of_frame:
            X = self._read_array(X, reset=reset)
        else:
            validate_data(self, X, dtype=None, ensure_all_finite=False, reset=False)
            X = columns.to_frame(self._columns, X)
        if reset:
            self._columns = columns.find_columns(X, self.preprocessor is None)
        elif is_frame and not self._columns.of_frame:
            X = self._read_array(X, reset=False)
        return columns.to_plain(self._columns, X)

    def _read_array(self, X: Any, *, reset: bool) -> np.ndarray:
        dtype = np.float64 if self.preprocessor is None else None
        try:
            return validate_data(self, X, dtype=dtype, ensure_all_finite=False, reset=reset)
        except ValueError as error:
            if "could not convert string" not in str(error):
                raise
            raise checks.InvalidType(
                "expected an array of numbers, or a DataFrame with columns of categories. "
                f"Received: {error}"
            ) from None

    def _fit_preprocessor(self, train: Examples) -> None:
        if self.preprocessor is not None:
            self.preprocessor_ = clone(self.preprocessor).fit(train.X, train.y)
            return
        with sklearn.config_context(enable_metadata_routing=True, transform_output="default"):
            self.preprocessor_ = columns.make_preprocessor(self._columns)
            self.preprocessor_.fit(train.X, sample_weight=train.weights)

    def _encode(self, X: Any) -> np.ndarray:
        """Transforms rows to float64 `[rows, features of the network]`."""
        with sklearn.config_context(transform_output="default"):
            encoded = self.preprocessor_.transform(X)
        if hasattr(encoded, "toarray"):
            encoded = encoded.toarray()
        encoded = check_array(
            encoded, dtype=np.float64, input_name="the preprocessor's output", estimator=self
        )
        return encoded if isinstance(self.network, Network) else training.pad_columns(encoded)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.preprocessor is None
        tags.input_tags.categorical = tags.input_tags.string = True
        return tags
