"""Atomic writing of files: a crash, a full disk or Ctrl-C never leaves a partial file."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jaxnet.core import checks


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a binary file that replaces `path` if the block ends without an error.

    The bytes are written to a temporary file in the same folder. Its name starts with a dot and the
    name of `path`, and ends with `.unfinished`. After an error the temporary file is removed, and
    `path` is unchanged. A reader sees the old file or the new one, also after a power failure: the
    bytes are flushed to the disk before the file gets its name.

    As with `open`, the permissions are those of a new file under the umask, and symbolic links are
    followed: the link stays, and the file that it points to is replaced.

    Raises:
        TypeError: `path` is neither a string nor a path.
        FileNotFoundError: there is no such folder.
        FileExistsError: `path` is a folder or a device, not a file.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "greeting")
    ...     with atomic_write(path) as file:
    ...         _ = file.write(b"good morning")
    ...     path.read_bytes()
    b'good morning'
    """
    target = _resolve(path)
    start = target.name[:40]  # names may have 255 bytes, and a character takes up to four
    temporary = target.with_name(f".{start}.{secrets.token_hex(8)}.unfinished")
    try:
        with open(temporary, "xb", opener=open_descriptor) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def open_descriptor(path: str | os.PathLike[str], flags: int) -> int:
    """Opens a file like `os.open`, but never with the descriptor 0, 1 or 2.

    If a program is started without standard error, its descriptor is free. Another file would get
    it, and what libraries print would land in that file.
    """
    descriptor = os.open(path, flags, 0o666)
    copies = [descriptor]
    try:
        while copies[-1] <= 2:
            copies.append(os.dup(descriptor))
        return copies.pop()
    finally:
        for lower in copies:
            os.close(lower)


def _resolve(path: str | os.PathLike[str]) -> Path:
    """Follows links to the file that `path` names, and checks that it can be written."""
    checks.path("path", path)
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
    """Flushes the names in a folder to the disk, where the system allows that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
