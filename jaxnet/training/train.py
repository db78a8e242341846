"""A whole training run as one pure function.

The loops over steps and over epochs are inside the compiled program. `train` can be compiled with
`jit`, run many times in parallel with `vmap`, and differentiated, for instance with respect to the
learning rate.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax.extend.core import jaxpr_as_fun
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Key

from jaxnet.core import checks
from jaxnet.core.sharding import constrain, find_batch_sharding, place
from jaxnet.nn.losses import Loss, plain_mean
from jaxnet.nn.metrics import Metric
from jaxnet.nn.network import Network
from jaxnet.training.batches import Batches, BlockBatches, check_steps, make_span
from jaxnet.training.data import Data, DataLike, check_data
from jaxnet.training.evaluation import mean_over
from jaxnet.training.objective import (
    Objective,
    make_objective,
    scale_weights,
    total_weight,
)
from jaxnet.training.run_check import check_run
from jaxnet.training.state import (
    BEST_COST,
    EarlyStopping,
    TrainState,
    check_state,
    count_epochs,
    fingerprint,
    keep_best,
    make_state,
    start_task,
)
from jaxnet.training.step import make_inner_step


@checks.door
def train(
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    data: DataLike,
    *,
    key: Key[Array, ""],
    epochs: int,
    batch_size: int | None,
    validation: DataLike | None = None,
    metrics: Mapping[str, Metric] | None = None,
    state: TrainState | None = None,
    batch_sharding: NamedSharding | None = None,
) -> tuple[TrainState, dict[str, Float[Array, " epochs"]]]:
    """Trains a network, as one pure function to be compiled: `jax.jit(lambda key: train(...))`.

    Args:
        network: any `Network`.
        loss: `loss(outputs, targets) -> [batch]`, such as `softmax_cross_entropy`.
        optimizer: jaxnet's or optax's, also one that needs the cost; see `make_step`. Its state
            must keep its structure, shapes and dtypes from step to step.
        data: `(inputs, targets)` or `(inputs, targets, weights)`; inputs `[examples, ...]`, weights
            `[examples]`, non-negative.
        key: the source of all randomness: initial parameters, order of the examples, dropout.
        epochs: the number of passes over the data, at least 1.
        batch_size: the number of examples per step. `None`, or more than there are, is the full
            batch: deterministic gradient descent.
        validation: held-out data, evaluated after every epoch. The parameters with the lowest
            validation cost are kept in `state.best`.
        metrics: functions of the form of the loss by name, averaged like the loss.
        state: the state to continue from; by default `initial_state(network, optimizer, key=key)`.
            If the state comes from `train` or `fit` with the same data, validation data and batch
            size, this call continues that run: the count of epochs and the best parameters are
            kept. Otherwise training continues from the parameters, optimizer state and step, and
            the best parameters and the count of epochs start anew.
        batch_sharding: how the examples of a batch are divided among devices, such as
            `NamedSharding(mesh, PartitionSpec("batch"))`, on a mesh of Auto axes. See below.

    **Several devices.** With `batch_sharding`, each device computes the gradient of its share of a
    batch, and a step adds them up in one all-reduce. Data and state that are not placed on a device
    are copied to all of them. A state that is placed keeps its sharding, so that parameters and
    optimizer state can be divided too (FSDP). The result is that of one device, to rounding. The
    default is the sharding of data whose rows are on several devices. Under `jax.jit`, JAX does not
    tell where the data are: there, every device computes the whole batch without `batch_sharding`.

    The best parameters do not record which loss chose them. To continue on the same data with
    another loss, pass `state._replace(best=None)`.

    Returns:
        The state after the last epoch, and the history: for every epoch the "cost", averaged over
        the steps of the epoch, the metrics by their names and, with validation, "validation_cost"
        and so on.

    Raises:
        ValueError, TypeError: an invalid argument, before anything is compiled.

    >>> from jaxnet import adam, mlp, squared_error
    >>> inputs = jax.numpy.linspace(-1.0, 1.0, 64)[:, None]
    >>> data = inputs, inputs**2
    >>> network, sizes = mlp([1, 8, 1]), {"epochs": 99, "batch_size": 16}
    >>> @jax.jit
    ... def run(key, rate):
    ...     return train(network, squared_error, adam(rate), data, key=key, **sizes)
    >>> state, history = run(jax.random.key(0), 0.01)
    >>> bool(history["cost"][-1] < 0.01)
    True

    Many runs in one program:

    >>> keys, rates = jax.random.split(jax.random.key(0), 5), jax.numpy.logspace(-3, -1, 5)
    >>> jax.vmap(run)(keys, rates)[1]["cost"].shape
    (5, 99)
    """
    objective = make_objective(network, loss, metrics)
    checks.optimizer("optimizer", optimizer)
    if state is not None:
        check_state(state)
    checks.key(key)
    checks.integer("epochs", epochs, 1)
    given, data = (data, validation), check_data("data", data)
    epochs, batch_size = check_steps(epochs, batch_size, data)
    sharding = find_batch_sharding(batch_sharding, data)
    if validation is not None:
        validation = check_data("validation", validation)
    check_run(objective, optimizer, data, validation, key, state, given)
    data, validation = place("data", data, sharding), place("validation", validation, sharding)
    key, state = place("key", key, sharding), place("state", state, sharding)
    if state is None:
        state = make_state(network, optimizer, key)
    number = None if validation is None else fingerprint(data, validation, batch_size)
    state = start_task(state, number)
    data = scale_weights(data)
    if validation is not None:
        validation = scale_weights(validation)
    span = make_span(network, state.step, epochs)
    batches = Batches(data, key, batch_size, span=span, sharding=sharding)
    epoch = make_epoch(objective, optimizer, batches, validation)
    return jax.lax.scan(lambda state, _: epoch(state), state, length=epochs)


def make_epoch(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batches: Batches,
    validation: Data | None,
    stopping: EarlyStopping = BEST_COST,
) -> Callable[[TrainState], tuple[TrainState, dict[str, Float[Array, ""]]]]:
    """Makes `epoch(state) -> (state, metrics)`, one pass over the data.

    Weights must be scaled, and the state must be one of `start_task`.

    Args:
        objective, optimizer, batches: what is trained, how, and on what.
        validation: held-out data, or None.
        stopping: which parameters are the best.
    """
    step = make_batch_step(objective, optimizer, batches)

    def epoch(state: TrainState) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
        number = count_epochs(state, batches)
        if batches.batch_size is None:
            state, metrics = step(state, constrain(batches.data, batches.sharding))
        else:
            steps = None if batches.length is None else batches.steps
            state, metrics, _ = run_steps(step, batches, state, batches.rows(number), steps)
        if validation is not None:
            held_out = mean_over(
                objective.network,
                objective.functions(),
                state.parameters,
                validation,
                sharding=batches.sharding,
            )
            metrics |= {f"validation_{name}": value for name, value in held_out.items()}
            state = keep_best(state, held_out[stopping.monitor], number + 1, stopping)
        return state, metrics

    return epoch


def make_batch_step(
    objective: Objective, optimizer: optax.GradientTransformation, batches: Batches | BlockBatches
) -> Callable[[TrainState, Data], Any]:
    """Makes `step(state, batch) -> (state, metrics)` for the batches of a run."""
    noise_key = batches.noise_key

    def step(state: TrainState, batch: Data) -> Any:
        now = objective.at(batches.fraction(state.step))
        return make_inner_step(now.cost, optimizer)(state, batch, noise_key)

    return step


def run_steps(
    step: Callable[[TrainState, Data], Any],
    batches: Batches | BlockBatches,
    state: TrainState,
    rows_and_real: Any,
    steps: Any,
) -> tuple[TrainState, dict[str, Float[Array, ""]], Float[Array, ""]]:
    """Makes a step on each batch of rows.

    Args:
        step: of `make_batch_step`.
        batches, state: of the run.
        rows_and_real: `batches.rows`.
        steps: the number of batches that have real rows, traced; None for all of them.

    Returns:
        The state, the means of the metrics, and the weight of the examples.
    """

    def take_step(state: TrainState, rows_and_real: Any) -> Any:
        batch = batches.take(*rows_and_real)
        state, metrics = step(state, batch)
        return state, (metrics, total_weight(batch))

    state, (means, weights) = _scan(take_step, state, rows_and_real, steps)
    metrics = {name: plain_mean(values, weights) for name, values in means.items()}
    return state, metrics, jax.numpy.sum(weights)


def _scan(function: Any, carry: Any, rows: Any, length: Any) -> Any:
    """Computes `jax.lax.scan` over the first rows; zeros stand for the results of the others.

    Args:
        function, carry, rows: as for `jax.lax.scan`.
        length: the number of rows, traced; None for all of them.
    """
    if length is None:
        return jax.lax.scan(function, carry, rows)

    first = jax.tree.map(lambda array: array[0], rows)
    program, (_, types) = jax.make_jaxpr(function, return_shape=True)(carry, first)

    def body(i: Array, carry_and_results: Any) -> Any:
        carry, results = carry_and_results
        row = jax.tree.map(lambda array: array[i], rows)
        leaves = jaxpr_as_fun(program)(*jax.tree.leaves((carry, row)))
        carry, result = jax.tree.unflatten(jax.tree.structure((carry, types)), leaves)
        return carry, jax.tree.map(lambda all, one: all.at[i].set(one), results, result)

    most = len(jax.tree.leaves(rows)[0])
    results = jax.tree.map(lambda one: jax.numpy.zeros((most, *one.shape), one.dtype), types)
    return jax.lax.fori_loop(0, length, body, (carry, results))
