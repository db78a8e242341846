"""The loss of each example, and the weighted mean of the losses, the cost.

A loss takes outputs and targets whose leading axis is the batch, and returns one number per
example. Shapes must match and are never broadcast: `(n,)` against `(n, 1)` would silently give an
`n` by `n` table.

Half precision is computed in float32. A loss or a derivative that exceeds the largest number of its
dtype becomes that number.
"""

import functools
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer, Num

from jaxnet.core import arrays, checks, dtypes
from jaxnet.nn import activations
from jaxnet.nn.precision import (
    exponent_bits,
    largest,
    narrow,
    power_of_two,
    saturate,
    widen,
)
from jaxnet.nn.softmax import log_softmax


@runtime_checkable
class Loss(Protocol):
    """The loss of each example, a function that JAX can trace and differentiate."""

    def __call__(self, outputs: Array, targets: Array, /) -> Float[Array, " batch"]:
        """Returns one floating-point number per example, from `outputs [batch, ...]`."""
        ...


Outputs = Float[Array, "batch *outputs"]
Targets = (
    Num[ArrayLike, "batch *outputs"]
    | Bool[ArrayLike, "batch *outputs"]
    | Num[ArrayLike, " batch"]  # of one output
    | Bool[ArrayLike, " batch"]
)
Smoothing = float | Float[ArrayLike, ""]
Classes = Float[Array, "*batch classes"]
Labels = Integer[ArrayLike, "*batch"] | Float[ArrayLike, "*batch classes"]


@checks.door
def weighted_mean(
    values: Float[ArrayLike, "..."], weights: Num[ArrayLike, "..."] | None = None
) -> Float[Array, ""]:
    """The weighted mean, `sum(weights * values) / sum(weights)`.

    Args:
        values: losses or metrics, one per example.
        weights: non-negative, of the same shape and any dtype; `None` for equal weights. A value of
            weight 0 does not count, even if it is infinite or NaN; its gradient may still be NaN.
            If all weights are 0, the mean is 0. Only the ratios of the weights matter; the largest
            weight may be as small as the smallest float32.

    No sum overflows: the mean of finite values is finite, and so is its gradient.

    Raises:
        ValueError: the shapes differ, or a weight is negative or non-finite. The values of the
            weights are not checked under `jit`.

    >>> float(weighted_mean(jnp.array([1.0, 2.0, 6.0]), jnp.array([1.0, 1.0, 0.0])))
    1.5
    """
    values = arrays.floating("values", values)
    if weights is not None:
        weights = arrays.numbers("weights", weights)
        arrays.same_shape("weights", weights, "values", values)
        arrays.within("weights", weights, 0)
        weights = relative_weights(jnp.asarray(weights).astype(widen(values).dtype))
        values = _ignore_unweighted(values, weights)
    largest_value = jax.lax.stop_gradient(jnp.max(jnp.abs(values), initial=0))
    scale = jnp.where(largest_value > 2.0**64, 2.0**-64, 1.0).astype(values.dtype)
    return plain_mean(values * scale, weights) / scale


