"""The random order of an epoch, computed on the device in little time.

`jax.random.permutation` sorts random numbers, which takes longer than a whole epoch of a small
network. `shuffle` applies a keyed permutation to each position instead, all in parallel and without
a sort.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

from jaxnet.training.keys import order_key

Words = UInt32[Array, " words"]

_FEW_ROWS = 64
_ROUNDS = 6
_VECTOR = 64  # the permutation is computed in whole vectors; positions beyond the rows are dropped


def shuffle(key: Key[Array, ""], epoch: Int[Array, ""], rows: int) -> Int[Array, " rows"]:
    """Computes the numbers from 0 to `rows - 1` in a random order.

    A six-round Feistel network on a grid of about `sqrt(rows)` by `sqrt(rows)`: each round rotates
    every row, then every column, by a hashed offset. The distribution is not exactly uniform. Up to
    64 rows, where a test could detect that, the order is `jax.random.permutation`'s.

    Args:
        key: the key of the run.
        epoch: the number of the epoch; each has another order.
        rows: the number of examples.

    Reference: Black and Rogaway, Ciphers with arbitrary finite domains, 2002; Mitchell et al.,
    Bandwidth-optimal random shuffling for GPUs, 2021.

    >>> sorted(shuffle(jax.random.key(0), jnp.array(7), 100).tolist()) == list(range(100))
    True
    """
    if rows <= _FEW_ROWS:
        return jax.random.permutation(order_key(key, epoch), rows)
    bits = (rows - 1).bit_length() // 2
    last, rest = divmod(rows - 1, 1 << bits)

    def one_round(words: Words, keys: UInt32[Array, "2"]) -> tuple[Words, None]:
        line, column = words >> bits, words & np.uint32((1 << bits) - 1)
        width = jnp.where(line < last, np.uint32(1 << bits), np.uint32(rest + 1))
        column = _rotate(column, width, hash_words(line + keys[0]))
        height = jnp.where(column <= rest, np.uint32(last + 1), np.uint32(last))
        line = _rotate(line, height, hash_words(column + keys[1]))
        return line << bits | column, None

    words = jnp.arange(-(-rows // _VECTOR) * _VECTOR, dtype=jnp.uint32)
    return jax.lax.scan(one_round, words, _round_keys(key, epoch))[0][:rows].astype(jnp.int32)


def _rotate(places: Words, length: Words, number: Words) -> Words:
    """Rotates positions on circles of the given length by about `length * number / 2**32`."""
    moved = places + ((number >> 16) * length >> 16)
    return jnp.where(moved < length, moved, moved - length)


def _round_keys(key: Key[Array, ""], epoch: Int[Array, ""]) -> UInt32[Array, "rounds 2"]:
    """Computes the offsets' keys, each from all words of the key and the epoch.

    They are hashed, since `fold_in` takes as long to run and compile as the rest of the shuffle.
    """
    numbers = jnp.arange(2 * _ROUNDS, dtype=jnp.uint32)
    for word in (*jax.random.key_data(key), epoch.astype(jnp.uint32)):
        numbers = hash_words(numbers + word)
    return numbers.reshape(_ROUNDS, 2)


def hash_words(x: Any) -> Any:
    """Hashes 32-bit words of JAX or NumPy; every output bit depends on every input bit.

    Reference: Wellons, lowbias32, 2018.
    """
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
