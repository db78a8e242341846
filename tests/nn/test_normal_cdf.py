"""The normal distribution against mpmath."""

import helpers
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jaxnet.nn import normal_cdf

POINTS = np.concatenate([np.linspace(-14, 14, 2001), [-0.75, 0.75, -1e-20, 0, 3e38, -3e38]])
POINTS = POINTS.astype(np.float32)


@pytest.mark.parametrize(
    ("function", "exact"),
    [(normal_cdf.density, mpmath.npdf), (normal_cdf.cumulative, mpmath.ncdf)],
    ids=["density", "distribution"],
)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["op by op", "compiled"])
def test_values(function, exact, transform):
    expected = helpers.exact(lambda x: exact(max(min(x, 50), -50)), POINTS)
    helpers.assert_units(transform(function)(jnp.asarray(POINTS)), expected, 8)


@pytest.mark.parametrize(
    ("function", "slope"),
    [(normal_cdf.density, lambda x: -x * mpmath.npdf(x)), (normal_cdf.cumulative, mpmath.npdf)],
    ids=["density", "distribution"],
)
def test_slopes(function, slope):
    expected = helpers.exact(lambda x: slope(max(min(x, 50), -50)), POINTS)
    helpers.assert_units(jax.vmap(jax.grad(function))(POINTS), expected, 8)
