"""The README: its programs run, its commands, files and tests exist."""

import re
from pathlib import Path

import helpers
import jax
import numpy as np
import pytest
import test_levels

import jaxnet

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SCALING = (ROOT / "SCALING.md").read_text()


def test_programs_run_in_the_order_in_which_they_stand(tmp_path):
    programs = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(programs) == 6
    text = "\n".join(programs).replace("fruit.model", f"{tmp_path}/fruit.model")
    accuracy, fruit, shape, cost = helpers.run_plainly(text).splitlines()
    assert float(accuracy.split("%")[0]) > 95
    assert float(fruit.split("%")[0]) > 90
    assert shape == "(16, 4)"
    assert float(cost.split()[-1]) < 2  # that of guessing among ten is 2.3


def test_programs_for_several_devices_run():
    """On two devices, which the tests have already."""
    programs = re.findall(r"```python\n(.*?)```", SCALING, re.DOTALL)
    inputs = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
    names = {
        "jax": jax,
        "jaxnet": jaxnet,
        "key": jax.random.key(0),
        "network": jaxnet.mlp([1, 4, 1]),
        "loss": jaxnet.squared_error,
        "optimizer": jaxnet.sgd(0.1),
        "data": (inputs, inputs),
    }
    for program in programs:
        if "mesh" in program:
            exec(program, names)
    (first, _) = names["state"].parameters
    assert names["run"].stopped == "finished" and len(first.biases.sharding.device_set) == 2
    assert not first.biases.sharding.is_fully_replicated
    assert first.weights.sharding.is_fully_replicated  # one row is not divisible by two


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"\b[\w/]+\.(?:py|sh|md)\b", README + SCALING)))
)
def test_files_exist(name):
    assert (ROOT / name).exists() or any(
        list((ROOT / part).rglob(name)) for part in ("tests", "jaxnet")
    )


def test_every_guarantee_names_a_test():
    rows = re.findall(r"^\|[^|]+\|([^|]+)\|$", README, re.MULTILINE)[2:]
    assert len(rows) > 20
    assert all(re.search(r"`test_\w+\.py`", tests) for tests in rows)


def test_commands_are_the_scripts():
    assert set(re.findall(r"sh (scripts/\w+\.sh)", README)) == {
        "scripts/demo.sh",
        "scripts/test.sh",
    }


def test_sub_packages_are_in_an_order_in_which_each_needs_only_those_before_it():
    section = README.split("## Reading the source")[1]
    order = re.findall(r"^\d+\. `jaxnet/(\w+)(?:/|\.py)`: \S", section, re.MULTILINE)
    assert sorted(order) == sorted(test_levels.LEVELS)
    for module in test_levels.MODULES:
        position = order.index(module.split(".")[0])
        needed = {target.split(".")[0] for target in test_levels.imports(module) - {""}}
        assert needed <= set(order[: position + 1]), module
