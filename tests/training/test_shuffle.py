"""Shuffling: every row once, and no order more likely than another as far as chance can tell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxnet.training.shuffle import shuffle

SIZES = [65, 72, 101, 1024, 1797]  # whose last line has one row, all or some


def orders(rows, count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: shuffle(key, jnp.array(3), rows)))(keys))


@pytest.mark.parametrize("rows", [1, 2, 3, 64, 65, 66, 97, 127, 128, 1000, 4099, 100_000])
def test_every_row_once(rows):
    order = np.asarray(shuffle(jax.random.key(1), jnp.array(0), rows))
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))


def test_another_epoch_or_key_is_another_order():
    def order(seed, epoch):
        return tuple(shuffle(jax.random.key(seed), jnp.array(epoch), 100).tolist())

    assert len({order(seed, epoch) for seed in range(5) for epoch in range(5)}) == 25
    assert order(2, 3) == order(2, 3)


def chi_squared(counts, expected):
    return scipy.stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), counts.size - 1)


@pytest.mark.parametrize("rows", SIZES)
def test_pairs_are_uniform(rows):
    """Where two rows go, near and far apart, in a table of 8 by 8 cells."""
    count, cells = 20_000, 8
    seen = orders(rows, count)
    edges = np.linspace(-0.5, rows - 0.5, cells + 1)
    size = np.histogram(np.arange(rows), edges)[0].astype(float)
    expected = np.outer(size, size) - np.diag(size)
    expected *= count / (rows * (rows - 1))
    for first, second in [(0, 1), (0, rows - 1), (3, 3 + int(rows**0.5)), (rows // 2, 7)]:
        counts = np.histogram2d(seen[:, first], seen[:, second], [edges, edges])[0]
        assert chi_squared(counts, expected) > 1e-4, (first, second)


@pytest.mark.parametrize("rows", SIZES)
def test_neighbours_and_fixed_points_are_those_of_chance(rows):
    count = 20_000
    seen = orders(rows, count)
    steps = np.bincount(((seen[:, 1:] - seen[:, :-1]) % rows).ravel(), minlength=rows)[1:]
    assert chi_squared(steps, steps.sum() / steps.size) > 1e-4
    # The number of fixed points has mean 1 and variance 1, that of ascents variance (n + 1) / 12.
    fixed = (seen == np.arange(rows)).sum(1)
    assert abs(fixed.mean() - 1) < 5 / np.sqrt(count)
    assert abs(fixed.var() - 1) < 5 * np.sqrt(3 / count)
    ascents = (np.diff(seen) > 0).sum(1)
    assert abs(ascents.mean() - (rows - 1) / 2) < 5 * np.sqrt((rows + 1) / 12 / count)
    assert abs(ascents.var() * 12 / (rows + 1) - 1) < 5 * np.sqrt(2 / count)


def test_epochs_in_turn_are_unrelated():
    """The same row, in one epoch and in the next."""
    rows, epochs = 100, 4000
    key = jax.random.key(2)
    seen = np.asarray(jax.vmap(lambda epoch: shuffle(key, epoch, rows))(jnp.arange(epochs)))
    table = np.histogram2d(seen[:-1].ravel(), seen[1:].ravel(), bins=[10, 10])[0]
    assert chi_squared(table, table.sum() / table.size) > 1e-4
