"""Trains a network, with progress, early stopping and checkpoints.

`fit` checks its arguments, then calls a compiled program that advances the run by several epochs.
Between two calls, a few times per second, the host updates the progress bar, saves a checkpoint,
and stops if Ctrl-C was pressed, a cost is non-finite or patience is exhausted.
"""

import functools
import math
import os
import signal
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Key, PyTree

from jaxnet.core import checks, dtypes, tracing, trees
from jaxnet.core.console import note_interrupts, progress_bar, warn
from jaxnet.core.sharding import find_batch_sharding, place, spans_processes
from jaxnet.debug.replay import NonFiniteStep
from jaxnet.fitting.processes import Directory, Processes, open_directory
from jaxnet.fitting.program import Plan
from jaxnet.fitting.run_directory import (
    Checkpoints,
    CheckpointWarning,
    Saved,
    check_checkpoints,
)
from jaxnet.fitting.run_identity import identify
from jaxnet.fitting.stream_start import make_stream_trainer
from jaxnet.fitting.stream_trainer import StreamTrainer
from jaxnet.fitting.trainer import (
    Advance,
    History,
    Rows,
    Trainer,
    count_rows,
    make_trainer,
)
from jaxnet.nn.losses import Loss
from jaxnet.nn.metrics import Metric
from jaxnet.nn.network import Network
from jaxnet.streaming.batch_stream import BatchStream
from jaxnet.streaming.stream import Stream
from jaxnet.training.batches import check_steps
from jaxnet.training.data import Data, DataLike, check_data, check_values, warn_of_scale
from jaxnet.training.objective import Objective, make_objective
from jaxnet.training.state import BEST_COST, EarlyStopping, TrainState, check_state

_SECONDS_PER_CALL = 0.2  # of the compiled program

AnyTrainer = Trainer | StreamTrainer
AnyRun = Any  # RunState | StreamRun; a trainer takes what it makes


@runtime_checkable
class OnEpoch(Protocol):
    """A function that `fit` calls after every epoch; metrics are floats, or arrays `[members]`."""

    def __call__(self, epoch: int, metrics: dict[str, Any], state: TrainState, /) -> bool | None:
        """Returns True to stop training; the epochs count from 1."""
        ...


class FitResult(NamedTuple):
    """The result of a training run.

    Attributes:
        parameters: with validation data those with the lowest validation cost, or the best by the
            `EarlyStopping` of the run; else the last ones.
        history: for every epoch the "cost", the metrics by their names and, with validation,
            "validation_cost" and so on; `pandas.DataFrame(history)` makes a table of it. With
            several keys, `[epochs, members]`.
        state: after the last epoch, to continue training from.
        stopped: the reason: "finished", "patience", "on_epoch", "interrupted" or "non-finite".
    """

    parameters: PyTree
    history: History
    state: TrainState
    stopped: str


class NonFiniteError(FloatingPointError):
    """A cost, or a parameter after an epoch, is infinite or NaN.

    Attributes:
        result: the run up to the end of the epoch before, a `FitResult`.
        epoch: the epoch in which it happened, counting from 1.
        failure: the step and the value that became non-finite first, a `NonFiniteStep`; None if a
            replay of the epoch, step by step, gave only finite values.
    """

    def __init__(
        self, message: str, result: FitResult, epoch: int, failure: NonFiniteStep | None
    ) -> None:
        """Sets the message and the attributes."""
        super().__init__(message)
        self.result, self.epoch, self.failure = result, epoch, failure

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.result, self.epoch, self.failure), vars(self)


