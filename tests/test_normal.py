"""The normal distribution against mpmath."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import problems
import pytest

from jaxnet import normal

POINTS = np.concatenate([np.linspace(-14, 14, 2001), [-0.75, 0.75, -1e-20, 0, 3e38, -3e38]])
POINTS = POINTS.astype(np.float32)


@pytest.mark.parametrize(
    ("function", "exact"),
    [(normal.density, mpmath.npdf), (normal.distribution, mpmath.ncdf)],
    ids=["density", "distribution"],
)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["op by op", "compiled"])
def test_values(function, exact, transform):
    expected = problems.exact(lambda x: exact(max(min(x, 50), -50)), POINTS)
    problems.assert_units(transform(function)(jnp.asarray(POINTS)), expected, 8)


@pytest.mark.parametrize(
    ("function", "slope"),
    [(normal.density, lambda x: -x * mpmath.npdf(x)), (normal.distribution, mpmath.npdf)],
    ids=["density", "distribution"],
)
def test_slopes(function, slope):
    expected = problems.exact(lambda x: slope(max(min(x, 50), -50)), POINTS)
    problems.assert_units(jax.vmap(jax.grad(function))(POINTS), expected, 8)
