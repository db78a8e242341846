"""Results on disk: nothing is lost or made twice, whoever dies, and nothing damaged is believed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.sweeping import folder as folders
from jaxnet.sweeping import locks
from jaxnet.sweeping.storage import Results

NUMBERS = np.arange(1.0, 41.0, dtype=np.float32)
GRID, STRUCTURAL = {"a": NUMBERS, "b": [1.0, 2.0]}, {"power": [1, 2, 3]}


def power(a, b, power):
    return {"value": (a / b) ** power, "row": jnp.stack([a, b])}


def swept(path=None, run=power, grid=GRID, **options):
    """A sweep in small chunks: with 200 bytes, about 8 runs of 13 bytes each."""
    options = {"structural": STRUCTURAL, "memory": 200.0} | options
    return jaxnet.sweep(run, grid, folder=path, **options)


@pytest.fixture(scope="module")
def expected():
    return swept().results


@pytest.fixture(autouse=True)
def write_every_chunk(monkeypatch):
    monkeypatch.setattr(folders, "_SECONDS", 0.0)


def files(path):
    return sorted(file.name for file in path.glob("runs-*"))


def assert_same(found, expected):
    """The same bits."""
    for name, array in expected.items():
        assert found.results[name].dtype == array.dtype
        np.testing.assert_array_equal(found.results[name].view(np.uint8), array.view(np.uint8))


def count_calls(monkeypatch):
    """The numbers of the runs that are made."""
    made = []
    original = folders.SweepFolder.take

    def take(self, runs, leaves, diverged):
        made.extend(runs)
        original(self, runs, leaves, diverged)

    monkeypatch.setattr(folders.SweepFolder, "take", take)
    return made


def test_a_folder_gives_the_same_bits_and_is_read_the_second_time(tmp_path, expected, monkeypatch):
    path = tmp_path / "new" / "sweep"
    made = count_calls(monkeypatch)
    first = swept(path)
    assert sorted(made) == list(range(240))
    assert len(files(path)) > 3
    made.clear()
    monkeypatch.setattr("jaxnet.sweeping.sweep.make_chunk", None)  # nothing is compiled
    second = swept(str(path))
    assert made == []
    for found in (first, second):
        assert_same(found, expected)
        assert found.done.all() and not found.diverged.any()
    second.results["value"][0] = 7  # the caller's own copy
    assert_same(swept(path), expected)


def test_diverged_runs_are_marked_from_disk(tmp_path):
    def log(a):
        return jnp.log(a)

    for _ in range(2):
        found = jaxnet.sweep(log, {"a": [-1.0, 1.0]}, folder=tmp_path)
        assert found.diverged.tolist() == [True, False]


def test_results_of_many_dtypes(tmp_path):
    def run(a, key):
        kinds = [jnp.bfloat16, jnp.int8, jnp.bool_, jnp.complex64, jnp.float16]
        return {"of": [a.astype(kind) for kind in kinds], "key": key, "none": jnp.zeros((0, 2))}

    grid = {"a": [0.5, 3.0], "key": jax.random.split(jax.random.key(0), 2)}
    with jax.debug_key_reuse(False):
        plain = jaxnet.sweep(run, grid, zipped=True)
        jaxnet.sweep(run, grid, zipped=True, folder=tmp_path)
        found = jaxnet.sweep(run, grid, zipped=True, folder=tmp_path)
    assert jax.tree.structure(plain.results) == jax.tree.structure(found.results)
    for a, b in zip(jax.tree.leaves(plain.results), jax.tree.leaves(found.results), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_what_is_missing_is_made_again(tmp_path, expected, monkeypatch):
    swept(tmp_path)
    gone = files(tmp_path)[1::3]
    for name in gone:
        (tmp_path / name).unlink()
    runs = [n for name in gone for n in range(int(name[5:15]), int(name[16:26]))]
    made = count_calls(monkeypatch)
    assert_same(swept(tmp_path), expected)
    assert sorted(made) == runs


def test_damaged_files_are_made_again_and_replaced(tmp_path, expected, monkeypatch):
    """A flipped bit anywhere, a file cut short, and an empty one."""
    swept(tmp_path)
    names = random.Random(0).sample(files(tmp_path), 5)
    made = count_calls(monkeypatch)
    for number, name in enumerate(names):
        data = bytearray((tmp_path / name).read_bytes())
        if number < 3:
            data[len(data) * (number + 1) // 4] ^= 1 << number
        (tmp_path / name).write_bytes(data[: [None, None, None, 50, 0][number]])
        made.clear()
        with pytest.warns(UserWarning, match="sweep: .*made again"):
            assert_same(swept(tmp_path), expected)
        assert made == list(range(int(name[5:15]), int(name[16:26])))
    made.clear()
    assert_same(swept(tmp_path), expected)
    assert made == []


def test_a_renamed_file_is_not_believed(tmp_path, expected):
    swept(tmp_path)
    first, second, *_ = files(tmp_path)
    shutil.copy(tmp_path / first, tmp_path / "runs-0000000000-0000000240.safetensors")
    shutil.copy(tmp_path / first, tmp_path / second)
    with pytest.warns(UserWarning, match="made again"):
        assert_same(swept(tmp_path), expected)


def test_a_damaged_description_is_written_again(tmp_path, expected):
    swept(tmp_path)
    description = tmp_path / "sweep.safetensors"
    whole = description.read_bytes()
    description.write_bytes(whole[:-1] + b"?")
    assert_same(swept(tmp_path), expected)
    assert description.read_bytes() == whole
    description.write_bytes(b"")
    with helpers.refused(ValueError, "of this sweep", "of another sweep"):
        swept(tmp_path, grid=GRID | {"b": [1.0, 3.0]})


FACTOR = 2.0


def scaled(a, b, power):
    return {"value": FACTOR * a * b + power}


OTHERS = {
    "values": ({"grid": GRID | {"b": [1.0, 3.0]}}, ["grid/b was"]),
    "names": ({"grid": {"b": [1.0, 2.0], "a": NUMBERS}}, ["axes/1 was a and is b"]),
    "number": ({"grid": GRID | {"b": [1.0]}}, ["grid/b was"]),
    "zipped": ({"grid": {"a": [1.0, 2.0], "b": [1.0, 2.0]}, "zipped": True}, ["was"]),
    "structural": ({"structural": {"power": [1, 2, 4]}}, ["structural/power/2 was 3 and is 4"]),
    "combinations": ({"structural": {"power": [1, 2]}}, ["structural/power was 3 and is 2"]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_folder_of_another_sweep_is_refused_with_the_difference(name, tmp_path):
    swept(tmp_path, scaled)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    options, words = OTHERS[name]
    with helpers.refused(ValueError, "sweep: expected folder to be empty or of this", *words):
        swept(tmp_path, scaled, **options)
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


def test_whatever_a_run_reads_belongs_to_the_sweep(tmp_path, monkeypatch):
    """A global number, a captured array, and a setting of JAX."""
    swept(tmp_path / "global", scaled)
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    with helpers.refused(ValueError, "run/FACTOR was 2.0 and is 3.0"):
        swept(tmp_path / "global", scaled)

    def capturing(data):
        return lambda a: (data * a).sum()

    data = np.arange(1000.0, dtype=np.float32)
    jaxnet.sweep(capturing(data), {"a": [1.0]}, folder=tmp_path / "captured")
    jaxnet.sweep(capturing(data.copy()), {"a": [1.0]}, folder=tmp_path / "captured")
    data[500] += 1
    with helpers.refused(ValueError, "run/data was"):
        jaxnet.sweep(capturing(data), {"a": [1.0]}, folder=tmp_path / "captured")

    with (
        jax.default_matmul_precision("float32"),
        helpers.refused(ValueError, "jax_default_matmul_precision was None and is float32"),
    ):
        jaxnet.sweep(capturing(data), {"a": [1.0]}, folder=tmp_path / "captured")


def test_another_version_of_jax_is_refused(tmp_path, monkeypatch):
    swept(tmp_path)
    monkeypatch.setattr(jax, "__version__", "0.0.1")
    with helpers.refused(ValueError, f"environment/jax was {jax.lib.__version__} and is 0.0.1"):
        swept(tmp_path)


def test_another_kind_of_device_is_a_warning(tmp_path, expected, monkeypatch):
    swept(tmp_path)
    module = sys.modules["jaxnet.sweeping.sweep"]
    describe = module.describe
    monkeypatch.setattr(module, "describe", lambda *call: describe(*call) | {"devices": "abacus"})
    with pytest.warns(UserWarning, match="results of cpu, which differ from those of abacus"):
        assert_same(swept(tmp_path), expected)


def test_parts_make_up_the_whole(tmp_path, expected, monkeypatch):
    """Without locks; each part makes its own runs, and the last one sees all."""
    monkeypatch.setattr(locks, "fcntl", None)  # as on Windows
    made = count_calls(monkeypatch)
    counts = []
    for i in (2, 0, 1):
        found = swept(tmp_path, part=(i, 3))
        assert sorted(made) == list(range(80 * i, 80 * i + 80))
        counts.append(int(found.done.sum()))
        made.clear()
    assert counts == [80, 160, 240]
    assert_same(found, expected)
    with helpers.refused(ValueError, "POSIX locks", "part=(i, n) needs no locks"):
        swept(tmp_path)


def test_more_parts_than_runs(tmp_path):
    for i in range(5):
        found = jaxnet.sweep(lambda a: a * 2, {"a": [1, 2, 3]}, folder=tmp_path, part=(i, 5))
    np.testing.assert_array_equal(found.results, [2, 4, 6])


def test_results_are_mapped(tmp_path):
    """The arrays are in a file without a name in the folder, not in memory."""
    found = swept(tmp_path)
    base = found.results["value"]
    while isinstance(base, np.ndarray):
        base = base.base
    assert type(base).__name__ == "mmap"
    assert {file.name for file in tmp_path.iterdir()} == {
        ".lock",
        "sweep.safetensors",
        *files(tmp_path),
    }


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path, expected, monkeypatch):
    original, calls = folders.save, []

    def save(path, tree, metadata=None):
        calls.append(path)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        original(path, tree, metadata=metadata)

    monkeypatch.setattr(folders, "save", save)
    with pytest.raises(OSError, match="No space"):
        swept(tmp_path)
    written = files(tmp_path)
    assert len(written) >= 2
    made = count_calls(monkeypatch)
    assert_same(swept(tmp_path), expected)
    assert len(made) == 240 - sum(int(n[16:26]) - int(n[5:15]) for n in written)


def test_results_that_cannot_be_saved_are_refused(tmp_path):
    with helpers.refused(TypeError, "in a folder. Received: int4[] at 'a'"):
        jaxnet.sweep(lambda a: {"a": a.astype(jnp.int4)}, {"a": [1]}, folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


# Several processes.

SCRIPT = """
import sys, time, jax, jaxnet, numpy as np
def run(a, n):
    jax.debug.callback(lambda: time.sleep(0.002))
    return a ** n / 3
