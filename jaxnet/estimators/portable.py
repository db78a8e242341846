"""Predictions of a saved estimator with NumPy alone. This file imports neither jaxnet nor JAX.

Besides NumPy, a copy of this file is all that a program needs to use what `DenseClassifier.save` or
`DenseRegressor.save` wrote:

    import portable
    model = portable.load("fruit.model")
    model.predict({"weight": [150.0], "colour": ["red"]})

The estimators compute their own predictions with the functions in this file.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FORMAT = 1  # of the description of an estimator
_ROWS = 1024  # that are computed at a time, which bounds the memory

Layers = Sequence[Mapping[str, np.ndarray]]


# The encoding of columns.


def to_numbers(values: Any) -> np.ndarray:
    """Converts a column of numbers or booleans to float64; a missing value becomes NaN."""
    if hasattr(values, "to_numpy"):  # a pandas column, which may have missing values of its own
        return values.to_numpy(np.float64, na_value=np.nan)
    return np.asarray(values, np.float64)


def to_levels(values: Any) -> np.ndarray:
    """Converts a column of categories to strings, in an object array; a missing one becomes NaN."""
    if hasattr(values, "to_numpy"):
        values = values.to_numpy(object, na_value=np.nan)
    return np.array([_to_level(value) for value in values] or [np.nan], object)[: len(values)]


def _to_level(value: Any) -> Any:
    if value is None or value != value:
        return np.nan
    return value if isinstance(value, str) else str(float(value))


def piecewise_linear(numbers: np.ndarray, edges: Sequence[np.ndarray]) -> np.ndarray:
    """Computes the position of each number in the bins of its column: from 0 to 1 in each bin."""
    parts = [
        np.clip((column[:, None] - e[:-1]) / np.diff(e), 0, 1)
        for column, e in zip(numbers.T, edges, strict=True)
    ]
    return np.concatenate([np.zeros((len(numbers), 0)), *parts], axis=1)


def encode_numbers(
    numbers: np.ndarray,
    edges: Sequence[np.ndarray],
    bin_means: np.ndarray,
    means: np.ndarray,
    scales: np.ndarray,
) -> np.ndarray:
    """Computes what `PiecewiseLinearEncoder` describes."""
    bins = (piecewise_linear(numbers, edges) - bin_means) / 2
    return np.concatenate([bins, np.clip((numbers - means) / scales, -4, 4)], axis=1)


def one_hot(levels: np.ndarray, known: Sequence[str | None], others: bool) -> np.ndarray:
    """Encodes categories, of which None is the missing one.

    Args:
        levels: the values of `to_levels`.
        known: the categories that have a column.
        others: whether a last column stands for all other categories; else they are all zeros.
    """
    places = {level: i for i, level in enumerate(known)}
    place = [places.get(None if level != level else level, len(known)) for level in levels]
    return np.eye(len(known) + 1)[place][:, : len(known) + others]


# The default network and its predictions.


def compute_outputs(layers: Layers, inputs: np.ndarray) -> np.ndarray:
    """Computes the outputs of the default network in float64.

    Args:
        layers: "weights" `[members, inputs, outputs]` and "biases" `[members, outputs]` of each.
        inputs: `[rows, features]`.

    Returns:
        `[rows, members, outputs]`.
    """
    slices = [inputs[start : start + _ROWS] for start in range(0, len(inputs), _ROWS)]
    return np.concatenate([_compute_slice(layers, rows) for rows in slices])


def _compute_slice(layers: Layers, inputs: np.ndarray) -> np.ndarray:
    x = inputs
    for i, layer in enumerate(layers):
        x = x @ layer["weights"].astype(np.float64) + layer["biases"][:, None, :]
        if i < len(layers) - 1:
            x = np.maximum(x, 0)
    return x.swapaxes(0, 1)


def combine(outputs: np.ndarray, kind: str) -> np.ndarray:
    """Averages the predictions of the members.

    Args:
        outputs: `[rows, members, outputs]`.
        kind: "classes" for logits of classes, of which the logarithms of the mean probabilities
            are returned; "labels" for logits of independent labels, of which the logits of the mean
            probabilities are returned; "numbers" for numbers.

    Returns:
        `[rows, outputs]`.
    """
    if kind == "numbers":
        return outputs.mean(1)
    if kind == "classes":
        return _log_mean(log_softmax(outputs))
    return _log_mean(-np.logaddexp(0, -outputs)) - _log_mean(-np.logaddexp(0, outputs))


def compute_probabilities(logits: np.ndarray, temperature: float, kind: str) -> np.ndarray:
    """Computes the probabilities of classes or labels from logits divided by a temperature."""
    if kind == "classes":
        return np.exp(log_softmax(logits / temperature))
    return np.exp(-np.logaddexp(0, -logits / temperature))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Computes the logarithm of the softmax over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _log_mean(logarithms: np.ndarray) -> np.ndarray:
    """The logarithm of the mean over the members."""
    return np.logaddexp.reduce(logarithms, axis=1) - np.log(logarithms.shape[1])


# The file of an estimator.


class Model:
    """A saved estimator, which predicts.

    Attributes:
        estimator: "DenseClassifier" or "DenseRegressor".
        classes_: of a classifier.
        feature_names_in_: the names of the columns of a DataFrame; None for an array.
        versions: of the packages with which the estimator was saved.
    """

    def __init__(
        self, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any], versions: Any = None
    ) -> None:
        """Takes the arrays and the description of an estimator, as `saving` makes them."""
        self._tensors, self._about, self.versions = tensors, about, versions
        self.estimator: str = about["estimator"]
        self.feature_names_in_ = about["names"]
        if self.estimator == "DenseClassifier":
            self.classes_ = np.array(about["classes"], about["dtype"])

    def predict(self, X: Any) -> np.ndarray:
        """Predicts the classes, labels or numbers, as the estimator's `predict`.

        Args:
            X: a DataFrame or a dict with a sequence of values for each name of a column; numbers
                `[rows, columns]` if the estimator was fitted on an array.
        """
        outputs, kind = self._compute(X), self._about["kind"]
        if kind == "numbers":
            numbers = outputs * self._tensors["target_scales"] + self._tensors["target_means"]
            return numbers[:, 0] if self._about["is_column"] else numbers
        return (outputs > 0).astype(int) if kind == "labels" else self.classes_[outputs.argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Computes the probabilities of classes or labels, as the estimator's `predict_proba`."""
        if self.estimator != "DenseClassifier":
            raise AttributeError("predict_proba: expected a classifier. Received: a regressor")
        about = self._about
        return compute_probabilities(self._compute(X), about["temperature"], about["kind"])

    def _compute(self, X: Any) -> np.ndarray:
        layers = [
            {part: self._tensors[f"layers/{i}/{part}"] for part in ("weights", "biases")}
            for i in range(self._about["layers"])
        ]
        return combine(compute_outputs(layers, self._encode(X)), self._about["kind"])

    def _encode(self, X: Any) -> np.ndarray:
        """Does what the preprocessor does."""
        about, tensors = self._about, self._tensors
        numbers = [to_numbers(self._column(X, name)) for name in about["numbers"]]
        levels = [to_levels(self._column(X, each["name"])) for each in about["categories"]]
        parts = []
        if numbers:
            values = np.stack(numbers, axis=1)
            if np.isinf(values).any():
                raise ValueError("expected finite or missing numbers. Received: infinity")
            missing = np.isnan(values)
            values = np.where(missing, tensors["medians"], values)
            values = np.concatenate([values, missing[:, about["indicators"]]], axis=1)
            edges = np.split(tensors["edges"], about["ends"])
            names = "bin_means", "means", "scales"
            parts.append(encode_numbers(values, edges, *(tensors[name] for name in names)))
        for column, each in zip(levels, about["categories"], strict=True):
            parts.append(one_hot(column, each["levels"], each["others"]))
        encoded = np.concatenate(parts, axis=1)
        width = tensors["layers/0/weights"].shape[1]
        return np.pad(encoded, ((0, 0), (0, width - encoded.shape[1])))

    def _column(self, X: Any, name: Any) -> Any:
        if self.feature_names_in_ is None:
            X = np.asarray(X, np.float64)
            if X.ndim != 2 or X.shape[1] != self._about["columns"]:
                raise ValueError(
                    f"expected numbers [rows, {self._about['columns']}]. Received: {list(X.shape)}"
                )
            return X[:, name]
        try:
            return X[name]
        except (KeyError, IndexError, ValueError):
            raise ValueError(f"expected a column {name!r}. Received: none") from None


