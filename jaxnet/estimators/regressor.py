"""`DenseRegressor`: numbers for the rows of a table."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import Tags, check_array

from jaxnet.core import checks
from jaxnet.estimators.base import DenseEstimator, door
from jaxnet.estimators.training import Examples
from jaxnet.nn.losses import Loss, squared_error
from jaxnet.training.data import Data


class DenseRegressor(RegressorMixin, DenseEstimator):
    """A dense network that predicts a number, or several, for each row of a table.

    `fit` takes a DataFrame as it is, as `DenseClassifier` does; see there for the defaults, errors
    and saving. The targets are standardized for training.

    Args:
        loss: of jaxnet, of outputs and targets `[rows, numbers]`; by default `squared_error`.

    All other arguments are those of `DenseClassifier`, without `class_weight`.

    Attributes:
        preprocessor_: the fitted preprocessor.
        history_: the cost of every epoch and more, as of `jaxnet.fit`.
        n_features_in_, feature_names_in_: as in scikit-learn.

    scikit-learn's `MLPRegressor` takes neither missing values nor strings, and does not standardize
    the targets.

    Reference: Gorishniy, Kotelnikov and Babenko, TabM: advancing tabular deep learning with
    parameter-efficient ensembling, 2024.

    >>> inputs = np.linspace(-1, 1, 64)[:, None]
    >>> model = DenseRegressor(hidden=(16,), random_state=0).fit(inputs, inputs[:, 0] ** 2)
    >>> model.score(inputs, inputs[:, 0] ** 2) > 0.95
    True
    """

    @door
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "DenseRegressor":
        """Trains for one epoch, as the `partial_fit` of `DenseClassifier` does."""
        return self._fit_partially(X, y, sample_weight, None)

    @door
    def predict(self, X: Any) -> np.ndarray:
        """Predicts float64 numbers for each row, of the shape of the targets in `fit`."""
        numbers = self._compute(X) * self._target_scales + self._target_means
        return numbers[:, 0] if self._is_column else numbers

    def _read_targets(self, y: Any, classes: Any, *, reset: bool) -> np.ndarray:
        given = np.asarray(y)
        if given.dtype == object or given.dtype.kind in "US":
            text = next((value for value in given.flat if isinstance(value, str)), None)
            if text is not None:
                raise checks.InvalidType(
                    f"expected y of numbers; DenseClassifier takes classes. Received: {str(text)!r}"
                )
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y", estimator=self)
        is_column, y = y.ndim == 1, y.reshape(len(y), -1)
        if reset:
            self._is_column, self._outputs = is_column, y.shape[1]
        elif (self._is_column, self._outputs) != (is_column, y.shape[1]):
            raise checks.InvalidValue(
                f"expected y with {self._outputs} numbers in a row, as in the first fit. "
                f"Received: {y.shape[1]}"
            )
        return y

    def _describe_outputs(self) -> tuple[str, int, Loss]:
        return "numbers", self._outputs, squared_error

    def _groups(self, y: np.ndarray) -> np.ndarray:
        return np.zeros(len(y), int)

    def _scale_targets(self, train: Examples, *, reset: bool) -> Callable[[np.ndarray], np.ndarray]:
        if reset:
            self._target_means = np.average(train.y, 0, train.weights)
            variances = np.average((train.y - self._target_means) ** 2, 0, train.weights)
            self._target_scales = np.where(variances > 0, np.sqrt(variances), 1)
        return lambda y: ((y - self._target_means) / self._target_scales).astype(np.float32)

    def _calibrate(self, validation: Data | None) -> None:
        pass

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
