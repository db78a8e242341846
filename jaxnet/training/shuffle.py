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


def shuffle(
    key: Key[Array, ""],
    epoch: Int[Array, ""],
    rows: int | Int[Array, ""],
    size: int | None = None,
) -> Int[Array, " size"]:
    """Computes the numbers from 0 to `rows - 1` in a random order.

    A six-round Feistel network on a grid of about `sqrt(rows)` by `sqrt(rows)`: each round rotates
    every row, then every column, by a hashed offset. The distribution is not exactly uniform. Up to
    64 rows, where a test could detect that, the order is `jax.random.permutation`'s.

    Args:
        key: the key of the run.
        epoch: the number of the epoch; each has another order.
        rows: the number of examples; a traced one needs a `size`.
        size: the length of the result, at least `rows` and with the same number of bits, or at most
            64 like `rows`. Zeros follow after the rows. By default the number of rows.

    Reference: Black and Rogaway, Ciphers with arbitrary finite domains, 2002; Mitchell et al.,
    Bandwidth-optimal random shuffling for GPUs, 2021.

    >>> sorted(shuffle(jax.random.key(0), jnp.array(7), 100).tolist()) == list(range(100))
    True
    """
    size = int(rows) if size is None else size
    if size <= _FEW_ROWS:
        return _sort_randomly(order_key(key, epoch), rows)[:size]
    bits = (size - 1).bit_length() // 2
    end = jnp.asarray(rows - 1, jnp.uint32)
    last, rest = end >> bits, end & np.uint32((1 << bits) - 1)

    def one_round(words: Words, keys: UInt32[Array, "2"]) -> tuple[Words, None]:
        line, column = words >> bits, words & np.uint32((1 << bits) - 1)
        width = jnp.where(line < last, np.uint32(1 << bits), rest + 1)
        column = _rotate(column, width, hash_words(line + keys[0]))
        height = jnp.where(column <= rest, last + 1, last)
        line = _rotate(line, height, hash_words(column + keys[1]))
        return line << bits | column, None

    places = jnp.arange(-(-size // _VECTOR) * _VECTOR, dtype=jnp.uint32)
    order = jax.lax.scan(one_round, places, _round_keys(key, epoch))[0]
    return jnp.where(places <= end, order, 0)[:size].astype(jnp.int32)


def _sort_randomly(key: Key[Array, ""], rows: int | Int[Array, ""]) -> Int[Array, "64"]:
    """Sorts random numbers, as `jax.random.permutation` does; zeros follow after the rows."""
    places = jnp.arange(_FEW_ROWS, dtype=jnp.int32)
    numbers = jax.random.bits(jax.random.split(key)[1], (_FEW_ROWS,), jnp.uint32)
    order = jnp.argsort(jnp.where(places < rows, numbers, np.uint32(2**32 - 1)), stable=True)
    return jnp.where(places < rows, order, 0).astype(jnp.int32)


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
