"""Fitting: the host's side of a training run.

`fit` checks its arguments and has the epochs made, a stretch of them at a time. In between it looks
in: it moves the progress bar, saves the run, and stops for a key press, for a cost that is not
finite, or for a validation cost that no longer falls. The device is not kept waiting for more than
a glance a few times a second.
"""

import bisect
import contextlib
import datetime
import functools
import math
import os
import signal
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key, PyTree

from jaxnet.core import checks, dtypes
from jaxnet.core.console import note_interrupts, progress_bar, warn
from jaxnet.debug.replay import NonFiniteStep, first_failure
from jaxnet.fitting import trainer
from jaxnet.fitting.run_directory import CheckpointWarning, Every, RunFolder, Saved
from jaxnet.fitting.run_identity import identify
from jaxnet.fitting.trainer import History, Plan, Run
from jaxnet.nn.losses import Loss
from jaxnet.nn.metrics import Metric
from jaxnet.nn.network import Network
from jaxnet.training.data import Data, DataLike, check_data, check_steps, check_values
from jaxnet.training.evaluation import with_relative_weights
from jaxnet.training.train import TrainState, check_arguments

OnEpoch = Callable[[int, dict[str, float], TrainState], bool | None]

_SECONDS_BETWEEN_LOOKS = 0.2


class FitResult(NamedTuple):
    """What a training run gives.

    Attributes:
        parameters: of the epoch with the lowest validation cost where there is validation, else of
            the last.
        history: for every epoch the "cost", the metrics by their names and, with validation,
            "validation_cost" and so on; `pandas.DataFrame(history)` is a table of it.
        state: after the last epoch, to go on from.
        stopped: why: "finished", "patience", "on_epoch", "interrupted" or "not finite".
    """

    parameters: PyTree
    history: History
    state: TrainState
    stopped: str


class NonFiniteError(FloatingPointError):
    """A cost was infinite or NaN, or a parameter after an epoch.

    Attributes:
        result: the run up to the end of the epoch before, as a `FitResult`.
        epoch: the one in which it happened, counting from 1.
        failure: where the first value that is not finite appeared, as a `NonFiniteStep`, or
            None if it did not when that epoch was made again step by step.
    """

    def __init__(
        self, message: str, result: FitResult, epoch: int, failure: NonFiniteStep | None
    ) -> None:
        """The message, and what there is to go on from."""
        super().__init__(message)
        self.result, self.epoch, self.failure = result, epoch, failure

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.result, self.epoch, self.failure), vars(self)


