"""Chunks: many runs of one function, side by side in one compiled program.

How many depends on what a run takes: on a CPU as many as the caches hold, elsewhere thousands, and
nowhere more than fit the memory, which is read off the compiled program. Every device gets its
share; a CPU, whose cores do not all take part in one program of small arrays, runs a chunk on each.
"""

import functools
import inspect
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, jaxprs_in_params
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int, PyTree

from jaxnet.core import checks, compilation, dtypes, programs, tracing, trees

Run = Callable[..., PyTree]
Values = dict[str, Array]

_MOST = 4096  # runs side by side
_CACHED = 2**21  # bytes of the largest result in a loop, which takes two to four times that


class Grid(NamedTuple):
    """What a program depends on besides the run: the shape of the grid, but no values."""

    names: tuple[str, ...]
    types: tuple[tuple[tuple[int, ...], Any], ...]
    zipped: bool
    shape: tuple[int, ...]
    precision: Any  # float64 is another program

    def arguments(self) -> tuple[tuple[jax.ShapeDtypeStruct, ...], jax.ShapeDtypeStruct]:
        """The kinds of the values, and of a run's number."""
        values = tuple(jax.ShapeDtypeStruct(*kind) for kind in self.types)
        return values, jax.ShapeDtypeStruct((), jnp.int32)


class Chunk(NamedTuple):
    """The compiled `program(start) -> (results, finite)` of `size` runs, and how many go at once.

    It makes the runs from `start` on, the grid's last one again beyond it.
    """

    program: Callable[[Array], tuple[PyTree, Array]]
    size: int
    workers: int


