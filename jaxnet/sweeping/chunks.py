"""Chunks: many runs side by side in one compiled program, and how many.

The number of runs in a chunk depends on the size of a run. On a CPU it is as many as fit the
caches, on other devices up to thousands. It is reduced if the compiled program would not fit the
memory. Every device computes its share of a chunk. Several chunks run at the same time: on a CPU,
which uses few cores for one program of small arrays, one on each core; on other devices two, so
that the results of one are copied to the host while the other one is computed.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Jaxpr, jaxprs_in_params
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from jaxnet.core import compilation, trees
from jaxnet.sweeping.grid import Grid
from jaxnet.sweeping.run import TracedRun

_MOST_RUNS = 4096  # side by side on a device
_CACHE = 2**21  # bytes of the largest output in a loop; the loop takes two to four times as many

_OPTIONS_ON_CPU: dict[str, Any] = {"xla_backend_optimization_level": 1}
"""A fifth less time to compile than with the default, 3, and programs that are as fast."""


class Chunk(NamedTuple):
    """A compiled program for a part of the runs of one combination of structural values.

    Attributes:
        program: computes `(results, is_finite)` of `size` runs from the arguments that they share
            and those of each run.
        size: the number of runs side by side.
        arguments: returns these arguments for runs of these numbers.
    """

    program: Callable[[PyTree, PyTree], tuple[PyTree, Array]]
    size: int
    arguments: Callable[[np.ndarray], tuple[PyTree, PyTree]]

    def arguments_of(self, runs: range) -> tuple[PyTree, PyTree]:
        """Returns the arguments for at most `size` runs. Beyond them, the last run is repeated."""
        numbers = np.minimum(np.arange(runs.start, runs.start + self.size), runs.stop - 1)
        return self.arguments(numbers)

    def compute(self, shared: PyTree, own: PyTree) -> tuple[list[np.ndarray], np.ndarray]:
        """Computes the leaves of the results of `size` runs, and which of them are finite."""
        results, is_finite = self.program(shared, own)
        return jax.device_get((trees.plain_leaves(results), is_finite))


def count_workers() -> int:
    """The number of chunks to run at the same time."""
    devices = jax.local_devices()
    return count_cores() if devices[0].platform == "cpu" and len(devices) == 1 else 2


def make_chunk(traced: TracedRun, grid: Grid, memory: float | None) -> Chunk:
    """Compiles a chunk of the runs of one combination of structural values."""
    program, size = compile_runs(traced, grid.runs_each, memory)
    values = tuple(grid.values.values())

    def arguments(numbers: np.ndarray) -> tuple[PyTree, PyTree]:
        return values, (numbers % grid.runs_each).astype(np.int32)

    return Chunk(program, size, arguments)


def compile_runs(
    traced: TracedRun, runs: int, memory: float | None, most_on_cpu: int = _MOST_RUNS
) -> tuple[Callable[[PyTree, PyTree], tuple[PyTree, Array]], int]:
    """Compiles many runs side by side, and chooses how many.

    Args:
        traced: the traced run.
        runs: how many are to be made at a time, by all chunks together.
        memory: the most bytes that the programs on one device may use, without the arrays that
            the run captures; by default half of the free memory.
        most_on_cpu: the most runs on one device if it is a CPU.
    """
    devices = tuple(jax.local_devices())
    on_cpu, workers = devices[0].platform == "cpu", count_workers()
    limit = (_free_memory(devices[0]) / 2 if memory is None else memory) / workers
    runs = _divide(runs, workers) if on_cpu and len(devices) == 1 else runs
    balance = functools.partial(_balance, runs, len(devices))
    fitting = min(_CACHE / _largest_loop_output(traced.program), most_on_cpu)
    size = balance(fitting if on_cpu else _MOST_RUNS)
    program, used = _find_program(traced, devices, size)
    if used > limit:
        size = balance(size // len(devices) * limit / used)
        program, _ = _find_program(traced, devices, size)
    return program, size


def _balance(runs: int, devices: int, most: float) -> int:
    """The size of equal chunks that make up `runs`, with at most `most` runs on each device.

    100 runs on 2 devices, at most 32 on each, are two chunks of 50, not one of 64 and one of 36:

    >>> _balance(100, 2, 32)
    50
    """
    chunks = _divide(runs, max(int(most), 1) * devices)
    return _divide(runs, chunks * devices) * devices


def _divide(number: int, by: int) -> int:
    """Divides two integers and rounds up."""
    return -(-number // by)


def _largest_loop_output(program: Jaxpr, in_loop: bool = False) -> int:
    """The bytes of the largest output of a loop, or of an operation in a loop.

    Loops take most of a run's time, so their arrays are to fit the caches.
    """
    sizes = [1]
    for equation in program.eqns:
        looped = in_loop or equation.primitive.name in ("scan", "while")
        if looped:
            outputs: list[Any] = [variable.aval for variable in equation.outvars]
            sizes.append(sum(output.size * output.dtype.itemsize for output in outputs))
        inner = jaxprs_in_params(equation.params)
        sizes += (_largest_loop_output(part, looped) for part in inner)
    return max(sizes)


def _find_program(
    traced: TracedRun, devices: tuple[jax.Device, ...], size: int
) -> tuple[Callable[[PyTree, PyTree], tuple[PyTree, Array]], int]:
    """Returns the compiled `program(shared, own)` of a chunk, and its bytes on one device.

    The constants are arguments of the compiled program. Within it they would be copied, and XLA
    would fold them.
    """
    mesh = Mesh(np.array(devices), ("runs",))
    constants = jax.device_put(traced.constants, NamedSharding(mesh, PartitionSpec()))
    key = traced.identity, devices, size, compilation.settings()
    compiled = compilation.reuse(key, lambda: _compile(traced, mesh, size, constants))
    memory: Any = compiled.memory_analysis()
    used = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return functools.partial(compiled, constants), used


def _compile(traced: TracedRun, mesh: Mesh, size: int, constants: list[Any]) -> jax.stages.Compiled:
    """Compiles `size` runs side by side."""
    options = _OPTIONS_ON_CPU if mesh.devices.flat[0].platform == "cpu" else None
    return _trace(traced, mesh, size, constants).lower().compile(options)


def _trace(traced: TracedRun, mesh: Mesh, size: int, constants: list[Any]) -> jax.stages.Traced:
    """Traces `size` runs: a part on each device (`shard_map`), side by side there (`vmap`)."""
    replicated, split = PartitionSpec(), PartitionSpec("runs")
    program = jax.shard_map(
        jax.vmap(traced.compute, (None, None, 0)),
        mesh=mesh,
        in_specs=(replicated, replicated, split),
        out_specs=split,
        check_vma=False,
    )
    shared, own = traced.arguments
    each = jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape), a.dtype), own)
    return jax.jit(program).trace(constants, shared, each)


def _free_memory(device: jax.Device) -> float:
    """The bytes of free memory of a device; of the machine for a CPU."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats:
        return float(stats["bytes_limit"] - stats["bytes_in_use"])
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    return 2.0**32  # the system does not say


def count_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