grid = {"a": np.linspace(1, 2, 300, dtype=np.float32)}
from jaxnet.sweeping import folder
folder._SECONDS = float(sys.argv[2])
found = jaxnet.sweep(run, grid, structural={"n": [1, 2]}, folder=sys.argv[1], memory=200)
print(found.done.all(), found.results.tobytes().hex())
"""


def start(path, seconds=0.05):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX", "XLA"))}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), str(seconds)],
        env=environment | helpers.QUIET,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=helpers.HANGS)
    assert process.returncode == 0, err
    done, data = out.split()
    return done, data, err


def wait_for_files(path, number):
    start = time.monotonic()
    while len(files(path)) < number:
        assert time.monotonic() - start < helpers.HANGS
        time.sleep(0.01)


def test_processes_share_a_folder_and_a_killed_one_loses_nothing(tmp_path):
    path = tmp_path / "sweep"
    path.mkdir()
    processes = [start(path) for _ in range(3)]
    wait_for_files(path, 4)
    processes[0].kill()
    processes[0].communicate()
    results = {finish(process)[:2] for process in processes[1:]}
    names = files(path)
    results.add(finish(start(path))[:2])
    assert len(results) == 1 and results.pop()[0] == "True"
    assert files(path) == names
    ranges = sorted((int(name[5:15]), int(name[16:26])) for name in names)
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
    assert ranges[-1][1] == 600


def test_results_that_others_wait_for_are_written(tmp_path):
    """Each process waits for the other one at the end, with results that would fill no file yet."""
    processes = [start(tmp_path, seconds=1e9) for _ in range(2)]
    assert len({finish(process)[:2] for process in processes}) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_continues_when_called_again(number, tmp_path):
    process = start(tmp_path)
    wait_for_files(tmp_path, 2)
    process.send_signal(number)
    done, _, error = finish(process)
    assert done == "False" and "sweep: stopping" in error
    before = files(tmp_path)
    assert finish(start(tmp_path))[0] == "True"
    assert set(before) <= set(files(tmp_path))


def test_what_a_killed_process_was_writing_is_removed_an_hour_later(tmp_path):
    """Before, another process may still be writing it."""
    names = [f".runs-0000000000-0000000008.safetensors.{'0' * 16}.unfinished"]
    names.append(f".sweep.safetensors.{'1' * 16}.unfinished")
    others = ".runs-others.unfinished"
    for name in [*names, others]:
        (tmp_path / name).touch()
    swept(tmp_path)
    assert all((tmp_path / name).exists() for name in [*names, others])
    for name in [*names, others]:
        os.utime(tmp_path / name, times=(time.time() - 4000,) * 2)
    swept(tmp_path)
    assert [(tmp_path / name).exists() for name in [*names, others]] == [False, False, True]


# How processes share the work.


class Elsewhere:
    """The locks of another process on some runs."""

    def __init__(self, path, *runs):
        self._locks = subprocess.Popen(
            [sys.executable, "-c", LOCKING, str(path / ".lock"), *map(str, runs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._locks.stdout.readline() == "locked\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._locks.communicate(timeout=helpers.HANGS)


LOCKING = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for run in map(int, sys.argv[2:]):
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, run)
print("locked", flush=True)
input()
"""


