"""Fitting: the host's side of a training run.

`fit` checks its arguments, compiles one program and calls it for a stretch of epochs at a time. In
between it looks in: it moves the progress bar, and it stops for a key press, for a cost that is
not finite, or for a validation cost that no longer falls. The epochs themselves are `training`'s,
and the device is not kept waiting for more than a glance a few times a second.
"""

import functools
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnet import checks
from jaxnet.data import Data, DataLike, check_batch_size, check_data, check_values
from jaxnet.evaluation import Measure, check_measures, named_measures
from jaxnet.networks import Network
from jaxnet.progress import bar_of, noted_interrupts
from jaxnet.statics import Static
from jaxnet.training import TrainState, epochs_done, make_epoch, starting_state, with_best

__all__ = ["Fit", "NonFiniteCostError", "fit"]

History = dict[str, np.ndarray]
OnEpoch = Callable[[int, dict[str, float], TrainState], bool | None]

_SECONDS_BETWEEN_LOOKS = 0.2


class Fit(NamedTuple):
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


class NonFiniteCostError(FloatingPointError):
    """A cost was infinite or NaN. `fit` is the run up to and with that epoch, as a `Fit`."""

    def __init__(self, message: str, fit: Fit) -> None:
        """The message, and the run so far."""
        super().__init__(message)
        self.fit = fit


def fit(
    network: Network,
    loss: Measure,
    optimizer: optax.GradientTransformation,
    data: DataLike,
    *,
    key: Key[Array, ""],
    epochs: int,
    batch_size: int | None,
    validation: DataLike | None = None,
    metrics: Mapping[str, Measure] | None = None,
    patience: int | None = None,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
    state: TrainState | None = None,
) -> Fit:
    """Trains a network: `jaxnet.train`, with a progress bar, checks, early stopping and Ctrl-C.

    Args:
        network, loss, optimizer, key, epochs, batch_size, metrics, state: as in `train`; the same
            key gives the same numbers.
        data: `(inputs, targets)` or `(inputs, targets, weights)`: NumPy, JAX or pandas, or lists.
            All floating-point numbers and the inputs become float32, other targets int32; JAX
            arrays stay as they are.
        validation: the same, of further data. It is evaluated after every epoch, and the
            parameters of lowest cost on it are returned.
        patience: stop after that many epochs in a row without a lower validation cost.
        on_epoch: called after every epoch, `on_epoch(epoch, measures, state)`, counting from 1;
            returning True stops. It costs a look from the host at every epoch.
        progress: whether to show a bar, if standard error is a terminal or a notebook.

    Ctrl-C ends the run after the epochs that are under way, and what there is is returned; pressed
    twice, it interrupts like anywhere else.

    Raises:
        TypeError, ValueError: arguments that do not fit, found before anything is compiled: also
            values that are not finite and labels out of range.
        NonFiniteCostError: the cost of an epoch is not finite. The epoch is named.

    Called again with arguments of the same shapes, built equally, it compiles nothing.

    >>> from jaxnet import adam, mlp, squared_error
    >>> inputs = np.linspace(-1, 1, 64)[:, None]
    >>> data = inputs, inputs**2
    >>> key = jax.random.key(0)
    >>> network = mlp([1, 8, 1])
    >>> run = fit(network, squared_error, adam(0.01), data, key=key, epochs=99, batch_size=16)
    >>> run.stopped, bool(run.history["cost"][-1] < 0.01)
    ('finished', True)
    """
    checks.key("fit", key)
    checks.whole_number("fit", "epochs", epochs, 1)
    data = check_data("fit", "data", data)
    check_values("fit", "data", data)
    check_batch_size("fit", batch_size, data)
    if patience is not None:
        checks.whole_number("fit", "patience", patience, 1)
        if validation is None:
            raise ValueError("fit: expected validation data with patience. Received: None")
    if validation is not None:
        validation = check_data("fit", "validation", validation)
        check_values("fit", "validation", validation)
    plan = _Plan(
        network, loss, optimizer, batch_size, metrics, patience, validation is not None, epochs
    )
    static = Static(plan)
    _check_measures(static, key, data, validation, state)
    run = _start(static, key, state)
    # A hook may keep the states it is given, so only without one may the next overwrite the last.
    compiled = _advance if on_epoch else _advance_in_place
    advance = functools.partial(compiled, static, data=data, validation=validation, key=key)
    return _drive(plan, run, advance, len(data.inputs), on_epoch, progress)


class _Plan(NamedTuple):
    """What the compiled programs depend on."""

    network: Network
    loss: Measure
    optimizer: optax.GradientTransformation
    batch_size: int | None
    metrics: Mapping[str, Measure] | None
    patience: int | None
    validated: bool
    epochs: int

    def names(self) -> list[str]:
        """What the history holds."""
        prefixes = ("", "validation_") if self.validated else ("",)
        return [prefix + name for prefix in prefixes for name in ("cost", *(self.metrics or ()))]


class _Run(NamedTuple):
    """What a stretch of epochs hands to the next."""

    state: TrainState
    history: Float[Array, "epochs measures"]
    done: Int[Array, ""]  # epochs
    ended: Bool[Array, ""]  # a cost was not finite, or patience is at its end


