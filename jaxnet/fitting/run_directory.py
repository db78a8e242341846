"""Resuming: the folder in which a run is kept while it goes on, and from which it goes on.

There is a file for every epoch that was saved, of which the last few stay, and one with the best
parameters. A thread writes them, since arrays do not change, and the device need not wait. A folder
belongs to one run at a time, and to one process: a lock says so, on the file `.lock`.
"""

import contextlib
import datetime
import errno
import functools
import os
import re
import tempfile
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree

from jaxnet.core import checks
from jaxnet.core.atomic import open_descriptor
from jaxnet.core.console import tell, warn
from jaxnet.fitting.run_identity import Identity, differ, environment_changed
from jaxnet.io.file_format import CorruptFileError
from jaxnet.io.serialization import load, load_metadata, save

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two runs out of one folder
    fcntl = None  # type: ignore[assignment]

BEST = "best.safetensors"
BEFORE_FAILURE = "before-failure.safetensors"
LOCK = ".lock"
_EPOCH = re.compile(r"epoch-([0-9]{8}|[1-9][0-9]{8,})\.safetensors")
_UNFINISHED = re.compile(
    rf"\.({_EPOCH.pattern}|{BEST}|{BEFORE_FAILURE})\.[0-9a-f]{{16}}\.unfinished"
)
_SHARE_OF_TIME = 0.01  # that saving may take, where no number of epochs is asked for

Every = int | datetime.timedelta


class Saved(NamedTuple):
    """What a run was at the end of an epoch, and why it had stopped, if it had.

    That is "patience", which is for good, or "on_epoch", which is to be asked again.
    """

    state: Any
    history: dict[str, np.ndarray]
    epoch: int
    stopped: str


class CheckpointWarning(UserWarning):
    """A run was not saved to its end. `fit` is its result, as a `FitResult`."""

    def __init__(self, message: str, fit: Any = None) -> None:
        """The message, and the run."""
        super().__init__(message)
        self.fit = fit


