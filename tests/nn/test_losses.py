"""Losses against closed forms in float64, mpmath, optax and scikit-learn; and what they refuse."""

import functools

import helpers
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pandas
import pytest
import sklearn.metrics
from mpmath import mp

import jaxnet

CLASSES = 4
UNITS = 8  # in the last place of float32


def summed_gradient(loss):
    """The gradient of the sum of `loss`: every example's own."""
    return jax.grad(lambda outputs, *args, **kwargs: jnp.sum(loss(outputs, *args, **kwargs)))


def close(received, expected, terms=8, rounding=helpers.ROUNDING):
    """Equal but for `terms` operations on numbers of the size of the largest one, or of 1.

    Each of them, a logarithm too, is within a unit in the last place, that is two roundings.
    """
    expected = np.asarray(expected, np.float64)
    allowed = 2 * terms * rounding * np.max(np.abs(expected), initial=1)
    np.testing.assert_allclose(np.asarray(received, np.float64), expected, 0, allowed)


def _loss(name):
    return getattr(jaxnet, name)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Losses of outputs and targets of one shape: values and gradients in NumPy's float64.


def huber(delta):
    def value(y, t):
        size = np.abs(y - t)
        return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))

    return value, lambda y, t: np.clip(y - t, -delta, delta)


ELEMENTWISE = {
    "squared_error": (lambda y, t: (y - t) ** 2, lambda y, t: 2 * (y - t)),
    "mean_squared_error": (lambda y, t: (y - t) ** 2, lambda y, t: 2 * (y - t)),
    "absolute_error": (lambda y, t: np.abs(y - t), lambda y, t: np.sign(y - t)),
    "mean_absolute_error": (lambda y, t: np.abs(y - t), lambda y, t: np.sign(y - t)),
    "huber": huber(1.0),
    "binary_cross_entropy": (
        lambda p, t: -t * np.log(p) - (1 - t) * np.log1p(-p),
        lambda p, t: (1 - t) / (1 - p) - t / p,
    ),
    "sigmoid_binary_cross_entropy": (
        lambda z, t: np.logaddexp(0, z) - t * z,
        lambda z, t: sigmoid(z) - t,
    ),
}
CLASSIFYING = ["cross_entropy", "softmax_cross_entropy"]
EVERY = [*ELEMENTWISE, *CLASSIFYING]
PROBABILITIES = ["binary_cross_entropy", "cross_entropy"]


def _elementwise(name, shape, targets_are_labels):
    """Outputs, targets, losses and gradients of them, all in float64 but rounded to bfloat16."""
    rng = np.random.default_rng(0)
    outputs = rng.uniform(0.1, 0.9, shape) if name in PROBABILITIES else rng.normal(size=shape) * 2
    targets = rng.integers(0, 2, shape) if targets_are_labels else rng.uniform(size=shape)
    outputs, targets = (x.astype(jnp.bfloat16).astype(np.float64) for x in (outputs, targets))
    value, gradient = (f(outputs, targets) for f in ELEMENTWISE[name])
    count = value[0].size if name.startswith("mean_") else 1
    return outputs, targets, value.reshape(len(value), -1).sum(-1) / count, gradient / count


