"""Diagnosis: planted ills are found and named, healthy networks are left in peace."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet


def key(seed=0):
    return jax.random.key(seed)


NETWORK, RULE = jaxnet.mlp([10, 16, 3]), jaxnet.gradient_descent(0.01)  # compiled only once
PARAMETERS = helpers.drawn(NETWORK)


def batch_of(seed=1, examples=128):
    random = np.random.default_rng(seed)
    inputs, targets = random.normal(size=(examples, 10)), random.normal(size=(examples, 3))
    return jnp.float32(inputs), jnp.float32(targets)


def diagnose(network=NETWORK, parameters=PARAMETERS, batch=None, **options):
    batch = batch_of() if batch is None else batch
    options = {"optimizer": RULE} | options
    return jaxnet.diagnose(network, jaxnet.squared_error, parameters, batch, **options)


def changed(layer, parameters=PARAMETERS, **values):
    return tuple(p._replace(**values) if i == layer else p for i, p in enumerate(parameters))


# Numbers.


@pytest.mark.parametrize("weights", [None, jnp.arange(128.0)])
def test_norms(weights):
    """Beside backpropagation of a relu network written out in float64."""
    inputs, targets = batch_of()
    (w1, b1), (w2, b2) = [map(np.float64, layer) for layer in PARAMETERS]
    x, share = np.float64(inputs), np.ones(128) if weights is None else np.float64(weights)
    share = (share / share.sum())[:, None]
    sums = x @ w1 + b1
    errors = np.maximum(sums, 0) @ w2 + b2 - np.float64(targets)
    d2 = 2 * share * errors
    d1 = (d2 @ w2.T) * (sums > 0)
    gradients = (x.T @ d1, d1.sum(0)), (np.maximum(sums, 0).T @ d2, d2.sum(0))
    found = diagnose(batch=(inputs, targets, weights)[: 2 if weights is None else 3])
    # Sums of up to 128 products, each rounded once, added up in two orders.
    close = {"rtol": 128 * helpers.ROUNDING}
    np.testing.assert_allclose(found.cost, (share * errors**2).sum(), **close)
    for layer, own, gradient in zip(found.layers, PARAMETERS, gradients, strict=True):
        norms = [np.sqrt(sum((np.float64(a) ** 2).sum() for a in part)) for part in (own, gradient)]
        np.testing.assert_allclose([layer.weights, layer.gradients], norms, **close)
        np.testing.assert_allclose(layer.updates, 0.01 * layer.gradients, **close)
        assert layer.ratio == layer.updates / layer.weights


def test_updates_are_those_of_the_state():
    """With the gradient g and the momentum g, the updates are 1.5 g times the rate."""
    network = jaxnet.Network(lambda key: jnp.eye(3), lambda p, x, *, key=None: x @ p)
    rule, batch = optax.sgd(0.1, momentum=0.5), (jnp.eye(3), jnp.zeros((3, 3)))
    # Each example's loss is 1 and its gradient 2, so the mean of three has three of 2 / 3.
    state = optax.TraceState(2 / 3 * jnp.eye(3)), optax.EmptyState()
    found = diagnose(network, jnp.eye(3), batch, optimizer=rule, optimizer_state=state)
    np.testing.assert_allclose(found.layers[0].gradients, np.sqrt(3) * 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(found.layers[0].updates, np.sqrt(3) * 0.1, rtol=1e-6)


def test_without_an_optimizer_there_are_no_updates():
    layer = diagnose(optimizer=None).layers[0]
    assert (layer.updates, layer.ratio) == (None, None)
    assert layer.weights > 0 and layer.gradients > 0


# Units.


def test_dead_units():
    biases = jnp.zeros(16).at[jnp.array([1, 4, 5, 9, 15])].set(-1e3)
    found = diagnose(parameters=changed(0, biases=biases))
    assert [layer.dead for layer in found.layers] == [5, 0]
    (finding,) = found.findings
    assert finding.startswith("layer 0 dense(10, 16, relu): 5 of 16 units are dead")


def test_a_unit_that_is_alive_for_one_example_is_not_dead():
    weights = jnp.zeros((10, 16)).at[0, 2].set(1.0)
    parameters = changed(0, weights=weights, biases=jnp.ones(16).at[2].set(-5.0))
    inputs, targets = batch_of()
    inputs = inputs.at[7, 0].set(6.0)
    for weight, dead in ((1.0, 0), (0.0, 1)):  # the only one that it is alive for may not count
        batch = inputs, targets, jnp.ones(128).at[7].set(weight)
        assert diagnose(parameters=parameters, batch=batch).layers[0].dead == dead


def test_saturated_units_of_hidden_layers():
    network = jaxnet.mlp([10, 16, 3], activation=jaxnet.sigmoid, output_activation=jaxnet.sigmoid)
    for bias in (-50, 50):
        parameters = changed(0, biases=jnp.zeros(16).at[3:9].set(bias))
        parameters = changed(1, parameters, biases=jnp.full(3, 50.0))
        found = diagnose(network, parameters)
        assert [layer.dead for layer in found.layers] == [0, 0]
        assert [layer.saturated for layer in found.layers] == [6, 0]
        start = "layer 0 dense(10, 16, sigmoid): 6 of 16 units are saturated"
        assert found.findings[0].startswith(start)


def test_units_of_other_layers():
    network = jaxnet.serial(
        jaxnet.layer_norm(10),
        jaxnet.relu,
        jaxnet.dropout(0.5),
        jaxnet.residual(jaxnet.dense(10, 10, jaxnet.relu)),
        jaxnet.dense(10, 8, jaxnet.softmax),
        jaxnet.dense(8, 3),
    )
    parameters = helpers.drawn(network)
    parameters = changed(0, parameters, offset=jnp.array([-99.0] * 4 + [0.0] * 6))
    parameters = changed(3, parameters, biases=jnp.array([-99.0] * 3 + [0.0] * 7))
    # Of four examples, dropout drops some feature in each; that does not make a dead unit.
    found = diagnose(network, parameters, batch_of(examples=4), key=key(5))
    layers = {layer.name: layer for layer in found.layers}
    assert layers["0 layer_norm(10)"].units is None
    assert layers["1 relu"].dead >= 4
    assert layers["2 dropout(0.5)"].dead == 0
    assert layers["3 residual/0 dense(10, 10, relu)"].dead >= 3
    assert layers["3 residual"].units is None
    assert layers["4 dense(10, 8, softmax)"].saturated == 0  # it is not elementwise


# Findings.


HEALTHY = {
    "relu": lambda: NETWORK,
    "blocks": lambda: jaxnet.serial(
        jaxnet.dense(10, 32),
        jaxnet.residual(jaxnet.dense(32, 32, jaxnet.relu)),
        jaxnet.layer_norm(32),
        jaxnet.dropout(0.3),
        jaxnet.dense(32, 3),
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_networks_have_no_findings(name):
    network = HEALTHY[name]()
    for seed in range(5):
        parameters = helpers.drawn(network, seed)
        noise = None if name == "relu" else key(seed)
        found = diagnose(network, parameters, batch_of(9 + seed), key=noise)
        assert found.findings == ()
        assert str(found).endswith("\n\nno problems found")


def scaled(layer, factor):
    return changed(layer, weights=factor * PARAMETERS[layer].weights)


def with_error(size):
    inputs, _ = batch_of()
    return inputs, NETWORK.apply(PARAMETERS, inputs) + size


ILL = {
    "vanishing": (
        lambda: diagnose(parameters=scaled(1, 1e-7)),
        "layer 0 dense(10, 16, relu): its gradient, ",
        "has vanished beside that of the last layer",
    ),
    "exploding": (
        lambda: diagnose(parameters=changed(0, scaled(1, 1e6), weights=jnp.full((10, 16), 1e-3))),
        "layer 0 dense(10, 16, relu): its gradient, ",
        "has exploded beside that of the last layer",
    ),
    "no gradient": (
        lambda: diagnose(parameters=scaled(1, 0.0)),
        "layer 0 dense(10, 16, relu): its gradient is 0",
        "no derivative",
    ),
    "high rate": (
        lambda: diagnose(batch=with_error(100.0)),
        "layer 1 dense(16, 3, identity): its update is ",
        "the learning rate is too high",
    ),
    "low rate": (
        lambda: diagnose(batch=with_error(1e-6)),
        "layer 0 dense(10, 16, relu): its update is ",
        "float32 rounds away",
    ),
}


@pytest.mark.parametrize("name", ILL)
def test_ills_are_found(name):
    make, start, words = ILL[name]
    findings = make().findings
    matching = [finding for finding in findings if finding.startswith(start)]
    assert len(matching) == 1 and words in matching[0], findings


def test_updates_below_a_half_unit_do_round_away():
    weights = np.linspace(1.0, 2.0, 99, dtype=np.float32)
    np.testing.assert_array_equal(weights + np.float32(0.99 * 2.0**-24), weights)


def test_no_update_of_a_warm_up_is_no_finding():
    found = diagnose(optimizer=jaxnet.gradient_descent(0.0))
    assert found.layers[0].updates == 0 and found.findings == ()


def test_values_that_are_not_finite_are_counted_and_their_origin_told():
    inputs, targets = batch_of()
    found = diagnose(batch=(inputs.at[7, 2].set(jnp.nan), targets))
    sums = {"weighted sum": 16, "activation": 16}
    after = {"gradient": 176, "update": 176, "new parameters": 176}
    assert found.layers[0].non_finite == sums | after
    assert found.layers[1].non_finite["weighted sum"] == 3
    assert (found.nonfinite.quantity, found.nonfinite.rows) == ("inputs", (7,))
    assert found.findings == (f"the first non-finite value: {found.nonfinite}",)
    assert np.isnan(found.cost) and found.non_finite_losses == 1


def test_diagnosis_prints_a_table_and_the_findings():
    network = jaxnet.serial(
        jaxnet.dense(1, 2, jaxnet.relu), jaxnet.dropout(0.5), jaxnet.dense(2, 1)
    )
    parameters = (
        (jnp.array([[3.0, 4.0]]), jnp.array([0.0, -99.0])),
        (),
        (jnp.ones((2, 1)), jnp.zeros(1)),
    )
    batch = jnp.array([[1.0]]), jnp.array([[2.0]])
    rule = jaxnet.gradient_descent(0.01)
    found = jaxnet.diagnose(network, jaxnet.squared_error, parameters, batch, optimizer=rule)
    # The error is 1 and its slope 2: by hand, sqrt(2**2 + 2**2) and sqrt(6**2 + 2**2).
    cost, _, titles, *rows, _, finding = str(found).splitlines()
    assert (cost, finding) == ("cost 1", found.findings[0])
    assert titles.split()[-3:] == ["dead", "saturated", "non-finite"]
    assert [row.split("  ")[0] for row in rows] == [layer.name for layer in found.layers]
    assert [row[23:].split() for row in rows] == [
        ["99", "2.8", "0.028", "0.00029", "2", "1", "0", "0"],
        ["-", "-", "-", "-", "2", "0", "0", "0"],
        ["1.4", "6.3", "0.063", "0.045", "1", "0", "0", "0"],
    ]


def test_a_network_without_layers():
    weights = jnp.ones((10, 3))
    network = jaxnet.Network(lambda key: weights, lambda p, x, *, key=None: x @ p)
    (layer,) = diagnose(network, weights, optimizer=None).layers
    assert (layer.name, layer.units) == ("network", None)
    np.testing.assert_allclose(layer.weights, np.sqrt(30), rtol=1e-12)


WRONG = {
    "state alone": (
        lambda: diagnose(optimizer=None, optimizer_state=()),
        ValueError,
        "an optimizer with optimizer_state",
    ),
    "batch": (lambda: diagnose(batch=3), TypeError, "diagnose: expected batch"),
    "outputs": (
        lambda: diagnose(batch=(jnp.ones((4, 10)), jnp.ones((4, 2)))),
        ValueError,
        "diagnose: batch: squared_error: expected targets of the same shape",
    ),
    "parameters": (
        lambda: diagnose(parameters=()),
        ValueError,
        "expected the parameters of 2 layers",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name):
    make, error, words = WRONG[name]
    with helpers.refused(error, words):
        make()