@checks.door
def fit(
    network: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    data: DataLike,
    *,
    key: Key[Array, ""],
    epochs: int,
    batch_size: int | None,
    validation: DataLike | None = None,
    metrics: Mapping[str, Metric] | None = None,
    patience: int | None = None,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
    state: TrainState | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    keep: int = 3,
    save_every: Every = datetime.timedelta(seconds=30),
) -> FitResult:
    """Trains a network: `jaxnet.train`, with a progress bar, checks, early stopping, checkpoints.

    Args:
        network, loss, optimizer, key, epochs, batch_size, metrics, state: as in `train`; the same
            key gives the same numbers. From the state of an earlier run, the best, patience and the
            count of epochs go on if data, validation and batch size are the same, and begin anew if
            not. The epochs that `on_epoch` and `history` count are those of this call.
        data: `(inputs, targets)` or `(inputs, targets, weights)`: NumPy, JAX or pandas, or lists.
            All floating-point numbers and the inputs become float32, other targets int32; JAX
            arrays stay as they are.
        validation: the same, of further data. It is evaluated after every epoch, and the
            parameters of lowest cost on it are returned.
        patience: stop after that many epochs in a row without a lower validation cost.
        on_epoch: called after every epoch, `on_epoch(epoch, measures, state)`, counting from 1;
            returning True stops. It costs a look from the host at every epoch. Where there is a
            folder, a run that it stopped, or that ended with an error of it, is saved before; the
            next call asks it about that epoch again, and goes on unless it stops again.
        progress: whether to show a bar, if standard error is a terminal or a notebook.
        checkpoint: a folder to save the run in. If it holds a checkpoint of the same run, training
            resumes from it, to the same bits as if it had never been interrupted. A run is the same
            if its data, key, starting state and JAX's settings have the same values, and JAX traces
            its functions to the same programs; `epochs` may be more than it was. The files are
            `save`'s, of `(state, history)`, and `best.safetensors` has the parameters of lowest
            validation cost.
        keep: how many of the last checkpoints stay, at least 1.
        save_every: so many epochs, or so much time, but then never so often that it takes more than
            a hundredth of the run's. The start and the end are saved anyhow.

    Ctrl-C ends the run after the epochs that are under way, and what there is is saved and
    returned; pressed twice, it interrupts like anywhere else. So does SIGTERM where there is a
    folder, and then ends the program.

    If a checkpoint cannot be written while the run goes on, that is printed, the last one stays,
    and the next is tried at its time; if the last cannot, there is a `CheckpointWarning`. What
    cannot be printed, since standard error is closed or its disk full, is left out.

    Raises:
        TypeError, ValueError: arguments that do not fit, found before anything is compiled: also
            values that are not finite, labels out of range, and a folder with another run.
        OSError: the folder cannot be written, or another run is using it.
        NonFiniteError: the cost of an epoch, or a parameter after it, is not finite. The
            message says in which step and where in the network the first such value appeared.

    Called again with arguments of the same shapes, and functions that JAX traces to the same
    programs, it compiles nothing. What a function reads may change between two calls: an attribute,
    a global variable, a module. The next call notices.

    >>> from jaxnet import adam, mlp, squared_error
    >>> inputs = np.linspace(-1, 1, 64)[:, None]
    >>> data = inputs, inputs**2
    >>> key = jax.random.key(0)
    >>> network = mlp([1, 8, 1])
    >>> run = fit(network, squared_error, adam(0.01), data, key=key, epochs=99, batch_size=16)
    >>> run.stopped, bool(run.history["cost"][-1] < 0.01)
    ('finished', True)
    """
    check_arguments(network, optimizer, state)
    checks.key(key)
    if not all(map(dtypes.is_concrete, jax.tree.leaves((key, state)))):
        raise checks.InvalidType(
            "expected key and state with values. Received: traced arrays; use train"
        )
    checks.integer("epochs", epochs, 1)
    given, data = (data, validation), check_data("data", data)
    check_values("data", data, given[0])
    epochs, batch_size = check_steps(epochs, batch_size, data)
    checks.boolean("progress", progress)
    if on_epoch is not None:
        checks.function("on_epoch", on_epoch)
    if patience is not None:
        patience = checks.integer("patience", patience, 1)
        if validation is None:
            raise checks.InvalidValue("expected validation data with patience. Received: None")
    if validation is not None:
        validation = check_data("validation", validation)
        check_values("validation", validation, given[1])
    if checkpoint is not None:
        checks.path("checkpoint", checkpoint)
    keep = checks.integer("keep", keep, 1)
    save_every = _checked_interval(save_every)
    data = with_relative_weights(data)
    validation = None if validation is None else with_relative_weights(validation)
    plan = Plan(
        network, loss, optimizer, batch_size, metrics, patience, validation is not None, epochs
    )
    functions = trainer.check(plan, key, data, validation, state, given)
    with contextlib.ExitStack() as stack:
        folder = None
        if checkpoint is not None:
            identity = identify(plan, data, validation, key, state)
            folder = stack.enter_context(RunFolder(checkpoint, identity, keep, save_every))
        begin = functools.partial(_begun, plan, key, data, validation, state, functions, folder)
        compile_advance = functools.partial(
            trainer.compile_advance,
            plan,
            data=data,
            validation=validation,
            key=key,
            identity=functions,
        )
        find = functools.partial(
            first_failure,
            network,
            loss,
            optimizer,
            data=data,
            batch_size=batch_size,
            validation=validation,
            key=key,
        )
        examples = len(data.inputs)
        result = _drive(plan, begin, compile_advance, find, examples, folder, on_epoch, progress)
    if folder and folder.failure:
        message = f"the run could not be saved to its end: {folder.failure}"
        warn(CheckpointWarning(message, result), stacklevel=2)
    return result