@pytest.mark.parametrize("shape", [(7,), (7, 1), (5, 3), (4, 2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_of_outputs_and_targets_of_one_shape(name, dtype, shape):
    outputs, targets, value, gradient = _elementwise(name, shape, dtype == np.int32)
    outputs, targets, loss = jnp.asarray(outputs, jnp.float32), targets.astype(dtype), _loss(name)
    received = jax.jit(loss)(outputs, targets)
    assert received.shape == shape[:1]
    assert received.dtype == jnp.float32
    close(received, value, 4 + outputs[0].size)
    close(jax.jit(summed_gradient(loss))(outputs, targets), gradient)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_half_precision_stays(name, dtype):
    outputs, targets, value, _ = _elementwise(name, (5, 3), False)
    received = _loss(name)(jnp.asarray(outputs, dtype), jnp.asarray(targets, dtype))
    assert received.dtype == dtype
    close(received, value, rounding=float(jnp.finfo(dtype).eps) / 2)


def test_against_optax():
    rng = np.random.default_rng(0)
    outputs, targets = jnp.asarray(rng.normal(size=[2, 6, 3]) * 2, jnp.float32)
    close(jaxnet.squared_error(outputs, targets), 2 * optax.l2_loss(outputs, targets).sum(-1))
    close(jaxnet.huber(outputs, targets), optax.huber_loss(outputs, targets).sum(-1))
    probabilities = jax.nn.sigmoid(targets)
    expected = optax.sigmoid_binary_cross_entropy(outputs, probabilities).sum(-1)
    close(jaxnet.sigmoid_binary_cross_entropy(outputs, probabilities), expected)


def test_squared_errors_of_apple_orange_and_banana():
    """A network says orange, 0.88, of an apple: the squares are 0.7744, 0.7744 and 0.00000001."""
    outputs, apple = jnp.array([0.12, 0.88, 0.0001]), jnp.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(
        jaxnet.squared_error(outputs, apple), [0.7744, 0.7744, 1e-8], 4 * helpers.ROUNDING
    )
    close(jaxnet.squared_error(outputs[None], apple[None]), [1.54880001])
    close(jaxnet.mean_squared_error(outputs[None], apple[None]), [1.54880001 / 3])
    close(jaxnet.cross_entropy(outputs[None], jnp.array([0])), [-np.log(0.12)])


def test_softmax_of_34_32_and_25():
    logits = jnp.array([[34.0, 32.0, 25.0]])
    probabilities = jaxnet.softmax(logits)
    np.testing.assert_array_equal(np.round(probabilities, 2), np.float32([[0.88, 0.12, 0.0]]))
    # 1 / (1 + exp(2) + exp(-7))
    np.testing.assert_allclose(probabilities[0, 1], 0.1191899, 1e-6)
    close(jaxnet.softmax_cross_entropy(logits, jnp.array([1])), [np.log1p(np.e**2 + np.e**-7)])


def extremes(dtype):
    """Finite numbers of half precision: the largest, the smallest, and some between."""
    info = jnp.finfo(dtype)
    sizes = [float(info.max), float(info.max) / 2, 300.0, 1.0, float(info.tiny), 0.0]
    pairs = [(a * x, b * y) for x in sizes for y in sizes for a in (1, -1) for b in (1, -1)]
    return np.array(pairs)


def rounded_to(dtype, exact):
    """What half precision makes of exact values, with its largest number for all beyond it."""
    limit = float(jnp.finfo(dtype).max)
    return np.clip(exact, -limit, limit)


def assert_in_half(received, exact, dtype):
    """Within a unit of half precision, and finite."""
    received, exact = np.asarray(received, np.float64), rounded_to(dtype, exact)
    assert np.isfinite(received).all()
    unit = float(jnp.finfo(dtype).eps) * np.abs(exact) + float(jnp.finfo(dtype).tiny)
    assert (np.abs(received - exact) <= unit).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("kind", ["labels", "one-hot"])
@pytest.mark.parametrize("label", [0, 1])
def test_any_finite_logits_of_half_precision(label, kind, dtype):
    """Value and gradient in closed form: softplus of the margin, and the probabilities less one."""
    rows = extremes(dtype)
    logits = jnp.asarray(rows, dtype)
    rows = np.asarray(logits, np.float64)
    targets = jnp.full(len(rows), label)
    if kind == "one-hot":
        targets = jnp.eye(2, dtype=dtype)[targets]
    limit = float(jnp.finfo(jnp.float32).max) / 2  # bfloat16's that are larger count as this
    rows = np.clip(rows, -limit, limit)
    margin = rows[:, 1 - label] - rows[:, label]
    received = jaxnet.softmax_cross_entropy(logits, targets)
    assert received.dtype == dtype
    assert_in_half(received, np.logaddexp(0, margin), dtype)
    gradient = summed_gradient(jaxnet.softmax_cross_entropy)(logits, targets)
    assert gradient.dtype == dtype
    other = 0.5 * (1 + np.tanh(margin / 2))
    expected = np.stack([-other, other], -1)
    assert_in_half(gradient, expected[:, ::-1] if label else expected, dtype)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_any_finite_numbers_of_float16(name):
    """A loss or derivative beyond the largest float16 is that number."""
    dtype = jnp.float16
    outputs, targets = jnp.asarray(extremes(dtype).T, dtype)
    if name == "binary_cross_entropy":
        outputs = jnp.asarray([6e-8, 1e-6, 1e-3, 0.5, 1 - 2.0**-11] * 2, dtype)
    if name.endswith("binary_cross_entropy"):
        targets = jnp.asarray(np.arange(len(outputs)) % 3 / 2, dtype)
    value, gradient = ELEMENTWISE[name]
    with np.errstate(over="ignore"):
        exact = [np.asarray(a, np.float64) for a in (outputs, targets)]
        expected, slopes = value(*exact), gradient(*exact)
    received = _loss(name)(outputs, targets)
    assert received.dtype == dtype
    assert_in_half(received, expected, dtype)
    slope = summed_gradient(_loss(name))(outputs, targets)
    at_a_kink = name.endswith("absolute_error") & (exact[0] == exact[1])
    assert_in_half(slope, np.where(at_a_kink, 0, slopes), dtype)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("label", [0, 1])
def test_cross_entropy_of_small_probabilities_in_half_precision(label, dtype):
    small = jnp.finfo(dtype).tiny if dtype == jnp.bfloat16 else jnp.array(6e-8, dtype)
    p = jnp.array([[small, 1 - small]], dtype)
    exact = np.asarray(p, np.float64)[0]
    received = jaxnet.cross_entropy(p, jnp.array([label]))
    assert_in_half(received, [-np.log(exact[label])], dtype)
    gradient = summed_gradient(jaxnet.cross_entropy)(p, jnp.array([label]))
    assert_in_half(gradient[0, label], -1 / exact[label], dtype)


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_huber_around_delta(delta):
    errors = np.float32(delta) * np.float32([-1e6, -1.001, -1, -0.999, 0, 0.999, 1, 1.001, 1e6])
    zeros, (value, gradient) = np.zeros_like(errors), huber(delta)
    loss = functools.partial(jaxnet.huber, delta=delta)
    expected = value(errors.astype(np.float64), 0)
    np.testing.assert_allclose(loss(jnp.asarray(errors), zeros), expected, 8 * helpers.ROUNDING)
    received = summed_gradient(loss)(jnp.asarray(errors), zeros)
    np.testing.assert_allclose(received, gradient(errors, 0), 4 * helpers.ROUNDING)


@pytest.mark.parametrize("name", ["absolute_error", "mean_absolute_error", "huber"])
def test_huge_errors_stay_finite(name):
    loss, huge = _loss(name), jnp.array([3e38, -3e38])
    np.testing.assert_array_equal(loss(huge, jnp.zeros(2)), jnp.abs(huge))
    np.testing.assert_array_equal(summed_gradient(loss)(huge, jnp.zeros(2)), [1, -1])


@pytest.mark.parametrize("name", ["absolute_error", "mean_absolute_error", "huber"])
def test_gradient_at_no_error_is_zero(name):
    gradient = summed_gradient(_loss(name))
    np.testing.assert_array_equal(gradient(jnp.ones([3, 2]), jnp.ones([3, 2])), 0)


# Cross-entropy.


def _classified(rows=12):
    """Logits, labels, and the labels as distributions."""
    rng = np.random.default_rng(0)
    logits = (3 * rng.normal(size=[rows, CLASSES])).astype(np.float32)
    labels = rng.integers(0, CLASSES, rows)
    return jnp.asarray(logits), labels, np.eye(CLASSES, dtype=np.float32)[labels]


def _log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["labels", "one-hot", "distributions"])
@pytest.mark.parametrize("name", CLASSIFYING)
def test_cross_entropy(name, kind, smoothing, weighted):
    """`-sum_k w_k t_k log p_k`, and the gradient `-w t / p`, or for logits `p sum(w t) - w t`."""
    logits, labels, one_hot = _classified()
    log_p = _log_softmax(logits)
    p = np.exp(log_p)
    weights = np.array([0.5, 2.0, 0.0, 1.0]) if weighted else np.ones(CLASSES)
    distributions = np.exp(_log_softmax(logits[::-1])) if kind == "distributions" else one_hot
    smooth = (1 - smoothing) * distributions + smoothing / CLASSES
    gradient = {
        "cross_entropy": -weights * smooth / p,
        "softmax_cross_entropy": p * (weights * smooth).sum(-1, keepdims=True) - weights * smooth,
    }[name]

    loss = functools.partial(
        _loss(name),
        label_smoothing=smoothing,
        class_weights=weights.astype(np.float32) if weighted else None,
    )
    outputs = logits if name == "softmax_cross_entropy" else jnp.asarray(p, jnp.float32)
    targets = labels if kind == "labels" else distributions.astype(np.float32)
    received = jax.jit(loss)(outputs, targets)
    assert received.shape == (12,)
    assert received.dtype == jnp.float32
    # For every class: a logarithm, two products, a sum.
    close(received, -(weights * smooth * log_p).sum(-1), 4 * CLASSES)
    close(jax.jit(summed_gradient(loss))(outputs, targets), gradient, 4 * CLASSES)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_against_optax(smoothing):
    logits, labels, one_hot = _classified()
    received = jaxnet.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
    smooth = optax.smooth_labels(jnp.asarray(one_hot), smoothing)
    close(received, optax.softmax_cross_entropy(logits, smooth), 4 * CLASSES)


def test_mean_cross_entropy_is_the_log_loss_of_scikit_learn():
    logits, labels, _ = _classified()
    p = np.exp(_log_softmax(logits))
    expected = sklearn.metrics.log_loss(labels, p, labels=range(CLASSES))
    close(jaxnet.weighted_mean(jaxnet.softmax_cross_entropy(logits, labels)), expected)
    received = jaxnet.cross_entropy(jnp.asarray(p, jnp.float32), labels)
    close(jaxnet.weighted_mean(received), expected)


def test_mean_binary_cross_entropy_is_the_log_loss_of_scikit_learn():
    logits, labels, _ = _classified()
    logits, labels = logits[:, 0], labels % 2
    p = sigmoid(np.asarray(logits, np.float64))
    expected = sklearn.metrics.log_loss(labels, p)
    close(jaxnet.weighted_mean(jaxnet.sigmoid_binary_cross_entropy(logits, labels)), expected)
    received = jaxnet.binary_cross_entropy(jnp.asarray(p, jnp.float32), labels)
    close(jaxnet.weighted_mean(received), expected, 16)


INTEGER_TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtype", INTEGER_TYPES)
@pytest.mark.parametrize("name", CLASSIFYING)
def test_labels_of_any_integer_type_and_many_classes(name, dtype, x64):
    """More classes than int8 or uint8 can number: once they wrapped around, several were right."""
    rng = np.random.default_rng(0)
    labels, classes = np.array([1, 5, 43]), 70_000 if dtype.endswith("16") else 300
    p = rng.dirichlet(np.ones(classes), 3)
    with jax.enable_x64(x64):
        outputs = jnp.asarray(np.log(p) if name == "softmax_cross_entropy" else p, jnp.float32)
        for mode in (lambda f: f, jax.jit):
            received = mode(_loss(name))(outputs, jnp.asarray(labels.astype(dtype)))
            np.testing.assert_allclose(received, -np.log(p[np.arange(3), labels]), 1e-5)


@pytest.mark.parametrize(
    "make", [np.float32, np.float64, np.float16, jnp.float32, jax.jit(jnp.sin)]
)
@pytest.mark.parametrize("name", CLASSIFYING)
def test_label_smoothing_may_be_any_kind_of_number(name, make):
    logits, labels, _ = _classified()
    outputs = logits if name == "softmax_cross_entropy" else jaxnet.softmax(logits)
    smoothing = make(0.125)
    for mode in (lambda f: f, jax.jit):
        received = mode(lambda s: _loss(name)(outputs, labels, label_smoothing=s))(smoothing)
        expected = _loss(name)(outputs, labels, label_smoothing=float(smoothing))
        close(received, expected)


def test_any_number_of_batch_axes():
    logits, labels, _ = _classified()
    rows = jaxnet.softmax_cross_entropy(logits, labels)
    table = jaxnet.softmax_cross_entropy(logits.reshape(3, 4, CLASSES), labels.reshape(3, 4))
    np.testing.assert_array_equal(table.reshape(-1), rows)
    np.testing.assert_array_equal(jaxnet.softmax_cross_entropy(logits[0], labels[0]), rows[0])


# Cross-entropy of logits, in the tails. Margins are quarters, whose differences float32 holds.

MARGINS = np.arange(-80, 80.25, 0.25)
OTHERS = (0.0, -1.25, 0.5)


@functools.cache
def _exact_margins():
    """Losses and gradients of logits (margin, *OTHERS) with label 0."""

    def row(margin):
        others = [mp.exp(mpmath.mpf(x) - margin) for x in OTHERS]
        rest = mp.fsum(others)
        return [mp.log1p(rest), -rest / (1 + rest), *(x / (1 + rest) for x in others)]

    with mpmath.workdps(60):
        answers = np.array([[float(x) for x in row(mpmath.mpf(m))] for m in MARGINS])
    return answers[:, 0], answers[:, 1:]


@pytest.mark.parametrize("label", range(CLASSES))
@pytest.mark.parametrize("kind", ["labels", "one-hot"])
def test_tails_of_softmax_cross_entropy(kind, label):
    """Loss and gradient keep their digits at margins where other libraries have 0, from 17 on."""
    values, gradients = _exact_margins()
    rows = np.column_stack([MARGINS, *(np.full_like(MARGINS, x) for x in OTHERS)])
    rows, gradients = np.roll(rows, label, -1), np.roll(gradients, label, -1)
    labels = np.full(len(rows), label)
    targets = labels if kind == "labels" else np.eye(CLASSES, dtype=np.float32)[labels]
    loss, logits = jaxnet.softmax_cross_entropy, jnp.asarray(rows, jnp.float32)
    helpers.assert_units(jax.jit(loss)(logits, targets), values, UNITS)
    helpers.assert_units(jax.jit(summed_gradient(loss))(logits, targets), gradients, UNITS)


@pytest.mark.parametrize("kind", ["labels", "one-hot", "smoothed"])
@pytest.mark.parametrize("label", range(3))
def test_huge_logits(kind, label):
    """All that counts is how far the label's logit is below the largest."""
    logits = jnp.array([[1e30, 0.0, -1e30], [1e30, 1e30, 1e30], [-1e30, -1e30, 1e30]])
    one_hot = np.eye(3)[label]
    targets = np.full(3, label) if kind == "labels" else np.tile(np.float32(one_hot), (3, 1))
    loss = functools.partial(
        jaxnet.softmax_cross_entropy, label_smoothing=0.5 if kind == "smoothed" else 0.0
    )
    smooth = one_hot / 2 + 1 / 6 if kind == "smoothed" else one_hot
    p = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 1]])
    exact = np.asarray(logits, np.float64)
    log_p = exact - exact.max() + np.log([[1], [1 / 3], [1]])
    expected = -(smooth * log_p).sum(-1)
    np.testing.assert_allclose(loss(logits, targets), expected, 1e-6, 1e-6)
    np.testing.assert_allclose(summed_gradient(loss)(logits, targets), p - smooth, 1e-6, 1e-6)


