"""Advances a run by several epochs per call of one compiled program.

Between two calls a run is a `RunState`, a tree of arrays. The host can read it, save it, and
continue from it with the same bits.
"""

import bisect
import contextlib
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from jaxnet.core import compilation, dtypes, programs, tracing, trees
from jaxnet.core.finite import is_finite
from jaxnet.core.settled import settled_key
from jaxnet.core.sharding import fetch, put
from jaxnet.debug.replay import NonFiniteStep, find_step
from jaxnet.fitting import program
from jaxnet.fitting.program import EPOCHS_PER_CALL, Plan, RunState, place_run
from jaxnet.fitting.run_data import RunData, make_run_data
from jaxnet.training.batches import count_steps, make_span
from jaxnet.training.data import Data, slices
from jaxnet.training.run_check import check_run
from jaxnet.training.state import (
    TrainState,
)

Rows = Float[np.ndarray, "_ metrics *members"]
History = dict[str, np.ndarray]


def count_rows(rows: Sequence[Rows]) -> int:
    """The number of epochs in several rows of the history."""
    return sum(map(len, rows))


class Advanced(NamedTuple):
    """A run after several epochs, and what happened in them.

    Attributes:
        run: after the last epoch.
        rows: of the history; NaN for a member that has ended before.
        is_finite: whether the costs, and the parameters at the end, are finite.
        examples: the number of examples that were trained on.
    """

    run: Any
    rows: Rows
    is_finite: bool
    examples: int


Advance = Callable[[Any, int], Advanced]


