"""The console: no run ends because of standard error, wherever it goes."""

import concurrent.futures
import errno
import io
import os
import pathlib
import pty
import signal
import subprocess
import sys
import termios
import warnings

import chex
import helpers
import jax
import numpy as np
import pytest
import tqdm

import jaxnet
from jaxnet.core import console


class Failing(io.StringIO):
    """A terminal that fails after some writes, as a closed one does."""

    def __init__(self, error, works=0):
        super().__init__()
        self.error, self.left = error, works

    def isatty(self):
        return True

    def write(self, text):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().write(text)

    def flush(self):
        if self.left < 0:
            raise self.error


class WithoutMethods:
    pass


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "None": lambda: None,
    "closed": closed,
    "without methods": WithoutMethods,
    "a full disk": lambda: Failing(OSError(errno.ENOSPC, "No space left on device")),
    "a broken pipe": lambda: Failing(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "a terminal that goes away": lambda: Failing(OSError(errno.EIO, "Input/output error"), 3),
    "a full disk during the run": lambda: Failing(OSError(errno.ENOSPC, "No space left"), 3),
    "a stream of the program's": lambda: Failing(RuntimeError("reentrant call"), 1),
}
X = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]


def fit(**options):
    arguments = jaxnet.mlp([1, 3, 1]), jaxnet.squared_error, jaxnet.adam(0.01), (X, X**2)
    return jaxnet.fit(*arguments, key=jax.random.key(0), epochs=5, batch_size=None, **options)


@pytest.mark.parametrize("kind", STREAMS)
def test_no_call_ends_because_of_standard_error(kind, monkeypatch, capsys, tmp_path):
    whole = fit()

    def disturb(epoch, metrics, state):
        if epoch == 2:
            (tmp_path / "run").rename(
                tmp_path / "gone"
            )  # gives a message, and a warning at the end
        if epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with warnings.catch_warnings(), monkeypatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(sys, "stderr", STREAMS[kind]())
        shown = fit(on_epoch=lambda *_: None)
        run = fit(on_epoch=disturb, checkpoint=tmp_path / "run", save_every=1)
        found = jaxnet.sweep(lambda a: a * 2, {"a": [1.0, 2.0, 3.0]})
    chex.assert_trees_all_equal(shown.state, whole.state)
    assert (run.stopped, len(run.history["cost"])) == ("interrupted", 3)
    np.testing.assert_array_equal(run.history["cost"], whole.history["cost"][:3])
    assert found.results.tolist() == [2, 4, 6]
    assert capsys.readouterr().out == ""


def test_warnings_as_errors_are_raised_without_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(UserWarning, match="mine"):
        console.warn("mine", stacklevel=1)


def test_a_warning_names_the_line_of_the_caller():
    script = """
import warnings
from jaxnet.core.console import warn
def warning():
    warn("mine", stacklevel=2)
with warnings.catch_warnings(record=True) as caught:
    warning()
print(caught[0].lineno, caught[0].message)
"""
    assert helpers.run_plainly(script).split() == ["7", "mine"]


def lock_is_free():
    lock = tqdm.tqdm.get_lock().th_lock
    free = lock.acquire(blocking=False)
    if free:
        lock.release()
    return free


def test_a_failing_bar_releases_its_lock(monkeypatch):
    """tqdm keeps the lock if a write raises; a bar in another thread would wait for ever."""
    monkeypatch.setattr(sys, "stderr", Failing(OSError(errno.ENOSPC, "full"), 3))
    fit(on_epoch=lambda *_: None)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert pool.submit(lock_is_free).result()


