"""Trees of arrays: their leaves by name, their structure in words, and where two trees differ."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.core import checks
from jaxnet.core.dtypes import is_key, is_native, is_real


def named_leaves(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by their paths, in JAX's long form if short ones are ambiguous.

    >>> named_leaves({"layers": [1.0, {"scale": 2.0}]})
    {'layers/0': 1.0, 'layers/1/scale': 2.0}
    >>> named_leaves({"a": {"b": 1.0}, "a/b": 2.0})
    {"['a']['b']": 1.0, "['a/b']": 2.0}
    """
    leaves, _ = jax.tree.flatten_with_path(tree)
    named = {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}
    if len(named) == len(leaves):
        return named
    return {jax.tree_util.keystr(p): leaf for p, leaf in leaves}


def plain_leaves(tree: Any) -> list[Any]:
    """Returns the leaves of a tree as arrays that NumPy can hold: a key becomes its data.

    >>> [leaf.shape for leaf in plain_leaves({"key": jax.random.key(0), "rate": jnp.ones(3)})]
    [(2,), (3,)]
    """
    return [jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in jax.tree.leaves(tree)]


def restore_key(data: Any, leaf: Any) -> Any:
    """Returns the data of a key as a key like the leaf; another array as it is.

    >>> key = jax.random.key(1)
    >>> restore_key(jax.random.key_data(key), key) == key
    Array(True, dtype=bool)
    """
    if not is_key(leaf):
        return data
    return jax.random.wrap_key_data(jnp.asarray(data), impl=jax.random.key_impl(leaf))


def types(tree: Any) -> tuple[Any, tuple[Any, ...]]:
    """Returns a tree's structure, and the shapes and dtypes of its leaves."""
    leaves, containers = jax.tree.flatten(tree)
    return containers, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)


def describe(tree: Any) -> str:
    """Puts a tree's structure into words, with `dtype[shape]` for every leaf.

    >>> describe({"weights": jnp.ones((2, 3)), "biases": None})
    "{'biases': None, 'weights': float32[2, 3]}"
    """
    return str(jax.tree.map(lambda leaf: _Unquoted(_describe_leaf(leaf)), tree))


def _describe_leaf(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"


class _Unquoted(str):
    """A string that prints without quotation marks."""

    __repr__ = str.__str__


# Differences.


class Difference(NamedTuple):
    """Where two nested trees differ.

    Attributes:
        path: the names that lead to the place, from the root.
        received: the node of the first tree there, or `MISSING`.
        expected: the node of the second tree there, or `MISSING`.
    """

    path: tuple[str, ...]
    received: Any
    expected: Any


MISSING: Any = object()
"""Stands for a node that a tree lacks."""


def first_difference(
    received: Any,
    expected: Any,
    split: Callable[[Any], tuple[Any, Mapping[str, Any]]],
    path: tuple[str, ...] = (),
) -> Difference | None:
    """Finds the first difference between two nested trees; None if they are equal.

    Args:
        received: the root of a tree.
        expected: the root of the tree to compare with.
        split: returns what is compared of a node itself, such as its type, and its children by
            name; a leaf has none.
        path: the names that lead to the roots.

    >>> split = lambda node: (None, node) if isinstance(node, dict) else (node, {})
    >>> first_difference({"a": {"b": 1}}, {"a": {"b": 2}}, split)
    Difference(path=('a', 'b'), received=1, expected=2)
    """
    (value, children), (expected_value, expected_children) = split(received), split(expected)
    if value != expected_value:
        return Difference(path, received, expected)
    for name in {**expected_children, **children}:
        pair = children.get(name, MISSING), expected_children.get(name, MISSING)
        if any(node is MISSING for node in pair):
            return Difference((*path, name), *pair)
        if found := first_difference(*pair, split, (*path, name)):
            return found
    return None


# Checks.


def arrays(name: str, tree: Any) -> None:
    """Checks a tree of nothing but numbers and arrays that JAX can hold."""
    _check_leaves(f"arrays in {name}", tree, _is_array)


def floats(name: str, tree: Any) -> None:
    """Checks a tree of nothing but floating-point numbers, or shapes that stand for them."""
    _check_leaves(
        f"floating-point {name}",
        tree,
        lambda leaf: _is_shape(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating),
    )


def inexact(name: str, tree: Any) -> None:
    """Checks a tree of nothing but floating-point or complex numbers."""
    _check_leaves(
        f"floating-point or complex {name}",
        tree,
        lambda leaf: _is_shape(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact),
    )


def same_tree(
    name: str, tree: Any, reference_name: str, reference: Any, *, any_precision: bool = False
) -> None:
    """Checks that two trees of arrays have the same structure, shapes and dtypes.

    With `any_precision`, dtypes may differ in their precision.
    """
    _check_leaves(f"arrays in {name}", tree, _is_shape)
    if types(tree) == types(reference):
        return
    compared = _of_precision(tree, reference) if any_precision else tree
    if types(compared) == types(reference):
        return
    raise checks.InvalidValue(
        f"expected {name} that match {reference_name}, but {_explain(compared, reference)}.\n"
        f"Expected: {describe(reference)}\nReceived: {describe(tree)}"
    )


def _of_precision(tree: Any, reference: Any) -> Any:
    """Replaces the dtypes of a tree by those of the reference where these are of one kind."""
    others = named_leaves(reference)

    def replace(leaf: Any, other: Any) -> Any:
        dtype, expected = jnp.result_type(leaf), jnp.result_type(other)
        kinds = (jnp.floating, jnp.complexfloating)
        same = any(jnp.issubdtype(dtype, k) and jnp.issubdtype(expected, k) for k in kinds)
        return jax.ShapeDtypeStruct(jnp.shape(leaf), expected if same else dtype)

    named = named_leaves(tree)
    leaves = [replace(leaf, others.get(path, leaf)) for path, leaf in named.items()]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def _explain(tree: Any, reference: Any) -> str:
    found = first_difference(named_leaves(tree), named_leaves(reference), _split_leaves)
    if found is None:
        return "the containers differ"
    (path,), received, expected = found
    if received is MISSING:
        return f"{path!r} is missing"
    if expected is MISSING:
        return f"{path!r} is not expected"
    return f"{path!r} is {_describe_leaf(received)} instead of {_describe_leaf(expected)}"


def _split_leaves(node: Any) -> tuple[Any, Mapping[str, Any]]:
    return (None, node) if isinstance(node, dict) else (_describe_leaf(node), {})


def _check_leaves(expected: str, tree: Any, fits: Callable[[Any], bool]) -> None:
    if all(map(fits, jax.tree.leaves(tree))):
        return
    path, leaf = next((p, leaf) for p, leaf in named_leaves(tree).items() if not fits(leaf))
    place = f" at {path!r}" if path else ""
    advice = checks.hint(leaf)
    if not advice and isinstance(leaf, (np.ndarray, np.generic)) and not is_native(leaf.dtype):
        advice = ", which JAX cannot hold; convert it with .astype, to np.float32 for instance"
    raise checks.InvalidType(
        f"expected {expected}. Received: {checks.describe(leaf)}{place}{advice}"
    )


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, (np.ndarray, np.generic)):
        numeric = is_real(leaf) or jnp.issubdtype(leaf.dtype, jnp.complexfloating)
        return numeric and is_native(leaf.dtype) and not checks.hint(leaf)
    return isinstance(leaf, (int, float, complex, jax.Array)) and not checks.hint(leaf)


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct) or _is_array(leaf)
