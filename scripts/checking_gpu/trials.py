"""Trainings of the benchmark's workloads with `train`: times, bits and memory; what flags change.

The child prints, for each workload that its arguments name, the median seconds of a whole training
after the first, a digest of the final weights, their cost, and the peak of the device's memory.
"""

import hashlib
import json
import statistics
import sys
import time
from typing import Any

from benchmarking.report import table
from benchmarking.workloads import cost, prepared, workloads

from checking_gpu.children import DETERMINISTIC, Failed, Setting, ask, with_flag
from checking_gpu.outcome import Outcome

REPEATS = 3
COMPARED = ["W1", "W3", "W4", "W5 x256"]
ALL = ["W1", "W2", "W3", "W4", "W5 x64", "W5 x256"]

DEFAULT = "default"
XLA_FLAGS = {
    "while loops in command buffers": "--xla_gpu_enable_command_buffer=+WHILE",
    "deterministic operations": DETERMINISTIC,
    "optimization level 1": "--xla_backend_optimization_level=1",
}
PRECISIONS = {"exact float32 products": "highest"}

FLAGS_TEXT = (
    "Seconds of a training with `train` (W5 by `vmap`), over those with JAX's defaults, of which "
    f"the first line has the seconds; medians of {REPEATS}. `=` marks the same final weights, bit "
    "for bit; else the final loss is in brackets. By default, float32 products are TF32. The flags "
    "are {flags}, and `JAX_DEFAULT_MATMUL_PRECISION=highest` for exact "
    "products."
)
MEMORY_TEXT = (
    "Megabytes on the device, in a process that only trains with `train` (W5 by `vmap`): the peak, "
    "and for comparison the data, and four times the parameters, which are Adam's moments, the "
    "gradients and the parameters themselves (three times with momentum)."
)


def compare_flags(setting: Setting, seconds: float) -> Outcome:
    """Trains with each flag, in a process each, which ends by itself if it does not know one."""
    names = ["W1"] if setting.reduced else COMPARED
    environments: dict[str, dict[str, str]] = {DEFAULT: {}}
    for name, flag in XLA_FLAGS.items():
        environments[name] = {"XLA_FLAGS": with_flag(flag)}
    for name, precision in PRECISIONS.items():
        environments[name] = {"JAX_DEFAULT_MATMUL_PRECISION": precision}
    if setting.reduced:
        environments = {name: environments[name] for name in (DEFAULT, next(iter(XLA_FLAGS)))}
    end, found = time.monotonic() + seconds, {}
    for name, environment in environments.items():
        try:
            found[name] = ask(
                setting,
                end - time.monotonic(),
                "trials",
                *_arguments(setting, names),
                **environment,
            )
        except Failed as failure:
            found[name] = str(failure)
    if isinstance(found[DEFAULT], str):
        raise Failed(found[DEFAULT])
    rows = [[name, *_cells(found[name], found[DEFAULT], names)] for name in found]
    flags = ", ".join(f"`{flag}` for {name}" for name, flag in XLA_FLAGS.items())
    return Outcome(f"{FLAGS_TEXT.format(flags=flags)}\n\n{table(['', *names], rows)}")


def _cells(found: Any, default: Any, names: list[str]) -> list[str]:
    if isinstance(found, str):
        return [f"failed: {found.replace('|', '/')[:60]}", *["-"] * (len(names) - 1)]
    return [_cell(found[name], default[name]) for name in names]


def _cell(found: dict[str, Any], default: dict[str, Any]) -> str:
    if found is default:
        return f"{found['seconds']:#.3g} s ({found['cost']:.4g})"
    same = found["digest"] == default["digest"]
    return f"{found['seconds'] / default['seconds']:.2f} " + (
        "=" if same else f"({found['cost']:.4g})"
    )


def measure_memory(setting: Setting, seconds: float) -> Outcome:
    """A process for each workload, since a peak does not fall."""
    end, rows = time.monotonic() + seconds, []
    for name in ["W1"] if setting.reduced else ALL:
        try:
            found = ask(setting, end - time.monotonic(), "trials", *_arguments(setting, [name]))
            peak, least = found[name]["peak"], found[name]["least"]
            cells = [_megabytes(peak), _megabytes(least)]
        except Failed as failure:
            cells = [f"failed: {str(failure).replace('|', '/')[:60]}", "-"]
        rows.append([name, *cells])
    return Outcome(f"{MEMORY_TEXT}\n\n{table(['', 'peak', 'data and state'], rows)}")


def _megabytes(size: int | None) -> str:
    return "not known" if size is None else f"{size / 1e6:,.1f}"


def _arguments(setting: Setting, names: list[str]) -> list[str]:
    return ["quick" if setting.reduced else "full", *names]


# The child.


def train(quick: bool, name: str) -> dict[str, Any]:
    import jax
    from benchmarking.contenders import REGISTRY

    (workload,) = (w for w in workloads(quick) if w.name == name)
    task = prepared(workload)
    run = REGISTRY["jaxnet train" if workload.networks == 1 else "jaxnet vmap"].build(task)
    times, weights = [], run()
    for _ in range(REPEATS):
        begin = time.perf_counter()
        weights = run()
        times.append(time.perf_counter() - begin)
    digest = hashlib.sha256()
    for array in jax.tree.leaves(weights):
        digest.update(array.tobytes())
    copies = 4 if workload.optimizer == "adam" else 3
    stats = jax.devices()[0].memory_stats() or {}
    return {
        "seconds": statistics.median(times),
        "digest": digest.hexdigest(),
        "cost": sum(cost(task, each) for each in weights) / len(weights),
        "peak": stats.get("peak_bytes_in_use"),
        "least": task.inputs.nbytes
        + task.targets.nbytes
        + copies * sum(array.nbytes for array in jax.tree.leaves(weights)),
    }


if __name__ == "__main__":
    print(json.dumps({name: train(sys.argv[1] == "quick", name) for name in sys.argv[2:]}))