def _ignore_unweighted(
    values: Float[Array, "..."], weights: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Replaces values of weight 0, which may be infinite, by 0."""
    return jnp.where(weights == 0, 0, values)


def plain_mean(values: Float[Array, "..."], weights: Array | None) -> Float[Array, ""]:
    """The weighted mean by its formula, for values and weights whose sums are finite."""
    dtype, values = values.dtype, widen(values)
    if weights is None:
        return jnp.mean(values).astype(dtype)
    weights = weights.astype(values.dtype)
    return narrow(jnp.sum(weights * _ignore_unweighted(values, weights)) / _divisor(weights), dtype)


def _divisor(weights: Float[Array, "..."]) -> Float[Array, ""]:
    """The sum of the weights, or 1 if they are all 0."""
    total = jnp.sum(weights)
    return jnp.where(total == 0, 1, total)


def relative_weights(weights: Float[Array, "..."]) -> Float[Array, "..."]:
    """Scales weights by a power of two that brings the largest near 1, so that no sum overflows.

    The scaling is exact, so a weighted mean does not change. XLA flushes subnormal weights to 0.
    They are multiples of the smallest number, so they are scaled as the integers in their bits.
    """
    info = jnp.finfo(weights.dtype)
    exponent = 2 * (info.maxexp - 1) - exponent_bits(jnp.max(weights, initial=0))
    exponent = jnp.maximum(exponent, 1)  # of the power, which must not be subnormal
    smallest = power_of_two(jnp.maximum(exponent - (info.nmant - info.minexp), 0), weights.dtype)
    multiples = jax.lax.bitcast_convert_type(weights, exponent.dtype)
    is_subnormal = (multiples > 0) & (multiples < 2**info.nmant)
    scaled = weights * power_of_two(exponent, weights.dtype)
    return jnp.where(is_subnormal, multiples.astype(weights.dtype) * smallest, scaled)


# Regression.


@checks.door
def squared_error(outputs: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The squared error of each example, `sum_k (outputs_k - targets_k)**2`.

    `mean_squared_error` averages over the outputs instead.

    Args:
        outputs: `[batch, ...]`, floating-point.
        targets: of the same shape and dtype; integers and booleans are converted.

    Raises:
        ValueError: the shapes differ.
        TypeError: outputs that are not floating-point, or targets of another floating-point dtype.

    >>> squared_error(jnp.array([[0.12, 0.88, 0.0001]]), jnp.array([[1.0, 0.0, 0.0]]))
    Array([1.5488], dtype=float32)
    """
    outputs, targets = arrays.pair(outputs, targets)
    return _sum_outputs(_squares(outputs, targets), outputs.dtype)


@checks.door
def mean_squared_error(outputs: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The squared error of each example, averaged over its outputs.

    The mean over a batch is PyTorch's `MSELoss` and Keras' `mean_squared_error`.

    Args:
        outputs: `[batch, ...]`, floating-point.
        targets: of the same shape and dtype; integers and booleans are converted.

    >>> mean_squared_error(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.0]]))
    Array([2.], dtype=float32)
    """
    outputs, targets = arrays.pair(outputs, targets)
    return _mean_outputs(_squares(outputs, targets), outputs.dtype)


@checks.door
def absolute_error(outputs: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The absolute error of each example, `sum_k |outputs_k - targets_k|`.

    The gradient at 0 is 0.

    Args:
        outputs: `[batch, ...]`, floating-point.
        targets: of the same shape and dtype; integers and booleans are converted.

    >>> absolute_error(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.0]]))
    Array([2.], dtype=float32)
    """
    outputs, targets = arrays.pair(outputs, targets)
    return _sum_outputs(_absolute(_errors(outputs, targets)), outputs.dtype)


