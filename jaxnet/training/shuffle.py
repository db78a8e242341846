"""Shuffling: a random order of rows, drawn where the training runs, in little time.

Sorting random numbers, as `jax.random.permutation` does, takes longer than a whole epoch of a small
network. Here each position is enciphered instead: a cipher whose words are the numbers below `rows`
sends each to another, none to the same, all independently of each other and without a sort.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

Words = UInt32[Array, " words"]

_FEW_ROWS = 64
_ROUNDS = 6
_VECTOR = 64  # words are enciphered in whole vectors, and those beyond the rows dropped


def shuffled(key: Key[Array, ""], epoch: Int[Array, ""], rows: int) -> Int[Array, " rows"]:
    """The numbers from 0 to `rows - 1` in a random order, another for each key and epoch.

    They are laid out in lines of about their square root, of which the last may be short. Six times
    every line is turned around by a random number of places, and then every column. Up to 64 rows,
    where chance could tell that from all orders being equally likely, they are sorted by random
    numbers.

    It is a generalised Feistel cipher. Reference: Black and Rogaway, Ciphers with arbitrary finite
    domains, 2002; Mitchell et al., Bandwidth-optimal random shuffling for GPUs, 2021, who shuffle
    with ciphers.

    >>> sorted(shuffled(jax.random.key(0), jnp.array(7), 100).tolist()) == list(range(100))
    True
    """
    if rows <= _FEW_ROWS:
        return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, 1), epoch), rows)
    bits = (rows - 1).bit_length() // 2
    last, rest = divmod(rows - 1, 1 << bits)

    def one_round(words: Words, keys: UInt32[Array, "2"]) -> tuple[Words, None]:
        line, column = words >> bits, words & np.uint32((1 << bits) - 1)
        width = jnp.where(line < last, np.uint32(1 << bits), np.uint32(rest + 1))
        column = _turned(column, width, hashed(line + keys[0]))
        height = jnp.where(column <= rest, np.uint32(last + 1), np.uint32(last))
        line = _turned(line, height, hashed(column + keys[1]))
        return line << bits | column, None

    words = jnp.arange(-(-rows // _VECTOR) * _VECTOR, dtype=jnp.uint32)
    return jax.lax.scan(one_round, words, _round_keys(key, epoch))[0][:rows].astype(jnp.int32)


def _turned(places: Words, length: Words, number: Words) -> Words:
    """Places on circles of that length, moved on by about `length * number / 2**32`."""
    moved = places + ((number >> 16) * length >> 16)
    return jnp.where(moved < length, moved, moved - length)


def _round_keys(key: Key[Array, ""], epoch: Int[Array, ""]) -> UInt32[Array, "rounds 2"]:
    """Numbers that each depend on all of the key and on the epoch.

    Hashed, since `fold_in` takes as long, to run and to compile, as all else here together.
    """
    numbers = jnp.arange(2 * _ROUNDS, dtype=jnp.uint32)
    for word in (*jax.random.key_data(key), epoch.astype(jnp.uint32)):
        numbers = hashed(numbers + word)
    return numbers.reshape(_ROUNDS, 2)


def hashed(x: Any) -> Any:
    """Every bit of the result depends on every bit of `x` (Wellons, lowbias32, 2018).

    For words of 32 bits, of JAX or NumPy.
    """
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
