"""Floating-point tools, against exact rational arithmetic."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.nn import precision

POINTS = (np.random.default_rng(0).normal(size=1000) * np.logspace(-3, 3, 1000)).astype(np.float32)


MODES = pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["op by op", "compiled"])


def rational(values):
    return [Fraction(float(value)) for value in values]


@MODES
def test_square_with_error(mode):
    squares, errors = map(rational, mode(precision.square_with_error)(jnp.asarray(POINTS)))
    for x, square, error in zip(rational(POINTS), squares, errors, strict=True):
        # The tail is below 2**-11 x; its product with at most 2 x has two roundings to 24 bits.
        assert abs(square + error - x * x) <= x * x * Fraction(2) ** (-11 + 1 + 1 - 24)
    assert any(errors)


@MODES
def test_sum_with_error(mode):
    large, small = np.sort(np.abs(POINTS)) * 16, np.sort(np.abs(POINTS)) / 7
    totals, errors = map(
        rational, mode(precision.sum_with_error)(*map(jnp.asarray, (large, small)))
    )
    received = [total + error for total, error in zip(totals, errors, strict=True)]
    assert received == [a + b for a, b in zip(rational(large), rational(small), strict=True)]
    assert any(errors)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_heads_are_exact(dtype):
    with jax.enable_x64(dtype == "float64"):
        heads = np.asarray(precision.head(jnp.asarray(POINTS * np.pi, dtype)))
    assert heads.dtype == dtype
    products = rational(heads * heads[::-1])
    assert products == [a * b for a, b in zip(rational(heads), rational(heads[::-1]), strict=True)]
    np.testing.assert_allclose(
        heads, POINTS * np.pi, rtol=2.0 ** -(11 if dtype == "float32" else 25)
    )


def test_saturation_has_the_gradient_of_the_identity():
    value, gradient = jax.value_and_grad(precision.saturate)(jnp.array(7.0), 5.0)
    assert (value, gradient) == (5.0, 1.0)
    assert precision.saturate(jnp.array(-jnp.inf), 5.0) == -jnp.inf