@pytest.mark.parametrize("kind", ["labels", "one-hot"])
def test_an_impossible_class_does_not_count(kind):
    logits = jnp.array([[1.0, -jnp.inf, 2.0, -jnp.inf]])
    targets = np.array([0]) if kind == "labels" else np.float32([[1, 0, 0, 0]])
    loss = jaxnet.softmax_cross_entropy
    close(loss(logits, targets), [np.log1p(np.e)])
    p = sigmoid(1.0)
    close(summed_gradient(loss)(logits, targets), [[-p, 0, p, 0]])


@pytest.mark.parametrize("kind", ["labels", "one-hot"])
def test_an_impossible_label_costs_infinity(kind):
    targets = np.array([0]) if kind == "labels" else np.float32([[1, 0]])
    received = jaxnet.softmax_cross_entropy(jnp.array([[-jnp.inf, 0.0]]), targets)
    np.testing.assert_array_equal(received, jnp.inf)


_hessian = jax.jit(jax.hessian(jaxnet.softmax_cross_entropy))


@pytest.mark.parametrize("row", [[0.5, -1.0, 2.0], [1.0, 1.0, 1.0], [1.0, 1.0, -1.0]], ids=str)
@pytest.mark.parametrize("label", range(3))
@pytest.mark.parametrize("kind", ["labels", "one-hot"])
def test_hessian_of_softmax_cross_entropy(kind, label, row):
    """`diag(p) - p p'`, whatever the label."""
    p = np.exp(row) / np.exp(row).sum()
    target = np.array(label) if kind == "labels" else np.eye(3, dtype=np.float32)[label]
    received = _hessian(jnp.array(row), target)
    close(received, np.diag(p) - np.outer(p, p))


