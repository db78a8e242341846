"""Advances a run by several epochs per call of one compiled program.

Between two calls a run is a `RunState`, a tree of arrays. The host can read it, save it, and
continue from it with the same bits.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnet.core import compilation, programs, tracing, trees
from jaxnet.core.finite import is_finite
from jaxnet.debug.replay import NonFiniteStep, find_step
from jaxnet.nn.metrics import Metric
from jaxnet.training.batches import Batches
from jaxnet.training.data import Data
from jaxnet.training.evaluation import mean_over
from jaxnet.training.objective import Objective, scale_weights
from jaxnet.training.state import TrainState, count_epochs, make_state, start_task
from jaxnet.training.step import make_inner_step
from jaxnet.training.train import check_run, make_epoch

History = dict[str, np.ndarray]


class Plan(NamedTuple):
    """What the compiled programs depend on, besides the types of their arguments."""

    objective: Objective
    optimizer: optax.GradientTransformation
    batch_size: int | None
    patience: int | None
    epochs: int
    is_validated: bool

    def names(self) -> list[str]:
        """The columns of the history."""
        names = [*self.objective.functions()]
        return names + [f"validation_{name}" for name in names] if self.is_validated else names

    def costs(self) -> list[str]:
        """The columns that must be finite."""
        return ["cost", "validation_cost"] if self.is_validated else ["cost"]


class RunState(NamedTuple):
    """A run between two calls of the compiled program.

    Attributes:
        state: after the last epoch.
        history: a row for every epoch of the plan, filled up to the last one.
        done: the number of epochs.
        ended: whether patience is exhausted.
    """

    state: TrainState
    history: Float[Array, "epochs metrics"]
    done: Int[Array, ""]
    ended: Bool[Array, ""]


class Snapshot(NamedTuple):
    """A run as the host reads it, copied from the device once.

    Attributes:
        names: the columns of the history.
        rows: the history of the epochs so far.
        ended: whether patience is exhausted.
    """

    names: list[str]
    rows: Float[np.ndarray, "epochs metrics"]
    ended: bool

    @property
    def epoch(self) -> int:
        """The number of epochs so far."""
        return len(self.rows)

    def history(self) -> History:
        """The columns by name."""
        return {name: self.rows[:, i].copy() for i, name in enumerate(self.names)}

    def metrics(self) -> dict[str, float]:
        """The last row by name."""
        return dict(zip(self.names, map(float, self.rows[-1]), strict=True))


class Trainer(NamedTuple):
    """A plan and its data: all that a run needs, and nothing that changes.

    Attributes:
        plan: what the compiled programs depend on.
        data, validation: with scaled weights.
        key: the key of the run.
        state: the state from which the run starts, or None.
        functions: the identity of the user's functions, as `compilation.compile_once` takes it.
    """

    plan: Plan
    data: Data
    validation: Data | None
    key: Key[Array, ""]
    state: TrainState | None
    functions: Hashable = None

    def start(self) -> RunState:
        """The run before its first epoch."""
        # The data are an argument, used or not, so that the run is placed where the data are, as
        # it is after an epoch. Otherwise `_advance` would be compiled for each of the two places.
        program = compilation.compile_once(
            _start, (self.plan,), self._arguments, identity=self.functions, keep_unused=True
        )
        return program(*self._arguments)

    def compile_advance(self, run: RunState) -> Callable[[RunState, int], RunState]:
        """Makes `advance(run, until)`, which runs until that epoch or until patience is exhausted.

        Args:
            run: a run of the types that will be advanced.
        """
        data = self.data, self.validation, self.key
        program = compilation.compile_once(
            _advance, (self.plan,), (run, 0, *data), identity=self.functions
        )
        return lambda run, until: program(run, until, *data)

    def read(self, run: RunState) -> Snapshot:
        """Copies the history of a run to the host."""
        rows = np.asarray(run.history)[: int(run.done)]
        return Snapshot(self.plan.names(), rows, bool(run.ended))

    def is_finite(self, run: RunState, snapshot: Snapshot) -> bool:
        """Whether every cost in the snapshot of a run and every parameter is finite."""
        columns = [snapshot.names.index(name) for name in self.plan.costs()]
        costs = snapshot.rows[:, columns]
        return bool(np.isfinite(costs).all()) and is_finite(run.state.parameters)

    def find_failure(self, state: TrainState) -> NonFiniteStep | None:
        """Replays the epoch that begins with a state, up to the step that fails."""
        plan = self.plan
        batches = Batches(self.data, self.key, plan.batch_size)
        return find_step(plan.objective, plan.optimizer, state, batches, self.validation)

    def fingerprints(self) -> dict[str, programs.Fingerprint]:
        """The programs of a run by what they compute; the optimizer's contains the others."""
        functions = self.plan.objective.functions()

        def apply(parameters: PyTree, data: Data, key: Key[Array, ""]) -> Array:
            batches = Batches(data, key, self.plan.batch_size)
            network, inputs = self.plan.objective.network, batches.first().inputs
            return network.apply(parameters, inputs, key=batches.noise_key)

        def evaluate(function: Metric, outputs: Array, data: Data, key: Key[Array, ""]) -> Array:
            return function(outputs, Batches(data, key, self.plan.batch_size).first().targets)

        start = tracing.trace(functools.partial(_start, self.plan), *self._arguments)
        run: RunState = start.out_info
        applied = tracing.trace(apply, run.state.parameters, self.data, self.key)
        evaluated = {
            "loss" if name == "cost" else f"metrics/{name}": tracing.trace(
                functools.partial(evaluate, function), applied.out_info, self.data, self.key
            )
            for name, function in functions.items()
        }
        step = tracing.trace(functools.partial(_sample, self.plan), *self._arguments)
        traced = {"network": applied, **evaluated, "initial state": start, "optimizer": step}
        return {
            name: programs.fingerprint_jaxpr(program.jaxpr.jaxpr, program.jaxpr.consts)
            for name, program in traced.items()
        }

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self.key, self.data, self.validation, self.state


