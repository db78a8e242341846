"""The blocks of a stream in the order of its rows, for evaluation."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from jaxnet.streaming.ahead import read_ahead
from jaxnet.streaming.layout import make_layout
from jaxnet.streaming.reading import Block, Examples, read_block, read_sample
from jaxnet.streaming.stream import Stream
from jaxnet.streaming.targets import TargetCheck


def iterate(
    stream: Stream,
    name: str,
    check: Callable[[Examples], None],
) -> Iterator[Block]:
    """Yields the blocks of a stream in the order of its rows, one read ahead in a thread.

    All have the same size.

    Args:
        name: the name of the stream in error messages.
        check: is called with the first rows and with targets of other values.
    """
    sample = read_sample(stream, 1, name)
    check(sample)
    layout = make_layout(stream, sample.row_bytes, 1)
    check_targets = TargetCheck(check, stream.describe)

    def load(pieces: list[range], stop: threading.Event) -> Block:
        return read_block(stream, pieces, layout.size, sample, name, stop)

    with contextlib.closing(read_ahead(load, layout.in_order())) as blocks:
        for block in blocks:
            check_targets(block)
            yield block