@pytest.mark.parametrize("target", [0, 1])
def test_tails_of_sigmoid_binary_cross_entropy(target):
    logits = np.concatenate([MARGINS, [-1e30, -1e4, 1e4, 1e30]]).astype(np.float32)
    sign = 1 - 2 * target  # the loss is softplus(sign * logit)

    def value(x):
        return mp.log1p(mp.exp(sign * x)) if sign * x < 1000 else sign * x

    def gradient(x):
        return sign / (1 + mp.exp(-sign * max(min(x, 1000), -1000)))

    targets = np.full(logits.shape, target)
    loss = jaxnet.sigmoid_binary_cross_entropy
    received = jax.jit(loss)(jnp.asarray(logits), targets)
    helpers.assert_units(received, helpers.exact(value, logits), UNITS)
    received = jax.jit(summed_gradient(loss))(jnp.asarray(logits), targets)
    helpers.assert_units(received, helpers.exact(gradient, logits), UNITS)


# Cross-entropy of probabilities, at 0 and 1.


@pytest.mark.parametrize("kind", ["labels", "one-hot"])
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_cross_entropy_of_certainty(kind, smoothing):
    """What is certain and right costs nothing; certain and wrong, or smoothed, infinity."""
    p = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.25, 0.75, 0.0]])
    targets = np.zeros(3, int) if kind == "labels" else np.float32([[1, 0, 0]] * 3)
    loss = functools.partial(jaxnet.cross_entropy, label_smoothing=smoothing)
    received = loss(p, targets)
    if smoothing:
        np.testing.assert_array_equal(received, jnp.inf)
        return
    close(received[::2], [0, np.log(4)])
    assert received[1] == jnp.inf
    close(summed_gradient(loss)(p[::2], targets[::2]), [[-1, 0, 0], [-4, 0, 0]])


