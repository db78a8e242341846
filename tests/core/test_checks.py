"""Checks of arguments: the values that pass, and the error messages for others."""

import contextlib
import inspect

import chex
import helpers
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

import jaxnet
from jaxnet.core import arrays, checks
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
def test_numbers_pass_if_and_only_if_they_are_in_range(value, below):
    inside = 0 <= value < 1 or (value == 1 and not below)
    refusal = helpers.refused(ValueError, "expected a finite rate of at least 0 and ")
    with contextlib.nullcontext() if inside else refusal:
        checks.number("rate", value, 0, 1, below=below)


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
def test_integers_become_python_integers(kind):
    received = checks.integer("n", kind(3), -300, 70_000)
    assert (received, type(received)) == (3, int)


@pytest.mark.parametrize("kind", [int, float, np.float16, np.float32, np.float64, *INTEGERS])
def test_numbers_become_python_floats(kind):
    received = checks.number("rate", kind(3))
    assert (received, type(received)) == (3, float)
    assert checks.number("rate", np.array(3, kind)) == 3
    assert type(checks.number("rate", jnp.float32(3))) is type(jnp.float32(3))


def sizes(n):
    """Results of every function that takes a size, for a size of any type."""
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
def test_numpy_integers_work_like_python_integers(kind):
    with helpers.unchecked(), jax.debug_key_reuse(False):
        chex.assert_trees_all_equal(sizes(kind(3)), sizes(3))


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_sizes_do_not_overflow(kind):
    """255 + 1 and 100 * 100 would overflow in eight bits."""
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
    """Results of every function that takes a real number, for a number of any type."""
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
def test_numpy_numbers_work_like_python_numbers(kind, x64):
    """No dtype changes, as it would with a NumPy float64 and 64 bits enabled."""
    with helpers.unchecked(), jax.debug_key_reuse(False), jax.enable_x64(x64):
        chex.assert_trees_all_equal(numbers(kind(0.5)), numbers(0.5))


@pytest.mark.parametrize("kind", [int, *INTEGERS])
def test_integer_learning_rates_descend(kind):
    """-1 would be 255 as an unsigned integer of eight bits."""
    with helpers.unchecked():
        for make in (jaxnet.gradient_descent, jaxnet.sgd, jaxnet.adam, jaxnet.adamw):
            for rate in (kind(1), jnp.asarray(kind(1)), lambda step: jnp.asarray(kind(1))):
                rule = make(rate)
                updates, _ = rule.update(jnp.ones(2), rule.init(jnp.ones(2)), jnp.ones(2))
                np.testing.assert_allclose(updates, -1, 1e-3)


@pytest.mark.parametrize("value", TIMES)
def test_times_are_not_numbers(value):
    with helpers.refused(TypeError, "expected an integer for n. Received: "):
        checks.integer("n", value, 0)
    with helpers.refused(TypeError, "expected a number for rate. Received: "):
        checks.number("rate", value, 0)
    with helpers.refused(TypeError, "expected numbers for x. Received: "):
        arrays.numbers("x", np.array([value]))


@pytest.mark.parametrize("value", [True, None, "1", [1], 1j, np.ones(1), object()])
def test_other_values_are_not_numbers(value):
    with helpers.refused(TypeError, "expected a number for rate. Received: "):
        checks.number("rate", value, 0)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, jnp.array(1)])
def test_other_values_are_not_integers(value):
    with helpers.refused(TypeError, "expected an integer for n. Received: "):
        checks.integer("n", value, 0)


def test_a_bound_function_has_the_signature_of_the_arguments_that_are_left():
    update, apply = jaxnet.adam(0.1).update, jaxnet.dense(1, 1).apply
    fields = ["gradients", "state", "params", "others"]
    assert list(inspect.signature(update).parameters) == fields
    assert list(inspect.signature(apply).parameters) == ["parameters", "x", "key"]
    text = jax.jit(apply).lower(jaxnet.dense(1, 1).init(KEY), X).as_text()
    assert text.startswith("module @jit__apply_dense ")


@pytest.mark.parametrize(
    ("value", "text"),
    [(jnp.ones((2, 3)), "float32[2, 3]"), (3, "int 3"), ("a" * 99, "str 'aaaa"), (None, "None")],
)
def test_descriptions_are_short(value, text):
    description = checks.describe(value)
    assert text in description
    assert len(description) <= 80
