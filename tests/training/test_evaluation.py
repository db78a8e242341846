"""Evaluation in batches: the same as all at once, with no more in memory than a batch."""

import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet

RANDOM = np.random.default_rng(0)
INPUTS = jnp.asarray(RANDOM.normal(size=(50, 3)), jnp.float32)
LABELS = jnp.asarray(RANDOM.integers(4, size=50), jnp.int32)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 49, 50, 51, 1000])
@pytest.mark.parametrize("weighted", [False, True])
def test_evaluate_in_batches_equals_all_at_once(batch_size, weighted):
    inputs, labels = (INPUTS, LABELS)
    weights = jnp.arange(50.0) % 5
    network = jaxnet.mlp([3, 8, 4])
    parameters = network.init(jax.random.key(0))
    metrics = {"cost": jaxnet.softmax_cross_entropy, "accuracy": jaxnet.accuracy}
    data = (inputs, labels, weights) if weighted else (inputs, labels)
    batched = jaxnet.evaluate(network, parameters, data, metrics, batch_size=batch_size)
    outputs = network.apply(parameters, inputs)
    for name, metric in metrics.items():
        each = np.asarray(metric(outputs, labels), np.float64)
        expected = np.average(each, weights=weights if weighted else None)
        # Sums of 50 positive float32 terms err by at most 50 roundings.
        np.testing.assert_allclose(batched[name], expected, rtol=50 * 2**-24)


@pytest.mark.parametrize("batch_size", [1, 7, 49, 50, 1000])
def test_predict_in_batches_equals_all_at_once(batch_size):
    inputs, _ = (INPUTS, LABELS)
    network = jaxnet.mlp([3, 8, 4])
    parameters = network.init(jax.random.key(0))
    outputs = jaxnet.predict(network, parameters, inputs, batch_size=batch_size)
    expected = network.apply(parameters, inputs)
    np.testing.assert_allclose(outputs, expected, atol=11 * 2**-23)  # 3 + 8 terms of order 1


def test_predict_holds_one_batch_of_hidden_units_at_a_time():
    network = jaxnet.mlp([4, 300, 2])
    parameters = network.init(jax.random.key(0))

    def program(batch_size):
        predict = functools.partial(jaxnet.predict, network, parameters, batch_size=batch_size)
        return jax.jit(predict).lower(jnp.zeros((5000, 4))).as_text()

    assert "5000x300x" not in program(100)
    assert "100x300x" in program(100)
    assert "5000x300x" in program(5000)  # the check can fail


def test_evaluate_refuses_labels_out_of_range():
    network = jaxnet.mlp([3, 2])
    parameters, metrics = network.init(jax.random.key(0)), {"accuracy": jaxnet.accuracy}
    with helpers.refused(ValueError, "evaluate: data: accuracy: expected labels from 0 to 1"):
        jaxnet.evaluate(network, parameters, (INPUTS, LABELS), metrics)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_have_a_size(batch_size):
    network = jaxnet.mlp([3, 2])
    parameters = network.init(jax.random.key(0))
    with helpers.refused(ValueError, "predict: expected batch_size of at least 1"):
        jaxnet.predict(network, parameters, INPUTS, batch_size=batch_size)


def test_inputs_may_come_in_any_form_that_fit_takes():
    network = jaxnet.mlp([2, 2])
    parameters = network.init(jax.random.key(0))
    expected = jaxnet.predict(network, parameters, jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    for inputs in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), np.array([[1.0, 2], [3, 4]])):
        np.testing.assert_array_equal(jaxnet.predict(network, parameters, inputs), expected)
    with helpers.refused(TypeError, "predict: expected numbers for inputs"):
        jaxnet.predict(network, parameters, [["red", "green"]])
