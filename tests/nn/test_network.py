"""Networks: initialisation, the layers' arithmetic, and the sizes that must fit."""

import functools

import chex
import flax.linen
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet

KEY = 0


def key(seed=KEY):
    return jax.random.key(seed)


def test_dense_is_a_weighted_sum_and_a_bias_through_an_activation():
    weights, biases = np.array([[1.0, -2.0], [3.0, 4.0]]), np.array([0.5, -0.5])
    inputs = np.array([[1.0, 2.0], [-3.0, 1.0]])
    parameters = jaxnet.DenseParameters(*map(jnp.float32, (weights, biases)))
    outputs = jaxnet.dense(2, 2, jaxnet.relu).apply(parameters, jnp.float32(inputs))
    np.testing.assert_array_equal(outputs, np.maximum(inputs @ weights + biases, 0))


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3)])
def test_inputs_may_have_any_leading_axes(shape):
    network = jaxnet.mlp([3, 4, 2])
    parameters = network.init(key())
    outputs = network.apply(parameters, jnp.ones(shape))
    chex.assert_shape(outputs, (*shape[:-1], 2))
    one = network.apply(parameters, jnp.ones(3))
    # Products of another shape are summed in another order: 4 + 3 terms, each rounded once.
    np.testing.assert_allclose(outputs.reshape(-1, 2)[0], one, atol=7 * 2**-23)


@pytest.mark.parametrize(
    ("activation", "variance"),
    [
        (jaxnet.relu, 2 / 300),
        (jax.nn.relu, 2 / 300),
        (jaxnet.gelu, 2 / 300),
        (jaxnet.selu, 1 / 300),
        (jaxnet.tanh, 2 / (300 + 200)),
        (jaxnet.identity, 2 / (300 + 200)),
    ],
)
def test_variance_of_the_initial_weights(activation, variance):
    weights, biases = jaxnet.dense(300, 200, activation).init(key())
    # The variance of 60,000 draws has a relative standard error of about sqrt(2 / 60000) = 0.6 %.
    np.testing.assert_allclose(weights.var(), variance, rtol=5 * 0.006)
    assert abs(weights.mean()) < 5 * np.sqrt(variance / 60_000)
    np.testing.assert_array_equal(biases, 0)


@pytest.mark.parametrize(
    ("activation", "reference"),
    [
        (jaxnet.relu, jax.nn.initializers.he_normal()),
        (jaxnet.selu, jax.nn.initializers.lecun_normal()),
        (jaxnet.tanh, jax.nn.initializers.glorot_normal()),
    ],
)
@pytest.mark.parametrize("widths", [(1, 1), (64, 10), (17, 9)])
def test_initial_weights_are_those_of_jax_initializers(activation, reference, widths):
    weights = jaxnet.dense(*widths, activation).init(key()).weights
    np.testing.assert_array_equal(weights, reference(key(), widths))


def test_deep_relu_network_keeps_the_size_of_its_activations():
    """He's point: with his initialisation the mean square stays; with Glorot's it halves."""
    depth, width = 20, 512
    network = jaxnet.mlp([width] * depth)
    outputs = network.apply(network.init(key()), jax.random.normal(key(1), (64, width)))
    assert 0.2 < jnp.mean(jnp.square(outputs)) < 5


def relu(x):
    """A function of the user's, with the name of one of jaxnet's."""
    return jnp.maximum(x, 0.5)


@pytest.mark.parametrize(
    ("activation", "reference"),
    [
        (jax.nn.relu, jax.nn.initializers.he_normal()),
        (functools.partial(jaxnet.gelu, approximate=True), jax.nn.initializers.he_normal()),
        (jax.jit(jaxnet.relu), jax.nn.initializers.he_normal()),
        (jaxnet.straight_through(jaxnet.relu), jax.nn.initializers.he_normal()),
        (relu, jax.nn.initializers.glorot_normal()),
        (jax.jit(relu), jax.nn.initializers.glorot_normal()),
        (lambda x: x, jax.nn.initializers.glorot_normal()),
        (jaxnet.straight_through(jaxnet.binary_step), jax.nn.initializers.glorot_normal()),
    ],
)
def test_the_default_initializer_depends_on_the_activation_not_on_its_name(activation, reference):
    weights = jaxnet.dense(7, 5, activation).init(jax.random.key(3)).weights
    np.testing.assert_allclose(weights, reference(jax.random.key(3), (7, 5)), rtol=1e-6)


def test_any_initializer():
    network = jaxnet.mlp([3, 2], initializer=jax.nn.initializers.constant(0.25))
    np.testing.assert_array_equal(network.init(key())[0].weights, 0.25)


def test_layers_get_different_keys_and_init_is_a_function_of_its_key():
    network = jaxnet.mlp([4, 4, 4])
    first, again = network.init(key()), network.init(key())
    chex.assert_trees_all_equal(first, again)
    assert (first[0].weights != first[1].weights).any()
    assert (first[0].weights != network.init(key(1))[0].weights).any()