@pytest.mark.parametrize(
    ("p", "target", "value", "gradient"),
    [(1.0, 1, 0, -1), (0.0, 0, 0, 1), (0.5, 1, np.log(2), -2), (0.5, 0, np.log(2), 2)],
)
def test_binary_cross_entropy_of_certainty(p, target, value, gradient):
    loss, targets = jaxnet.binary_cross_entropy, np.array([target])
    close(loss(jnp.array([p]), targets), [value])
    close(summed_gradient(loss)(jnp.array([p]), targets), [gradient])


@pytest.mark.parametrize(("p", "target"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.5), (1.0, 0.5)])
def test_binary_cross_entropy_of_certainty_and_wrong(p, target):
    received = jaxnet.binary_cross_entropy(jnp.array([p]), jnp.array([target]))
    np.testing.assert_array_equal(received, jnp.inf)


def test_binary_cross_entropy_of_small_probabilities():
    """-log(1 - p) is p, not 0, when p is below the spacing of float32 at 1."""
    p = jnp.array([1e-10, 1e-30])
    np.testing.assert_allclose(jaxnet.binary_cross_entropy(p, np.zeros(2, int)), p, 1e-6)


# weighted_mean


@pytest.mark.parametrize("shape", [(6,), (2, 3), ()], ids=str)
def test_weighted_mean_is_the_average_of_numpy(shape):
    rng = np.random.default_rng(0)
    values, weights = rng.uniform(1, 2, [2, *shape]).astype(np.float32)
    expected = np.average(values.astype(np.float64), weights=weights.astype(np.float64))
    close(jaxnet.weighted_mean(jnp.asarray(values), weights), expected)
    close(jaxnet.weighted_mean(jnp.asarray(values)), values.astype(np.float64).mean())
    gradient = jax.grad(jaxnet.weighted_mean)(jnp.asarray(values), weights)
    close(gradient, weights / weights.astype(np.float64).sum())


