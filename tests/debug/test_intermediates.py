"""Looking inside: counts beside XLA's own, and every layer's values beside the network's."""

import itertools

import flax.linen
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet


def key(seed=0):
    return jax.random.key(seed)


# Summary.


@pytest.mark.parametrize("sizes", [[10, 16, 3], [1, 1], [784, 128, 64, 10]])
def test_summary_counts_by_closed_form(sizes):
    summary = jaxnet.summary(jaxnet.mlp(sizes))
    for i, (layer, (k, n)) in enumerate(
        zip(summary.layers, itertools.pairwise(sizes), strict=True)
    ):
        assert layer.outputs == (n,)
        assert (layer.parameters, layer.bytes) == (k * n + n, 4 * (k * n + n))
        assert layer.forward == 2 * k * n + n
        assert layer.backward == 2 * k * n + n + (2 * k * n if i else 0)
    assert summary.total[2:] == tuple(map(sum, list(zip(*summary.layers, strict=True))[2:]))


def xla_flops(function, *arguments):
    """XLA's count for the compiled program."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


BATCH = 64


@pytest.mark.parametrize("sizes", [[10, 3], [10, 16, 3], [32, 64, 48, 16]])
@pytest.mark.parametrize("activation", [jaxnet.identity, jaxnet.relu])
def test_forward_operations_are_those_that_xla_counts(sizes, activation):
    network = jaxnet.mlp(sizes, activation=activation)
    parameters = jax.eval_shape(network.init, key())
    inputs = jax.ShapeDtypeStruct((BATCH, sizes[0]), jnp.float32)
    # relu is a comparison and a choice for every hidden unit.
    elementwise = 2 * sum(sizes[1:-1]) if activation is jaxnet.relu else 0
    counted = jaxnet.summary(network).total.forward
    assert xla_flops(network.apply, parameters, inputs) == BATCH * (counted + elementwise)


@pytest.mark.parametrize("sizes", [[10, 3], [10, 16, 3], [32, 64, 48, 16]])
def test_backward_operations_are_those_that_xla_counts(sizes):
    network = jaxnet.mlp(sizes, activation=jaxnet.identity)
    parameters = jax.eval_shape(network.init, key())
    inputs = jax.ShapeDtypeStruct((BATCH, sizes[0]), jnp.float32)

    def gradient(parameters, inputs, change):
        return jax.vjp(lambda p: network.apply(p, inputs), parameters)[1](change)

    summary = jaxnet.summary(network)
    # The gradient needs the inputs of all layers, so all outputs but the last layer's.
    again = sum(layer.forward for layer in summary.layers[:-1])
    # A sum over the examples has one addition less than there are examples.
    not_added = sum(sizes[1:])
    expected = BATCH * (summary.total.backward + again) - not_added
    change = jax.ShapeDtypeStruct((BATCH, sizes[-1]), jnp.float32)
    assert xla_flops(gradient, parameters, inputs, change) == expected


def test_gradients_of_inputs_count_where_a_layer_before_has_parameters():
    network = jaxnet.serial(
        jaxnet.relu, jaxnet.dense(4, 5), jaxnet.layer_norm(5), jaxnet.dense(5, 2)
    )
    summary = jaxnet.summary(network, jnp.ones(4))
    assert [layer.name for layer in summary.layers] == [
        "0 relu",
        "1 dense(4, 5, identity)",
        "2 layer_norm(5)",
        "3 dense(5, 2, identity)",
    ]
    assert [layer.parameters for layer in summary.layers] == [0, 25, 10, 12]
    assert [layer.forward for layer in summary.layers] == [0, 45, 0, 22]
    assert [layer.backward for layer in summary.layers] == [0, 45, 0, 42]


def test_nested_layers_are_listed_each():
    inner = jaxnet.serial(jaxnet.dense(8, 8, jaxnet.relu), jaxnet.dropout(0.1))
    network = jaxnet.serial(
        jaxnet.dense(4, 8), jaxnet.residual(inner), jaxnet.residual(jaxnet.dense(8, 8, jaxnet.tanh))
    )
    summary = jaxnet.summary(network)
    assert [layer.name for layer in summary.layers] == [
        "0 dense(4, 8, identity)",
        "1 residual/0 serial/0 dense(8, 8, relu)",
        "1 residual/0 serial/1 dropout(0.1)",
        "2 residual/0 dense(8, 8, tanh)",
    ]
    assert [layer.parameters for layer in summary.layers] == [40, 72, 0, 72]
    assert summary.total.parameters == sum(a.size for a in jax.tree.leaves(helpers.drawn(network)))


def test_bytes_are_those_that_are_kept_and_not_those_that_are_computed_with():
    network = jaxnet.mlp([8, 4, 2], compute_dtype=jnp.bfloat16)
    plain = jaxnet.mlp([8, 4, 2])
    assert jaxnet.summary(network) == jaxnet.summary(plain)


def test_nothing_is_computed():
    summary = jaxnet.summary(jaxnet.mlp([10**6, 10**7, 10**6]))  # 80 TB of weights
    assert summary.total.parameters == 2 * 10**13 + 10**7 + 10**6


class Foreign(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, inputs):
        return flax.linen.Dense(3)(flax.linen.relu(flax.linen.Dense(8)(inputs)))


def foreign_network():
    module = Foreign()
    return jaxnet.Network(
        init=lambda key: module.init(key, jnp.ones((1, 2))),
        apply=lambda parameters, inputs, *, key=None: module.apply(parameters, inputs),
    )


@pytest.mark.parametrize(
    "example", [jax.ShapeDtypeStruct((2,), jnp.float32), np.zeros(2), [0.0, 0.0]]
)
def test_a_flax_module_is_one_row(example):
    with jax.numpy_rank_promotion("allow"):
        summary = jaxnet.summary(foreign_network(), example)
    products = 2 * 2 * 8 + 2 * 8 * 3
    # Backward, the first product's inputs need no gradient; biases are no products.
    row = jaxnet.LayerSummary("network", (3,), 51, 204, products, products + 2 * 8 * 3)
    assert summary == jaxnet.Summary((row,), row._replace(name="total"))


def test_products_in_a_loop_count_at_every_step():
    def apply(parameters, inputs, *, key=None):
        def multiply(x, _):
            return x @ parameters, None

        return jax.lax.scan(multiply, inputs, length=5)[0]

    network = jaxnet.Network(lambda key: jnp.eye(4), apply)
    assert jaxnet.summary(network, jnp.ones(4)).total.forward == 5 * 2 * 4 * 4


def test_summary_prints_a_table():
    text = str(jaxnet.summary(jaxnet.mlp([999, 10, 1])))
    assert text.splitlines() == [
        "layer                     outputs  parameters   bytes  FLOPs forward  FLOPs backward",
        "0 dense(999, 10, relu)       [10]      10,000  40,000         19,990          19,990",
        "1 dense(10, 1, identity)      [1]          11      44             21              41",
        "total                         [1]      10,011  40,044         20,011          20,031",
    ]


UNSUMMARISED = {
    "no inputs": (lambda: jaxnet.summary(foreign_network()), ValueError, "Received: None"),
    "a number": (lambda: jaxnet.summary(foreign_network(), 3.0), ValueError, "Received: float32[]"),
    "words": (lambda: jaxnet.summary(foreign_network(), ["a"]), TypeError, "numbers for inputs"),
    "misfit": (lambda: jaxnet.summary(jaxnet.mlp([2, 1]), [1.0]), ValueError, "with 2 features"),
}


@pytest.mark.parametrize("name", UNSUMMARISED)
def test_what_cannot_be_summarised_is_refused(name):
    make, error, words = UNSUMMARISED[name]
    with helpers.refused(error, "summary" if name != "misfit" else "dense(2, 1", words):
        make()


# Trace.


def test_trace_is_the_forward_pass_written_out():
    network = jaxnet.mlp([2, 3, 1])
    w1, b1 = np.array([[1.0, -2.0, 0.5], [2.0, 1.0, -1.0]]), np.array([0.5, 0.0, -0.25])
    w2, b2 = np.array([[1.0], [-1.0], [2.0]]), np.array([3.0])
    inputs = np.array([[1.0, 2.0], [-3.0, 0.5]])
    parameters = [tuple(map(jnp.float32, pair)) for pair in ((w1, b1), (w2, b2))]
    sums = inputs @ w1 + b1
    activations = np.maximum(sums, 0)
    outputs = activations @ w2 + b2
    expected = {  # all of them exact in float32
        "0 dense(2, 3, relu)/weighted sums": sums,
        "0 dense(2, 3, relu)/activations": activations,
        "1 dense(3, 1, identity)/weighted sums": outputs,
        "1 dense(3, 1, identity)/activations": outputs,
    }
    values = jaxnet.intermediates(network, parameters, jnp.float32(inputs))
    assert list(values) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(values[name], value)


def deep(**options):
    return jaxnet.serial(
        jaxnet.residual(jaxnet.serial(jaxnet.dense(8, 8, jaxnet.relu), jaxnet.dropout(0.4))),
        jaxnet.layer_norm(8),
        jaxnet.dropout(0.3),
        jaxnet.residual(jaxnet.dense(8, 8, jaxnet.relu)),
        jaxnet.relu,
        jaxnet.dense(8, 8, jaxnet.tanh),
        **options,
    )


NETWORKS = {
    "mlp": lambda: jaxnet.mlp([8, 64, 64, 3]),
    "bfloat16": lambda: deep(compute_dtype=jnp.bfloat16),
    "bfloat16 inside": lambda: jaxnet.serial(
        jaxnet.mlp([8, 8, 8], compute_dtype=jnp.bfloat16), jaxnet.dense(8, 2)
    ),
}
INPUTS = jnp.float32(np.random.default_rng(0).normal(size=(33, 8)))


@pytest.mark.parametrize("name", NETWORKS)
def test_trace_has_the_bits_of_the_network(name):
    network = NETWORKS[name]()
    parameters = helpers.drawn(network)
    values = jax.jit(lambda p, x: jaxnet.intermediates(network, p, x))(parameters, INPUTS)
    outputs = jax.jit(lambda p, x: network.apply(p, x))(parameters, INPUTS)
    last = list(values.values())[-1]
    np.testing.assert_array_equal(last.astype(jnp.float32), outputs)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_every_layer_has_the_bits_of_a_network_that_ends_there(dtype):
    """Keys are folded with the position, so the network cut short has the same noise."""
    network = deep(compute_dtype=dtype)
    parameters, noise = helpers.drawn(network), key(2)
    values = jaxnet.intermediates(network, parameters, INPUTS, key=noise)
    ends = [name for name in values if name.count("/") == 1 and "sums" not in name]
    ends = [name for name in ends if "residual/0" not in name]
    assert [name.split()[0] for name in ends] == ["0", "1", "2", "3", "4", "5"]
    for i, name in enumerate(ends):
        cut = jaxnet.serial(*network.layers[: i + 1], compute_dtype=dtype)
        outputs = cut.apply(parameters[: i + 1], INPUTS, key=noise)
        assert values[name].dtype == (dtype or jnp.float32)
        np.testing.assert_array_equal(values[name].astype(jnp.float32), outputs, err_msg=name)


def test_trace_keeps_its_order_through_jit():
    network = jaxnet.mlp([2] * 12)
    arguments = helpers.drawn(network), jnp.ones((3, 2))
    names = list(jax.jit(lambda *a: jaxnet.intermediates(network, *a))(*arguments))
    assert names == list(jaxnet.intermediates(network, *arguments))
    assert [name.split()[0] for name in names] == [str(i // 2) for i in range(22)]


def test_trace_of_a_network_without_layers():
    network = foreign_network()
    with jax.numpy_rank_promotion("allow"):
        parameters = helpers.drawn(network)
        values = jaxnet.intermediates(network, parameters, jnp.ones((4, 2)))
        np.testing.assert_array_equal(
            values["outputs"], network.apply(parameters, jnp.ones((4, 2)))
        )
    assert list(values) == ["outputs"]
    layer = jaxnet.dense(2, 1)
    names = jaxnet.intermediates(layer, helpers.drawn(layer), jnp.ones((4, 2)))
    assert list(names) == ["weighted sums", "activations"]