def test_parameters_are_named():
    parameters = jaxnet.serial(jaxnet.dense(2, 3), jaxnet.layer_norm(3)).init(key())
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(parameters)]
    assert paths == ["[0].weights", "[0].biases", "[1].scale", "[1].offset"]
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype("float32")}


def test_dropout_drops_its_rate_and_keeps_the_mean():
    layer, ones = jaxnet.dropout(0.3), jnp.ones(100_000)
    dropped = layer.apply((), ones, key=key())
    share = jnp.mean(dropped == 0)
    # Five standard errors of a share of 100,000 draws.
    np.testing.assert_allclose(share, 0.3, atol=5 * np.sqrt(0.3 * 0.7 / 1e5))
    np.testing.assert_array_equal(dropped[dropped != 0], np.float32(1) / np.float32(0.7))
    assert (dropped != layer.apply((), ones, key=key(1))).any()


def test_without_a_key_dropout_is_the_identity():
    network = jaxnet.serial(jaxnet.dense(3, 3), jaxnet.dropout(0.9))
    parameters = network.init(key())
    expected = network.layers[0].apply(parameters[0], jnp.ones(3))
    np.testing.assert_array_equal(network.apply(parameters, jnp.ones(3)), expected)


def test_two_dropouts_of_one_network_differ():
    network = jaxnet.serial(jaxnet.dropout(0.5), jaxnet.dropout(0.5))
    kept = network.apply(((), ()), jnp.ones(100_000), key=key()) != 0
    # Were the masks the same, half of the features would be kept and not a quarter.
    np.testing.assert_allclose(kept.mean(), 0.25, atol=0.01)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layer_norm(dtype):
    random = np.random.default_rng(0)
    inputs = jnp.asarray(random.normal(3.0, 2.0, (5, 64)), dtype)
    scale, offset = (jnp.asarray(random.normal(size=64), dtype) for _ in range(2))
    outputs = jaxnet.layer_norm(64).apply(jaxnet.LayerNormParameters(scale, offset), inputs)
    assert outputs.dtype == dtype
    wide = np.asarray(inputs, np.float64)
    mean, variance = wide.mean(-1, keepdims=True), wide.var(-1, keepdims=True)
    normal = (wide - mean) / np.sqrt(variance + 1e-5)
    exact = np.asarray(scale, np.float64) * normal + np.asarray(offset, np.float64)
    # Statistics in float32; then three roundings of values below 8 in the dtype.
    unit = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(outputs, np.float64), exact, atol=8 * 3 * unit)


def test_residual_adds_its_input():
    inner = jaxnet.dense(4, 4, jaxnet.tanh)
    parameters = inner.init(key())
    inputs = jnp.linspace(-1, 1, 4)
    expected = inputs + inner.apply(parameters, inputs)
    np.testing.assert_array_equal(jaxnet.residual(inner).apply(parameters, inputs), expected)


def test_compute_dtype_multiplies_in_bfloat16_and_keeps_float32_outside():
    network = jaxnet.mlp([8, 16, 2], compute_dtype=jnp.bfloat16)
    parameters = network.init(key())
    program = jax.make_jaxpr(network.apply)(parameters, jnp.ones((4, 8)))
    products = [e for e in program.jaxpr.eqns if e.primitive.name == "dot_general"]
    assert [e.outvars[0].aval.dtype for e in products] == [jnp.bfloat16] * 2
    gradients = jax.grad(lambda p: network.apply(p, jnp.ones((4, 8))).sum())(parameters)
    leaves = jax.tree.leaves((parameters, gradients, network.apply(parameters, jnp.ones((4, 8)))))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_functions_are_layers_without_parameters():
    network = jaxnet.serial(jaxnet.dense(2, 3), jaxnet.layer_norm(3), jaxnet.relu)
    parameters = network.init(key())
    assert parameters[2] == ()
    assert (network.apply(parameters, jnp.ones((4, 2))) >= 0).all()


class Foreign(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, inputs):
        hidden = flax.linen.relu(flax.linen.Dense(8)(inputs))
        return flax.linen.Dense(3)(hidden)


def foreign_network():
    module = Foreign()
    return jaxnet.Network(
        init=lambda key: module.init(key, jnp.ones((1, 2))),
        apply=lambda parameters, inputs, *, key=None: module.apply(parameters, inputs),
    )


def test_a_flax_module_works_wherever_nothing_looks_inside():
    with jax.numpy_rank_promotion("allow"):  # Flax adds biases of rank one
        network = jaxnet.serial(foreign_network(), jaxnet.dropout(0.1))
        data = jax.random.normal(key(), (40, 2)), jnp.arange(40) % 3
        arguments = (network, jaxnet.softmax_cross_entropy, jaxnet.adam(0.01), data)
        options = {"epochs": 2, "batch_size": 16, "metrics": {"accuracy": jaxnet.accuracy}}
        state, history = jaxnet.train(*arguments, key=key(1), validation=data, **options)
        run = jaxnet.fit(*arguments, key=key(1), validation=data, **options)
        outputs = jaxnet.predict(network, run.parameters, data[0], batch_size=16)
    chex.assert_trees_all_equal(state.parameters, run.state.parameters)
    assert history["validation_accuracy"].shape == (2,)
    chex.assert_shape(outputs, (40, 3))