class RunFolder:
    """A folder with the checkpoints of one run, which nobody else uses while it is open.

    Attributes:
        failure: why the last checkpoint could not be written, or None.
    """

    def __init__(
        self, path: str | os.PathLike[str], identity: Identity, keep: int, every: Every
    ) -> None:
        """Makes the folder if there is none."""
        self.failure: OSError | None = None
        self._identity, self._keep, self._every = identity, keep, every
        self._begin, self._took = time.perf_counter(), 0.0  # seconds
        self._epoch = -1
        self._best: dict[str, Any] | None = None  # what the file says of the best
        self._whole: set[str] = set()  # files that were found to be
        self._writing: Future[None] | None = None
        self._lock: int | None
        try:
            # From here on neither the working directory nor a link decides which folder it is.
            self.path = Path(os.path.realpath(path))
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path / LOCK)
        except OSError as error:
            raise _refusal(error, path) from None
        _in_use.add(self)
        self._writer = ThreadPoolExecutor(1)
        for name in filter(_UNFINISHED.fullmatch, os.listdir(self.path)):  # a run was killed
            with contextlib.suppress(OSError):
                (self.path / name).unlink()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._writer.shutdown()
            self.leave()

    def leave(self) -> None:
        """Gives up the lock, after which nothing is written: the run is over, or its parent's."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def newest(self, like: Callable[[int], PyTree]) -> Saved | None:
        """The last checkpoint that is whole; what is damaged is reported.

        Args:
            like: from an epoch to a tree of what a checkpoint of it holds.

        Raises:
            ValueError: it is of another run.
            CorruptFileError: there are checkpoints, and none is whole.

        The file with the best parameters is written again if it is not of that checkpoint, as when
        a run was killed between the two.
        """
        files = self._files()
        for file in reversed(files):
            try:
                metadata = load_metadata(file)
            except CorruptFileError as error:
                warn(f"fit: {error}; going on from the one before", stacklevel=4)
                continue
            if not metadata.keys() >= {"run", "epoch", "stopped"}:
                raise checks.InvalidValue(
                    "expected checkpoint to be an empty folder or one of this very run. "
                    f"Received: {file}, which is no checkpoint of a run"
                )
            self._compare(metadata)
            self._epoch = epoch = metadata["epoch"]
            state, history = load(file, like(epoch))
            self._whole.add(file.name)
            self._best = self._found_best()
            self._attempt(self.path / BEST, functools.partial(self._save_best, state.best))
            return Saved(state, history, epoch, metadata["stopped"])
        if files:
            raise CorruptFileError(
                f"fit: expected a checkpoint that is whole. Received: {self.path}, in which all "
                f"{len(files)} are damaged"
            )
        return None

    def is_due(self, epoch: int) -> bool:
        """Whether to save now, at the end of that epoch."""
        if isinstance(self._every, int):
            return epoch >= self._next_epoch()
        if self._writing and not self._writing.done():
            return False
        since = time.perf_counter() - self._begin
        return since >= max(self._every.total_seconds(), self._took / _SHARE_OF_TIME)

    def not_beyond(self, epoch: int) -> int:
        """That epoch, or one before, at the end of which the run is to be saved."""
        return min(epoch, self._next_epoch()) if isinstance(self._every, int) else epoch

    def require_writable(self) -> None:
        """For a run that goes on: so that hours are not spent on what cannot be written."""
        try:
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise _refusal(error, self.path) from None

    def begin(self, saved: Saved) -> None:
        """Writes the start, so that what cannot be written is known before hours have passed."""
        self.save(saved, wait=True)
        if self.failure:
            raise self.failure

    def save(self, saved: Saved, *, wait: bool = False) -> None:
        """Begins to write a checkpoint, and the best parameters if they are new.

        `failure` tells later whether that went well; `wait` is for the end of the run.
        """
        if self._lock is None:
            return
        if self._writing:
            self._writing.result()
        if saved.epoch > self._epoch or saved.stopped or self.failure:
            self._writing = self._writer.submit(self._write, saved)
            self._epoch = saved.epoch
        if wait and self._writing:
            self._writing.result()

    def save_aside(self, state: PyTree) -> str:
        """Writes the state from which a run failed, and says where."""
        file = self.path / BEFORE_FAILURE
        try:
            self._require_lock()
            save(file, state)
        except OSError as error:
            return f"The state before it could not be written: {error}"
        return f"The state before it is in {file}"

    def _next_epoch(self) -> int:
        assert isinstance(self._every, int)
        return (self._epoch // self._every + 1) * self._every

    def _files(self) -> list[Path]:
        """The checkpoints in the order of their epochs; a folder or pipe of such a name is none."""
        numbers = {m[0]: int(m[1]) for m in map(_EPOCH.fullmatch, os.listdir(self.path)) if m}
        files = [self.path / name for name in sorted(numbers, key=lambda name: numbers[name])]
        return [file for file in files if file.is_file()]

    def _compare(self, metadata: dict[str, Any]) -> None:
        before, now = metadata["run"], self._identity
        if changed := environment_changed(before, now):
            warn(f"fit: resuming, though {changed}: the bits may differ", stacklevel=5)
        if found := differ(before, now):
            raise checks.InvalidValue(
                f"expected checkpoint to be an empty folder or one of this very run. "
                f"Received: {self.path}, in which there is another run: {found}"
            )

    def _write(self, saved: Saved) -> None:
        self._begin = time.perf_counter()
        metadata = {
            "run": self._identity,
            "epoch": saved.epoch,
            "stopped": saved.stopped,
        }
        file = self.path / f"epoch-{saved.epoch:08}.safetensors"

        def write() -> None:
            save(file, (saved.state, saved.history), metadata=metadata)
            self._whole.add(file.name)
            self._save_best(saved.state.best)
            self._delete_old(file)

        self._attempt(file, write)
        self._took = time.perf_counter() - self._begin

    def _attempt(self, file: Path, write: Callable[[], None]) -> None:
        """Writes, and notes whether that failed."""
        try:
            self._require_lock()
            write()
            self.failure = None
        except OSError as error:
            if self.failure is None:
                tell(f"\nfit: could not write {file}: {error}; going on")
            self.failure = error

    def _require_lock(self) -> None:
        """Sees that the folder is still the one that was locked, and not another of that name."""
        lock = self.path / LOCK
        if self._lock is None or not os.path.samestat(os.fstat(self._lock), os.stat(lock)):
            raise OSError(errno.EBUSY, "it is not this run's any more", str(lock))

    def _found_best(self) -> dict[str, Any] | None:
        """What the file with the best parameters says of them, if it is there and whole."""
        file = self.path / BEST
        try:
            return load_metadata(file) if file.is_file() else None
        except (OSError, CorruptFileError):
            return None

    def _save_best(self, best: Any) -> None:
        """Writes the best parameters if there are any, and others than in the file."""
        if best is None or not int(best.epoch):
            return
        about = {"epoch": int(best.epoch), "cost": float(best.cost)}
        if about != self._best:
            save(self.path / BEST, best.parameters, metadata=about)
            self._best = about

    def _delete_old(self, newest: Path) -> None:
        """Deletes what is damaged, and what is older than the last few that are not."""
        files, left = self._files(), self._keep - 1
        for file in reversed(files[: files.index(newest)]):
            if left == 0 or self._is_damaged(file):
                file.unlink(missing_ok=True)
            else:
                left -= 1

    def _is_damaged(self, file: Path) -> bool:
        """Reads a file that an earlier process wrote, once."""
        if file.name in self._whole:
            return False
        try:
            load_metadata(file)
        except CorruptFileError:
            return True
        except OSError:  # it cannot be read now
            return False
        self._whole.add(file.name)
        return False


_in_use: "weakref.WeakSet[RunFolder]" = weakref.WeakSet()


def _leave_all() -> None:
    """In a forked process: its folders, and their writers, are its parent's."""
    for folder in _in_use:
        folder.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)


def _refusal(error: OSError, path: str | os.PathLike[str]) -> OSError:
    reason = error.strerror or str(error)
    return type(error)(
        error.errno,
        f"fit: expected checkpoint to be a folder for this run alone. Received: {reason}",
        str(path),
    )


def _locked(path: Path) -> int:
    """Opens and locks a file, up to the end of the process at the latest.

    Where it can only be read, for reading alone: a run that has ended may lie in such a folder.
    """
    exclusive = True
    try:
        lock = open_descriptor(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS) or not path.is_file():
            raise
        lock, exclusive = open_descriptor(path, os.O_RDONLY), False
    try:
        if fcntl:
            fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise BlockingIOError(errno.EAGAIN, "it is in use by another run") from None
    return lock
