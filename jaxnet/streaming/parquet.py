"""Streams of rows in Parquet files, read by pyarrow."""

import bisect
import functools
import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnet.core import checks
from jaxnet.streaming.stream import BLOCK_BYTES, Stream

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@checks.door
def parquet_stream(
    files: Paths,
    inputs: str | Sequence[str],
    targets: str | Sequence[str],
    weights: str | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> Stream:
    """Makes a `Stream` of rows in Parquet files, with pyarrow (`pip install pyarrow`).

    A piece of the stream is a row group, which can only be read as a whole. So write files with
    small row groups, such as `pyarrow.parquet.write_table(table, path, row_group_size=1024)`;
    pyarrow's own default of a million rows does not shuffle well.

    Args:
        files: a path, or several, whose rows follow each other.
        inputs: the names of columns of numbers, one feature each; or the name of one column of
            lists of the same length.
        targets: the name of a column, for targets `[examples]`; or as for the inputs, for targets
            `[examples, columns]`.
        weights: the name of a column, or None.
        block_bytes: see `Stream`.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError, TypeError: an invalid argument, such as a column that is not there.
        OSError: a file cannot be read.
    """
    if isinstance(files, str) or not isinstance(files, Sequence):
        files = [files]
    for file in files:
        checks.path("files", file)
    paths = [os.path.abspath(os.fspath(file)) for file in files]
    columns = tuple(map(_check_columns, ("inputs", "targets"), (inputs, targets)))
    columns += () if weights is None else (_check_columns("weights", weights),)
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise ImportError("parquet_stream: expected pyarrow; pip install pyarrow") from error
    groups: list[tuple[str, int]] = []
    sizes: list[int] = []
    for path in paths:
        try:
            found = parquet.ParquetFile(path)
        except ArrowInvalid as error:
            raise checks.InvalidValue(
                f"expected files in the Parquet format. Received: {path}: {error}"
            ) from None
        for name in _names(columns):
            if name not in found.schema_arrow.names:
                raise checks.InvalidValue(
                    f"expected a column {name!r}. Received: {path}, which has the columns "
                    f"{', '.join(map(repr, found.schema_arrow.names))}"
                )
        for group in range(found.num_row_groups):
            groups.append((path, group))
            sizes.append(found.metadata.row_group(group).num_rows)
    if not sum(sizes):
        raise checks.InvalidValue("expected files with at least one row. Received: none")
    starts = (0, *itertools.accumulate(sizes))
    read = functools.partial(_read, tuple(groups), starts, columns)
    return Stream(starts[-1], read, paths, max(sizes), block_bytes)


Columns = str | tuple[str, ...]


def _check_columns(name: str, given: Any) -> Columns:
    if isinstance(given, str):
        return given
    if not isinstance(given, Sequence) or not all(isinstance(each, str) for each in given):
        raise checks.InvalidType(
            f"expected {name} as names of columns. Received: {checks.describe(given)}"
        )
    return tuple(given)


def _names(columns: tuple[Columns, ...]) -> list[str]:
    """The names of all columns, each once."""
    parts = (each if isinstance(each, tuple) else (each,) for each in columns)
    return list(dict.fromkeys(itertools.chain(*parts)))


def _read(
    groups: tuple[tuple[str, int], ...],
    starts: tuple[int, ...],
    columns: tuple[Columns, ...],
    start: int,
    stop: int,
) -> tuple[np.ndarray, ...]:
    """Reads the row groups with these rows."""
    first, last = bisect.bisect_right(starts, start) - 1, bisect.bisect_left(starts, stop)
    tables = [_read_group(*groups[i], columns) for i in range(first, last)]
    whole = map(np.concatenate, zip(*tables, strict=True)) if len(tables) > 1 else tables[0]
    return tuple(part[start - starts[first] : stop - starts[first]] for part in whole)


def _read_group(path: str, group: int, columns: tuple[Columns, ...]) -> tuple[np.ndarray, ...]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        table = file.read_row_group(group, columns=_names(columns), use_threads=False)
    return tuple(_to_array(table, each) for each in columns)


def _to_array(table: Any, columns: Columns) -> np.ndarray:
    """A column of numbers, the rows of a column of lists, or several columns side by side."""
    if isinstance(columns, tuple):
        return np.stack([_to_array(table, name) for name in columns], axis=1)
    column = table.column(columns).combine_chunks()
    if column.null_count:
        raise ValueError(f"column {columns!r} has missing values")
    if not hasattr(column, "flatten") or not hasattr(column.type, "value_type"):
        return column.to_numpy(zero_copy_only=False)
    values = column.flatten()
    if values.null_count or len(values) % len(column):
        raise ValueError(f"column {columns!r} has missing values, or lists of different lengths")
    return values.to_numpy(zero_copy_only=False).reshape(len(column), -1)