SCRIPT = """
import os, pathlib, signal, sys, warnings
import jax, jaxnet, numpy as np
folder, how = pathlib.Path(sys.argv[1]), sys.argv[2]
x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
def fit(name, **options):
    arguments = jaxnet.mlp([1, 3, 1]), jaxnet.squared_error, jaxnet.adam(0.01), (x, x**2)
    options = dict(epochs=5, batch_size=None, save_every=1) | options
    return jaxnet.fit(*arguments, key=jax.random.key(0), checkpoint=folder / name, **options)
def lose(epoch, metrics, state):
    if epoch == 2:
        (folder / "lost").rename(folder / "gone")
def print_as_a_library_does(epoch, metrics, state):
    try:
        os.write(2, b"a message")
    except OSError:
        pass
if how == "none":
    sys.stderr = None
if how == "closed by the program":
    sys.stderr.close()
print(fit("lost", on_epoch=lose).stopped)
whole = fit("whole", on_epoch=print_as_a_library_does)
newest = folder / "whole" / "epoch-00000005.safetensors"
newest.write_bytes(newest.read_bytes()[:-1])
again = fit("whole")
print(again.stopped, again.history["cost"].tobytes() == whole.history["cost"].tobytes())
press = lambda *_: os.kill(os.getpid(), signal.SIGINT)
print(len(fit("pressed", on_epoch=press).history["cost"]))
def pressing(a):
    jax.debug.callback(press_ctrl_c)
    return a
print(jaxnet.sweep(pressing, {"a": np.ones(1)}).done.all())
print("to the end", flush=True)
fit("ended", on_epoch=lambda epoch, *_: epoch == 3 and os.kill(os.getpid(), signal.SIGTERM))
"""
PRINTED = ["finished", "finished True", "1", "True", "to the end"]


@pytest.mark.parametrize(
    ("how", "redirected"),
    [
        ("missing", "2>&-"),
        ("on a full disk", "2>/dev/full"),
        ("a broken pipe", ""),
        ("none", "2>/dev/null"),
        ("closed by the program", ""),
    ],
)
def test_a_program_runs_the_same_without_standard_error(how, redirected, tmp_path):
    if how == "on a full disk" and not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    reads, writes = os.pipe()
    if how == "a broken pipe":
        os.close(reads)
    command = [
        f'exec "$0" "$@" {redirected}',
        sys.executable,
        "-c",
        helpers.PRESS_CTRL_C + SCRIPT,
        str(tmp_path),
        how,
    ]
    done = subprocess.run(
        ["sh", "-c", *command],
        stdout=subprocess.PIPE,
        stderr=writes,
        text=True,
        timeout=helpers.HANGS,
    )
    os.close(writes)
    if how != "a broken pipe":
        os.close(reads)
    assert done.stdout.splitlines() == PRINTED
    assert done.returncode == 128 + signal.SIGTERM
    last = max(path.name for path in (tmp_path / "ended").glob("epoch-*"))
    assert last == "epoch-00000003.safetensors"
    for path in tmp_path.glob("*/*.safetensors"):
        jaxnet.load(path)  # raises if the file is corrupt
    assert (tmp_path / "whole" / ".lock").read_bytes() == b""


TERMINAL = """
import os, signal, sys
import jax, jaxnet, numpy as np
assert sys.stderr.isatty()
x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
def wait(epoch, metrics, state):
    if epoch == 3:
        os.read(0, 1)  # the terminal is closed before this ends
    if epoch == 5:
        os.kill(os.getpid(), signal.SIGTERM)
arguments = jaxnet.mlp([1, 3, 1]), jaxnet.squared_error, jaxnet.adam(0.01), (x, x**2)
options = dict(key=jax.random.key(0), epochs=9, batch_size=None, checkpoint=sys.argv[1])
jaxnet.fit(*arguments, on_epoch=wait, **options)
"""


def test_a_run_continues_when_its_terminal_is_closed(tmp_path):
    terminal, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (24, 80))
    command = [sys.executable, "-c", TERMINAL, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=its_end) as process:
        os.close(its_end)
        shown = b""
        while b"0/9" not in shown:  # later numbers appear only after slow epochs
            shown += os.read(terminal, 1000)  # OSError if the process has ended
        os.close(terminal)
        process.stdin.close()
        assert process.wait(helpers.HANGS) == 128 + signal.SIGTERM
    assert max(p.name for p in pathlib.Path(tmp_path).glob("e*")) == "epoch-00000005.safetensors"
