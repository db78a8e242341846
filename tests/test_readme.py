"""The README: its programs run, its commands and tests exist."""

import re
from pathlib import Path

import helpers
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_programs_run_in_the_order_in_which_they_stand():
    programs = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(programs) == 4
    accuracy, shape, cost = helpers.run_plainly("\n".join(programs)).splitlines()
    assert float(accuracy.split("%")[0]) > 95
    assert shape == "(16, 4)"
    assert float(cost.split()[-1]) < 2  # that of guessing among ten is 2.3


@pytest.mark.parametrize("name", re.findall(r"`(?:sh )?([\w/]+\.(?:py|sh))`", README))
def test_files_exist(name):
    assert any((ROOT / folder / name).exists() for folder in (".", "jaxnet", "tests"))


def test_commands_are_the_scripts():
    assert set(re.findall(r"sh (scripts/\w+\.sh)", README)) == {
        "scripts/demo.sh",
        "scripts/test.sh",
    }


def test_every_module_is_in_the_order_of_reading():
    modules = {path.name for path in (ROOT / "jaxnet").glob("*.py")} - {"__init__.py"}
    assert not {name.removesuffix(".py") for name in modules} & set(helpers.PUBLIC)
    order = README.split("## Reading the source")[1]
    assert modules == set(re.findall(r"`(\w+\.py)`", order))
