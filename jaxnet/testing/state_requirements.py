"""Requirements on the state of an optimizer.

Its type has to be constant, and it has to survive donation, sharding and serialization.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnet.core import dtypes, trees
from jaxnet.testing.subject import (
    Advice,
    Failed,
    NotApplicable,
    Subject,
    advance_state,
    is_bitwise_equal,
    is_finite,
    make_tree,
)


def require_type(subject: Subject) -> str:
    """The state's structure, shapes, dtypes and weak types are the same after a step."""
    before = subject.init(make_tree(0))
    after = jax.jit(subject.update)(make_tree(1), before, make_tree(0))[1]
    structures = [str(jax.tree.structure(state)) for state in (before, after)]
    if structures[0] != structures[1]:
        raise Failed(f"{structures[0]} becomes {structures[1]}")
    leaves = jax.tree.leaves(after)
    for (path, old), new in zip(trees.named_leaves(before).items(), leaves, strict=True):
        types = [_describe_type(leaf) for leaf in (old, new)]
        if types[0] != types[1]:
            raise Failed(f"{path!r} is {types[0]} after init and {types[1]} after a step")
    return f"same shapes, dtypes and weak types; leaves: {len(leaves)}"


def _describe_type(leaf: Any) -> str:
    kind = jax.typeof(leaf)
    return f"{'weakly typed ' if kind.weak_type else ''}{kind.dtype}{list(kind.shape)}"


def require_donation(subject: Subject) -> str:
    """The state can be donated to a step: none of its buffers is shared."""
    state, another = subject.init(make_tree(0)), subject.init(make_tree(0))
    if len(set(_pointers(state))) < len(_pointers(state)):
        raise Failed("init returns the same buffer for two leaves")
    if set(_pointers(state)) & set(_pointers(another)):
        raise Failed("two calls of init return the same buffer, which donation deletes")
    kept = jax.jit(subject.update)(make_tree(1), state, make_tree(0))
    donated = jax.jit(subject.update, donate_argnums=1)(make_tree(1), state, make_tree(0))
    if not is_bitwise_equal(kept, donated):
        raise Failed("the results change if the state is donated")
    return "the same bits with and without donation"


def _pointers(tree: PyTree) -> list[int]:
    """The addresses of the arrays of a tree."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return [array.unsafe_buffer_pointer() for array in trees.plain_leaves(leaves)]


def require_sharding(subject: Subject) -> str:
    """A moment is sharded like its parameter, after init and after a step."""
    devices = jax.devices()[:2]
    if len(devices) < 2:
        raise NotApplicable("needs two devices")
    mesh = jax.sharding.Mesh(np.array(devices), ("halves",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("halves"))
    parameters, gradients = (jax.device_put(make_tree(seed)["matrix"], rows) for seed in (0, 1))
    state = subject.init(parameters)
    updates, after = jax.jit(subject.update)(gradients, state, parameters)
    for when, tree in (("init", state), ("a step", (updates, after))):
        for path, leaf in trees.named_leaves(tree).items():
            is_moment = jnp.shape(leaf) == parameters.shape
            if is_moment and not leaf.sharding.is_equivalent_to(rows, leaf.ndim):
                raise Failed(f"after {when}, {path!r} is not sharded like its parameter")
    return "two devices, after init and after a step"


def require_serialization(subject: Subject) -> str:
    """A step from a state that was converted to bytes and back has the same bits."""
    state = advance_state(subject, 2)

    def restore(leaf: Any) -> Any:
        if dtypes.is_key(leaf):
            return jax.random.wrap_key_data(restore(jax.random.key_data(leaf)))
        array = np.asarray(leaf)
        return jnp.asarray(np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape))

    step = jax.jit(subject.update)
    expected = step(make_tree(3), state, make_tree(0))
    received = step(make_tree(3), jax.tree.map(restore, state), make_tree(0))
    if not is_bitwise_equal(expected, received):
        raise Failed("a step from the restored state differs")
    return "a step from the restored state has the same bits"


_COUNTED = 5  # steps, after which a scalar of this value is taken for a step counter


def require_step_counter(subject: Subject) -> str:
    """A step counter is an integer and does not overflow; at its end, updates are finite."""
    state = advance_state(subject, _COUNTED)
    leaves, structure = jax.tree.flatten(state)
    paths = list(trees.named_leaves(state))
    counters = [i for i, leaf in enumerate(leaves) if _is_number(leaf) and leaf == _COUNTED]
    for i in counters:
        dtype = jnp.result_type(leaves[i])
        if jnp.issubdtype(dtype, jnp.floating):
            last = 2 ** (jnp.finfo(dtype).nmant + 1)
            raise Advice(f"{paths[i]!r} counts steps in {dtype}, which cannot count past {last}")
        largest = jnp.asarray(jnp.iinfo(dtype).max, dtype)
        full = jax.tree.unflatten(structure, [*leaves[:i], largest, *leaves[i + 1 :]])
        updates, after = jax.jit(subject.update)(make_tree(1), full, make_tree(0))
        count = jax.tree.leaves(after)[i]
        if not is_finite(updates):
            raise Failed(f"updates are non-finite when {paths[i]!r} is {largest}")
        if count <= 0:
            raise Advice(f"{paths[i]!r} overflows from {largest} to {count}")
    names = ", ".join(repr(paths[i]) for i in counters)
    return f"a step from {names} = {largest}" if counters else "no step counter in the state"


def _is_number(leaf: Any) -> bool:
    dtype = jnp.result_type(leaf)
    kinds = (jnp.integer, jnp.floating)
    return jnp.ndim(leaf) == 0 and any(jnp.issubdtype(dtype, kind) for kind in kinds)
