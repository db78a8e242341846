"""The scripts where they must fail: one sentence, and nothing left that breaks the next try."""

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import helpers
import pandas
import pytest
from benchmarking.sweeps import conclude
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).resolve().parents[1]

OFFLINE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_INDEX_URL": "http://127.0.0.1:9",
    "PIP_RETRIES": "0",
    "no_proxy": "127.0.0.1",
}

OLD = """#!/bin/sh
exit 1  # as 3.9 answers whether it is at least 3.11
"""
WITHOUT_VENV = f"""#!/bin/sh
case "$*" in *venv*) echo "No module named venv" >&2; exit 1 ;; esac
exec '{sys.executable}' "$@"
"""
FAILING_PIP = """
import sys
if "install" in sys.argv:
    sys.exit("ERROR: The disk is full.")
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "a copy"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def run(copy: Path, script: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(copy / "scripts" / script)],
        env={**os.environ, "PYTHON": sys.executable, **changes},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=helpers.HANGS,
    )


def stub(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def assert_fails_with(result: subprocess.CompletedProcess[str], words: str) -> None:
    assert result.returncode == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith(".\n")


@pytest.mark.parametrize("script", ["demo.sh", "test.sh"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "older, missing or broken"),
        (OLD, "needs Python 3.11 or newer"),
        (WITHOUT_VENV, "lacks the modules venv and ensurepip"),
    ],
    ids=["missing", "old", "without venv"],
)
def test_unusable_python(
    copy: Path, tmp_path: Path, script: str, text: str | None, words: str
) -> None:
    python = tmp_path / "python3"
    if text is not None:
        stub(python, text)
    assert_fails_with(run(copy, script, PYTHON=str(python)), words)
    assert not (copy / ".venv").exists()


def test_failed_download(copy: Path) -> None:
    (copy / ".venv").mkdir()
    (copy / ".venv" / "unfinished").touch()  # as an earlier try leaves it that was killed
    assert_fails_with(run(copy, "demo.sh", **OFFLINE), "could not be installed into .venv")
    assert not (copy / ".venv").exists()


def test_users_own_environment_survives_a_failure(copy: Path) -> None:
    venv = copy / ".venv"
    command = [sys.executable, "-m", "venv", "--without-pip", str(venv)]
    subprocess.run(command, check=True)
    paths = sysconfig.get_paths("venv", vars={"base": str(venv), "platbase": str(venv)})
    stub(Path(paths["purelib"]) / "pip" / "__main__.py", FAILING_PIP)
    before = sorted(venv.rglob("*"))
    assert_fails_with(run(copy, "test.sh"), ".venv: The disk is full;")
    assert [path for path in sorted(venv.rglob("*")) if "__pycache__" not in path.parts] == before


def program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script in Python, without the settings of the tests."""
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("JAX", "XLA", "PYTHON"))}
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *arguments],
        env={**settings, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **helpers.QUIET},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=helpers.HANGS,
    )


def test_compare_optimizers() -> None:
    result = program("compare_optimizers.py", "sgd, momentum", "--steps", "5", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    row = json.loads(result.stdout)["results"]["sgd, momentum"]
    assert (row["verdict"], row["units_float64"], row["apart"]) == ("identical", 0, 0)
    assert row["chaos_floor"] > 0
    assert row["small_ratio"] == row["small_seconds"][0] / row["small_seconds"][1] > 0


def test_check_optax() -> None:
    result = program("check_optax.py", "sign_sgd", "sm3")
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()[2:]]
    assert lines[:2] == [["sign_sgd", "passed"], ["sm3", "FAILED"]]


