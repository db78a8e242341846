"""The structure of the source: levels of the sub-packages, order and size of the files, exports."""

import ast
import inspect
import re
from pathlib import Path

import helpers
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "jaxnet"
FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")
}
MODULES = [name for name in FILES if not name.endswith("__init__")]
PACKAGES = sorted(path.parent.name for path in SOURCE.glob("*/__init__.py"))

# The first table of DESIGN.md is the only definition of the levels.
LEVELS = {
    name: int(level)
    for level, name in re.findall(
        r"^\| (\d) \| `jaxnet/(\w+)(?:/|\.py)` \|", (ROOT / "DESIGN.md").read_text(), re.MULTILINE
    )
}

MOST_FILES = {  # 10 in any other sub-package
    "core": 14,  # small tools in three groups
    "fitting": 11,  # the run, the run on a stream, and what the two share
    "nn": 12,  # ten, and two for tables: embeddings and ensembles
    "training": 11,  # ten, and the check of a run before it is compiled
    "testing": 18,  # the comparison, its hints, the requirements, and the adapters
}

LONG_FILES = {
    "fitting.fit": "`fit` has 80 lines of documentation",
    "fitting.run_directory": "one class, whose methods share the state of a directory",
    "nn.activations": "twelve activations with formula, doctest and reference each",
    "nn.losses": "ten losses with formula, doctest and reference each",
}


def imports(module: str) -> set[str]:
    """The modules of jaxnet that a module imports, also within functions; "" is jaxnet itself."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: expected absolute imports"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_inner = node.module == "jaxnet" or inner.removeprefix("jaxnet.") in MODULES
                names.add(inner if is_inner else str(node.module))
    return {name[7:] for name in names if name.split(".")[0] == "jaxnet"}


def reading_order(package: str) -> list[str]:
    """The files that the docstring of a sub-package lists."""
    docstring = ast.get_docstring(ast.parse(FILES[f"{package}.__init__"].read_text())) or ""
    items = re.findall(r"^- ((?:`\w+`(?:, )?)+): \S", docstring, re.MULTILINE)
    return re.findall(r"\w+", " ".join(items))


def test_every_sub_package_has_a_level():
    top = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert set(LEVELS) == {*PACKAGES, *top}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_to_the_own_sub_package_or_a_lower_level(module):
    home = module.split(".")[0]
    for target in imports(module) - {""}:
        other = target.split(".")[0]
        assert other == home or LEVELS.get(other, 9) < LEVELS[home], target


def test_jaxnet_itself_is_imported_only_for_its_version():
    assert [module for module in MODULES if "" in imports(module)] == ["io.file_format"]
    text = FILES["io.file_format"].read_text()
    assert "\nimport jaxnet\n" in text and "_PACKAGES = (jax, jaxlib, jaxnet, np, optax)" in text
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
    assert [name.id for name in names].count("jaxnet") == 1  # in `_PACKAGES`


@pytest.mark.parametrize("package", PACKAGES)
def test_a_file_imports_only_files_before_it_in_the_reading_order(package):
    order = [f"{package}.{file}" for file in reading_order(package)]
    for i, module in enumerate(order):
        own = {target for target in imports(module) if target.split(".")[0] == package}
        assert own <= set(order[:i]), f"{module} imports {own - set(order[:i])}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_docstring_of_a_sub_package_lists_its_files(package):
    order = reading_order(package)
    assert sorted(f"{package}.{file}" for file in order) == sorted(
        module for module in MODULES if module.startswith(f"{package}.")
    )
    assert 3 <= len(order) <= MOST_FILES.get(package, 10)


def test_the_init_of_a_sub_package_is_one_docstring():
    for package in PACKAGES:
        _, *others = ast.parse(FILES[f"{package}.__init__"].read_text()).body
        if package in ("estimators", "ranking"):  # which jaxnet does not import: they need extras
            assert all(isinstance(node, ast.ImportFrom) for node in others)
        else:
            assert not others, package


def test_jaxnet_does_not_import_scikit_learn():
    names = {"opda", "sklearn", "pandas", "scipy.optimize"}
    script = f"import sys, jaxnet; print({names} & set(sys.modules))"
    assert helpers.run_plainly(script) == "set()\n"


def test_predictions_without_jax_need_numpy_alone():
    tree = ast.parse(FILES["estimators.portable"].read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {getattr(node, "module", node.names[0].name) for node in nodes}
    assert names == {"collections.abc", "hashlib", "json", "numpy", "os", "typing"}


def test_files_are_short():
    long = {name for name in MODULES if len(FILES[name].read_text().splitlines()) > 300}
    assert long == set(LONG_FILES)


def test_every_public_name_is_exported_once():
    tree = ast.parse(FILES["__init__"].read_text())
    exports = [
        alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert [alias.name for alias in exports] == [alias.asname for alias in exports]
    assert sorted(alias.name for alias in exports) == sorted(helpers.PUBLIC)


def test_no_module_has_a_public_name():
    assert not set(LEVELS) & set(helpers.PUBLIC)


def test_functions_have_few_arguments():
    """At most ten; `fit` has fourteen, all but four of them optional or named in every call.

    The estimators are made without any argument, and scikit-learn wants each to be one.
    """
    functions = [
        (
            f"{module}.{node.name}",
            len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]),
        )
        for module in MODULES
        for node in ast.walk(ast.parse(FILES[module].read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert {name: count for name, count in functions if count > 10} == {
        "fitting.fit.fit": 15,
        "training.train.train": 11,
        "estimators.base.__init__": 15,
        "estimators.classifier.__init__": 16,
    }


def test_public_functions_describe_their_arguments():
    functions = {n: f for n, f in helpers.PUBLIC.items() if not isinstance(f, type)}
    several = {n: f for n, f in functions.items() if len(inspect.signature(f).parameters) > 1}
    assert len(several) > 40
    assert [name for name, f in several.items() if "\n    Args:\n" not in f.__doc__] == []
