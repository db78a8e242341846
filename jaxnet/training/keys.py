"""The keys of a run: everything random is folded from one key.

The parameters, the order of the examples in an epoch and the noise of a step depend on the key of
the run and on the number of the epoch or step alone. A run that is stopped and resumed is therefore
the same run, and no random state has to be saved.
"""

import jax
from jaxtyping import Array, Int, Key


def parameters_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """The key from which the initial parameters are drawn."""
    return jax.random.fold_in(key, 0)


def order_key(key: Key[Array, ""], epoch: Int[Array, ""]) -> Key[Array, ""]:
    """The key of the order of the examples in an epoch."""
    return jax.random.fold_in(jax.random.fold_in(key, 1), epoch)


def noise_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """The key of the network's noise, such as dropout, in all steps of a run."""
    return jax.random.fold_in(key, 2)


def step_key(noise: Key[Array, ""] | None, step: Int[Array, ""]) -> Key[Array, ""] | None:
    """The key of the network's noise in one step; None if there is no noise."""
    return None if noise is None else jax.random.fold_in(noise, step)


def pieces_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """The key of the order of a stream's pieces, in all epochs of a run."""
    return jax.random.fold_in(key, 3)


def block_key(key: Key[Array, ""], block: Int[Array, ""]) -> Key[Array, ""]:
    """The key of the order of the rows in a block of a stream, in all epochs of a run."""
    return jax.random.fold_in(jax.random.fold_in(key, 4), block)
