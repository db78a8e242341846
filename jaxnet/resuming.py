"""Resuming: the folder in which a run is kept while it goes on, and from which it goes on.

There is a file for every epoch that was saved, of which the last few stay, and one with the best
parameters. A thread writes them, since arrays do not change, and the device need not wait. A folder
belongs to one run at a time.
"""

import datetime
import errno
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree

from jaxnet.checkpoints import DamagedFileError, load, load_metadata, save
from jaxnet.identity import Identity, differ, environment_changed

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two runs out of one folder
    fcntl = None  # type: ignore[assignment]

BEST = "best.safetensors"
BEFORE_FAILURE = "before-failure.safetensors"
_SHARE_OF_TIME = 0.01  # that saving may take, where no number of epochs is asked for

Every = int | datetime.timedelta


class Saved(NamedTuple):
    """What a run was at the end of an epoch, and why it had stopped, if it had."""

    state: Any
    history: dict[str, np.ndarray]
    epoch: int
    stopped: str


class CheckpointWarning(UserWarning):
    """A run was not saved to its end. `fit` is its result, as a `Fit`."""

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
        self.path = Path(path)
        self.failure: OSError | None = None
        self._identity, self._keep, self._every = identity, keep, every
        self._begin, self._took = time.perf_counter(), 0.0  # seconds
        self._epoch, self._best = -1, 0
        self._writing: Future[None] | None = None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path / ".lock")
        except OSError as error:
            reason = error.strerror or str(error)
            raise type(error)(
                error.errno,
                f"fit: expected checkpoint to be a folder for this run alone. Received: {reason}",
                str(path),
            ) from None
        self._writer = ThreadPoolExecutor(1)
        for left in self.path.glob(".*.unfinished"):  # by a run that was killed
            left.unlink(missing_ok=True)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown()
        os.close(self._lock)

    def newest(self, like: Callable[[int], PyTree]) -> Saved | None:
        """The last checkpoint that is whole; what is damaged is reported.

        Args:
            like: from an epoch to a tree of what a checkpoint of it holds.

        Raises:
            ValueError: it is of another run.
            DamagedFileError: there are checkpoints, and none is whole.
        """
        files = self._files()
        for file in reversed(files):
            try:
                metadata = load_metadata(file)
            except DamagedFileError as error:
                warnings.warn(f"fit: {error}; going on from the one before", stacklevel=4)
                continue
            self._compare(metadata)
            self._epoch = epoch = metadata["epoch"]
            state, history = load(file, like(epoch))
            return Saved(state, history, epoch, metadata["stopped"])
        if files:
            raise DamagedFileError(
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

    def begin(self, saved: Saved) -> None:
        """Writes the start, so that what cannot be written is known before hours have passed."""
        self.save(saved, wait=True)
        if self.failure:
            raise self.failure

    def save(self, saved: Saved, *, wait: bool = False) -> None:
        """Begins to write a checkpoint, and the best parameters if they are new.

        `failure` tells later whether that went well; `wait` is for the end of the run.
        """
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
            save(file, state)
        except OSError as error:
            return f"The state before it could not be written: {error}"
        return f"The state before it is in {file}"

    def _next_epoch(self) -> int:
        assert isinstance(self._every, int)
        return (self._epoch // self._every + 1) * self._every

    def _files(self) -> list[Path]:
        return sorted(self.path.glob("epoch-*.safetensors"))

    def _compare(self, metadata: dict[str, Any]) -> None:
        before, now = metadata["run"], self._identity
        if changed := environment_changed(before, now):
            warnings.warn(f"fit: resuming, though {changed}: the bits may differ", stacklevel=5)
        if found := differ(before, now):
            raise ValueError(
                f"fit: expected checkpoint to be an empty folder or one of this very run. "
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
        try:
            save(file, (saved.state, saved.history), metadata=metadata)
            best = saved.state.best
            if best is not None and int(best.epoch) != self._best:
                about = {"epoch": int(best.epoch), "cost": float(best.cost)}
                save(self.path / BEST, best.parameters, metadata=about)
                self._best = int(best.epoch)
            for old in self._files()[: -self._keep]:
                old.unlink(missing_ok=True)
            self.failure = None
        except OSError as error:
            if self.failure is None:
                print(f"\nfit: could not write {file}: {error}; going on", file=sys.stderr)
            self.failure = error
        self._took = time.perf_counter() - self._begin


def _locked(path: Path) -> int:
    """Opens and locks a file, up to the end of the process at the latest."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise BlockingIOError(errno.EAGAIN, "it is in use by another run") from None
    return lock
