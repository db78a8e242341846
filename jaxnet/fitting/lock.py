"""One process per directory: a file lock that is held while a run uses its directory."""

import errno
import os
import weakref
from pathlib import Path

from jaxnet.core.atomic import open_descriptor

try:
    import fcntl
except ImportError:  # Windows has no such locks, so two runs may use one directory there
    fcntl = None  # type: ignore[assignment]


class DirectoryLock:
    """A lock on the file `.lock` of a directory, released at the end of the process at the latest.

    In a forked process the lock is released at once: the directory belongs to the parent.
    """

    def __init__(self, directory: Path) -> None:
        """Locks the directory.

        If the file can only be read, a shared lock is taken: a finished run may be in a directory
        that cannot be written.

        Raises:
            BlockingIOError: another run holds the lock.
            OSError: the file can be neither written nor read.
        """
        self._path = directory / ".lock"
        self._descriptor: int | None = _lock(self._path)
        _held.add(self)

    @property
    def is_held(self) -> bool:
        """Whether this process holds the lock."""
        return self._descriptor is not None

    def release(self) -> None:
        """Releases the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def check(self) -> None:
        """Raises an OSError unless the directory is the one that was locked."""
        if self._descriptor is None or not os.path.samestat(
            os.fstat(self._descriptor), os.stat(self._path)
        ):
            raise OSError(
                errno.EBUSY, "the directory no longer belongs to this run", str(self._path)
            )


_held: "weakref.WeakSet[DirectoryLock]" = weakref.WeakSet()


def _release_all() -> None:
    for lock in _held:
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_all)


def _lock(path: Path) -> int:
    exclusive = True
    try:
        descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS) or not path.is_file():
            raise
        descriptor, exclusive = open_descriptor(path, os.O_RDONLY), False
    try:
        if fcntl:
            kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BlockingIOError(errno.EAGAIN, "it is in use by another run") from None
    return descriptor
