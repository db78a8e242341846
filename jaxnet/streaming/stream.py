"""`Stream`: a number of rows, and a function that reads some of them."""

import dataclasses
import datetime
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxnet.core import checks

BLOCK_BYTES = 2**26


class ReadError(RuntimeError):
    """Rows of a stream could not be read; the message names them, and the files of the stream."""


@runtime_checkable
class Read(Protocol):
    """A function that reads consecutive rows of a data set."""

    def __call__(self, start: int, stop: int, /) -> tuple[Any, ...]:
        """Returns `(inputs, targets)` or `(inputs, targets, weights)` of rows `start:stop`."""
        ...


class FileVersion(NamedTuple):
    """What tells whether a file has changed.

    Attributes:
        name: without the folder, so that files may be moved together.
        size: in bytes.
        modified: the time of the last change, in nanoseconds.
    """

    name: str
    size: int
    modified: int

    def __str__(self) -> str:
        """Describes the version in words."""
        time = datetime.datetime.fromtimestamp(self.modified / 1e9, datetime.UTC)
        return f"{self.size} bytes, modified {time:%Y-%m-%d %H:%M:%S.%f} UTC"


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """Data that are read when they are needed, for `fit`, `evaluate` and `predict`.

    `numpy_stream` and `parquet_stream` make streams of files. A function of your own reads any
    other source.

    Training cuts the rows into pieces of consecutive rows. Every epoch has another order of the
    pieces. Many pieces make a block, whose rows are shuffled on the device. A thread reads one
    block ahead. So at most three blocks are in memory: one that trains, one that is read, and on
    an accelerator a copy of it. Every row counts exactly once in an epoch.

    If the rows of a file are sorted, a batch of `b` rows from blocks of `B` pieces varies
    `1 + (b - 1) / B` times as much as a random one. The default pieces are so small that this is at
    most 1.25, within the memory of a block. `fit` warns of a weaker shuffle. Rows that are next to
    each other in the file are in one block in every epoch; so shuffle a file once when it is
    written, if it is sorted.

    Attributes:
        rows: the number of rows, at least 1.
        read: `read(start, stop)` returns `(inputs, targets)` or `(inputs, targets, weights)` of the
            rows from `start` to `stop - 1` as NumPy arrays, of the same shapes and dtypes in every
            call. They are copied and converted as in `fit`: to float32, other targets than
            floating-point numbers to int32. Weights are at most 2**20. A thread calls the function.
        files: the files that it reads. A file that changes during a run or before it is resumed is
            an error: its name, size and time of modification are compared.
        piece: the number of rows in a piece; by default chosen by `fit`, up to a mebibyte.
        block_bytes: the memory of a block, 64 MiB by default. A block has at least one piece.

    Raises:
        TypeError, ValueError: an invalid argument.
        OSError: one of the files is not there.

    >>> import jax, numpy as np
    >>> from jaxnet import adam, fit, mlp, squared_error
    >>> def read(start, stop):
    ...     inputs = np.linspace(-1, 1, 1000)[start:stop, None]
    ...     return inputs, inputs**2
    >>> stream = Stream(1000, read)
    >>> run = fit(
    ...     mlp([1, 8, 1]), squared_error, adam(0.01), stream,
    ...     key=jax.random.key(0), epochs=20, batch_size=32,
    ... )
    >>> bool(run.history["cost"][-1] < 0.01)
    True
    """

    rows: int
    read: Read
    files: Sequence[str | os.PathLike[str]] = ()
    piece: int | None = None
    block_bytes: int = BLOCK_BYTES
    versions: tuple[FileVersion, ...] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, value in checks.enter("Stream", self._check).items():
            object.__setattr__(self, name, value)

    def _check(self) -> dict[str, Any]:
        """Checks the fields, and returns them with paths that no later change of folder changes."""
        if isinstance(self.files, (str, os.PathLike)) or not isinstance(self.files, Sequence):
            raise checks.InvalidType(
                f"expected files as a list of paths. Received: {checks.describe(self.files)}"
            )
        for file in self.files:
            checks.path("files", file)
        checks.function("read", self.read)
        files = tuple(os.path.abspath(os.fspath(file)) for file in self.files)
        return {
            "rows": checks.integer("rows", self.rows, 1),
            "files": files,
            "piece": None if self.piece is None else checks.integer("piece", self.piece, 1),
            "block_bytes": checks.integer("block_bytes", self.block_bytes, 1),
            "versions": tuple(map(_find_version, files)),
        }

    def check_files(self) -> None:
        """Raises a ReadError if a file has changed since the stream was made."""
        for path, before in zip(self.files, self.versions, strict=True):
            try:
                now = _find_version(str(path))
            except OSError as error:
                raise ReadError(f"could not read {path}: {error}") from error
            if before != now:
                raise ReadError(
                    f"expected files of a stream that do not change. Received: {path}, of "
                    f"{now}; it was of {before}"
                )

    def describe(self, rows: range) -> str:
        """Names rows, and the files in which they are."""
        which = f"row {rows[0]}" if len(rows) == 1 else f"rows {rows[0]} to {rows[-1]}"
        return which + (f" of {', '.join(map(str, self.files))}" if self.files else "")


def _find_version(path: str) -> FileVersion:
    found = os.stat(path)
    return FileVersion(os.path.basename(path), found.st_size, found.st_mtime_ns)
