"""The checks: what they let pass and the words in which they refuse."""

import contextlib

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest
from hypothesis import strategies

from jaxnet import checks


@pytest.mark.parametrize(
    "value", [0, 0.5, np.float32(0.5), np.int64(0), jnp.array(0.5), np.array(0.0)]
)
def test_numbers_pass(value):
    checks.number("f", "rate", value, 0, 1, below=True)


def test_traced_numbers_pass_and_traced_arrays_do_not():
    jax.jit(lambda x: checks.number("f", "rate", x, 0))(-1.0)
    with problems.refused(TypeError, "f: expected a number for rate. Received: float32[2]"):
        jax.jit(lambda x: checks.number("f", "rate", x, 0))(jnp.ones(2))


@hypothesis.given(strategies.floats() | strategies.integers(), strategies.booleans())
def test_any_number_passes_or_is_refused_by_its_range(value, below):
    inside = 0 <= value < 1 or (value == 1 and not below)
    refusal = problems.refused(ValueError, "f: expected a finite rate of at least 0 and ")
    with contextlib.nullcontext() if inside else refusal:
        checks.number("f", "rate", value, 0, 1, below=below)


SHAPES = strategies.lists(strategies.integers(0, 3), max_size=3).map(tuple)


@hypothesis.given(SHAPES, SHAPES)
def test_any_other_shape_is_refused(shape, other):
    refusal = problems.refused(ValueError, f"the same shape as x, {list(shape)}", f"{list(other)}")
    with contextlib.nullcontext() if shape == other else refusal:
        checks.like("f", "y", np.ones(other), "x", jnp.ones(shape))


@pytest.mark.parametrize("value", [True, None, "1", [1], 1j, np.ones(1), object()])
def test_not_numbers(value):
    with problems.refused(TypeError, "f: expected a number for rate. Received: "):
        checks.number("f", "rate", value, 0)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, jnp.array(1)])
def test_not_whole_numbers(value):
    with problems.refused(TypeError, "f: expected an integer for n. Received: "):
        checks.whole_number("f", "n", value, 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(jnp.ones((2, 3)), "float32[2, 3]"), (3, "int 3"), ("a" * 99, "str 'aaaa"), (None, "None")],
)
def test_descriptions_are_short(value, text):
    description = checks.describe(value)
    assert text in description
    assert len(description) <= 80


def test_trees_of_the_same_leaves_and_containers_pass():
    tree = {"a": [jnp.ones(2), None], "b": jnp.zeros(())}
    checks.same_tree("f", "gradients", tree, "parameters", jax.tree.map(jnp.zeros_like, tree))
