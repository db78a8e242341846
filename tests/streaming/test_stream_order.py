"""The order of a stream: steps on the rows of an index array, each row once, resumed anywhere."""

import contextlib
import functools
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.streaming.layout import Layout
from jaxnet.training.shuffle import shuffle

RANDOM = np.random.default_rng(0)
ROWS = 131  # a prime: no piece, block or batch divides it
INPUTS = RANDOM.normal(size=(ROWS, 3)).astype(np.float32)
TARGETS = (INPUTS[:, :1] ** 2).astype(np.float32)
WEIGHTS = RANDOM.uniform(0.5, 2, ROWS).astype(np.float32)
NETWORK, OPTIMIZER = jaxnet.mlp([3, 4, 1]), jaxnet.sgd(0.01, momentum=0.9)
KEY = jax.random.key(3)
PIECE, TOGETHER, BATCH = 4, 12, 8
SIZES = {"piece": PIECE, "block_bytes": PIECE * TOGETHER * 20}  # 3 inputs, a target and a weight


def read(start, stop):
    return INPUTS[start:stop], TARGETS[start:stop], WEIGHTS[start:stop]


@pytest.fixture(autouse=True)
def weak_shuffle():
    """The blocks are too small for a good shuffle, on purpose; and no thread is left over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnet.streaming.layout.WEAK", 100.0)
        yield
    assert not [t for t in threading.enumerate() if t.name.startswith("jaxnet-stream")]


def fit(stream=None, **options):
    options = {"key": KEY, "epochs": 2, "batch_size": BATCH, "progress": False} | options
    stream = stream or jaxnet.Stream(ROWS, read, **SIZES)
    return jaxnet.fit(NETWORK, jaxnet.squared_error, OPTIMIZER, stream, **options)


def order(epoch, rows=ROWS, piece=PIECE, together=TOGETHER):
    """The rows of every block of an epoch, in the order of training."""
    whole = rows // piece
    key = jax.random.fold_in(KEY, 3)
    pieces = [*shuffle(key, jnp.array(epoch, jnp.int32), whole).tolist()]
    pieces += [whole] if rows % piece else []
    for block, start in enumerate(range(0, len(pieces), together)):
        some = sorted(pieces[start : start + together])
        numbers = np.concatenate([np.arange(rows)[i * piece : (i + 1) * piece] for i in some])
        key = jax.random.fold_in(jax.random.fold_in(KEY, 4), block)
        size = min(piece * together, rows)
        places = np.asarray(shuffle(key, jnp.array(epoch, jnp.int32), size))
        yield numbers[places[places < len(numbers)]]


@functools.cache
def whole():
    return fit()


def test_it_makes_the_steps_on_the_rows_of_an_index_array():
    step = jax.jit(jaxnet.make_step(NETWORK, jaxnet.squared_error, OPTIMIZER))
    state = jaxnet.initial_state(NETWORK, OPTIMIZER, key=KEY)
    for epoch in range(2):
        costs, seen = [], []
        for rows in order(epoch):
            seen += rows.tolist()
            for start in range(0, len(rows), BATCH):
                chosen = rows[start : start + BATCH]
                missing = BATCH - len(chosen)
                weights = np.pad(WEIGHTS[chosen], (0, missing))
                chosen = np.pad(chosen, (0, missing))
                state, metrics = step(state, (INPUTS[chosen], TARGETS[chosen], weights))
                costs.append((float(metrics["cost"]), weights.sum()))
        assert sorted(seen) == list(range(ROWS))
        values, weights = np.transpose(costs)
        cost = np.average(values, weights=weights)
        np.testing.assert_allclose(whole().history["cost"][epoch], cost, rtol=1e-6)
    assert whole().state.step == state.step
    chex.assert_trees_all_close(whole().state, state, rtol=1e-5, atol=1e-7)


def test_float64_is_equal_to_rounding():
    """With parameters of 64 bits, the same steps differ by rounding alone."""
    with jax.enable_x64(True):

        def apply(parameters, inputs, *, key=None):
            return NETWORK.apply(parameters, inputs.astype(jnp.float64), key=key)

        def loss(outputs, targets):
            return jaxnet.squared_error(outputs, targets.astype(jnp.float64))

        network = jaxnet.Network(NETWORK.init, apply)
        start = jaxnet.initial_state(NETWORK, OPTIMIZER, key=KEY)
        start = jax.tree.map(
            lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, start
        )
        stream = jaxnet.Stream(ROWS, read, **SIZES)
        options = {"key": KEY, "epochs": 1, "batch_size": BATCH, "state": start}
        run = jaxnet.fit(network, loss, OPTIMIZER, stream, **options)
        step = jax.jit(jaxnet.make_step(network, loss, OPTIMIZER))
        state = start
        for rows in order(0):
            for first in range(0, len(rows), BATCH):
                some = rows[first : first + BATCH]
                state, _ = step(state, (INPUTS[some], TARGETS[some], WEIGHTS[some]))
        chex.assert_trees_all_close(run.state.parameters, state.parameters, rtol=1e-12)


@pytest.mark.parametrize("blocks", range(1, 6))
def test_it_is_resumed_after_any_block_with_the_same_bits(blocks, tmp_path, monkeypatch):
    if blocks == 1:
        assert Layout(ROWS, PIECE, TOGETHER).blocks == 3
    interrupt(monkeypatch, blocks)
    run = fit(checkpoints=tmp_path)
    monkeypatch.undo()
    assert run.stopped == "interrupted" and run.state.step < whole().state.step
    resumed = fit(checkpoints=tmp_path)
    assert resumed.stopped == "finished"
    chex.assert_trees_all_equal(resumed.state, whole().state)
    chex.assert_trees_all_equal(resumed.history, whole().history)


def interrupt(monkeypatch, blocks):
    """Presses Ctrl-C during a block."""
    looks = iter(range(10**6))

    @contextlib.contextmanager
    def note_interrupts(*_, **__):
        yield lambda: 2 if next(looks) + 1 >= blocks else None

    monkeypatch.setattr("jaxnet.fitting.fit.note_interrupts", note_interrupts)


@pytest.mark.parametrize(
    ("rows", "piece", "together", "batch"),
    [(1, 1, 1, 1), (64, 4, 4, 16), (65, 4, 4, 16), (100, 7, 3, 5)],
)
def test_every_row_counts_once(rows, piece, together, batch):
    """The weighted mean of a loss that a rate of 0 leaves alone is that of all rows."""
    stream = jaxnet.Stream(rows, read, piece=piece, block_bytes=piece * together * 20)
    network = jaxnet.Network(lambda key: jnp.zeros((1, 1)), lambda p, x, *, key=None: x[:, :1] + p)
    loss, rule = jaxnet.squared_error, jaxnet.gradient_descent(0.0)
    run = jaxnet.fit(network, loss, rule, stream, key=KEY, epochs=2, batch_size=batch)
    expected = np.average((INPUTS[:rows, 0] - TARGETS[:rows, 0]) ** 2, weights=WEIGHTS[:rows])
    np.testing.assert_allclose(run.history["cost"], expected, rtol=1e-5)
    for epoch in range(2):
        assert sorted(np.concatenate([*order(epoch, rows, piece, together)])) == [*range(rows)]


def test_another_epoch_has_another_order():
    orders = [np.concatenate([*order(epoch)]).tolist() for epoch in range(2)]
    assert orders[0] != orders[1]
    assert whole().history["cost"][0] != fit(key=jax.random.key(4)).history["cost"][0]