@checks.door
def fit(
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    data: DataLike | Stream | BatchStream,
    *,
    key: Key[Array, "..."],
    epochs: int,
    batch_size: int | None,
    validation: DataLike | Stream | None = None,
    metrics: Mapping[str, Metric] | None = None,
    patience: int | EarlyStopping | None = None,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
    state: TrainState | None = None,
    checkpoints: str | os.PathLike[str] | Checkpoints | None = None,
    batch_sharding: NamedSharding | None = None,
) -> FitResult:
    """Trains a network: `jaxnet.train` with progress, early stopping, checkpoints and checks.

    Args:
        network: any `Network`.
        loss: `loss(outputs, targets) -> [batch]`, such as `softmax_cross_entropy`.
        optimizer: jaxnet's or optax's.
        data: `(inputs, targets)` or `(inputs, targets, weights)` as NumPy or JAX arrays, pandas
            tables or lists. Floating-point numbers and inputs become float32, other targets int32.
            JAX arrays are used unchanged. Or a `Stream` of data larger than memory; see below.
        key: the source of all randomness, as in `train`: the same key gives the same numbers. Keys
            `[members]` train as many networks; see below.
        epochs: the number of passes over the data.
        batch_size: the number of examples per step. `None`, or more than there are, is the full
            batch.
        validation: held-out data in the same form, evaluated after every epoch. A `Stream` may
            have another one as its validation data.
        metrics: functions of the form of the loss by name.
        patience: the number of epochs without a lower validation cost after which to stop, or an
            `EarlyStopping`, which watches any metric and decides which parameters are the best.
        on_epoch: `on_epoch(epoch, metrics, state)` is called after every epoch, counting from 1;
            training stops if it returns True. The host then waits for every single epoch. If it
            raises an error or stops a run that is saved, a checkpoint is written first. When that
            run is resumed, `on_epoch` is called for the same epoch again.
        progress: whether to show a progress bar if standard error is a terminal or a notebook.
        state: the state to continue from, as in `train`. The epochs in `on_epoch` and `history`
            are those of this call.
        checkpoints: a directory to save the run in, or `Checkpoints(directory, keep=, every=)`. If
            it already holds a checkpoint of the same run, training resumes from it, bit for bit.
            Two runs are the same if their data, key, starting state and JAX settings have the same
            values, and if JAX traces their functions to the same programs; only `epochs` may be
            larger. The files are written by `save` and hold `(state, history)`;
            `best.safetensors` holds the best parameters.
        batch_sharding: how the examples of a batch are divided among devices, as in `train`. A run
            that is resumed on another number of devices is the same to rounding, with a warning.

    Returns:
        The parameters, the history, the last state and the reason for stopping.

    Ctrl-C finishes the current epochs, then saves and returns the partial result. A second Ctrl-C
    raises KeyboardInterrupt immediately. SIGTERM does the same for a run with checkpoints, and then
    exits the program.

    If a checkpoint cannot be written during training, the failure is reported, the previous
    checkpoint is kept, and saving is retried at the next interval. If the final save fails, a
    `CheckpointWarning` is issued. Nothing is printed if standard error cannot be written.

    Raises:
        TypeError, ValueError: an invalid argument, before anything is compiled; also for
            non-finite values, labels out of range, and a directory of another run.
        OSError: the directory cannot be written, or another run is using it.
        NonFiniteError: the cost of an epoch, or a parameter after it, is non-finite. The message
            names the step and the place in the network where the first such value appeared.

    A `UserWarning` names a feature with a standard deviation above 100 or below 0.01, since
    networks train badly on inputs that are not standardized.

    A second call compiles nothing if its arguments have the same shapes and JAX traces its
    functions to the same programs. If something that a function reads has changed in between, such
    as an attribute, a global variable or a module, the program is compiled again.

    If network, loss and metrics are jaxnet's, other numbers of rows and epochs compile nothing
    either: up to 16,384 rows are padded with rows of weight 0, by at most an eighth of them. The
    steps on mini-batches have the same bits as without padding. The sums over a full batch and over
    validation data have the same value to rounding. Functions of the user's see no padding.

    **Members.** With several keys, such as `jax.random.split(key, 8)`, as many networks are trained
    in one program. Each is the run with its own key, to rounding, and stops when its own patience
    is exhausted. Weights `[members, examples]` give each its own, for instance to leave out another
    fold. Parameters and states have an axis of members in front, and the history holds `[epochs,
    members]`, with NaN after a member has stopped. `jax.vmap(network.apply, (0, None))(parameters,
    inputs)` predicts. In a metric, `jax.lax.pmean(outputs, "members")` is the mean over the
    members; an `EarlyStopping` that monitors such a metric stops them together.

    **Several processes.** Under `jax.distributed`, with a `batch_sharding` on the devices of
    several processes, all of them call `fit` with the same arguments, and make one run: other data,
    another key or other functions in one of them are a ValueError. Each may have its own
    `on_epoch`. If one stops, by `on_epoch`, Ctrl-C or SIGTERM, all stop after the same epoch.
    Process 0 alone shows the progress, and reads and writes the checkpoints. If a process dies, the
    others end with an error of JAX; started again, they resume the run. `scripts/supervise.py` does
    that.

    **Streams.** The data may be a `Stream`, or a `BatchStream` of batches from an iterator. Then
    the host looks at the run after every block of the stream. A checkpoint at an interval of time,
    or after Ctrl-C, may be in the middle of an epoch, and the run is resumed there, bit for bit.
    A run on a stream has one key and a `batch_size`. It is resumed only if the files of the stream
    have not changed; of data that a function of yours reads, only some rows are compared. If
    reading fails, a `ReadError` names the rows.

    >>> from jaxnet import adam, mlp, squared_error
    >>> inputs = np.linspace(-1, 1, 64)[:, None]
    >>> data = inputs, inputs**2
    >>> key = jax.random.key(0)
    >>> network = mlp([1, 8, 1])
    >>> run = fit(network, squared_error, adam(0.01), data, key=key, epochs=99, batch_size=16)
    >>> run.stopped, bool(run.history["cost"][-1] < 0.01)
    ('finished', True)
    >>> keys = jax.random.split(key, 3)
    >>> runs = fit(network, squared_error, adam(0.01), data, key=keys, epochs=9, batch_size=16)
    >>> runs.history["cost"].shape
    (9, 3)
    """
    objective = make_objective(network, loss, metrics)
    checks.optimizer("optimizer", optimizer)
    members = checks.keys(key)
    if state is not None:
        _check_state(state, members)
    if not all(map(dtypes.is_concrete, jax.tree.leaves((key, state)))):
        raise checks.InvalidType(
            "expected key and state with concrete values. Received: traced arrays; use train"
        )
    checks.integer("epochs", epochs, 1)
    checks.boolean("progress", progress)
    if on_epoch is not None:
        checks.function("on_epoch", on_epoch)
    stopping = _check_stopping(patience, objective, validation)
    checkpoints = check_checkpoints(checkpoints)
    plan = Plan(objective, optimizer, None, stopping, validation is not None, batch_sharding)
    prepare: Any = _prepare_stream if isinstance(data, (Stream, BatchStream)) else _prepare
    trainer = prepare(plan, data, validation, batch_size, key, state, epochs)
    processes = Processes(spans_processes((trainer.arrays, trainer.state)))
    identity = identify(trainer) if checkpoints or processes.are_many else None
    processes.check_same(identity, epochs)
    with trainer, open_directory(checkpoints, identity, processes) as directory:
        result = _drive(trainer, directory, processes, epochs, on_epoch, progress)
    if directory.failure:
        message = f"fit: the last checkpoint could not be written: {directory.failure}"
        warn(CheckpointWarning(message, result))
    return result