class Failing(NamedTuple):
    """Where a run failed in a call of the compiled program.

    Attributes:
        last: the run before; all its values are finite.
        rows: of the history, from the start of the call to there.
        metrics: of the epoch that failed, by name.
        member: the first member that failed; None if the run has none.
    """

    last: Any
    rows: Rows
    metrics: dict[str, Any]
    member: int | None


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

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> tuple[RunState, Advance]:
        """The run before its first epoch, which may have to be begun, and what advances it.

        `advance(run, epochs)` runs several epochs, at least one if `epochs` is, or until patience
        is exhausted.
        """
        if any(dtypes.is_key(leaf) or leaf.weak_type for leaf in jax.tree.leaves(self.types)):
            arguments = self.state, self.padded
            begin = compilation.compile_once(
                program.begin, (self.plan,), arguments, identity=self.functions
            )
            run = place_run(begin(*arguments), self.padded.data.inputs, self.state)
            return run, self._compile(run)
        # The program begins the run itself, from zeros, so that only one is compiled.
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), self.types)
        run = place_run(zeros, self.padded.data.inputs, self.state)
        return run, self._compile(run)

    def _compile(self, run: RunState) -> Advance:
        others = self.state, self.padded
        compiled = compilation.compile_once(
            program.advance, (self.plan,), (run, 0, *others), identity=self.functions
        )
        columns = self.plan.cost_columns()

        def advance(run: RunState, epochs: int) -> Advanced:
            run, *results = compiled(run, min(epochs, EPOCHS_PER_CALL), *others)
            all_rows, made = map(np.asarray, results)
            rows = all_rows[: made.max()].copy()  # a view would keep all rows
            is_made = np.arange(len(rows)).reshape(-1, *[1] * (rows.ndim - 1)) < made
            costs_are_finite = bool((np.isfinite(rows[:, columns]) | ~is_made).all())
            rows[np.broadcast_to(~is_made, rows.shape)] = np.nan
            finite = costs_are_finite and is_finite(run.state.parameters)
            return Advanced(run, rows, finite, int(made.sum()) * len(self.arrays.data.inputs))

        return advance

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a number in a row of the history: `()` or `(members,)`."""
        return self.arrays.key.shape

    def metrics(self, rows: Rows) -> dict[str, Any]:
        """The last row by name: floats, or arrays `[members]`."""
        values = [float(value) if value.ndim == 0 else value.copy() for value in rows[-1]]
        return dict(zip(self.plan.names(), values, strict=True))

    def shown(self, _: RunState, rows: Rows) -> dict[str, Any]:
        """What the progress bar shows."""
        return self.metrics(rows)

    def history(self, rows: Sequence[Rows]) -> History:
        """The columns of several rows by name."""
        table = np.concatenate(rows)
        return {name: table[:, i].copy() for i, name in enumerate(self.plan.names())}

    def have_ended(self, state: TrainState) -> Bool[np.ndarray, "*members"]:
        """Whether patience is exhausted, for each member, at the end of an epoch."""
        patience = self.plan.stopping.patience
        if patience is None or state.best is None or state.task is None:
            return np.zeros(self.shape, bool)
        steps = count_steps(len(self.arrays.data.inputs), self.plan.batch_size)
        epochs = (np.asarray(state.step) - np.asarray(state.task.start)) // steps
        return np.asarray(epochs - np.asarray(state.best.epoch) >= patience)

    def place(self, _: RunState) -> None:
        """A run is always at the end of an epoch."""

    def resume(self, start: RunState, state: TrainState, _epoch: int, _place: Any) -> RunState:
        """The run of a checkpoint, placed like the start of the run."""
        run = RunState(state, np.array(True), self.have_ended(state))  # type: ignore[arg-type]
        resumed: RunState = jax.tree.map(lambda leaf, array: put(leaf, array.sharding), run, start)
        return resumed

    def find_failing(self, advance: Advance, before: RunState, rows: Rows) -> Failing:
        """Finds the epoch that failed among those of a call, by bisection.

        Args:
            advance: that of the run.
            before: the run before the call.
            rows: of the history, from the call.
        """

        def is_wrong(epochs: int) -> bool:
            return not advance(before, epochs).is_finite

        made = bisect.bisect_left(range(len(rows)), True, lo=1, key=is_wrong)
        last, finite_rows, *_ = advance(before, made - 1)
        member = self.find_member(*advance(before, made)[:2]) if self.shape else None
        return Failing(last, finite_rows, self.metrics(rows[made - 1 : made]), member)

    def find_member(self, run: RunState, rows: Rows) -> int:
        """The first member with a non-finite cost in the last row, or parameter after it."""
        columns = self.plan.cost_columns()
        for member in range(*self.shape):
            parameters = jax.tree.map(lambda leaf, i=member: leaf[i], run.state.parameters)
            if not (np.isfinite(rows[-1][columns, member]).all() and is_finite(parameters)):
                return member
        raise AssertionError("a run failed, but none of its members did")

    def find_failure(self, state: TrainState, member: int | None) -> NonFiniteStep | None:
        """Replays the epoch that begins with a state, up to the step that fails.

        Args:
            state: of the run.
            member: which one of the run's members fails; None if it has none.
        """
        plan, objective = self.plan, self.plan.objective
        state, arrays = fetch((state, self.arrays))
        if member is not None:  # metrics may be means over the members
            state = jax.tree.map(lambda leaf: leaf[member], state)
            arrays, objective = arrays.member(member), objective._replace(metrics={})
        batches = arrays.batches(plan.batch_size)
        parts = () if arrays.validation is None else slices(arrays.validation)
        return find_step(objective, plan.optimizer, state, batches, parts)

    def values(self) -> dict[str, Any]:
        """What decides the numbers of a run, besides its programs."""
        values = {
            "data": self.arrays.data,
            "validation": self.arrays.validation,
            "key": self.arrays.key,
            "state": fetch(self.state),
            "batch_size": self.plan.batch_size or len(self.arrays.data.inputs),
        }
        if self.arrays.span is not None:
            values["epochs"] = int(self.arrays.span.epochs)
        return values


def make_trainer(
    plan: Plan,
    data: Data,
    validation: Data | None,
    key: Key[Array, "..."],
    state: TrainState | None,
    epochs: int,
    given: tuple[Any, Any],
) -> Trainer:
    """Traces what a run calls of the user's functions, and raises an error if it does not fit.

    The result for functions, types and ranges of targets that passed before is remembered.

    Args:
        plan, data, validation, key, state, epochs: the parts of a run.
        given: data and validation as the caller passed them, for error messages.
    """
    identity = settled_key((plan,))
    # The functions of jaxnet compute each example by itself. A loss of the user's may compare the
    # examples of a batch with each other.
    may_pad = identity is not None or settled_key(plan.objective) is not None
    arrays, padded = make_run_data(data, validation, plan.batch_size, key, may_pad=may_pad)
    step = np.int32(0) if state is None else state.step
    span = make_span(plan.objective.network, step, epochs)
    arrays, padded = arrays._replace(span=span), padded._replace(span=span)
    if identity is None:
        with contextlib.suppress(Exception):  # `check_run` says what is wrong
            identity = programs.fingerprint(functools.partial(program.sample, plan), state, padded)
    targets = [np.asarray(part.targets) for part in (data, validation) if part is not None]
    ranges = tuple((float(t.min()), float(t.max())) for t in targets if t.size)
    call = identity, compilation.settings(), trees.types((state, padded)), ranges
    if identity is None or call not in _passed:
        _check_run(plan, RunData(data, validation, key), state, given)
        types = tracing.shapes(functools.partial(program.begin, plan), state, padded)
        if len(_passed) >= _REMEMBERED:
            _passed.clear()
        _passed[call] = types
    return Trainer(plan, arrays, state, padded, _passed[call], identity)


_passed: dict[Any, RunState] = {}
_REMEMBERED = 256  # calls


def _check_run(plan: Plan, arrays: RunData, state: TrainState | None, given: Any) -> None:
    """Traces a run, or any member of it."""

    def check(state: TrainState | None, arrays: RunData) -> None:
        data, validation, key, *_ = arrays
        check_run(plan.objective, plan.optimizer, data, validation, key, state, given)

    if arrays.members is None:
        check(state, arrays)
    else:
        tracing.shapes(program.map_members(check), state, arrays)
