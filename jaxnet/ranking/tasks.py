"""Tasks: what is trained, on which data, for how long. Seven are shipped, on small real data.

The data come with scikit-learn, so nothing is downloaded; the table of fruit is that of the
examples. The networks are small and the runs short, since a ranking makes thousands of them: what
holds for these tasks need not hold for large networks.

Reference: Schneider, Balles and Hennig, DeepOBS: a deep learning optimizer benchmark suite, 2019.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.core import checks
from jaxnet.nn.activations import binary_step, relu, straight_through, tanh
from jaxnet.nn.combinators import mlp
from jaxnet.nn.losses import (
    Loss,
    mean_squared_error,
    softmax_cross_entropy,
)
from jaxnet.nn.network import Network, check_network
from jaxnet.training.batches import check_steps, count_steps
from jaxnet.training.data import Data, DataLike, check_data, check_values


class Task(NamedTuple):
    """A network, its loss and its data.

    Attributes:
        name: in tables and figures. The random numbers of the runs depend on it.
        network: any `Network`.
        loss: `loss(outputs, targets) -> [batch]`, at least 0, since losses are compared by their
            ratio. Lower is better.
        train: `(inputs, targets)` or `(inputs, targets, weights)`.
        validation: decides which epoch of a run and which trial of a contender is the best.
        test: is used for the results only.
        batch_size: the number of examples per step; `None` for all of them.
        epochs: the number of passes over the data, at least 1.
        target: a validation loss. The steps until it is reached are counted. `None` for no target.
    """

    name: str
    network: Network
    loss: Loss
    train: DataLike
    validation: DataLike
    test: DataLike
    batch_size: int | None
    epochs: int
    target: float | None = None

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps in an epoch."""
        return int(count_steps(len(self.train[0]), self.batch_size))

    @property
    def steps(self) -> int:
        """The number of steps of a run."""
        return self.epochs * self.steps_per_epoch


@checks.door
def make_task(
    name: str,
    network: Network,
    loss: Loss,
    data: DataLike,
    *,
    batch_size: int | None,
    epochs: int,
    target: float | None = None,
) -> Task:
    """Makes a task of one table: a half for training, a quarter each for validation and test.

    The rows are shuffled, the same way each time. The inputs are standardized: the mean and the
    standard deviation of each feature are those of the training data. A feature that does not vary
    there becomes 0 where it has the same value.

    Args:
        name, network, loss, batch_size, epochs, target: the fields of the task; see `Task`.
        data: `(inputs, targets)` or `(inputs, targets, weights)` with at least 4 examples.

    Raises:
        ValueError, TypeError: an invalid argument.

    >>> from jaxnet import mlp, softmax_cross_entropy
    >>> from sklearn.datasets import load_iris
    >>> data = load_iris(return_X_y=True)
    >>> task = make_task(
    ...     "iris", mlp([4, 8, 3]), softmax_cross_entropy, data, batch_size=25, epochs=20
    ... )
    >>> [len(part.inputs) for part in (task.train, task.validation, task.test)], task.steps
    ([75, 37, 38], 60)
    """
    data = check_data("data", data)
    examples = len(data.inputs)
    if examples < 4:
        raise checks.InvalidValue(f"expected at least 4 examples. Received: {examples}")
    order = np.random.default_rng(0).permutation(examples)
    half, last = examples // 2, examples // 2 + examples // 4
    inputs = np.asarray(data.inputs, np.float64)
    mean, deviation = inputs[order[:half]].mean(0), inputs[order[:half]].std(0)
    inputs = (inputs - mean) / np.where(deviation == 0, 1, deviation)
    scaled = data._replace(inputs=inputs.astype(np.float32))
    train, validation, test = (_take(scaled, rows) for rows in np.split(order, [half, last]))
    task = Task(name, network, loss, train, validation, test, batch_size, epochs, target)
    return check_task(task)


def _take(data: Data, rows: np.ndarray) -> Data:
    """Some examples; indexing on the device would compile."""
    taken: Data = jax.tree.map(lambda array: jnp.asarray(np.asarray(array)[rows]), data)
    return taken