def _prepare(
    plan: Plan,
    data: DataLike,
    validation: Any,
    batch_size: int | None,
    key: Key[Array, "..."],
    state: TrainState | None,
    epochs: int,
) -> Trainer:
    """The trainer of a run on data in memory, which are converted and checked."""
    members = checks.keys(key)
    given, data = (data, validation), check_data("data", data, members)
    check_values("data", data, given[0])
    warn_of_scale(data, given[0][0])
    epochs, batch_size = check_steps(epochs, batch_size, data)
    validation = _check_validation(validation, members)
    sharding = find_batch_sharding(plan.batch_sharding, data)
    plan = plan._replace(batch_size=batch_size, batch_sharding=sharding)
    data, validation = place("data", data, sharding), place("validation", validation, sharding)
    key, state = place("key", key, sharding), place("state", state, sharding)
    return make_trainer(plan, data, validation, key, state, epochs, given)


def _prepare_stream(
    plan: Plan,
    data: Stream | BatchStream,
    validation: DataLike | Stream | None,
    batch_size: int | None,
    key: Key[Array, "..."],
    state: TrainState | None,
    epochs: int,
) -> StreamTrainer:
    """The trainer of a run on a stream."""
    if key.ndim:
        raise checks.InvalidValue(
            f"expected one key to train on a stream. Received: {list(key.shape)}"
        )
    if batch_size is None:
        raise checks.InvalidValue(
            "expected a batch_size to train on a stream, which does not fit into a batch. "
            "Received: None"
        )
    batch_size, given = checks.integer("batch_size", batch_size, 1), validation
    sharding = find_batch_sharding(plan.batch_sharding, ())
    plan = plan._replace(batch_size=batch_size, batch_sharding=sharding)
    if not isinstance(validation, Stream):
        validation = place("validation", _check_validation(validation, None), sharding)
    key, state = place("key", key, sharding), place("state", state, sharding)
    return make_stream_trainer(plan, data, validation, key, state, epochs, given)