def make_trainer(
    plan: Plan,
    data: Data,
    validation: Data | None,
    key: Key[Array, ""],
    state: TrainState | None,
    given: tuple[Any, Any],
) -> Trainer:
    """Traces what a run calls of the user's functions, and raises an error if it does not fit.

    The result for functions, types and ranges of targets that passed before is remembered.

    Args:
        plan, data, validation, key, state: the parts of a run.
        given: data and validation as the caller passed them, for error messages.
    """
    data = scale_weights(data)
    validation = None if validation is None else scale_weights(validation)
    arguments = key, data, validation, state
    try:
        identity = compilation.identify(_sample, (plan,), arguments)
    except Exception:  # `check_run` says what is wrong
        identity = None
    targets = [np.asarray(part.targets) for part in (data, validation) if part is not None]
    ranges = tuple((float(t.min()), float(t.max())) for t in targets if t.size)
    call = identity, compilation.settings(), trees.types((data, validation, state)), ranges
    if identity is None or call not in _passed:
        check_run(plan.objective, plan.optimizer, data, validation, key, state, given)
        if len(_passed) >= _REMEMBERED:
            _passed.clear()
        _passed.add(call)
    return Trainer(plan, data, validation, key, state, identity)


_passed: set[Any] = set()
_REMEMBERED = 256  # calls


# The programs.


def _start(
    plan: Plan,
    key: Key[Array, ""],
    data: Data,
    validation: Data | None,
    state: TrainState | None,
) -> RunState:
    if state is None:
        state = make_state(plan.objective.network, plan.optimizer, key)
    state = start_task(state, data, validation, plan.batch_size)
    history = jnp.zeros((plan.epochs, len(plan.names())), jnp.float32)
    return RunState(state, history, jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def _advance(
    plan: Plan,
    run: RunState,
    until: ArrayLike,
    data: Data,
    validation: Data | None,
    key: Key[Array, ""],
) -> RunState:
    batches = Batches(data, key, plan.batch_size)
    epoch = make_epoch(plan.objective, plan.optimizer, batches, validation)

    def body(run: RunState) -> RunState:
        state, metrics = epoch(run.state)
        row = jnp.stack([metrics[name].astype(jnp.float32) for name in plan.names()])
        ended = run.ended
        if plan.patience is not None and state.best is not None:
            epochs = count_epochs(state, len(data.inputs), plan.batch_size)
            ended = epochs - state.best.epoch >= plan.patience
        history = jax.lax.dynamic_update_index_in_dim(run.history, row, run.done, axis=0)
        return RunState(state, history, run.done + 1, ended)

    return jax.lax.while_loop(lambda run: (run.done < until) & ~run.ended, body, run)


def _sample(
    plan: Plan,
    key: Key[Array, ""],
    data: Data,
    validation: Data | None,
    state: TrainState | None,
) -> tuple[TrainState, list[Array]]:
    """The start, a step and an evaluation: every call that a run makes of the user's functions."""
    objective = plan.objective
    start = _start(plan, key, data, validation, state).state
    batches = Batches(data, key, plan.batch_size)
    step = make_inner_step(objective.cost, plan.optimizer)
    state, metrics = step(start, batches.first(), batches.noise_key)
    if validation is not None:
        held_out = mean_over(objective.network, objective.functions(), state.parameters, validation)
        metrics |= {f"validation_{name}": value for name, value in held_out.items()}
    return state, [metrics[name] for name in plan.names()]
