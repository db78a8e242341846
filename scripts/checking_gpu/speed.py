"""The workloads of `scripts/benchmark.py`: jaxnet, its peers, and the limit."""

import importlib.util
import json
import pathlib
import sys
import tempfile

from benchmarking import peers, report
from benchmarking.contenders import REGISTRY

from checking_gpu.children import ROOT, Failed, Setting, run
from checking_gpu.outcome import Outcome

assert peers  # imported for the contenders that it enters

ABOUT = (
    "W1 to W5 are those of `scripts/benchmark.py`; their peaks are of the host's memory. JAX and "
    "PyTorch compute float32 products in TF32, and scikit-learn computes on the processor. Keras "
    "is left out of W5, whose networks it trains one by one."
)
SHARE = 0.7  # of the time of a part, after which no run begins; the last one needs some, too
TOO_SLOW = ("Keras default", "Keras tuned")  # for W5, one network after the other


def missing() -> list[str]:
    """The contenders that are not installed."""
    return [name for name, each in REGISTRY.items() if not all(map(_is_installed, each.modules))]


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module.split(".")[0]) is not None


def choose(workload: str, reduced: bool) -> list[str]:
    """The contenders that a workload is measured with."""
    if reduced:
        return ["jaxnet train", "limit"]
    left_out = missing() + list(TOO_SLOW if workload.startswith("W5") else ())
    return [name for name in REGISTRY if name not in left_out]


def compare(workload: str, setting: Setting, seconds: float) -> Outcome:
    """Measures one workload by `scripts/benchmark.py`; a contender that fails is in the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "results.json")
        command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "--only", workload]
        command += ["--contenders", ",".join(choose(workload, setting.reduced)), "--cold", "1"]
        command += ["--quick"] if setting.reduced else ["--repeats", "2"]
        command += ["--seconds", str(SHARE * seconds / (2 if workload in ("W3", "W5") else 1))]
        status, output = run(setting, [*command, "--json", str(path)], seconds)
        if status is None:
            raise Failed(f"its time, {seconds:.0f} s, was up")
        if not path.exists():
            raise Failed((output.strip().splitlines() or ["no message"])[-1][:200])
        found = json.loads(path.read_text())["workloads"]
    parts = [part for each in found for part in report.workload(each)]
    return Outcome("\n\n".join(parts))
