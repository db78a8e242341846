"""How rows are cut into pieces, and pieces are put together into blocks.

A piece is what is read at a time: consecutive rows of a file. A block is what is shuffled: pieces
from all over the file. Both are chosen so that the pieces are large enough to read well, the blocks
small enough for the memory, and the pieces of a block many enough for a good shuffle.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jaxnet.streaming.stream import Stream

_LEAST_PIECE, _MOST_PIECE = 2**14, 2**20  # bytes, unless the stream has a size of its own
WEAK = 1.25  # times the variance of a random batch


class Layout(NamedTuple):
    """The pieces and the blocks of an epoch.

    Attributes:
        rows: of the stream.
        piece: the number of rows in a piece; the last piece may have fewer.
        together: the number of pieces in a block; the last block may have fewer.
    """

    rows: int
    piece: int
    together: int

    @property
    def pieces(self) -> int:
        """The number of pieces, the last one included."""
        return -(-self.rows // self.piece)

    @property
    def blocks(self) -> int:
        """The number of blocks in an epoch."""
        return -(-self.pieces // self.together)

    @property
    def size(self) -> int:
        """The number of rows in a block."""
        return min(self.rows, self.piece * self.together)

    @property
    def last(self) -> int:
        """The number of rows in the last block."""
        return self.rows - (self.blocks - 1) * self.size

    def ranges(self, pieces: Iterable[int]) -> list[range]:
        """The rows of pieces."""
        return [range(i * self.piece, min((i + 1) * self.piece, self.rows)) for i in pieces]

    def in_order(self) -> Iterator[list[range]]:
        """The pieces of every block, in the order of the rows."""
        for start in range(0, self.pieces, self.together):
            yield self.ranges(range(start, min(start + self.together, self.pieces)))

    def steps(self, batch_size: int) -> int:
        """The number of steps in an epoch."""
        return (self.blocks - 1) * -(-self.size // batch_size) - (-self.last // batch_size)

    def variance(self, batch_size: int) -> float:
        """How much a batch of a sorted file varies, compared with a random one.

        Two rows of a batch come from one piece more often than two random rows do.
        """
        if self.blocks == 1 or self.piece == 1:
            return 1.0
        together = (self.piece - 1) / (self.size - 1) - (self.piece - 1) / (self.rows - 1)
        return 1 + (batch_size - 1) * together


def make_layout(stream: Stream, row_bytes: int, batch_size: int) -> Layout:
    """Chooses the sizes for batches of a size.

    A full block has a multiple of the batch size, if the pieces are small enough for that. Else
    every block ends with a short step.
    """
    most = max(stream.block_bytes // row_bytes, 1)
    piece = stream.piece
    if piece is None:
        best = most // max(_least_pieces(batch_size), 1)
        low, high = _LEAST_PIECE // row_bytes, _MOST_PIECE // row_bytes
        piece = _power_of_two(min(max(best, low, 1), max(high, 1)))
    piece = min(piece, stream.rows)
    together, multiple = max(most // piece, 1), batch_size // math.gcd(batch_size, piece)
    if together > multiple:
        together -= together % multiple
    return Layout(stream.rows, piece, min(together, -(-stream.rows // piece)))


def describe_weakness(layout: Layout, row_bytes: int, batch_size: int) -> str | None:
    """Says that the shuffle is weaker than `WEAK`, and what helps; None if it is not."""
    variance = layout.variance(batch_size)
    if variance <= WEAK:
        return None
    pieces = _least_pieces(batch_size)
    return (
        f"expected blocks of at least {pieces} pieces, to shuffle well for batches of "
        f"{batch_size}. Received: {layout.together} pieces of {layout.piece} rows, so the batches "
        f"of a sorted file vary {variance:.3g} times as much as random ones; a smaller piece= or "
        f"block_bytes={pieces * layout.piece * row_bytes} helps, or a file that was shuffled when "
        "it was written"
    )


def _least_pieces(batch_size: int) -> int:
    """The number of pieces in a block from which on the shuffle is good."""
    return math.ceil((batch_size - 1) / (WEAK - 1))


def _power_of_two(number: int) -> int:
    """The largest power of two that is not larger."""
    return 1 << (number.bit_length() - 1)
