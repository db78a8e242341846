"""The checkpoints of a run: a directory that is written while the run trains and read to resume it.

There is a file for every epoch that was saved, of which the last few are kept, and a file with the
best parameters. A thread writes them, so that the device does not wait. A directory belongs to one
run and, while that trains, to one process.
"""

import contextlib
import datetime
import functools
import os
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree

from jaxnet.core import checks
from jaxnet.core.console import tell, warn
from jaxnet.fitting.lock import DirectoryLock
from jaxnet.fitting.run_identity import Identity, differ, environment_changed
from jaxnet.io.file_format import CorruptFileError
from jaxnet.io.serialization import load, load_metadata, save

BEST = "best.safetensors"
BEFORE_FAILURE = "before-failure.safetensors"
_NUMBER = "([0-9]{8}|[1-9][0-9]{8,})"
_EPOCH = re.compile(rf"epoch-{_NUMBER}(?:-block-{_NUMBER})?\.safetensors")
_UNFINISHED = re.compile(
    rf"\.({_EPOCH.pattern}|{BEST}|{BEFORE_FAILURE})\.[0-9a-f]{{16}}\.unfinished"
)
_SHARE_OF_TIME = 0.01  # that saving may take, if the interval is a time


class Checkpoints(NamedTuple):
    """Where and how often `fit` saves a run.

    Attributes:
        directory: the directory of the run; it is created if it does not exist.
        keep: the number of checkpoints to keep, at least 1.
        every: the interval between two checkpoints, a number of epochs or a `datetime.timedelta`.
            Saving at intervals of time is throttled to 1 % of the run time. The first and the last
            state are always saved.

    >>> Checkpoints("runs/a", every=10).keep
    3
    """

    directory: str | os.PathLike[str]
    keep: int = 3
    every: int | datetime.timedelta = datetime.timedelta(seconds=30)


def check_checkpoints(checkpoints: Any) -> Checkpoints | None:
    """Checks where and how often to save; a path stands for the defaults."""
    if checkpoints is None:
        return None
    if not isinstance(checkpoints, Checkpoints):
        checks.path("checkpoints", checkpoints)
        return Checkpoints(checkpoints)
    checks.path("checkpoints.directory", checkpoints.directory)
    keep = checks.integer("checkpoints.keep", checkpoints.keep, 1)
    return Checkpoints(checkpoints.directory, keep, _check_interval(checkpoints.every))


def _check_interval(every: Any) -> int | datetime.timedelta:
    if not isinstance(every, datetime.timedelta):
        if isinstance(every, (float, np.timedelta64)):
            raise checks.InvalidType(
                "expected checkpoints.every as a number of epochs or a datetime.timedelta. "
                f"Received: {checks.describe(every)}"
            )
        return checks.integer("checkpoints.every", every, 1)
    if every < datetime.timedelta(0):
        raise checks.InvalidValue(f"expected a non-negative checkpoints.every. Received: {every}")
    return every


class Saved(NamedTuple):
    """A checkpoint.

    Attributes:
        state, history: of the run, after `epoch` epochs.
        stopped: why the run stopped there: "patience", "on_epoch", or "" if it can be resumed.
        place: how far a run on a stream is within the next epoch, for JSON; else None.
    """

    state: Any
    history: dict[str, np.ndarray]
    epoch: int
    stopped: str
    place: dict[str, Any] | None = None

    @property
    def step(self) -> tuple[int, int]:
        """The number of epochs, and of blocks of a stream in the next one."""
        return self.epoch, self.place["blocks"] if self.place else 0


class CheckpointWarning(UserWarning):
    """The last checkpoint of a run could not be written; `result` is the run's `FitResult`."""

    def __init__(self, message: str, result: Any = None) -> None:
        """Sets the message and the result."""
        super().__init__(message)
        self.result = result


class NoDirectory:
    """Stands for the directory of a run that is not saved.

    Attributes:
        is_saved: whether the run is saved.
        failure: as in `RunDirectory`.
    """

    is_saved = False
    failure: OSError | None = None

    def __enter__(self) -> "NoDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def newest(self, like: Callable[[int], PyTree]) -> Saved | None:
        """There is no checkpoint."""

    def is_due(self, epoch: int) -> bool:
        """No checkpoint is due."""
        return False

    def limit(self, epoch: int) -> int:
        """Any epoch will do."""
        return epoch

    def check_writable(self) -> None:
        """Nothing is written."""

    def begin(self, saved: Saved) -> None:
        """Nothing is written."""

    def save(self, saved: Saved, *, wait: bool = False) -> None:
        """Nothing is written."""

    def save_before_failure(self, state: PyTree) -> str:
        """Nothing is written."""
        return ""


