"""Streams of files: what is in them, evaluation in the order of the rows, and validation."""

import contextlib
import pickle

import chex
import jax
import numpy as np
import pytest

import jaxnet

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(203, 5))
LABELS = RANDOM.integers(3, size=203)
WEIGHTS = RANDOM.uniform(0, 2, 203).astype(np.float32)
NETWORK = jaxnet.mlp([5, 4, 3])
PARAMETERS = NETWORK.init(jax.random.key(1))
METRICS = {"cost": jaxnet.softmax_cross_entropy, "accuracy": jaxnet.accuracy}
SIZES = {"piece": 8, "block_bytes": 8 * 6 * 24}
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows")
    for name, array in {"x": INPUTS, "y": LABELS, "w": WEIGHTS}.items():
        np.save(path / f"{name}.npy", array)
    return path


def make(folder, **sizes):
    return jaxnet.numpy_stream(folder / "x.npy", folder / "y.npy", folder / "w.npy", **sizes)


@pytest.mark.parametrize("sizes", [SIZES, {"piece": 7, "block_bytes": 7 * 29 * 24}, {}])
def test_evaluate_and_predict_are_those_of_the_data_in_memory(folder, sizes):
    stream, data = make(folder, **sizes), (INPUTS, LABELS, WEIGHTS)
    means = jaxnet.evaluate(NETWORK, PARAMETERS, stream, METRICS, batch_size=16)
    chex.assert_trees_all_close(
        means, jaxnet.evaluate(NETWORK, PARAMETERS, data, METRICS), rtol=1e-6
    )
    predicted = jaxnet.predict(NETWORK, PARAMETERS, stream, batch_size=16)
    assert isinstance(predicted, np.ndarray) and predicted.shape == (203, 3)
    np.testing.assert_allclose(
        predicted, jaxnet.predict(NETWORK, PARAMETERS, INPUTS), rtol=1e-5, atol=1e-6
    )


def test_what_is_read_is_in_the_files(folder):
    for stream in (make(folder), pickle.loads(pickle.dumps(make(folder)))):
        x, y, w = stream.read(7, 12)
        np.testing.assert_array_equal(x, INPUTS[7:12])
        np.testing.assert_array_equal(y, LABELS[7:12])
        np.testing.assert_array_equal(w, WEIGHTS[7:12])
        assert [len(part) for part in stream.read(200, 210)] == [3, 3, 3]  # which is an error
    mapped = np.load(folder / "x.npy", mmap_mode="r")
    raw = folder / "raw"
    LABELS.tofile(raw)
    labels = np.memmap(raw, LABELS.dtype, "r")
    stream = jaxnet.numpy_stream(mapped, labels)
    np.testing.assert_array_equal(stream.read(0, 203)[1], LABELS)
    assert [version.name for version in stream.versions] == ["x.npy", "raw"]
    np.save(folder / "fortran.npy", np.asfortranarray(INPUTS))
    stream = jaxnet.numpy_stream(folder / "fortran.npy", labels)
    np.testing.assert_array_equal(stream.read(7, 9)[0], INPUTS[7:9])


@contextlib.contextmanager
def weak():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnet.streaming.layout.WEAK", 100.0)
        yield


def fit(data, validation, **options):
    options = {"key": KEY, "epochs": 20, "batch_size": 16, "patience": 2} | options
    loss, rule = jaxnet.softmax_cross_entropy, jaxnet.adam(0.2)
    metrics = {"accuracy": jaxnet.accuracy}
    with weak():
        return jaxnet.fit(
            NETWORK, loss, rule, data, validation=validation, metrics=metrics, **options
        )


def test_validation_may_be_a_stream_or_in_memory(folder, tmp_path):
    stream, data = make(folder, **SIZES), (INPUTS, LABELS, WEIGHTS)
    epochs = []
    run = fit(stream, stream, on_epoch=lambda n, *_: epochs.append(n), checkpoints=tmp_path / "run")
    other = fit(stream, data)
    assert list(run.history) == list(other.history)
    assert epochs == list(range(1, len(run.history["cost"]) + 1))
    assert run.stopped == other.stopped == "patience"
    chex.assert_trees_all_equal(run.parameters, other.parameters)
    chex.assert_trees_all_close(run.history, other.history, rtol=1e-5)
    costs = run.history["validation_cost"]
    assert run.state.best.epoch == costs.argmin() + 1 == len(costs) - 2
    best = jaxnet.evaluate(NETWORK, run.parameters, stream, METRICS)["cost"]
    np.testing.assert_allclose(best, costs.min(), rtol=1e-6)
    saved = jaxnet.load(tmp_path / "run/best.safetensors", run.parameters)
    chex.assert_trees_all_equal(saved, run.parameters)
    # A run that goes on from its state counts its epochs on, and keeps its best parameters.
    half = fit(stream, data, epochs=2)
    rest = fit(stream, data, state=half.state)
    chex.assert_trees_all_equal(rest.state, other.state)
    elsewhere = fit(stream, (INPUTS[:99], LABELS[:99]), state=half.state, epochs=1)
    assert elsewhere.state.task.start == half.state.step
    with pytest.raises(TypeError, match="expected validation data in memory, as the data are"):
        fit(data, stream)


def test_batches_are_divided_among_devices(folder):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    stream = make(folder, **SIZES)
    whole = fit(stream, stream, epochs=2)
    divided = fit(stream, stream, epochs=2, batch_sharding=sharding)
    chex.assert_trees_all_close(divided.history, whole.history, rtol=1e-3)
    parameters = jaxnet.evaluate(NETWORK, PARAMETERS, stream, METRICS, batch_sharding=sharding)
    chex.assert_trees_all_close(
        parameters, jaxnet.evaluate(NETWORK, PARAMETERS, stream, METRICS), rtol=1e-5
    )
    predicted = jaxnet.predict(NETWORK, PARAMETERS, stream, batch_sharding=sharding)
    np.testing.assert_allclose(predicted, jaxnet.predict(NETWORK, PARAMETERS, INPUTS), atol=1e-5)
