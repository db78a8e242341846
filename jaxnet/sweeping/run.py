"""The function that is swept, and its traced program."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Collection, Iterator
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

    All values of a hyperparameter in the grid share one program, so it must not decide a shape or a
    branch of Python, as `batch_size` and `epochs` would. A structural hyperparameter may: `run` is
    called with each of its values as it is.
    """

    def __call__(self, *args: Any, **hyperparameters: Any) -> Any:
        """Computes the results of one run."""


def check_signature(
    run: Callable[..., Any], names: Collection[str], name: str = "run", *, has_state: bool = False
) -> None:
    """Checks that a function accepts hyperparameters of these names, and needs no others.

    Args:
        run: the function.
        names: the hyperparameters.
        name: the function's name in messages.
        has_state: whether the function has one more argument in front, a state.
    """
    try:
        parameters = list(inspect.signature(run).parameters.values())
    except ValueError:
        raise checks.InvalidValue(
            f"expected a {name} with an inspectable signature. Received: {checks.describe(run)}"
        ) from None
    if has_state:
        first = parameters[0] if parameters else None
        if first is None or first.name in names or first.kind is first.KEYWORD_ONLY:
            raise checks.InvalidValue(
                f"expected a {name} whose first argument is the state, such as {name}(state, rate)."
                f" Received: {name}({', '.join(p.name for p in parameters)})"
            )
        parameters = parameters[1:]
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    accepted = [p.name for p in named]
    accepts_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = [] if accepts_any else [name for name in names if name not in accepted]
    missing = [p.name for p in named if p.default is p.empty and p.name not in names]
    if unknown or missing:
        wrong = f"{unknown[0]!r}, which it does not take" if unknown else f"no {missing[0]!r}"
        raise checks.InvalidValue(
            f"expected a grid of the arguments of {name}, {', '.join(accepted)}. Received: {wrong}"
        )


# The traced program.


class TracedRun(NamedTuple):
    """The program of one run, for any place in the grid of traced hyperparameters.

    Attributes:
        program: computes the leaves of `(results, is_finite)` from the constants and the leaves of
            the arguments.
        constants: the arrays that `run` captures. They are arguments of the compiled program: they
            are not copied into it, and may have other values in the next sweep.
        arguments: the shapes and dtypes of `(shared, own)`. All runs share the values of every
            traced hyperparameter; a run's own argument is its number.
        types: the shapes and dtypes of `(results, is_finite)`.
        identity: equal for equal programs; the values of the constants do not count.
    """

    program: Jaxpr
    constants: list[Any]
    arguments: tuple[Any, Any]
    types: Any
    identity: Any

    def compute(self, constants: list[Any], shared: PyTree, own: PyTree) -> Any:
        """Computes `(results, is_finite)` of one run."""
        leaves = jax.core.eval_jaxpr(self.program, constants, *jax.tree.leaves((shared, own)))
        return jax.tree.unflatten(jax.tree.structure(self.types), leaves)


def trace_runs(run: Run, grid: Grid) -> list[TracedRun]:
    """Traces a run for every combination of structural values.

    Raises:
        InvalidType: a traced hyperparameter cannot be traced. Other errors of `run` are not
            changed, but get a note of the structural values.
        InvalidValue: the results have other shapes for some structural values than for others.
    """
    traced: list[TracedRun] = []
    combinations = grid.combinations()
    for combination in combinations:
        with explain_errors(run, grid, combination):
            traced.append(_trace_run(run, grid, combination))
        _check_types(traced[0].types[0], traced[-1].types[0], combinations[0], combination)
    return traced


def _trace_run(run: Run, grid: Grid, structural: dict[str, Any]) -> TracedRun:
    unjitted = remove_jit(run)

    def run_number(values: tuple[Array, ...], number: Int[Array, ""]) -> tuple[PyTree, Array]:
        results = unjitted(**structural, **select(grid, values, number))
        trees.arrays("the results of run", results)
        return results, finite.all_finite(results)

    return trace_program(run_number, *argument_types(grid))


def trace_program(function: Callable[[Any, Any], Any], shared: PyTree, own: PyTree) -> TracedRun:
    """Traces `function(shared, own) -> (results, is_finite)` for arguments of these types."""
    traced = tracing.trace(function, shared, own)
    program = traced.jaxpr.jaxpr
    _check_devices(program)
    precision = jnp.result_type(float)  # float64 mode may compile the same program differently
    structure = jax.tree.structure(((shared, own), traced.out_info))
    identity = programs.fingerprint_jaxpr(program, ()), structure, precision
    return TracedRun(program, traced.jaxpr.consts, (shared, own), traced.out_info, identity)


