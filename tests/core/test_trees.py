"""Trees of arrays: names of leaves, differences, checks."""

import helpers
import jax
import jax.numpy as jnp
import pytest

from jaxnet.core import trees


def test_leaves_with_equal_short_paths_are_all_named():
    tree = {"a/b": 1.0, "a": {"b": 2.0}}
    assert sorted(trees.named_leaves(tree).values()) == [1, 2]
    with helpers.refused(TypeError, "expected arrays in x. Received: str 'text' at"):
        trees.arrays("x", {"a/b": "text", "a": {"b": 2.0}})


def test_trees_with_equal_leaves_and_containers_pass():
    tree = {"a": [jnp.ones(2), None], "b": jnp.zeros(())}
    trees.same_tree("gradients", tree, "parameters", jax.tree.map(jnp.zeros_like, tree))


TREE = {"a": jnp.ones(2), "b": [jnp.zeros(()), None]}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"b": TREE["b"]}, "'a' is missing"),
        ({**TREE, "c": jnp.ones(1)}, "'c' is not expected"),
        ({**TREE, "a": jnp.ones(3)}, "'a' is float32[3] instead of float32[2]"),
        ({**TREE, "b": [jnp.zeros((), int), None]}, "'b/0' is int32[] instead of float32[]"),
        ({**TREE, "b": (jnp.zeros(()), None)}, "the containers differ"),
    ],
)
def test_the_first_difference_is_named(tree, words):
    expected = "Expected: {'a': float32[2], 'b': [float32[], None]}"
    with helpers.refused(ValueError, "x that match y, but " + words, expected, "Received: {"):
        trees.same_tree("x", tree, "y", TREE)


def split(node):
    """Compares the type of a tuple (type, children) before its children."""
    return node if isinstance(node, tuple) else (node, {})


@pytest.mark.parametrize(
    ("received", "expected", "difference"),
    [
        (1, 1, None),
        (1, 2, ((), 1, 2)),
        (("list", {"0": 1, "1": 2}), ("list", {"0": 1, "1": 3}), (("1",), 2, 3)),
        (("list", {"0": 1}), ("list", {}), (("0",), 1, trees.MISSING)),
        (("list", {}), ("list", {"0": 1}), (("0",), trees.MISSING, 1)),
        (("list", {"0": 1}), ("tuple", {"0": 2}), ((), ("list", {"0": 1}), ("tuple", {"0": 2}))),
        (("a", {"x": ("b", {"y": 1})}), ("a", {"x": ("b", {"y": 2})}), (("x", "y"), 1, 2)),
    ],
)
def test_the_first_difference_of_nested_nodes(received, expected, difference):
    assert trees.first_difference(received, expected, split) == difference