def _begun(
    plan: Plan,
    key: Array,
    data: Data,
    validation: Data | None,
    state: TrainState | None,
    functions: Hashable,
    folder: RunFolder | None,
) -> tuple[Run, str]:
    """The run's start, or what is in the folder of it, and whether and why it had stopped."""
    run = trainer.start(plan, key, data, validation, state, functions)
    if not folder:
        return run, ""
    saved = folder.newest(functools.partial(_like, plan, run))
    if not saved:
        folder.begin(_saved(plan, run, ""))
        return run, ""
    if saved.stopped != "patience" and saved.epoch < plan.epochs:
        folder.require_writable()
    return _resumed(plan, run, saved), saved.stopped


def _drive(
    plan: Plan,
    begin: Callable[[], tuple[Run, str]],
    compile_advance: Callable[[Run], Callable[[Run, int], Run]],
    find: Callable[[TrainState], NonFiniteStep | None],
    examples: int,
    folder: RunFolder | None,
    on_epoch: OnEpoch | None,
    progress: bool,
) -> FitResult:
    """Runs stretches of epochs of about the time between two looks.

    Nobody else holds on to a run, so that no more than two are in memory.
    """
    run, stopped = begin()
    advance = compile_advance(run)
    done, stretch = int(run.done), 1

    def asked_to_stop() -> bool:
        """Asks `on_epoch`. If that raises, the run is saved, and it is asked again in the next."""
        if not on_epoch:
            return False
        try:
            return bool(on_epoch(done, trainer.measures(plan, run), run.state))
        except BaseException:
            if folder:
                reason = "patience" if bool(run.ended) else "on_epoch"
                folder.save(_saved(plan, run, reason), wait=True)
            raise

    with (
        progress_bar(plan.epochs, "epoch", progress, done) as bar,
        note_interrupts("fit", termination=folder is not None) as interrupted,
    ):
        if stopped == "on_epoch" and not asked_to_stop():
            stopped = ""
        if done == plan.epochs:
            stopped = stopped or "finished"
        while not stopped:
            until = min(plan.epochs, done + stretch)
            until = folder.not_beyond(until) if folder else until
            since, before = time.perf_counter(), run
            run = advance(run, until)
            made, done = int(run.done) - done, int(run.done)
            seconds = (time.perf_counter() - since) / made  # an epoch
            if not trainer.is_sound(plan, run):
                raise _failed(plan, before, run, advance, find, folder)
            _show(bar, made, trainer.measures(plan, run), examples / seconds)
            if not on_epoch:
                stretch = max(1, int(_SECONDS_BETWEEN_LOOKS / seconds))
            asked = asked_to_stop()
            if bool(run.ended):
                stopped = "patience"
            elif asked:
                stopped = "on_epoch"
            elif done == plan.epochs:
                stopped = "finished"
            elif interrupted():
                stopped = "interrupted"
            if folder and (stopped or folder.is_due(done)):
                folder.save(_saved(plan, run, stopped), wait=bool(stopped))
    if interrupted() == signal.SIGTERM:
        raise SystemExit(128 + signal.SIGTERM)
    return _fit_of(plan, run, stopped)


def _fit_of(plan: Plan, run: Run, stopped: str) -> FitResult:
    best = run.state.best if plan.validated else None
    past = trainer.history(plan, run)
    return FitResult((best or run.state).parameters, past, run.state, stopped)