def test_foreign_networks_join_ours_and_train_alike():
    """A Flax module and the same network of ours, from the same weights, over the same steps."""
    ours, theirs = jaxnet.mlp([2, 8, 3]), foreign_network()
    start = ours.init(key())
    names = ("Dense_0", "Dense_1")
    pairs = zip(names, start, strict=True)
    same = {"params": {name: {"kernel": p.weights, "bias": p.biases} for name, p in pairs}}
    data = jax.random.normal(key(1), (40, 2)), jnp.arange(40) % 3
    optimizer, costs = jaxnet.sgd(0.1, momentum=0.9), []
    with jax.numpy_rank_promotion("allow"):
        for network, parameters in ((ours, start), (theirs, same)):
            state = jaxnet.TrainState(parameters, optimizer.init(parameters), jnp.array(0))
            arguments = (network, jaxnet.softmax_cross_entropy, optimizer, data)
            _, history = jaxnet.train(*arguments, key=key(2), epochs=5, batch_size=16, state=state)
            costs.append(history["cost"])
    np.testing.assert_allclose(*costs, rtol=1e-5)  # 15 steps of float32 products in other orders


WRONG = {
    "no input": (lambda: jaxnet.dense(0, 3), ValueError, "in_features of at least 1. Received: 0"),
    "half a neuron": (lambda: jaxnet.dense(3, 2.5), TypeError, "an integer for out_features"),
    "bool": (lambda: jaxnet.dense(True, 3), TypeError, "an integer for in_features"),
    "no sizes": (lambda: jaxnet.mlp([]), ValueError, "at least two sizes"),
    "one size": (lambda: jaxnet.mlp([3]), ValueError, "Received: list [3]"),
    "sizes as number": (lambda: jaxnet.mlp(3), ValueError, "at least two sizes"),
    "no layers": (lambda: jaxnet.serial(), ValueError, "at least one layer"),
    "not a layer": (lambda: jaxnet.serial(3), TypeError, "Received: int 3"),
    "dropout 1": (lambda: jaxnet.dropout(1.0), ValueError, "below 1. Received: 1.0"),
    "dropout -1": (lambda: jaxnet.dropout(-1), ValueError, "rate"),
    "epsilon": (lambda: jaxnet.layer_norm(3, epsilon=-1), ValueError, "epsilon"),
    "raw key": (lambda: jaxnet.mlp([1, 1]).init(jnp.zeros(2, jnp.uint32)), TypeError, "one key"),
    "seed": (lambda: jaxnet.dense(1, 1).init(0), TypeError, "jax.random.key(seed)"),
    "misfit": (
        lambda: jaxnet.serial(jaxnet.dense(10, 16), jaxnet.relu, jaxnet.dense(32, 3)),
        ValueError,
        "layer 0, dense(10, 16, identity), outputs 16 features, but layer 2, "
        "dense(32, 3, identity), expects 32",
    ),
    "residual misfit": (
        lambda: jaxnet.residual(jaxnet.dense(4, 5)),
        ValueError,
        "4 inputs and 5 outputs",
    ),
    "features": (
        lambda: jaxnet.dense(10, 2).apply(jaxnet.dense(10, 2).init(key()), jnp.ones((7, 12))),
        ValueError,
        "dense(10, 2, identity): expected inputs with 10 features. Received: [7, 12]",
    ),
    "integers": (
        lambda: jaxnet.dense(2, 2).apply(jaxnet.dense(2, 2).init(key()), jnp.ones(2, jnp.int32)),
        TypeError,
        "float32. Received: int32",
    ),
    "layers missing": (
        lambda: jaxnet.mlp([2, 2, 2]).apply((), jnp.ones(2)),
        ValueError,
        "the parameters of 2 layers. Received: 0",
    ),
    "foreign residual": (
        lambda: jaxnet.residual(
            jaxnet.Network(lambda key: (), lambda p, x, key=None: x[..., :1])
        ).apply((), jnp.ones((3, 2))),
        ValueError,
        "of the shape of the inputs, [3, 2]. Received: [3, 1]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name):
    make, error, words = WRONG[name]
    with helpers.refused(error, words):
        make()


def test_optimizers_step_networks_with_empty_layers():
    network = jaxnet.serial(jaxnet.dense(2, 2), jaxnet.dropout(0.5), jaxnet.relu)
    parameters = network.init(key())
    with jax.numpy_dtype_promotion("standard"):
        for rule in (jaxnet.adam(0.1), optax.adam(0.1)):
            updates, _ = rule.update(parameters, rule.init(parameters), parameters)
            assert jax.tree.structure(updates) == jax.tree.structure(parameters)
