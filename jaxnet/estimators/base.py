"""What the two estimators share: arguments, training, outputs, saving."""

import functools
import os
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from jaxnet.core import checks
from jaxnet.estimators import models, portable, saving, training
from jaxnet.estimators.reading import TableEstimator
from jaxnet.estimators.training import Examples
from jaxnet.io import serialization
from jaxnet.nn.losses import Loss
from jaxnet.nn.network import Network, check_network
from jaxnet.optimizers.adam import adamw
from jaxnet.training.data import Data, check_data
from jaxnet.training.evaluation import predict
from jaxnet.training.state import TrainState, initial_state


def door(method: Callable[..., Any]) -> Callable[..., Any]:
    """Puts the names of the estimator and the method in front of the messages of checks."""

    @functools.wraps(method)
    def entered(self: Any, *args: Any, **kwargs: Any) -> Any:
        name = f"{type(self).__name__}.{method.__name__}"
        return checks.door(method, name)(self, *args, **kwargs)

    return entered


class DenseEstimator(TableEstimator):
    """A dense network for tables. Its two subclasses define what is predicted."""

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
    ) -> None:
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.preprocessor = preprocessor
        self.hidden = hidden
        self.members = members
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # What `fit` finds, besides the public attributes.

    _parameters: PyTree
    _layers: portable.Layers | None  # of the default network
    _state: TrainState | None  # between calls of `partial_fit`

    # What the subclasses define.

    @abstractmethod
    def _read_targets(self, y: Any, classes: Any, *, reset: bool) -> np.ndarray:
        """Checks targets and converts them to an array that the loss takes.

        Args:
            y: one target per row.
            classes: all classes, or None to find them in `y`.
            reset: whether the classes are found anew.
        """

    @abstractmethod
    def _describe_outputs(self) -> tuple[str, int, Loss]:
        """The kind of the outputs (see `portable.combine`), their number, the default loss."""

    @abstractmethod
    def _groups(self, y: np.ndarray) -> np.ndarray:
        """The class of each row, for a held-out part with the same proportions."""

    @abstractmethod
    def _scale_targets(self, train: Examples, *, reset: bool) -> Callable[[np.ndarray], np.ndarray]:
        """The function that the targets pass before the loss."""

    @abstractmethod
    def _calibrate(self, validation: Data | None) -> None:
        """Adjusts the predictions to the validation data."""

    # Training.

    @door
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> "DenseEstimator":
        """Fits the preprocessor and trains the network.

        Args:
            X: a DataFrame, or numbers `[rows, columns]` with NaN for missing ones.
            y: the target of each row.
            sample_weight: `[rows]`, non-negative. Rows of weight 0 are not used.
            X_val, y_val, sample_weight_val: validation data, in place of `validation_fraction`.

        Returns:
            The estimator itself.

        Raises:
            ValueError, TypeError: a wrong argument, before anything is compiled.
        """
        reset = not (self.warm_start and self.__sklearn_is_fitted__())
        self._check_arguments()
        if (X_val is None) != (y_val is None):
            raise checks.InvalidValue("expected both X_val and y_val. Received: one of them")
        random = check_random_state(self.random_state)
        train, held_out = self._read(X, y, sample_weight, None, reset=reset), None
        if X_val is not None:
            held_out = self._read(X_val, y_val, sample_weight_val, None, reset=False)
        elif self.patience is not None:
            groups = self._groups(train.y)
            train, held_out = training.hold_out(train, self.validation_fraction, groups, random)
        self._state = None
        return self._train(train, held_out, self.epochs, random, reset=reset)

    def _fit_partially(self, X: Any, y: Any, sample_weight: Any, classes: Any) -> "DenseEstimator":
        """Trains for one epoch on all rows, and keeps the state for the next call."""
        reset = not self.__sklearn_is_fitted__()
        self._check_arguments()
        train = self._read(X, y, sample_weight, classes, reset=reset)
        random = check_random_state(self.random_state)
        return self._train(train, None, 1, random, reset=reset, keep_state=True)

    def _train(
        self,
        train: Examples,
        held_out: Examples | None,
        epochs: int,
        random: np.random.RandomState,
        *,
        reset: bool,
        keep_state: bool = False,
    ) -> "DenseEstimator":
        if reset:
            self._fit_preprocessor(train)
        scale = self._scale_targets(train, reset=reset)

        def convert(rows: Examples) -> Data:
            arrays = self._encode(rows.X), scale(rows.y), rows.weights
            return check_data("the preprocessor's output", arrays)

        data, validation = convert(train), held_out and convert(held_out)
        kind, outputs, loss = self._describe_outputs()
        loss = loss if self.loss is None else self.loss
        network = self._make_network(data.inputs.shape[1], outputs)
        optimizer = self.optimizer
        if optimizer is None:
            optimizer = adamw(models.RATE, weight_decay=models.DECAY)
        seed = int(random.randint(2**31 - 1))
        state = None if reset else self._state
        if not reset and state is None:
            parameters = jax.tree.map(jax.numpy.asarray, self._parameters)
            state = initial_state(network, optimizer, key=jax.random.key(seed))
            state = state._replace(parameters=parameters)
        result = training.run(
            network,
            loss,
            kind,
            optimizer,
            data,
            validation,
            self.patience,
            key=jax.random.key(seed),
            epochs=epochs,
            batch_size=self.batch_size,
            progress=self.verbose,
            state=state,
        )
        self._state = result.state if keep_state else None
        self._parameters = jax.tree.map(np.asarray, result.parameters)
        self._layers = models.to_layers(self._parameters) if self.network is None else None
        self.history_ = result.history
        self._calibrate(validation)
        return self

    def _make_network(self, in_features: int, out_features: int) -> Network:
        if isinstance(self.network, Network):
            return self.network
        if self.network is None:
            return models.make_network(
                in_features, out_features, self.hidden, self.members, self.dropout
            )
        network = self.network(in_features, out_features)
        check_network(network)
        return network

    # Arguments.

    def _check_arguments(self) -> None:
        checks.integer("epochs", self.epochs, 1)
        checks.integer("members", self.members, 1)
        for name in ("batch_size", "patience"):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name), 1)
        checks.number("dropout", self.dropout, 0, 1, below=True)
        checks.number("validation_fraction", self.validation_fraction, 0, 1, below=True)
        if not isinstance(self.hidden, (tuple, list)):
            received = checks.describe(self.hidden)
            raise checks.InvalidType(f"expected hidden as a tuple of sizes. Received: {received}")
        for size in self.hidden:
            checks.integer("hidden", size, 1)
        for name in ("warm_start", "verbose"):
            checks.boolean(name, getattr(self, name))
        if self.network is not None and not isinstance(self.network, Network):
            checks.function("network", self.network)
        if self.loss is not None:
            checks.function("loss", self.loss)
        if self.optimizer is not None:
            checks.optimizer("optimizer", self.optimizer)

    def _read(self, X: Any, y: Any, sample_weight: Any, classes: Any, *, reset: bool) -> Examples:
        """Checks rows with their targets and weights; rows of weight 0 are dropped."""
        if y is None:
            raise checks.InvalidValue(
                f"expected y, since {type(self).__name__} requires y to be passed, but the target "
                "y is None. Received: None"
            )
        X = self._read_rows(X, reset=reset)
        check_consistent_length(X, y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        examples = Examples(X, self._read_targets(y, classes, reset=reset), weights)
        examples = examples._replace(weights=self._adjust_weights(examples))
        used = examples.weights > 0
        return examples if used.all() else examples.take(np.flatnonzero(used))

    def _adjust_weights(self, examples: Examples) -> np.ndarray:
        """The weights of the rows, with those of their classes."""
        return examples.weights

    # Predictions.

    @door
    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the fitted estimator in one file, without pickle, from which `portable.load` reads.

        Reading needs NumPy alone. The file is in the format of `jaxnet.save`, with a checksum, and
        the names of columns must be strings.

        Args:
            path: the file. An existing file is replaced once the new one is complete.

        Raises:
            ValueError, TypeError: a preprocessor or a network of the user's; names of columns that
                are not strings.
            OSError: the file cannot be written.
        """
        check_is_fitted(self)
        about, tensors = saving.describe(self)
        serialization.save(path, tensors, metadata={"estimator": about})

    def _compute(self, X: Any) -> np.ndarray:
        """The averaged outputs of the members, before temperature and scale: `[rows, outputs]`."""
        check_is_fitted(self)
        return self._combine(self._encode(self._read_rows(X, reset=False)))

    def _combine(self, encoded: np.ndarray) -> np.ndarray:
        kind, outputs, _ = self._describe_outputs()
        if self._layers is not None:
            values = portable.compute_outputs(self._layers, encoded)
        else:
            network = self._make_network(encoded.shape[1], outputs)
            values = np.asarray(predict(network, self._parameters, encoded), np.float64)
        return portable.combine(values, kind) if values.ndim == 3 else values

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "history_")
