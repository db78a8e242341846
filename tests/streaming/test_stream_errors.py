"""What goes wrong with a stream is said in words that name the rows, and ends the thread."""

import os
import subprocess
import sys
import textwrap
import threading

import jax
import numpy as np
import pytest

import jaxnet

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(40, 3)).astype(np.float32)
TARGETS = INPUTS[:, :1] ** 2
LABELS = np.arange(40) % 2
NETWORK, CLASSIFIER = jaxnet.mlp([3, 1]), jaxnet.mlp([3, 2])
RULE = jaxnet.gradient_descent(0.01)
# Pieces of 4 rows in blocks of 4 pieces: a batch of one row shuffles well.
SIZES = {"piece": 4, "block_bytes": 4 * 4 * 16}


def fit(stream, network=NETWORK, loss=jaxnet.squared_error, **options):
    options = {"key": jax.random.key(0), "epochs": 2, "batch_size": 1, **options}
    return jaxnet.fit(network, loss, RULE, stream, **options)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("jaxnet-stream")]


def changed(**changes):
    """A function that reads the data, with some of its answers changed by the first row."""

    def read(start, stop):
        parts = INPUTS[start:stop].copy(), TARGETS[start:stop].copy()
        return changes["read"](*parts) if start == 8 else parts

    return jaxnet.Stream(40, read, **SIZES)


def put(array, value):
    array[2, 0] = value
    return array


def fail(*_):
    raise OSError("the disk is gone")


