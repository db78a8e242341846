"""Failures: in which step of an epoch, and where in it, the first value was not finite.

`fit` only sees after a stretch of epochs that a cost or a parameter is NaN or infinite, often long
after what caused it. The epoch is made again here, one step at a time, and the step that fails is
looked into.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int, Key, PyTree

from jaxnet.core import compilation
from jaxnet.debug.nonfinite import NonFinite, find_nonfinite
from jaxnet.nn.losses import Loss
from jaxnet.nn.network import Network
from jaxnet.training.data import Data
from jaxnet.training.evaluation import EXAMPLES_AT_A_TIME
from jaxnet.training.train import TrainState, epochs_done, make_batches, make_step


class NonFiniteStep(NamedTuple):
    """Where the first value that is not finite appeared.

    Attributes:
        state: before that step, all finite.
        step: how many steps had been made before it.
        batch: which rows of the data the step was made with, or, for validation, which rows were
            evaluated.
        rows: those of them for which the value was not finite, where that is known.
        part: "data" or "validation".
        nonfinite: the quantity, the layer and the value.
    """

    state: TrainState
    step: int
    batch: Int[np.ndarray, " batch"]
    rows: Int[np.ndarray, " rows"]
    part: str
    nonfinite: NonFinite

    def __str__(self) -> str:
        """One or two sentences."""
        when = f"in step {self.step}, counting from 0" if self.part == "data" else "in validation"
        rows = f", for rows {_listed(self.rows)} of the {self.part}" if len(self.rows) else ""
        origin = self.nonfinite._replace(rows=())  # whose are those of the batch
        return f"The first value that is not finite appeared {when}{rows}: {origin}"


def first_failure(
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    *,
    data: Data,
    batch_size: int | None,
    validation: Data | None,
    key: Key[Array, ""],
) -> NonFiniteStep | None:
    """The first failure in the epoch that begins with that state; None if there is none."""
    batches = make_batches(data, key=key, batch_size=batch_size)
    all_rows, all_real = jax.jit(batches.rows)(epochs_done(state, data, batch_size))
    if batches.steps == 1:
        all_rows = jnp.arange(len(data.inputs))[None]
    for rows, real in zip(all_rows, all_real, strict=True):
        batch = batches.taken(rows, real)
        arguments = state, batch, batches.noise_key
        step = compilation.compile_once(_step, (network, loss, optimizer), arguments)
        following, metrics = step(*arguments)
        if not is_finite((metrics["cost"], following.parameters)):
            origin = find_nonfinite(network, loss, optimizer, state, batch, batches.noise_key)
            return origin and _failure(state, np.asarray(rows)[np.asarray(real)], "data", origin)
        state = following
    if validation is None:
        return None
    for start in range(0, len(validation.inputs), EXAMPLES_AT_A_TIME):
        chunk = np.arange(len(validation.inputs))[start : start + EXAMPLES_AT_A_TIME]
        part = jax.tree.map(lambda array, chunk=chunk: array[chunk], validation)
        origin = find_nonfinite(network, loss, optimizer, state, part)
        if origin:
            return _failure(state, chunk, "validation", origin)
    return None


def _step(
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Data,
    key: Key[Array, ""],
) -> tuple[TrainState, dict[str, Array]]:
    return make_step(network, loss, optimizer)(state, batch, key)


def _failure(state: TrainState, batch: np.ndarray, part: str, origin: NonFinite) -> NonFiniteStep:
    rows = np.array([batch[i] for i in origin.rows if i < len(batch)], int)
    return NonFiniteStep(state, int(state.step), batch, rows, part, origin)


def is_finite(tree: PyTree) -> bool:
    """Whether all numbers in a tree of arrays are."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if any(device.platform != "cpu" for leaf in floats for device in leaf.devices()):
        return bool(_are_finite(floats))
    return all(bool(np.isfinite(leaf).all()) for leaf in floats)  # in place, nothing compiled


@jax.jit
def _are_finite(leaves: list[Array]) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def _listed(rows: Any) -> str:
    return str(rows.tolist()) if len(rows) <= 8 else f"{str(rows[:8].tolist())[:-1]}, ...]"
