"""The programs of `examples/scaling`: one statement apart, and with the same result."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import helpers
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples/scaling"


def statements(name):
    tree = ast.parse((FOLDER / name).read_text())
    return [ast.unparse(node) for node in tree.body[1:] if not isinstance(node, ast.Import)]


@pytest.mark.parametrize(
    "name, neighbour, changed",
    [
        ("several_devices.py", "one_device.py", 1),
        ("several_processes.py", "several_devices.py", 0),  # one more
        ("from_files.py", "one_device.py", 1),
    ],
)
def test_one_statement_differs(name, neighbour, changed):
    these, others = statements(name), statements(neighbour)
    assert len([text for text in others if text not in these]) == changed
    assert len([text for text in these if text not in others]) == 1


def test_all_give_the_result_of_one_device(tmp_path):
    def run(*command, **environment):
        settings = {k: v for k, v in os.environ.items() if not k.startswith(("XLA", "PYTHON"))}
        settings |= {
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(ROOT),
            **helpers.QUIET,
            **environment,
        }
        ended = subprocess.run(
            [sys.executable, *map(str, command)],
            env=settings,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=helpers.HANGS,
        )
        assert ended.returncode == 0, ended.stderr
        return re.findall(r"^(\d) devices: cost ([\d.]+), accuracy ([\d.]+)$", ended.stdout, re.M)

    run(FOLDER / "make_data.py")
    ((devices, cost, accuracy),) = run(FOLDER / "one_device.py")
    assert devices == "1" and float(accuracy) > 0.8
    several = run(FOLDER / "several_devices.py", JAX_NUM_CPU_DEVICES="2")
    supervisor = ROOT / "scripts/supervise.py"
    script = FOLDER / "several_processes.py"
    several += run(supervisor, "--processes", 2, script, JAX_NUM_CPU_DEVICES="1")
    assert len(several) == 3
    for devices, other_cost, other_accuracy in several:
        assert devices == "2"
        assert float(other_cost) == pytest.approx(float(cost), abs=2e-3)
        assert float(other_accuracy) == pytest.approx(float(accuracy), abs=2e-3)
    ((_, other_cost, other_accuracy),) = run(FOLDER / "from_files.py")
    assert float(other_cost) == pytest.approx(float(cost), rel=0.1)  # in another order
    assert float(other_accuracy) == pytest.approx(float(accuracy), abs=0.03)
