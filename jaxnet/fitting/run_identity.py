"""The identity of a run: what decides its numbers, kept with a checkpoint and compared on resuming.

Two runs are the same if their data, key, starting state and settings have the same values, and if
JAX traces their functions to the same programs. An outline, which says what a function was built
from, puts a difference into words.
"""

import functools
from typing import Any

import numpy as np
from jaxtyping import Array, PyTree

from jaxnet.core import tracing
from jaxnet.core.outlines import difference, outline, outline_program
from jaxnet.core.programs import Fingerprint, fingerprint_jaxpr
from jaxnet.core.sharding import remove_placement
from jaxnet.fitting import program
from jaxnet.fitting.program import RunState
from jaxnet.fitting.run_data import RunData
from jaxnet.fitting.stream_trainer import StreamTrainer
from jaxnet.fitting.trainer import Trainer
from jaxnet.io.environment import environment, settings
from jaxnet.nn.metrics import Metric

Identity = dict[str, Any]
"""A tree that JSON can hold."""


def identify(trainer: Trainer | StreamTrainer) -> Identity:
    """The identity of a run, which does not depend on the number of its epochs.

    Unless the network does, which depends on the fraction of the training that is done.

    "values" and "programs" decide whether two runs are the same. "outlines" put a difference into
    words. Programs that were traced by different versions of JAX cannot be compared; then the
    outlines decide.
    """
    plan, objective = trainer.plan, trainer.plan.objective
    values = {
        **trainer.values(),
        "patience": plan.stopping.patience,
        "stopping": plan.stopping._replace(patience=None)._asdict(),
        "metrics": list(objective.metrics),
        "settings": settings(),
    }
    functions = {**objective._asdict(), "optimizer": plan.optimizer}
    inner = trainer.inner if isinstance(trainer, StreamTrainer) else trainer
    programs = fingerprint_programs(inner)
    sharding = plan.batch_sharding
    devices = 1 if sharding is None else sharding.num_devices
    return {
        "environment": {**environment(), "devices of a batch": devices},
        "values": {name: outline(value) for name, value in values.items()},
        "programs": {name: outline_program(p) for name, p in programs.items()},
        "outlines": {name: outline(function) for name, function in functions.items()},
    }


def fingerprint_programs(trainer: Trainer) -> dict[str, Fingerprint]:
    """The programs of a run by what they compute; the optimizer's contains the others."""
    # On other devices it is the same run, to rounding.
    plan = trainer.plan._replace(batch_sharding=None)
    state, arrays = remove_placement((trainer.state, trainer.arrays))
    objective, batch_size = plan.objective, plan.batch_size

    def apply(parameters: PyTree, arrays: RunData) -> Array:
        batches = arrays.batches(batch_size)
        network = objective.at(batches.fraction(np.int32(0))).network
        return network.apply(parameters, batches.first().inputs, key=batches.noise_key)

    def evaluate(function: Metric, outputs: Array, arrays: RunData) -> Array:
        return function(outputs, arrays.batches(batch_size).first().targets)

    start = tracing.trace(functools.partial(program.begin, plan), state, arrays)
    run: RunState = start.out_info
    applied = tracing.trace(program.map_members(apply), run.state.parameters, arrays)
    evaluated = {
        "loss" if name == "cost" else f"metrics/{name}": tracing.trace(
            program.map_members(functools.partial(evaluate, function)),
            applied.out_info,
            arrays,
        )
        for name, function in objective.functions().items()
    }
    step = tracing.trace(functools.partial(program.sample, plan), state, arrays)
    traced = {"network": applied, **evaluated, "initial state": start, "optimizer": step}
    return {
        name: fingerprint_jaxpr(each.jaxpr.jaxpr, each.jaxpr.consts)
        for name, each in traced.items()
    }


def differ(before: Identity, now: Identity) -> str | None:
    """Puts the difference between two runs into words; None if they are the same run."""
    saved = before["values"]["settings"]
    known = {name: saved[name] for name in settings() if name in saved}
    if found := difference({**before["values"], "settings": known}, now["values"]):
        return found
    if not _traces_equally(before, now):
        return difference(before["outlines"], now["outlines"])
    for name, traced in now["programs"].items():
        if before["programs"][name] != traced:
            parts = ("network", "optimizer") if name == "initial state" else (name.split("/")[0],)
            then, today = ({p: run["outlines"][p] for p in parts} for run in (before, now))
            return difference(then, today) or f"the {name} computes something else"
    return None


def environment_changed(before: Identity, now: Identity) -> str | None:
    """Puts the difference between the environments of two runs into words."""
    found = difference(before["environment"], now["environment"])
    if found and not _traces_equally(before, now):
        found += ", so only outlines of the functions were compared"
    return found


def _traces_equally(before: Identity, now: Identity) -> bool:
    """Whether equal functions are traced to equal programs in the two environments."""
    then, today = before["environment"], now["environment"]
    return all(then[name] == today[name] for name in _TRACING)


_TRACING = ("jax", "jaxlib", "jaxnet", "numpy", "optax")
