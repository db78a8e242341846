"""Where the results of a sweep are kept: in memory, or in a temporary file that is mapped."""

import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnet.core import trees

_ALIGNMENT = 64  # bytes


@runtime_checkable
class Storage(Protocol):
    """Keeps one array per leaf of the results, with a row for each run."""

    def write(self, start: int, leaves: list[np.ndarray]) -> None:
        """Writes the rows of the runs from `start` on."""

    def arrays(self) -> list[np.ndarray]:
        """Returns all rows of each leaf; those that were not written are 0."""

    def close(self) -> None:
        """Closes the file, if there is one; the arrays stay."""


class Results:
    """The results of all runs, as far as they are known.

    Attributes:
        done: which runs are complete.
        diverged: which of them returned a non-finite number.
        count: the number of complete runs.
    """

    def __init__(self, types: PyTree, runs: int, folder: Path | None = None) -> None:
        """Makes room for results of these types; in a temporary file if there is a folder."""
        self._structure = jax.tree.structure(types)
        leaves = jax.eval_shape(trees.plain_leaves, types)
        rows = [jax.ShapeDtypeStruct((runs, *leaf.shape), leaf.dtype) for leaf in leaves]
        self._storage: Storage = _Memory(rows) if folder is None else _TemporaryFile(rows, folder)
        self.done, self.diverged = np.zeros(runs, bool), np.zeros(runs, bool)
        self.count = 0

    def are_complete(self, runs: range) -> bool:
        """Whether all of these runs are complete."""
        return bool(self.done[runs.start : runs.stop].all())

    def put(self, runs: range, leaves: list[np.ndarray], diverged: np.ndarray) -> None:
        """Takes the results of some runs, and which of them diverged."""
        rows = slice(runs.start, runs.stop)
        self._storage.write(runs.start, leaves)
        self.count += len(runs) - int(self.done[rows].sum())
        self.done[rows], self.diverged[rows] = True, diverged

    def missing(self, runs: range, most: int) -> Iterator[range]:
        """Yields the ranges of runs that are not complete, each of at most `most` runs."""
        start = runs.start
        while start < runs.stop:
            known = self.done[start : min(start + most, runs.stop)]
            if known[0]:
                start += len(known) if known.all() else int(known.argmin())
                continue
            stop = start + (int(known.argmax()) if known.any() else len(known))
            yield range(start, stop)
            start = stop

    def close(self) -> None:
        """Closes the temporary file, if there is one; the arrays stay."""
        self._storage.close()

    def tree(self, shape: tuple[int, ...]) -> PyTree:
        """Returns the results with the axes of the grid in front."""
        arrays = [a.reshape(*shape, *a.shape[1:]) for a in self._storage.arrays()]
        return jax.tree.unflatten(self._structure, arrays)


class _Memory:
    """Results in memory."""

    def __init__(self, rows: list[jax.ShapeDtypeStruct]) -> None:
        self._arrays = [np.zeros(leaf.shape, leaf.dtype) for leaf in rows]

    def write(self, start: int, leaves: list[np.ndarray]) -> None:
        for array, leaf in zip(self._arrays, leaves, strict=True):
            array[start : start + len(leaf)] = leaf

    def arrays(self) -> list[np.ndarray]:
        return self._arrays

    def close(self) -> None:
        pass


class _TemporaryFile:
    """Results in a file without a name, which the system deletes when nothing uses it any more.

    It is written as a file, so that a full disk raises an error, and mapped at the end.
    """

    def __init__(self, rows: list[jax.ShapeDtypeStruct], folder: Path) -> None:
        self._rows, self._places, end = rows, list[int](), 0
        for leaf in rows:
            self._places.append(end)
            size = leaf.size * leaf.dtype.itemsize
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, closed in `close`
        self._file.truncate(max(end, 1))

    def write(self, start: int, leaves: list[np.ndarray]) -> None:
        for row, place, leaf in zip(self._rows, self._places, leaves, strict=True):
            self._file.seek(place + start * (row.size // row.shape[0]) * row.dtype.itemsize)
            self._file.write(leaf.tobytes())

    def arrays(self) -> list[np.ndarray]:
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
        pairs = zip(self._rows, self._places, strict=True)
        return [np.ndarray(row.shape, row.dtype, mapped, place) for row, place in pairs]

    def close(self) -> None:
        self._file.close()
