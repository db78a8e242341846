"""Training as one pure function: steps within epochs, both inside the compiled program.

`make_step` is one step of gradient descent on a batch, for loops of one's own, and `train` the
whole run. Both can be compiled with `jit`, run many times side by side with `vmap`, and
differentiated, for instance with respect to the learning rate.

Everything random is folded from one key: the order of epoch e and the noise of step t depend on
the key and on e and t alone, so a run that is stopped and resumed is the same run.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt32

from jaxnet.core import checks, tracing, trees
from jaxnet.nn.losses import Loss, plain_mean
from jaxnet.nn.metrics import Metric
from jaxnet.nn.network import Network, check_network
from jaxnet.training.data import Data, DataLike, check_data, check_steps
from jaxnet.training.evaluation import (
    EXAMPLES_AT_A_TIME,
    batch_means,
    check_measures,
    means_over,
    named_measures,
    total_weight,
    with_relative_weights,
)
from jaxnet.training.shuffle import hashed, shuffled
from jaxnet.training.updates import compute_updates


class Task(NamedTuple):
    """What epochs are counted on.

    Attributes:
        fingerprint: of the data, the validation data and the batch size.
        start: the step at which training on them began.
    """

    fingerprint: UInt32[Array, ""]
    start: Int[Array, ""]


class BestSoFar(NamedTuple):
    """The parameters of lowest validation cost so far, that cost, and how many epochs it took.

    Before the first finite cost the epoch is 0, and the cost is the largest finite float32.
    """

    parameters: PyTree
    cost: Float[Array, ""]
    epoch: Int[Array, ""]


class TrainState(NamedTuple):
    """All that changes in training; `best` and `task` only where there is validation."""

    parameters: PyTree
    optimizer_state: PyTree
    step: Int[Array, ""]
    best: BestSoFar | None = None
    task: Task | None = None


@checks.door
def initial_state(
    network: Network, optimizer: optax.GradientTransformation, *, key: Key[Array, ""]
) -> TrainState:
    """The state before the first step: parameters drawn from the key."""
    check_arguments(network, optimizer)
    checks.key(key)
    parameters = network.init(key)
    return TrainState(parameters, optimizer.init(parameters), jnp.zeros((), jnp.int32))


@checks.door
def make_step(
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    metrics: Mapping[str, Metric] | None = None,
) -> Callable[..., tuple[TrainState, dict[str, Float[Array, ""]]]]:
    """Makes `step(state, batch, key=None) -> (state, measures)`, for a loop of one's own.

    The step descends on the weighted mean of the batch's losses, the cost. `measures` are the cost
    and the means of the metrics, of the outputs before the update. The key, the same for all
    steps, is folded with the step's number for what is random in the network; without it nothing
    is.

    Optimizers that need more than gradients get it by name, as in optax's own loops: the cost
    (`value`), its gradient (`grad`), and the cost and its gradient as functions of the parameters
    (`value_fn`, `obj_fn`, `grad_fn`), all of the same batch, weights and dropout. So
    `optax.lbfgs`, `optax.polyak_sgd`, line searches and `optax.contrib.reduce_on_plateau` work
    here, in `train`, in `fit` and in `sweep`. The cost is that of a batch, not of the validation
    data. Those that evaluate it see all parameters, so they cannot be masked or partitioned.
    `optax.lookahead`, which moves pairs of parameters, is refused.

    Raises, when the step is traced:
        ValueError: the loss or a metric does not return one value per example; the updates are not
            shaped like the parameters.
        TypeError: an optimizer that needs what a step does not have.

    >>> from jaxnet import gradient_descent, mlp, squared_error
    >>> network, optimizer = mlp([1, 1]), gradient_descent(0.1)
    >>> state = initial_state(network, optimizer, key=jax.random.key(0))
    >>> step = jax.jit(make_step(network, squared_error, optimizer))
    >>> batch = Data(jnp.array([[0.0], [1.0]]), jnp.array([[1.0], [3.0]]))
    >>> for _ in range(300):
    ...     state, measures = step(state, batch)
    >>> state.parameters[0].weights, state.parameters[0].biases
    (Array([[2.]], dtype=float32), Array([1.], dtype=float32))
    """
    check_arguments(network, optimizer)
    advance = _make_plain_step(network, named_measures(loss, metrics), optimizer)

    def step(
        state: TrainState,
        batch: DataLike,
        key: Key[Array, ""] | None = None,
    ) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
        check_state(state)
        if key is not None:
            checks.key(key)
        return advance(state, with_relative_weights(check_data("batch", batch)), key)

    return checks.door(step)


def _make_plain_step(
    network: Network, named: Mapping[str, Metric], optimizer: optax.GradientTransformation
) -> Callable[..., tuple[TrainState, dict[str, Float[Array, ""]]]]:
    """The step of `make_step`, of arguments that have been checked and weights of a finite sum."""

    def cost(parameters: PyTree, batch: Data, key: Key[Array, ""] | None) -> Any:
        outputs = network.apply(parameters, batch.inputs, key=key)
        means = batch_means(named, outputs, batch)
        return means["cost"], means

    def step(
        state: TrainState, data: Data, key: Key[Array, ""] | None
    ) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
        noise = None if key is None else jax.random.fold_in(key, state.step)
        gradients, measures = jax.grad(cost, has_aux=True)(state.parameters, data, noise)

        def value_fn(parameters: PyTree) -> Array:
            again = None if noise is None else jax.random.clone(noise)  # the same, on purpose
            value: Array = cost(parameters, data, again)[0]
            return value

        updates, optimizer_state = compute_updates(
            optimizer,
            gradients,
            state.optimizer_state,
            state.parameters,
            value=measures["cost"],
            value_fn=value_fn,
        )
        parameters = optax.apply_updates(state.parameters, updates)
        after = TrainState(parameters, optimizer_state, state.step + 1, state.best, state.task)
        return after, measures

    return step


class Batches(NamedTuple):
    """How an epoch is cut into batches.

    Attributes:
        steps: how many there are.
        rows: `rows(epoch) -> (rows [steps, batch], real [steps, batch])`, the examples of each, and
            which of them are there only to fill up the last one.
        taken: `taken(rows, real) -> Data`, one batch.
        noise_key: of what is random in the network.
    """

    steps: int
    rows: Callable[[Int[Array, ""]], tuple[Int[Array, "steps batch"], Bool[Array, "steps batch"]]]
    taken: Callable[[Int[Array, " batch"], Bool[Array, " batch"]], Data]
    noise_key: Key[Array, ""]


def make_batches(data: Data, *, key: Key[Array, ""], batch_size: int | None) -> Batches:
    """The batches of every epoch of a run, whose arguments are those of `train`.

    Every example counts exactly once: the last batch is filled up with examples of weight 0 where
    the batch size does not divide their number.
    """
    examples = len(data.inputs)
    batch_size = batch_size or examples
    steps = -(-examples // batch_size)

    def rows(epoch: Int[Array, ""]) -> tuple[Array, Array]:
        order = shuffled(key, epoch, examples)
        filled = jnp.pad(order, (0, steps * batch_size - examples)).reshape(steps, batch_size)
        real = jnp.arange(steps * batch_size).reshape(steps, batch_size) < examples
        return filled, real

    def taken(rows: Int[Array, " batch"], real: Bool[Array, " batch"]) -> Data:
        batch: Data = jax.tree.map(lambda a: a[rows], data)
        if examples % batch_size == 0:
            return batch
        weights = jnp.ones(batch_size) if batch.weights is None else batch.weights
        return batch._replace(weights=jnp.where(real, weights, 0))

    return Batches(steps, rows, taken, jax.random.fold_in(key, 2))


def make_epoch(
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    data: Data,
    *,
    key: Key[Array, ""],
    batch_size: int | None,
    validation: Data | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> Callable[[TrainState], tuple[TrainState, dict[str, Float[Array, ""]]]]:
    """Makes `epoch(state) -> (state, measures)`, one pass over the data.

    The arguments are those of `train`, weights with a finite sum. With validation, `state.best`
    must be set, as `train` does.
    """
    batches = make_batches(data, key=key, batch_size=batch_size)
    named = named_measures(loss, metrics)
    step = _make_plain_step(network, named, optimizer)

    def one_step(state: TrainState, rows_and_real: Any) -> Any:
        batch = batches.taken(*rows_and_real)
        state, measures = step(state, batch, batches.noise_key)
        return state, (measures, total_weight(batch))

    def epoch(state: TrainState) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
        number = epochs_done(state, data, batch_size)
        if batches.steps == 1:
            state, measures = step(state, data, batches.noise_key)
        else:
            state, (means, weights) = jax.lax.scan(one_step, state, batches.rows(number))
            measures = {name: plain_mean(values, weights) for name, values in means.items()}
        if validation is not None:
            held_out = means_over(network, named, EXAMPLES_AT_A_TIME, state.parameters, validation)
            measures |= {f"validation_{name}": value for name, value in held_out.items()}
            state = _keep_best(state, held_out["cost"], number + 1)
        return state, measures

    return epoch


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
) -> tuple[TrainState, dict[str, Float[Array, " epochs"]]]:
    """A whole training run, one pure function to be compiled: `jax.jit(lambda key: train(...))`.

    Args:
        network: any `Network`.
        loss: `loss(outputs, targets) -> [batch]`, such as `softmax_cross_entropy`.
        optimizer: jaxnet's or optax's, also one that needs the cost, as `make_step` describes. Its
            state must keep its structure, shapes and dtypes from step to step.
        data: `(inputs, targets)` or `(inputs, targets, weights)`; inputs `[examples, ...]`, weights
            `[examples]`, not negative.
        key: of everything random: initial parameters, order of the examples, dropout.
        epochs: how many passes over the data to make, at least 1.
        batch_size: examples a step, at most all; `None` for all in every step, which is gradient
            descent without the stochastic.
        validation: further data, evaluated after every epoch; the parameters of lowest cost on it
            are kept in `state.best`.
        metrics: named functions of the form of the loss, averaged like it.
        state: where to go on from; by default the start. If `train` or `fit` made it on the same
            data and validation data, in batches of the same size, this run is that one continued:
            epochs are counted on, and the best so far stays until it is beaten. Otherwise the
            parameters, the optimizer's state and the step go on, and the best and the count of
            epochs begin anew.

    A best does not know its loss: to go on with another loss on the same data, give
    `state._replace(best=None)`.

    Returns:
        The state after the last epoch, and for every epoch the "cost", averaged over its steps as
        they were made, the metrics by their names and, with validation, "validation_cost" and
        so on.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.

    >>> from jaxnet import adam, mlp, squared_error
    >>> data = jnp.linspace(-1.0, 1.0, 64)[:, None], jnp.linspace(-1.0, 1.0, 64)[:, None] ** 2
    >>> network, sizes = mlp([1, 8, 1]), {"epochs": 99, "batch_size": 16}
    >>> @jax.jit
    ... def run(key, rate):
    ...     return train(network, squared_error, adam(rate), data, key=key, **sizes)
    >>> state, history = run(jax.random.key(0), 0.01)
    >>> bool(history["cost"][-1] < 0.01)
    True

    Many runs in one program:

    >>> keys, rates = jax.random.split(jax.random.key(0), 5), jnp.logspace(-3, -1, 5)
    >>> jax.vmap(run)(keys, rates)[1]["cost"].shape
    (5, 99)
    """
    check_arguments(network, optimizer, state)
    checks.key(key)
    checks.integer("epochs", epochs, 1)
    given, data = (data, validation), check_data("data", data)
    epochs, batch_size = check_steps(epochs, batch_size, data)
    if validation is not None:
        validation = check_data("validation", validation)
    measures = named_measures(loss, metrics)
    check_run(network, measures, optimizer, data, validation, key, state, given)
    if state is None:
        state = starting_state(network, optimizer, key)
    state = on_task(state, data, validation, batch_size)
    data = with_relative_weights(data)
    if validation is not None:
        validation = with_relative_weights(validation)
    epoch = make_epoch(
        network,
        loss,
        optimizer,
        data,
        key=key,
        batch_size=batch_size,
        validation=validation,
        metrics=metrics,
    )
    return jax.lax.scan(lambda state, _: epoch(state), state, length=epochs)


def check_arguments(
    network: Network,
    optimizer: optax.GradientTransformation,
    state: TrainState | None = None,
) -> None:
    """Arguments of the right type."""
    check_network(network)
    checks.optimizer("optimizer", optimizer)
    if state is not None:
        check_state(state)


def check_state(state: TrainState) -> None:
    """A state of arrays, whose parts are what training makes them."""
    checks.instance("state", state, TrainState)
    trees.arrays("state", state)
    checks.counter("state.step", state.step)
    if state.task is not None:
        checks.instance("state.task", state.task, Task)
        checks.counter("state.task.fingerprint", state.task.fingerprint)
        checks.counter("state.task.start", state.task.start)
    if state.best is None:
        return
    checks.instance("state.best", state.best, BestSoFar)
    checks.counter("state.best.epoch", state.best.epoch)
    checks.scalar("state.best.cost", state.best.cost)
    trees.same_tree(
        "state.best.parameters",
        state.best.parameters,
        "state.parameters",
        state.parameters,
    )


def check_run(
    network: Network,
    measures: Mapping[str, Metric],
    optimizer: optax.GradientTransformation,
    data: Data,
    validation: Data | None,
    key: Key[Array, ""],
    state: TrainState | None,
    given: tuple[Any, Any],
) -> None:
    """Traces the network, its measures and a step, and sees that the state is for them.

    What data and validation were when they were `given` is for error messages.
    """
    parameters = tracing.shapes(network.init, key) if state is None else state.parameters
    check_measures("data", network, measures, data, parameters, given[0])
    if validation is not None:
        check_measures("validation", network, measures, validation, parameters, given[1])
    optimizer_state = tracing.shapes(optimizer.init, parameters)
    if state is None:
        count: Any = jax.ShapeDtypeStruct((), jnp.int32)
        state = TrainState(parameters, optimizer_state, count)
    else:
        trees.same_tree(
            "leaves of state.optimizer_state",
            state.optimizer_state,
            "those of the optimizer",
            optimizer_state,
        )
    _check_step(make_step(network, measures["cost"], optimizer), state, data, key)


def _check_step(
    step: Callable[..., Any], state: TrainState, data: Data, key: Key[Array, ""]
) -> None:
    """Traces a step, and sees that another can follow: one program makes them all."""
    try:
        after, _ = tracing.shapes(step, state, data, key)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        first_lines = "\n".join(str(error).splitlines()[:3])
        raise kind(f"{first_lines.removeprefix('step: ')}") from error
    trees.same_tree(
        "leaves of the optimizer's state after a step",
        after.optimizer_state,
        "those before it",
        state.optimizer_state,
    )


def epochs_done(state: TrainState, data: Data, batch_size: int | None) -> Int[Array, ""]:
    """How many passes over that data, in batches of that size, the state has behind it."""
    examples = len(data.inputs)
    steps = -(-examples // (batch_size or examples))
    made = state.step if state.task is None else state.step - state.task.start
    return jax.lax.div(made, jnp.full_like(made, steps))


def starting_state(
    network: Network, optimizer: optax.GradientTransformation, key: Key[Array, ""]
) -> TrainState:
    """The initial state of a run with that key."""
    return initial_state(network, optimizer, key=jax.random.fold_in(key, 0))


def on_task(
    state: TrainState, data: Data, validation: Data | None, batch_size: int | None
) -> TrainState:
    """The state to start from, without what was measured on another task.

    Only a best and patience are measured on a task, so without validation there is none.
    """
    if validation is None:
        return state._replace(best=None, task=None)
    step = jnp.asarray(state.step)
    number = fingerprint(data, validation, batch_size)
    none_yet = jnp.array(np.finfo(np.float32).max, jnp.float32)  # not infinity, for jax_debug_infs
    best = BestSoFar(state.parameters, none_yet, jnp.zeros((), jnp.int32))
    if state.task is None:
        return state._replace(best=best, task=Task(number, step))
    same = state.task.fingerprint == number
    if state.best is not None:
        best = jax.tree.map(lambda old, new: jnp.where(same, old, new), state.best, best)
    return state._replace(best=best, task=Task(number, jnp.where(same, state.task.start, step)))


def fingerprint(data: Data, validation: Data, batch_size: int | None) -> UInt32[Array, ""]:
    """A number for the data and the batch size; other data have another, but for 1 in 2**32."""
    parts = [part for part in (*data, *validation) if part is not None]
    kinds = [(part.shape, str(part.dtype)) for part in parts]
    sizes = repr((kinds, data.weights is None, batch_size or len(data.inputs)))
    number = jnp.array(zlib.crc32(sizes.encode()), jnp.uint32)
    for part in parts:
        number = hashed(number + _digest(part))
    return number


def _digest(array: Array) -> UInt32[Array, ""]:
    """A number for the bits of an array and their order, whatever the order of summation."""
    if array.dtype.itemsize < 4:
        wide = jnp.float32 if jnp.issubdtype(array.dtype, jnp.floating) else jnp.int32
        array = array.astype(wide)
    words = array.ravel().view(jnp.uint32)
    places = jnp.arange(len(words), dtype=jnp.uint32) * np.uint32(0x9E3779B9)
    return jnp.sum(hashed(words + places), dtype=jnp.uint32)


def _keep_best(state: TrainState, cost: Float[Array, ""], epoch: Int[Array, ""]) -> TrainState:
    if state.best is None:
        raise checks.InvalidValue("expected a state with a best for validation. Received: None")
    now = BestSoFar(state.parameters, cost.astype(state.best.cost.dtype), epoch)
    first = (state.best.epoch == 0) & jnp.isfinite(now.cost)
    better = first | (now.cost < state.best.cost)
    return state._replace(
        best=jax.tree.map(lambda new, old: jnp.where(better, new, old), now, state.best)
    )
