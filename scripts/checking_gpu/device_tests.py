"""The tests that mean something on a GPU: numbers, bits, and what depends on the kind of device."""

import collections
import importlib.util
import os
import re
import sys

from checking_gpu.children import DETERMINISTIC, Failed, Setting, run, with_flag
from checking_gpu.outcome import Outcome

TESTS = [
    "nn/test_activations.py",
    "nn/test_softmax.py",
    "nn/test_losses.py",
    "nn/test_precision.py",
    "test_optimizers.py",
    "training/test_train.py",
    "training/test_shuffle.py",
    "training/test_evaluation.py",
    "sweeping/test_chunks.py",
    "sweeping/test_sweep.py",
    "fitting/test_members.py",
    "fitting/test_resume.py",
    "io/test_serialization.py",
    "io/test_export.py",
    "debug/test_nonfinite.py",
]
FEW = ["training/test_data.py"]
SEVERAL_DEVICES = "not devices and not copied_while"  # by name: they need two of them
LISTED = 20

TEXT = (
    "With exact float32 products (`JAX_DEFAULT_MATMUL_PRECISION=highest`) and "
    f"`{DETERMINISTIC}`, {{files}} of `tests`: {{counts}}."
)


def check(setting: Setting, seconds: float) -> Outcome:
    """Runs the tests; those that have finished count also if the time is up."""
    chosen = FEW if setting.reduced else TESTS
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-k", SEVERAL_DEVICES]
    command += ["-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist"):
        command += ["-n", str(0 if setting.reduced else min(8, os.cpu_count() or 1))]
    command += [f"tests/{name}" for name in chosen]
    environment = {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "XLA_FLAGS": with_flag(DETERMINISTIC)}
    status, output = run(setting, command, seconds, **environment)
    verdicts, failed = count(output)
    if not verdicts:
        raise Failed(f"no test ran: {(output.strip().splitlines() or ['no message'])[-1][:200]}")
    counts = ", ".join(f"{number} {word}" for word, number in sorted(verdicts.items()))
    text = TEXT.format(files=", ".join(f"`{name}`" for name in chosen), counts=counts)
    if failed:
        print(output)
        more = f" and {len(failed) - LISTED} more" if len(failed) > LISTED else ""
        text += f" Failed: {', '.join(f'`{name}`' for name in failed[:LISTED])}{more}."
    if status is None:
        text += f" The other tests did not run, since the time, {seconds:.0f} s, was up."
    return Outcome(text, passed=status == 0)


def count(output: str) -> tuple[dict[str, int], list[str]]:
    """The number of tests for each verdict of pytest -v, and the tests that failed.

    Alone, pytest writes the test before the verdict; with several processes, after it.
    """
    words = "PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS"
    alone = rf"^(\S+::.+?) ({words})\b.*\[ *\d+%\]$"
    parallel = rf"^\[gw\d+\] \[ *\d+%\] ({words}) (\S+::.+?) *$"
    found = [(name, word) for name, word in re.findall(alone, output, re.MULTILINE)]
    found += [(name, word) for word, name in re.findall(parallel, output, re.MULTILINE)]
    verdicts = collections.Counter(word.lower() for _, word in found)
    failed = [name for name, word in found if word in ("FAILED", "ERROR", "XPASS")]
    return dict(verdicts), failed
