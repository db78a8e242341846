"""What the results of a ranking depend on, for its manifest."""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jaxnet.ranking.contenders import Contender, evaluate_schedule
from jaxnet.ranking.tasks import Task
from jaxnet.ranking.trials import hash_run

_PACKAGES = ("jaxnet-dense", "jax", "jaxlib", "numpy", "opda", "optax", "scipy")


def describe(
    contenders: Sequence[Contender],
    tasks: Sequence[Task],
    key: Key[Array, ""],
    trials: int,
    seeds: int,
) -> dict[str, Any]:
    """What the results depend on, in the form of JSON. Functions are in the traced programs."""
    return {
        "key": {"data": jax.random.key_data(key).tolist(), "impl": str(jax.random.key_impl(key))},
        "trials": trials,
        "seeds": seeds,
        "contenders": [
            {
                "name": contender.name,
                "space": {
                    name: {"kind": type(space).__name__, **space._asdict()}
                    for name, space in contender.space.items()
                },
                "schedule": hash_arrays(evaluate_schedule(contender, 100)),
            }
            for contender in contenders
        ],
        "tasks": [
            {
                "name": task.name,
                "network": task.network.name,
                "batch_size": task.batch_size,
                "epochs": task.epochs,
                "target": task.target,
                "data": hash_arrays(*jax.tree.leaves((task.train, task.validation, task.test))),
            }
            for task in tasks
        ],
        "programs": {
            contender.name: {task.name: hash_run(contender, task) for task in tasks}
            for contender in contenders
        },
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": jax.local_devices()[0].device_kind,
        "devices": len(jax.local_devices()),
    }


def hash_arrays(*arrays: Any) -> str:
    """The SHA-256 of the types, shapes and values of arrays."""
    digest = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        digest.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def read_key(settings: dict[str, Any]) -> Key[Array, ""]:
    """The key in the settings."""
    key = settings["key"]
    return jax.random.wrap_key_data(jnp.array(key["data"], jnp.uint32), impl=key["impl"])
