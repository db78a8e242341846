"""Atomic writing: a file is written whole or not at all, whatever interrupts it."""

import os
import stat
from pathlib import Path

import helpers
import pytest

from jaxnet.core.atomic import atomic_write


def write(path, content=b"new"):
    with atomic_write(path) as file:
        file.write(content)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", [str, Path])
def test_writes_a_file_and_replaces_it(tmp_path, kind):
    for content in (b"first, and longer", b"second"):
        write(kind(tmp_path / "file"), content)
        assert contents(tmp_path) == {"file": content}


def test_a_relative_path_is_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("file")
    assert contents(tmp_path) == {"file": b"new"}


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    write(tmp_path / "file", b"old")
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
        (other,) = set(os.listdir(tmp_path)) - {"file"}
        assert other.startswith(".file.") and other.endswith(".unfinished")
        assert (tmp_path / "file").read_bytes() == b"old"
    assert contents(tmp_path) == {"file": b"new"}


def test_the_longest_file_name(tmp_path):
    write(tmp_path / ("n" * 255))
    assert os.listdir(tmp_path) == ["n" * 255]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("before", [{}, {"file": b"old"}])
def test_an_error_leaves_the_folder_unchanged(tmp_path, error, before):
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error), atomic_write(tmp_path / "file") as file:
        file.write(b"half of ")
        raise error
    assert contents(tmp_path) == before


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file(tmp_path, monkeypatch, function):
    def fail(*_):
        raise OSError("the disk is full")

    write(tmp_path / "file", b"old")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="full"):
        write(tmp_path / "file")
    assert contents(tmp_path) == {"file": b"old"}


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace

    def record_fsync(descriptor):
        status = os.fstat(descriptor)
        calls.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")
        fsync(descriptor)

    def record_replace(*names):
        calls.append("name")
        replace(*names)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write(tmp_path / "file")
    assert calls == ["3 bytes", "name", "folder"]


def test_folders_that_cannot_be_synchronised(tmp_path, monkeypatch):
    fsync = os.fsync

    def for_files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError("not here")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", for_files_only)
    write(tmp_path / "file")
    assert contents(tmp_path) == {"file": b"new"}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_a_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path, exists):
    folder, link = tmp_path / "elsewhere", tmp_path / "link"
    folder.mkdir()
    if exists:
        (folder / "file").write_bytes(b"old")
    link.symlink_to(folder / "file")
    write(link)
    assert link.is_symlink()
    assert contents(folder) == {"file": b"new"}


def test_paths_that_cannot_be_files_raise(tmp_path):
    missing = tmp_path / "missing"
    with helpers.refused(FileNotFoundError, f"there is no folder {missing.resolve()}"):
        write(missing / "file")
    with helpers.refused(FileExistsError, f"{tmp_path}, which is a folder"):
        write(tmp_path)
    with helpers.refused(TypeError, "a string or a pathlib.Path. Received: int 3"):
        write(3)
    assert contents(tmp_path) == {}


def test_pipes_are_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with helpers.refused(FileExistsError, f"{pipe}, which is not a file"):
        write(pipe)
    assert pipe.is_fifo()


def test_a_file_instead_of_the_folder_raises(tmp_path):
    write(tmp_path / "file")
    with helpers.refused(FileNotFoundError, "there is no folder"):
        write(tmp_path / "file" / "file")


def test_descriptors_of_standard_streams_are_not_used(tmp_path):
    """Without standard error, the next descriptor would be 2."""
    script = f"""
import os
from jaxnet.core.atomic import atomic_write, open_descriptor
os.close(2)
with atomic_write({str(tmp_path / "file")!r}) as file:
    assert file.fileno() > 2
    try:
        os.write(2, b"a message")
    except OSError:
        file.write(b"new")
descriptor = open_descriptor({str(tmp_path / "file")!r}, os.O_RDONLY)
print(descriptor > 2)
"""
    assert helpers.run_plainly(script).split() == ["True"]
    assert contents(tmp_path) == {"file": b"new"}
