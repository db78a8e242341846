"""What was read of a stream: converted as in `fit`, checked, and copied into a block."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnet.core import arrays, checks
from jaxnet.core.finite import first_index, first_nonfinite
from jaxnet.streaming.stream import ReadError, Stream

HEAVIEST = 2.0**20  # weight, so that the sum of any number of them is finite


class Examples(NamedTuple):
    """Rows that were read: float32 inputs, targets and weights; int32 labels."""

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None

    def types(self) -> list[Any]:
        """The dtype and the shape of a row of each part."""
        return [None if part is None else (part.dtype, part.shape[1:]) for part in self]

    def describe(self) -> str:
        """Puts the types into words."""
        return ", ".join(f"{n} {part.dtype}{list(part.shape[1:])}" for n, part in _parts(self))

    def take(self, first: int, count: int) -> "Examples":
        """Some consecutive rows."""
        return Examples._make(p if p is None else p[first : first + count] for p in self)

    @property
    def row_bytes(self) -> int:
        """The memory of a row."""
        return sum(part[0].nbytes for part in self if part is not None)


class Block(NamedTuple):
    """Examples in arrays of a fixed size; what is left of it repeats the first row.

    Attributes:
        examples: `size` rows.
        pieces: the rows of the stream that they are, in this order.
        position: of the iterator after them, if they are from a `BatchStream`.
    """

    examples: Examples
    pieces: Sequence[range]
    position: Any = None

    @property
    def rows(self) -> int:
        """The number of rows, without repeated ones."""
        return sum(map(len, self.pieces))

    def numbers(self) -> np.ndarray:
        """The numbers of the rows in the stream."""
        return np.concatenate([np.arange(piece.start, piece.stop) for piece in self.pieces])


def read_rows(stream: Stream, rows: range, name: str, like: Examples | None = None) -> Examples:
    """Reads, converts and checks consecutive rows.

    Args:
        stream: any.
        rows: which ones, at least one.
        name: the name of the stream in error messages.
        like: other examples of the stream, whose types these must have.
    """
    try:
        received = stream.read(rows.start, rows.stop)
    except Exception as error:
        raise ReadError(
            f"could not read {stream.describe(rows)}: {type(error).__name__}: {error}"
        ) from error
    try:
        examples = convert(received, name, len(rows))
        if like is not None:
            same_types(like, examples, name)
        return examples
    except (checks.InvalidType, checks.InvalidValue):
        with checks.about(stream.describe(rows)):
            raise


def read_sample(stream: Stream, rows: int, name: str) -> Examples:
    """Reads the first rows of a stream, for their types."""
    stream.check_files()
    return read_rows(stream, range(min(stream.rows, rows)), name)


def convert(received: Any, name: str, rows: int) -> Examples:
    """Converts what a function of the user's returned for a number of rows."""
    if not isinstance(received, tuple) or len(received) not in (2, 3):
        raise checks.InvalidType(
            f"expected {name} as a tuple (inputs, targets) or (inputs, targets, weights). "
            f"Received: {checks.describe(received)}"
        )
    parts = zip(Examples._fields, received, strict=False)
    examples = Examples(*(_convert(f"{part} of {name}", values) for part, values in parts))
    if examples.inputs.ndim < 2:
        raise checks.InvalidValue(
            f"expected inputs of {name} of shape [examples, features]. "
            f"Received: {list(examples.inputs.shape)}"
        )
    for part, values in _parts(examples):
        is_weights = part == "weights"
        if values.shape[:1] != (rows,) or (is_weights and values.ndim != 1):
            raise checks.InvalidValue(
                f"expected {part} of {name} for {rows} rows"
                f"{', one number each' if is_weights else ''}. Received: {list(values.shape)}"
            )
    return examples


def _convert(name: str, values: Any) -> np.ndarray:
    integers = np.int32 if name.startswith("targets") else np.float32
    if type(values) is np.ndarray and values.dtype in (np.float32, integers):
        return values
    is_jax = type(values).__module__.partition(".")[0] in ("jax", "jaxlib")
    converted = arrays.convert(name, np.asarray(values) if is_jax else values, integers)
    return np.asarray(converted)


def _parts(examples: Examples) -> list[tuple[str, np.ndarray]]:
    return [(name, part) for name, part in examples._asdict().items() if part is not None]


def read_block(
    stream: Stream,
    pieces: Sequence[range],
    size: int,
    like: Examples,
    name: str,
    stop: threading.Event | None = None,
) -> Block:
    """Reads pieces into a block of `size` rows.

    Args:
        stream: any.
        pieces: rows that are read in one call each.
        size: at least the number of these rows.
        like: other examples of the stream, whose types these must have.
        name: the name of the stream in error messages.
        stop: is set when the block is not needed any more.

    Raises:
        InvalidValue, InvalidType: what was read is not as expected.
        ReadError: the function of the stream failed, or a file has changed.
    """

    def read() -> Iterator[tuple[range, Examples]]:
        for piece in pieces:
            if stop is not None and stop.is_set():
                raise ReadError("the run has ended")
            yield piece, read_rows(stream, piece, name, like)

    try:
        block = fill_block(read(), size, like)
        check_values(block, name, stream.describe)
        return block
    finally:  # wrong rows may come from a file that has changed
        stream.check_files()


def same_types(like: Examples, examples: Examples, name: str) -> None:
    """Checks that examples have the types of others."""
    if like.types() != examples.types():
        raise checks.InvalidValue(
            f"expected {name} of the same types everywhere, {like.describe()}. "
            f"Received: {examples.describe()}"
        )


def check_values(block: Block, name: str, describe: Callable[[range], str]) -> None:
    """Checks that all values of a block are finite, and its weights in their range.

    Args:
        block: any.
        name: the name of the data in error messages.
        describe: names a piece in error messages.
    """
    parts = dict(_parts(block.examples))
    wrong = {part: first_nonfinite(values) for part, values in parts.items()}
    expected = {part: f"finite {part} of {name}" for part in parts}
    weights = block.examples.weights
    if weights is not None and not wrong["weights"]:
        wrong["weights"] = first_index((weights < 0) | (weights > HEAVIEST))
        expected["weights"] = f"weights of {name} from 0 to 2**20"
    for part, index in wrong.items():
        if index is not None:
            row = int(block.numbers()[index[0]])
            where = next(describe(piece) for piece in block.pieces if row in piece)
            raise checks.InvalidValue(
                f"{where}: expected {expected[part]}. Received: {parts[part][index]} at index "
                f"{(row, *index[1:])}"
            )


def fill_block(parts: Iterable[tuple[range, Examples]], size: int, like: Examples) -> Block:
    """Copies examples, which must have the types of `like`, into the arrays of a new block."""
    whole = Examples._make(part if part is None else _allocate(size, part) for part in like)
    pieces, filled = [], 0
    for piece, examples in parts:
        for (_, target), (_, source) in zip(_parts(whole), _parts(examples), strict=True):
            target[filled : filled + len(piece)] = source
        filled += len(piece)
        pieces.append(piece)
    for _, target in _parts(whole):
        target[filled:] = target[:1]
    return Block(whole, pieces)


def _allocate(size: int, like: np.ndarray) -> np.ndarray:
    """An array that a CPU device takes without copying it: its address is a multiple of 64."""
    count = size * like[0].size * like.itemsize
    memory = np.empty(count + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + count].view(like.dtype).reshape(size, *like.shape[1:])