def _check_measures(
    static: Static[_Plan],
    key: Key[Array, ""],
    data: Data,
    validation: Data | None,
    state: TrainState | None,
) -> None:
    """Traces the network and its measures on the data; on what has passed before, not again."""
    arrays, structure = jax.tree.flatten((data, validation, state))
    types = tuple((array.shape, array.dtype) for array in arrays)
    targets = [part.targets for part in (data, validation) if part is not None]
    values = tuple(hashlib.blake2b(np.asarray(t).tobytes()).digest() for t in targets)
    call = static, structure, types, values
    if call in _passed:
        return
    network, loss, _, _, metrics, *_ = static.value
    measures = named_measures("fit", loss, metrics)
    parameters = jax.eval_shape(network.init, key) if state is None else state.parameters
    check_measures("fit", "data", network, measures, data, parameters)
    if validation is not None:
        check_measures("fit", "validation", network, measures, validation, parameters)
    if len(_passed) >= _REMEMBERED:
        _passed.clear()
    _passed.add(call)


_passed: set[Any] = set()
_REMEMBERED = 256  # calls


@functools.partial(jax.jit, static_argnums=0)
def _start(plan: Static[_Plan], key: Key[Array, ""], state: TrainState | None) -> _Run:
    """Before the first epoch; a given state is copied, since what is donated must be ours alone."""
    network, _, optimizer, *_ = plan.value
    if state is None:
        state = starting_state(network, optimizer, key)
    if plan.value.validated:
        state = with_best(state)
    history = jnp.zeros((plan.value.epochs, len(plan.value.names())), jnp.float32)
    run = _Run(state, history, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    return jax.tree.map(jnp.copy, run)


def _epochs(
    plan: Static[_Plan],
    run: _Run,
    until: ArrayLike,
    data: Data,
    validation: Data | None,
    key: Key[Array, ""],
) -> _Run:
    """Goes on with a run until so many epochs are done, or it has ended."""
    network, loss, optimizer, batch_size, metrics, patience, *_ = plan.value
    epoch = make_epoch(
        network,
        loss,
        optimizer,
        data,
        key=key,
        batch_size=batch_size,
        validation=validation,
        metrics=metrics,
    )

    def body(run: _Run) -> _Run:
        state, measures = epoch(run.state)
        row = jnp.stack([measures[name].astype(jnp.float32) for name in plan.value.names()])
        costs = [measures[name] for name in ("cost", "validation_cost") if name in measures]
        ended = ~jnp.isfinite(jnp.stack(costs)).all()
        if patience is not None and state.best is not None:
            ended |= epochs_done(state, data, batch_size) - state.best.epoch >= patience
        return _Run(state, run.history.at[run.done].set(row), run.done + 1, ended)

    return jax.lax.while_loop(lambda run: (run.done < until) & ~run.ended, body, run)


_advance = jax.jit(_epochs, static_argnums=0)
_advance_in_place = jax.jit(_epochs, static_argnums=0, donate_argnums=1)


def _drive(
    plan: _Plan,
    run: _Run,
    advance: Callable[..., _Run],
    examples: int,
    on_epoch: OnEpoch | None,
    progress: bool,
) -> Fit:
    """Runs stretches of epochs of about the time between two looks."""
    stopped, done, stretch, timed = "", 0, 1, False
    with bar_of(plan.epochs, "epoch", progress) as bar, noted_interrupts("fit") as interrupted:
        while not stopped:
            begin = time.perf_counter()
            run = advance(run, until=min(done + stretch, plan.epochs))
            before, done = done, int(run.done)
            seconds = (time.perf_counter() - begin) / (done - before)  # an epoch
            history = np.array(run.history)[:done]  # copied: the next stretch overwrites it
            measures = dict(zip(plan.names(), history[-1].tolist(), strict=True))
            _show(bar, done - before, measures, examples / seconds)
            if timed and not on_epoch:  # the first stretch compiles
                stretch = min(max(1, int(_SECONDS_BETWEEN_LOOKS / seconds)), 10 * stretch)
            timed = True
            if bool(run.ended):
                stopped = "patience" if _is_finite(measures) else "not finite"
            elif on_epoch and on_epoch(done, measures, run.state):
                stopped = "on_epoch"
            elif done == plan.epochs:
                stopped = "finished"
            elif interrupted():
                stopped = "interrupted"
    columns = {name: history[:, i].copy() for i, name in enumerate(plan.names())}
    best = run.state.best if plan.validated else None
    result = Fit((best or run.state).parameters, columns, run.state, stopped)
    if stopped == "not finite":
        raise NonFiniteCostError(_explain(done, measures), result)
    return result


def _is_finite(measures: dict[str, float]) -> bool:
    return all(math.isfinite(measures.get(name, 0.0)) for name in ("cost", "validation_cost"))


def _show(bar: Any, epochs: int, measures: dict[str, float], speed: float) -> None:
    values = [f"{name} {value:.4g}" for name, value in measures.items()]
    bar.set_postfix_str(", ".join([*values, f"{speed:.3g} examples/s"]), refresh=False)
    bar.update(epochs)


def _explain(epoch: int, measures: dict[str, float]) -> str:
    name = "cost" if not np.isfinite(measures["cost"]) else "validation_cost"
    return (
        f"fit: the {name} of epoch {epoch} is {measures[name]}. Usual causes: a learning rate that "
        "is too high, inputs that are not standardised, or a loss that takes the logarithm of 0"
    )