def _check_validation(validation: Any, members: int | None) -> Data | None:
    if validation is None:
        return None
    if isinstance(validation, Stream):
        raise checks.InvalidType(
            "expected validation data in memory, as the data are. Received: a Stream"
        )
    data = check_data("validation", validation, members)
    check_values("validation", data, validation)
    return data


def _check_state(state: TrainState, members: int | None) -> None:
    """Checks the state of one network, or of several with an axis of members."""
    if members is None:
        check_state(state)
        return
    checks.instance("state", state, TrainState)
    trees.arrays("state", state)
    for path, leaf in jax.tree.leaves_with_path(state):
        if np.shape(leaf)[:1] != (members,):
            raise checks.InvalidValue(
                f"expected state{jax.tree_util.keystr(path)} of shape [{members}, ...], one for "
                f"each key. Received: {list(np.shape(leaf))}"
            )
    tracing.shapes(jax.vmap(check_state), state)


def _check_stopping(patience: Any, objective: Objective, validation: Any) -> EarlyStopping:
    """Checks when to stop; a number stands for the patience, with the other defaults."""
    if patience is None:
        return BEST_COST
    if validation is None:
        raise checks.InvalidValue("expected validation data with patience. Received: None")
    if not isinstance(patience, EarlyStopping):
        return EarlyStopping(checks.integer("patience", patience, 1))
    number, monitor, mode, min_delta = patience
    if number is not None:
        number = checks.integer("patience.patience", number, 1)
    for name, value, known in (
        ("monitor", monitor, objective.functions()),
        ("mode", mode, ("min", "max")),
    ):
        if value not in known:
            words = " or ".join(map(repr, known))
            raise checks.InvalidValue(
                f"expected patience.{name} as {words}. Received: {checks.describe(value)}"
            )
    min_delta = float(checks.number("patience.min_delta", min_delta, 0))
    return EarlyStopping(number, monitor, mode, min_delta)


def _drive(
    trainer: AnyTrainer,
    directory: Directory,
    processes: Processes,
    epochs: int,
    on_epoch: OnEpoch | None,
    progress: bool,
) -> FitResult:
    """Calls the compiled program for as many epochs as take about the time between two looks.

    No other function keeps a reference to a run, so that at most two are in memory.
    """
    run, advance, history, stopped = _start_or_resume(trainer, directory, epochs)
    done, stride = count_rows(history), 1
    (is_watched,) = processes.agree(on_epoch is not None)

    def is_stopped_by_user() -> bool:
        """Calls `on_epoch`; if it raises an error, saves the run, to call it again on resuming."""
        error, answer = None, False
        try:
            if on_epoch:
                answer = bool(on_epoch(done, trainer.metrics(history[-1]), run.state))
        except BaseException as raised:
            error = raised
        has_failed, is_stopped = processes.agree(error is not None, answer)
        if has_failed:
            reason = "patience" if run.has_ended else "on_epoch"
            directory.save(_checkpoint(trainer, run, history, reason), wait=True)
            raise error or RuntimeError("fit: on_epoch has raised an error in another process")
        return bool(is_stopped)

    with (
        progress_bar(epochs, "epoch", progress and processes.is_first, done) as bar,
        note_interrupts("fit", termination=directory.is_saved) as interrupted,
    ):
        if stopped == "on_epoch" and not is_stopped_by_user():
            stopped = ""
        if done == epochs:
            stopped = stopped or "finished"
        while not stopped:
            (until,) = processes.agree(directory.limit(min(epochs, done + stride)))
            started, before = time.perf_counter(), run
            run, rows, is_finite, examples = advance(run, until - done)
            seconds = time.perf_counter() - started
            if not is_finite:
                raise _fail(trainer, directory, advance, before, history, rows)
            history.append(rows)
            done += len(rows)
            _show(bar, len(rows), trainer.shown(run, rows), examples / seconds)
            if not is_watched:
                stride = max(1, int(_SECONDS_PER_CALL / seconds * len(rows)))
            stopped_by_user = is_watched and len(rows) > 0 and is_stopped_by_user()
            received, is_due = processes.agree(interrupted() or 0, directory.is_due(done))
            if run.has_ended:
                stopped = "patience"
            elif stopped_by_user:
                stopped = "on_epoch"
            elif done == epochs:
                stopped = "finished"
            elif received:
                stopped = "interrupted"
            if stopped or is_due:
                directory.save(_checkpoint(trainer, run, history, stopped), wait=bool(stopped))
    (received,) = processes.agree(interrupted() or 0)
    if received == signal.SIGTERM:
        raise SystemExit(128 + signal.SIGTERM)
    return _finish(trainer, run, history, stopped)


