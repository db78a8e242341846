"""Finiteness: infinite and NaN values are found, in every dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.core import finite

FLOATS = [np.float16, np.float32, np.float64, jnp.bfloat16, np.complex64]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_nonfinite_value_is_found(dtype, bad):
    values = np.ones((3, 2), dtype)
    assert finite.first_nonfinite(values) is None
    assert finite.is_finite({"a": values, "b": jnp.asarray(values)})
    values[1, 1] = values[2, 0] = bad
    assert finite.first_nonfinite(values) == (1, 1)
    assert finite.nonfinite(values).sum() == 2
    assert not finite.is_finite({"a": values})


def test_an_infinite_imaginary_part_is_found():
    assert finite.first_nonfinite(np.array([0, complex(1, np.inf), 2])) == (1,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_compiled_programs_agree(bad):
    tree = {"a": jnp.ones(3), "n": jnp.arange(3), "key": jax.random.key(0), "number": 1.0}
    for value in (1.0, bad):
        changed = {**tree, "b": jnp.array([0.0, value])}
        assert finite.is_finite(changed) == bool(jax.jit(finite.all_finite)(changed))
        assert finite.is_finite(changed) == np.isfinite(value)


def test_values_that_are_always_finite():
    assert finite.is_finite({"n": jnp.arange(3), "key": jax.random.key(0), "flag": True})
    assert finite.is_finite(())
    assert finite.first_nonfinite(np.zeros((0, 3))) is None
    assert finite.first_nonfinite([1, 2]) is None


@pytest.mark.parametrize(
    ("wrong", "index"),
    [([[0, 0], [0, 1]], (1, 1)), ([True], (0,)), (True, ()), ([False, False], None), ([], None)],
)
def test_first_index(wrong, index):
    assert finite.first_index(np.array(wrong, bool)) == index
