"""The environment of a run: what changes its numbers besides the run itself."""

import os
from typing import Any

import jax

from jaxnet.io.file_format import versions

_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_threefry_partitionable",
    "jax_default_prng_impl",
    "jax_random_seed_offset",
    "jax_allow_f16_reductions",
    "jax_optimization_level",
)


def environment() -> dict[str, str]:
    """The versions, devices and compiler flags of a run."""
    device = jax.devices()[0].device_kind
    devices = f"{jax.device_count()} x {device}"
    return {**versions(), "devices": devices, "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")}


def settings() -> dict[str, Any]:
    """The settings of JAX that change numbers, also where a traced program does not show it."""
    return {name: getattr(jax.config, name, None) for name in _SETTINGS}
