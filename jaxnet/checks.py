"""Checks of arguments: every error says what was expected, what was received, and of what.

What is known of an array while it is traced, its shape and dtype, is checked there; what depends on
its values is checked where they are at hand, and passed over under `jit`.
"""

import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def describe(value: Any) -> str:
    """What was received, in short: dtype and shape of an array, type and text of anything else."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def is_concrete(value: Any) -> bool:
    """Whether the values are at hand, not traced by `jit`, `vmap` or `grad`."""
    return not isinstance(value, jax.core.Tracer)


def as_array(value: Any) -> jax.Array | np.ndarray:
    """An array, with shape and dtype: lists and numbers become NumPy's, JAX's stay as they are."""
    return value if isinstance(value, jax.Array) else np.asarray(value)


def floating(function: str, name: str, value: Any) -> jax.Array:
    """`value` as an array, which must be floating-point."""
    value = as_array(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{function}: expected floating-point {name}. Received: {describe(value)}")
    return jnp.asarray(value)


def like(
    function: str, name: str, value: Any, reference_name: str, reference: jax.Array
) -> jax.Array:
    """`value` as an array of the shape and dtype of `reference`; only integers are converted."""
    value = jnp.asarray(value)
    if value.shape != reference.shape:
        raise ValueError(
            f"{function}: expected {name} of the same shape as {reference_name}, "
            f"{list(reference.shape)}. Received: {list(value.shape)}"
        )
    if jnp.issubdtype(value.dtype, jnp.floating) and value.dtype != reference.dtype:
        raise TypeError(
            f"{function}: expected {name} of the same dtype as {reference_name}, "
            f"{reference.dtype}. Received: {value.dtype}"
        )
    return value.astype(reference.dtype)


def pair(function: str, outputs: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
    """Outputs and targets as arrays of one shape and dtype, with a batch axis."""
    outputs = floating(function, "outputs", outputs)
    if outputs.ndim == 0:
        raise ValueError(f"{function}: expected outputs with a batch axis. Received: a scalar")
    return outputs, like(function, "targets", targets, "outputs", outputs)


def labels(function: str, targets: Any, outputs: jax.Array) -> jax.Array:
    """Integer targets, one for each row of `outputs [*batch, classes]`, within 0 to classes - 1."""
    classes, targets = outputs.shape[-1], as_array(targets)
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"{function}: expected integer labels. Received: {describe(targets)}")
    if targets.shape != outputs.shape[:-1]:
        raise ValueError(
            f"{function}: expected labels of shape {list(outputs.shape[:-1])} for outputs of shape "
            f"{list(outputs.shape)}. Received: {list(targets.shape)}"
        )
    if is_concrete(targets):
        values = np.asarray(targets)
        wrong = (values < 0) | (values >= classes)
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"{function}: expected labels from 0 to {classes - 1}, as there are {classes} "
                f"outputs. Received: {values[index]} at index {index}"
            )
    return jnp.asarray(targets)


def number(
    function: str, name: str, value: Any, low: float, high: float = math.inf, *, below: bool = False
) -> None:
    """A real number from `low` to `high`, or `below` that; of a traced one only the type."""
    known = isinstance(value, (int, float, np.generic, np.ndarray, jax.Array))
    kinds = (jnp.floating, jnp.integer)
    real = known and any(jnp.issubdtype(jnp.result_type(value), kind) for kind in kinds)
    if not real or np.ndim(value) != 0:
        raise TypeError(f"{function}: expected a number for {name}. Received: {describe(value)}")
    if not is_concrete(value):
        return
    fits = low <= value < high if below else low <= value <= high
    if not fits or not math.isfinite(value):
        end = "" if high == math.inf else f" and {'below' if below else 'at most'} {high:g}"
        raise ValueError(
            f"{function}: expected a finite {name} of at least {low:g}{end}. Received: {value}"
        )


def whole_number(function: str, name: str, value: Any, low: int, high: int | None = None) -> None:
    """A Python or NumPy integer from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{function}: expected an integer for {name}. Received: {describe(value)}")
    if value < low or (high is not None and value > high):
        end = "" if high is None else f" and at most {high}"
        raise ValueError(f"{function}: expected {name} of at least {low}{end}. Received: {value}")


def path(function: str, name: str, value: Any) -> None:
    """Where a file or a folder is; a number would be that of an open file."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(
            f"{function}: expected {name} as a string or a pathlib.Path. "
            f"Received: {describe(value)}"
        )


def key(function: str, value: Any) -> None:
    """A single typed key, as made by `jax.random.key`."""
    typed = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not typed or value.ndim != 0:
        raise TypeError(
            f"{function}: expected one key made by jax.random.key(seed). "
            f"Received: {describe(value)}"
        )


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths.

    >>> named_leaves({"layers": [1.0, {"scale": 2.0}]})
    {'layers/0': 1.0, 'layers/1/scale': 2.0}
    """
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}


def same_tree(function: str, name: str, tree: Any, reference_name: str, reference: Any) -> None:
    """Two trees of arrays of the same structure, shapes and dtypes."""
    if _types(tree) == _types(reference):
        return
    outlines = [
        {path: _outline(leaf) for path, leaf in named_leaves(t).items()} for t in (tree, reference)
    ]
    difference = _first_difference(*outlines) or "the containers differ"
    raise ValueError(
        f"{function}: expected {name} that match {reference_name}, but {difference}.\n"
        f"Expected: {_outline(reference)}\nReceived: {_outline(tree)}"
    )


def _types(tree: Any) -> tuple[Any, list[Any]]:
    leaves, containers = jax.tree.flatten(tree)
    return containers, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]


def _first_difference(received: dict[str, str], expected: dict[str, str]) -> str | None:
    for path in [*expected, *received]:
        if path not in received:
            return f"{path!r} is missing"
        if path not in expected:
            return f"{path!r} is not expected"
        if received[path] != expected[path]:
            return f"{path!r} is {received[path]} in place of {expected[path]}"
    return None


def _outline(tree: Any) -> str:
    """The tree's structure, with `dtype[shape]` for every leaf."""
    shapes = jax.tree.map(
        lambda leaf: _Shape(f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"), tree
    )
    return str(shapes)


class _Shape(str):
    """A string that prints without quotation marks."""

    __repr__ = str.__str__
