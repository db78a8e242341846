"""Metrics: the quality of a network's outputs.

Metrics of single examples have the form of losses, one number per example, so that `weighted_mean`
averages both. Metrics of a whole set start from its confusion matrix, which is a sum over examples:
the matrices of two parts of a set add up to that of the set.

An example with NaN among its outputs has no largest output. It counts as wrong, whatever its label.
scikit-learn raises an error for NaN.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Integer

from jaxnet.core import arrays, checks, dtypes
from jaxnet.nn.losses import Targets, labels_or_distributions, one_hot_mask
from jaxnet.nn.precision import narrow, widen


@checks.door
def accuracy(
    outputs: Float[Array, "*batch classes"],
    targets: Integer[ArrayLike, "*batch"] | Float[ArrayLike, "*batch classes"],
) -> Float[Array, "*batch"]:
    """1 for each example whose largest output is that of its label, else 0.

    Args:
        outputs: `[batch, classes]`, logits or probabilities. Among equal ones the first counts.
        targets: labels `[batch]`, or distributions `[batch, classes]`; the label of a distribution
            is the class with the highest probability.

    Raises:
        ValueError: shapes that do not match or, outside `jit`, a label out of range.

    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1]))
    Array([1., 0.], dtype=float32)
    """
    outputs, labels = _take_labels(outputs, targets)
    right = (_largest(outputs).astype(labels.dtype) == labels) & ~_has_nan(outputs)
    return right.astype(outputs.dtype)


@checks.door
def top_k_accuracy(
    outputs: Float[Array, "*batch classes"],
    targets: Integer[ArrayLike, "*batch"] | Float[ArrayLike, "*batch classes"],
    *,
    k: int,
) -> Float[Array, "*batch"]:
    """1 for each example whose label is among the classes of the `k` largest outputs, else 0.

    Among equal outputs the lower index comes first, as in `accuracy`, which is the case `k = 1`.

    Args:
        outputs, targets: as in `accuracy`.
        k: from 1 to the number of classes.

    >>> top_k_accuracy(jnp.array([[0.5, 0.3, 0.2]]), jnp.array([1]), k=2)
    Array([1.], dtype=float32)
    """
    outputs = _check_classes(outputs)
    classes = outputs.shape[-1]
    k = checks.integer("k", k, 1, classes)
    outputs, labels = _take_labels(outputs, targets)
    chosen = one_hot_mask(labels, classes)
    label_output = jnp.max(outputs, -1, keepdims=True, where=chosen, initial=-jnp.inf)
    before_label = ~jnp.cumulative_sum(chosen, axis=-1, dtype=bool)
    ahead = (outputs > label_output) | ((outputs == label_output) & before_label)
    right = (jnp.sum(ahead, -1) < k) & ~_has_nan(outputs)
    return right.astype(outputs.dtype)


@checks.door
def binary_accuracy(
    outputs: Float[Array, "batch *outputs"],
    targets: Targets,
    *,
    threshold: float = 0.0,
) -> Float[Array, " batch"]:
    """The fraction of each example's binary outputs that agree with their targets.

    Args:
        outputs: `[batch, ...]`, logits or probabilities.
        targets: of the same shape; a target above 0.5 is positive.
        threshold: an output above it is positive. Use 0 for logits and 0.5 for probabilities.

    >>> binary_accuracy(jnp.array([[2.0], [-1.0]]), jnp.array([[1], [1]]))
    Array([1., 0.], dtype=float32)
    """
    threshold = checks.number("threshold", threshold)
    outputs, targets = arrays.pair(outputs, targets)
    known = ~jnp.isnan(outputs) & ~jnp.isnan(targets)
    right = ((outputs > threshold) == (targets > 0.5)) & known
    return jnp.mean(right, tuple(range(1, outputs.ndim)), dtype=outputs.dtype)


@checks.door
def confusion_matrix(
    outputs: Float[Array, "batch classes"], targets: Integer[ArrayLike, " batch"]
) -> Int[Array, "classes classes"]:
    """The number of examples of each class (rows) that were predicted as each class (columns).

    Matrices of parts of a set add up to the matrix of the set. An example with NaN among its
    outputs has no predicted class: it raises an error, and under `jit` it is left out.

    Args:
        outputs: `[batch, classes]`, logits or probabilities.
        targets: labels `[batch]`.

    Raises:
        ValueError: shapes that do not match and, outside `jit`, NaN among the outputs or a label
            out of range.

    >>> confusion_matrix(jnp.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), jnp.array([1, 1, 0]))
    Array([[0, 1],
           [1, 1]], dtype=int32)
    """
    outputs = _check_classes(outputs)
    if dtypes.is_concrete(outputs) and (unknown := np.isnan(np.asarray(outputs)).any(-1)).any():
        raise checks.InvalidValue(
            "expected outputs without NaN, in which none is the largest. "
            f"Received: nan in row {int(np.argmax(unknown))}"
        )
    outputs, labels = _take_labels(outputs, targets)
    classes = outputs.shape[-1]
    counted = (labels >= 0) & (labels < classes) & ~_has_nan(outputs)
    cells = jnp.where(counted, classes * labels.astype(jnp.int32) + _largest(outputs), classes**2)
    cells = cells.ravel()
    return jnp.bincount(cells, length=classes**2).reshape(classes, classes)


@runtime_checkable
class Metric(Protocol):
    """A value of each example, whose weighted mean is reported; a function that JAX can trace."""

    def __call__(self, outputs: Array, targets: Array, /) -> Float[Array, " batch"]:
        """Returns one floating-point number per example, from `outputs [batch, ...]`."""
        ...


class ClassScores(NamedTuple):
    """Precision, recall and F1 of every class, `[classes]` each."""

    precision: Float[Array, " classes"]
    recall: Float[Array, " classes"]
    f1: Float[Array, " classes"]


@checks.door
def class_scores(confusion: Int[ArrayLike, "classes classes"]) -> ClassScores:
    """Precision, recall and their harmonic mean F1 for every class of a confusion matrix.

    Precision is the fraction of the examples predicted as a class that belong to it, and recall the
    fraction of the examples of a class that are predicted as it. A fraction of no examples is 0, as
    in scikit-learn.

    >>> class_scores(jnp.array([[0, 1], [1, 1]])).recall
    Array([0. , 0.5], dtype=float32)
    """
    received = confusion
    confusion = arrays.numbers("confusion", received)
    if not jnp.issubdtype(confusion.dtype, jnp.integer):
        raise checks.InvalidType(
            "expected a confusion matrix of integers, the numbers of examples. "
            f"Received: {checks.describe(received)}"
        )
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise checks.InvalidValue(
            f"expected a square confusion matrix. Received: {checks.describe(confusion)}"
        )
    arrays.within("confusion", confusion, 0)
    confusion = jnp.asarray(confusion)
    hits = jnp.diagonal(confusion)
    predicted, actual = jnp.sum(confusion, 0), jnp.sum(confusion, 1)
    return ClassScores(
        precision=_divide(hits, predicted),
        recall=_divide(hits, actual),
        f1=_divide(2 * hits, predicted + actual),
    )


@checks.door
def r_squared(
    outputs: Float[Array, "batch *outputs"], targets: Targets
) -> Float[Array, "*outputs"]:
    """The coefficient of determination of every output over a whole set.

    `1 - sum (targets - outputs)**2 / sum (targets - mean(targets))**2`: 1 is perfect, 0 no better
    than the mean. Constant targets give 1 if every output is right, else -inf; scikit-learn gives 0
    instead of -inf.

    Args:
        outputs: `[batch, ...]`, floating-point.
        targets: of the same shape and dtype.

    >>> r_squared(jnp.array([1.0, 2.0, 2.0]), jnp.array([1.0, 2.0, 3.0]))
    Array(0.5, dtype=float32)
    """
    outputs, targets = arrays.pair(outputs, targets)
    dtype, outputs, targets = outputs.dtype, widen(outputs), widen(targets)
    residual = jnp.sum(jnp.square(targets - outputs), 0)
    mean = jnp.broadcast_to(jnp.mean(targets, 0, keepdims=True), targets.shape)
    total = jnp.sum(jnp.square(targets - mean), 0)
    share = jnp.where(residual == 0, 0, residual / jnp.where(residual == 0, 1, total))
    return narrow(1 - share, dtype)


def _largest(outputs: Array) -> Int[Array, "*batch"]:
    return jnp.argmax(outputs, -1).astype(jnp.int32)


def _has_nan(outputs: Array) -> Bool[Array, "*batch"]:
    """Which rows contain NaN and have no largest number."""
    return jnp.isnan(outputs).any(-1)


def _divide(
    part: Int[Array, " classes"], whole: Int[Array, " classes"]
) -> Float[Array, " classes"]:
    return part.astype(jnp.float32) / jnp.maximum(whole, 1).astype(jnp.float32)


def _check_classes(outputs: Array) -> Float[Array, "*batch classes"]:
    outputs = arrays.floating("outputs", outputs)
    if outputs.ndim == 0:
        raise checks.InvalidValue("expected outputs with a class axis. Received: a scalar")
    return outputs


def _take_labels(outputs: Array, targets: ArrayLike) -> tuple[Array, Array]:
    """Checks outputs, and converts targets to labels; -1 for a distribution with NaN."""
    outputs = _check_classes(outputs)
    labels = labels_or_distributions(targets, outputs)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return outputs, jnp.where(_has_nan(labels), -1, _largest(labels))
    return outputs, labels
