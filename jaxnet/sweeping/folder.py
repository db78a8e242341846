"""Results on disk: a folder of small files, which any number of processes complete together.

Each file has the results of some consecutive runs, about two seconds' work, and a checksum. It is
written whole or not at all. A process locks runs before it makes them, and releases them once their
file is written. So what is neither locked nor in a valid file is to be made, whoever died or was
interrupted before.
"""

import contextlib
import itertools
import os
import re
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree

from jaxnet.core import checks, trees
from jaxnet.core.console import warn
from jaxnet.core.dtypes import is_key
from jaxnet.io import file_format
from jaxnet.io.file_format import CorruptFileError
from jaxnet.io.leaves import DTYPES
from jaxnet.io.serialization import load_metadata, save
from jaxnet.sweeping.description import Description, differ, digest
from jaxnet.sweeping.locks import FileLocks, Locks, NoLocks
from jaxnet.sweeping.schedule import Groups
from jaxnet.sweeping.storage import Results

_SECONDS, _BYTES = 2.0, 2**26  # of work and of results in a file, at most
_PAUSE = 0.1  # seconds between two looks at what other processes have made
_DESCRIPTION = "sweep.safetensors"
_FILE = re.compile(r"runs-(\d{10})-(\d{10})\.safetensors")
_UNFINISHED = re.compile(rf"\.({_FILE.pattern}|{_DESCRIPTION})\.[0-9a-f]{{16}}\.unfinished")
_EXPECTED = "expected folder to be empty or of this sweep."
_DESCRIBING = range(2**40, 2**40 + 1)  # is locked while the description is compared or written
_GROUPS = 2**41  # one for each group is locked by a process that compiles its program
_OLD = 3600  # seconds after which nobody is still writing a file


class _Made(NamedTuple):
    """Results of some runs that are not in a file yet."""

    runs: range
    leaves: list[np.ndarray]
    diverged: np.ndarray


