"""The objective of a run: what a network's parameters are trained to minimize."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key, PyTree

from jaxnet.core import arrays, checks, dtypes, tracing
from jaxnet.nn.losses import Loss, plain_mean, relative_weights
from jaxnet.nn.metrics import Metric
from jaxnet.nn.network import Network, check_network
from jaxnet.nn.precision import widen
from jaxnet.streaming.reading import Examples
from jaxnet.training.data import Data


class Objective(NamedTuple):
    """A network, the loss of its outputs, and metrics that are reported along with it.

    The cost is the weighted mean of the losses of a batch:
    `sum(weights * loss(network.apply(parameters, inputs), targets)) / sum(weights)`.
    """

    network: Network
    loss: Loss
    metrics: dict[str, Metric]

    def at(self, fraction: ArrayLike | None) -> "Objective":
        """The objective at a fraction of the training, if the network depends on it."""
        if self.network.at is None or fraction is None:
            return self
        return self._replace(network=self.network.at(fraction))

    def functions(self) -> dict[str, Metric]:
        """The loss, as "cost", and the metrics."""
        return {"cost": self.loss, **self.metrics}

    def cost(
        self, parameters: PyTree, batch: Data, key: Key[Array, ""] | None
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The cost of a batch, and the means of the loss and the metrics by name."""
        outputs = self.network.apply(parameters, batch.inputs, key=key)
        means = weighted_means(self.functions(), outputs, batch)
        return means["cost"], means


def make_objective(
    network: Network, loss: Loss, metrics: Mapping[str, Metric] | None = None
) -> Objective:
    """Checks the parts of an objective; the names "cost" and "validation_..." are reserved."""
    check_network(network)
    checks.function("loss", loss)
    metrics = {} if metrics is None else metrics
    check_metrics(metrics)
    for name in metrics:
        if name == "cost" or name.startswith("validation_"):
            raise checks.InvalidValue(
                "expected metrics with names other than 'cost' and 'validation_...', which are "
                f"reserved. Received: {name!r}"
            )
    return Objective(network, loss, dict(metrics))


def check_metrics(metrics: Mapping[str, Metric]) -> None:
    """Checks that metrics are a mapping from names to functions."""
    if isinstance(metrics, Mapping) and all(
        isinstance(name, str) and callable(metric) for name, metric in metrics.items()
    ):
        return
    raise checks.InvalidType(
        "expected metrics as names and functions, such as {'accuracy': jaxnet.accuracy}. "
        f"Received: {checks.describe(metrics)}"
    )


def weighted_means(
    functions: Mapping[str, Metric], outputs: Array, batch: Data
) -> dict[str, Array]:
    """The weighted mean of every function, which returns one value per example."""
    values = {name: _evaluate(name, f, outputs, batch.targets) for name, f in functions.items()}
    return {name: plain_mean(each, batch.weights) for name, each in values.items()}


def total_weight(batch: Data) -> Float[Array, ""]:
    """The weight of a batch's means among those of all batches."""
    if batch.weights is None:
        return jnp.array(len(batch.inputs), jnp.float32)
    return jnp.sum(batch.weights)


def scale_weights(data: Data) -> Data:
    """Scales weights by a power of two, so that the sum of any number of them is finite.

    Concrete float32 weights whose largest lies between 2**-20 and 2**20 stay as they are.
    """
    weights = data.weights
    if weights is None:
        return data
    if dtypes.is_concrete(weights) and jnp.issubdtype(weights.dtype, jnp.float32):
        if 2.0**-20 <= np.asarray(weights).max() <= 2.0**20:
            return data
    elif not jnp.issubdtype(weights.dtype, jnp.floating):
        weights = weights.astype(jnp.float32)
    scaled = relative_weights(widen(weights))
    # Without the barrier XLA would compile the scaling into the sums, and add in another order.
    return data._replace(weights=jax.lax.optimization_barrier(scaled))


def _evaluate(name: str, function: Metric, outputs: Array, targets: Array) -> Array:
    with checks.about(name):
        values = arrays.floating("values", function(outputs, targets))
        if values.shape != targets.shape[:1]:
            raise checks.InvalidValue(
                f"expected one value per example, [{len(targets)}]. Received: {list(values.shape)}"
            )
    return values


# Checks that trace the functions of the user.


def check_means(
    network: Network,
    functions: Mapping[str, Metric],
    parameters: PyTree,
    data: Data,
    subject: str,
    given: Any,
) -> None:
    """Traces a network and functions of its outputs on data, before anything is compiled.

    Args:
        subject: the name of the data in error messages.
        given: the data as the caller passed it, for error messages about the type of labels.
    """
    with blame(subject, data, given):
        outputs = tracing.shapes(network.apply, parameters, data.inputs)
        check_outputs(functions, outputs, data)


def check_examples(
    network: Network,
    functions: Mapping[str, Metric],
    parameters: PyTree,
    examples: Examples,
    name: str,
) -> None:
    """Traces a network and functions of its outputs on examples of a stream."""
    inputs: Any = jax.ShapeDtypeStruct(examples.inputs.shape, examples.inputs.dtype)
    data = Data(inputs, jnp.asarray(examples.targets))
    check_means(network, functions, parameters, data, name, data)


def check_outputs(functions: Mapping[str, Metric], outputs: Any, data: Data) -> None:
    """Traces functions of abstract outputs and the targets, whose values may be concrete."""
    for name, function in functions.items():
        tracing.shapes(functools.partial(_evaluate, name, function, targets=data.targets), outputs)


@contextlib.contextmanager
def blame(subject: str, data: Data, given: Any) -> Iterator[None]:
    """Rewords an error of the network or a loss as one about the data.

    Only the first line of the message is kept. Where labels were expected, it says what the caller
    passed instead of what that was converted to.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = checks.InvalidType if isinstance(error, TypeError) else checks.InvalidValue
        message = str(error).partition("\n")[0]
        no_labels = f"integer labels. Received: {arrays.describe_numbers(data.targets)}"
        if message.endswith(no_labels):
            message = message.removesuffix(no_labels)
            message += f"integer labels. Received: {arrays.describe_numbers(given[1])}"
        raise kind(f"{subject}: {message}") from error
