"""Metrics against scikit-learn; and what they refuse."""

import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

import jaxnet

CLASSES = 5
TOLERANCE = 4 * helpers.ROUNDING  # counts are exact: a division or two, and a mean


def _examples(rows=200):
    """Labels, never the last, and outputs without ties, about half of which are right."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES - 1, rows)
    outputs = rng.normal(size=[rows, CLASSES]).astype(np.float32)
    outputs[np.arange(rows), labels] += 1
    return jnp.asarray(outputs), labels


def _one_hot(labels):
    return np.eye(CLASSES, dtype=np.float32)[labels]


def _predicted(outputs):
    return np.asarray(outputs).argmax(-1)


CLASSIFYING = {
    "accuracy": jaxnet.accuracy,
    "top_k_accuracy": functools.partial(jaxnet.top_k_accuracy, k=2),
    "confusion_matrix": jaxnet.confusion_matrix,
}
PER_EXAMPLE = ["accuracy", "top_k_accuracy"]


@pytest.mark.parametrize("as_targets", [lambda x: x, jnp.asarray, _one_hot])
def test_accuracy(as_targets):
    outputs, labels = _examples()
    received = jaxnet.accuracy(outputs, as_targets(labels))
    assert received.dtype == jnp.float32
    np.testing.assert_array_equal(received, _predicted(outputs) == labels)
    expected = metrics.accuracy_score(labels, _predicted(outputs))
    np.testing.assert_allclose(jaxnet.weighted_mean(received), expected, TOLERANCE)


@pytest.mark.parametrize("as_targets", [lambda x: x, _one_hot])
@pytest.mark.parametrize("k", range(1, CLASSES))
def test_top_k_accuracy(k, as_targets):
    outputs, labels = _examples()
    received = jaxnet.top_k_accuracy(outputs, as_targets(labels), k=k)
    expected = metrics.top_k_accuracy_score(labels, outputs, k=k, labels=range(CLASSES))
    np.testing.assert_allclose(jaxnet.weighted_mean(received), expected, TOLERANCE)


def test_all_classes_are_among_the_first():
    outputs, labels = _examples()
    np.testing.assert_array_equal(jaxnet.top_k_accuracy(outputs, labels, k=CLASSES), 1)


def test_of_equal_outputs_the_first_counts():
    """So that an untrained network of constant outputs is right once in `CLASSES`, not always."""
    outputs, labels = jnp.ones([CLASSES, CLASSES]), np.arange(CLASSES)
    np.testing.assert_array_equal(jaxnet.accuracy(outputs, labels), labels < 1)
    for k in range(1, CLASSES + 1):
        np.testing.assert_array_equal(jaxnet.top_k_accuracy(outputs, labels, k=k), labels < k)


def test_impossible_classes():
    outputs = jnp.array([[-jnp.inf, 1.0, 0.0], [0.0, -jnp.inf, 1.0]])
    np.testing.assert_array_equal(jaxnet.accuracy(outputs, np.array([1, 1])), [1, 0])
    np.testing.assert_array_equal(jaxnet.top_k_accuracy(outputs, np.array([1, 1]), k=2), [1, 0])


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
)
def test_labels_of_any_integer_type_and_many_classes(dtype, x64):
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(40, 300)), rng.integers(0, 100, 40)
    outputs[np.arange(20), labels[:20]] += 9
    predicted = outputs.argmax(-1)
    with jax.enable_x64(x64):
        outputs, given = jnp.asarray(outputs, jnp.float32), jnp.asarray(labels.astype(dtype))
        for mode in (lambda f: f, jax.jit):
            received = mode(jaxnet.accuracy)(outputs, given)
            np.testing.assert_array_equal(received, predicted == labels)
            received = mode(functools.partial(jaxnet.top_k_accuracy, k=7))(outputs, given)
            expected = metrics.top_k_accuracy_score(labels, outputs, k=7, labels=range(300))
            np.testing.assert_allclose(received.mean(), expected, TOLERANCE)
            received = mode(jaxnet.confusion_matrix)(outputs, given)
            expected = metrics.confusion_matrix(labels, predicted, labels=range(300))
            np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_rows_with_nan_count_as_wrong(mode):
    """Whatever the label; argmax would give the place of the NaN."""
    rows = jnp.full((CLASSES, CLASSES), 0.5) + jnp.diag(jnp.full(CLASSES, jnp.nan))
    for outputs in (rows, jnp.full_like(rows, jnp.nan)):
        for label in range(CLASSES):
            labels = jnp.full(CLASSES, label)
            np.testing.assert_array_equal(mode(jaxnet.accuracy)(outputs, labels), 0)
            for k in (1, 2, CLASSES):
                received = mode(functools.partial(jaxnet.top_k_accuracy, k=k))(outputs, labels)
                np.testing.assert_array_equal(received, 0)
            one_hot = jnp.eye(CLASSES)[labels]
            np.testing.assert_array_equal(mode(jaxnet.accuracy)(outputs, one_hot), 0)
    column = jnp.array([jnp.nan, jnp.nan, 1.0, -1.0])
    received = mode(jaxnet.binary_accuracy)(column, jnp.array([0, 1, 1, 0]))
    np.testing.assert_array_equal(received, [0, 0, 1, 1])


def test_nan_among_targets_is_no_label():
    outputs, targets = jnp.eye(3), jnp.eye(3).at[1, 2].set(jnp.nan)
    for metric in (jaxnet.accuracy, functools.partial(jaxnet.top_k_accuracy, k=3)):
        np.testing.assert_array_equal(metric(outputs, targets), [1, 0, 1])
    received = jaxnet.binary_accuracy(jnp.array([-1.0, 1.0]), jnp.array([jnp.nan, jnp.nan]))
    np.testing.assert_array_equal(received, [0, 0])


def test_rows_with_nan_are_in_no_cell_of_a_confusion_matrix():
    """And refused where they can be seen, as by scikit-learn."""
    outputs, labels = jnp.array([[0.0, 1.0], [jnp.nan, 1.0], [2.0, 1.0]]), np.array([1, 0, 1])
    with helpers.refused(
        ValueError, "confusion_matrix: expected outputs without NaN", "Received: nan in row 1"
    ):
        jaxnet.confusion_matrix(outputs, labels)
    received = jax.jit(jaxnet.confusion_matrix)(outputs, labels)
    expected = metrics.confusion_matrix([1, 1], [1, 0], labels=range(2))
    np.testing.assert_array_equal(received, expected)


def test_labels_out_of_range_are_in_no_cell_under_jit():
    received = jax.jit(jaxnet.confusion_matrix)(jnp.eye(3), jnp.array([-1, 3, 2]))
    np.testing.assert_array_equal(received, np.diag([0, 0, 1]))


def test_r_squared_of_float16_is_summed_in_float32():
    targets = jnp.array([-60000.0, 0.0, 60000.0], jnp.float16)
    received = jaxnet.r_squared(targets / 2, targets)
    assert (received, received.dtype) == (0.75, jnp.float16)


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3)], ids=str)
@pytest.mark.parametrize(("threshold", "low"), [(0.0, -1.0), (0.5, 0.0)])
def test_binary_accuracy(shape, threshold, low):
    rng = np.random.default_rng(0)
    outputs, targets = rng.uniform(low, 1, shape), rng.integers(0, 2, shape)
    outputs = jnp.asarray(outputs, jnp.float32)
    received = jaxnet.binary_accuracy(outputs, targets, threshold=threshold)
    assert received.shape == (40,)
    expected = metrics.accuracy_score(targets.ravel(), np.ravel(outputs) > threshold)
    np.testing.assert_allclose(jaxnet.weighted_mean(received), expected, TOLERANCE)
    as_probabilities = jaxnet.binary_accuracy(
        outputs, np.float32(0.2 + 0.6 * targets), threshold=threshold
    )
    np.testing.assert_array_equal(as_probabilities, received)


def test_confusion_matrix():
    outputs, labels = _examples()
    received = jaxnet.confusion_matrix(outputs, labels)
    assert received.dtype == jnp.int32
    expected = metrics.confusion_matrix(labels, _predicted(outputs), labels=range(CLASSES))
    np.testing.assert_array_equal(received, expected)


def test_confusion_matrices_of_parts_add_up():
    outputs, labels = _examples()
    parts = (
        jaxnet.confusion_matrix(outputs[part], labels[part])
        for part in (slice(0, 70), slice(70, 70), slice(70, 200))
    )
    np.testing.assert_array_equal(sum(parts), jaxnet.confusion_matrix(outputs, labels))


@pytest.mark.parametrize("rows", [0, 3, 200])
def test_class_scores(rows):
    """Also where a class never occurs, or is never predicted, or there is nothing at all."""
    outputs, labels = _examples(rows)
    received = jaxnet.class_scores(jaxnet.confusion_matrix(outputs, labels))
    if rows == 0:
        np.testing.assert_array_equal(received, np.zeros([3, CLASSES]))
        return
    expected = metrics.precision_recall_fscore_support(
        labels, _predicted(outputs), labels=range(CLASSES), zero_division=0
    )
    np.testing.assert_allclose(received, expected[:3], TOLERANCE)
    assert received._fields == ("precision", "recall", "f1")


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)], ids=str)
def test_r_squared(shape, offset):
    """The mean enters squared, so what counts is the rounding of the sums, of 50 terms each."""
    rng = np.random.default_rng(0)
    targets = (rng.normal(size=shape) + offset).astype(np.float32)
    outputs = (targets + 0.5 * rng.normal(size=shape)).astype(np.float32)
    received = jaxnet.r_squared(jnp.asarray(outputs), targets)
    assert received.shape == shape[1:]
    expected = metrics.r2_score(targets, outputs, multioutput="raw_values")
    np.testing.assert_allclose(received, expected.reshape(shape[1:]), 0, 64 * helpers.ROUNDING)


@pytest.mark.parametrize(("error", "expected"), [(0.0, 1.0), (0.5, -np.inf)])
def test_r_squared_of_targets_all_the_same(error, expected):
    targets = jnp.full([4], 3.0)
    assert jaxnet.r_squared(targets + error, targets) == expected


@pytest.mark.parametrize("name", CLASSIFYING)
def test_jit_and_vmap(name):
    function, (outputs, labels) = CLASSIFYING[name], _examples()
    expected = function(outputs, labels)
    np.testing.assert_array_equal(jax.jit(function)(outputs, labels), expected)
    parts = jax.vmap(function)(outputs.reshape(4, 50, CLASSES), labels.reshape(4, 50))
    merged = parts.sum(0) if name == "confusion_matrix" else parts.ravel()
    np.testing.assert_array_equal(merged, expected)


def test_regression_under_jit_and_vmap():
    rng = np.random.default_rng(0)
    outputs, targets = jnp.asarray(rng.normal(size=[2, 3, 20]), jnp.float32)
    for function in (jaxnet.r_squared, jaxnet.binary_accuracy):
        rows = jnp.stack([function(*pair) for pair in zip(outputs, targets, strict=True)])
        received = jax.jit(jax.vmap(function))(outputs, targets)
        np.testing.assert_allclose(received, rows, 0, 8 * helpers.ROUNDING)


def test_class_scores_under_jit_and_vmap():
    counts = jnp.asarray(np.random.default_rng(0).integers(0, 9, [2, CLASSES, CLASSES]), jnp.int32)
    received = jax.jit(jax.vmap(jaxnet.class_scores))(counts)
    for i in range(2):
        for one, other in zip(received, jaxnet.class_scores(counts[i]), strict=True):
            np.testing.assert_allclose(one[i], other, TOLERANCE)


# Refusals.


@pytest.mark.parametrize("make", [np.array, jnp.array], ids=["numpy", "jax"])
@pytest.mark.parametrize("label", [-1, CLASSES])
@pytest.mark.parametrize("name", CLASSIFYING)
def test_refuses_labels_out_of_range(name, label, make):
    with helpers.refused(
        ValueError, f"{name}: expected labels from 0 to 4", f"Received: {label} at index (2,)"
    ):
        CLASSIFYING[name](jnp.ones([3, CLASSES]), make([0, 4, label]))


@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (3, CLASSES)], ids=str)
@pytest.mark.parametrize("name", CLASSIFYING)
def test_refuses_labels_of_another_shape(name, shape):
    with helpers.refused(ValueError, f"{name}: expected labels of shape [3]", f"{list(shape)}"):
        CLASSIFYING[name](jnp.ones([3, CLASSES]), np.zeros(shape, int))


@pytest.mark.parametrize("shape", [(CLASSES,), (3, 1), (1, CLASSES)], ids=str)
@pytest.mark.parametrize("name", PER_EXAMPLE)
def test_refuses_distributions_of_another_shape(name, shape):
    with helpers.refused(ValueError, f"{name}: expected targets", "[3, 5]", f"{list(shape)}"):
        CLASSIFYING[name](jnp.ones([3, CLASSES]), np.ones(shape, np.float32))


@pytest.mark.parametrize("name", ["binary_accuracy", "r_squared"])
@pytest.mark.parametrize(("outputs", "targets"), [((4,), (4, 1)), ((4, 2), (4,)), ((4, 2), (2,))])
def test_refuses_shapes_that_differ(name, outputs, targets):
    with helpers.refused(
        ValueError, f"{name}: expected targets", str(list(outputs)), str(list(targets))
    ):
        getattr(jaxnet, name)(jnp.ones(outputs), np.ones(targets, np.float32))


@pytest.mark.parametrize("name", [*PER_EXAMPLE, "binary_accuracy", "r_squared"])
def test_refuses_outputs_that_are_not_floating_point(name):
    function = CLASSIFYING.get(name, getattr(jaxnet, name))
    with helpers.refused(TypeError, f"{name}: expected floating-point outputs", "int32"):
        function(jnp.ones([3, CLASSES], jnp.int32), np.ones([3, CLASSES], np.float32))


@pytest.mark.parametrize("name", [*CLASSIFYING, "binary_accuracy", "r_squared"])
def test_refuses_a_scalar(name):
    function = CLASSIFYING.get(name, getattr(jaxnet, name))
    with helpers.refused(ValueError, f"{name}: expected outputs with", "Received: a scalar"):
        function(jnp.array(0.5), np.array(0))


@pytest.mark.parametrize("k", [0, -1, CLASSES + 1])
def test_refuses_k_out_of_range(k):
    outputs, labels = _examples()
    with helpers.refused(ValueError, "top_k_accuracy: expected k", f"Received: {k}"):
        jaxnet.top_k_accuracy(outputs, labels, k=k)


@pytest.mark.parametrize("k", [2.0, True, "2"])
def test_refuses_k_that_is_no_integer(k):
    outputs, labels = _examples()
    with helpers.refused(TypeError, "top_k_accuracy: expected an integer for k", repr(k)):
        jaxnet.top_k_accuracy(outputs, labels, k=k)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3, 3)], ids=str)
def test_refuses_confusion_that_is_not_square(shape):
    with helpers.refused(ValueError, "class_scores: expected a square", str(list(shape))):
        jaxnet.class_scores(jnp.ones(shape, jnp.int32))
