"""Advances a run by several epochs per call of one compiled program.

Between two calls a run is a `RunState`, a tree of arrays. The host can read it, save it, and
continue from it with the same bits.

The program depends on little else than the functions of the run. It makes the initial state too. It
runs any number of epochs, and small data are padded, so that data of about the same size share it.
"""

import contextlib
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnet.core import compilation, dtypes, programs, tracing, trees
from jaxnet.core.finite import is_finite
from jaxnet.core.settled import settled_key
from jaxnet.debug.replay import NonFiniteStep, find_step
from jaxnet.fitting.run_data import RunData, make_run_data
from jaxnet.nn.metrics import Metric
from jaxnet.training.batches import count_steps
from jaxnet.training.data import Data
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
from jaxnet.training.train import check_run, make_epoch

_EPOCHS_PER_CALL = 1024  # at most; the program returns so many rows of the history
_BRIEF = 10**4  # updates of single parameters in an epoch, which take a tenth of a millisecond

Rows = Float[np.ndarray, "_ metrics"]
History = dict[str, np.ndarray]


def count_rows(rows: Sequence[Rows]) -> int:
    """The number of epochs in several rows of the history."""
    return sum(map(len, rows))


class Plan(NamedTuple):
    """What the compiled program depends on, besides the types of its arguments."""

    objective: Objective
    optimizer: optax.GradientTransformation
    batch_size: int | None
    stopping: EarlyStopping
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
        has_begun: whether `state` is that of a run; if not, the program begins the run first.
        ended: whether patience is exhausted.
    """

    state: TrainState
    has_begun: Bool[Array, ""]
    ended: Bool[Array, ""]


Advance = Callable[[RunState, int], tuple[RunState, Rows]]


class Trainer(NamedTuple):
    """A plan and its data: all that a run needs, and nothing that changes.

    Attributes:
        plan: what the compiled program depends on.
        arrays: what the run reads, without padding.
        state: the state from which the run starts, or None.
        padded: what the compiled program reads.
        types: of a run.
        functions: the identity of the user's functions, as `compilation.compile_once` takes it.
    """

    plan: Plan
    arrays: RunData
    state: TrainState | None
    padded: RunData
    types: RunState
    functions: Hashable = None

    def start(self) -> tuple[RunState, Advance]:
        """The run before its first epoch, and the compiled program that advances it.

        `advance(run, epochs)` runs several epochs, at least one if `epochs` is, or until patience
        is exhausted. It returns the run after them, and their rows of the history.
        """
        if any(dtypes.is_key(leaf) or leaf.weak_type for leaf in jax.tree.leaves(self.types)):
            arguments = self.state, self.padded
            begin = compilation.compile_once(
                _begin, (self.plan,), arguments, identity=self.functions
            )
            run = _place(begin(*arguments), self.padded.data.inputs)
            return run, self._compile_advance(run)
        # The program begins the run itself, from zeros, so that only one is compiled.
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), self.types)
        run = _place(zeros, self.padded.data.inputs)
        advance = self._compile_advance(run)
        return advance(run, 0)[0], advance

    def _compile_advance(self, run: RunState) -> Advance:
        others = self.state, self.padded
        sizes = sum(leaf.size for leaf in jax.tree.leaves(run.state.parameters))
        steps = count_steps(len(self.arrays.data.inputs), self.plan.batch_size)
        program = compilation.compile_once(
            _advance,
            (self.plan,),
            (run, 0, *others),
            identity=self.functions,
            is_brief=sizes * steps < _BRIEF,
        )

        def advance(run: RunState, epochs: int) -> tuple[RunState, Rows]:
            run, rows, made = program(run, min(epochs, _EPOCHS_PER_CALL), *others)
            return run, np.asarray(rows)[: int(made)].copy()  # a view would keep all rows

        return advance

    def metrics(self, rows: Rows) -> dict[str, float]:
        """The last row by name."""
        return dict(zip(self.plan.names(), map(float, rows[-1]), strict=True))

    def history(self, rows: Sequence[Rows]) -> History:
        """The columns of several rows by name."""
        table = np.concatenate(rows)
        return {name: table[:, i].copy() for i, name in enumerate(self.plan.names())}

    def is_finite(self, run: RunState, rows: Rows) -> bool:
        """Whether every parameter of a run and every cost in some rows is finite."""
        columns = [self.plan.names().index(name) for name in self.plan.costs()]
        return bool(np.isfinite(rows[:, columns]).all()) and is_finite(run.state.parameters)

    def find_failure(self, state: TrainState) -> NonFiniteStep | None:
        """Replays the epoch that begins with a state, up to the step that fails."""
        plan, batches = self.plan, self.arrays.batches(self.plan.batch_size)
        return find_step(plan.objective, plan.optimizer, state, batches, self.arrays.validation)

    def fingerprints(self) -> dict[str, programs.Fingerprint]:
        """The programs of a run by what they compute; the optimizer's contains the others."""
        objective, batch_size = self.plan.objective, self.plan.batch_size

        def apply(parameters: PyTree, arrays: RunData) -> Array:
            batches = arrays.batches(batch_size)
            inputs = batches.first().inputs
            return objective.network.apply(parameters, inputs, key=batches.noise_key)

        def evaluate(function: Metric, outputs: Array, arrays: RunData) -> Array:
            return function(outputs, arrays.batches(batch_size).first().targets)

        start = tracing.trace(functools.partial(_begin, self.plan), self.state, self.arrays)
        run: RunState = start.out_info
        applied = tracing.trace(apply, run.state.parameters, self.arrays)
        evaluated = {
            "loss" if name == "cost" else f"metrics/{name}": tracing.trace(
                functools.partial(evaluate, function), applied.out_info, self.arrays
            )
            for name, function in objective.functions().items()
        }
        step = tracing.trace(functools.partial(_sample, self.plan), self.state, self.arrays)
        traced = {"network": applied, **evaluated, "initial state": start, "optimizer": step}
        return {
            name: programs.fingerprint_jaxpr(program.jaxpr.jaxpr, program.jaxpr.consts)
            for name, program in traced.items()
        }


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
    identity = settled_key((plan,))
    # The functions of jaxnet compute each example by itself. A loss of the user's may compare the
    # examples of a batch with each other.
    may_pad = identity is not None or settled_key(plan.objective) is not None
    arrays, padded = make_run_data(data, validation, plan.batch_size, key, may_pad=may_pad)
    if identity is None:
        with contextlib.suppress(Exception):  # `check_run` says what is wrong
            identity = programs.fingerprint(functools.partial(_sample, plan), state, padded)
    targets = [np.asarray(part.targets) for part in (data, validation) if part is not None]
    ranges = tuple((float(t.min()), float(t.max())) for t in targets if t.size)
    call = identity, compilation.settings(), trees.types((state, padded)), ranges
    if identity is None or call not in _passed:
        check_run(plan.objective, plan.optimizer, data, validation, key, state, given)
        types = tracing.shapes(functools.partial(_begin, plan), state, padded)
        if len(_passed) >= _REMEMBERED:
            _passed.clear()
        _passed[call] = types
    return Trainer(plan, arrays, state, padded, _passed[call], identity)


