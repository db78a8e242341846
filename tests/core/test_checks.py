"""The checks: what they let pass and the words in which they refuse."""

import contextlib

import chex
import helpers
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

import jaxnet
from jaxnet.core import checks
from jaxnet.testing import problems


@pytest.mark.parametrize(
    "value", [0, 0.5, np.float32(0.5), np.int64(0), jnp.array(0.5), np.array(0.0)]
)
def test_numbers_pass(value):
    checks.number("rate", value, 0, 1, below=True)


def test_traced_numbers_pass_and_traced_arrays_do_not():
    jax.jit(lambda x: checks.number("rate", x, 0))(-1.0)
    with helpers.refused(TypeError, "expected a number for rate. Received: float32[2]"):
        jax.jit(lambda x: checks.number("rate", x, 0))(jnp.ones(2))


@hypothesis.given(strategies.floats() | strategies.integers(), strategies.booleans())
def test_any_number_passes_or_is_refused_by_its_range(value, below):
    inside = 0 <= value < 1 or (value == 1 and not below)
    refusal = helpers.refused(ValueError, "expected a finite rate of at least 0 and ")
    with contextlib.nullcontext() if inside else refusal:
        checks.number("rate", value, 0, 1, below=below)


SHAPES = strategies.lists(strategies.integers(0, 3), max_size=3).map(tuple)


@hypothesis.given(SHAPES, SHAPES)
def test_any_other_shape_is_refused(shape, other):
    refusal = helpers.refused(ValueError, f"the same shape as x, {list(shape)}", f"{list(other)}")
    with contextlib.nullcontext() if shape == other else refusal:
        checks.like("y", np.ones(other), "x", jnp.ones(shape))


INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
TIMES = [
    np.timedelta64(2, "s"),
    np.timedelta64(2),
    np.datetime64("2020-01-01"),
    np.datetime64("NaT"),
]
X, LABELS = np.linspace(-1, 1, 300, dtype=np.float32)[:, None], np.arange(300) % 2
KEY = jax.random.key(0)


@pytest.mark.parametrize("kind", [int, *INTEGERS])
def test_integers_come_back_as_python_s(kind):
    received = checks.integer("n", kind(3), -300, 70_000)
    assert (received, type(received)) == (3, int)


@pytest.mark.parametrize("kind", [int, float, np.float16, np.float32, np.float64, *INTEGERS])
def test_numbers_come_back_as_python_s(kind):
    received = checks.number("rate", kind(3))
    assert (received, type(received)) == (3, float)
    assert checks.number("rate", np.array(3, kind)) == 3
    assert type(checks.number("rate", jnp.float32(3))) is type(jnp.float32(3))


def sizes(n):
    """What may be given as a size or a number, of any type, in every function that takes one."""
    network, loss = jaxnet.mlp([1, n, 2]), jaxnet.softmax_cross_entropy
    options = {"key": KEY, "epochs": n, "batch_size": n, "progress": False}
    run = jaxnet.fit(network, loss, jaxnet.sgd(0.1), (X[:9], LABELS[:9]), **options)
    arrays = jnp.asarray(X[:9]), jnp.asarray(LABELS[:9])
    state, history = jaxnet.train(
        network, loss, jaxnet.sgd(0.1), arrays, key=KEY, epochs=n, batch_size=n
    )
    outputs = jaxnet.predict(network, run.parameters, X, batch_size=n)
    metrics = jaxnet.evaluate(network, run.parameters, (X, LABELS), {"l": loss}, batch_size=n)
    normed = jaxnet.layer_norm(n)
    found = jaxnet.sweep(lambda a, b: a + b, {"a": [1.0, 2.0, 3.0, 4.0], "b": [0.5]})
    return [
        run.parameters,
        run.history,
        state.parameters,
        history,
        outputs,
        metrics,
        normed.apply(normed.init(KEY), jnp.arange(float(n))),
        jaxnet.top_k_accuracy(jnp.eye(4), jnp.array([0, 1, 2, 3]), k=n),
        jaxnet.softmax(jnp.arange(16.0).reshape(2, 2, 2, 2), axis=n),
        found.at(n, n - n).results,
        problems.standard_problems(n)[0].parameters,
        jaxnet.sweep(lambda a: a * 2, {"a": [n]}).results * 0.5,
    ]


@pytest.mark.parametrize("kind", [np.uint8, np.uint64])
def test_numpy_s_integers_work_like_python_s(kind):
    with helpers.unchecked(), jax.debug_key_reuse(False):
        chex.assert_trees_all_equal(sizes(kind(3)), sizes(3))


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_sizes_do_not_overflow(kind):
    """255 + 1, and 100 * 100, as they are of eight bits."""
    with helpers.unchecked(), jax.debug_key_reuse(False):
        for shape in ([255, 1], [100, 100]):
            small = [kind(min(n, np.iinfo(kind).max)) for n in shape]
            expected = jaxnet.mlp([int(n) for n in small]).init(KEY)
            chex.assert_trees_all_equal(jaxnet.mlp(small).init(KEY), expected)
        run = jaxnet.fit(
            jaxnet.mlp([1, 2]),
            jaxnet.softmax_cross_entropy,
            jaxnet.sgd(0.1),
            (X, LABELS),
            key=KEY,
            epochs=kind(2),
            batch_size=kind(100),
            progress=False,
        )
    assert run.state.step == 6