def load(path: str | os.PathLike[str]) -> Model:
    """Loads an estimator from a file that its `save` wrote; no code in the file is run.

    Args:
        path: the file.

    Raises:
        ValueError: the file is corrupt, or of another kind or a later version.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read()
    if not _is_whole(data):
        raise ValueError(
            f"load: expected a file that an estimator's save wrote. Received: {os.fspath(path)}, "
            "which is corrupt, truncated, or from another program"
        )
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    about = json.loads(header.pop("__metadata__")["jaxnet"])
    description = about["metadata"].get("estimator")
    if description is None or description["format"] != FORMAT:
        raise ValueError(
            f"load: expected a file of an estimator, of format {FORMAT}. "
            f"Received: {os.fspath(path)}, {_describe(description)}"
        )
    tensors = {}
    for name, tensor in header.items():
        first, end = tensor["data_offsets"]
        values = np.frombuffer(data[start + first : start + end], _DTYPES[tensor["dtype"]])
        tensors[name] = values.reshape(tensor["shape"])
    return Model(tensors, description, about["versions"])


def _describe(description: Any) -> str:
    return "without one" if description is None else f"of format {description['format']}"


_DTYPES = {"F32": "<f4", "F64": "<f8"}
_BEFORE_CHECKSUM = rb'{"__metadata__":{"jaxnet":"{\"sha256\": \"'


def _is_whole(data: bytes) -> bool:
    """Whether the SHA-256 in the header is that of the file with zeros in its place."""
    start, end = 8 + len(_BEFORE_CHECKSUM), 8 + len(_BEFORE_CHECKSUM) + 64
    computed = hashlib.sha256(data[:start] + b"0" * 64 + data[end:]).hexdigest()
    return data[8:start] == _BEFORE_CHECKSUM and data[start:end] == computed.encode()
