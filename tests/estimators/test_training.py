"""The parts of a training: held-out rows, padding, temperature, and averages of members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from jaxnet import sigmoid_binary_cross_entropy, softmax_cross_entropy, squared_error
from jaxnet.estimators import models, portable, training
from jaxnet.estimators.training import Examples

RANDOM = np.random.default_rng(0)
OUTPUTS = RANDOM.normal(size=(6, 3, 4)) * 5  # of 6 rows, 3 members and 4 classes or labels
LABELS = RANDOM.integers(0, 4, 6)
SEVERAL = RANDOM.integers(0, 2, (6, 4))


def test_every_class_is_held_out_alike():
    y = np.repeat([0, 1, 2], [50, 10, 3])
    examples = Examples(np.arange(63)[:, None], y, np.ones(63))
    train, held_out = training.hold_out(examples, 0.2, y, np.random.RandomState(0))
    assert np.bincount(held_out.y).tolist() == [10, 2]
    assert np.bincount(train.y).tolist() == [40, 8, 3]
    assert sorted([*train.X[:, 0], *held_out.X[:, 0]]) == list(range(63))
    assert training.hold_out(examples, 0.01, y, np.random.RandomState(0)) == (examples, None)


@pytest.mark.parametrize("width", [1, 16, 32, 33, 100, 257, 1000])
def test_padding_adds_zeros_and_at_most_an_eighth_or_32_columns(width):
    padded = training.pad_columns(np.ones((2, width)))
    added = padded.shape[1] - width
    assert 0 <= added < max(32, width / 4 + 1)
    assert (padded[:, :width] == 1).all()
    assert not padded[:, width:].any()


def test_equally_wide_tables_share_a_width():
    widths = {training.pad_columns(np.ones((1, n))).shape[1] for n in range(1, 2000)}
    assert len(widths) < 40


def test_the_mean_of_the_members_is_that_of_their_probabilities():
    """In NumPy and in JAX, which rounds to float32; the oracle averages the probabilities."""
    mean = softmax(OUTPUTS, -1).mean(1)
    logits = portable.combine(OUTPUTS, "classes")
    np.testing.assert_allclose(logits, np.log(mean), rtol=1e-12)
    received = models.combine(jnp.asarray(OUTPUTS, jnp.float32), "classes")
    np.testing.assert_allclose(received, np.log(mean), rtol=1e-5)
    labels = expit(OUTPUTS).mean(1)
    np.testing.assert_allclose(expit(portable.combine(OUTPUTS, "labels")), labels, rtol=1e-12)
    received = models.combine(jnp.asarray(OUTPUTS, jnp.float32), "labels")
    np.testing.assert_allclose(expit(received), labels, rtol=1e-5)
    np.testing.assert_allclose(portable.combine(OUTPUTS, "numbers"), OUTPUTS.mean(1))


def test_the_losses_of_members():
    """The members' mean loss is minimized, and the loss of their mean decides when to stop."""
    outputs = jnp.asarray(OUTPUTS, jnp.float32)
    each = [
        log_loss([y], [p], labels=range(4))
        for y, row in zip(LABELS, softmax(OUTPUTS, -1), strict=True)
        for p in row
    ]
    received = models.mean_of_losses(softmax_cross_entropy)(outputs, jnp.asarray(LABELS))
    np.testing.assert_allclose(received, np.reshape(each, (6, 3)).mean(1), rtol=1e-5)
    mean = softmax(OUTPUTS, -1).mean(1)
    received = models.loss_of_mean(softmax_cross_entropy, "classes")(outputs, jnp.asarray(LABELS))
    np.testing.assert_allclose(received, -np.log(mean[np.arange(6), LABELS]), rtol=1e-5)
    several = expit(OUTPUTS).mean(1)
    expected = -(SEVERAL * np.log(several) + (1 - SEVERAL) * np.log1p(-several))
    loss = models.loss_of_mean(sigmoid_binary_cross_entropy, "labels")
    received = np.asarray(loss(outputs, jnp.asarray(SEVERAL, jnp.float32)))
    np.testing.assert_allclose(received, expected.sum(1), rtol=1e-5)
    numbers = jnp.asarray(RANDOM.normal(size=(6, 4)), jnp.float32)
    received = models.loss_of_mean(squared_error, "numbers")(outputs, numbers)
    np.testing.assert_allclose(
        received, np.square(OUTPUTS.mean(1) - np.asarray(numbers)).sum(1), rtol=1e-5
    )


def test_the_temperature_is_that_of_many_rows_and_near_one_for_few():
    true = RANDOM.normal(size=(20_000, 3)) * 2
    labels = (true + RANDOM.gumbel(size=true.shape)).argmax(1)  # drawn from softmax(true)
    many = training.find_temperature(true * 2.5, labels, np.ones(len(labels)))
    assert many == pytest.approx(2.5, rel=0.05)  # 0.01 would be one standard deviation
    few = training.find_temperature(true[:5] * 2.5, labels[:5], np.ones(5))
    assert 0.8 < few < 1.25
    grid = np.exp(np.linspace(-0.5, 1.5, 2001))
    costs = [
        (np.log(t) / 0.1) ** 2 / 2
        + 200 * log_loss(labels[:200], softmax(true[:200] * 2.5 / t, -1), labels=range(3))
        for t in grid
    ]
    ours = training.find_temperature(true[:200] * 2.5, labels[:200], np.ones(200))
    assert ours == pytest.approx(grid[np.argmin(costs)], rel=1e-3)


def test_the_default_network_in_numpy_is_the_one_in_jax():
    network = models.make_network(32, 4, (8, 8), 3, 0.1)
    parameters = network.init(jax.random.key(0))
    inputs = RANDOM.normal(size=(2000, 32))
    expected = network.apply(parameters, jnp.asarray(inputs, jnp.float32))
    received = portable.compute_outputs(
        models.to_layers(jax.tree.map(np.asarray, parameters)), inputs
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


def test_dropout_drops_the_same_features_of_all_members():
    layer = models._member_dropout(0.25)
    dropped = layer.apply((), jnp.ones((400, 3, 10)), key=jax.random.key(0))
    assert (dropped == dropped[:, :1]).all()
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}
    # 4,000 draws of 1/4: the standard deviation of their mean is 0.007
    assert abs(np.mean(np.asarray(dropped) == 0) - 0.25) < 0.035
    assert (layer.apply((), jnp.ones((4, 3, 10))) == 1).all()
