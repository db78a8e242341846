"""The blocks of every epoch of a run, in the order in which they are trained on."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Union

import numpy as np

from jaxnet.core import checks
from jaxnet.streaming.batch_stream import BatchStream
from jaxnet.streaming.layout import Layout, make_layout
from jaxnet.streaming.reading import (
    Block,
    Examples,
    check_values,
    convert,
    fill_block,
    read_block,
    read_rows,
    read_sample,
    same_types,
)
from jaxnet.streaming.stream import ReadError, Stream

Feed = Union["StreamFeed", "BatchFeed"]

Order = Callable[[int, int], np.ndarray]
"""`order(epoch, number)` returns the numbers from 0 to `number - 1` in the order of an epoch."""


class Place(NamedTuple):
    """A block of a run.

    Attributes:
        epoch: counting from 0.
        block: its number in the epoch.
        pieces: the rows of the stream in it.
    """

    epoch: int
    block: int
    pieces: Sequence[range]


class StreamFeed(NamedTuple):
    """The blocks of a `Stream`, which are shuffled on the device.

    Attributes:
        stream: any.
        layout: its pieces and blocks.
        sample: its first rows, as many as in a batch.
        order: of the pieces.
    """

    stream: Stream
    layout: Layout
    sample: Examples
    order: Order

    @property
    def is_shuffled(self) -> bool:
        """Whether the device shuffles the rows of a block."""
        return True

    @property
    def size(self) -> int:
        """The number of rows in a block."""
        return self.layout.size

    @property
    def blocks(self) -> int:
        """The number of blocks in an epoch."""
        return self.layout.blocks

    @property
    def batch_size(self) -> int:
        """The number of examples in a batch; no more than there are."""
        return len(self.sample.inputs)

    @property
    def steps(self) -> int:
        """The number of steps in an epoch."""
        return self.layout.steps(self.batch_size)

    def describe(self, piece: range) -> str:
        """Names the rows of a piece."""
        return self.stream.describe(piece)

    def places(self, epoch: int, block: int, epochs: int, _: Any = None) -> Iterator[Place]:
        """The blocks from one of them to the end of the last epoch.

        The pieces of a block are read in the order of the file. A last piece of fewer rows is in
        the last block, so that all epochs have as many steps.
        """
        layout = self.layout
        for number in range(epoch, epochs):
            order = self.order(number, layout.rows // layout.piece)
            if layout.rows % layout.piece:
                order = np.append(order, layout.pieces - 1)
            for i in range(block if number == epoch else 0, layout.blocks):
                chosen = np.sort(order[i * layout.together : (i + 1) * layout.together])
                yield Place(number, i, layout.ranges(chosen.tolist()))

    def load(self, place: Place, stop: threading.Event) -> Block:
        """Reads a block."""
        return read_block(self.stream, place.pieces, self.size, self.sample, "data", stop)

    def restore(self, position: Any) -> None:
        """A stream has no position of its own."""

    def identity(self) -> dict[str, Any]:
        """What decides the contents of the blocks, besides the key."""
        return {**self.layout._asdict(), **identify(self.stream)}


def make_stream_feed(stream: Stream, batch_size: int, order: Order) -> StreamFeed:
    """Reads the first rows of a stream, and cuts it into pieces and blocks."""
    sample = read_sample(stream, batch_size, "data")
    layout = make_layout(stream, sample.row_bytes, len(sample.inputs))
    return StreamFeed(stream, layout, sample, order)


def identify(stream: Stream) -> dict[str, Any]:
    """What tells whether a stream has the same rows: their number, some of them, and its files."""
    some = min(stream.rows, _COMPARED)
    ends = [range(some), range(stream.rows - some, stream.rows)]
    return {
        "rows": stream.rows,
        "ends": [read_rows(stream, rows, "data") for rows in ends],
        "files": [f"{version.name}, {version}" for version in stream.versions],
    }


_COMPARED = 16  # rows at either end


class BatchFeed(NamedTuple):
    """The batches of a `BatchStream`, several in a block, in the order of the iterator.

    Attributes:
        batches: any.
        together: the number of batches in a block.
        sample: the first batch.
        start: the position of the iterator before it.
    """

    batches: BatchStream
    together: int
    sample: Examples
    start: Any

    @property
    def is_shuffled(self) -> bool:
        """Whether the device shuffles the rows of a block."""
        return False

    @property
    def batch_size(self) -> int:
        """The number of examples in a batch; the last one of an epoch may have fewer."""
        return len(self.sample.inputs)

    @property
    def size(self) -> int:
        """The number of rows in a block."""
        return self.together * self.batch_size

    @property
    def blocks(self) -> int:
        """The number of blocks in an epoch."""
        return -(-self.batches.batches // self.together)

    @property
    def steps(self) -> int:
        """The number of steps in an epoch."""
        return self.batches.batches

    def describe(self, piece: range) -> str:
        """Names a batch by its rows in the epoch."""
        return f"batch {piece.start // self.batch_size}"

    def places(self, epoch: int, block: int, epochs: int, position: Any) -> Iterator[Place]:
        """The blocks from one of them, where the iterator has a position, to the last epoch's."""
        self.restore(position)
        for number in range(epoch, epochs):
            for i in range(block if number == epoch else 0, self.blocks):
                numbers = range(self.batches.batches)[i * self.together : (i + 1) * self.together]
                b = self.batch_size
                yield Place(number, i, [range(j * b, (j + 1) * b) for j in numbers])

    def load(self, place: Place, stop: threading.Event) -> Block:
        """Takes the batches of a block from the iterator."""

        def read() -> Iterator[tuple[range, Examples]]:
            for piece in place.pieces:
                if stop.is_set():
                    raise ReadError("the run has ended")
                where = f"{self.describe(piece)} of epoch {place.epoch + 1}"
                received = take_batch(self.batches, where)
                with checks.about(where):
                    examples = self._convert(received, piece)
                    same_types(self.sample, examples, "data")
                yield piece[: len(examples.inputs)], examples

        block = fill_block(read(), self.size, self.sample)
        check_values(block, "data", self.describe)
        return block._replace(position=self.batches.position())

    def _convert(self, received: Any, piece: range) -> Examples:
        """Converts a batch; the last one of an epoch may have fewer rows."""
        is_last = piece.stop == self.batches.batches * self.batch_size
        if is_last and isinstance(received, tuple) and received:
            rows = np.shape(received[0])[:1]
            piece = piece[: max(*rows, 1)] if rows else piece
        return convert(received, "data", len(piece))

    def restore(self, position: Any) -> None:
        """Sets the position of the iterator."""
        self.batches.iterator.set_state(position)

    def identity(self) -> dict[str, Any]:
        """What decides the contents of the blocks."""
        return {"batches": self.batches.batches, "start": self.start, "first batch": self.sample}


def make_batch_feed(batches: BatchStream, batch_size: int) -> BatchFeed:
    """Takes the first batch of an iterator, for its types, and puts the iterator back."""
    start = batches.position()
    received = take_batch(batches, "batch 0")
    with checks.about("batch 0"):
        sample = convert(received, "data", batch_size)
    batches.iterator.set_state(start)
    most = batches.block_bytes // (sample.row_bytes * batch_size)
    together = min(max(most, 1), batches.batches)
    return BatchFeed(batches, together, sample, start)


def take_batch(batches: BatchStream, where: str) -> Any:
    """Takes the next batch of an iterator."""
    try:
        return next(batches.iterator)
    except StopIteration:
        raise ReadError(
            f"expected an iterator that goes on until the last epoch. Received: its end, in place "
            f"of {where}; grain's .repeat() goes on"
        ) from None
    except Exception as error:
        raise ReadError(f"could not read {where}: {type(error).__name__}: {error}") from error
