"""The spec of a tree: its containers, names, dtypes and shapes, as JSON.

- A leaf is `{"kind": ..., "dtype": ..., "shape": [...]}`; a key has its "implementation" too.
- None is `null`.
- A container is `[type, children]`: the name of its type, and the specs of its children by their
  parts of the path.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnet.core import trees
from jaxnet.io.leaves import ARRAYS, NUMBERS, leaf_kind

TreeSpec = Any


def make_spec(tree: PyTree) -> TreeSpec:
    """Returns the spec of a tree.

    A leaf that cannot be saved has the kind None, so that its type can be named in an error.

    >>> make_spec({"scale": 0.5, "shift": None})
    ['dict', {'scale': {'kind': 'float', 'dtype': 'float64', 'shape': []}, 'shift': None}]
    """
    if tree is None:
        return None
    children, _ = jax.tree.flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    if children and not children[0][0]:
        return _make_leaf_spec(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in children]
    specs = [make_spec(child) for _, child in children]
    return [type(tree).__name__, dict(zip(names, specs, strict=True))]


def _make_leaf_spec(leaf: Any) -> dict[str, Any]:
    kind = leaf_kind(leaf)
    if kind is None:
        return {"kind": None, "dtype": type(leaf).__name__, "shape": []}
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    spec = {"kind": kind, "dtype": str(dtype), "shape": list(np.shape(leaf))}
    if kind == "key" and isinstance(leaf, jax.Array):
        spec["implementation"] = str(jax.random.key_impl(leaf))
    return spec


def is_spec(spec: Any) -> bool:
    """Whether a JSON document has the form of what `make_spec` returns for a tree to be saved."""
    if spec is None:
        return True
    if isinstance(spec, list):
        return (
            len(spec) == 2
            and isinstance(spec[0], str)
            and isinstance(spec[1], dict)
            and all(map(is_spec, spec[1].values()))
        )
    if not isinstance(spec, dict):
        return False
    names = ["kind", "dtype", "shape"]
    names += ["implementation"] if spec.get("kind") == "key" else []
    return (
        list(spec) == names
        and all(isinstance(spec[name], str) for name in names if name != "shape")
        and isinstance(spec["shape"], list)
        and all(type(length) is int for length in spec["shape"])
    )


def leaf_specs(spec: TreeSpec, path: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Returns the specs of the leaves by their paths, joined by "/".

    Two leaves whose joined paths are equal, such as `a/b` and `a` -> `b`, count once.
    """
    if not isinstance(spec, list):
        return {} if spec is None else {"/".join(path): spec}
    parts = [leaf_specs(child, (*path, name)) for name, child in spec[1].items()]
    return {name: leaf for part in parts for name, leaf in part.items()}


def count_leaves(spec: TreeSpec) -> int:
    """The number of leaves, also of those whose joined paths are equal."""
    if not isinstance(spec, list):
        return int(spec is not None)
    return sum(map(count_leaves, spec[1].values()))


def first_difference(received: TreeSpec, expected: TreeSpec) -> str | None:
    """Describes the first difference between the tree in a file and the tree that is expected."""
    difference = trees.first_difference(received, expected, _split)
    difference = difference or trees.first_difference(received, expected, _split_typed)
    if difference is None:
        return None
    path, node, expected_node = difference
    at = "/".join(path)
    if node is trees.MISSING:
        return f"{at!r} is missing from the file"
    if expected_node is trees.MISSING:
        return f"{at!r} of the file is not expected"
    where = f"at {at!r}" if path else "at the root"
    return f"{where} the file has {_describe(node)} instead of {_describe(expected_node)}"


def _split(spec: TreeSpec) -> tuple[Any, dict[str, TreeSpec]]:
    """Returns what is compared of a node itself, and its children.

    Types of containers are compared last: the name of a missing field says more.
    """
    if isinstance(spec, list):
        return "container", spec[1]
    if spec is None:
        return None, {}
    kind = "array" if spec["kind"] in ARRAYS else spec["kind"]
    return (kind, spec["dtype"], spec["shape"]), {}


def _split_typed(spec: TreeSpec) -> tuple[Any, dict[str, TreeSpec]]:
    return (spec[0], spec[1]) if isinstance(spec, list) else _split(spec)


def _describe(spec: TreeSpec) -> str:
    if isinstance(spec, list):
        return f"a {spec[0]}"
    if spec is None:
        return "None"
    return spec["kind"] if spec["kind"] in NUMBERS else f"{spec['dtype']}{spec['shape']}"