@pytest.mark.parametrize("bad", [jnp.inf, -jnp.inf, jnp.nan])
def test_values_of_weight_zero_do_not_count(bad):
    values, weights = jnp.array([1.0, bad, 4.0]), jnp.array([1.0, 0.0, 2.0])
    mean = jax.jit(jaxnet.weighted_mean)
    close(mean(values, weights), 3)
    close(jax.grad(mean)(values, weights), [1 / 3, 0, 2 / 3])


def test_weights_that_are_all_zero():
    values, zeros = jnp.array([1.0, jnp.inf, jnp.nan]), jnp.zeros(3)
    assert jaxnet.weighted_mean(values, zeros) == 0
    np.testing.assert_array_equal(jax.grad(jaxnet.weighted_mean)(values, zeros), 0)


def test_small_weights_are_weights():
    weights = jnp.array([1e-20, 3e-20])
    close(jaxnet.weighted_mean(jnp.array([1.0, 2.0]), weights), 1.75)


LARGE = [
    ([1e38] * 5, None, 1e38),
    ([3e38, -3e38, 3e38, 3e38], None, 1.5e38),
    ([3e38] * 3, [3e38] * 3, 3e38),
    ([1e38, 2e38], [1e38, 3e38], 1.75e38),
    ([1.0, 3.0], [3.4e38, 1.7e38], 5 / 3),
    ([1.0, 2.0], [3e-45, 1e-45], None),
    ([1.0, 2.0], [1e-40, 3e-40], 1.75),
    ([1e-30, 3e-30], [1e-20, 3e-20], 2.5e-30),
    ([3e38, 1.0], [1e-38, 1e38], 1.0),
    ([1e30, 3e30], [1e-30, 1e-30], 2e30),
]


@pytest.mark.parametrize(("values", "weights", "mean"), LARGE)
@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_a_mean_that_can_be_represented_does_not_overflow(values, weights, mean, mode):
    """Nor does its gradient, which is each value's share of the weights."""
    values = np.float32(values)
    weights = None if weights is None else np.float32(weights)
    shares = np.full(len(values), 1 / len(values))
    if weights is not None:
        shares = weights.astype(np.float64) / weights.astype(np.float64).sum()
    expected = (shares * values).sum()
    if mean is not None:
        np.testing.assert_allclose(expected, mean, 1e-6)
    given = (jnp.asarray(values),) if weights is None else (jnp.asarray(values), weights)
    np.testing.assert_allclose(mode(jaxnet.weighted_mean)(*given), expected, 1e-6)
    gradient = mode(jax.grad(jaxnet.weighted_mean))(*given)
    np.testing.assert_allclose(gradient, shares, 1e-6, 1e-37)


