"""The start of a run on a stream: its first rows are read, and the user's functions are traced."""

import functools
import json
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from jaxnet.core import checks
from jaxnet.core.console import warn
from jaxnet.core.outlines import outline
from jaxnet.core.sharding import place
from jaxnet.fitting.program import Plan
from jaxnet.fitting.stream_program import to_number
from jaxnet.fitting.stream_trainer import StreamTrainer, describe_data
from jaxnet.fitting.trainer import make_trainer
from jaxnet.streaming.batch_stream import BatchStream
from jaxnet.streaming.feeds import Feed, make_batch_feed, make_stream_feed
from jaxnet.streaming.layout import describe_weakness
from jaxnet.streaming.reading import Examples, read_sample
from jaxnet.streaming.stream import Stream
from jaxnet.training.data import Data
from jaxnet.training.keys import pieces_key
from jaxnet.training.objective import scale_weights
from jaxnet.training.shuffle import shuffle
from jaxnet.training.state import TrainState


def make_stream_trainer(
    plan: Plan,
    data: Stream | BatchStream,
    validation: Data | Stream | None,
    key: Key[Array, ""],
    state: TrainState | None,
    epochs: int,
    given: Any,
) -> StreamTrainer:
    """Reads some rows of the stream, and traces what a run calls of the user's functions.

    Args:
        plan, data, validation, key, state, epochs: the parts of a run.
        given: the validation data as the caller passed them, for error messages.
    """
    feed = _make_feed(data, key, plan.batch_size)
    plan = plan._replace(batch_size=len(feed.sample.inputs))
    checks.integer("epochs", epochs, 1, (2**31 - 1) // feed.steps)
    sample = place("data", _to_data(feed.sample), plan.batch_sharding)
    held_out: Any = validation
    if isinstance(validation, Stream):
        given = held_out = _to_data(read_sample(validation, 1, "validation"))
    inner = make_trainer(plan, sample, held_out, key, state, epochs, (sample, given))
    if validation is not None:
        values = [outline(describe_data(feed, validation)), plan.batch_size]
        number = to_number(zlib.crc32(json.dumps(values).encode()), np.uint32)
        inner = inner._replace(arrays=inner.arrays._replace(fingerprint=number))
    if isinstance(validation, Data):
        validation = scale_weights(validation)
    return StreamTrainer(inner, feed, validation, epochs)


def _make_feed(data: Stream | BatchStream, key: Key[Array, ""], batch_size: Any) -> Feed:
    """The blocks of a stream; warns if they are too small for a good shuffle."""
    if isinstance(data, BatchStream):
        return make_batch_feed(data, batch_size)

    def order(epoch: int, number: int) -> Int[np.ndarray, " pieces"]:
        return np.asarray(_order(key, to_number(epoch, np.int32), number))

    feed = make_stream_feed(data, batch_size, order)
    weakness = describe_weakness(feed.layout, feed.sample.row_bytes, feed.batch_size)
    if weakness is not None:
        warn(f"fit: {weakness}")
    return feed


@functools.partial(jax.jit, static_argnums=2)
def _order(key: Key[Array, ""], epoch: Int[Array, ""], pieces: int) -> Int[Array, " pieces"]:
    """The order of a stream's pieces in an epoch."""
    return shuffle(pieces_key(key), epoch, pieces)


def _to_data(examples: Examples) -> Data:
    return Data._make(part if part is None else jnp.asarray(part) for part in examples)