def chunk_of(
    run: Run, values: Values, zipped: bool, shape: tuple[int, ...], memory: float | None
) -> Chunk:
    """A chunk of the runs of a grid, to take no more than so many bytes of a device's memory."""
    devices = tuple(jax.local_devices())
    on_cpu = devices[0].platform == "cpu"
    workers = _cores() if on_cpu and len(devices) == 1 else 1
    budget = (_free(devices[0]) / 2 if memory is None else memory) / workers
    types = tuple((value.shape, value.dtype) for value in values.values())
    grid = Grid(tuple(values), types, zipped, shape, jnp.result_type(float))
    one = _trace(run, grid)
    share = -(-math.prod(shape) // workers)

    def even(most: float) -> int:
        """At most so many runs on each device, in chunks of equal size that make up the share."""
        side_by_side = max(int(most), 1) * len(devices)
        rounds = -(-share // side_by_side)
        return -(-share // (rounds * len(devices))) * len(devices)

    size = even(min(_CACHED / one.bytes, _MOST) if on_cpu else _MOST)
    program, taken = _compiled(one, devices, size)
    if taken > budget:
        size = even(size // len(devices) * budget / taken)
        program, _ = _compiled(one, devices, size)
    return Chunk(functools.partial(program, tuple(values.values())), size, workers)


class _One:
    """One run, traced: `call(constants, values, member) -> (results, finite)`.

    Attributes:
        grid: of which it is one.
        constants: arrays that the run reads, which may have other values in the next sweep.
        identity: of its program, but for the values of the constants.
        bytes: of the largest result in its loops.
    """

    def __init__(self, run: Run, grid: Grid) -> None:
        # The constants of a jitted function are inside of its program.
        run = inspect.unwrap(run, stop=lambda f: not isinstance(f, jax.stages.Wrapped))

        def chosen(values: tuple[Array, ...], member: Int[Array, ""]) -> tuple[PyTree, Array]:
            places = jnp.unravel_index(member, grid.shape)
            at = places * len(grid.names) if grid.zipped else places
            hyperparameters = [value[i] for value, i in zip(values, at, strict=True)]
            results = run(**dict(zip(grid.names, hyperparameters, strict=True)))
            trees.arrays("the results of run", results)
            return results, _is_finite(results)

        traced = tracing.trace(chosen, *grid.arguments())
        self._program = traced.jaxpr.jaxpr
        self._structure = jax.tree.structure(traced.out_info)
        self.grid = grid
        self.constants = traced.jaxpr.consts
        self.identity = programs.fingerprint_jaxpr(self._program, ()), grid, self._structure
        self.bytes = _largest_result(self._program)

    def call(self, constants: list[Any], values: tuple[Array, ...], member: Array) -> Any:
        results = jax.core.eval_jaxpr(self._program, constants, *values, member)
        return jax.tree.unflatten(self._structure, results)


def _trace(run: Run, grid: Grid) -> _One:
    try:
        return _One(run, grid)
    except Exception as error:
        explanation = _explain(error, run, grid)
        if explanation is None:
            raise
        raise checks.InvalidType(explanation) from error


def _explain(error: Exception, run: Run, grid: Grid) -> str | None:
    """What is wrong with a run that fails because hyperparameters are traced; else None.

    Whatever the error is, tracing is to blame if the run does not fail with numbers in their place.
    """
    run = inspect.unwrap(run)  # within a jitted function, numbers would be traced as well
    kinds = {
        name: jax.ShapeDtypeStruct(shape[1:], dtype)
        for name, (shape, dtype) in zip(grid.names, grid.types, strict=True)
    }
    numbers = {
        name: np.full(kind.shape, _NUMBERS.get(kind.dtype.kind, 0.5), kind.dtype)[()]
        for name, kind in kinds.items()
        if not dtypes.is_key(kind)
    }

    def fails(*traced: str) -> bool:
        fixed = {name: number for name, number in numbers.items() if name not in traced}
        others = {name: kind for name, kind in kinds.items() if name not in fixed}
        try:
            tracing.shapes(lambda others: run(**fixed, **others), others)
        except Exception:
            return True
        return False

    works = not fails()
    if not works and not _is_of_tracing(error):
        return None
    deciding = [repr(name) for name in numbers if fails(name)] if works else []
    which = f", as {' and '.join(deciding)} would; sweep one value at a time" if deciding else ""
    first_line = str(error).partition("\n")[0]
    return (
        "expected a run that is one program for all hyperparameters, so that none may "
        f"decide a shape or a branch or become a Python number{which}. Received: {first_line}"
    )


_NUMBERS = {"b": True, "i": 1, "u": 1}  # by the kind of dtype, such as most functions take


def _is_of_tracing(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, says that a value is traced."""
    if error is None or isinstance(error, _OF_TRACING):
        return error is not None
    return _is_of_tracing(error.__cause__ or error.__context__)


_OF_TRACING = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
)


def _largest_result(program: Jaxpr, in_loop: bool = False) -> int:
    """The most bytes that a loop carries, or an operation in a loop makes; there the time goes."""
    sizes = [1]
    for equation in program.eqns:
        looped = in_loop or equation.primitive.name in ("scan", "while")
        if looped:
            results: list[Any] = [variable.aval for variable in equation.outvars]
            sizes.append(sum(result.size * result.dtype.itemsize for result in results))
        inner = jaxprs_in_params(equation.params)
        sizes += (_largest_result(part, looped) for part in inner)
    return max(sizes)


def _compiled(
    one: _One, devices: tuple[jax.Device, ...], size: int
) -> tuple[Callable[[tuple[Array, ...], Array], tuple[PyTree, Array]], int]:
    """`program(values, start)`, and the bytes that one device takes to run it.

    The constants are its arguments too: within the program they would be copied, and compiled.
    """
    mesh = Mesh(np.array(devices), ("members",))
    constants = jax.device_put(one.constants, NamedSharding(mesh, PartitionSpec()))
    key = one.identity, devices, size, compilation.settings()
    compiled = compilation.reuse(key, lambda: _compile(one, mesh, size, constants))
    memory: Any = compiled.memory_analysis()
    taken = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return functools.partial(compiled, constants), taken


def _compile(one: _One, mesh: Mesh, size: int, constants: list[Any]) -> jax.stages.Compiled:
    whole, split = PartitionSpec(), PartitionSpec("members")
    members = math.prod(one.grid.shape)

    def program(constants: list[Any], values: tuple[Array, ...], start: Array) -> Any:
        side_by_side = jax.shard_map(
            jax.vmap(one.call, (None, None, 0)),
            mesh=mesh,
            in_specs=(whole, whole, split),
            out_specs=split,
            check_vma=False,
        )
        numbers = start + jnp.arange(size, dtype=jnp.int32)
        return side_by_side(constants, values, jnp.minimum(numbers, members - 1))

    return jax.jit(program).lower(constants, *one.grid.arguments()).compile()


def _is_finite(results: PyTree) -> Bool[Array, ""]:
    leaves = [
        leaf for leaf in map(jnp.asarray, jax.tree.leaves(results)) if not dtypes.is_key(leaf)
    ]
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return functools.reduce(
        jnp.logical_and, [jnp.isfinite(f).all() for f in floats], jnp.array(True)
    )


def _free(device: jax.Device) -> float:
    """Bytes of memory that are free."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats:
        return float(stats["bytes_limit"] - stats["bytes_in_use"])
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    return 2.0**32  # where the system does not say


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