@pytest.fixture
def opened(tmp_path):
    """A folder of 3 groups of 20 runs, and the groups."""
    results = Results(jax.ShapeDtypeStruct((), np.float32), 60)
    description = {"sweep": {"programs": []}, "outlines": {}, "devices": ""}
    with folders.SweepFolder(tmp_path, description, results, None) as folder:
        yield folder, [range(0, 20), range(20, 40), range(40, 60)]


def complete(folder, runs):
    folder.take(runs, [np.zeros(len(runs), np.float32)], np.zeros(len(runs), bool))


def test_groups_that_others_compile_come_last(opened, tmp_path):
    folder, groups = opened
    with Elsewhere(tmp_path, folders._GROUPS):  # the first group
        assert folder.choose(groups, [0, 1, 2], 3) == [1, 2]
        assert folder.choose(groups, [0, 2], 1) == [2]
        assert folder.choose(groups, [0], 3) == [0]  # if there is nothing else
        complete(folder, groups[1])
        assert folder.choose(groups, [0, 1, 2], 3) == [2]


def test_groups_without_free_runs_are_not_chosen(opened, tmp_path):
    """So nothing is compiled to wait for others."""
    folder, groups = opened
    complete(folder, range(0, 17))
    with Elsewhere(tmp_path, 17, 18, *range(20, 40)):
        assert folder.choose(groups, [0, 1], 3) == [0]
        complete(folder, range(19, 20))
        assert folder.choose(groups, [0, 1], 3) == []
        assert list(folder.ranges(range(0, 40), 5)) == []
        assert folder.choose(groups, [0, 1, 2], 3) == [2]
    assert folder.choose(groups, [0, 1], 3) == [0, 1]