class RunDirectory:
    """The directory of a run, which no other run uses while it is open.

    Attributes:
        is_saved: whether the run is saved.
        failure: the error of the last attempt to write a checkpoint, or None.
    """

    is_saved = True

    def __init__(self, checkpoints: Checkpoints, identity: Identity) -> None:
        """Creates and locks the directory."""
        self.failure: OSError | None = None
        self._identity, self._keep, self._every = identity, checkpoints.keep, checkpoints.every
        self._started, self._seconds = time.perf_counter(), 0.0  # the last time of saving
        self._saved = -1, 0  # the epoch and the block
        self._best: dict[str, Any] | None = None  # the metadata of the file with the best
        self._whole: set[str] = set()  # files that are known to be whole
        self._writing: Future[None] | None = None
        try:
            # From here on neither the working directory nor a link decides which directory it is.
            self.path = Path(os.path.realpath(checkpoints.directory))
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = DirectoryLock(self.path)
        except OSError as error:
            raise _reword(error, checkpoints.directory) from None
        self._writer = ThreadPoolExecutor(1)
        for name in filter(_UNFINISHED.fullmatch, os.listdir(self.path)):  # a run was killed
            with contextlib.suppress(OSError):
                (self.path / name).unlink()

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock.is_held:
            self._writer.shutdown()
            self._lock.release()

    def newest(self, like: Callable[[int], PyTree]) -> Saved | None:
        """Loads the last checkpoint that is whole, and warns about corrupt ones.

        The file with the best parameters is written again if it is not of that checkpoint, as when
        a run was killed between writing the two.

        Args:
            like: returns a tree of the types in a checkpoint, given its epoch.

        Raises:
            InvalidValue: the checkpoint is of another run.
            CorruptFileError: there are checkpoints, and all of them are corrupt.
        """
        files = self._files()
        for file in reversed(files):
            try:
                metadata = load_metadata(file)
            except CorruptFileError as error:
                warn(f"fit: {error}; resuming from the checkpoint before")
                continue
            if not metadata.keys() >= {"run", "epoch", "stopped"}:
                raise checks.InvalidValue(
                    "expected checkpoints to be an empty directory or one of this run. "
                    f"Received: {file}, which is not a checkpoint of a run"
                )
            self._compare(metadata)
            epoch = metadata["epoch"]
            state, history = load(file, like(epoch))
            saved = Saved(state, history, epoch, metadata["stopped"], metadata.get("place"))
            self._saved = saved.step
            self._whole.add(file.name)
            self._best = self._load_best_metadata()
            self._attempt(self.path / BEST, functools.partial(self._save_best, state.best))
            return saved
        if files:
            raise CorruptFileError(
                f"fit: expected a checkpoint that is whole. Received: {self.path}, in which all "
                f"{len(files)} are corrupt"
            )
        return None

    def is_due(self, epoch: int) -> bool:
        """Whether to save at the end of an epoch."""
        if isinstance(self._every, int):
            return epoch >= self._next_epoch()
        if self._writing and not self._writing.done():
            return False
        since = time.perf_counter() - self._started
        return since >= max(self._every.total_seconds(), self._seconds / _SHARE_OF_TIME)

    def limit(self, epoch: int) -> int:
        """That epoch, or an earlier one at the end of which the run is to be saved."""
        return min(epoch, self._next_epoch()) if isinstance(self._every, int) else epoch

    def check_writable(self) -> None:
        """Raises an OSError if the directory cannot be written, before a run is resumed."""
        try:
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise _reword(error, self.path) from None

    def begin(self, saved: Saved) -> None:
        """Writes the start of a run, and raises an OSError if it cannot be written."""
        self.save(saved, wait=True)
        if self.failure:
            raise self.failure

    def save(self, saved: Saved, *, wait: bool = False) -> None:
        """Starts to write a checkpoint, and the best parameters if they are new.

        A failure is kept in `failure`.

        Args:
            saved: the checkpoint.
            wait: whether to wait until it is written, as at the end of a run.
        """
        if not self._lock.is_held:
            return
        if self._writing:
            self._writing.result()
        if saved.step > self._saved or saved.stopped or self.failure:
            self._writing = self._writer.submit(self._write, saved)
            self._saved = saved.step
        if wait and self._writing:
            self._writing.result()

    def save_before_failure(self, state: PyTree) -> str:
        """Writes the state before a step that failed; returns a sentence that says where."""
        file = self.path / BEFORE_FAILURE
        try:
            self._lock.check()
            save(file, state)
        except OSError as error:
            return f". The state before it could not be written: {error}"
        return f". The state before it is in {file}"

    def _next_epoch(self) -> int:
        assert isinstance(self._every, int)
        return (self._saved[0] // self._every + 1) * self._every

    def _files(self) -> list[Path]:
        """The checkpoints in the order of their epochs and blocks."""
        found = filter(None, map(_EPOCH.fullmatch, os.listdir(self.path)))
        numbers = {match[0]: (int(match[1]), int(match[2] or 0)) for match in found}
        files = [self.path / name for name in sorted(numbers, key=lambda name: numbers[name])]
        return [file for file in files if file.is_file()]

    def _compare(self, metadata: dict[str, Any]) -> None:
        before, now = metadata["run"], self._identity
        if changed := environment_changed(before, now):
            warn(f"fit: resuming, though {changed}: the bits may differ")
        if difference := differ(before, now):
            raise checks.InvalidValue(
                "expected checkpoints to be an empty directory or one of this run. "
                f"Received: {self.path}, which holds another run: {difference}"
            )

    def _write(self, saved: Saved) -> None:
        self._started = time.perf_counter()
        metadata = {
            "run": self._identity,
            "epoch": saved.epoch,
            "stopped": saved.stopped,
            "place": saved.place,
        }
        epoch, block = saved.step
        name = f"epoch-{epoch:08}-block-{block:08}" if block else f"epoch-{epoch:08}"
        file = self.path / f"{name}.safetensors"

        def write() -> None:
            save(file, (saved.state, saved.history), metadata=metadata)
            self._whole.add(file.name)
            self._save_best(saved.state.best)
            self._delete_old(file)

        self._attempt(file, write)
        self._seconds = time.perf_counter() - self._started

    def _attempt(self, file: Path, write: Callable[[], None]) -> None:
        """Writes, and keeps the error if that fails."""
        try:
            self._lock.check()
            write()
            self.failure = None
        except OSError as error:
            if self.failure is None:
                tell(f"\nfit: could not write {file}: {error}; training continues")
            self.failure = error

    def _load_best_metadata(self) -> dict[str, Any] | None:
        file = self.path / BEST
        try:
            return load_metadata(file) if file.is_file() else None
        except (OSError, CorruptFileError):
            return None

    def _save_best(self, best: Any) -> None:
        """Writes the best parameters unless the file holds them already."""
        if best is None or not np.asarray(best.epoch).any():
            return
        metadata = {name: np.asarray(getattr(best, name)).tolist() for name in ("epoch", "value")}
        if metadata != self._best:
            save(self.path / BEST, best.parameters, metadata=metadata)
            self._best = metadata

    def _delete_old(self, newest: Path) -> None:
        """Deletes corrupt checkpoints, and those older than the last few that are whole."""
        files, left = self._files(), self._keep - 1
        for file in reversed(files[: files.index(newest)]):
            if left == 0 or self._is_corrupt(file):
                file.unlink(missing_ok=True)
            else:
                left -= 1

    def _is_corrupt(self, file: Path) -> bool:
        """Reads a file that an earlier process wrote, once."""
        if file.name in self._whole:
            return False
        try:
            load_metadata(file)
        except CorruptFileError:
            return True
        except OSError:  # it cannot be read at the moment
            return False
        self._whole.add(file.name)
        return False


def _reword(error: OSError, path: str | os.PathLike[str]) -> OSError:
    reason = error.strerror or str(error)
    return type(error)(
        error.errno,
        f"fit: expected checkpoints to be a directory for this run alone. Received: {reason}",
        str(path),
    )
