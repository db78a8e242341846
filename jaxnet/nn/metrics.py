"""Metrics: how good outputs are, in numbers that a person reads.

Those of single examples have the form of losses, one number per example, so that `weighted_mean`
averages both. Those of a whole set start from its confusion matrix, which is a sum over examples:
the matrices of two halves add up to that of the whole.

An example with NaN among its outputs has no largest output, so it counts as wrong, whatever its
label. scikit-learn refuses NaN.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Integer

from jaxnet.core import arrays, checks, dtypes
from jaxnet.nn.losses import labels_or_distributions, one_hot_mask
from jaxnet.nn.precision import narrowed, widened


@checks.door
def accuracy(
    outputs: Float[Array, "*batch classes"],
    targets: Integer[ArrayLike, "*batch"] | Float[ArrayLike, "*batch classes"],
) -> Float[Array, "*batch"]:
    """1 for each example whose largest output is that of its label, else 0.

    Args:
        outputs: `[batch, classes]`, logits or probabilities; of equal ones the first counts.
        targets: labels `[batch]`, or distributions `[batch, classes]`, whose label is the class of
            the highest probability.

    Raises:
        ValueError: shapes that do not match, or a label out of range, outside `jit`.

    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1]))
    Array([1., 0.], dtype=float32)
    """
    outputs, labels = _classified(outputs, targets)
    right = (_largest(outputs).astype(labels.dtype) == labels) & ~_is_unknown(outputs)
    return right.astype(outputs.dtype)


@checks.door
def top_k_accuracy(
    outputs: Float[Array, "*batch classes"],
    targets: Integer[ArrayLike, "*batch"] | Float[ArrayLike, "*batch classes"],
    *,
    k: int,
) -> Float[Array, "*batch"]:
    """1 for each example whose label is among the classes of the `k` largest outputs, else 0.

    Of equal outputs those of lower index come first, as in `accuracy`, which is the case `k = 1`.

    >>> top_k_accuracy(jnp.array([[0.5, 0.3, 0.2]]), jnp.array([1]), k=2)
    Array([1.], dtype=float32)
    """
    outputs = _of_classes(outputs)
    classes = outputs.shape[-1]
    k = checks.integer("k", k, 1, classes)
    outputs, labels = _classified(outputs, targets)
    chosen = one_hot_mask(labels, classes)
    label_output = jnp.max(outputs, -1, keepdims=True, where=chosen, initial=-jnp.inf)
    before_label = ~jnp.cumulative_sum(chosen, axis=-1, dtype=bool)
    ahead = (outputs > label_output) | ((outputs == label_output) & before_label)
    right = (jnp.sum(ahead, -1) < k) & ~_is_unknown(outputs)
    return right.astype(outputs.dtype)


@checks.door
def binary_accuracy(
    outputs: Float[Array, "batch *outputs"],
    targets: Integer[ArrayLike, "batch *outputs"] | Float[ArrayLike, "batch *outputs"],
    *,
    threshold: float = 0.0,
) -> Float[Array, " batch"]:
    """The share of each example's yes-or-no outputs that are on the side of their targets.

    An output above `threshold` says yes: 0 for logits, 0.5 for probabilities. A target above 0.5
    means yes.

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
    """How many examples of each class (rows) were taken for each class (columns).

    Matrices of parts of a set add up to that of the set. An example with NaN among its outputs is
    taken for no class, so it is refused; under `jit`, where that is not known, it is left out.

    Raises:
        ValueError: shapes that do not match and, outside `jit`, NaN among the outputs or a label
            out of range.

    >>> confusion_matrix(jnp.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), jnp.array([1, 1, 0]))
    Array([[0, 1],
           [1, 1]], dtype=int32)
    """
    outputs = _of_classes(outputs)
    if dtypes.is_concrete(outputs) and (unknown := np.isnan(np.asarray(outputs)).any(-1)).any():
        raise checks.InvalidValue(
            "expected outputs without NaN, in which none is the largest. "
            f"Received: nan in row {int(np.argmax(unknown))}"
        )
    outputs, labels = _classified(outputs, targets)
    classes = outputs.shape[-1]
    counted = (labels >= 0) & (labels < classes) & ~_is_unknown(outputs)
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

    Precision is the share of the examples taken for a class that are of it; recall the share of the
    examples of a class that were taken for it. A share of nothing is 0, as in scikit-learn.

    >>> class_scores(jnp.array([[0, 1], [1, 1]])).recall
    Array([0. , 0.5], dtype=float32)
    """
    received = confusion
    confusion = arrays.numbers("confusion", received)
    if not jnp.issubdtype(confusion.dtype, jnp.integer):
        raise checks.InvalidType(
            "expected a confusion matrix of integers, how many examples there are. "
            f"Received: {checks.describe(received)}"
        )
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise checks.InvalidValue(
            f"expected a square confusion matrix. Received: {checks.describe(confusion)}"
        )
    arrays.within("confusion", confusion, 0)
    confusion = jnp.asarray(confusion)
    hits = jnp.diagonal(confusion)
    taken, actual = jnp.sum(confusion, 0), jnp.sum(confusion, 1)
    return ClassScores(
        precision=_share(hits, taken),
        recall=_share(hits, actual),
        f1=_share(2 * hits, taken + actual),
    )


@checks.door
def r_squared(
    outputs: Float[Array, "batch *outputs"], targets: Float[ArrayLike, "batch *outputs"]
) -> Float[Array, "*outputs"]:
    """The coefficient of determination of every output over a whole set.

    `1 - sum (targets - outputs)**2 / sum (targets - mean(targets))**2`: 1 is perfect, 0 no better
    than the mean. Targets that are all the same give 1 if every output is right, else -inf;
    scikit-learn gives 0 in place of -inf.

    >>> r_squared(jnp.array([1.0, 2.0, 2.0]), jnp.array([1.0, 2.0, 3.0]))
    Array(0.5, dtype=float32)
    """
    outputs, targets = arrays.pair(outputs, targets)
    dtype, outputs, targets = outputs.dtype, widened(outputs), widened(targets)
    residual = jnp.sum(jnp.square(targets - outputs), 0)
    mean = jnp.broadcast_to(jnp.mean(targets, 0, keepdims=True), targets.shape)
    total = jnp.sum(jnp.square(targets - mean), 0)
    share = jnp.where(residual == 0, 0, residual / jnp.where(residual == 0, 1, total))
    return narrowed(1 - share, dtype)


def _largest(outputs: Array) -> Int[Array, "*batch"]:
    return jnp.argmax(outputs, -1).astype(jnp.int32)


def _is_unknown(outputs: Array) -> Bool[Array, "*batch"]:
    """Of which rows the largest number is not known, as one of them is NaN."""
    return jnp.isnan(outputs).any(-1)


def _share(part: Int[Array, " classes"], whole: Int[Array, " classes"]) -> Float[Array, " classes"]:
    return part.astype(jnp.float32) / jnp.maximum(whole, 1).astype(jnp.float32)


def _of_classes(outputs: Array) -> Float[Array, "*batch classes"]:
    outputs = arrays.floating("outputs", outputs)
    if outputs.ndim == 0:
        raise checks.InvalidValue("expected outputs with a class axis. Received: a scalar")
    return outputs


def _classified(outputs: Array, targets: ArrayLike) -> tuple[Array, Array]:
    """Outputs and the labels of their rows."""
    outputs = _of_classes(outputs)
    labels = labels_or_distributions(targets, outputs)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return outputs, jnp.where(_is_unknown(labels), -1, _largest(labels))
    return outputs, labels
