"""Stretches: so many epochs of a run in one call of a program that is compiled once.

What a run is between two stretches is a `Run`, arrays alone, so that it can be looked at, saved,
and gone on with from any of its ends to the same bits.
"""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnet import checks
from jaxnet.data import Data
from jaxnet.evaluation import Measure, named_measures
from jaxnet.failures import is_finite
from jaxnet.networks import Network
from jaxnet.statics import Static
from jaxnet.training import (
    TrainState,
    check_run,
    epochs_done,
    make_epoch,
    starting_state,
    with_best,
)

History = dict[str, np.ndarray]


class Plan(NamedTuple):
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

    def costs(self) -> list[str]:
        """Those of them that must be finite."""
        return ["cost", "validation_cost"][: 1 + self.validated]


class Run(NamedTuple):
    """What a stretch of epochs hands to the next."""

    state: TrainState
    history: Float[Array, "epochs measures"]
    done: Int[Array, ""]  # epochs
    ended: Bool[Array, ""]  # patience is at its end


def check(
    plan: Static[Plan],
    key: Key[Array, ""],
    data: Data,
    validation: Data | None,
    state: TrainState | None,
    given: tuple[Any, Any],
) -> None:
    """Traces the network and its measures on the data; on what has passed before, not again."""
    types = checks.types((data, validation, state))
    targets = [part.targets for part in (data, validation) if part is not None]
    values = tuple(hashlib.blake2b(np.asarray(t).tobytes()).digest() for t in targets)
    call = plan, types, values
    if call in _passed:
        return
    network, loss, optimizer, _, metrics, *_ = plan.value
    measures = named_measures("fit", loss, metrics)
    check_run("fit", network, measures, optimizer, data, validation, key, state, given)
    if len(_passed) >= _REMEMBERED:
        _passed.clear()
    _passed.add(call)


_passed: set[Any] = set()
_REMEMBERED = 256  # calls


@functools.partial(jax.jit, static_argnums=0, keep_unused=True)
def start(
    plan: Static[Plan],
    key: Key[Array, ""],
    data: Data,
    validation: Data | None,
    state: TrainState | None,
) -> Run:
    """Before the first epoch.

    It takes the data to be where the data is, as it will be after the first stretch: `advance`
    would be compiled once for each otherwise.
    """
    network, _, optimizer, *_ = plan.value
    if state is None:
        state = starting_state(network, optimizer, key)
    if plan.value.validated:
        state = with_best(state)
    history = jnp.zeros((plan.value.epochs, len(plan.value.names())), jnp.float32)
    return Run(state, history, jnp.zeros((), jnp.int32), jnp.zeros((), bool))


@functools.partial(jax.jit, static_argnums=0)
def advance(
    plan: Static[Plan],
    run: Run,
    until: ArrayLike,
    data: Data,
    validation: Data | None,
    key: Key[Array, ""],
) -> Run:
    """Goes on with a run until so many epochs are done, or patience is at its end."""
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

    def body(run: Run) -> Run:
        state, measures = epoch(run.state)
        row = jnp.stack([measures[name].astype(jnp.float32) for name in plan.value.names()])
        ended = run.ended
        if patience is not None and state.best is not None:
            ended = epochs_done(state, data, batch_size) - state.best.epoch >= patience
        past = jax.lax.dynamic_update_index_in_dim(run.history, row, run.done, axis=0)
        return Run(state, past, run.done + 1, ended)

    return jax.lax.while_loop(lambda run: (run.done < until) & ~run.ended, body, run)


def history(plan: Plan, run: Run) -> History:
    """All measures of the epochs that are done, by their names."""
    rows = np.asarray(run.history)[: int(run.done)]
    return {name: rows[:, i].copy() for i, name in enumerate(plan.names())}


def measures(plan: Plan, run: Run) -> dict[str, float]:
    """Those of the last epoch that is done."""
    row = np.asarray(run.history)[int(run.done) - 1]
    return dict(zip(plan.names(), map(float, row), strict=True))


def is_sound(plan: Plan, run: Run) -> bool:
    """Whether every cost so far is finite, and every parameter."""
    past = history(plan, run)
    costs = [past[name] for name in plan.costs()]
    return bool(np.isfinite(costs).all()) and is_finite(run.state.parameters)
