"""Streams of rows in NumPy's files."""

import functools
import os
from typing import Any, NamedTuple

import numpy as np

from jaxnet.core import checks
from jaxnet.streaming.stream import BLOCK_BYTES, Stream


class NumpyFile(NamedTuple):
    """An array in an `.npy` file, of which rows are read without mapping it into memory.

    A file on a disk that fails or that is cut short is then an error, not the end of the process.
    """

    path: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    def read(self, start: int, stop: int) -> np.ndarray:
        """Reads rows; fewer than asked for if the file ends."""
        values = np.empty((stop - start, *self.shape[1:]), self.dtype)
        size, read = len(values) and values[0].nbytes, 0
        memory = values.reshape(-1).view(np.uint8).data
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset + start * size)
            while count := file.readinto(memory[read:]):
                read += count
        return values[: read // size]


Source = NumpyFile | np.ndarray


@checks.door
def numpy_stream(
    inputs: Any,
    targets: Any,
    weights: Any = None,
    *,
    piece: int | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Stream:
    """Makes a `Stream` of rows in NumPy's files.

    Args:
        inputs: the path of an `.npy` file with an array `[examples, ...]`; or such an array, such
            as an `np.memmap` of a file in another format.
        targets: the same, with as many rows.
        weights: the same, `[examples]`, non-negative; None for equal weights.
        piece, block_bytes: see `Stream`.

    Raises:
        ValueError, TypeError: an invalid argument, such as arrays of different lengths.
        OSError: a file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/inputs.npy", np.ones((1000, 3)))
    ...     np.save(f"{folder}/labels.npy", np.zeros(1000, int))
    ...     stream = numpy_stream(f"{folder}/inputs.npy", f"{folder}/labels.npy")
    ...     stream.rows, stream.read(7, 9)
    (1000, (array([[1., 1., 1.],
           [1., 1., 1.]]), array([0, 0])))
    """
    given = {"inputs": inputs, "targets": targets, "weights": weights}
    sources = {name: _open(name, part) for name, part in given.items() if part is not None}
    rows = sources["inputs"].shape[0]
    for name, source in sources.items():
        if source.shape[0] != rows:
            raise checks.InvalidValue(
                f"expected {name} with {rows} rows, as many as there are inputs. "
                f"Received: {list(source.shape)}"
            )
    read = functools.partial(_read, tuple(sources.values()))
    found = [_find_file(source) for source in sources.values()]
    files = [path for path in dict.fromkeys(found) if path is not None]
    return Stream(rows, read, files, piece, block_bytes)


def _open(name: str, given: Any) -> Source:
    if isinstance(given, np.ndarray):
        source: Source = given
    else:
        checks.path(name, given)
        source = _open_file(name, os.path.abspath(os.fspath(given)))
    if not source.shape or source.shape[0] == 0:
        raise checks.InvalidValue(
            f"expected {name} with at least one row. Received: {list(source.shape)}"
        )
    return source


def _open_file(name: str, path: str) -> Source:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise checks.InvalidValue(
            f"expected {name} as an .npy file of numbers. Received: {path}: {error}"
        ) from None
    if not isinstance(array, np.memmap):
        raise checks.InvalidValue(
            f"expected {name} as an .npy file with one array. Received: {path}"
        )
    if not array.flags.c_contiguous:  # its rows are all over the file
        return array
    return NumpyFile(path, array.dtype, array.shape, array.offset)


def _find_file(source: Source) -> str | None:
    if isinstance(source, NumpyFile):
        return source.path
    path = getattr(source, "filename", None)
    return None if path is None else str(path)


def _read(sources: tuple[Source, ...], start: int, stop: int) -> tuple[np.ndarray, ...]:
    return tuple(
        source.read(start, stop) if isinstance(source, NumpyFile) else source[start:stop]
        for source in sources
    )
