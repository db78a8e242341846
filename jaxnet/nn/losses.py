"""Losses: how wrong each example's outputs are, and the weighted mean that makes a cost of them.

A loss takes outputs and targets whose leading axis is the batch, and returns one number per
example. Nothing is broadcast: shapes that do not match are refused, since `(n,)` against `(n, 1)`
would otherwise be an `n` by `n` table, averaged without a word.

Half precision is computed in float32. A loss beyond its largest number becomes that number, and so
does a derivative.
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
    narrowed,
    power_of_two,
    saturate,
    widened,
)
from jaxnet.nn.softmax import log_softmax


@runtime_checkable
class Loss(Protocol):
    """The loss of each example, a function that JAX can trace and differentiate."""

    def __call__(self, outputs: Array, targets: Array, /) -> Float[Array, " batch"]:
        """Returns one floating-point number per example, from `outputs [batch, ...]`."""
        ...


Outputs = Float[Array, "batch *outputs"]
Targets = Num[ArrayLike, "batch *outputs"] | Bool[ArrayLike, "batch *outputs"]
Smoothing = float | Float[ArrayLike, ""]
Classes = Float[Array, "*batch classes"]
Labels = Integer[ArrayLike, "*batch"] | Float[ArrayLike, "*batch classes"]


@checks.door
def weighted_mean(
    values: Float[ArrayLike, "..."], weights: Num[ArrayLike, "..."] | None = None
) -> Float[Array, ""]:
    """The mean of `values` weighted by `weights`: `sum(weights * values) / sum(weights)`.

    Args:
        values: losses or metrics, one per example.
        weights: of the same shape and any dtype, not negative; `None`: equal ones. A value of
            weight 0 does not count, even if it is infinite or NaN (though what it was computed
            from may still have a NaN gradient), and if all weights are 0 the mean is 0. What counts
            is their size relative to the largest, which may be as small as a float32 can be.

    No sum overflows on the way: the mean of finite values is finite, and so is its gradient.

    Raises:
        ValueError: the shapes differ, or a weight is negative or not finite (where the weights
            are known, that is outside `jit`).

    >>> float(weighted_mean(jnp.array([1.0, 2.0, 6.0]), jnp.array([1.0, 1.0, 0.0])))
    1.5
    """
    values = arrays.floating("values", values)
    if weights is not None:
        weights = arrays.numbers("weights", weights)
        arrays.same_shape("weights", weights, "values", values)
        arrays.within("weights", weights, 0)
        weights = relative_weights(jnp.asarray(weights).astype(widened(values).dtype))
        values = _counted(values, weights)
    largest_value = jax.lax.stop_gradient(jnp.max(jnp.abs(values), initial=0))
    scale = jnp.where(largest_value > 2.0**64, 2.0**-64, 1.0).astype(values.dtype)
    return plain_mean(values * scale, weights) / scale


def _counted(values: Float[Array, "..."], weights: Float[Array, "..."]) -> Float[Array, "..."]:
    """The values, but 0 in place of those of weight 0, which may be infinite."""
    return jnp.where(weights == 0, 0, values)


def plain_mean(values: Float[Array, "..."], weights: Array | None) -> Float[Array, ""]:
    """The mean by its formula alone, for values and weights whose sums are finite."""
    dtype, values = values.dtype, widened(values)
    if weights is None:
        return jnp.mean(values).astype(dtype)
    weights = weights.astype(values.dtype)
    return narrowed(jnp.sum(weights * _counted(values, weights)) / _divisor(weights), dtype)


def _divisor(weights: Float[Array, "..."]) -> Float[Array, ""]:
    """The sum of the weights, or 1 where they are all 0."""
    total = jnp.sum(weights)
    return jnp.where(total == 0, 1, total)


def relative_weights(weights: Float[Array, "..."]) -> Float[Array, "..."]:
    """Weights times a power of two that brings the largest near 1, so that no sum overflows.

    That is exact, so a mean weighted by them is the same. Subnormal weights, which XLA takes for 0,
    are multiples of the smallest number, and their bits are those multiples.
    """
    info = jnp.finfo(weights.dtype)
    exponent = 2 * (info.maxexp - 1) - exponent_bits(jnp.max(weights, initial=0))
    exponent = jnp.maximum(exponent, 1)  # that of the power, which is itself not subnormal
    smallest = power_of_two(jnp.maximum(exponent - (info.nmant - info.minexp), 0), weights.dtype)
    multiples = jax.lax.bitcast_convert_type(weights, exponent.dtype)
    is_subnormal = (multiples > 0) & (multiples < 2**info.nmant)
    scaled = weights * power_of_two(exponent, weights.dtype)
    return jnp.where(is_subnormal, multiples.astype(weights.dtype) * smallest, scaled)


# Regression.


@checks.door
def squared_error(outputs: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The squared error of each example, `sum_k (outputs_k - targets_k)**2`.

    The mean over the outputs instead of their sum is `mean_squared_error`.

    Raises:
        ValueError: the shapes differ. Likewise for every loss of this module.
        TypeError: outputs that are not floating-point, or targets of another floating-point type.

    >>> squared_error(jnp.array([[0.12, 0.88, 0.0001]]), jnp.array([[1.0, 0.0, 0.0]]))
    Array([1.5488], dtype=float32)
    """
    outputs, targets = arrays.pair(outputs, targets)
    return _sum_outputs(_squares(outputs, targets), outputs.dtype)


