"""Batch ensembles, against NumPy and against the networks that their members are."""

import functools

import chex
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet

RANDOM = np.random.default_rng(0)
MLP = jaxnet.mlp([5, 7, 6, 3], activation=jaxnet.tanh)
ENSEMBLE = jaxnet.batch_ensemble(MLP, 4)


def key(seed=0):
    return jax.random.key(seed)


def drawn(network=ENSEMBLE):
    """Parameters in float64."""
    shapes = jax.eval_shape(network.init, key())
    return jax.tree.map(lambda leaf: RANDOM.normal(size=leaf.shape), shapes)


def member(parameters, i):
    """The parameters of the network that a member is."""
    layers = []
    for layer in parameters:
        if isinstance(layer, jaxnet.BatchEnsembleParameters):
            r, s = layer.input_scales[i], layer.output_scales[i]
            weights = r[:, None] * layer.weights * s[None, :]
        else:
            weights = layer.weights[i]
        layers.append(jaxnet.DenseParameters(weights, layer.biases[i]))
    return tuple(layers)


def test_the_formula():
    parameters, inputs = drawn(), RANDOM.normal(size=(8, 5))
    with jax.enable_x64(True):
        outputs = ENSEMBLE.apply(jax.tree.map(jnp.asarray, parameters), jnp.asarray(inputs))
    assert outputs.shape == (8, 4, 3)
    for i in range(4):
        x = inputs
        for weights, r, s, biases in parameters[:-1]:
            x = np.tanh(((x * r[i]) @ weights) * s[i] + biases[i])
        expected = x @ parameters[-1].weights[i] + parameters[-1].biases[i]
        np.testing.assert_allclose(outputs[:, i], expected, rtol=1e-12, atol=1e-12)


