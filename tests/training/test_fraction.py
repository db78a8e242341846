"""A network that depends on the fraction of the training: `Network.at`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(12, 3)).astype(np.float32)
TARGETS = RANDOM.normal(size=(12, 1)).astype(np.float32)
RATE = 0.05


def key():
    return jax.random.key(0)


def init(key):
    return jnp.zeros((3, 1))


def apply(weights, inputs, *, key=None):
    return inputs @ weights


def scale(fraction):
    """The network `(1 + fraction) * inputs @ weights`."""
    return jaxnet.Network(init, lambda w, x, *, key=None: (1 + fraction) * (x @ w))


GROWING = jaxnet.Network(init, apply, at=scale)
OPTIMIZER = jaxnet.gradient_descent(RATE)


def descend(epochs):
    """The costs and weights of gradient descent on all rows, in NumPy."""
    weights, costs = np.zeros((3, 1)), []
    for epoch in range(epochs):
        factor = 1 + epoch / epochs
        errors = factor * INPUTS @ weights - TARGETS
        costs.append(np.mean(errors**2))
        weights = weights - RATE * 2 * factor * INPUTS.T @ errors / len(INPUTS)
    return costs, weights


def test_each_step_is_that_of_the_network_at_its_fraction():
    costs, weights = descend(10)
    arguments = GROWING, jaxnet.squared_error, OPTIMIZER, (INPUTS, TARGETS)
    options = {"epochs": 10, "batch_size": None}
    run = jaxnet.fit(*arguments, key=key(), **options)
    np.testing.assert_allclose(run.history["cost"], costs, rtol=1e-5)
    np.testing.assert_allclose(run.parameters, weights, rtol=1e-5)
    state, history = jaxnet.train(*arguments, key=key(), **options)
    np.testing.assert_allclose(history["cost"], costs, rtol=1e-5)
    np.testing.assert_allclose(state.parameters, weights, rtol=1e-5)


def test_the_fraction_is_that_of_the_steps():
    """Five batches in an epoch; with the state of another run, it begins at 0 again."""
    seen = []

    def record(fraction):
        jax.debug.callback(lambda value: seen.append(float(value)), fraction)
        return 0.5 * (1 - fraction)

    block = jaxnet.residual(jaxnet.serial(jaxnet.dropout(record), jaxnet.dense(3, 3)))
    network = jaxnet.serial(block, jaxnet.dense(3, 1))
    arguments = network, jaxnet.squared_error, OPTIMIZER, (INPUTS, TARGETS)
    options = {"epochs": 2, "batch_size": 3}
    expected = np.arange(8) / 8
    run = jaxnet.fit(*arguments, key=key(), **options)
    np.testing.assert_allclose(sorted(set(seen)), expected, atol=1e-6)
    seen.clear()
    jaxnet.fit(*arguments, key=key(), state=run.state, **options)
    np.testing.assert_allclose(sorted(set(seen)), expected, atol=1e-6)
    seen.clear()
    keys = jax.random.split(key(), 2)
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), run.state)
    jaxnet.fit(*arguments, key=keys, state=states, **options)
    np.testing.assert_allclose(sorted(set(seen)), expected, atol=1e-6)


def halve(fraction):
    return 0.5 * (1 - fraction)


def test_an_interrupted_run_goes_on_to_the_same_bits_and_not_to_another_length(tmp_path):
    network = jaxnet.serial(jaxnet.dense(3, 8), jaxnet.dropout(halve), jaxnet.dense(8, 1))

    def fit(epochs=6, **options):
        arguments = network, jaxnet.squared_error, OPTIMIZER, (INPUTS, TARGETS)
        return jaxnet.fit(*arguments, key=key(), epochs=epochs, batch_size=5, **options)

    whole = fit()
    stop = fit(checkpoints=tmp_path, on_epoch=lambda epoch, *_: epoch == 2)
    assert stop.stopped == "on_epoch"
    resumed = fit(checkpoints=tmp_path, on_epoch=lambda *_: False)
    for mine, its in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(mine, its)
    with pytest.raises(ValueError, match=r"another run: epochs was 6 and is 7"):
        fit(7, checkpoints=tmp_path)


def test_a_step_that_fails_is_replayed_at_its_fraction():
    def overflow(fraction):
        factor = jnp.where(fraction < 0.5, 1.0, 1e38)
        return jaxnet.Network(init, lambda w, x, *, key=None: factor * (100 * x + x @ w)[:, :1])

    network = jaxnet.Network(init, apply, at=overflow)
    with pytest.raises(jaxnet.NonFiniteError) as caught:
        jaxnet.fit(
            network,
            jaxnet.squared_error,
            jaxnet.gradient_descent(1e-6),
            (INPUTS, TARGETS),
            key=key(),
            epochs=4,
            batch_size=6,
        )
    assert caught.value.epoch == 3
    assert caught.value.failure.step == 4


def test_an_ensemble_of_a_scheduled_network_is_scheduled():
    network = jaxnet.serial(jaxnet.dense(3, 8), jaxnet.dropout(halve), jaxnet.dense(8, 1))
    ensemble = jaxnet.batch_ensemble(network, 2)
    parameters = ensemble.init(key())
    last = ensemble.at(jnp.float32(1)).apply(parameters, INPUTS_ON_DEVICE, key=key())
    np.testing.assert_array_equal(last, ensemble.apply(parameters, INPUTS_ON_DEVICE))
    first = ensemble.at(jnp.float32(0)).apply(parameters, INPUTS_ON_DEVICE, key=key())
    assert (first != last).any()


INPUTS_ON_DEVICE = jnp.asarray(INPUTS)


def test_a_key_without_a_fraction_is_refused():
    with pytest.raises(ValueError, match=r"network.at\(fraction\) with a key"):
        jaxnet.dropout(halve).apply((), INPUTS_ON_DEVICE, key=key())
