"""The state of a run: everything that changes from step to step."""

import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree, UInt32

from jaxnet.core import checks, trees
from jaxnet.nn.network import Network, check_network
from jaxnet.training.batches import count_steps
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
    """The parameters with the lowest validation cost so far.

    Attributes:
        parameters: the network's.
        cost: their validation cost; the largest finite float32 before the first finite cost.
        epoch: the number of epochs after which they were found; 0 before the first finite cost.
    """

    parameters: PyTree
    cost: Float[Array, ""]
    epoch: Int[Array, ""]


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
    checks.scalar("state.best.cost", state.best.cost)
    trees.same_tree(
        "state.best.parameters",
        state.best.parameters,
        "state.parameters",
        state.parameters,
    )


def count_epochs(state: TrainState, examples: int, batch_size: int | None) -> Int[Array, ""]:
    """The number of epochs on the current task."""
    made = state.step if state.task is None else state.step - state.task.start
    return jax.lax.div(made, jnp.full_like(made, count_steps(examples, batch_size)))


def start_task(
    state: TrainState, data: Data, validation: Data | None, batch_size: int | None
) -> TrainState:
    """The state at the start of a run on these data.

    The best parameters and the count of epochs are kept if they belong to the same data. Without
    validation there are none.
    """
    if validation is None:
        return state._replace(best=None, task=None)
    step = jnp.asarray(state.step)
    number = fingerprint(data, validation, batch_size)
    largest = jnp.array(np.finfo(np.float32).max, jnp.float32)  # not infinity, for jax_debug_infs
    best = BestSoFar(state.parameters, largest, jnp.zeros((), jnp.int32))
    if state.task is None:
        return state._replace(best=best, task=Task(number, step))
    same = state.task.fingerprint == number
    if state.best is not None:
        best = jax.tree.map(lambda old, new: jnp.where(same, old, new), state.best, best)
    return state._replace(best=best, task=Task(number, jnp.where(same, state.task.start, step)))


def keep_best(state: TrainState, cost: Float[Array, ""], epoch: Int[Array, ""]) -> TrainState:
    """The state with its parameters as the best ones, if their validation cost is the lowest."""
    assert state.best is not None
    now = BestSoFar(state.parameters, cost.astype(state.best.cost.dtype), epoch)
    first = (state.best.epoch == 0) & jnp.isfinite(now.cost)
    better = first | (now.cost < state.best.cost)
    return state._replace(
        best=jax.tree.map(lambda new, old: jnp.where(better, new, old), now, state.best)
    )


def fingerprint(data: Data, validation: Data, batch_size: int | None) -> UInt32[Array, ""]:
    """Hashes the data and the batch size; different data collide once in 2**32."""
    parts = [part for part in (*data, *validation) if part is not None]
    kinds = [(part.shape, str(part.dtype)) for part in parts]
    sizes = repr((kinds, data.weights is None, batch_size or len(data.inputs)))
    number = jnp.array(zlib.crc32(sizes.encode()), jnp.uint32)
    for part in parts:
        number = hash_words(number + _hash_array(part))
    return number


def _hash_array(array: Array) -> UInt32[Array, ""]:
    """Hashes the bits of an array and their positions, whatever the order of summation."""
    if array.dtype.itemsize < 4:
        wide = jnp.float32 if jnp.issubdtype(array.dtype, jnp.floating) else jnp.int32
        array = array.astype(wide)
    words = array.ravel().view(jnp.uint32)
    places = jnp.arange(len(words), dtype=jnp.uint32) * np.uint32(0x9E3779B9)
    return jnp.sum(hash_words(words + places), dtype=jnp.uint32)