def numbers(n):
    """The same of numbers that need not be whole."""
    x, half = (jnp.linspace(-3.0, 3.0, 7, dtype=t) for t in (jnp.float32, jnp.bfloat16))
    gradients = {"w": x}
    optimizers = [
        jaxnet.gradient_descent(n),
        jaxnet.sgd(n, momentum=n),
        jaxnet.adam(n, b1=n, b2=n, eps=n, eps_root=n),
        jaxnet.adamw(n, weight_decay=n),
    ]
    norm = jaxnet.layer_norm(7, epsilon=n)
    return [
        [rule.update(gradients, rule.init(gradients), gradients)[0] for rule in optimizers],
        jaxnet.leaky_relu(x, n),
        jaxnet.leaky_relu(half, n),
        jaxnet.elu(x, n),
        jaxnet.huber(x, x * 2, delta=n),
        jaxnet.huber(half, half * 2, delta=n),
        jaxnet.binary_accuracy(x, x, threshold=n),
        jaxnet.binary_accuracy(half, half, threshold=n),
        norm.apply(norm.init(KEY), x),
        jaxnet.dropout(n).apply((), x, key=KEY),
        jaxnet.softmax_cross_entropy(x, 3, label_smoothing=n),
    ]


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_numpy_s_numbers_work_like_python_s(kind, x64):
    """They change no dtype, which NumPy's float64 would in 64 bits."""
    with helpers.unchecked(), jax.debug_key_reuse(False), jax.enable_x64(x64):
        chex.assert_trees_all_equal(numbers(kind(0.5)), numbers(0.5))


@pytest.mark.parametrize("kind", [int, *INTEGERS])
def test_a_whole_learning_rate_descends(kind):
    """-1 is 255 as an unsigned integer of eight bits."""
    with helpers.unchecked():
        for make in (jaxnet.gradient_descent, jaxnet.sgd, jaxnet.adam, jaxnet.adamw):
            for rate in (kind(1), jnp.asarray(kind(1)), lambda step: jnp.asarray(kind(1))):
                rule = make(rate)
                updates, _ = rule.update(jnp.ones(2), rule.init(jnp.ones(2)), jnp.ones(2))
                np.testing.assert_allclose(updates, -1, 1e-3)


@pytest.mark.parametrize("value", TIMES)
def test_times_are_no_numbers(value):
    with helpers.refused(TypeError, "expected an integer for n. Received: "):
        checks.integer("n", value, 0)
    with helpers.refused(TypeError, "expected a number for rate. Received: "):
        checks.number("rate", value, 0)
    with helpers.refused(TypeError, "expected numbers for x. Received: "):
        checks.numbers("x", np.array([value]))


def test_numbers_of_any_order_of_bytes_and_any_width():
    """As files of measurements have them; JAX itself refuses them."""
    for dtype in (">f4", "<f4", ">f8", np.longdouble, ">i2"):
        x = np.array([-2, 0, 3]).astype(dtype)
        labels = np.array([0, 1, 1]).astype(">i2")
        if x.dtype.kind == "f":
            np.testing.assert_array_equal(jaxnet.relu(x), [0, 0, 3])
            with helpers.unchecked():
                received = jaxnet.accuracy(np.stack([-x, x], -1), labels)
            np.testing.assert_array_equal(received, [1, 0, 1])
        np.testing.assert_array_equal(
            jaxnet.squared_error(jnp.zeros(3), x.astype(">i2")), [4, 0, 9]
        )
        found = jaxnet.sweep(lambda a: a * 2, {"a": x}).results
        np.testing.assert_array_equal(found, [-4, 0, 6])


def test_leaves_of_one_short_path_keep_apart():
    tree = {"a/b": 1.0, "a": {"b": 2.0}}
    assert sorted(checks.named_leaves(tree).values()) == [1, 2]
    with helpers.refused(TypeError, "expected arrays in x. Received: str 'text' at"):
        checks.arrays("x", {"a/b": "text", "a": {"b": 2.0}})


@pytest.mark.parametrize("value", [True, None, "1", [1], 1j, np.ones(1), object()])
def test_not_numbers(value):
    with helpers.refused(TypeError, "expected a number for rate. Received: "):
        checks.number("rate", value, 0)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, jnp.array(1)])
def test_not_whole_numbers(value):
    with helpers.refused(TypeError, "expected an integer for n. Received: "):
        checks.integer("n", value, 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(jnp.ones((2, 3)), "float32[2, 3]"), (3, "int 3"), ("a" * 99, "str 'aaaa"), (None, "None")],
)
def test_descriptions_are_short(value, text):
    description = checks.describe(value)
    assert text in description
    assert len(description) <= 80


def test_trees_of_the_same_leaves_and_containers_pass():
    tree = {"a": [jnp.ones(2), None], "b": jnp.zeros(())}
    checks.same_tree("gradients", tree, "parameters", jax.tree.map(jnp.zeros_like, tree))
