"""Files that are whole or not there: what a crash, a full disk or Ctrl-C interrupts is not seen."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jaxnet.core import checks


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write, which takes the place of `path` when the block ends without an error.

    Until then it is another file in the same folder, whose name starts with a dot and the name of
    `path`, and ends with `.unfinished`. After an error it is gone, and what was at `path` is as it
    was. A reader sees the old file or the new one, also after a power failure: the bytes are on the
    disk before they get the name.

    As with `open`, permissions are those of a new file, under the umask, and a symbolic link is
    followed: it stays, and the file that it points to is replaced.

    Raises:
        TypeError: `path` is neither a string nor a path.
        FileNotFoundError: there is no such folder.
        FileExistsError: at `path` is a folder or a device, not a file.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "greeting")
    ...     with atomic_write(path) as file:
    ...         _ = file.write(b"good morning")
    ...     path.read_bytes()
    b'good morning'
    """
    target = _target(path)
    start = target.name[:40]  # since names may have 255 bytes, and a character takes up to four
    temporary = target.with_name(f".{start}.{secrets.token_hex(8)}.unfinished")
    try:
        with open(temporary, "xb", opener=opened) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def opened(path: str | os.PathLike[str], flags: int) -> int:
    """A file's descriptor, as `os.open` gives it, but never that of standard error and the like.

    Where a program is started without one of those, its number is the next to be given, and what
    other libraries print would land in the file.
    """
    descriptor = os.open(path, flags, 0o666)
    taken = [descriptor]
    try:
        while taken[-1] <= 2:
            taken.append(os.dup(descriptor))
        return taken.pop()
    finally:
        for lower in taken:
            os.close(lower)


def _target(path: str | os.PathLike[str]) -> Path:
    """The file that `path` names, links followed, which can be written."""
    if not isinstance(path, (str, os.PathLike)):
        raise checks.InvalidType(
            f"path: expected a string or a pathlib.Path. Received: {checks.describe(path)}"
        )
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "not a file"
        raise FileExistsError(
            f"path: expected a file, new or to be replaced. Received: {path}, which is {kind}"
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"path: expected a file in a folder that exists. Received: {path}, "
            f"but there is no folder {target.parent}"
        )
    return target


def _sync_folder(folder: Path) -> None:
    """Writes the new name to the disk, where the system lets folders be opened and synchronised."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
