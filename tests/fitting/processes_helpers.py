"""The run of `two_processes.py`, which `test_processes.py` makes in one process too."""

import jax
import numpy as np

import jaxnet
from jaxnet.core.sharding import put

NETWORK = jaxnet.mlp([16, 8, 4])
OPTIMIZER = jaxnet.adam(0.01)


def make_key():
    return jax.random.key(0)  # not on import, which comes before `jax.distributed.initialize`


def make_data(examples):
    rng = np.random.default_rng(examples)
    inputs = rng.normal(size=(examples, 16)).astype(np.float32)
    return inputs, rng.integers(0, 4, examples).astype(np.int32)


def divide(tree, sharding):
    """Divides the leaves whose first axis is even."""
    everywhere = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.tree.map(
        lambda a: put(a, sharding if a.ndim and len(a) % 2 == 0 else everywhere), tree
    )