def _check_devices(program: Jaxpr) -> None:
    """Checks that a run divides nothing among devices, which the runs themselves are."""
    for part in (program, *tracing.inner_programs(program)):
        for equation in part.eqns:
            if equation.primitive.name != "sharding_constraint":
                continue
            devices = equation.params["sharding"].num_devices
            if devices > 1:
                raise checks.InvalidValue(
                    "expected a run that computes on one device, since a sweep divides the runs "
                    f"among the devices. Received: one that divides its values among {devices} "
                    "devices, as batch_sharding does"
                )


def argument_types(grid: Grid) -> tuple[tuple[jax.ShapeDtypeStruct, ...], jax.ShapeDtypeStruct]:
    """Returns the shapes and dtypes of the grid's values, and of a run's number."""
    values = tuple(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in grid.values.values())
    return values, jax.ShapeDtypeStruct((), jnp.int32)


def select(grid: Grid, values: tuple[Array, ...], number: Int[Array, ""]) -> dict[str, Any]:
    """Selects a run's hyperparameters from the grid's values by the run's number."""
    place = jnp.unravel_index(number, grid.traced_shape) if grid.values else ()
    traced_grid = grid._replace(values=dict(zip(grid.values, values, strict=True)))
    return traced_grid.traced_at(place)


def _check_types(
    first: Any, other: Any, of_first: dict[str, Any], of_other: dict[str, Any]
) -> None:
    """Checks that the results for two combinations of structural values have the same types."""
    if trees.types(first) == trees.types(other):
        return
    before, now = (
        {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in trees.named_leaves(tree).items()}
        for tree in (first, other)
    )
    names = [name for name in before | now if before.get(name) != now.get(name)]
    name = names[0] if names else ""  # other containers with the same leaves
    place = f" at {name!r}" if name else ""
    raise checks.InvalidValue(
        "expected results of the same shapes and dtypes for all structural values. Received: "
        f"{before.get(name, 'nothing')} with {_describe(of_first)} and "
        f"{now.get(name, 'nothing')} with {_describe(of_other)}{place}. Let run return scores "
        "only; Sweep.rerun gives a run's parameters"
    )


def _describe(combination: dict[str, Any]) -> str:
    return ", ".join(f"{name}={label(value)}" for name, value in combination.items())


def label(value: Any) -> str:
    """Names a structural value: a function by its name, another value by its text or its type.

    >>> label(jnp.tanh), label(None), label(32), label(object())
    ('tanh', 'None', '32', 'object')
    """
    try:
        text = str(getattr(value, "__name__", value))
    except Exception:  # an object whose text raises
        text = " at 0x"
    return checks.shorten(text) if " at 0x" not in text else type(value).__name__


def remove_jit(run: Run) -> Run:
    """Returns the function inside of `jax.jit`.

    A jitted function is traced to a call of an inner program. The arrays that it captures would be
    constants of that inner program, instead of the constants of the program around it.
    """
    return inspect.unwrap(run, stop=lambda f: not isinstance(f, jax.stages.Wrapped))


# Errors while tracing.


@contextlib.contextmanager
def explain_errors(
    run: Callable[..., Any], grid: Grid, structural: dict[str, Any]
) -> Iterator[None]:
    """Explains errors in a block that traces a run, and adds a note of the structural values."""
    try:
        yield
    except (checks.InvalidType, checks.InvalidValue):
        raise
    except Exception as error:
        if structural:
            error.add_note(f"with {_describe(structural)}")
        explanation = _explain(error, functools.partial(inspect.unwrap(run), **structural), grid)
        if explanation is None:
            raise
        raise checks.InvalidType(explanation) from error


def _explain(error: Exception, run: Callable[..., Any], grid: Grid) -> str | None:
    """Explains an error that is raised because hyperparameters are traced; None for other errors.

    Any exception may be such an error. Tracing is the cause if `run` does not fail with numbers
    instead; the hyperparameters that must be numbers are found by tracing one at a time.
    """
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
    which = f", as {' and '.join(culprits)} would; pass it in structural" if culprits else ""
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