def test_weighted_mean_of_half_precision_is_summed_in_float32():
    for dtype in (jnp.float16, jnp.bfloat16):
        ones = jnp.ones(70_000, dtype)
        assert jaxnet.weighted_mean(ones, ones) == 1
        largest = jnp.full(7, jnp.finfo(dtype).max, dtype)
        assert jaxnet.weighted_mean(largest, jnp.ones(7)) == jnp.finfo(dtype).max
        assert jaxnet.weighted_mean(largest) == jnp.finfo(dtype).max


@pytest.mark.parametrize("weighted", [False, True])
def test_an_ordinary_mean_has_the_bits_of_the_plain_formula(weighted):
    rng = np.random.default_rng(0)
    for size in (1, 7, 64, 1000):
        values = jnp.asarray(rng.lognormal(0, 5, size), jnp.float32)
        weights = jnp.asarray(rng.lognormal(0, 5, size), jnp.float32)
        if weighted:
            expected = jnp.sum(weights * values) / jnp.sum(weights)
            assert jaxnet.weighted_mean(values, weights) == expected
        else:
            assert jaxnet.weighted_mean(values) == jnp.mean(values)


# Refusals. An error says what was expected and what was received.


def _pair_for(name, outputs, targets):
    """Outputs and targets as `name` takes them: float32 of these shapes, within (0, 1)."""
    return _loss(name), jnp.full(outputs, 0.5), np.full(targets, 0.5, np.float32)


SHAPES = [((4,), (4, 1)), ((4, 2), (4,)), ((4, 1), (4, 3)), ((4, 3), (4, 1)), ((4, 3), (1, 3))]
SHAPES += [((4, 3), (3,)), ((4, 3), (3, 4)), ((4, 3), ()), ((4, 3), (4, 3, 1)), ((4,), (5,))]


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["plain", "jit"])
@pytest.mark.parametrize(("outputs", "targets"), SHAPES, ids=str)
@pytest.mark.parametrize("name", [*EVERY, "weighted_mean"])
def test_refuses_shapes_that_differ(name, outputs, targets, mode):
    loss, y, t = _pair_for(name, outputs, targets)
    wrong = ValueError, f"{name}: expected", "same shape", str(list(outputs)), str(list(targets))
    if name in CLASSIFYING and targets == outputs[:-1]:  # they can only be meant as labels
        wrong = TypeError, f"{name}: expected integer labels. Received: float32{list(targets)}"
    with helpers.refused(*wrong):
        mode(loss)(y, t)


def test_weights_need_the_shape_of_the_values():
    with helpers.refused(ValueError, "weighted_mean: expected", "same shape", "[4, 1]", "[4]"):
        jaxnet.weighted_mean(jnp.ones((4, 1)), np.ones(4, np.float32))


@pytest.mark.parametrize("name", EVERY)
def test_refuses_a_scalar(name):
    loss, y, t = _pair_for(name, (), ())
    with helpers.refused(ValueError, f"{name}: expected", "axis", "Received: a scalar"):
        loss(y, t)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_])
@pytest.mark.parametrize("name", [*EVERY, "weighted_mean"])
def test_refuses_outputs_that_are_not_floating_point(name, dtype):
    loss, y, t = _pair_for(name, (4, 3), (4, 3))
    with helpers.refused(TypeError, f"{name}: expected floating-point", np.dtype(dtype).name):
        loss(y.astype(dtype), t)


@pytest.mark.parametrize(("one", "other"), [("float32", "float64"), ("float64", "float32")])
@pytest.mark.parametrize("name", EVERY)
def test_refuses_to_mix_floating_point_types(name, one, other):
    with jax.enable_x64(True):
        loss, y, t = _pair_for(name, (4, 3), (4, 3))
        y, t = y.astype(one), jnp.asarray(t.astype(other))
        with helpers.refused(TypeError, f"{name}: expected", one, f"Received: {other}"):
            loss(y, t)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_weights_of_any_type_are_used_in_that_of_the_values(dtype):
    with jax.enable_x64(True):
        mean = jaxnet.weighted_mean(jnp.float32([1, 2, 6]), jnp.asarray([1, 3, 0], dtype))
    assert mean == 1.75
    assert mean.dtype == jnp.float32


