"""Encodings of numeric features, against closed forms, NumPy and scikit-learn."""

import itertools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.preprocessing import KBinsDiscretizer

import jaxnet

RANDOM = np.random.default_rng(0)
EDGES = [np.unique(RANDOM.normal(0, 3, n).astype(np.float32)) for n in (17, 2, 5, 3)]
COUNTS = [len(edges) - 1 for edges in EDGES]
ENCODING = jaxnet.piecewise_linear(EDGES)


def inputs_of(rows=400):
    """Numbers within and beyond the outer edges, and the edges themselves."""
    columns = [np.resize(np.r_[edges, RANDOM.normal(0, 6, rows)], rows) for edges in EDGES]
    return np.stack(columns, -1).astype(np.float32)


def by_feature(encoded):
    """The numbers of each feature, as float64."""
    return np.split(np.asarray(encoded, np.float64), np.cumsum(COUNTS)[:-1], -1)


def test_each_number_is_an_interpolation_within_its_bin():
    inputs = inputs_of()
    for j, numbers in enumerate(by_feature(ENCODING.apply((), jnp.asarray(inputs)))):
        x, edges = inputs[:, j].astype(np.float64), EDGES[j].astype(np.float64)
        expected = np.stack([np.interp(x, pair, [0, 1]) for pair in itertools.pairwise(edges)], -1)
        below, above = x < edges[0], x > edges[-1]
        expected[below, 0] = ((x - edges[0]) / (edges[1] - edges[0]))[below]
        expected[above, -1] = ((x - edges[-2]) / (edges[-1] - edges[-2]))[above]
        # The difference, the width and their ratio are rounded once each.
        np.testing.assert_allclose(numbers, expected, rtol=3.01 * helpers.ROUNDING)


def test_the_numbers_add_up_to_the_input():
    """Each number times its width, from the first edge on: on all of the real line."""
    inputs = inputs_of()
    for j, numbers in enumerate(by_feature(ENCODING.apply((), jnp.asarray(inputs)))):
        widths, terms = np.diff(EDGES[j].astype(np.float64)), COUNTS[j]
        total = EDGES[j][0].astype(np.float64) + numbers @ widths
        atol = 3 * helpers.ROUNDING * terms * np.abs(inputs[:, j] - EDGES[j][0]).max()
        np.testing.assert_allclose(total, inputs[:, j], atol=atol)


def test_the_bin_is_that_of_digitize():
    inputs = inputs_of()
    for j, numbers in enumerate(by_feature(ENCODING.apply((), jnp.asarray(inputs)))):
        expected = np.digitize(inputs[:, j], EDGES[j][1:-1])
        np.testing.assert_array_equal((numbers[:, :-1] >= 1).sum(-1), expected)


def test_edges_and_bins_of_scikit_learn():
    inputs = RANDOM.normal(size=(200, 3)).astype(np.float32)
    bins = KBinsDiscretizer(8, encode="ordinal", quantile_method="averaged_inverted_cdf")
    expected = bins.fit_transform(inputs)
    encoding = jaxnet.piecewise_linear(bins.bin_edges_)
    assert (encoding.in_features, encoding.out_features) == (3, 24)
    encoded = np.asarray(encoding.apply((), jnp.asarray(inputs))).reshape(200, 3, 8)
    np.testing.assert_array_equal((encoded[..., :-1] >= 1).sum(-1), expected)


def test_the_edges_0_and_1_leave_a_feature_as_it_is():
    inputs = inputs_of()
    encoding = jaxnet.piecewise_linear([[0, 1]] * 4)
    np.testing.assert_array_equal(encoding.apply((), jnp.asarray(inputs)), inputs)


def test_the_encoding_is_continuous_and_monotone():
    edges = EDGES[0]
    points = np.sort(np.r_[edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)])
    points = np.sort(np.r_[points, np.linspace(-12, 12, 1001)]).astype(np.float32)
    encoded = np.asarray(
        jaxnet.piecewise_linear([edges]).apply((), jnp.asarray(points[:, None])), np.float64
    )
    steps, steepest = np.diff(encoded, axis=0), 1 / np.diff(edges.astype(np.float64)).min()
    assert (steps >= 0).all()
    # Both ends of a step have up to three roundings of numbers within `np.abs(encoded).max()`.
    rounding = 6 * helpers.ROUNDING * np.abs(encoded).max()
    assert (steps.max(-1) <= np.diff(points.astype(np.float64)) * steepest + rounding).all()


def test_the_slope_is_one_over_the_width_in_the_bin_and_0_elsewhere():
    edges = np.array([0.0, 1.0, 3.0, 7.0])
    slope = jax.jacobian(lambda x: jaxnet.piecewise_linear([edges]).apply((), x[None]))
    for x, expected in [
        (-2.0, [1, 0, 0]),
        (0.5, [1, 0, 0]),
        (2.0, [0, 1 / 2, 0]),
        (4.0, [0, 0, 1 / 4]),
        (9.0, [0, 0, 1 / 4]),
    ]:
        np.testing.assert_array_equal(slope(jnp.float32(x)), expected)
    gradients = jax.vmap(slope)(jnp.float32(edges))
    assert np.isfinite(gradients).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_encoding_has_the_dtype_of_its_inputs(dtype):
    with jax.enable_x64(dtype == "float64"):
        inputs = jnp.asarray(inputs_of(), dtype)
        encoded = ENCODING.apply((), inputs)
        assert encoded.dtype == dtype
        wide = np.float64 if dtype == "float64" else np.float32
        exact = jaxnet.piecewise_linear(EDGES).apply((), jnp.asarray(inputs, wide))
        unit, smallest = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).smallest_subnormal)
        np.testing.assert_allclose(np.asarray(encoded, wide), exact, rtol=unit, atol=smallest)


