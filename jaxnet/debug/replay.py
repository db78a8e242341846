"""Replays an epoch step by step, to find the step in which a value became non-finite.

`fit` notices only after several epochs that a cost or a parameter is NaN or infinite, often long
after the cause. The epoch is replayed here, and the step that fails is examined.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Int, Key

from jaxnet.core import compilation
from jaxnet.core.finite import is_finite
from jaxnet.debug.nonfinite import NonFinite, find_in_step
from jaxnet.training.batches import Batches, BlockBatches
from jaxnet.training.data import Data
from jaxnet.training.objective import Objective, scale_weights
from jaxnet.training.state import TrainState, count_epochs
from jaxnet.training.step import make_inner_step


class NonFiniteStep(NamedTuple):
    """The step in which the first non-finite value appeared.

    Attributes:
        state: before the step; all its values are finite.
        step: the number of steps made before it.
        batch: the rows of the data in the step's batch or, for validation, the rows evaluated.
        rows: those of them whose value was non-finite, where that is known.
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
        """Describes the value in one or two sentences."""
        when = f"in step {self.step}, counting from 0" if self.part == "data" else "in validation"
        rows = f", for rows {_list(self.rows)} of the {self.part}" if len(self.rows) else ""
        value = self.nonfinite._replace(rows=())  # its rows are those of the batch
        return f"The first non-finite value appeared {when}{rows}: {value}"


def find_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batches: Batches | BlockBatches,
    validation: Iterable[tuple[Int[np.ndarray, " rows"], Data]],
) -> NonFiniteStep | None:
    """Finds the first step with a non-finite value in the epoch that begins with a state.

    Args:
        objective, optimizer: those of the run.
        state: at the start of the epoch.
        batches: those of the run, with scaled weights.
        validation: the rows and examples of the validation data, some at a time.

    Returns:
        None if there is no such step.
    """
    epoch = count_epochs(state, batches)
    all_rows, all_real = jax.jit(batches.rows)(epoch)
    noise_key = batches.noise_key
    for rows, real in zip(all_rows, all_real, strict=True):
        if not np.asarray(real).any():  # the block of a stream is not full
            break
        batch = batches.take(rows, real)
        arguments = state, batch, noise_key
        now = objective.at(batches.fraction(state.step))
        step = compilation.compile_once(_step, (now, optimizer), arguments)
        following, metrics = step(*arguments)
        if not is_finite((metrics["cost"], following.parameters)):
            found = find_in_step(now, optimizer, *arguments)
            return found and _describe(state, np.asarray(rows)[np.asarray(real)], "data", found)
        state = following
    for rows, part in validation:
        found = find_in_step(objective, optimizer, state, part, None)
        if found:
            return _describe(state, rows, "validation", found)
    return None


def _step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Data,
    key: Key[Array, ""],
) -> tuple[TrainState, dict[str, Array]]:
    return make_inner_step(objective.cost, optimizer)(state, scale_weights(batch), key)


def _describe(
    state: TrainState, batch: np.ndarray, part: str, nonfinite: NonFinite
) -> NonFiniteStep:
    rows = np.array([batch[i] for i in nonfinite.rows if i < len(batch)], int)
    return NonFiniteStep(state, int(state.step), batch, rows, part, nonfinite)


def _list(rows: Any) -> str:
    return str(rows.tolist()) if len(rows) <= 8 else f"{str(rows[:8].tolist())[:-1]}, ...]"
