"""Stretches: so many epochs of a run in one call of a program that is compiled once.

What a run is between two stretches is a `Run`, arrays alone, so that it can be looked at, saved,
and gone on with from any of its ends to the same bits.
"""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnet.core import compilation, programs, tracing, trees
from jaxnet.debug.replay import is_finite
from jaxnet.nn.losses import Loss
from jaxnet.nn.metrics import Metric
from jaxnet.nn.network import Network
from jaxnet.training.data import Data
from jaxnet.training.evaluation import EXAMPLES_AT_A_TIME, means_over, named_measures
from jaxnet.training.train import (
    TrainState,
    check_run,
    epochs_done,
    make_batches,
    make_epoch,
    make_step,
    on_task,
    starting_state,
)

History = dict[str, np.ndarray]


class Plan(NamedTuple):
    """What the compiled programs depend on."""

    network: Network
    loss: Loss
    optimizer: optax.GradientTransformation
    batch_size: int | None
    metrics: Mapping[str, Metric] | None
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
    plan: Plan,
    key: Key[Array, ""],
    data: Data,
    validation: Data | None,
    state: TrainState | None,
    given: tuple[Any, Any],
) -> Hashable:
    """Traces the network, its measures and a step on the data; what has passed before, not again.

    Returns:
        The identity of what the run calls the plan's functions for, as `compile_once` takes it.
    """
    identity = None
    with contextlib.suppress(Exception):  # the checks below say what is wrong
        identity = compilation.identify(_sample, (plan,), (key, data, validation, state))
    targets = [part.targets for part in (data, validation) if part is not None]
    values = tuple(hashlib.blake2b(np.asarray(t).tobytes()).digest() for t in targets)
    call = identity, compilation.settings(), trees.types((data, validation, state)), values
    if identity is None or call not in _passed:
        network, loss, optimizer, _, metrics, *_ = plan
        measures = named_measures(loss, metrics)
        check_run(network, measures, optimizer, data, validation, key, state, given)
        if len(_passed) >= _REMEMBERED:
            _passed.clear()
        _passed.add(call)
    return identity


_passed: set[Any] = set()
_REMEMBERED = 256  # calls


def start(
    plan: Plan,
    key: Key[Array, ""],
    data: Data,
    validation: Data | None,
    state: TrainState | None,
    identity: Hashable,
) -> Run:
    """The run before the first epoch; the identity is that which `check` returned."""
    arguments = key, data, validation, state
    # With the data as an argument, used or not, the run is where the data is, as it is after an
    # epoch. Otherwise `_advance` would be compiled for each of the two places.
    program = compilation.compile_once(
        _start, (plan,), arguments, identity=identity, keep_unused=True
    )
    return program(*arguments)


def _start(
    plan: Plan,
    key: Key[Array, ""],
    data: Data,
    validation: Data | None,
    state: TrainState | None,
) -> Run:
    network, _, optimizer, *_ = plan
    if state is None:
        state = starting_state(network, optimizer, key)
    state = on_task(state, data, validation, plan.batch_size)
    history = jnp.zeros((plan.epochs, len(plan.names())), jnp.float32)
    return Run(state, history, jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def compile_advance(
    plan: Plan,
    run: Run,
    data: Data,
    validation: Data | None,
    key: Key[Array, ""],
    identity: Hashable,
) -> Callable[[Run, int], Run]:
    """Makes `advance(run, until)`, which goes on until so many epochs are done or patience ends."""
    arguments = run, 0, data, validation, key
    program = compilation.compile_once(_advance, (plan,), arguments, identity=identity)
    return lambda run, until: program(run, until, data, validation, key)


def _advance(
    plan: Plan,
    run: Run,
    until: ArrayLike,
    data: Data,
    validation: Data | None,
    key: Key[Array, ""],
) -> Run:
    network, loss, optimizer, batch_size, metrics, patience, *_ = plan
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
        row = jnp.stack([measures[name].astype(jnp.float32) for name in plan.names()])
        ended = run.ended
        if patience is not None and state.best is not None:
            ended = epochs_done(state, data, batch_size) - state.best.epoch >= patience
        past = jax.lax.dynamic_update_index_in_dim(run.history, row, run.done, axis=0)
        return Run(state, past, run.done + 1, ended)

    return jax.lax.while_loop(lambda run: (run.done < until) & ~run.ended, body, run)


def _sample(
    plan: Plan,
    key: Key[Array, ""],
    data: Data,
    validation: Data | None,
    state: TrainState | None,
) -> tuple[TrainState, list[Array]]:
    """The start, a step and an evaluation: every call that a run makes of the user's functions."""
    network, loss, optimizer, _, metrics, *_ = plan
    begun = _start(plan, key, data, validation, state).state
    batch, noise_key = _first_batch(plan, data, key)
    state, measures = make_step(network, loss, optimizer, metrics)(begun, batch, noise_key)
    if validation is not None:
        named = named_measures(loss, metrics)
        held_out = means_over(network, named, EXAMPLES_AT_A_TIME, state.parameters, validation)
        measures |= {f"validation_{name}": value for name, value in held_out.items()}
    return state, [measures[name] for name in plan.names()]


def _first_batch(plan: Plan, data: Data, key: Key[Array, ""]) -> tuple[Data, Key[Array, ""]]:
    """A batch of the shapes of a step's, and the key of what is random in the network."""
    batches = make_batches(data, key=key, batch_size=plan.batch_size)
    if batches.steps == 1:
        return data, batches.noise_key
    rows = jnp.arange(plan.batch_size, dtype=jnp.int32)
    return batches.taken(rows, rows >= 0), batches.noise_key


def fingerprints(
    plan: Plan,
    key: Key[Array, ""],
    data: Data,
    validation: Data | None,
    state: TrainState | None,
) -> dict[str, programs.Fingerprint]:
    """The programs of a run by what they compute; the optimizer's contains the others."""
    network, loss, _, _, metrics, *_ = plan

    def apply(parameters: PyTree, data: Data, key: Key[Array, ""]) -> Array:
        batch, noise_key = _first_batch(plan, data, key)
        return network.apply(parameters, batch.inputs, key=noise_key)

    def measure(function: Metric, outputs: Array, data: Data, key: Key[Array, ""]) -> Array:
        return function(outputs, _first_batch(plan, data, key)[0].targets)

    begun = tracing.trace(functools.partial(_start, plan), key, data, validation, state)
    run: Run = begun.out_info
    applied = tracing.trace(apply, run.state.parameters, data, key)
    measured = {
        name: tracing.trace(functools.partial(measure, each), applied.out_info, data, key)
        for name, each in {"loss": loss, **_labelled(metrics)}.items()
    }
    step = tracing.trace(functools.partial(_sample, plan), key, data, validation, state)
    traced = {"network": applied, **measured, "initial state": begun, "optimizer": step}
    return {
        name: programs.fingerprint_jaxpr(found.jaxpr.jaxpr, found.jaxpr.consts)
        for name, found in traced.items()
    }


def _labelled(metrics: Mapping[str, Metric] | None) -> dict[str, Metric]:
    return {f"metrics/{name}": metric for name, metric in (metrics or {}).items()}


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