def test_edges_that_are_close_in_float32_are_exact_for_float64():
    with jax.enable_x64(True):
        encoding = jaxnet.piecewise_linear([[1e6, 1e6 + 0.1, 1e6 + 0.2]])
        encoded = encoding.apply((), jnp.array([1e6 + 0.15], jnp.float64))
        # An edge has an error of 1e-10, a billionth of the width.
        np.testing.assert_allclose(encoded, [1, 0.5], rtol=4e-9)


@pytest.mark.parametrize("network", [ENCODING, jaxnet.periodic(4)], ids=["linear", "periodic"])
def test_embeddings_take_any_leading_axes_and_work_under_jit_and_vmap(network):
    parameters = network.init(jax.random.key(0))
    inputs = jnp.asarray(inputs_of(6))
    outputs = network.apply(parameters, inputs)
    assert outputs.shape == (6, network.out_features)
    ways = [
        jax.jit(network.apply)(parameters, inputs),
        jax.vmap(network.apply, (None, 0))(parameters, inputs),
        network.apply(parameters, inputs.reshape(2, 3, 4)).reshape(6, -1),
    ]
    for way in ways:  # sums of 16 waves below 1/4, in other orders
        np.testing.assert_allclose(way, outputs, atol=16 * 2**-22, rtol=2**-22)
    assert network.apply(parameters, inputs[0]).shape == (network.out_features,)


@pytest.mark.parametrize("network", [ENCODING, jaxnet.periodic(4)], ids=["linear", "periodic"])
def test_embeddings_are_layers_that_can_be_trained_saved_and_exported(network, tmp_path):
    serial = jaxnet.serial(network, jaxnet.dense(network.out_features, 2))
    inputs = inputs_of(60)
    data = inputs, (inputs[:, 0] > 0).astype(np.int32)
    loss, options = jaxnet.softmax_cross_entropy, {"key": jax.random.key(0), "batch_size": 20}
    run = jaxnet.fit(serial, loss, jaxnet.adam(0.01), data, epochs=20, progress=False, **options)
    assert run.history["cost"][-1] < 0.8 * run.history["cost"][0]
    jaxnet.save(tmp_path / "parameters", run.parameters)
    loaded = jaxnet.load(tmp_path / "parameters", like=run.parameters)
    expected = jaxnet.predict(serial, loaded, inputs)
    jaxnet.export(serial, run.parameters, tmp_path / "program")
    program = jax.export.deserialize((tmp_path / "program").read_bytes())
    np.testing.assert_allclose(program.call(inputs), expected, atol=1e-5)
    assert str(jaxnet.summary(serial)).splitlines()[1].startswith(f"0 {network.name} ")


# Periodic embeddings.


def test_periodic_is_the_formula():
    network = jaxnet.periodic(3, 5, waves=7)
    with jax.enable_x64(True):
        parameters = jax.tree.map(
            lambda leaf: jnp.asarray(RANDOM.normal(size=leaf.shape)),
            jax.eval_shape(network.init, jax.random.key(0)),
        )
        inputs = RANDOM.normal(size=(4, 3))
        outputs = np.asarray(network.apply(parameters, jnp.asarray(inputs)))
    c, b, w, d = map(np.asarray, parameters)
    for row, numbers in zip(inputs, outputs.reshape(4, 3, 5), strict=True):
        for j, x in enumerate(row):
            waves = np.cos(2 * np.pi * c[j] * x + b[j])
            expected = [x, *(waves @ w[j] + d[j])]
            np.testing.assert_allclose(numbers[j], expected, rtol=1e-12, atol=1e-12)


def test_initial_parameters_of_periodic():
    network = jaxnet.periodic(100, 5, waves=25, frequency_scale=0.3)
    frequencies, phases, weights, biases = network.init(jax.random.key(0))
    # The standard deviation of 2,500 normal draws has a relative error of 1 / sqrt(5000).
    np.testing.assert_allclose(frequencies.std(), 0.3, rtol=5 / np.sqrt(5000))
    for values, bound in [(phases, np.pi), (weights, 1 / 5), (biases, 1 / 5)]:
        assert (np.abs(values) <= np.float32(bound)).all()
        # The variance of n uniform draws is bound**2 / 3, with a relative error of sqrt(0.8 / n).
        error = 5 * np.sqrt(0.8 / values.size)
        np.testing.assert_allclose(np.square(values).mean(), bound**2 / 3, rtol=error)


def test_periodic_has_finite_gradients_and_keeps_features_apart():
    network = jaxnet.periodic(3)
    parameters = network.init(jax.random.key(0))
    slopes = jax.jacobian(lambda x: network.apply(parameters, x))(jnp.array([0.0, -3.0, 1e6]))
    slopes = np.asarray(slopes).reshape(3, 4, 3)
    assert np.isfinite(slopes).all()
    for j in range(3):
        assert (slopes[j, :, j] != 0).all()
        np.testing.assert_array_equal(np.delete(slopes[j], j, -1), 0)


def test_periodic_computes_waves_in_float32():
    """The angle is 101.3, where numbers of bfloat16 are 0.5 apart."""
    network, ones = jaxnet.periodic(1, 2, waves=1), jnp.ones((1, 1), jnp.bfloat16)
    parameters = jaxnet.PeriodicParameters(ones * 16, ones * 0, ones[None], ones * 0)
    inputs = jnp.array([1 + 2.0**-7], jnp.bfloat16)  # 16 and an eighth turns
    outputs = network.apply(parameters, inputs)
    assert outputs.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(outputs[1]), np.sqrt(0.5), rtol=2.0**-8)
