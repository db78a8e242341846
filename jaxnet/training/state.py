"""The state of a run: everything that changes from step to step."""

import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree, UInt32

from jaxnet.core import checks, trees
from jaxnet.nn.network import Network, check_network
from jaxnet.training.batches import Batches, BlockBatches
from jaxnet.training.data import Data
from jaxnet.training.keys import parameters_key
from jaxnet.training.shuffle import hash_words


class Task(NamedTuple):
    """The data on which epochs are counted.

    Attributes:
        fingerprint: a hash of the data, the validation data and the batch size.
        start: the step at which training on them began.
    """

    fingerprint: UInt32[Array, ""]
    start: Int[Array, ""]


class BestSoFar(NamedTuple):
    """The parameters with the lowest validation cost so far, or the best value of a metric.

    Attributes:
        parameters: the network's.
        value: their validation cost, or what `EarlyStopping` monitors; before the first finite
            value the largest finite float32, or the smallest if larger values are better.
        epoch: the number of epochs after which they were found; 0 before the first finite value.
    """

    parameters: PyTree
    value: Float[Array, ""]
    epoch: Int[Array, ""]


class EarlyStopping(NamedTuple):
    """When a run stops, and which parameters are the best.

    After every epoch, the monitored value of the validation data is compared with the best one so
    far. It is an improvement if it is better by more than `min_delta`.

    Attributes:
        patience: the number of epochs without an improvement after which training stops, at least
            1; None if it does not stop.
        monitor: "cost", or the name of a metric.
        mode: "min" if smaller values are better, "max" if larger ones are.
        min_delta: at least 0, in the units of the monitored value.

    Reference: Prechelt, Early stopping - but when?, 1998. Keras and Lightning name the arguments
    in the same way.

    >>> EarlyStopping(10, "accuracy", "max").min_delta
    0.0
    """

    patience: int | None
    monitor: str = "cost"
    mode: str = "min"
    min_delta: float = 0.0

    @property
    def sign(self) -> int:
        """1 if smaller values are better, -1 if larger ones are."""
        return 1 if self.mode == "min" else -1


BEST_COST = EarlyStopping(None)
"""A run that does not stop early; the parameters with the lowest validation cost are the best."""


class TrainState(NamedTuple):
    """Everything that changes in training.

    Attributes:
        parameters: the network's.
        optimizer_state: the optimizer's.
        step: the number of steps made.
        best: the best parameters so far, if there is validation data.
        task: what epochs are counted on, if there is validation data.
    """

    parameters: PyTree
    optimizer_state: PyTree
    step: Int[Array, ""]
    best: BestSoFar | None = None
    task: Task | None = None


@checks.door
def initial_state(
    network: Network, optimizer: optax.GradientTransformation, *, key: Key[Array, ""]
) -> TrainState:
    """Draws the initial parameters: the state from which `train` and `fit` start with this key.

    Args:
        network: any `Network`.
        optimizer: jaxnet's or optax's.
        key: the key of the run. The parameters are drawn from a key that is folded from it, since
            the run also uses it for the order of the examples and for dropout.

    Raises:
        TypeError: an argument of the wrong type.

    >>> from jaxnet import gradient_descent, mlp
    >>> state = initial_state(mlp([2, 3]), gradient_descent(0.1), key=jax.random.key(0))
    >>> state.parameters[0].weights.shape, int(state.step)
    ((2, 3), 0)
    """
    check_network(network)
    checks.optimizer("optimizer", optimizer)
    checks.key(key)
    return make_state(network, optimizer, key)


def make_state(
    network: Network, optimizer: optax.GradientTransformation, key: Key[Array, ""]
) -> TrainState:
    """The same, for arguments that were checked."""
    parameters = network.init(parameters_key(key))
    return TrainState(parameters, optimizer.init(parameters), jnp.zeros((), jnp.int32))


def check_state(state: TrainState) -> None:
    """Checks the types of a state's parts."""
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
    checks.scalar("state.best.value", state.best.value)
    trees.same_tree(
        "state.best.parameters",
        state.best.parameters,
        "state.parameters",
        state.parameters,
    )


def count_epochs(state: TrainState, batches: Batches | BlockBatches) -> Int[Array, ""]:
    """The number of epochs on the current task."""
    made = state.step if state.task is None else state.step - state.task.start
    return jax.lax.div(made, jnp.full_like(made, batches.steps))


def start_task(
    state: TrainState,
    number: UInt32[Array, ""] | None,
    stopping: EarlyStopping = BEST_COST,
) -> TrainState:
    """The state at the start of a run on these data.

    The best parameters and the count of epochs are kept if they belong to the same data.

    Args:
        state: from which the run starts.
        number: the fingerprint of the data; None without validation data. Then there are no best
            parameters.
        stopping: which parameters are the best.
    """
    if number is None:
        return state._replace(best=None, task=None)
    step = jnp.asarray(state.step)
    worst = stopping.sign * np.finfo(np.float32).max  # not infinity, for jax_debug_infs
    best = BestSoFar(state.parameters, jnp.array(worst, jnp.float32), jnp.zeros((), jnp.int32))
    if state.task is None:
        return state._replace(best=best, task=Task(number, step))
    same = state.task.fingerprint == number
    if state.best is not None:
        best = jax.tree.map(lambda old, new: jnp.where(same, old, new), state.best, best)
    return state._replace(best=best, task=Task(number, jnp.where(same, state.task.start, step)))


def keep_best(
    state: TrainState, value: Float[Array, ""], epoch: Int[Array, ""], stopping: EarlyStopping
) -> TrainState:
    """The state with its parameters as the best ones, if the monitored value is an improvement."""
    assert state.best is not None
    now = BestSoFar(state.parameters, value.astype(state.best.value.dtype), epoch)
    first = (state.best.epoch == 0) & jnp.isfinite(now.value)
    limit = stopping.sign * state.best.value - np.float32(stopping.min_delta)
    better = first | (stopping.sign * now.value < limit)
    return state._replace(
        best=jax.tree.map(lambda new, old: jnp.where(better, new, old), now, state.best)
    )


def fingerprint(data: Data, validation: Data, batch_size: int | None) -> Any:
    """Hashes the data and the batch size; different data collide once in 2**32.

    Args:
        data, validation: arrays of JAX, or of NumPy to hash them on the host; weights of 1 are the
            same as none.
        batch_size: the number of examples per batch; None for the full batch.
    """
    xp = np if isinstance(data.inputs, np.ndarray) else jnp
    number = xp.full((), batch_size or 0, np.uint32)
    with np.errstate(over="ignore"):  # numbers are modulo 2**32
        for inputs, targets, weights in (data, validation):
            number = hash_words(number + np.uint32(len(inputs)))
            weights = xp.ones(len(inputs), np.float32) if weights is None else weights
            for array in (inputs, targets, weights):
                kind = repr((array.shape[1:], str(array.dtype)))
                number = hash_words(number + np.uint32(zlib.crc32(kind.encode())))
                number = hash_words(number + _hash_array(array))
    return number


def _hash_array(array: Any) -> Any:
    """Hashes the bits of an array and their positions, whatever the order of summation."""
    xp = np if isinstance(array, np.ndarray) else jnp
    if array.dtype.itemsize < 4:
        is_floating = jnp.issubdtype(array.dtype, jnp.floating)
        array = array.astype(np.float32 if is_floating else np.int32)
    words = array.ravel().view(np.uint32)
    places = xp.arange(len(words), dtype=np.uint32) * np.uint32(0x9E3779B9)
    return xp.sum(hash_words(words + places), dtype=np.uint32)
