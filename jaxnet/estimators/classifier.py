"""`DenseClassifier`: classes or labels of the rows of a table."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags, assert_all_finite, check_array, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from jaxnet.core import checks
from jaxnet.estimators import training
from jaxnet.estimators.base import DenseEstimator, door
from jaxnet.estimators.portable import compute_probabilities
from jaxnet.estimators.training import Examples
from jaxnet.nn.losses import Loss, sigmoid_binary_cross_entropy, softmax_cross_entropy
from jaxnet.training.data import Data


class DenseClassifier(ClassifierMixin, DenseEstimator):
    """A dense network that classifies the rows of a table.

    `fit` takes a DataFrame as it is, with numbers, booleans, strings, categories and missing values
    in any of them, or an array of numbers. The target is a class per row, of any type, or several
    labels, 0 or 1 `[rows, labels]`.

    The defaults, with what each gains: the mean reduction of the error on the tables of
    `scripts/benchmark_tables.py`, with other splits than those in BENCHMARKS.md.

    - `PiecewiseLinearEncoder` for numbers: 6 % in comparison with standardized numbers.
      `OneHotEncoder` for categories. A missing value is a value of its own, and rare and unknown
      categories share a column.
    - TabM, `jaxnet.batch_ensemble` of a multilayer perceptron: 6 % in comparison with one member.
      Four members take half as long, and lose 2 %.
    - Dropout: 4 % for classes, nothing for numbers.
    - Batches of 128 rows: 3 % in comparison with 256.
    - AdamW: the weight decay gains 0.5 %.
    - Early stopping on the loss of the averaged prediction of held-out rows: on average no better
      than on the mean loss of the members, which stops earlier.
    - The logits are divided by the temperature that fits the held-out rows best, where these are
      many. This gains nothing on average, as the members' mean is calibrated already, but up to
      8 % where training has gone on for too long.

    Args:
        network: None for the default network of `hidden`, `members` and `dropout`; or a
            `jaxnet.Network`, or a function `(in_features, out_features) -> Network`, whose outputs
            are `[rows, out_features]` or `[rows, members, out_features]`. A function receives the
            number of encoded columns, padded with columns of zeros, so that tables of about
            equal width share a compiled program.
        loss: of jaxnet, of logits and labels; by default `softmax_cross_entropy`, or
            `sigmoid_binary_cross_entropy` for several labels.
        optimizer: of jaxnet or optax; by default `jaxnet.adamw(0.005, weight_decay=0.02)`.
        preprocessor: None for the default one, or any transformer of scikit-learn from the table
            to finite numbers.
        hidden: the sizes of the hidden layers.
        members: the number of members, whose predictions are averaged.
        dropout: the probability with which a hidden feature is dropped, the same one for all
            members.
        epochs: the largest number of passes over the rows.
        batch_size: the number of rows in a step; None for all.
        patience: training stops after this number of epochs in which the held-out rows were
            predicted no better, and the best parameters are kept. None holds out no rows.
        validation_fraction: the part of the rows that is held out, of each class alike.
        warm_start: whether `fit` continues from the parameters, columns and classes of the last
            `fit`.
        random_state: an integer, for the same result in every call; None; or a RandomState.
        verbose: whether to show a progress bar.
        class_weight: None, a dict from classes to weights, or "balanced" for weights that make
            every class count the same. Weights of rows are multiplied by them.

    Attributes:
        classes_: the classes in the order of `predict_proba`.
        preprocessor_: the fitted preprocessor.
        temperature_: the number by which the logits are divided; 1 without held-out rows.
        history_: the cost of every epoch and more, as of `jaxnet.fit`.
        n_features_in_, feature_names_in_: as in scikit-learn.

    Predictions are computed in float64 by NumPy, unless there is a network of the user's. They do
    not depend on the other rows, and need no compilation. A DataFrame must have the columns of
    `fit`, in any order. A column of a time or date, of mixed types, or with infinities raises an
    error with the column's name. A column without a value in `fit` raises a warning, and is not
    used.

    scikit-learn's `MLPClassifier` takes neither missing values, strings nor `class_weight`, and
    its early stopping watches the accuracy.

    Reference: Gorishniy, Kotelnikov and Babenko, TabM: advancing tabular deep learning with
    parameter-efficient ensembling, 2024; Guo et al., On calibration of modern neural networks,
    2017.

    >>> import pandas as pd
    >>> colours = ["red", "green", "red", None]
    >>> fruit = pd.DataFrame({"weight": [150, 160, 9, None], "colour": colours})
    >>> model = DenseClassifier(epochs=50, patience=None, random_state=0)
    >>> model = model.fit(fruit, ["apple", "apple", "cherry", "cherry"])
    >>> model.predict(fruit[["colour", "weight"]])
    array(['apple', 'apple', 'cherry', 'cherry'], dtype='<U6')
    """

    def __init__(
        self,
        network: Any = None,
        *,
        loss: Any = None,
        optimizer: Any = None,
        preprocessor: Any = None,
        hidden: Any = (64, 64),
        members: Any = 8,
        dropout: Any = 0.1,
        epochs: Any = 200,
        batch_size: Any = 128,
        patience: Any = 10,
        validation_fraction: Any = 0.2,
        warm_start: Any = False,
        random_state: Any = None,
        verbose: Any = False,
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            network,
            loss=loss,
            optimizer=optimizer,
            preprocessor=preprocessor,
            hidden=hidden,
            members=members,
            dropout=dropout,
            epochs=epochs,
            batch_size=batch_size,
            patience=patience,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    @door
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> "DenseClassifier":
        """Trains for one epoch, and continues where the last call ended.

        The first call fits the preprocessor to its rows alone. No rows are held out.

        Args:
            X, y, sample_weight: as in `fit`.
            classes: all classes, for the first call, if `y` may lack some.

        Returns:
            The estimator itself.
        """
        return self._fit_partially(X, y, sample_weight, classes)

    @door
    def predict(self, X: Any) -> np.ndarray:
        """Predicts the class of each row, `[rows]`, or the labels, 0 or 1 `[rows, labels]`."""
        logits = self._compute(X)
        if self._is_multilabel:
            return (logits > 0).astype(int)
        return self.classes_[logits.argmax(1)]

    @door
    def predict_proba(self, X: Any) -> np.ndarray:
        """Computes the probabilities of the classes in the order of `classes_`, or of the labels.

        Returns:
            float64 `[rows, classes]`, or `[rows, labels]` as of scikit-learn's `MLPClassifier`.
        """
        logits = self._compute(X)
        return compute_probabilities(logits, self.temperature_, self._describe_outputs()[0])

    def _check_arguments(self) -> None:
        super()._check_arguments()
        named = self.class_weight
        if not (named is None or named == "balanced" or isinstance(named, (dict, list))):
            raise checks.InvalidValue(
                "expected class_weight as None, 'balanced' or a dict from classes to numbers. "
                f"Received: {checks.describe(named)}"
            )

    def _read_targets(self, y: Any, classes: Any, *, reset: bool) -> np.ndarray:
        assert_all_finite(y, input_name="y", estimator_name=type(self).__name__)
        _check_labels(np.asarray(y))
        check_classification_targets(y)
        is_multilabel = type_of_target(y, input_name="y") == "multilabel-indicator"
        if reset:
            self._is_multilabel = is_multilabel
        elif self._is_multilabel != is_multilabel:
            raise checks.InvalidValue("expected y as in the first fit. Received: another shape")
        if is_multilabel:
            y = check_array(y, accept_sparse=False, dtype=np.float32)
            found = np.arange(y.shape[1])
        else:
            y = np.asarray(column_or_1d(y, warn=True))
            found = np.unique(y if classes is None else np.asarray(classes))
            if reset and len(found) < 2:
                raise checks.InvalidValue(
                    f"expected y of at least 2 classes. Received: 1 class, {found.tolist()[0]!r}"
                )
        if reset:
            self.classes_ = found
        if is_multilabel:
            return y
        unknown = y[~np.isin(y, self.classes_)]
        if len(unknown):
            raise checks.InvalidValue(
                f"expected y of the classes {checks.shorten(str(self.classes_.tolist()))}. "
                f"Received: {unknown.tolist()[0]!r}"
            )
        return np.searchsorted(self.classes_, y).astype(np.int32)

    def _describe_outputs(self) -> tuple[str, int, Loss]:
        if self._is_multilabel:
            return "labels", len(self.classes_), sigmoid_binary_cross_entropy
        return "classes", len(self.classes_), softmax_cross_entropy

    def _groups(self, y: np.ndarray) -> np.ndarray:
        return np.zeros(len(y), int) if y.ndim == 2 else y

    def _adjust_weights(self, examples: Examples) -> np.ndarray:
        if self.class_weight is None:
            return examples.weights
        named = self.class_weight
        if self._is_multilabel:
            return examples.weights * compute_sample_weight(named, examples.y)
        y = self.classes_[examples.y]
        if isinstance(named, dict):
            unknown = [name for name in named if name not in self.classes_]
            if unknown:
                raise checks.InvalidValue(
                    f"expected class_weight of the classes of y. Received: {unknown[0]!r}"
                )
            named = {name: named[name] for name in named if name in y}  # y may lack a class
        return examples.weights * compute_sample_weight(named, y)

    def _scale_targets(self, train: Examples, *, reset: bool) -> Any:
        return lambda y: y

    def _calibrate(self, validation: Data | None) -> None:
        self.temperature_ = 1.0
        if validation is not None and not self._is_multilabel:
            logits = self._combine(np.asarray(validation.inputs))
            self.temperature_ = training.find_temperature(
                logits, np.asarray(validation.targets), np.asarray(validation.weights)
            )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _check_labels(y: np.ndarray) -> None:
    """Checks that labels are not missing, and of one type."""
    missing = np.argwhere(pd.isna(y))
    if len(missing):
        raise checks.InvalidValue(
            f"expected y without missing labels. Received: {y[tuple(missing[0])]} in row "
            f"{missing[0][0]}"
        )
    if y.dtype == object and len({isinstance(label, str) for label in y.flat}) > 1:
        kinds = sorted({type(label).__name__ for label in y.flat})
        raise checks.InvalidType(f"expected y of one type. Received: {' and '.join(kinds)}")