_passed: dict[Any, RunState] = {}
_REMEMBERED = 256  # calls


def _place(run: PyTree, inputs: Array) -> RunState:
    """Copies a run to where an epoch on the inputs leaves it.

    From elsewhere, the program would be compiled for both places.
    """
    sharding = inputs.sharding if inputs.committed else None
    if isinstance(sharding, jax.sharding.NamedSharding):
        sharding = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    placed: RunState = jax.device_put(run, sharding)
    return placed


# The program.


def _begin(plan: Plan, state: TrainState | None, arrays: RunData) -> RunState:
    if state is None:
        state = make_state(plan.objective.network, plan.optimizer, arrays.key)
    number = arrays.fingerprint
    if number is None and arrays.validation is not None:
        number = fingerprint(arrays.data, arrays.validation, plan.batch_size)
    state = start_task(state, number, plan.stopping)
    return RunState(state, jnp.ones((), bool), jnp.zeros((), bool))


def _advance(
    plan: Plan, run: RunState, epochs: ArrayLike, state: TrainState | None, arrays: RunData
) -> tuple[RunState, Float[Array, "epochs metrics"], Int[Array, ""]]:
    run = jax.lax.cond(run.has_begun, lambda: run, lambda: _begin(plan, state, arrays))
    batches, patience = arrays.batches(plan.batch_size), plan.stopping.patience
    epoch = make_epoch(plan.objective, plan.optimizer, batches, arrays.validation, plan.stopping)

    def body(loop: tuple[RunState, Array, Array]) -> tuple[RunState, Array, Array]:
        run, rows, made = loop
        state, metrics = epoch(run.state)
        row = jnp.stack([metrics[name].astype(jnp.float32) for name in plan.names()])
        rows = jax.lax.dynamic_update_index_in_dim(rows, row, made, axis=0)
        ended = run.ended
        if patience is not None and state.best is not None:
            ended = count_epochs(state, batches) - state.best.epoch >= patience
        return run._replace(state=state, ended=ended), rows, made + 1

    rows = jnp.zeros((_EPOCHS_PER_CALL, len(plan.names())), jnp.float32)
    start = run, rows, jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(lambda loop: (loop[2] < epochs) & ~loop[0].ended, body, start)


def _sample(
    plan: Plan, state: TrainState | None, arrays: RunData
) -> tuple[TrainState, list[Array]]:
    """The start, a step and an evaluation: every call that a run makes of the user's functions."""
    objective, validation = plan.objective, arrays.validation
    start = _begin(plan, state, arrays).state
    batches = arrays.batches(plan.batch_size)
    step = make_inner_step(objective.cost, plan.optimizer)
    after, metrics = step(start, batches.first(), batches.noise_key)
    if validation is not None:
        held_out = mean_over(objective.network, objective.functions(), after.parameters, validation)
        metrics |= {f"validation_{name}": value for name, value in held_out.items()}
    return after, [metrics[name] for name in plan.names()]