def _finish(trainer: AnyTrainer, run: AnyRun, history: list[Rows], stopped: str) -> FitResult:
    best = run.state.best
    parameters = run.state.parameters if best is None else best.parameters
    return FitResult(parameters, trainer.history(history), run.state, stopped)


def _show(bar: Any, epochs: int, metrics: dict[str, Any], speed: float) -> None:
    """Shows the last metrics, or their means over the members that still run."""
    values = [f"{name} {np.nanmean(value):.4g}" for name, value in metrics.items()]
    bar.set_postfix_str(", ".join([*values, f"{speed:.3g} examples/s"]), refresh=False)
    bar.update(epochs)


def _fail(
    trainer: AnyTrainer,
    directory: Directory,
    advance: Advance,
    before: AnyRun,
    history: list[Rows],
    rows: Rows,
) -> NonFiniteError:
    """The error for a call of the compiled program after which a value is non-finite.

    Args:
        trainer, directory, advance: those of the run.
        before, history: the run before the call.
        rows: of the history, from the call.
    """
    last, finite_rows, metrics, member = trainer.find_failing(advance, before, rows)
    history = [*history, finite_rows]
    epoch = count_rows(history) + 1
    costs = {name: np.ravel(metrics[name])[member or 0] for name in trainer.plan.costs()}
    wrong = [name for name, cost in costs.items() if not math.isfinite(cost)]
    what = (
        f"the {wrong[0]} of epoch {epoch} is {costs[wrong[0]]}"
        if wrong
        else f"a parameter is non-finite after epoch {epoch}"
    )
    failure = trainer.find_failure(last.state, member)
    where = "" if member is None else f" in member {member}"
    message = f"fit: {what}{where}. {failure or _ROUNDING}"
    directory.save(_checkpoint(trainer, last, history, ""), wait=True)
    message += directory.save_before_failure(failure.state if failure else last.state)
    result = _finish(trainer, last, history, "non-finite")
    return NonFiniteError(message, result, epoch, failure)


_ROUNDING = (
    "Replaying the epoch step by step gave only finite values, so the overflow depends on "
    "rounding. Usual causes are a learning rate that is too high and unstandardized inputs"
)


# Checkpoints.


def _start_or_resume(
    trainer: AnyTrainer, directory: Directory, epochs: int
) -> tuple[AnyRun, Advance, list[Rows], str]:
    """The start of the run or its last checkpoint, and the reason why it stopped there, if any."""
    run, advance = trainer.start()
    history = [np.empty((0, len(trainer.plan.names()), *trainer.shape), np.float32)]
    saved = directory.newest(functools.partial(_checkpoint_types, trainer, run))
    if not saved:
        if directory.is_saved:
            run = advance(run, 0).run
            directory.begin(_checkpoint(trainer, run, history, ""))
        return run, advance, history, ""
    if saved.epoch > epochs:
        raise checks.InvalidValue(
            f"expected epochs of at least {saved.epoch}, since the checkpoint is already at epoch "
            f"{saved.epoch}. Received: {epochs}"
        )
    if saved.stopped != "patience" and saved.epoch < epochs:
        directory.check_writable()
    history = [np.stack([saved.history[name] for name in trainer.plan.names()], axis=1)]
    return _restore(trainer, run, saved), advance, history, saved.stopped


def _checkpoint(trainer: AnyTrainer, run: AnyRun, history: list[Rows], stopped: str) -> Saved:
    is_final = stopped in ("patience", "on_epoch")
    reason = stopped if is_final else ""
    table, place = trainer.history(history), trainer.place(run)
    return Saved(run.state, table, count_rows(history), reason, place)


def _checkpoint_types(trainer: AnyTrainer, run: AnyRun, epoch: int) -> tuple[TrainState, History]:
    shape = epoch, *trainer.shape
    return run.state, {name: np.empty(shape, np.float32) for name in trainer.plan.names()}


def _restore(trainer: AnyTrainer, start: Any, saved: Saved) -> AnyRun:
    """The saved run, with the types and the placement of the start."""
    state = jax.tree.map(_restore_weak_type, saved.state, start.state)
    return trainer.resume(start, state, saved.epoch, saved.place)


def _restore_weak_type(leaf: Array, start: Array) -> Array:
    """Makes a leaf weakly typed if the start's is, which files do not record."""
    return start.at[...].set(leaf) if getattr(start, "weak_type", False) else leaf