@checks.door
def mean_absolute_error(outputs: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The absolute error of each example, averaged over its outputs.

    Args:
        outputs: `[batch, ...]`, floating-point.
        targets: of the same shape and dtype; integers and booleans are converted.

    >>> mean_absolute_error(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.0]]))
    Array([1.], dtype=float32)
    """
    outputs, targets = arrays.pair(outputs, targets)
    return _mean_outputs(_absolute(_errors(outputs, targets)), outputs.dtype)


@checks.door
def huber(
    outputs: Outputs, targets: Targets, *, delta: Float[ArrayLike, ""] = 1.0
) -> Float[Array, " batch"]:
    """Huber's loss: quadratic for errors up to `delta`, linear beyond, summed over the outputs.

    `error**2 / 2` where `|error| <= delta`, else `delta * (|error| - delta / 2)`.

    Args:
        outputs: `[batch, ...]`, floating-point.
        targets: of the same shape and dtype; integers and booleans are converted.
        delta: at least 0.

    Reference: Huber, Robust estimation of a location parameter, 1964.

    >>> huber(jnp.array([[0.5], [3.0]]), jnp.array([[0.0], [0.0]]))
    Array([0.125, 2.5  ], dtype=float32)
    """
    delta = checks.number("delta", delta, 0)
    outputs, targets = arrays.pair(outputs, targets)
    size = jnp.abs(_errors(outputs, targets))
    small = size <= delta
    quadratic = jnp.square(jnp.where(small, size, 0)) / 2
    linear = delta * (size - delta / 2)
    return _sum_outputs(jnp.where(small, quadratic, linear), outputs.dtype)


# Classification.


@checks.door
def cross_entropy(
    probabilities: Classes,
    targets: Labels,
    *,
    label_smoothing: Smoothing = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
) -> Float[Array, "*batch"]:
    """The cross-entropy of each example, `-sum_k targets_k * log(probabilities_k)`.

    This is the loss of a network whose last activation is softmax. For logits use
    `softmax_cross_entropy`, which is accurate for probabilities near 0 and 1 too.

    Args:
        probabilities: `[batch, classes]`. A probability of exactly 0 adds nothing if its target is
            0, and infinity otherwise.
        targets, label_smoothing, class_weights: as in `softmax_cross_entropy`.

    >>> cross_entropy(jnp.array([[0.12, 0.88, 0.0]]), jnp.array([0]))
    Array([2.1203], dtype=float32)
    """
    probabilities = arrays.floating("probabilities", probabilities)
    expected = _class_targets(probabilities, targets, label_smoothing, class_weights)
    dtype, probabilities = probabilities.dtype, widen(probabilities)
    terms = _times_log(expected.astype(probabilities.dtype), probabilities, dtype)
    return narrow(-jnp.sum(terms, -1), dtype)


@checks.door
def softmax_cross_entropy(
    logits: Classes,
    targets: Labels,
    *,
    label_smoothing: Smoothing = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
) -> Float[Array, "*batch"]:
    """The cross-entropy of each example, `-sum_k targets_k * log_softmax(logits)_k`.

    Args:
        logits: `[batch, classes]`, any real numbers; -inf for an impossible class.
        targets: either labels, integers from 0 to classes - 1 of shape `[batch]`, or
            distributions, `[batch, classes]`.
        label_smoothing: a number from 0 to 1, which may be traced; the share of each target that
            is distributed evenly over the classes.
        class_weights: `[classes]`, non-negative; the term of each class is multiplied by its
            weight. A mean of these losses divides by the number of examples. PyTorch divides by the
            sum of the examples' class weights, which is
            `weighted_mean(unweighted_losses, class_weights[labels])` here.

    Raises:
        ValueError: shapes that do not match, a `label_smoothing` outside [0, 1], or a label out of
            range. The values of labels are not checked under `jit`.
        TypeError: logits that are not floating-point, or floating-point labels.

    >>> softmax_cross_entropy(jnp.array([[34.0, 32.0, 25.0]]), jnp.array([1]))
    Array([2.127], dtype=float32)

    The loss of a confident, correct prediction keeps its digits. In PyTorch and optax the loss and
    the gradient become 0 once the logit of the label exceeds the others by 17.

    >>> print(f"{softmax_cross_entropy(jnp.array([[40.0, 0.0]]), jnp.array([0]))[0]:.4g}")
    4.248e-18
    """
    logits = arrays.floating("logits", logits)
    expected = _class_targets(logits, targets, label_smoothing, class_weights)
    dtype, logits = logits.dtype, _widen_logits(logits)
    if expected.dtype == bool:
        return narrow(_label_cross_entropy(logits, expected), dtype)
    log_probabilities = log_softmax(logits)
    terms = expected * jnp.where(expected == 0, 0, log_probabilities)
    return narrow(-jnp.sum(terms, -1), dtype)


@checks.door
def binary_cross_entropy(probabilities: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The binary cross-entropy of each example, summed over its outputs.

    `-targets * log(probabilities) - (1 - targets) * log(1 - probabilities)`. This is the loss of a
    network whose last activation is the sigmoid. For logits use `sigmoid_binary_cross_entropy`.

    Args:
        probabilities: `[batch, ...]`, from 0 to 1.
        targets: of the same shape; 0, 1 or a probability in between.

    >>> binary_cross_entropy(jnp.array([0.8, 0.8]), jnp.array([1, 0]))
    Array([0.2231, 1.6094], dtype=float32)
    """
    probabilities, targets = _check_binary(probabilities, targets)
    dtype, probabilities, targets = probabilities.dtype, widen(probabilities), widen(targets)
    complements = jnp.where(targets == 1, 0, probabilities)
    positive = _times_log(targets, probabilities, dtype)
    return -_sum_outputs(positive + (1 - targets) * jnp.log1p(-complements), dtype)


