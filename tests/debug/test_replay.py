"""Failures: what is planted is found in its step, for its rows, in its layer."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(50, 3)).astype(np.float32)
LABELS = RANDOM.integers(4, size=50).astype(np.int32)
NETWORK = jaxnet.mlp([3, 8, 4])
SGD = jaxnet.sgd(0.1)


def failing(network=NETWORK, loss=jaxnet.softmax_cross_entropy, optimizer=SGD, **options):
    """The error of a run that must fail."""
    data = options.pop("data", (INPUTS, LABELS))
    options = {"key": jax.random.key(0), "epochs": 20, "batch_size": 16} | options
    with pytest.raises(jaxnet.NonFiniteError) as caught:
        jaxnet.fit(network, loss, optimizer, data, **options)
    return caught.value


def unless(step, rate, then):
    """A rate, but for one step."""
    return lambda count: jnp.where(count == step, jnp.float32(then), jnp.float32(rate))


@pytest.mark.parametrize(("step", "batch_size", "steps"), [(3, 16, 4), (4, None, 1)])
def test_a_rate_that_is_too_high_once_is_found_in_its_step(step, batch_size, steps):
    """Its update is infinite in that step, though the cost was still finite."""
    error = failing(optimizer=jaxnet.sgd(unless(step, 0.1, np.inf)), batch_size=batch_size)
    failure = error.failure
    assert (failure.step, failure.nonfinite.quantity, failure.part) == (step, "update", "data")
    assert error.epoch == step // steps + 1
    assert len(error.result.history["cost"]) == step // steps
    chex.assert_tree_all_finite((failure.state, error.result.state, error.result.parameters))
    assert f"step {step}" in str(error)


def test_a_parameter_that_the_cost_does_not_show_is_found_in_its_epoch():
    """A bias of minus infinity before a relu: all costs of a stretch of epochs stay finite."""

    def dull(updates, state, parameters):
        (first, *rest), state = SGD.update(updates, state, parameters)
        lost = jnp.where(state.count == 10, -jnp.inf, first.biases)
        return (first._replace(biases=lost), *rest), state

    optimizer = optax.GradientTransformation(SGD.init, dull)
    error = failing(optimizer=optimizer, epochs=1000)
    assert error.epoch == 3
    assert "a parameter is non-finite after epoch 3" in str(error)
    assert (error.failure.step, error.failure.nonfinite.quantity) == (9, "update")
    chex.assert_tree_all_finite(error.result.state)


def test_the_states_before_are_those_of_an_undisturbed_run_and_in_the_folder(tmp_path):
    """One of the same program: a constant rate makes another, which may round otherwise."""
    error = failing(optimizer=jaxnet.sgd(unless(9, 0.1, np.inf)), checkpoints=tmp_path)
    undisturbed = jaxnet.fit(
        NETWORK, jaxnet.softmax_cross_entropy, jaxnet.sgd(unless(999, 0.1, np.inf)),
        (INPUTS, LABELS), key=jax.random.key(0), epochs=2, batch_size=16,
    )  # fmt: skip
    chex.assert_trees_all_equal(error.result.state, undisturbed.state)
    np.testing.assert_array_equal(error.result.history["cost"], undisturbed.history["cost"])
    assert int(error.failure.state.step) == 9
    file = tmp_path / "before-failure.safetensors"
    assert str(file) in str(error)
    chex.assert_trees_all_equal(jaxnet.load(file, error.failure.state), error.failure.state)


@pytest.mark.filterwarnings("ignore:fit. expected inputs of data on a similar scale")
def test_a_row_whose_loss_is_the_log_of_zero_is_found():
    """Row 17 alone has outputs that make its probability 0."""

    def minus_log(outputs, labels):
        chosen = jnp.take_along_axis(outputs, labels[:, None], axis=1)[:, 0]
        return -jnp.log(jnp.maximum(chosen, 0.0))

    inputs = np.abs(INPUTS)
    inputs[17] = -1000.0
    network = jaxnet.mlp([3, 4])
    parameters = (jaxnet.DenseParameters(jnp.ones((3, 4)), jnp.ones(4)),)
    state = jaxnet.TrainState(parameters, SGD.init(parameters), jnp.zeros((), jnp.int32))
    error = failing(network, minus_log, data=(inputs, LABELS), state=state)
    failure = error.failure
    assert error.epoch == 1
    assert (failure.nonfinite.quantity, failure.rows.tolist()) == ("loss", [17])
    assert 17 in failure.batch
    assert failure.step == next(
        step for step, rows in enumerate(batches_of_the_first_epoch()) if 17 in rows
    )
    assert "for rows [17] of the data" in str(error)


def batches_of_the_first_epoch():
    """The rows of every step, seen by a network that keeps what passes through it."""
    seen = []

    def apply(parameters, x, *, key=None):
        jax.debug.callback(lambda rows: seen.append(np.asarray(rows)), x[:, 0])
        return x * parameters

    network = jaxnet.Network(lambda key: jnp.ones(()), apply)
    numbers = np.arange(50.0, dtype=np.float32)[:, None]
    jax.block_until_ready(
        jaxnet.train(
            network, jaxnet.squared_error, SGD, (numbers, numbers),
            key=jax.random.key(0), epochs=1, batch_size=16,
        )
    )  # fmt: skip
    jax.effects_barrier()
    return [rows.astype(int).tolist() for rows in seen[-4:]]


@pytest.mark.filterwarnings("ignore:fit. expected inputs of data on a similar scale")
def test_a_layer_that_overflows_is_found():
    """The second layer's sums overflow for the rows whose first activations are large."""
    inputs = np.ones((50, 1), np.float32)
    inputs[[5, 31]] = 1e20
    network = jaxnet.serial(jaxnet.dense(1, 1), jaxnet.dense(1, 4))
    one, many = jnp.ones((1, 1)), jnp.full((1, 4), 1e20)
    parameters = (
        jaxnet.DenseParameters(one, jnp.zeros(1)),
        jaxnet.DenseParameters(many, jnp.zeros(4)),
    )
    state = jaxnet.TrainState(parameters, SGD.init(parameters), jnp.zeros((), jnp.int32))
    error = failing(network, data=(inputs, LABELS), state=state, batch_size=None)
    assert error.failure.nonfinite.quantity == "weighted sum"
    assert "1 dense(1, 4, identity)" in error.failure.nonfinite.layer
    assert error.failure.rows.tolist() == [5, 31]


def test_a_validation_cost_that_is_not_finite_is_found_in_its_rows():
    held_out = np.ones((1500, 3), np.float32)
    held_out[1200] = 3e38
    error = failing(validation=(held_out, np.zeros(1500, np.int32)))
    assert "the validation_cost of epoch 1" in str(error)
    assert (error.failure.part, error.failure.rows.tolist()) == ("validation", [1200])
    assert len(error.result.history["cost"]) == 0


def test_a_failure_that_rounding_decides_is_said_to_be_one(monkeypatch):
    monkeypatch.setattr("jaxnet.fitting.trainer.find_step", lambda *_: None)
    error = failing(optimizer=jaxnet.sgd(unless(9, 0.1, np.inf)))
    assert error.failure is None
    assert "depends on rounding" in str(error)
