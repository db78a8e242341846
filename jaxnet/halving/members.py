"""A member of a halving: how it starts, how it goes on, and its traced program."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnet.core import checks, finite, tracing, trees
from jaxnet.core.dtypes import is_key
from jaxnet.sweeping.grid import Grid
from jaxnet.sweeping.run import (
    TracedRun,
    argument_types,
    explain_errors,
    remove_jit,
    select,
    trace_program,
)


@runtime_checkable
class Start(Protocol):
    """A pure function of hyperparameters that returns the state from which a member starts.

    It is called as the `Run` of a sweep is. Its result is any tree of arrays, such as that of
    `initial_state`.
    """

    def __call__(self, *args: Any, **hyperparameters: Any) -> Any:
        """Makes the first state."""


@runtime_checkable
class Advance(Protocol):
    """A pure function `run(state, **hyperparameters) -> (state, score)`; one unit of work.

    Typically it calls `train` for an epoch, and the score is the validation cost. The score is one
    real number. The state keeps its structure, shapes and dtypes from the first result on.
    """

    def __call__(self, state: Any, *args: Any, **hyperparameters: Any) -> tuple[Any, Any]:
        """Advances a member."""


class Member(NamedTuple):
    """The traced program of a member, for any hyperparameters and any number of calls.

    Attributes:
        traced: the program with the results `(score, leaves of the state)`. All members share
            `(values, before, after)`: the grid's values, and the number of calls that were made
            before and will have been made after. A member's own arguments are its number and the
            leaves of its state. Without calls before, the state is not used but made.
        state: the shapes and dtypes of the state.
    """

    traced: TracedRun
    state: PyTree

    def blank_state(self) -> list[np.ndarray]:
        """Returns zeros in place of the leaves of a state before the first call."""
        _, (_, leaves) = self.traced.arguments
        return [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]


def trace_members(start: Start, run: Advance, grid: Grid) -> list[Member]:
    """Traces a member for every combination of structural values.

    Raises:
        InvalidType: a hyperparameter cannot be traced, `run` returns no pair, or the score is not
            a real number. Other errors of `start` and `run` are not changed.
        InvalidValue: the state changes its structure, shapes or dtypes after the first call.
    """
    start, run = remove_jit(start), remove_jit(run)

    def both(**hyperparameters: Any) -> Any:
        return run(start(**hyperparameters), **hyperparameters)

    members = []
    for combination in grid.combinations():
        with explain_errors(both, grid, combination):
            members.append(_trace_member(start, run, grid, combination))
    return members


def _trace_member(start: Start, run: Advance, grid: Grid, structural: dict[str, Any]) -> Member:
    def begin(values: Any, number: Any) -> PyTree:
        state = start(**structural, **select(grid, values, number))
        trees.arrays("the state of start", state)
        return jax.tree.map(jnp.asarray, state)

    def advance(state: PyTree, values: Any, number: Any) -> tuple[PyTree, Any]:
        state, score = _check_pair(run(state, **structural, **select(grid, values, number)))
        return jax.tree.map(jnp.asarray, state), jnp.asarray(score).astype(float)

    of_grid = argument_types(grid)
    first_state = _Traced(begin, *of_grid)
    first_call = _Traced(advance, first_state.types, *of_grid)
    state, score = first_call.types
    has_final_type = trees.types(state) == trees.types(first_state.types)
    call = first_call if has_final_type else _Traced(advance, state, *of_grid)
    trees.same_tree(
        "leaves of the state after two calls of run", call.types[0], "those after one", state
    )

    def begin_pair(values: Any, number: Any) -> Any:
        made = first_state(values, number)
        return (made, jnp.zeros_like(score)) if has_final_type else first_call(made, values, number)

    def go_on(shared: Any, own: Any) -> Any:
        (values, before, after), (number, leaves) = shared, own
        pair = jax.lax.cond(
            before == 0,
            lambda: begin_pair(values, number),
            lambda: (from_plain(leaves, state), jnp.zeros_like(score)),
        )
        made = before if has_final_type else jnp.maximum(before, 1)
        new, new_score = jax.lax.fori_loop(
            made, after, lambda _, pair: call(pair[0], values, number), pair
        )
        return (new_score, trees.plain_leaves(new)), finite.all_finite(new_score)

    values, number = of_grid
    count = jax.ShapeDtypeStruct((), jnp.int32)
    plain = jax.eval_shape(trees.plain_leaves, state)
    return Member(trace_program(go_on, (values, count, count), (number, plain)), state)


def _check_pair(result: Any) -> tuple[PyTree, Any]:
    """Checks that `run` returned a state and a score."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise checks.InvalidType(
            f"expected a pair (state, score) from run. Received: {checks.describe(result)}"
        )
    state, score = result
    trees.arrays("the state of run", state)
    checks.scalar("the score of run", score)
    return state, score


class _Traced:
    """A traced function, which can be called within another one without tracing it again."""

    def __init__(self, function: Any, *types: Any) -> None:
        self._traced = tracing.trace(function, *types)
        # Without weak types, which a loop does not keep.
        self.types = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), self._traced.out_info
        )

    def __call__(self, *arguments: Any) -> Any:
        closed = self._traced.jaxpr
        leaves = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *jax.tree.leaves(arguments))
        kinds, structure = jax.tree.flatten(self.types)
        strong = [
            leaf if is_key(kind) else jax.lax.convert_element_type(leaf, kind.dtype)
            for leaf, kind in zip(leaves, kinds, strict=True)
        ]
        return jax.tree.unflatten(structure, strong)


def from_plain(leaves: list[Any], types: PyTree) -> PyTree:
    """Returns a state of these types from its leaves; the inverse of `trees.plain_leaves`."""
    kinds, structure = jax.tree.flatten(types)
    restored = map(_from_plain_leaf, leaves, kinds)
    return jax.tree.unflatten(structure, restored)


def _from_plain_leaf(leaf: Any, kind: Any) -> Any:
    if not is_key(kind):
        return leaf
    return jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(jax.lax.empty((), kind.dtype)))
