"""The test problems: their gradients are what their names say."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree

from jaxnet.testing import problems


def problems_by_name(seed=0):
    return {problem.name: problem for problem in problems.standard_problems(seed)}


def gradients(name, parameters=None, step=0):
    problem = problems_by_name()[name]
    with jax.enable_x64(True):
        start = jax.tree.map(jnp.asarray, problem.parameters if parameters is None else parameters)
        return jax.device_get(problem.gradients(start, jnp.array(step, jnp.int32)))


def test_all_problems_share_one_tree():
    shapes = [jax.tree.map(np.shape, problem.parameters) for problem in problems_by_name().values()]
    assert all(shape == shapes[0] for shape in shapes)
    assert sorted(
        np.ndim(leaf) for leaf in jax.tree.leaves(problems_by_name()["zero"].parameters)
    ) == [
        0,
        1,
        2,
    ]


def test_quadratics_are_linear_in_the_parameters():
    """The curvatures, by finite differences of the gradients, span the documented range."""
    for name, lowest in (("quadratic", 0.5), ("narrow quadratic", 1e-6)):
        start = problems_by_name()[name].parameters
        moved = jax.tree.map(lambda p: p + 1.0, start)
        curvature = jax.tree.map(np.subtract, gradients(name, moved), gradients(name, start))
        values = ravel_pytree(curvature)[0]
        assert (values > 0.99 * lowest).all()
        assert (values < 1.01).all()
        assert values.min() < 100 * lowest


def test_rosenbrock_against_scipy():
    parameters = problems_by_name()["rosenbrock"].parameters
    x = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(parameters)])
    expected = scipy.optimize.rosen_der(x) / (1 + scipy.optimize.rosen(x))
    received = [np.ravel(leaf) for leaf in jax.tree.leaves(gradients("rosenbrock"))]
    np.testing.assert_allclose(np.concatenate(received), expected, rtol=1e-12)


def test_network_against_finite_differences():
    problem = problems_by_name()["network"]
    _, constants = problem.gradients.args
    rows = (3 * 8 + np.arange(8)) % 32

    def cost(flat):
        tree = jax.device_get(unravel(jnp.asarray(flat)))
        (weights, biases), scale = tree["layer"], tree["scale"]
        logits = scale * np.tanh(constants.inputs[rows] @ weights + biases) @ weights.T
        chosen = logits[np.arange(8), constants.labels[rows]]
        return np.mean(np.log(np.exp(logits).sum(1)) - chosen)

    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, problem.parameters))
        received = ravel_pytree(gradients("network", step=3))[0]
        expected = scipy.optimize.approx_fprime(np.asarray(flat), cost, 1e-7)
    np.testing.assert_allclose(received, expected, atol=1e-6)


def test_gradients_that_do_not_depend_on_the_parameters():
    sparse = np.stack([ravel_pytree(gradients("sparse", step=s))[0] for s in range(97)])
    assert 0.8 < (sparse == 0).mean() < 0.97
    assert not ravel_pytree(gradients("zero", step=5))[0].any()
    sizes = np.abs(ravel_pytree(gradients("magnitudes", step=1))[0])
    assert sizes.max() / sizes.min() > 1e15
    again = ravel_pytree(gradients("magnitudes", step=98))[0]
    np.testing.assert_array_equal(np.abs(again), sizes)


def test_seeds_give_different_problems():
    starts = [ravel_pytree(problems_by_name(seed)["zero"].parameters)[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(starts[0], starts[1])
    assert (starts[0] != starts[2]).all()


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (0.5, TypeError), (None, TypeError)])
def test_seed_is_checked(seed, error):
    with helpers.refused(error, "standard_problems: expected"):
        problems.standard_problems(seed)
