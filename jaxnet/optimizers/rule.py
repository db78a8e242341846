"""What the update rules share: their hyperparameters, the checks of gradients, decaying means."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Inexact, Int, PyTree

from jaxnet.core import checks, dtypes, trees

Number = float | Float[Array, ""]
LearningRate = Number | Callable[[Int[Array, ""]], Number]
Parameters: TypeAlias = PyTree[Inexact[Array, "..."]]
Mask: TypeAlias = PyTree[bool] | Callable[[Parameters], PyTree[bool]] | None


def make_optimizer(
    name: str,
    init: Callable[..., Any],
    update: Callable[..., Any],
    *,
    starts: tuple[Any, ...] = (),
    fields: tuple[Any, ...],
) -> optax.GradientTransformation:
    """Makes an optimizer that can be pickled.

    Args:
        name: the name of the optimizer, for messages.
        init: a function of `starts` and the parameters.
        update: a function of `fields` and what `GradientTransformation.update` takes.
        starts, fields: the hyperparameters of the two functions.
    """
    return optax.GradientTransformation(
        checks.bind(name, init, *starts), checks.bind(name, update, *fields)
    )


# Hyperparameters.


def check_rate(name: str, rate: LearningRate) -> LearningRate:
    """Checks a hyperparameter that is a number of at least 0 or a schedule."""
    return rate if callable(rate) else checks.number(name, rate, 0)


def check_decay(name: str, decay: Number) -> None:
    """Checks the decay rate of a mean."""
    checks.number(name, decay, 0, 1, below=True)


def check_dtype(name: str, dtype: DTypeLike | None) -> np.dtype | None:
    """Returns the dtype of a moment, which must be floating-point or complex."""
    if dtype is None:
        return None
    try:
        checked = jax.dtypes.canonicalize_dtype(dtype)
    except TypeError:
        checked = None
    if checked is None or not jnp.issubdtype(checked, jnp.inexact):
        raise checks.InvalidType(
            f"expected a floating-point dtype for {name}. Received: {checks.describe(dtype)}"
        )
    return checked


def value_at(name: str, rate: LearningRate, step: Int[Array, ""]) -> Number:
    """The value of a number or a schedule at a step."""
    value = rate(step) if callable(rate) else rate
    checks.scalar(f"the {name} of a step", value)
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and dtypes.is_integer(value):
        return jnp.asarray(value, jnp.float32)  # since an unsigned integer cannot be negated
    return value


def cast(hyperparameter: ArrayLike, array: Array) -> Array:
    """Casts a hyperparameter to the array's dtype, so that bfloat16 is not promoted to float32."""
    return jnp.asarray(hyperparameter, array.dtype)


# Trees of parameters.


def zeros_like(parameters: Parameters, dtype: DTypeLike | None = None) -> Parameters:
    """Zeros in the shapes of the parameters, in their dtypes or in one."""
    return full_like(parameters, 0, dtype)


def full_like(parameters: Parameters, value: Number, dtype: DTypeLike | None = None) -> Parameters:
    """One value in the shapes of the parameters, in their dtypes or in one."""
    trees.inexact("parameters", parameters)
    return jax.tree.map(
        lambda p: jnp.full_like(p, value, dtype=dtype or jnp.result_type(p)), parameters
    )


def check_gradients(gradients: Parameters, parameters: Parameters) -> None:
    """Checks that gradients have the structure and the shapes of the parameters."""
    trees.inexact("gradients", gradients)
    trees.same_tree("gradients", gradients, "the parameters", parameters, any_precision=True)


def cast_like(tree: Parameters, reference: Parameters) -> Parameters:
    """Casts the leaves of a tree to the dtypes of another tree."""
    return jax.tree.map(lambda leaf, other: leaf.astype(other.dtype), tree, reference)


# Parts of the rules.


def no_steps() -> Int[Array, ""]:
    """The number of steps before the first one."""
    return jnp.zeros((), jnp.int32)


def next_step(step: Int[Array, ""]) -> Int[Array, ""]:
    """`step + 1`, saturated at the largest integer."""
    return jnp.where(step < np.iinfo(step.dtype).max, step + 1, step)


def square(gradients: Parameters) -> Parameters:
    """`|g|**2`."""
    return jax.tree.map(lambda g: (jnp.conj(g) * g).real, gradients)


def widen(a: Array, b: Array) -> tuple[Array, Array]:
    """Casts two arrays to the dtype that JAX promotes them to, also where it is told not to."""
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.promote_types(a.dtype, b.dtype)
    return a.astype(dtype), b.astype(dtype)


def add(a: Array, b: Array) -> Array:
    """`a + b` in the wider of their dtypes."""
    return jnp.add(*widen(a, b))


def update_mean(decay: Number, terms: Parameters, means: Parameters) -> Parameters:
    """`(1 - decay) * term + decay * mean`."""

    def update(term: Array, mean: Array) -> Array:
        return add(cast(1 - decay, term) * term, cast(decay, mean) * mean)

    return jax.tree.map(update, terms, means)


def correct_bias(decay: Number, means: Parameters, t: Int[Array, ""]) -> Parameters:
    """`mean / (1 - decay**t)`, the mean of `t` terms that started at 0."""
    correction = 1 - jax.lax.pow(jnp.asarray(decay), t)
    return jax.tree.map(lambda mean: mean / correction.astype(mean.dtype), means)


def descend(rate: Number, directions: Parameters) -> Parameters:
    """`-rate * directions`."""
    return jax.tree.map(lambda d: cast(-rate, d) * d, directions)


def make_decays(
    weight_decay: Number, mask: Mask, gradients: Parameters, parameters: Parameters | None
) -> PyTree[Number]:
    """A tree like the parameters of their weight decays, 0 where the mask is False."""
    if parameters is None:
        raise checks.InvalidValue("expected update(gradients, state, parameters). Received: None")
    trees.same_tree("gradients", gradients, "the parameters", parameters, any_precision=True)
    mask = mask(parameters) if callable(mask) else True if mask is None else mask
    for leaf in jax.tree.leaves(mask):
        checks.boolean("each leaf of mask", leaf)
    try:
        decays = jax.tree.broadcast(mask, parameters)
    except ValueError:
        raise checks.InvalidValue(
            f"expected a mask like the parameters, or a prefix of them.\n"
            f"Expected: {trees.describe(parameters)}\nReceived: {checks.shorten(str(mask))}"
        ) from None
    return jax.tree.map(lambda decays: weight_decay if decays else 0, decays)


def decay_weights(
    decays: PyTree[Number], directions: Parameters, parameters: Parameters
) -> Parameters:
    """`direction + decay * parameter`; a decay of 0 also keeps the sign of a direction of -0."""

    def decay_weight(decay: Number, direction: Array, parameter: Array) -> Array:
        if isinstance(decay, (int, float)) and decay == 0:
            return direction
        return add(direction, cast(decay, parameter) * parameter)

    return jax.tree.map(decay_weight, decays, directions, parameters)
