"""What the tests of files share."""

import jax
import jax.numpy as jnp
import numpy as np


def assert_same(received, expected):
    """Types, containers and bits."""
    assert jax.tree.structure(received) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(received), jax.tree.leaves(expected), strict=True):
        if isinstance(other, jax.Array):
            assert isinstance(one, jax.Array) and one.dtype == other.dtype
            if jnp.issubdtype(other.dtype, jax.dtypes.prng_key):
                one, other = jax.random.key_data(one), jax.random.key_data(other)
        else:
            assert isinstance(one, type(other)) and isinstance(other, type(one))
        one, other = np.asarray(one), np.asarray(other)
        assert (one.shape, one.dtype) == (other.shape, other.dtype.newbyteorder("="))
        assert one.tobytes() == other.astype(one.dtype).tobytes()


def abstract_parameters(network):
    return jax.eval_shape(network.init, jax.random.key(0))


def draw_parameters(network):
    """Normal numbers, truncated for integers; drawn by NumPy, which compiles nothing."""
    random = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape).astype(leaf.dtype)),
        abstract_parameters(network),
    )