def check_task(task: Any) -> Task:
    """Checks the fields of a task, and converts its data to arrays on the device."""
    checks.instance("each task", task, Task)
    if not isinstance(task.name, str) or not task.name:
        raise checks.InvalidValue(
            f"expected a task with a name. Received: {checks.describe(task.name)}"
        )
    with checks.about(f"task {task.name!r}"):
        check_network(task.network)
        checks.function("loss", task.loss)
        if task.target is not None:
            checks.number("target", task.target)
        parts = {name: getattr(task, name) for name in ("train", "validation", "test")}
        converted = {name: check_data(name, part) for name, part in parts.items()}
        for name, part in converted.items():
            check_values(name, part, parts[name])
        epochs, _ = check_steps(task.epochs, task.batch_size, converted["train"])
        return task._replace(epochs=epochs, **converted)


# The tasks that are shipped.


@checks.door
def standard_tasks() -> tuple[Task, ...]:
    """Seven tasks on data that come with scikit-learn and jaxnet.

    Digits, wines, breast cancer and fruit are classified; the course of diabetes is predicted;
    digits are compressed to eight numbers by an autoencoder; and digits are read by a network of
    step neurons, whose gradients are those of a straight-through estimator. The labels of wines and
    tumours are smoothed by 0.1. They are so easy to tell that without this, few and confident
    mistakes would decide the loss.

    Raises:
        ImportError: scikit-learn is not installed.

    >>> [task.name for task in standard_tasks()]
    ['digits', 'wine', 'breast cancer', 'diabetes', 'digits autoencoder', 'step neurons', 'fruit']
    """
    from sklearn import datasets

    images, digits = datasets.load_digits(return_X_y=True)
    patients, course = datasets.load_diabetes(return_X_y=True)
    course = (course - course.mean()) / course.std()
    step = straight_through(binary_step, tanh)
    smooth = functools.partial(softmax_cross_entropy, label_smoothing=0.1)
    return (
        make_task(
            "digits",
            mlp([64, 32, 10], activation=relu),
            softmax_cross_entropy,
            (images, digits),
            batch_size=64,
            epochs=10,
            target=0.2,
        ),
        make_task(
            "wine",
            mlp([13, 16, 3], activation=relu),
            smooth,
            datasets.load_wine(return_X_y=True),
            batch_size=16,
            epochs=15,
            target=0.4,
        ),
        make_task(
            "breast cancer",
            mlp([30, 16, 2], activation=relu),
            smooth,
            datasets.load_breast_cancer(return_X_y=True),
            batch_size=32,
            epochs=10,
            target=0.27,
        ),
        make_task(
            "diabetes",
            mlp([10, 16, 1], activation=relu),
            mean_squared_error,
            (patients, course[:, None]),
            batch_size=32,
            epochs=15,
            target=0.55,
        ),
        make_task(
            "digits autoencoder",
            mlp([64, 32, 8, 32, 64], activation=relu),
            mean_squared_error,
            (images, images / 16),
            batch_size=64,
            epochs=10,
            target=0.06,
        ),
        make_task(
            "step neurons",
            mlp([64, 64, 10], activation=step),
            softmax_cross_entropy,
            (images, digits),
            batch_size=64,
            epochs=10,
            target=0.3,
        ),
        make_task(
            "fruit",
            mlp([10, 16, 16, 3], activation=relu),
            softmax_cross_entropy,
            _read_fruit(),
            batch_size=32,
            epochs=10,
            target=0.2,
        ),
    )


def _read_fruit() -> tuple[np.ndarray, np.ndarray]:
    """Weight, colour, texture and size of 600 pieces of fruit, and their kind."""
    import pandas

    table = pandas.read_csv(Path(__file__).with_name("fruit.csv"))
    words = pandas.get_dummies(table[["colour", "texture", "size"]])
    inputs = np.column_stack([table["weight"], words]).astype(np.float32)
    return inputs, table["fruit"].astype("category").cat.codes.to_numpy(np.int32)
