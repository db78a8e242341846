"""Data: converted from what people have, or refused; see also test_fit.py."""

import jax.numpy as jnp
import numpy as np
import pandas
import pytest

from jaxnet.training.data import Data, check_data


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.ones((2, 1), np.float64), "float32"),
        (np.ones((2, 1), np.float16), "float32"),
        (np.ones((2, 1), np.uint8), "float32"),
        ([[True], [False]], "float32"),
        ([[1], [2.5]], "float32"),
        (pandas.DataFrame({"a": [1, 2]}), "float32"),
        (jnp.ones((2, 1), jnp.bfloat16), "bfloat16"),
        (jnp.ones((2, 1), jnp.int32), "int32"),
    ],
)
def test_dtypes_of_inputs(value, dtype):
    assert check_data("data", (value, [0, 1])).inputs.dtype == dtype


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([0, 1], "int32"),
        ([True, False], "int32"),
        (np.array([0, 1], np.uint8), "int32"),
        ([0.5, 1], "float32"),
        (pandas.Series([0, 1]), "int32"),
        (jnp.array([0, 1], jnp.int8), "int8"),
    ],
)
def test_dtypes_of_targets(value, dtype):
    assert check_data("data", (np.ones((2, 1)), value)).targets.dtype == dtype


def test_values_arrive():
    data = check_data("data", (pandas.DataFrame({"a": [1.5, 2], "b": [3, 4]}), [7, 8], [0.5, 2]))
    np.testing.assert_array_equal(data.inputs, [[1.5, 3], [2, 4]])
    np.testing.assert_array_equal(data.targets, [7, 8])
    np.testing.assert_array_equal(data.weights, [0.5, 2])


@pytest.mark.parametrize("offset", [0, 16])
def test_the_caller_may_overwrite_its_own(offset):
    """Also where it lies as a device would have it, on a multiple of 64 bytes."""
    room = np.zeros(8192, np.uint8)
    begin = -room.ctypes.data % 64 + offset
    inputs = room[begin : begin + 4096].view(np.float32).reshape(64, 16)
    data = check_data("data", (inputs, np.zeros(64)))
    inputs[:] = 1
    np.testing.assert_array_equal(data.inputs, np.zeros((64, 16)))


def test_a_tuple_is_data():
    inputs, targets = jnp.ones((2, 1)), jnp.ones(2)
    assert check_data("data", (inputs, targets)) == Data(inputs, targets)
    assert check_data("data", Data(inputs, targets)) == Data(inputs, targets)
