"""The compiled program of a run: it begins the run, and advances it by any number of epochs.

The program depends on little else than the functions of the run. Small data are padded, so that
data of about the same size share it.

With several keys, a run has as many members: networks that are trained side by side, each until its
own patience is exhausted. Their states have a leading axis of members.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnet.core.sharding import is_placed, put
from jaxnet.fitting.run_data import RunData
from jaxnet.training.evaluation import mean_over
from jaxnet.training.objective import Objective
from jaxnet.training.state import (
    EarlyStopping,
    TrainState,
    count_epochs,
    fingerprint,
    make_state,
    start_task,
)
from jaxnet.training.step import make_inner_step
from jaxnet.training.train import make_epoch

EPOCHS_PER_CALL = 1024  # at most; the program returns so many rows of the history

MEMBERS = "members"
"""The name of the axis of the members within a program, for `jax.lax.pmean`."""


class Plan(NamedTuple):
    """What the compiled program depends on, besides the types of its arguments."""

    objective: Objective
    optimizer: optax.GradientTransformation
    batch_size: int | None
    stopping: EarlyStopping
    is_validated: bool
    batch_sharding: NamedSharding | None = None

    def names(self) -> list[str]:
        """The columns of the history."""
        names = [*self.objective.functions()]
        return names + [f"validation_{name}" for name in names] if self.is_validated else names

    def costs(self) -> list[str]:
        """The columns that must be finite."""
        return ["cost", "validation_cost"] if self.is_validated else ["cost"]

    def cost_columns(self) -> list[int]:
        """Their places among the columns of the history."""
        return [self.names().index(name) for name in self.costs()]


class RunState(NamedTuple):
    """A run between two calls of the compiled program.

    Attributes:
        state: after the last epoch.
        has_begun: whether `state` is that of a run; if not, the program begins the run first.
        ended: whether patience is exhausted, for each member.
    """

    state: TrainState
    has_begun: Bool[Array, ""]
    ended: Bool[Array, "*members"]

    @property
    def has_ended(self) -> bool:
        """Whether the patience of all members is exhausted."""
        return bool(np.asarray(self.ended).all())


def map_members(function: Callable[[Any, RunData], Any]) -> Callable[[Any, RunData], Any]:
    """Maps a function of a member's values and arrays over all members, if there are several."""

    def map_members(values: Any, arrays: RunData) -> Any:
        if arrays.members is None:
            return function(values, arrays)
        axes = None if values is None else 0, arrays.axes()
        return jax.vmap(function, axes, axis_name=MEMBERS)(values, arrays)

    return map_members


def begin(plan: Plan, state: TrainState | None, arrays: RunData) -> RunState:
    """The run before its first epoch, from a state or from the initial one."""

    def begin(state: TrainState | None, arrays: RunData) -> TrainState:
        if state is None:
            state = make_state(plan.objective.network, plan.optimizer, arrays.key)
        number = arrays.fingerprint
        if number is None and arrays.validation is not None:
            number = fingerprint(arrays.data, arrays.validation, plan.batch_size)
        return start_task(state, number, plan.stopping)

    state = map_members(begin)(state, arrays)
    return RunState(state, jnp.ones((), bool), jnp.zeros(arrays.key.shape, bool))


def advance(
    plan: Plan, run: RunState, epochs: ArrayLike, state: TrainState | None, arrays: RunData
) -> tuple[RunState, Float[Array, "epochs metrics *members"], Int[Array, "*members"]]:
    """Begins the run if it has not begun, and advances it.

    Returns:
        The run, the rows of the history, and the number of epochs that each member has made.
    """
    run = jax.lax.cond(run.has_begun, lambda: run, lambda: begin(plan, state, arrays))
    several = arrays.members is not None

    def run_epoch(values: Any, arrays: RunData) -> Any:
        before, ended = values
        batches = arrays.batches(plan.batch_size, plan.batch_sharding)
        patience = plan.stopping.patience
        epoch = make_epoch(
            plan.objective, plan.optimizer, batches, arrays.validation, plan.stopping
        )
        state, metrics = epoch(before)
        if several:  # a member that has ended waits for the others
            state = jax.tree.map(functools.partial(jnp.where, ended), before, state)
        if patience is not None and state.best is not None:
            ended = count_epochs(state, batches) - state.best.epoch >= patience
        return state, ended, jnp.stack([metrics[n].astype(jnp.float32) for n in plan.names()])

    def body(loop: tuple[RunState, Array, Array]) -> tuple[RunState, Array, Array]:
        run, rows, made = loop
        state, ended, row = map_members(run_epoch)((run.state, run.ended), arrays)
        rows = jax.lax.dynamic_update_index_in_dim(rows, row.T, jnp.max(made), axis=0)
        return run._replace(state=state, ended=ended), rows, jnp.where(run.ended, made, made + 1)

    rows = jnp.zeros((EPOCHS_PER_CALL, len(plan.names()), *arrays.key.shape), jnp.float32)
    start = run, rows, jnp.zeros(arrays.key.shape, jnp.int32)
    return jax.lax.while_loop(
        lambda loop: (jnp.max(loop[2]) < epochs) & ~jnp.all(loop[0].ended), body, start
    )


def sample(plan: Plan, state: TrainState | None, arrays: RunData) -> tuple[TrainState, list[Array]]:
    """The start, a step and an evaluation: every call that a run makes of the user's functions."""
    objective = plan.objective

    def sample(start: TrainState, arrays: RunData) -> tuple[TrainState, list[Array]]:
        batches = arrays.batches(plan.batch_size, plan.batch_sharding)
        validation = arrays.validation
        now = objective.at(batches.fraction(start.step))
        step = make_inner_step(now.cost, plan.optimizer)
        after, metrics = step(start, batches.first(), batches.noise_key)
        if validation is not None:
            held_out = mean_over(
                objective.network,
                objective.functions(),
                after.parameters,
                validation,
                sharding=plan.batch_sharding,
            )
            metrics |= {f"validation_{name}": value for name, value in held_out.items()}
        return after, [metrics[name] for name in plan.names()]

    sampled = map_members(sample)(begin(plan, state, arrays).state, arrays)
    return cast("tuple[TrainState, list[Array]]", sampled)


def place_run(run: PyTree, inputs: Array, start: TrainState | None) -> RunState:
    """Copies a run to where an epoch leaves it: a state that is divided among devices stays so.

    From elsewhere, the program would be compiled for both places.
    """
    placed = list(filter(is_placed, jax.tree.leaves((inputs, start))))
    everywhere = inputs.sharding if inputs.committed else None
    if placed:
        everywhere = NamedSharding(placed[0].sharding.mesh, PartitionSpec())
    run = jax.tree.map(lambda leaf: put(leaf, everywhere), run)
    if start is None:
        return run

    def like(tree: PyTree, other: PyTree) -> PyTree:
        return jax.tree.map(lambda a, b: put(a, b.sharding) if is_placed(b) else a, tree, other)

    state = run.state
    parameters = like(state.parameters, start.parameters)
    optimizer_state = like(state.optimizer_state, start.optimizer_state)
    best = state.best
    if best is not None:
        best = best._replace(parameters=like(best.parameters, start.parameters))
    state = state._replace(parameters=parameters, optimizer_state=optimizer_state, best=best)
    return run._replace(state=state)