WRONG = {
    "an error": (fail, jaxnet.ReadError, "could not read rows 8 to 11: OSError: the disk is gone"),
    "too few rows": (
        lambda x, y: (x[:3], y[:3]),
        ValueError,
        r"t: rows 8 to 11: expected inputs of data for 4 rows. Received: \[3, 3\]",
    ),
    "too few targets": (
        lambda x, y: (x, y[:3]),
        ValueError,
        r"rows 8 to 11: expected targets of data for 4 rows. Received: \[3, 1\]",
    ),
    "another width": (
        lambda x, y: (x[:, :2], y),
        ValueError,
        r"rows 8 to 11: expected data of the same types everywhere, inputs float32\[3\], targets "
        r"float32\[1\]. Received: inputs float32\[2\]",
    ),
    "another dtype": (
        lambda x, y: (x, y.astype(int)),
        ValueError,
        r"rows 8 to 11: .* Received: inputs float32\[3\], targets int32\[1\]",
    ),
    "weights": (lambda x, y: (x, y, np.ones(4)), ValueError, "rows 8 to 11: .*weights float32"),
    "NaN": (
        lambda x, y: (put(x, np.nan), y),
        ValueError,
        r"rows 8 to 11: expected finite inputs of data. Received: nan at index \(10, 0\)",
    ),
    "infinity": (
        lambda x, y: (x, put(y, np.inf)),
        ValueError,
        r"expected finite targets of data. Received: inf at index \(10, 0\)",
    ),
    "text": (
        lambda x, y: (x.astype(str), y),
        TypeError,
        "rows 8 to 11: expected numbers for inputs of data. Received: dtype <U",
    ),
    "no tuple": (
        lambda x, y: x,
        TypeError,
        r"rows 8 to 11: expected data as a tuple \(inputs, targets\)",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_read_is_checked_in_every_piece(kind):
    read, error, message = WRONG[kind]
    with pytest.raises(error, match=message):
        fit(changed(read=read))
    with pytest.raises(error, match=message):
        jaxnet.predict(NETWORK, NETWORK.init(jax.random.key(0)), changed(read=read))


def test_weights_are_checked():
    for weight in (-1.0, 2.0**21):

        def read(start, stop, weight=weight):
            weights = np.where(np.arange(start, stop) == 9, weight, 1)
            return INPUTS[start:stop], TARGETS[start:stop], weights

        with pytest.raises(ValueError, match=r"rows 8 to 11: expected weights of data from 0 to"):
            fit(jaxnet.Stream(40, read, **SIZES))

    def zero(start, stop):
        return INPUTS[start:stop], TARGETS[start:stop], np.zeros(stop - start)

    with pytest.raises(ValueError, match="fit: expected weights of data that are not all 0"):
        fit(jaxnet.Stream(40, zero, **SIZES))


def test_labels_out_of_range_name_their_piece(tmp_path):
    labels = LABELS.copy()
    labels[22] = 2
    np.save(tmp_path / "x.npy", INPUTS)
    np.save(tmp_path / "y.npy", labels)
    stream = jaxnet.numpy_stream(tmp_path / "x.npy", str(tmp_path / "y.npy"), **SIZES)
    with pytest.raises(ValueError, match=r"rows 20 to 23 of .*x.npy, .*y.npy: data: softmax_cr"):
        fit(stream, CLASSIFIER, jaxnet.softmax_cross_entropy)
    accuracy = {"accuracy": jaxnet.accuracy}
    with pytest.raises(ValueError, match=r"rows \d+ to \d+ of .*expected labels from 0 to 1"):
        jaxnet.evaluate(CLASSIFIER, CLASSIFIER.init(jax.random.key(0)), stream, accuracy)


@pytest.mark.filterwarnings("ignore:fit. expected inputs of data on a similar scale")
def test_a_non_finite_value_is_found_in_its_step():
    def read(start, stop):
        return INPUTS[start:stop] * np.where(np.arange(start, stop) == 29, 1e30, 1)[:, None], (
            TARGETS[start:stop]
        )

    with pytest.raises(jaxnet.NonFiniteError, match=r"fit: the cost of epoch 1 is nan") as caught:
        fit(jaxnet.Stream(40, read, **SIZES), batch_size=1, epochs=3)
    failure = caught.value.failure
    assert failure.rows.tolist() == failure.batch.tolist() == [29]
    assert caught.value.epoch == 1 and failure.state.step == failure.step


def test_a_non_finite_validation_cost_is_found():
    def read(start, stop):
        return INPUTS[start:stop] * np.where(np.arange(start, stop) == 29, 1e30, 1)[:, None], (
            TARGETS[start:stop]
        )

    good = jaxnet.Stream(40, lambda start, stop: (INPUTS[start:stop], TARGETS[start:stop]), **SIZES)
    with pytest.raises(jaxnet.NonFiniteError, match="validation_cost of epoch 1 is inf") as caught:
        fit(good, validation=jaxnet.Stream(40, read, **SIZES))
    assert caught.value.failure.part == "validation"
    assert caught.value.failure.rows.tolist() == [29]


def save(folder):
    np.save(folder / "x.npy", INPUTS)
    np.save(folder / "y.npy", TARGETS)
    return jaxnet.numpy_stream(folder / "x.npy", folder / "y.npy", **SIZES)


def test_a_file_that_changes_during_a_run_is_an_error(tmp_path):
    stream = save(tmp_path)
    with pytest.raises(jaxnet.ReadError, match=r"files of a stream that do not change. .*y.npy"):
        fit(stream, on_epoch=lambda *_: np.save(tmp_path / "y.npy", TARGETS[:39]))
    with pytest.raises(jaxnet.ReadError, match="do not change"):
        fit(stream)
    os.remove(tmp_path / "y.npy")
    with pytest.raises(jaxnet.ReadError, match=r"could not read .*y.npy: .*No such file"):
        fit(stream)


def test_a_file_that_has_changed_is_refused_on_resuming(tmp_path):
    fit(save(tmp_path), checkpoints=tmp_path / "run")
    np.save(tmp_path / "x.npy", INPUTS)  # at another time
    os.utime(tmp_path / "x.npy", (1, 1))
    stream = jaxnet.numpy_stream(tmp_path / "x.npy", tmp_path / "y.npy", **SIZES)
    with pytest.raises(ValueError, match=r"another run: data/files/0 was 'x.npy, .* and is 'x.npy"):
        fit(stream, checkpoints=tmp_path / "run", epochs=3)


def test_other_rows_or_sizes_are_refused_on_resuming(tmp_path):
    def stream(shift, **sizes):
        def read(start, stop):
            return INPUTS[start:stop] + shift, TARGETS[start:stop]

        return jaxnet.Stream(40, read, **SIZES | sizes)

    fit(stream(0), checkpoints=tmp_path)
    with pytest.raises(ValueError, match="another run: data/ends/0/inputs was"):
        fit(stream(1), checkpoints=tmp_path, epochs=3)
    with pytest.raises(ValueError, match="another run: data/piece was 4 and is 2"):
        fit(stream(0, piece=2), checkpoints=tmp_path, epochs=3)


def test_an_array_that_the_reader_uses_again_is_copied():
    memory = np.empty((4, 3), np.float32)

    def read(start, stop):
        memory[: stop - start] = INPUTS[start:stop]
        return memory[: stop - start], TARGETS[start:stop]

    parameters = NETWORK.init(jax.random.key(0))
    predicted = jaxnet.predict(NETWORK, parameters, jaxnet.Stream(40, read, **SIZES))
    np.testing.assert_array_equal(predicted, jaxnet.predict(NETWORK, parameters, INPUTS))


def test_a_weak_shuffle_is_a_warning():
    stream = jaxnet.Stream(40, lambda a, b: (INPUTS[a:b], TARGETS[a:b]), **SIZES)
    message = (
        r"blocks of at least 12 pieces, to shuffle well for batches of 4. Received: 4 pieces of 4 "
        r"rows, so the batches of a sorted file vary 1.37 times .* block_bytes=768 helps"
    )
    with pytest.warns(UserWarning, match=message):
        fit(stream, batch_size=4)


SCRIPT = """
import os, resource, signal, threading
import numpy as np
import jax, jaxnet

def read(start, stop):  # 400 MB
    inputs = np.zeros((stop - start, 10_000), np.float32)
    inputs[:, 0] = np.arange(start, stop)
    return inputs, inputs[:, :1] / 1e4

def memory():
    text = open("/proc/self/status").read()
    return int(text.partition("VmData:")[2].split()[0]) * 1024

network, rule = jaxnet.mlp([10_000, 1]), jaxnet.gradient_descent(1e-12)
options = dict(key=jax.random.key(0), epochs=1, batch_size=50, progress=False)
fit = lambda stream: jaxnet.fit(network, jaxnet.squared_error, rule, stream, **options)
small = jaxnet.Stream(1000, read, block_bytes=2**24, piece=1)
fit(small)  # imports and compiles
limit = memory() + 2**27
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
run = fit(jaxnet.Stream(10_000, read, block_bytes=2**24, piece=1))
print(run.stopped, int(run.state.step))
"""


def test_memory_is_bounded():
    """400 MB under a limit of 128 MiB more than a small run needs, with blocks of 16 MiB."""
    script = textwrap.dedent(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True
    )
    assert done.stdout == "finished 200\n", done.stderr[-2000:]