def _show(bar: Any, epochs: int, measures: dict[str, float], speed: float) -> None:
    values = [f"{name} {value:.4g}" for name, value in measures.items()]
    bar.set_postfix_str(", ".join([*values, f"{speed:.3g} examples/s"]), refresh=False)
    bar.update(epochs)


def _failed(
    plan: Plan,
    before: Run,
    run: Run,
    advance: Callable[[Run, int], Run],
    find: Callable[[TrainState], NonFiniteStep | None],
    folder: RunFolder | None,
) -> NonFiniteError:
    """The error for a stretch after which a cost or a parameter is not finite."""

    def is_wrong(epoch: int) -> bool:
        return not trainer.is_sound(plan, advance(before, epoch))

    done = int(run.done)
    epoch = bisect.bisect_left(range(done), True, lo=int(before.done) + 1, key=is_wrong)
    last = advance(before, epoch - 1)
    past = trainer.history(plan, run)
    costs = {name: past[name][epoch - 1] for name in plan.costs()}
    wrong = [name for name, cost in costs.items() if not math.isfinite(cost)]
    what = (
        f"the {wrong[0]} of epoch {epoch} is {costs[wrong[0]]}"
        if wrong
        else f"a parameter is not finite after epoch {epoch}"
    )
    failure = find(last.state)
    message = f"fit: {what}. {failure or _ROUNDING}"
    if folder:
        folder.save(_saved(plan, last, ""), wait=True)
        state = failure.state if failure else last.state
        message += f". {folder.save_aside(state)}"
    return NonFiniteError(message, _fit_of(plan, last, "not finite"), epoch, failure)


_ROUNDING = (
    "It was finite when that epoch was made again step by step, so rounding decides. Usual causes: "
    "a learning rate that is too high, or inputs that are not standardised"
)


# What is kept of a run in a folder.


def _saved(plan: Plan, run: Run, stopped: str) -> Saved:
    for_good = stopped if stopped in ("patience", "on_epoch") else ""
    return Saved(run.state, trainer.history(plan, run), int(run.done), for_good)


def _like(plan: Plan, run: Run, epoch: int) -> tuple[TrainState, History]:
    """What a checkpoint of that epoch holds."""
    return run.state, {name: np.empty(epoch, np.float32) for name in plan.names()}


def _resumed(plan: Plan, start: Run, saved: Saved) -> Run:
    """The run that was saved, in arrays like those of a start and where they are."""
    if saved.epoch > plan.epochs:
        raise checks.InvalidValue(
            f"expected epochs of at least {saved.epoch}, which the run in checkpoint has "
            f"behind it. Received: {plan.epochs}"
        )
    rows = np.stack([saved.history[name] for name in plan.names()], axis=1)
    history = np.zeros(start.history.shape, np.float32)
    history[: saved.epoch] = rows
    state = jax.tree.map(_as_weak_as, saved.state, start.state)
    done = jnp.array(saved.epoch, jnp.int32)
    run = start._replace(state=state, history=jnp.array(history), done=done)
    return jax.device_put(run, jax.tree.map(lambda array: array.sharding, start))


def _as_weak_as(leaf: Array, start: Array) -> Array:
    """A leaf that gives way to other dtypes if the start's does, as files do not say."""
    return start.at[...].set(leaf) if getattr(start, "weak_type", False) else leaf


def _checked_interval(save_every: Every) -> Every:
    if not isinstance(save_every, datetime.timedelta):
        if isinstance(save_every, (float, np.timedelta64)):
            raise checks.InvalidType(
                "expected save_every as a number of epochs or a datetime.timedelta. "
                f"Received: {checks.describe(save_every)}"
            )
        return checks.integer("save_every", save_every, 1)
    if save_every < datetime.timedelta(0):
        raise checks.InvalidValue(f"expected save_every not below 0. Received: {save_every}")
    return save_every
