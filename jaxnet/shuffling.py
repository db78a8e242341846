"""Shuffling: a random order of rows, drawn where the training runs, in little time.

Sorting random numbers, as `jax.random.permutation` does, takes longer than a whole epoch of a small
network. Here each position is enciphered instead: a cipher whose words are the numbers below `rows`
sends each to another, none to the same, all independently of each other and without a sort.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

Words = UInt32[Array, " words"]

_FEW_ROWS = 64
_ROUNDS = 6


def shuffled(key: Key[Array, ""], epoch: Int[Array, ""], rows: int) -> Int[Array, " rows"]:
    """The numbers from 0 to `rows - 1` in a random order, another for each key and epoch.

    A generalised Feistel cipher over pairs `(left, right)` of which there are at least `rows`; a
    word beyond is enciphered again until it is below. Up to 64 rows, where chance could tell it
    from all orders being equally likely, they are sorted by random numbers.

    Reference: Black and Rogaway, Ciphers with arbitrary finite domains, 2002; Mitchell et al.,
    Bandwidth-optimal random shuffling for GPUs, 2021, who shuffle so.

    >>> sorted(shuffled(jax.random.key(0), jnp.array(7), 100).tolist()) == list(range(100))
    True
    """
    if rows <= _FEW_ROWS:
        return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, 1), epoch), rows)
    lefts = math.isqrt(rows - 1) + 1
    rights = -(-rows // lefts)
    size = lefts * rights

    def one_round(words: Words, keys: UInt32[Array, "2"]) -> tuple[Words, None]:
        right, left = jnp.divmod(words, np.uint32(lefts))
        left = (left + _hashed(right + keys[0]) % np.uint32(lefts)) % np.uint32(lefts)
        right = (right + _hashed(left + keys[1]) % np.uint32(rights)) % np.uint32(rights)
        return right * np.uint32(lefts) + left, None

    words = jnp.arange(size, dtype=jnp.uint32)
    words, _ = jax.lax.scan(one_round, words, _round_keys(key, epoch))

    def walk(_: Any, walked: Words) -> Words:
        return jnp.where(walked >= rows, walked[walked], walked)

    # Each walk goes twice as far as the one before; among `size - rows` words it cannot get lost.
    words = jax.lax.fori_loop(0, (size - rows).bit_length(), walk, words)
    return words[:rows].astype(jnp.int32)


def _round_keys(key: Key[Array, ""], epoch: Int[Array, ""]) -> UInt32[Array, "rounds 2"]:
    """Numbers that each depend on all of the key and on the epoch.

    Hashed, since `fold_in` takes as long, to run and to compile, as all else here together.
    """
    numbers = jnp.arange(2 * _ROUNDS, dtype=jnp.uint32)
    for word in (*jax.random.key_data(key), epoch.astype(jnp.uint32)):
        numbers = _hashed(numbers + word)
    return numbers.reshape(_ROUNDS, 2)


def _hashed(x: Words) -> Words:
    """Every bit of the result depends on every bit of `x` (Wellons, lowbias32, 2018)."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