def test_benchmark_tables(tmp_path: Path) -> None:
    """A cell is measured once, and scikit-learn's own scorer agrees with its score."""
    path = tmp_path / "results.jsonl"
    arguments = ["run", str(path), "--tables", "fruit", "--methods", "linear", "--splits", "0"]
    for _ in range(2):
        result = program("benchmark_tables.py", *arguments)
        assert (result.returncode, result.stderr) == (0, "")
    (cell,) = map(json.loads, path.read_text().splitlines())

    frame = pandas.read_csv(ROOT / "examples" / "fruit.csv")
    labels = frame.pop("fruit")
    inputs, test_inputs, targets, test_targets = train_test_split(
        pandas.get_dummies(frame), labels, test_size=0.2, random_state=0, stratify=labels
    )
    columns = make_column_transformer((StandardScaler(), ["weight"]), remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(inputs, targets)
    error = -get_scorer("neg_log_loss")(model, test_inputs, test_targets)
    assert cell["error"] == pytest.approx(error, rel=1e-4)  # the solver's tolerance
    assert cell["accuracy"] == model.score(test_inputs, test_targets)


def test_report_of_tables(tmp_path: Path) -> None:
    """The ratios are those of the means: 0.2 to 0.3 is won, 0.45 to 0.35 is lost."""
    errors = {
        ("a", "jaxnet"): (0.1, 0.3),
        ("a", "RealMLP"): (0.2, 0.4),
        ("b", "jaxnet"): (0.5, 0.4),
        ("b", "RealMLP"): (0.4, 0.3),
    }
    lines = [
        {"table": table, "method": method, "split": str(split), "error": error, "versions": {}}
        | {"accuracy": 0.5, "first": {"cpu": error}, "warm": {"cpu": error}}
        for (table, method), values in errors.items()
        for split, error in enumerate(values)
    ]
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    result = program("benchmark_tables.py", "report", str(path))
    assert (result.returncode, result.stderr) == (0, "")
    assert "| 0.200 ± 0.141 | 0.300 ± 0.141 |" in result.stdout
    won = "1 of 2 tables (goal: 6): a 0.67 (2/2), b 1.29 (0/2)."
    assert f"- Error below RealMLP's: {won}" in result.stdout


@pytest.mark.parametrize("name", ["compare_optimizers.py", "check_optax.py"])
def test_unknown_names(name: str) -> None:
    result = program(name, "adma")
    assert result.returncode == 2
    assert "adma" in result.stderr.splitlines()[-1]


def test_benchmark(tmp_path: Path) -> None:
    """One workload, with one contender that cannot be: it is reported, not dropped."""
    path = tmp_path / "result.json"
    names = "jaxnet train,limit,no-such-library"
    result = program("benchmark.py", "--quick", "--only", "W1", "--contenders", names)
    assert result.returncode == 2
    assert "no-such-library" in result.stderr

    arguments = ["--quick", "--only", "W1", "--contenders", "jaxnet train,limit,PyTorch fused"]
    result = program("benchmark.py", *arguments, "--json", str(path))
    (workload,) = json.loads(path.read_text())["workloads"]
    contenders = workload["contenders"]
    assert contenders["limit"]["ratio"] == 1
    assert contenders["jaxnet train"]["ratio"] > 0
    costs = [contenders[name]["final_cost"] for name in ("jaxnet train", "limit")]
    assert abs(costs[0] - costs[1]) < 0.05
    if importlib.util.find_spec("torch") is None:
        assert "torch" in contenders["PyTorch fused"]["failed"]
        assert "failed" in result.stdout


def test_benchmark_of_a_first_result():
    command = [sys.executable, "-m", "benchmarking.first", "jaxnet", "fruit"]
    options = {"cwd": ROOT / "scripts", "capture_output": True, "text": True}
    done = subprocess.run(command, timeout=helpers.HANGS, **options)
    result = json.loads(done.stdout)
    assert result["accuracy"] > 0.9 and result["seconds"] > 0 and result["cpu"] > 0


@pytest.mark.slow
def test_benchmark_of_sweeps(tmp_path: Path) -> None:
    """Two widths in one call of `sweep` or in two are the same networks."""
    path = tmp_path / "result.json"
    result = program("benchmark.py", "--quick", "--only", "sweeps", "--json", str(path))
    sweeps = json.loads(path.read_text())["sweeps"]
    structural, separate = (sweeps["networks"][f"jaxnet, {n}"] for n in ("structural", "separate"))
    assert structural["networks"] == separate["networks"] == 16
    assert structural["final_loss"] == pytest.approx(separate["final_loss"], rel=1e-5)
    assert 0.1 < structural["final_loss"] < 1  # log(10) before the training
    assert structural["ratio"] == structural["first_ratio"] == 1
    for pair in sweeps["pairs"].values():
        assert pair["ratio"] == pair["seconds"][1] / pair["seconds"][0] > 0
    assert sweeps["pairs"]["saving"]["files"] > 0
    if importlib.util.find_spec("torch") is None:
        assert "torch" in sweeps["networks"]["torch.func"]["failed"]
        assert (result.returncode, "failed" in result.stdout) == (1, True)
    else:
        assert result.returncode == 0


def test_conclusions_about_sweeps() -> None:
    """A sample of a tenth takes ten times as long; a loss beyond the spread over seeds is apart."""

    def make_round(jaxnet: float, pytorch: float) -> dict[str, dict[str, Any]]:
        whole = {"networks": 40, "share": 1.0, "means": [[0.5, 0.3]], "spreads": [[0.1, 0.1]]}
        part = {"networks": 4, "share": 0.1, "means": [[0.6, math.nan]], "spreads": [[0.2, 0.2]]}
        fallen = {"failed": "the process died"}
        untrained = whole | {"seconds": 3.0, "means": [[2.3, 2.3]]}
        return {
            "jaxnet, structural": whole | {"seconds": jaxnet},
            "jaxnet, separate": whole | {"seconds": 2 * jaxnet},
            "PyTorch": part | {"seconds": pytorch},
            "torch.func": untrained,
            "ParallelMLPs": untrained if jaxnet > 5 else fallen,
        }

    rounds = [make_round(8.0, 4.0), make_round(2.0, 3.0), make_round(3.0, 3.0)]
    found = conclude(rounds)
    assert found["ParallelMLPs"] == {"failed": "the process died"}
    pytorch = found["PyTorch"]
    assert (pytorch["steady_seconds"], pytorch["first_seconds"]) == (30.0, 31.0)
    assert pytorch["ratio"] == (30 / 2 + 30 / 3) / 2
    assert pytorch["first_ratio"] == 31 / 8
    assert (pytorch["final_loss"], pytorch["typical_loss"]) == (0.6, 0.55)
    assert [found[name]["apart"] for name in list(found)[:4]] == [False, False, False, True]


def test_check_sweep_finds_nothing_lost():
    """Its short form."""
    command = [sys.executable, str(ROOT / "scripts" / "check_sweep.py"), "--kills", "1"]
    done = subprocess.run(
        [*command, "--flips", "5"], capture_output=True, text=True, timeout=helpers.HANGS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kills" in done.stdout and "5 bits flipped" in done.stdout


def test_check_resume_finds_nothing_lost():
    """Its short form."""
    command = [sys.executable, str(ROOT / "scripts" / "check_resume.py")]
    few = ["--kills", "1", "--flips", "50", "--truncations", "20"]
    done = subprocess.run([*command, *few], capture_output=True, text=True, timeout=helpers.HANGS)
    assert done.returncode == 0, done.stderr
    assert "1 kills" in done.stdout and "50 bits flipped, 20 times cut off: 0 loaded" in done.stdout
