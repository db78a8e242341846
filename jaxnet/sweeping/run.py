"""The function that is swept, and its traced program."""

import inspect
from collections.abc import Collection
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr
from jaxtyping import Array, Int, PyTree

from jaxnet.core import checks, finite, programs, tracing, trees
from jaxnet.core.dtypes import is_key
from jaxnet.sweeping.grid import Grid


@runtime_checkable
class Run(Protocol):
    """A pure function of hyperparameters, to be swept; typically a call of `train`.

    It is called with keyword arguments, one for each name in the grid: a traced scalar or key, or
    an array if the grid's values are arrays. It returns any tree of arrays.

    All runs of a sweep are one program, so no hyperparameter may decide a shape or a branch of
    Python, as `batch_size` and `epochs` would.
    """

    def __call__(self, *args: Any, **hyperparameters: Any) -> Any:
        """Computes the results of one run."""


def check_signature(run: Run, names: Collection[str]) -> None:
    """Checks that a run accepts hyperparameters of these names, and needs no others."""
    try:
        parameters = inspect.signature(run).parameters.values()
    except ValueError:
        raise checks.InvalidValue(
            f"expected a run with an inspectable signature. Received: {checks.describe(run)}"
        ) from None
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    accepted = [p.name for p in named]
    accepts_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = [] if accepts_any else [name for name in names if name not in accepted]
    missing = [p.name for p in named if p.default is p.empty and p.name not in names]
    if unknown or missing:
        wrong = f"{unknown[0]!r}, which it does not take" if unknown else f"no {missing[0]!r}"
        raise checks.InvalidValue(
            f"expected a grid of the arguments of run, {', '.join(accepted)}. Received: {wrong}"
        )


# The traced program.


class TracedRun(NamedTuple):
    """The program of one run, for any place in the grid.

    Attributes:
        program: computes the leaves of `(results, is_finite)` from the constants, the values of
            every hyperparameter, and the number of the run.
        constants: the arrays that `run` captures. They are arguments of the compiled program: they
            are not copied into it, and may have other values in the next sweep.
        structure: the containers of `(results, is_finite)`.
        identity: equal for equal programs; the values of the constants do not count.
    """

    program: Jaxpr
    constants: list[Any]
    structure: Any
    identity: Any

    def compute(
        self, constants: list[Any], values: tuple[Array, ...], number: Int[Array, ""]
    ) -> Any:
        """Computes `(results, is_finite)` of one run."""
        leaves = jax.core.eval_jaxpr(self.program, constants, *values, number)
        return jax.tree.unflatten(self.structure, leaves)


def trace_run(run: Run, grid: Grid) -> TracedRun:
    """Traces a run whose hyperparameters are selected from the grid by the run's number.

    Raises:
        InvalidType: a hyperparameter cannot be traced. Other errors of `run` are not changed.
    """
    unjitted = _remove_jit(run)

    def run_number(values: tuple[Array, ...], number: Int[Array, ""]) -> tuple[PyTree, Array]:
        place = jnp.unravel_index(number, grid.shape)
        traced_grid = Grid(dict(zip(grid.values, values, strict=True)), grid.zipped)
        results = unjitted(**traced_grid.at(place))
        trees.arrays("the results of run", results)
        return results, finite.all_finite(results)

    try:
        traced = tracing.trace(run_number, *argument_types(grid))
    except Exception as error:
        explanation = _explain(error, run, grid)
        if explanation is None:
            raise
        raise checks.InvalidType(explanation) from error
    program, structure = traced.jaxpr.jaxpr, jax.tree.structure(traced.out_info)
    precision = jnp.result_type(float)  # float64 mode may compile the same program differently
    identity = programs.fingerprint_jaxpr(program, ()), structure, grid.runs, precision
    return TracedRun(program, traced.jaxpr.consts, structure, identity)


def argument_types(grid: Grid) -> tuple[tuple[jax.ShapeDtypeStruct, ...], jax.ShapeDtypeStruct]:
    """Returns the shapes and dtypes of the grid's values, and of a run's number."""
    values = tuple(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in grid.values.values())
    return values, jax.ShapeDtypeStruct((), jnp.int32)


def _remove_jit(run: Run) -> Run:
    """Returns the function inside of `jax.jit`.

    A jitted function is traced to a call of an inner program. The arrays that it captures would be
    constants of that inner program, instead of the constants of the program around it.
    """
    return inspect.unwrap(run, stop=lambda f: not isinstance(f, jax.stages.Wrapped))


# Errors while tracing.


def _explain(error: Exception, run: Run, grid: Grid) -> str | None:
    """Explains an error that is raised because hyperparameters are traced; None for other errors.

    Any exception may be such an error. Tracing is the cause if `run` does not fail with numbers
    instead; the hyperparameters that must be numbers are found by tracing one at a time.
    """
    run = inspect.unwrap(run)  # a jitted function would trace the numbers too
    types = {n: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for n, v in grid.values.items()}
    numbers = {
        name: np.full(kind.shape, _TYPICAL_NUMBERS.get(kind.dtype.kind, 0.5), kind.dtype)[()]
        for name, kind in types.items()
        if not is_key(kind)
    }

    def fails(*traced: str) -> bool:
        concrete = {name: number for name, number in numbers.items() if name not in traced}
        abstract = {name: kind for name, kind in types.items() if name not in concrete}
        try:
            tracing.shapes(lambda abstract: run(**concrete, **abstract), abstract)
        except Exception:
            return True
        return False

    works = not fails()
    if not works and not _is_tracing_error(error):
        return None
    culprits = [repr(name) for name in numbers if fails(name)] if works else []
    which = f", as {' and '.join(culprits)} would; make one sweep per value" if culprits else ""
    first_line = str(error).partition("\n")[0]
    return (
        "expected a run that is one program for all hyperparameters: none may decide a shape or "
        f"a branch, or become a Python number{which}. Received: {first_line}"
    )


_TYPICAL_NUMBERS = {"b": True, "i": 1, "u": 1}
"""Numbers that most functions accept, by the kind of dtype."""


def _is_tracing_error(error: BaseException | None) -> bool:
    """Whether JAX raised the error, or one of its causes, because a value is traced."""
    if error is None or isinstance(error, _TRACING_ERRORS):
        return error is not None
    return _is_tracing_error(error.__cause__ or error.__context__)


_TRACING_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
)
