"""Locks on runs: one byte of a file per run, released by the system when the process dies."""

import errno
import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxnet.core import checks
from jaxnet.core.atomic import open_descriptor

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@runtime_checkable
class Locks(Protocol):
    """Locks on ranges of runs."""

    def acquire(self, runs: range) -> bool:
        """Locks some runs, if no other process has a lock on any of them."""

    def release(self, runs: range) -> None:
        """Releases the locks on some runs."""

    def close(self) -> None:
        """Releases all locks."""


class FileLocks:
    """POSIX locks on the bytes of a file, which also work on most network file systems.

    They exclude other processes, but not other threads of this one, which would release them, too.
    """

    def __init__(self, path: Path) -> None:
        """Opens or creates the file.

        Raises:
            InvalidValue: there are no such locks, or this process has opened the file already.
            OSError: the file cannot be opened.
        """
        if fcntl is None:
            raise checks.InvalidValue(
                "expected a system with POSIX locks. Received: Windows; part=(i, n) needs no locks"
            )
        if path in _open:
            raise checks.InvalidValue(
                f"expected one sweep at a time of a process in a folder. Received: {path.parent}, "
                "which another thread uses"
            )
        self._path, self._descriptor = path, open_descriptor(path, os.O_RDWR | os.O_CREAT)
        _open.add(path)

    def acquire(self, runs: range) -> bool:
        """Locks some runs, if no other process has a lock on any of them."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, len(runs), runs.start)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            error.add_note("part=(i, n) needs no locks")
            raise
        return True

    def release(self, runs: range) -> None:
        """Releases the locks on some runs."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, len(runs), runs.start)

    def close(self) -> None:
        """Releases all locks."""
        os.close(self._descriptor)
        _open.remove(self._path)


_open: set[Path] = set()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.clear)  # a forked process has no locks


class NoLocks:
    """Stands for the locks of a process whose runs no other process makes."""

    def acquire(self, runs: range) -> bool:
        """Nothing is locked."""
        return True

    def release(self, runs: range) -> None:
        """Nothing is locked."""

    def close(self) -> None:
        """Nothing is locked."""
