"""The identity of a run: what decides its numbers, kept with a checkpoint and compared on resuming.

Two runs are the same if their data, key, starting state and settings have the same values, and if
their functions are traced to the same program. How two runs differ is said in words, where those
can be found: an outline says what a function was built from.
"""

import os
from typing import Any

import jax
from jaxtyping import Array, Key

from jaxnet.core import programs
from jaxnet.core.outlines import difference, outline
from jaxnet.fitting import trainer
from jaxnet.fitting.trainer import Plan
from jaxnet.io.file_format import versions
from jaxnet.training.data import Data
from jaxnet.training.train import TrainState

Identity = dict[str, Any]
"""What JSON can hold."""

_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_threefry_partitionable",
    "jax_default_prng_impl",
    "jax_random_seed_offset",
    "jax_allow_f16_reductions",
    "jax_optimization_level",
)
"""Settings of JAX that change a program's numbers, also where its trace does not show it."""


def identify(
    plan: Plan,
    data: Data,
    validation: Data | None,
    key: Key[Array, ""],
    state: TrainState | None,
) -> Identity:
    """The identity of a run, which does not depend on how many epochs it has.

    "values" and "programs" decide whether two runs are the same. "outlines" say what differs where
    a program does. Programs of different versions of JAX cannot be compared: then outlines decide.
    """
    values = {
        "data": data,
        "validation": validation,
        "key": key,
        "state": state,
        "batch_size": plan.batch_size or len(data.inputs),
        "patience": plan.patience,
        "metrics": list(plan.metrics or ()),
        "settings": {name: getattr(jax.config, name, None) for name in _SETTINGS},
    }
    functions = {n: getattr(plan, n) for n in ("network", "loss", "metrics", "optimizer")}
    prints = trainer.fingerprints(plan._replace(epochs=1), key, data, validation, state)
    return {
        "environment": environment(),
        "values": {name: outline(value) for name, value in values.items()},
        "programs": {name: [p.digest, *_callbacks(p)] for name, p in prints.items()},
        "outlines": {name: outline(part) for name, part in functions.items()},
    }


def environment() -> dict[str, str]:
    """Where a run computes: versions, devices and the flags of the compiler."""
    device = jax.devices()[0].device_kind
    devices = f"{jax.device_count()} x {device}"
    return {**versions(), "devices": devices, "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")}


def differ(before: Identity, now: Identity) -> str | None:
    """What differs between two runs, in words; None if they are the same run."""
    settings = before["values"]["settings"]
    known = {name: settings[name] for name in _SETTINGS if name in settings}
    if found := difference({**before["values"], "settings": known}, now["values"]):
        return found
    if not _traces_equally(before, now):
        return difference(before["outlines"], now["outlines"])
    for name, program in now["programs"].items():
        if before["programs"][name] != program:
            parts = ("network", "optimizer") if name == "initial state" else (name.split("/")[0],)
            then, today = ({p: run["outlines"][p] for p in parts} for run in (before, now))
            return difference(then, today) or f"the {name} computes something else"
    return None


def environment_changed(before: Identity, now: Identity) -> str | None:
    """What differs in where two runs compute, in words."""
    found = difference(before["environment"], now["environment"])
    if found and not _traces_equally(before, now):
        found += ", so that only what the functions were built from could be compared"
    return found


def _traces_equally(before: Identity, now: Identity) -> bool:
    """Whether equal functions are traced to equal programs in the two environments."""
    then, today = before["environment"], now["environment"]
    return all(then[name] == today[name] for name in _TRACING)


_TRACING = ("jax", "jaxlib", "jaxnet", "numpy", "optax")


def _callbacks(found: programs.Fingerprint) -> list[Any]:
    return [outline(callback.value) for callback in found.callbacks]
