"""Batches from an iterator: in its order, and from its position when a run is resumed."""

import chex
import jax
import numpy as np
import pytest

import jaxnet

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(40, 3)).astype(np.float32)
TARGETS = INPUTS[:, :1] ** 2
NETWORK, RULE = jaxnet.mlp([3, 4, 1]), jaxnet.sgd(0.01, momentum=0.9)
LOSS, KEY = jaxnet.squared_error, jax.random.key(0)


class Rows:
    """Batches of 8 rows in another order in every epoch; the last has 4."""

    def __init__(self, end=10**6):
        self.next, self.end = 0, end

    def __next__(self):
        if self.next == self.end:
            raise StopIteration
        epoch, batch = divmod(self.next, 5)
        rows = np.random.default_rng(epoch).permutation(36)[batch * 8 : batch * 8 + 8]
        self.next += 1
        return INPUTS[rows], TARGETS[rows]

    def get_state(self):
        return {"next": self.next}

    def set_state(self, state):
        self.next = state["next"]


def fit(iterator, **options):
    stream = jaxnet.BatchStream(iterator, 5, block_bytes=2 * 8 * 16)  # two batches a block
    options = {"key": KEY, "epochs": 3, "batch_size": 8, **options}
    return jaxnet.fit(NETWORK, LOSS, RULE, stream, **options)


@pytest.fixture(scope="module")
def whole():
    return fit(Rows())


def test_it_makes_a_step_on_every_batch(whole):
    step, rows = jax.jit(jaxnet.make_step(NETWORK, LOSS, RULE)), Rows()
    state = jaxnet.initial_state(NETWORK, RULE, key=KEY)
    for _ in range(15):
        x, y = next(rows)
        weights = np.pad(np.ones(len(x), np.float32), (0, 8 - len(x)))
        x, y = (np.pad(part, [(0, 8 - len(part)), (0, 0)]) for part in (x, y))
        state, _ = step(state, (x, y, weights))
    chex.assert_trees_all_close(whole.state, state, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_it_is_resumed_from_its_position(blocks, whole, tmp_path, monkeypatch):
    from test_stream_order import interrupt

    with monkeypatch.context() as patch:
        interrupt(patch, blocks)
        rows = Rows()
        run = fit(rows, checkpoints=tmp_path)
    assert run.stopped == "interrupted"
    # The iterator is where training stopped, though batches were read ahead.
    assert rows.get_state() == {"next": int(run.state.step)}
    resumed = fit(Rows(), checkpoints=tmp_path)
    chex.assert_trees_all_equal(resumed.state, whole.state)
    chex.assert_trees_all_equal(resumed.history, whole.history)


def test_an_iterator_elsewhere_is_another_run(tmp_path):
    fit(Rows(), checkpoints=tmp_path, epochs=1)
    moved = Rows()
    moved.set_state({"next": 5})
    with pytest.raises(ValueError, match="another run: data/start/next was 0 and is 5"):
        fit(moved, checkpoints=tmp_path)


def test_it_must_not_end():
    with pytest.raises(jaxnet.ReadError, match=r"goes on until the last epoch.*batch 2 of epoch 2"):
        fit(Rows(end=7))


def test_batches_have_the_size_of_a_batch():
    with pytest.raises(ValueError, match=r"batch 0: expected inputs of data for 16 rows"):
        fit(Rows(), batch_size=16)
    stream = jaxnet.BatchStream(Rows(), 6)  # the fifth has 4 rows, and is not the last
    with pytest.raises(ValueError, match=r"batch 4 of epoch 1: expected inputs of data for 8 rows"):
        jaxnet.fit(NETWORK, LOSS, RULE, stream, key=KEY, epochs=1, batch_size=8)