def test_few_runs_are_claimed_at_a_time(opened, monkeypatch):
    """As many as fill a file: the first one alone, then twice as many while they are quick."""
    (folder, _), locked = opened, []
    monkeypatch.setattr(folders, "_SECONDS", 100.0)
    monkeypatch.setattr(folder._locks, "acquire", lambda runs: locked.append(runs) or True)
    for _ in range(2):  # each group begins anew
        claimed, before = folder.ranges(range(60), 1), len(locked)
        counts = [(next(claimed), len(locked) - before)[1] for _ in range(8)]
        assert counts == [1, 3, 3, 7, 7, 7, 7, 15]


def test_a_part_compiles_its_programs_only(tmp_path, monkeypatch):
    made = []
    module = sys.modules["jaxnet.sweeping.sweep"]
    original = module.make_chunk
    monkeypatch.setattr(module, "make_chunk", lambda *call: made.append(1) or original(*call))
    options = {"structural": {"power": range(9)}, "folder": tmp_path}
    for part in range(3):
        jaxnet.sweep(power, {"a": [1.0], "b": [2.0]}, part=(part, 3), **options)
        assert len(made) == 3 * (part + 1)


def test_large_results_are_written_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_SECONDS", 1e9)
    monkeypatch.setattr(folders, "_BYTES", 1000)
    swept(tmp_path)
    assert len(files(tmp_path)) > 2


