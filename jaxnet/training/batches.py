"""How an epoch is cut into batches.

Every example counts exactly once in an epoch. A last, partial batch is padded with examples of
weight 0, so that all steps run the same program. All data may be padded in the same way, so that
runs on almost as many examples do.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnet.core import checks
from jaxnet.core.sharding import constrain
from jaxnet.nn.network import Network
from jaxnet.training.data import Data, take_rows
from jaxnet.training.keys import block_key, noise_key
from jaxnet.training.shuffle import shuffle

Count = int | Int[Array, ""]


def count_steps(examples: Count, batch_size: int | None) -> Count:
    """The number of steps in an epoch."""
    return 1 if batch_size is None else -(-examples // batch_size)


def check_steps(epochs: int, batch_size: int | None, data: Data) -> tuple[int, int | None]:
    """Checks the number of epochs and the batch size, and returns them as Python integers.

    A batch has at least one example. One that holds all examples is the full batch, `None`. The
    number of steps fits into an int32.
    """
    examples = len(data.inputs)
    if batch_size is not None:
        batch_size = checks.integer("batch_size", batch_size, 1)
        batch_size = None if batch_size >= examples else batch_size
    most = (2**31 - 1) // int(count_steps(examples, batch_size))
    return checks.integer("epochs", epochs, 1, most), batch_size


class Span(NamedTuple):
    """The training of a network that depends on how much of it is done.

    Attributes:
        start: the number of steps made before.
        epochs: in all.
    """

    start: Int[Array, "..."]
    epochs: Int[Array, ""]

    def fraction(self, step: ArrayLike, steps: ArrayLike) -> Float[Array, ""]:
        """The fraction that is done before a step, with so many steps in an epoch."""
        return jnp.float32(step - self.start) / (jnp.float32(self.epochs) * jnp.float32(steps))


def make_span(network: Network, step: ArrayLike, epochs: int) -> Span | None:
    """The training from a step on; None if the network does not depend on it."""
    if network.at is None:
        return None
    return Span(jnp.asarray(step), jnp.asarray(epochs, jnp.int32))


class Batches(NamedTuple):
    """The batches of every epoch of a run.

    Attributes:
        data: all examples.
        key: the key of the run.
        batch_size: the number of examples per batch; `None` for the full batch.
        length: the number of examples, if rows of padding follow after them; None if not.
        span: of the training, if the network depends on it.
        sharding: how a batch is divided among devices; None if it is not.
    """

    data: Data
    key: Key[Array, ""]
    batch_size: int | None
    length: Int[Array, ""] | None = None
    span: Span | None = None
    sharding: NamedSharding | None = None

    @property
    def examples(self) -> Count:
        """The number of examples, without padding."""
        return len(self.data.inputs) if self.length is None else self.length

    @property
    def steps(self) -> Count:
        """The number of batches in an epoch."""
        return count_steps(self.examples, self.batch_size)

    def fraction(self, step: ArrayLike) -> Float[Array, ""] | None:
        """The fraction of the training that is done before a step; None if nothing needs it."""
        return None if self.span is None else self.span.fraction(step, self.steps)

    @property
    def noise_key(self) -> Key[Array, ""]:
        """The key of the network's noise."""
        return noise_key(self.key)

    def rows(
        self, epoch: Int[Array, ""]
    ) -> tuple[Int[Array, "steps batch"], Bool[Array, "steps batch"]]:
        """The rows of each batch of an epoch, and a mask that is False for padding.

        A full batch is not shuffled. Batches after the last step are all padding.
        """
        rows = len(self.data.inputs)
        if self.batch_size is None:
            places = jnp.arange(rows, dtype=jnp.int32)[None]
            return places, places < self.examples
        steps = int(count_steps(rows, self.batch_size))
        order = shuffle(self.key, epoch, self.examples, rows)
        padded = jnp.pad(order, (0, steps * self.batch_size - rows)).reshape(steps, -1)
        places = jnp.arange(steps * self.batch_size, dtype=jnp.int32).reshape(steps, -1)
        return constrain((padded, places < self.examples), self.sharding, axis=1)

    def take(self, rows: Int[Array, " batch"], real: Bool[Array, " batch"]) -> Data:
        """The batch of those rows, with weight 0 for padding."""
        if self.batch_size is None:
            return constrain(self.data, self.sharding)
        batch: Data = take_rows(self.data, rows, self.sharding)
        if self.length is None and len(self.data.inputs) % self.batch_size == 0:
            return batch
        weights = jnp.ones(self.batch_size) if batch.weights is None else batch.weights
        return batch._replace(weights=jnp.where(real, weights, 0))

    def first(self) -> Data:
        """A batch of the shapes of a step's, without shuffling."""
        rows = jnp.arange(self.batch_size or len(self.data.inputs), dtype=jnp.int32)
        return self.take(rows, rows >= 0)


class BlockBatches(NamedTuple):
    """The batches of a block of a stream, in one epoch of a run.

    Attributes:
        inner: the block as all examples there are, padding after them.
        epoch: its number.
        block: the number of the block in the epoch.
        steps: the number of batches in the whole epoch.
        is_shuffled: whether the rows of the block are shuffled.
    """

    inner: Batches
    epoch: Int[Array, ""]
    block: Int[Array, ""]
    steps: Int[Array, ""]
    is_shuffled: Bool[Array, ""]

    @property
    def examples(self) -> Count:
        """The number of examples in the block."""
        return self.inner.examples

    @property
    def noise_key(self) -> Key[Array, ""]:
        """The key of the network's noise."""
        return self.inner.noise_key

    def fraction(self, step: ArrayLike) -> Float[Array, ""] | None:
        """The fraction of the training that is done before a step; None if nothing needs it."""
        span = self.inner.span
        return None if span is None else span.fraction(step, self.steps)

    def rows(
        self, _: Int[Array, ""] | None = None
    ) -> tuple[Int[Array, "steps batch"], Bool[Array, "steps batch"]]:
        """The rows of each batch of the block, and a mask that is False for padding."""
        size, batch_size = len(self.inner.data.inputs), self.inner.batch_size
        assert batch_size is not None
        steps = -(-size // batch_size)
        places = jnp.arange(steps * batch_size, dtype=jnp.int32)
        order = shuffle(block_key(self.inner.key, self.block), self.epoch, size)
        order = _put_first(order, order < self.examples)
        order = jnp.where(self.is_shuffled, order, places[:size])
        padded = jnp.pad(order, (0, len(places) - size)).reshape(steps, -1)
        real = (places < self.examples).reshape(steps, -1)
        return constrain((padded, real), self.inner.sharding, axis=1)

    def take(self, rows: Int[Array, " batch"], real: Bool[Array, " batch"]) -> Data:
        """The batch of those rows, with weight 0 for padding."""
        return self.inner.take(rows, real)


def _put_first(order: Int[Array, " size"], is_real: Bool[Array, " size"]) -> Int[Array, " size"]:
    """The real rows of an order, followed by zeros."""
    places = jnp.where(is_real, jnp.cumsum(is_real) - 1, len(order))
    return jnp.zeros_like(order).at[places].set(order, mode="drop")