def test_a_member_is_the_network_with_scaled_weights():
    with jax.enable_x64(True):
        parameters = jax.tree.map(jnp.asarray, drawn())
        inputs = jnp.asarray(RANDOM.normal(size=(2, 8, 5)))
        outputs = ENSEMBLE.apply(parameters, inputs)
        for i in range(4):
            expected = MLP.apply(member(parameters, i), inputs)
            np.testing.assert_allclose(outputs[:, :, i], expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_the_formula():
    with jax.enable_x64(True):
        parameters = jax.tree.map(jnp.asarray, drawn())
        inputs, weights = map(jnp.asarray, (RANDOM.normal(size=(8, 5)), RANDOM.normal(size=8)))

        def formula(parameters):
            x = inputs[:, None, :]
            for shared, r, s, biases in parameters[:-1]:
                x = jnp.tanh(
                    jnp.einsum("bmi,io->bmo", x * r[None], shared) * s[None] + biases[None]
                )
            last = parameters[-1]
            outputs = jnp.einsum("bmi,mio->bmo", x, last.weights) + last.biases[None]
            return jnp.sum(weights[:, None, None] * outputs**2)

        def ours(parameters):
            return jnp.sum(weights[:, None, None] * ENSEMBLE.apply(parameters, inputs) ** 2)

        expected, gradients = (jax.jit(jax.grad(f))(parameters) for f in (formula, ours))
    chex.assert_trees_all_close(gradients, expected, rtol=1e-10, atol=1e-10)


def test_initial_parameters():
    network = jaxnet.batch_ensemble(jaxnet.mlp([300, 200, 100, 10]), 8)
    first, second, last = network.init(key())
    assert set(np.unique(first.input_scales)) == {-1.0, 1.0}
    assert abs(first.input_scales.mean()) < 5 / np.sqrt(8 * 300)
    signs = np.asarray(first.input_scales)
    products = signs @ signs.T / 300 - np.eye(8)  # of independent signs, all members differ
    assert np.abs(products).max() < 5 / np.sqrt(300)
    for scales in (first.output_scales, second.input_scales, second.output_scales):
        np.testing.assert_array_equal(scales, 1)
    for layer in (first, second, last):
        np.testing.assert_array_equal(layer.biases, 0)
    # He's variance; that of n draws has a relative error of about sqrt(2 / n).
    np.testing.assert_allclose(first.weights.var(), 2 / 300, rtol=5 * np.sqrt(2 / 60_000))
    # Glorot's, for the last layer.
    np.testing.assert_allclose(last.weights.var(), 2 / 110, rtol=5 * np.sqrt(2 / 8_000))
    assert len(np.unique(np.asarray(last.weights)[:, 0], axis=0)) == 8
    assert {leaf.dtype for leaf in jax.tree.leaves((first, second, last))} == {jnp.dtype("float32")}
    outputs = network.apply((first, second, last), jax.random.normal(key(1), (1, 300)))
    assert len(np.unique(np.asarray(outputs)[0], axis=0)) == 8


def test_names_and_sizes():
    names = [layer.name for layer in ENSEMBLE.layers]
    assert names == [
        "batch_ensemble(dense(5, 7, tanh), 4)",
        "batch_ensemble(dense(7, 6, tanh), 4)",
        "ensemble(dense(6, 3, identity), 4)",
    ]
    assert (ENSEMBLE.in_features, ENSEMBLE.out_features) == (5, 3)
    with helpers.refused(ValueError, "outputs 3 features, but layer 1, dense(4, 2, identity)"):
        jaxnet.serial(ENSEMBLE, jaxnet.dense(4, 2))


def test_one_dense_layer_is_a_separate_one_for_each_member():
    layer = jaxnet.dense(5, 2)
    network = jaxnet.batch_ensemble(layer, 3)
    parameters, inputs = network.init(key()), jax.random.normal(key(1), (4, 5))
    outputs = network.apply(parameters, inputs)
    for i in range(3):
        expected = layer.apply(jax.tree.map(lambda leaf, i=i: leaf[i], parameters), inputs)
        np.testing.assert_allclose(outputs[:, i], expected, atol=5 * 2**-22)


def test_other_layers_are_shared_and_the_structure_stays():
    block = jaxnet.residual(jaxnet.serial(jaxnet.layer_norm(6), jaxnet.dense(6, 6, jaxnet.relu)))
    layers = jaxnet.piecewise_linear([[0, 1, 2]] * 2), jaxnet.dense(4, 6), block
    inner = jaxnet.serial(*layers, compute_dtype=jnp.bfloat16)
    network = jaxnet.serial(jaxnet.batch_ensemble(jaxnet.serial(inner, jaxnet.dense(6, 1)), 3))
    parameters = network.init(key())
    names = [name for name in jaxnet.intermediates(network, parameters, jnp.ones((5, 2)))]
    assert [name for name in names if "outputs" in name or "activations" in name] == [
        "0 serial/0 serial/0 piecewise_linear(2 features, 4 bins)/outputs",
        "0 serial/0 serial/1 batch_ensemble(dense(4, 6, identity), 3)/activations",
        "0 serial/0 serial/2 residual/0 serial/0 layer_norm(6)/outputs",
        "0 serial/0 serial/2 residual/0 serial/1 batch_ensemble(dense(6, 6, relu), 3)/activations",
        "0 serial/0 serial/2 residual/outputs",
        "0 serial/1 ensemble(dense(6, 1, identity), 3)/activations",
    ]
    program = jax.make_jaxpr(network.apply)(parameters, jnp.ones((5, 2)))
    products = [e for e in program.jaxpr.eqns if e.primitive.name == "dot_general"]
    assert [e.outvars[0].aval.dtype for e in products] == [jnp.bfloat16] * 2 + [jnp.float32]
    assert network.apply(parameters, jnp.ones((5, 2))).shape == (5, 3, 1)


def test_dropout_draws_a_mask_for_each_member():
    layers = jaxnet.dense(1, 20_000), jaxnet.dropout(0.5), jaxnet.dense(20_000, 1)
    network = jaxnet.batch_ensemble(jaxnet.serial(*layers), 2)
    parameters = network.init(key())
    values = jaxnet.intermediates(network, parameters, jnp.ones((1, 1)), key=key(1))
    dropped = np.asarray(values["1 dropout(0.5)/outputs"])[0] == 0
    # Five standard errors of a share of 20,000 draws; were the masks the same, half would be.
    np.testing.assert_allclose((dropped[0] & dropped[1]).mean(), 0.25, atol=5 * 0.0031)


def test_compiled_and_mapped_calls_are_the_plain_ones():
    parameters, inputs = ENSEMBLE.init(key()), jax.random.normal(key(1), (6, 5))
    outputs = ENSEMBLE.apply(parameters, inputs)
    compiled, many = jax.jit(ENSEMBLE.apply), jax.vmap(ENSEMBLE.init)(jax.random.split(key(), 2))
    mapped = jax.jit(jax.vmap(ENSEMBLE.apply, (0, None)))(many, inputs)
    alone = compiled(jax.tree.map(lambda leaf: leaf[1], many), inputs)
    pairs = [
        (compiled(parameters, inputs), outputs),
        (ENSEMBLE.apply(parameters, inputs[0]), outputs[0]),
        (ENSEMBLE.apply(parameters, inputs.reshape(2, 3, 5)).reshape(6, 4, 3), outputs),
        (mapped[1], alone),
    ]
    for received, expected in pairs:  # up to 18 terms below 2, in other orders
        np.testing.assert_allclose(received, expected, atol=18 * 2**-22)


def test_a_whole_run(tmp_path):
    """TabM is trained by the mean of the members' losses, and predicts by the mean of them all."""
    layers = jaxnet.dense(2, 16, jaxnet.relu), jaxnet.dropout(0.1), jaxnet.dense(16, 2)
    network = jaxnet.batch_ensemble(jaxnet.serial(*layers), 4)
    inputs = RANDOM.normal(size=(200, 2)).astype(np.float32)
    labels = (inputs.prod(-1) > 0).astype(np.int32)
    loss, accuracy = map(jaxnet.member_mean, (jaxnet.softmax_cross_entropy, jaxnet.accuracy))
    arguments = network, loss, jaxnet.adam(0.02), (inputs, labels)
    options = {"key": key(), "epochs": 30, "batch_size": 50, "metrics": {"accuracy": accuracy}}
    run = jaxnet.fit(*arguments, progress=False, **options)
    assert run.history["accuracy"][-1] > 0.9
    logits = jaxnet.predict(network, run.parameters, inputs)
    assert logits.shape == (200, 4, 2)
    assert (jaxnet.softmax(logits).mean(1).argmax(-1) == labels).mean() > 0.9
    jaxnet.save(tmp_path / "parameters", run.parameters)
    loaded = jaxnet.load(tmp_path / "parameters", like=run.parameters)
    chex.assert_trees_all_equal(loaded, run.parameters)
    jaxnet.export(network, run.parameters, tmp_path / "program")
    program = jax.export.deserialize((tmp_path / "program").read_bytes())
    np.testing.assert_allclose(program.call(inputs), logits, atol=1e-4)
    with helpers.refused(TypeError, "BatchEnsembleParameters with shapes"):
        jaxnet.to_pytorch(run.parameters)


# Looking inside.


def test_a_unit_is_dead_if_it_is_dead_in_every_member():
    network = jaxnet.batch_ensemble(jaxnet.mlp([5, 6, 3]), 4)
    first, last = network.init(key())
    batch = jax.random.normal(key(1), (50, 5)), jnp.ones((50, 3))
    loss = jaxnet.member_mean(jaxnet.squared_error)
    biases = first.biases.at[:, :2].set(-99.0).at[1, 4].set(-99.0)
    parameters = first._replace(biases=biases), last
    found = jaxnet.diagnose(network, loss, parameters, batch, optimizer=jaxnet.adam(0.001))
    assert (found.layers[0].units, found.layers[0].dead) == (6, 2)
    assert found.findings[0].startswith(
        "layer 0 batch_ensemble(dense(5, 6, relu), 4): 2 of 6 units"
    )


def test_the_first_nonfinite_value_is_found_in_its_row_and_layer():
    network = jaxnet.batch_ensemble(jaxnet.mlp([5, 6, 3]), 4)
    first, last = network.init(key())
    scales = first.output_scales.at[2].set(1e30)
    rule = jaxnet.adam(0.001)
    state = jaxnet.initial_state(network, rule, key=key())
    state = state._replace(parameters=(first._replace(output_scales=scales), last))
    batch = jnp.ones((4, 5)).at[3].set(1e20), jnp.ones((4, 3))
    loss = jaxnet.member_mean(jaxnet.squared_error)
    found = jaxnet.find_nonfinite(network, loss, rule, state, batch)
    assert found.quantity == "weighted sum"
    assert found.layer == "0 batch_ensemble(dense(5, 6, relu), 4)"
    assert found.rows == (3,)


def test_operations_are_counted():
    rows = jaxnet.summary(ENSEMBLE).layers
    # 2 per term of a product and 1 per bias, for each of 4 members.
    assert [row.forward for row in rows] == [
        4 * (2 * n * m + m) for n, m in ((5, 7), (7, 6), (6, 3))
    ]
    assert [row.parameters for row in rows] == [35 + 4 * 19, 42 + 4 * 19, 4 * 21]
    assert [row.outputs for row in rows] == [(4, 7), (4, 6), (4, 3)]


# The loss.

OUTPUTS = jnp.float32(RANDOM.normal(size=(6, 4, 3)))


def test_member_mean_is_the_mean_of_the_losses_of_the_members():
    labels = np.array([0, 1, 2, 0, 1, 2])
    losses = [
        optax.softmax_cross_entropy_with_integer_labels(OUTPUTS[:, i], labels) for i in range(4)
    ]
    received = jaxnet.member_mean(jaxnet.softmax_cross_entropy)(OUTPUTS, labels)
    # A loss has some ten roundings of numbers up to 8.
    np.testing.assert_allclose(received, np.mean(losses, 0), atol=8 * 10 * helpers.ROUNDING)
    right = (OUTPUTS.argmax(-1) == labels[:, None]).mean(1)
    received = jaxnet.member_mean(jaxnet.accuracy)(OUTPUTS, labels)
    np.testing.assert_array_equal(received, right)


def test_member_mean_for_numbers():
    targets = RANDOM.normal(size=(6, 3)).astype(np.float32)
    expected = np.square(np.float64(OUTPUTS) - targets[:, None]).sum(-1).mean(1)
    received = jaxnet.member_mean(jaxnet.squared_error)(OUTPUTS, targets)
    np.testing.assert_allclose(received, expected, rtol=10 * helpers.ROUNDING)
    expected = np.square(np.float64(OUTPUTS)[..., 0] - targets[:, :1]).mean(1)
    received = jaxnet.member_mean(jaxnet.squared_error)(OUTPUTS[..., 0], targets[:, 0])
    np.testing.assert_allclose(received, expected, rtol=10 * helpers.ROUNDING)


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_of_the_mean_is_at_most_the_mean_of_the_losses(seed):
    """Jensen's inequality, for a loss that is convex in the outputs."""
    random = np.random.default_rng(seed)
    outputs, targets = random.normal(size=(9, 5, 2)), random.normal(size=(9, 2))
    outputs, targets = map(jnp.float32, (outputs, targets))
    mean = jaxnet.member_mean(jaxnet.huber)(outputs, targets)
    assert (jaxnet.huber(outputs.mean(1), targets) <= mean).all()


def test_member_mean_takes_a_function_with_bound_arguments():
    smooth = functools.partial(jaxnet.softmax_cross_entropy, label_smoothing=1.0)
    expected = (np.log(np.exp(OUTPUTS).sum(-1)) - OUTPUTS.mean(-1)).mean(1)
    labels = np.zeros(6, int)
    received = jaxnet.member_mean(smooth)(OUTPUTS, labels)
    np.testing.assert_allclose(received, expected, rtol=1e-5)