@checks.door
def mean_squared_error(outputs: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The squared error of each example, averaged over its outputs.

    This, averaged over a batch, is PyTorch's `MSELoss` and Keras' `mean_squared_error`.

    >>> mean_squared_error(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.0]]))
    Array([2.], dtype=float32)
    """
    outputs, targets = arrays.pair(outputs, targets)
    return _mean_outputs(_squares(outputs, targets), outputs.dtype)


@checks.door
def absolute_error(outputs: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The absolute error of each example, `sum_k |outputs_k - targets_k|`; gradient 0 at 0.

    >>> absolute_error(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.0]]))
    Array([2.], dtype=float32)
    """
    outputs, targets = arrays.pair(outputs, targets)
    return _sum_outputs(_absolute(_errors(outputs, targets)), outputs.dtype)


@checks.door
def mean_absolute_error(outputs: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The absolute error of each example, averaged over its outputs.

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

    For a network whose last activation is softmax. If its outputs are logits, use
    `softmax_cross_entropy`, which is accurate for probabilities near 0 and 1 too. The arguments
    are those of `softmax_cross_entropy`, but for probabilities in place of logits.

    A probability of exactly 0 costs nothing where its target is 0, and infinity elsewhere.

    >>> cross_entropy(jnp.array([[0.12, 0.88, 0.0]]), jnp.array([0]))
    Array([2.1203], dtype=float32)
    """
    probabilities = arrays.floating("probabilities", probabilities)
    expected = _class_targets(probabilities, targets, label_smoothing, class_weights)
    dtype, probabilities = probabilities.dtype, widened(probabilities)
    terms = _times_log(expected.astype(probabilities.dtype), probabilities, dtype)
    return narrowed(-jnp.sum(terms, -1), dtype)


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
        logits: `[batch, classes]`, any real numbers; -inf for a class that cannot be.
        targets: either labels, integers from 0 to classes - 1 of shape `[batch]`, or
            distributions, `[batch, classes]`.
        label_smoothing: a number from 0 to 1, which may be traced; the share of each target that
            is spread evenly over the classes.
        class_weights: `[classes]`; every class's term is multiplied by its weight. The mean of
            that divides by the number of examples; PyTorch's divides by the sum of the weights
            of their classes: `weighted_mean(unweighted losses, class_weights[labels])`.

    Raises:
        ValueError: shapes that do not match, a label out of range (where the labels are known,
            that is outside `jit`), a `label_smoothing` outside of [0, 1].
        TypeError: logits that are not floating-point, or labels that are.

    >>> softmax_cross_entropy(jnp.array([[34.0, 32.0, 25.0]]), jnp.array([1]))
    Array([2.127], dtype=float32)

    The loss of an example that is classified with certainty keeps its digits; in PyTorch and
    optax the loss and gradient become 0 once the label's logit leads by 17.

    >>> print(f"{softmax_cross_entropy(jnp.array([[40.0, 0.0]]), jnp.array([0]))[0]:.4g}")
    4.248e-18
    """
    logits = arrays.floating("logits", logits)
    expected = _class_targets(logits, targets, label_smoothing, class_weights)
    dtype, logits = logits.dtype, _widened_logits(logits)
    if expected.dtype == bool:
        return narrowed(_label_cross_entropy(logits, expected), dtype)
    log_probabilities = log_softmax(logits)
    terms = expected * jnp.where(expected == 0, 0, log_probabilities)
    return narrowed(-jnp.sum(terms, -1), dtype)


@checks.door
def binary_cross_entropy(probabilities: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The cross-entropy of each example's yes-or-no outputs, summed over them.

    `-targets * log(probabilities) - (1 - targets) * log(1 - probabilities)`, for a network whose
    last activation is the sigmoid. If its outputs are logits, use `sigmoid_binary_cross_entropy`.

    >>> binary_cross_entropy(jnp.array([0.8, 0.8]), jnp.array([1, 0]))
    Array([0.2231, 1.6094], dtype=float32)
    """
    probabilities, targets = _yes_or_no(probabilities, targets)
    dtype, probabilities, targets = probabilities.dtype, widened(probabilities), widened(targets)
    complements = jnp.where(targets == 1, 0, probabilities)
    positive = _times_log(targets, probabilities, dtype)
    return -_sum_outputs(positive + (1 - targets) * jnp.log1p(-complements), dtype)


@checks.door
def sigmoid_binary_cross_entropy(logits: Outputs, targets: Targets) -> Float[Array, " batch"]:
    """The cross-entropy of each example's yes-or-no logits, summed over them.

    `targets * softplus(-logits) + (1 - targets) * softplus(logits)`; targets are 0, 1 or a
    probability between. optax's function of this name does not sum.

    >>> sigmoid_binary_cross_entropy(jnp.array([2.0, 2.0]), jnp.array([1, 0]))
    Array([0.1269, 2.1269], dtype=float32)
    """
    logits, targets = _yes_or_no(logits, targets)
    dtype, logits, targets = logits.dtype, widened(logits), widened(targets)
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
    """The other logits less the label's: the largest (at least 0), all exponentials relative to it.

    The label's own exponential is left out of their sum, in which they would be rounded away.
    """
    label_logit = jnp.sum(jnp.where(is_label, logits, 0), -1, keepdims=True)
    margins = jnp.where(is_label, -jnp.inf, logits - label_logit)
    top = jax.lax.stop_gradient(jnp.max(margins, -1, keepdims=True, initial=0))
    exponentials = jnp.exp(margins - top)
    return top, exponentials, jnp.sum(exponentials, -1, keepdims=True)


def _yes_or_no(outputs: Outputs, targets: Targets) -> tuple[Array, Array]:
    """Outputs and targets, which must be from 0 to 1 where they are known."""
    targets = arrays.numbers("targets", targets)
    arrays.within("targets", targets, 0, 1)
    return arrays.pair(outputs, targets)


def _times_log(targets: Array, probabilities: Array, dtype: Any) -> Array:
    """`targets * log(probabilities)`, and 0 where the target is 0, also at a probability of 0."""
    counted = jnp.where(targets == 0, 1, probabilities)
    if dtype == counted.dtype:
        return targets * jnp.log(counted)
    return _times_gentle_log(targets, counted, largest(dtype))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _times_gentle_log(targets: Array, x: Array, steepest: float) -> Array:
    """`targets * log(x)`, whose derivative in x is at most the steepest."""
    return targets * jnp.log(x)


@_times_gentle_log.defjvp
def _(
    steepest: float, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (targets, x), (change, tangent) = primals, tangents
    slope = jnp.minimum(targets / x, steepest)
    return targets * jnp.log(x), change * jnp.log(x) + tangent * slope


def _errors(outputs: Array, targets: Array, most: float = 1.0) -> Array:
    """`outputs - targets`; of half precision in float32, up to `most` times its largest number."""
    errors = widened(outputs) - widened(targets)
    if errors.dtype == outputs.dtype:
        return errors
    return saturate(errors, most * largest(outputs.dtype))


def _squares(outputs: Array, targets: Array) -> Array:
    """The squared errors, whose derivative is twice the error."""
    return jnp.square(_errors(outputs, targets, 1 / 2))


def _widened_logits(logits: Array) -> Array:
    """Half precision as float32, no further out than where differences of them are finite."""
    wide = widened(logits)
    return wide if wide.dtype == logits.dtype else saturate(wide, largest(wide.dtype) / 2)


def _absolute(errors: Array) -> Array:
    """`|errors|`, with gradient 0 at 0, where that of `jnp.abs` is 1."""
    return jnp.where(errors == 0, 0, jnp.abs(errors))


def _sum_outputs(losses: Outputs, dtype: Any) -> Float[Array, " batch"]:
    return narrowed(jnp.sum(losses, tuple(range(1, losses.ndim))), dtype)


def _mean_outputs(losses: Outputs, dtype: Any) -> Float[Array, " batch"]:
    return narrowed(jnp.mean(losses, tuple(range(1, losses.ndim))), dtype)


def one_hot_mask(labels: Integer[Array, "*batch"], classes: int) -> Bool[Array, "*batch classes"]:
    """Whether each class is the label: one-hot, as a mask."""
    index = jax.lax.broadcasted_iota(labels.dtype, (*labels.shape, classes), labels.ndim)
    return index == jnp.expand_dims(labels, -1)


def _class_targets(
    outputs: Array,
    targets: ArrayLike,
    label_smoothing: Smoothing,
    class_weights: ArrayLike | None,
) -> Array:
    """Targets as a distribution over the classes, or as a boolean mask if they are plain labels.

    Distributions for outputs of half precision are of float32.
    """
    if outputs.ndim == 0:
        raise checks.InvalidValue("expected outputs with a class axis. Received: a scalar")
    try:
        smoothing = checks.number("label_smoothing", label_smoothing, 0, 1)
    except (TypeError, ValueError):
        raise checks.InvalidValue(
            f"expected label_smoothing from 0 to 1. Received: {label_smoothing!r}"
        ) from None
    classes, dtype = outputs.shape[-1], widened(outputs).dtype
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
        expected = widened(expected)
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
    """Targets as integer labels, or as distributions in the dtype of `outputs [*batch, classes]`.

    Floating-point numbers, one for each row of the outputs, are labels of the wrong type.
    """
    array = arrays.as_array("targets", targets)
    meant = dtypes.is_integer(array) or array.shape == outputs.shape[:-1]
    if meant or not dtypes.is_real(array):
        return arrays.labels(targets, outputs)
    name = "targets, if they are no integer labels,"
    return arrays.like(name, targets, "outputs", outputs)