class SweepFolder:
    """The folder of a sweep, in which this process completes some runs.

    Attributes:
        runs: the runs to complete: all, or those of a part.
    """

    def __init__(
        self, path: Path, description: Description, results: Results, part: tuple[int, int] | None
    ) -> None:
        """Opens a folder, which exists, and loads the results in it.

        Raises:
            InvalidValue: it is the folder of another sweep.
            OSError: it cannot be read or written.
        """
        self._path, self._results, self._digest = path, results, digest(description)
        runs, (number, parts) = len(results.done), part or (0, 1)
        self.runs = range(runs * number // parts, runs * (number + 1) // parts)
        self._loaded: set[str] = set()
        self._damaged: dict[str, range] = {}
        self._own_groups: set[int] = set()
        self._made: list[_Made] = []
        self._size = 0  # bytes of what is made
        self._saved_at = time.perf_counter()
        self._writer, self._writing = ThreadPoolExecutor(1), Future[None]()
        self._writing.set_result(None)
        self._locks: Locks = NoLocks() if part else FileLocks(path / ".lock")
        try:
            self._compare(description)
            self._remove_unfinished()
            self.load()
        except BaseException:
            self._locks.close()
            raise

    def __enter__(self) -> "SweepFolder":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._save()
            self._writing.result()
        finally:
            self._writer.shutdown()
            self._locks.close()

    # Claiming runs.

    def are_complete(self, runs: range) -> bool:
        """Whether all of these runs are known to be complete."""
        return self._results.are_complete(runs)

    def choose(self, groups: Groups, among: Collection[int], most: int) -> list[int]:
        """Chooses groups with free runs; if possible, those for which no other process compiles."""
        self.load()
        left = [number for number in among if not self.are_complete(groups[number])]
        own = (number for number in left if self._is_own(number))
        chosen = list(itertools.islice((n for n in own if self._has_free(groups[n])), most))
        return chosen or list(itertools.islice((n for n in left if self._has_free(groups[n])), 1))

    def _is_own(self, group: int) -> bool:
        """Whether this process, and no other one, compiles the program of a group."""
        if group not in self._own_groups:
            if not self._locks.acquire(range(_GROUPS + group, _GROUPS + group + 1)):
                return False
            self._own_groups.add(group)
        return True

    def _has_free(self, runs: range) -> bool:
        """Whether some of the missing runs are locked by no other process."""
        return any(self._are_free(few) for few in self._results.missing(runs, len(runs)))

    def _are_free(self, runs: range) -> bool:
        if self._locks.acquire(runs):
            self._locks.release(runs)
            return True
        half = len(runs) // 2
        return half > 0 and (self._are_free(runs[:half]) or self._are_free(runs[half:]))

    def ranges(self, runs: range, most: int) -> Iterator[range]:
        """Yields the missing ones of some runs that no other process is making."""
        missing = self._results.missing(runs, most)
        together, began = 1, time.perf_counter()  # as many as fill a file are claimed together
        while some := list(itertools.islice(missing, together)):
            locked = [few for few in some if self._locks.acquire(few)]
            if not locked:
                continue
            self.load()  # what other processes completed before the runs were locked
            self._remove_damaged(locked)
            for few in locked:
                yield from self._results.missing(few, most)
            seconds, began = time.perf_counter() - began, time.perf_counter()
            if seconds < _SECONDS / 2:
                together *= 2
            elif seconds > _SECONDS:
                together = max(together // 2, 1)

    def wait(self) -> None:
        """Writes what is made, as other processes may wait for it, and loads what they made."""
        self._save()
        self._writing.result()
        time.sleep(_PAUSE)
        self.load()

    # Writing.

    def take(self, runs: range, leaves: list[np.ndarray], diverged: np.ndarray) -> None:
        """Takes the results of some runs, and writes all of the last two seconds."""
        self._results.put(runs, leaves, diverged)
        self._made.append(_Made(runs, leaves, diverged))
        self._size += sum(leaf.nbytes for leaf in leaves)
        if self._size >= _BYTES or time.perf_counter() - self._saved_at >= _SECONDS:
            self._save()

    def _save(self) -> None:
        """Starts to write what is not in a file, after what is being written."""
        self._writing.result()
        made, self._made, self._size = self._made, [], 0
        self._writing = self._writer.submit(self._write, made)
        self._saved_at = time.perf_counter()

    def _write(self, made: list[_Made]) -> None:
        """Writes a file for all results whose runs are consecutive."""
        for some in _join(made):
            runs = range(some[0].runs.start, some[-1].runs.stop)
            columns = zip(*(part.leaves for part in some), strict=True)
            tree = {
                "diverged": np.concatenate([part.diverged for part in some]),
                "results": [np.concatenate(column) for column in columns],
            }
            name = f"runs-{runs.start:010}-{runs.stop:010}.safetensors"
            try:
                save(self._path / name, tree, metadata=self._about(runs))
            except OSError as error:
                error.add_note(f"while writing {self._path / name}")
                raise
            self._loaded.add(name)
            self._locks.release(runs)

    def _about(self, runs: range) -> dict[str, Any]:
        """The metadata of a file: a file that was renamed is of other runs than its name says."""
        return {"sweep": self._digest, "runs": [runs.start, runs.stop]}

    # Reading.

    def load(self) -> None:
        """Loads the files that are new since the last time. Damaged ones count as missing."""
        names = os.listdir(self._path)
        new = [name for name in names if name not in self._loaded and name not in self._damaged]
        for name in sorted(new):
            if match := _FILE.fullmatch(name):
                runs = range(int(match[1]), int(match[2]))
                try:
                    self._load(name, runs)
                except CorruptFileError:
                    self._damaged[name] = runs

    def _load(self, name: str, runs: range) -> None:
        """Loads a file, unless another process removed it, as it was damaged."""
        file = self._path / name
        try:
            arrays, _, metadata = file_format.read(file)
        except FileNotFoundError:
            return
        if metadata.get("sweep") != self._digest:
            raise checks.InvalidValue(f"{_EXPECTED} Received: {file}, which is of another sweep")
        if metadata != self._about(runs):
            raise CorruptFileError(f"expected the runs in the name. Received: {file}, with others")
        leaves = [arrays[f"results/{number}"] for number in range(len(arrays) - 1)]
        self._results.put(runs, leaves, arrays["diverged"])
        self._loaded.add(name)

    def _remove_damaged(self, locked: list[range]) -> None:
        """Removes damaged files of runs that are locked, so that nobody writes them meanwhile."""
        for name, runs in list(self._damaged.items()):
            if any(_overlap(runs, few) for few in locked):
                del self._damaged[name]
                try:
                    self._load(name, runs)  # it may have been replaced
                except CorruptFileError as error:
                    warn(f"sweep: {error}; its runs are made again")
                    (self._path / name).unlink(missing_ok=True)

    # Opening.

    def _compare(self, description: Description) -> None:
        """Compares the description in the folder with that of the sweep, or writes it."""
        file = self._path / _DESCRIPTION
        while not self._locks.acquire(_DESCRIBING):
            time.sleep(0.01)
        try:
            before = load_metadata(file)
        except (FileNotFoundError, CorruptFileError):
            self.load()  # each file of results names its sweep too
            save(file, {}, metadata=description)
            before = description
        self._locks.release(_DESCRIBING)
        if before.keys() != description.keys():
            raise checks.InvalidValue(f"{_EXPECTED} Received: {file}, which describes no sweep")
        if found := differ(before, description):
            raise checks.InvalidValue(f"{_EXPECTED} Received: {self._path}, where {found}")
        if before["devices"] != description["devices"]:
            warn(
                f"sweep: {self._path} has results of {before['devices']}, which differ from those "
                f"of {description['devices']} by rounding"
            )

    def _remove_unfinished(self) -> None:
        """Removes what processes that died were writing, but not what others are writing now."""
        for name in filter(_UNFINISHED.fullmatch, os.listdir(self._path)):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - (self._path / name).stat().st_mtime > _OLD:
                    (self._path / name).unlink()


def _join(made: list[_Made]) -> list[list[_Made]]:
    """Joins results whose runs are consecutive."""
    joined: list[list[_Made]] = []
    for part in made:
        if joined and joined[-1][-1].runs.stop == part.runs.start:
            joined[-1].append(part)
        else:
            joined.append([part])
    return joined


def _overlap(one: range, other: range) -> bool:
    return max(one.start, other.start) < min(one.stop, other.stop)


def check_results(types: PyTree) -> None:
    """Checks that results of these types can be saved."""
    for name, leaf in trees.named_leaves(types).items():
        if not is_key(leaf) and leaf.dtype not in DTYPES.values():
            raise checks.InvalidType(
                f"expected results of {', '.join(map(str, DTYPES.values()))} in a folder. "
                f"Received: {leaf.dtype}{list(leaf.shape)} at {name!r}"
            )
