"""How an epoch is cut into batches.

Every example counts exactly once in an epoch. A last, partial batch is padded with examples of
weight 0, so that all steps run the same program.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from jaxnet.core import checks
from jaxnet.training.data import Data
from jaxnet.training.keys import noise_key
from jaxnet.training.shuffle import shuffle


def count_steps(examples: int, batch_size: int | None) -> int:
    """The number of steps in an epoch."""
    return -(-examples // (batch_size or examples))


def check_steps(epochs: int, batch_size: int | None, data: Data) -> tuple[int, int | None]:
    """Checks the number of epochs and the batch size, and returns them as Python integers.

    A batch has at least one example and at most all. The number of steps fits into an int32.
    """
    examples = len(data.inputs)
    if batch_size is not None:
        batch_size = checks.integer("batch_size", batch_size, 1, examples)
    most = (2**31 - 1) // count_steps(examples, batch_size)
    return checks.integer("epochs", epochs, 1, most), batch_size


class Batches(NamedTuple):
    """The batches of every epoch of a run.

    Attributes:
        data: all examples.
        key: the key of the run.
        batch_size: the number of examples per batch; `None` for the full batch.
    """

    data: Data
    key: Key[Array, ""]
    batch_size: int | None

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        return count_steps(len(self.data.inputs), self.batch_size)

    @property
    def noise_key(self) -> Key[Array, ""]:
        """The key of the network's noise."""
        return noise_key(self.key)

    def rows(
        self, epoch: Int[Array, ""]
    ) -> tuple[Int[Array, "steps batch"], Bool[Array, "steps batch"]]:
        """The rows of each batch of an epoch, and a mask that is False for padding.

        A full batch is not shuffled.
        """
        examples, steps = len(self.data.inputs), self.steps
        if steps == 1:
            return jnp.arange(examples)[None], jnp.ones((1, examples), bool)
        order = shuffle(self.key, epoch, examples)
        padded = jnp.pad(order, (0, steps * self._size - examples)).reshape(steps, self._size)
        real = jnp.arange(steps * self._size).reshape(steps, self._size) < examples
        return padded, real

    def take(self, rows: Int[Array, " batch"], real: Bool[Array, " batch"]) -> Data:
        """The batch of those rows, with weight 0 for padding."""
        if self.steps == 1:
            return self.data
        batch: Data = jax.tree.map(lambda array: array[rows], self.data)
        if len(self.data.inputs) % self._size == 0:
            return batch
        weights = jnp.ones(self._size) if batch.weights is None else batch.weights
        return batch._replace(weights=jnp.where(real, weights, 0))

    def first(self) -> Data:
        """A batch of the shapes of a step's, without shuffling."""
        rows = jnp.arange(self._size, dtype=jnp.int32)
        return self.take(rows, rows >= 0)

    @property
    def _size(self) -> int:
        return self.batch_size or len(self.data.inputs)
