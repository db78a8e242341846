"""Hyperparameters in float32: how far they may move the updates of an optimizer.

Some implementations hold their hyperparameters in float32 on purpose, as Keras does. In float64
such an optimizer differs from the reference by more than the rounding of float64, and the amount
depends on the rule: `1 - b2` loses three digits. The amount is measured on the reference: in its
traced program, every scalar is moved up or down by the rounding of float32.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Array, Float, PyTree
from optax import GradientTransformation

from jaxnet.core import compilation, tracing
from jaxnet.testing.lockstep import (
    Lockstep,
    Trajectory,
    floats,
    use_precision,
    widen_counters,
)
from jaxnet.testing.ulps import Leaves

_ROUNDING = 2.0**-24  # of a number between 1 and 2 in float32
_RUNS = 16
_MOVES = 61  # for each run, used cyclically
_MARGIN = 8  # of the root mean square over the runs, for roundings that all point the same way
_CALLS = {"jit", "pjit", "closed_call", "checkpoint", "custom_jvp_call", "custom_vjp_call"}


def measure_float32_effect(reference: GradientTransformation, lockstep: Lockstep) -> Leaves:
    """Returns how far scalars in float32 may move each update of the reference.

    Args:
        reference: the optimizer.
        lockstep: its run in float64.

    Returns:
        By path, `[steps, ...]`, 8 times the root mean square over 16 runs, in each of which the
        scalars are moved by a random multiple of their rounding, as large as that on average.
    """
    moves = np.random.default_rng(0).standard_normal((_RUNS, 2, _MOVES))
    arguments = lockstep.trajectory, moves
    with use_precision(lockstep.dtype):
        program = compilation.compile_once(_make_runs, (reference,), arguments)
        moved = floats(program(*arguments))
    updates = lockstep.updates[1]
    return {
        path: _MARGIN * np.sqrt(np.mean((runs[:, : lockstep.steps] - updates[path]) ** 2, axis=0))
        for path, runs in moved.items()
    }


def uses_float32(
    candidate: GradientTransformation, reference: GradientTransformation, lockstep: Lockstep
) -> bool:
    """Whether a candidate computes in float32, or with numbers that are rounded to float32.

    A callback may do anything. Numbers that the reference has too do not count.
    """
    start = jax.tree.map(lambda leaf: leaf[0], lockstep.trajectory.parameters)

    def trace(optimizer: GradientTransformation) -> ClosedJaxpr:
        def step(parameters: PyTree) -> PyTree:
            return optimizer.update(parameters, optimizer.init(parameters), parameters)

        return tracing.trace(step, start).jaxpr

    with use_precision(lockstep.dtype):
        ours, theirs = (_read(trace(optimizer)) for optimizer in (candidate, reference))
    numbers = ours.numbers - theirs.numbers
    rounded = any(float(np.float32(n)) == n != float(np.float16(n)) for n in numbers)
    return ours.has_float32 or ours.has_callback or rounded


class _Contents(NamedTuple):
    """What a program contains: its scalars in float64, and whether anything is in float32."""

    numbers: set[float]
    has_float32: bool
    has_callback: bool


def _read(program: ClosedJaxpr) -> _Contents:
    parts = [program.jaxpr, *tracing.inner_programs(program.jaxpr)]
    equations = [equation for part in parts for equation in part.eqns]
    literals = [a.val for e in equations for a in e.invars if isinstance(a, Literal)]
    constants = [*literals, *program.consts]
    types = [variable.aval for equation in equations for variable in equation.outvars]
    dtypes = {jnp.result_type(c) for c in constants} | {getattr(t, "dtype", None) for t in types}
    return _Contents(
        {float(c) for c in constants if jnp.ndim(c) == 0 and _is_float(c)},
        jnp.dtype("float32") in dtypes,
        any("callback" in equation.primitive.name for equation in equations),
    )


def _make_runs(
    optimizer: GradientTransformation,
    trajectory: Trajectory,
    moves: Float[Array, "runs 2 moves"],
) -> PyTree:
    start = jax.tree.map(lambda leaf: leaf[0], trajectory.parameters)

    def run(moves: Float[Array, "2 moves"]) -> PyTree:
        init, update = widen_counters(optimizer, start)

        def step(carry: Any, recorded: Trajectory) -> Any:
            state, t = carry
            moved = _move_scalars(update, moves[0], jnp.roll(moves[1], t))
            updates, state = moved(recorded.gradients, state, recorded.parameters)
            return (state, t + 1), updates

        state = _move_scalars(init, *moves)(start)
        return jax.lax.scan(step, (state, 0), trajectory)[1]

    return jax.vmap(run)(moves)


def _move_scalars(
    function: Callable[..., PyTree],
    fixed: Float[Array, " moves"],
    changing: Float[Array, " moves"],
) -> Callable[..., PyTree]:
    """The same function, with its scalars moved by the rounding of float32.

    Args:
        function: any function.
        fixed, changing: how far numbers in the function, and scalars that it computes, are moved.
    """

    def moved(*arguments: PyTree) -> PyTree:
        traced = jax.jit(function).trace(*arguments)
        program = traced.jaxpr
        evaluate = _Evaluation(
            _read(program).numbers, itertools.cycle(fixed), itertools.cycle(changing)
        )
        results = evaluate(program, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(traced.out_info), results)

    return moved


def _called(equation: Any) -> ClosedJaxpr | None:
    if equation.primitive.name not in _CALLS:
        return None
    return next(p for n, p in equation.params.items() if n in ("jaxpr", "call_jaxpr"))


class _Evaluation:
    """Evaluates a program whose scalars are moved."""

    def __init__(
        self, numbers: set[float], fixed: Iterator[Array], changing: Iterator[Array]
    ) -> None:
        self._numbers = numbers
        self._fixed = fixed
        self._changing = changing

    def __call__(self, program: ClosedJaxpr, arguments: list[Any]) -> list[Any]:
        values: dict[Any, Any] = dict(zip(program.jaxpr.invars, arguments, strict=True)) | dict(
            zip(program.jaxpr.constvars, map(self._move, program.consts), strict=True)
        )

        def read(atom: Any) -> Any:
            return self._move(atom.val) if isinstance(atom, Literal) else values[atom]

        for equation in program.jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            called = _called(equation)
            if called is not None:
                results = self(called, inputs)
            else:
                parameters = equation.primitive.get_bind_params(equation.params)
                results = equation.primitive.bind(*inputs, **parameters)
                results = list(results) if equation.primitive.multiple_results else [results]
                if equation.primitive.name != "convert_element_type":
                    results = [self._move(result) for result in results]
            values |= zip(equation.outvars, results, strict=True)
        return [read(atom) for atom in program.jaxpr.outvars]

    def _move(self, value: Any) -> Any:
        """Moves a scalar that float32 cannot hold, by the rounding of 1 if it is `1 - another`."""
        if not _is_float(value) or jnp.ndim(value) > 0:
            return value
        if isinstance(value, jax.core.Tracer):
            return value * (1 + _ROUNDING * next(self._changing))
        number = float(value)
        if number == float(np.float32(number)):
            return value
        complement = abs(number) > _ROUNDING and any(
            abs(1 - number - other) < 1e-15 for other in self._numbers
        )
        size = 1.0 if complement else abs(number)
        return number + size * _ROUNDING * next(self._fixed)


def _is_float(value: Any) -> bool:
    return bool(jnp.result_type(value) == jnp.float64)