@pytest.mark.parametrize("make", [jnp.array, np.array, list], ids=["jax", "numpy", "list"])
@pytest.mark.parametrize("label", [-1, CLASSES, CLASSES + 5])
@pytest.mark.parametrize("name", CLASSIFYING)
def test_refuses_labels_out_of_range(name, label, make):
    loss, y, _ = _pair_for(name, (3, CLASSES), ())
    with helpers.refused(
        ValueError, f"{name}: expected labels from 0 to 3", f"Received: {label} at index (1,)"
    ):
        loss(y, make([0, label, 3]))


@pytest.mark.parametrize("name", CLASSIFYING)
def test_takes_the_first_and_the_last_label(name):
    loss, y, _ = _pair_for(name, (2, CLASSES), ())
    assert jnp.isfinite(loss(y, jnp.array([0, CLASSES - 1]))).all()


@pytest.mark.parametrize("name", CLASSIFYING)
def test_labels_are_not_looked_at_under_jit(name):
    loss, y, _ = _pair_for(name, (1, CLASSES), ())
    assert jax.jit(loss)(y, jnp.array([CLASSES])).shape == (1,)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (3, CLASSES)], ids=str)
@pytest.mark.parametrize("name", CLASSIFYING)
def test_refuses_labels_of_another_shape(name, shape):
    """Among them one-hot rows of integers, which could also be labels of a table of examples."""
    loss, y, _ = _pair_for(name, (3, CLASSES), ())
    with helpers.refused(
        ValueError, f"{name}: expected labels of shape [3]", "[3, 4]", f"Received: {list(shape)}"
    ):
        loss(y, np.zeros(shape, int))


def floats_and_objects(values):
    """Labels of types that are no integers, and how the error names them."""
    values = np.asarray(values)
    frame = pandas.DataFrame({"weight": [0.5] * len(values), "kind": values})
    return {
        "float64[3]": values.astype(float),
        "float32[3]": jnp.asarray(values, jnp.float32),
        "float16[3]": values.astype(np.float16),
        "object[3]": values.astype(object),
        "bool[3]": values > 0,
        "datetime64[s][3]": values.astype("M8[s]"),
        "timedelta64[s][3]": values.astype("m8[s]"),
        "float64[3] ": values.astype(float).tolist(),
        "float64[3]  ": pandas.Series(values.astype(float)),
        "object[3] ": pandas.Series(values.astype(object)),
        "float64[3]   ": frame.values[:, 1],
    }


@pytest.mark.parametrize("received", floats_and_objects([0, 1, 2]))
@pytest.mark.parametrize("name", [*CLASSIFYING, "accuracy", "top_k_accuracy", "confusion_matrix"])
def test_refuses_labels_of_another_type_by_its_name(name, received):
    targets = floats_and_objects([0, 1, 2])[received]
    options = {"k": 2} if name == "top_k_accuracy" else {}
    with helpers.refused(TypeError) as caught:
        _loss(name)(jnp.ones([3, CLASSES]), targets, **options)
    assert str(caught.value) == f"{name}: expected integer labels. Received: {received.strip()}"


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, np.nan, "0.1"])
@pytest.mark.parametrize("name", CLASSIFYING)
def test_refuses_label_smoothing_out_of_range(name, smoothing):
    loss, y, t = _pair_for(name, (3, CLASSES), (3, CLASSES))
    with helpers.refused(
        ValueError, f"{name}: expected label_smoothing from 0 to 1", f"Received: {smoothing!r}"
    ):
        loss(y, t, label_smoothing=smoothing)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (3, CLASSES)], ids=str)
@pytest.mark.parametrize("name", CLASSIFYING)
def test_refuses_class_weights_of_another_shape(name, shape):
    loss, y, t = _pair_for(name, (3, CLASSES), (3, CLASSES))
    with helpers.refused(
        ValueError, f"{name}: expected class_weights of shape [4]", f"Received: {list(shape)}"
    ):
        loss(y, t, class_weights=np.ones(shape, np.float32))


@pytest.mark.parametrize(
    "function",
    [
        jaxnet.squared_error,
        jaxnet.mean_squared_error,
        jaxnet.absolute_error,
        jaxnet.sigmoid_binary_cross_entropy,
        jaxnet.binary_accuracy,
    ],
)
def test_targets_of_one_output_need_no_axis_of_their_own(function):
    outputs = jnp.array([[0.3], [-2.0], [0.7]])
    for targets in (jnp.array([1.0, 0.0, 1.0]), np.array([True, False, True])):
        received = function(outputs, targets)
        assert received.shape == (3,)
        np.testing.assert_array_equal(received, function(outputs, jnp.array(targets)[:, None]))
        each = [function(outputs[i : i + 1], targets[i : i + 1]) for i in range(3)]
        np.testing.assert_array_equal(received, np.concatenate(each))
