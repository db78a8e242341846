"""One step of gradient descent on a batch."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import optax
from jaxtyping import Array, Float, Key, PyTree

from jaxnet.core import checks
from jaxnet.nn.losses import Loss
from jaxnet.nn.metrics import Metric
from jaxnet.nn.network import Network
from jaxnet.training.data import Data, DataLike, check_data
from jaxnet.training.keys import step_key
from jaxnet.training.objective import Objective, make_objective, scale_weights
from jaxnet.training.state import TrainState, check_state
from jaxnet.training.updates import compute_updates


@runtime_checkable
class Step(Protocol):
    """One step of training, a pure function that JAX can trace."""

    def __call__(
        self, state: TrainState, batch: DataLike, key: Key[Array, ""] | None = None, /
    ) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
        """Returns the next state, and the cost and the metrics before the update by name."""
        ...


@checks.door
def make_step(
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    metrics: Mapping[str, Metric] | None = None,
) -> Step:
    """Makes `step(state, batch, key=None) -> (state, metrics)`, for a custom training loop.

    The step descends along the gradient of the cost, the weighted mean of the batch's losses. Its
    second result holds the "cost" and the means of the metrics, computed before the update.

    Args:
        network: any `Network`.
        loss: `loss(outputs, targets) -> [batch]`, such as `softmax_cross_entropy`.
        optimizer: jaxnet's or optax's.
        metrics: functions of the form of the loss by name.

    Returns:
        A pure function, to be compiled with `jax.jit`. Its arguments are a `TrainState`, a batch
        `(inputs, targets)` or `(inputs, targets, weights)`, and a key. The key, the same one for
        all steps, is folded with the step's number for the noise in the network, such as dropout.
        Without a key there is no noise.

    Optimizers that need more than gradients get it by keyword, as in optax's own loops: the cost
    (`value`), its gradient (`grad`), and the cost and its gradient as functions of the parameters
    (`value_fn`, `obj_fn`, `grad_fn`), all on the same batch with the same weights and dropout. So
    `optax.lbfgs`, `optax.polyak_sgd`, line searches and `optax.contrib.reduce_on_plateau` work in a
    step, in `train`, in `fit` and in `sweep`. The cost is that of the batch, not of the validation
    data. Optimizers that evaluate the cost see all parameters, so they cannot be masked or
    partitioned. `optax.lookahead`, which moves pairs of parameters, raises a TypeError.

    Raises, when the step is traced:
        ValueError: the loss or a metric does not return one value per example; the updates do not
            have the parameters' shapes.
        TypeError: the optimizer needs something that a step does not have.

    >>> from jaxnet import gradient_descent, initial_state, mlp, squared_error
    >>> network, optimizer = mlp([1, 1]), gradient_descent(0.1)
    >>> state = initial_state(network, optimizer, key=jax.random.key(0))
    >>> step = jax.jit(make_step(network, squared_error, optimizer))
    >>> batch = jax.numpy.array([[0.0], [1.0]]), jax.numpy.array([[1.0], [3.0]])
    >>> for _ in range(300):
    ...     state, metrics = step(state, batch)
    >>> state.parameters[0].weights, state.parameters[0].biases
    (Array([[2.]], dtype=float32), Array([1.], dtype=float32))
    """
    checks.optimizer("optimizer", optimizer)
    return checks.bind("step", _step, make_objective(network, loss, metrics), optimizer)


def _step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: DataLike,
    key: Key[Array, ""] | None = None,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    check_state(state)
    if key is not None:
        checks.key(key)
    advance = make_inner_step(objective.cost, optimizer)
    return advance(state, scale_weights(check_data("batch", batch)), key)


def make_inner_step(
    cost: Callable[[PyTree, Data, Any], tuple[Array, dict[str, Array]]],
    optimizer: optax.GradientTransformation,
) -> Callable[..., tuple[TrainState, dict[str, Float[Array, ""]]]]:
    """Makes the step of `make_step` for checked arguments and scaled weights.

    Args:
        cost: `Objective.cost`.
        optimizer: jaxnet's or optax's.
    """

    def step(
        state: TrainState, batch: Data, noise_key: Key[Array, ""] | None
    ) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
        key = step_key(noise_key, state.step)
        gradients, metrics = jax.grad(cost, has_aux=True)(state.parameters, batch, key)

        def value_fn(parameters: PyTree) -> Array:
            again = None if key is None else jax.random.clone(key)  # the same noise, on purpose
            return cost(parameters, batch, again)[0]

        updates, optimizer_state = compute_updates(
            optimizer,
            gradients,
            state.optimizer_state,
            state.parameters,
            value=metrics["cost"],
            value_fn=value_fn,
        )
        parameters = optax.apply_updates(state.parameters, updates)
        after = TrainState(parameters, optimizer_state, state.step + 1, state.best, state.task)
        return after, metrics

    return step
