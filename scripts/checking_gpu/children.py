"""Child processes, one for each measurement: they end when their time is up, with all of theirs."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Failed(Exception):
    """A child ended with an error, or its time was up."""


class Setting(NamedTuple):
    """On what the parts run: JAX's platforms, and whether all is small enough for a CPU."""

    platforms: str
    reduced: bool


class Finished(NamedTuple):
    """What a child printed, and its exit status; None if its time was up."""

    status: int | None
    output: str


def run(setting: Setting, command: list[str], seconds: float, **environment: str) -> Finished:
    """Runs a command, and kills it and the processes that it started when its time is up."""
    # jaxnet from this checkout; a GPU's memory is taken as it is needed, since some share it.
    paths = [str(ROOT), str(ROOT / "scripts"), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {
        "JAX_PLATFORMS": setting.platforms,
        "PYTHONPATH": os.pathsep.join(paths),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    status = None
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | settings | environment,
            start_new_session=True,
        )
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(max(seconds, 0))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        file.seek(0)
        return Finished(status, file.read())


def ask(setting: Setting, seconds: float, module: str, *arguments: Any, **environment: str) -> Any:
    """Returns the JSON that a module of this folder prints on its last line.

    Raises:
        Failed: it ended with an error, whose message is the last line, or its time was up.
    """
    command = [sys.executable, "-m", f"checking_gpu.{module}", *map(str, arguments)]
    status, output = run(setting, command, seconds, **environment)
    if status is None:
        raise Failed(f"its time, {seconds:.0f} s, was up")
    last = (output.strip().splitlines() or ["no message"])[-1]
    if status:
        raise Failed(f"status {status}: {last[:200]}")
    return json.loads(last)


def with_flag(flag: str) -> str:
    """The value of XLA_FLAGS with one more flag."""
    return f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
