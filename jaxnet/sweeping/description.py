"""The description of a sweep: what decides its results, kept in its folder and compared.

As with a run of `fit`, the traced programs decide, and outlines put a difference into words. The
number of runs side by side, the machine and its devices do not count: they change results by
rounding only, and a warning tells of another kind of device.
"""

import hashlib
import json
from typing import Any

import jax

from jaxnet.core import programs
from jaxnet.core.outlines import difference, outline, outline_program
from jaxnet.io.environment import environment, settings
from jaxnet.sweeping.grid import Grid
from jaxnet.sweeping.run import Run, TracedRun, label

Description = dict[str, Any]
"""A tree that JSON can hold."""

_ENVIRONMENT = ("jax", "jaxlib", "XLA_FLAGS")


def describe(run: Run, grid: Grid, traced: list[TracedRun]) -> Description:
    """Describes a sweep. "sweep" decides whether two are the same; the rest puts it into words."""
    surroundings = environment()
    written: dict[int, str] = {}
    found = [programs.fingerprint_jaxpr(t.program, t.constants, written) for t in traced]
    return {
        "sweep": {
            "environment": {name: surroundings[name] for name in _ENVIRONMENT},
            "settings": settings(),
            "axes": [*grid.structural, *grid.values],
            "zipped": grid.zipped,
            "structural": {name: len(values) for name, values in grid.structural.items()},
            "grid": {name: outline(values) for name, values in grid.values.items()},
            "programs": [outline_program(program) for program in found],
        },
        "outlines": {
            "run": outline(run),
            "structural": {
                name: [label(value) for value in values] for name, values in grid.structural.items()
            },
        },
        "devices": jax.devices()[0].device_kind,
    }


def digest(description: Description) -> str:
    """The SHA-256 of what decides whether two sweeps are the same."""
    return hashlib.sha256(json.dumps(description["sweep"], sort_keys=True).encode()).hexdigest()


def differ(before: Description, now: Description) -> str | None:
    """Puts the difference between two sweeps into words; None if they are the same sweep."""
    then, today = dict(before["sweep"]), dict(now["sweep"])
    same_programs = then.pop("programs") == today.pop("programs")
    if found := difference(then, today):
        return found
    if same_programs:
        return None
    return difference(before["outlines"], now["outlines"]) or "run computes something else"
