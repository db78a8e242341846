"""The compiled programs of a run on a stream: the steps on a block, and the end of an epoch."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnet.fitting.program import Plan
from jaxnet.training.batches import Batches, BlockBatches, Span
from jaxnet.training.data import Data
from jaxnet.training.state import EarlyStopping, TrainState, keep_best
from jaxnet.training.train import make_batch_step, run_steps


class BlockArrays(NamedTuple):
    """The arrays that the steps on a block read.

    Attributes:
        data: the examples, and rows that fill up the block.
        rows: the number of examples.
        epoch: its number.
        block: the number of the block in the epoch.
        steps: the number of batches in the whole epoch.
        is_shuffled: whether the rows of the block are shuffled.
        key: the key of the run.
        span: of the training, if the network depends on it.
    """

    data: Data
    rows: Int[Array, ""]
    epoch: Int[Array, ""]
    block: Int[Array, ""]
    steps: Int[Array, ""]
    is_shuffled: Bool[Array, ""]
    key: Key[Array, ""]
    span: Span | None

    def batches(self, plan: Plan) -> BlockBatches:
        """The batches of the block."""
        data, size, sharding = self.data, plan.batch_size, plan.batch_sharding
        inner = Batches(data, self.key, size, self.rows, self.span, sharding)
        return BlockBatches(inner, self.epoch, self.block, self.steps, self.is_shuffled)


class Place(NamedTuple):
    """How far a run is.

    Attributes:
        epochs: the number of whole epochs that it has made.
        blocks: the number of blocks of the next epoch that it has made.
        sums: the weight of the examples of that epoch, and the weighted sums of the metrics.
        position: of the iterator, for a `BatchStream`.
    """

    epochs: int
    blocks: int
    sums: Float[np.ndarray, " sums"]
    position: Any

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint holds in its metadata."""
        sums = [float(value).hex() for value in self.sums]
        return {"blocks": self.blocks, "sums": sums, "position": self.position}


class StreamRun(NamedTuple):
    """A run between two blocks.

    Attributes:
        state: after the last block.
        place: how far it is.
        has_ended: whether patience is exhausted.
    """

    state: TrainState
    place: Place
    has_ended: bool


def train_block(
    plan: Plan, state: TrainState, arrays: BlockArrays
) -> tuple[TrainState, Float[Array, " metrics"], Float[Array, ""]]:
    """Makes the steps of a block.

    Returns:
        The state, the means of the cost and the metrics over the block, and its weight.
    """
    batches = arrays.batches(plan)
    step = make_batch_step(plan.objective, plan.optimizer, batches)
    state, metrics, weight = run_steps(step, batches, state, batches.rows(), batches.inner.steps)
    names = plan.objective.functions()
    return state, jnp.stack([metrics[name].astype(jnp.float32) for name in names]), weight


def keep_better(
    stopping: EarlyStopping, state: TrainState, value: Float[Array, ""], epoch: Int[Array, ""]
) -> Any:
    """The state after an epoch, with the best parameters so far."""
    return keep_best(state, value, epoch, stopping)


def to_number(value: int, dtype: type[np.generic]) -> Any:
    """An array of NumPy, which counts as placed wherever the run is."""
    return np.array(value, dtype)
