"""`scripts/supervise.py`: what it does when a process dies, or when it is told to stop."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import helpers
import pytest

ROOT = Path(__file__).resolve().parents[1]
COUNT = """
import os, pathlib, sys, time
rank, n = os.environ["JAX_PROCESS_ID"], os.environ["JAX_NUM_PROCESSES"]
host, port = os.environ["JAX_COORDINATOR_ADDRESS"].split(":")
assert os.environ["JAX_COORDINATOR_BIND_ADDRESS"] == f"{host}:{port}"
file = pathlib.Path(f"starts-{rank}")
starts = int(file.read_text()) if file.exists() else 0
file.write_text(str(starts + 1))
"""


def supervise(folder, script, *options, **changes):
    file = folder / "script.py"
    file.write_text(COUNT + script)
    command = [sys.executable, str(ROOT / "scripts/supervise.py"), *options, str(file), "argument"]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, **changes)


def starts(folder):
    return [int((folder / f"starts-{rank}").read_text()) for rank in range(2)]


def test_all_processes_start_again_if_one_fails(tmp_path):
    script = """
if starts == 0 and rank == "1":
    sys.exit(7)
if starts == 0:
    time.sleep(3600)  # as in a collective operation that never ends
assert sys.argv[1] == "argument" and n == "2"
"""
    process = supervise(tmp_path, script, "--processes", "2")
    _, errors = process.communicate(timeout=helpers.HANGS)
    assert process.returncode == 0
    assert "a process ended with 7; restarting all" in errors
    assert starts(tmp_path) == [2, 2]


def test_the_supervisor_gives_up_with_the_status_of_the_process(tmp_path):
    script = "os.kill(os.getpid(), 9) if rank == '0' else time.sleep(3600)"
    process = supervise(tmp_path, script, "--processes", "2", "--restarts", "1")
    process.communicate(timeout=helpers.HANGS)
    assert process.returncode == 128 + 9
    assert starts(tmp_path) == [2, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_processes_and_the_supervisor(tmp_path, number):
    script = """
import signal
for n in (signal.SIGTERM, signal.SIGINT):
    signal.signal(n, lambda number, _: sys.exit(128 + number))
pathlib.Path(f"ready-{rank}").touch()
time.sleep(3600)
"""
    process = supervise(tmp_path, script, "--processes", "2", start_new_session=True)
    deadline = time.monotonic() + helpers.HANGS
    while not all((tmp_path / f"ready-{rank}").exists() for rank in range(2)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if number == signal.SIGINT:  # a terminal sends it to the whole group
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.communicate(timeout=helpers.HANGS)
    assert process.returncode == 128 + number
    assert starts(tmp_path) == [1, 1]


@pytest.mark.parametrize(
    "options", [["--processes", "0"], ["--processes", "2", "--restarts", "-1"], []]
)
def test_wrong_options_are_refused(tmp_path, options):
    process = supervise(tmp_path, "", *options)
    _, errors = process.communicate(timeout=helpers.HANGS)
    assert process.returncode == 2 and "error: " in errors
    assert not list(tmp_path.glob("starts-*"))
