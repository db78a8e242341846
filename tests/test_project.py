"""The files about the project agree with each other and with the package."""

import re
from pathlib import Path

import pytest

import jaxnet

ROOT = Path(__file__).resolve().parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize(
    ("name", "first_version"),
    [
        ("CITATION.cff", r"^version: (\S+)$"),
        ("CHANGELOG.md", r"(?:version |^## \[)(\d+\.\d+\.\d+)"),
    ],
)
def test_version_is_that_of_the_package(name: str, first_version: str) -> None:
    found = re.search(first_version, (ROOT / name).read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] == jaxnet.__version__


@pytest.mark.parametrize("name", sorted(set(re.findall(r"[\w/]+\.(?:md|py|sh)\b", CONTRIBUTING))))
def test_files_in_contributing_exist(name: str) -> None:
    assert (ROOT / name).is_file()


def test_contributing_fits_on_a_screen() -> None:
    assert len(CONTRIBUTING.splitlines()) < 50
