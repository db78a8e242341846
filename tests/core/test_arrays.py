"""Arrays: conversion of what users pass, without loss of information."""

import contextlib

import helpers
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from hypothesis import strategies

import jaxnet
from jaxnet.core import arrays

SHAPES = strategies.lists(strategies.integers(0, 3), max_size=3).map(tuple)


@hypothesis.given(SHAPES, SHAPES)
def test_arrays_of_another_shape_raise(shape, other):
    refusal = helpers.refused(ValueError, f"the same shape as x, {list(shape)}", f"{list(other)}")
    with contextlib.nullcontext() if shape == other else refusal:
        arrays.like("y", np.ones(other), "x", jnp.ones(shape))


def test_numbers_of_any_byte_order_and_width():
    """Files of measurements have them; JAX itself raises."""
    for dtype in (">f4", "<f4", ">f8", np.longdouble, ">i2"):
        x = np.array([-2, 0, 3]).astype(dtype)
        labels = np.array([0, 1, 1]).astype(">i2")
        if x.dtype.kind == "f":
            np.testing.assert_array_equal(jaxnet.relu(x), [0, 0, 3])
            with helpers.unchecked():
                received = jaxnet.accuracy(np.stack([-x, x], -1), labels)
            np.testing.assert_array_equal(received, [1, 0, 1])
        np.testing.assert_array_equal(
            jaxnet.squared_error(jnp.zeros(3), x.astype(">i2")), [4, 0, 9]
        )
        found = jaxnet.sweep(lambda a: a * 2, {"a": x}).results
        np.testing.assert_array_equal(found, [-4, 0, 6])


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1, 2], "int32"),
        ([True, False], "int32"),
        ([1.5, 2.5], "float32"),
        (np.float64([1.5]), "float32"),
        (np.array([1.5, 2], dtype=object), "float32"),
        (pandas.Series([1, 2]), "int32"),
        (jnp.ones(2, jnp.bfloat16), "bfloat16"),
    ],
)
def test_numbers_become_float32_or_int32(value, dtype):
    received = arrays.to_array("x", value, integers=np.int32)
    assert received.dtype == dtype
    np.testing.assert_array_equal(received, np.asarray(value, received.dtype))


def test_integers_beyond_32_bits_raise():
    with helpers.refused(ValueError, "expected x within 32 bits. Received: 0 to 2147483648"):
        arrays.to_array("x", [0, 2**31], integers=np.int32)
    assert arrays.to_array("x", [0, 2**31]).dtype == np.float32


def test_a_wrong_cell_of_a_table_is_named_by_its_column():
    table = pandas.DataFrame({"a": [1.0, 2.0], "b": [1.0, "two"]})
    with helpers.refused(TypeError, "dtype object, such as 'two' in column 'b'"):
        arrays.to_array("x", table)


@pytest.mark.parametrize("size", [3, 1000])
def test_the_original_of_a_copy_may_be_overwritten(size):
    original = np.ones(size, np.float32)
    copy = arrays.to_device(original)
    original[:] = 2
    np.testing.assert_array_equal(copy, 1)


def test_the_first_number_out_of_range_is_named():
    with helpers.refused(
        ValueError, "expected finite x of at least 0. Received: -1.0 at index (1,)"
    ):
        arrays.within("x", jnp.array([1.0, -1.0, -2.0]), 0)
    with helpers.refused(ValueError, "expected finite x. Received: nan"):
        arrays.within("x", jnp.float32("nan"))
    jax.jit(lambda x: arrays.within("x", x, 0))(-1.0)