@checks.door
def sigmoid_binary_cross_entropy(logits: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The binary cross-entropy of each example's logits, summed over its outputs.

    `targets * softplus(-logits) + (1 - targets) * softplus(logits)`. optax's function of this name
    does not sum.

    Args:
        logits: `[batch, ...]`, any real numbers.
        targets: of the same shape; 0, 1 or a probability in between.

    >>> sigmoid_binary_cross_entropy(jnp.array([2.0, 2.0]), jnp.array([1, 0]))
    Array([0.1269, 2.1269], dtype=float32)
    """
    logits, targets = _check_binary(logits, targets)
    dtype, logits, targets = logits.dtype, widen(logits), widen(targets)
    yes, no = activations.softplus(-logits), activations.softplus(logits)
    return _sum_outputs(targets * yes + (1 - targets) * no, dtype)


@jax.custom_jvp
def _label_cross_entropy(
    logits: Classes, is_label: Bool[Array, "*batch classes"]
) -> Float[Array, "*batch"]:
    top, _, others = _margins(logits, is_label)
    loss = top + jnp.log1p(others + jnp.expm1(-top))
    return jnp.squeeze(jnp.where(top == jnp.inf, jnp.inf, loss), -1)


@_label_cross_entropy.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
    logits, is_label = primals
    top, exponentials, others = _margins(logits, is_label)
    gradient = jnp.where(is_label, -others, exponentials) / (others + jnp.exp(-top))
    return _label_cross_entropy(*primals), jnp.sum(gradient * tangents[0], -1)


def _margins(
    logits: Classes, is_label: Bool[Array, "*batch classes"]
) -> tuple[Float[Array, "*batch 1"], Classes, Float[Array, "*batch 1"]]:
    """The margins of the other logits over the label's: the largest, exponentials, their sum.

    The largest is at least 0, and the exponentials are relative to it. The label's own exponential
    is left out of the sum, in which the others would be rounded away.
    """
    label_logit = jnp.sum(jnp.where(is_label, logits, 0), -1, keepdims=True)
    margins = jnp.where(is_label, -jnp.inf, logits - label_logit)
    top = jax.lax.stop_gradient(jnp.max(margins, -1, keepdims=True, initial=0))
    exponentials = jnp.exp(margins - top)
    return top, exponentials, jnp.sum(exponentials, -1, keepdims=True)


def _check_binary(outputs: Outputs, targets: Targets) -> tuple[Array, Array]:
    """Checks outputs and targets, and that concrete targets are from 0 to 1."""
    targets = arrays.numbers("targets", targets)
    arrays.within("targets", targets, 0, 1)
    return arrays.pair(outputs, targets)


def _times_log(targets: Array, probabilities: Array, dtype: Any) -> Array:
    """`targets * log(probabilities)`; 0 where the target is 0, even if the probability is 0."""
    counted = jnp.where(targets == 0, 1, probabilities)
    if dtype == counted.dtype:
        return targets * jnp.log(counted)
    return _times_bounded_log(targets, counted, largest(dtype))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _times_bounded_log(targets: Array, x: Array, steepest: float) -> Array:
    """`targets * log(x)`, with a derivative in x of at most `steepest`."""
    return targets * jnp.log(x)


@_times_bounded_log.defjvp
def _(
    steepest: float, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (targets, x), (change, tangent) = primals, tangents
    slope = jnp.minimum(targets / x, steepest)
    return targets * jnp.log(x), change * jnp.log(x) + tangent * slope


def _errors(outputs: Array, targets: Array, most: float = 1.0) -> Array:
    """`outputs - targets`; half precision in float32, up to `most` times its largest number."""
    errors = widen(outputs) - widen(targets)
    if errors.dtype == outputs.dtype:
        return errors
    return saturate(errors, most * largest(outputs.dtype))


def _squares(outputs: Array, targets: Array) -> Array:
    """The squared errors; their derivative is twice the error."""
    return jnp.square(_errors(outputs, targets, 1 / 2))


def _widen_logits(logits: Array) -> Array:
    """Half precision as float32, limited so that differences of logits are finite."""
    wide = widen(logits)
    return wide if wide.dtype == logits.dtype else saturate(wide, largest(wide.dtype) / 2)


def _absolute(errors: Array) -> Array:
    """`|errors|` with gradient 0 at 0; the gradient of `jnp.abs` is 1 there."""
    return jnp.where(errors == 0, 0, jnp.abs(errors))


def _sum_outputs(losses: Outputs, dtype: Any) -> Float[Array, " batch"]:
    return narrow(jnp.sum(losses, tuple(range(1, losses.ndim))), dtype)


def _mean_outputs(losses: Outputs, dtype: Any) -> Float[Array, " batch"]:
    return narrow(jnp.mean(losses, tuple(range(1, losses.ndim))), dtype)


def one_hot_mask(labels: Integer[Array, "*batch"], classes: int) -> Bool[Array, "*batch classes"]:
    """One-hot labels as a boolean mask."""
    index = jax.lax.broadcasted_iota(labels.dtype, (*labels.shape, classes), labels.ndim)
    return index == jnp.expand_dims(labels, -1)


def _class_targets(
    outputs: Array,
    targets: ArrayLike,
    label_smoothing: Smoothing,
    class_weights: ArrayLike | None,
) -> Array:
    """Converts targets to a distribution over the classes, or to a boolean mask for plain labels.

    Distributions for outputs of half precision are float32.
    """
    if outputs.ndim == 0:
        raise checks.InvalidValue("expected outputs with a class axis. Received: a scalar")
    try:
        smoothing = checks.number("label_smoothing", label_smoothing, 0, 1)
    except (TypeError, ValueError):
        raise checks.InvalidValue(
            f"expected label_smoothing from 0 to 1. Received: {label_smoothing!r}"
        ) from None
    classes, dtype = outputs.shape[-1], widen(outputs).dtype
    if class_weights is not None:
        class_weights = arrays.numbers("class_weights", class_weights)
        if class_weights.shape != (classes,):
            raise checks.InvalidValue(
                f"expected class_weights of shape [{classes}]. "
                f"Received: {list(class_weights.shape)}"
            )
        arrays.within("class_weights", class_weights, 0)
    expected = labels_or_distributions(targets, outputs)
    if jnp.issubdtype(expected.dtype, jnp.integer):
        expected = one_hot_mask(expected, classes)
    else:
        expected = widen(expected)
    if not dtypes.is_concrete(smoothing) or smoothing != 0:
        if isinstance(smoothing, jax.Array):
            smoothing = smoothing.astype(dtype)
        expected = (1 - smoothing) * expected.astype(dtype) + smoothing / classes
    if class_weights is not None:
        weights = jnp.asarray(class_weights, dtype)
        expected = expected.astype(dtype) * jnp.broadcast_to(weights, outputs.shape)
    return expected


def labels_or_distributions(
    targets: ArrayLike, outputs: Array
) -> Integer[Array, "*batch"] | Float[Array, "*batch classes"]:
    """Converts targets to integer labels, or to distributions in the dtype of the outputs.

    Floating-point numbers, one for each row of `outputs [*batch, classes]`, are labels of the wrong
    type.
    """
    array = arrays.as_array("targets", targets)
    meant = dtypes.is_integer(array) or array.shape == outputs.shape[:-1]
    if meant or not dtypes.is_real(array):
        return arrays.labels(targets, outputs)
    name = "targets, if they are no integer labels,"
    return arrays.like(name, targets, "outputs", outputs)