def test_a_thread_of_the_same_process_is_refused(opened, tmp_path):
    words = "expected one sweep at a time of a process in a folder", "which another thread uses"
    with helpers.refused(ValueError, *words):
        swept(tmp_path)


def test_a_forked_process_has_no_locks(tmp_path):
    script = """
import os, pathlib, sys
from jaxnet.sweeping.locks import FileLocks
path = pathlib.Path(sys.argv[1])
print(FileLocks(path).acquire(range(5, 9)), flush=True)
if os.fork() == 0:
    inherited = FileLocks(path)
    print(inherited.acquire(range(8, 9)), inherited.acquire(range(9, 12)), flush=True)
    os._exit(0)
os.wait()
"""
    command = [sys.executable, "-c", script, str(tmp_path / ".lock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=helpers.HANGS)
    assert done.stdout.split() == ["True", "False", "True"], done.stderr


def test_a_copy_of_a_file_under_another_name_changes_nothing(tmp_path, expected):
    """Its runs are complete, so nothing is made again, and no warning says so."""
    swept(tmp_path)
    shutil.copy(tmp_path / files(tmp_path)[0], tmp_path / "runs-0000000000-0000000001.safetensors")
    assert_same(swept(tmp_path), expected)


def test_another_sweep_does_not_take_over_a_folder_without_description(tmp_path, expected):
    swept(tmp_path)
    (tmp_path / "sweep.safetensors").unlink()
    with helpers.refused(ValueError, "of another sweep"):
        swept(tmp_path, grid=GRID | {"b": [1.0, 3.0]})
    assert_same(swept(tmp_path), expected)


def test_a_description_of_something_else_is_refused(tmp_path):
    jaxnet.save(tmp_path / "sweep.safetensors", {}, metadata={"epoch": 3})
    with helpers.refused(ValueError, "sweep.safetensors, which describes no sweep"):
        swept(tmp_path)


@pytest.mark.parametrize("wrong", ["", "a\0b"])
def test_an_invalid_name_is_refused(wrong):
    with helpers.refused(ValueError, "sweep: expected folder as the name of a file or folder"):
        swept(wrong)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with helpers.refused(ValueError, "sweep: expected folder to be a folder", "file, a file"):
        swept(tmp_path / "file")


def test_an_observer_may_record_what_it_sees(tmp_path):
    log = []

    def run(a):
        jax.debug.callback(lambda x: log.append(float(x)), a)
        return a * 2

    for _ in range(2):
        np.testing.assert_array_equal(
            jaxnet.sweep(run, {"a": [1, 2]}, folder=tmp_path).results, [2, 4]
        )
    assert sorted(log) == [1, 2]


def test_an_edited_callback_is_another_sweep(tmp_path):
    def calling(function):
        shape = jax.ShapeDtypeStruct((), np.float32)
        return lambda a: jax.pure_callback(function, shape, a, vmap_method="sequential")

    jaxnet.sweep(calling(lambda x: x * np.float32(2)), {"a": [1.0]}, folder=tmp_path)
    with helpers.refused(ValueError, "run computes something else"):
        jaxnet.sweep(calling(lambda x: x * np.float32(3)), {"a": [1.0]}, folder=tmp_path)
