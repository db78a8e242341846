"""Optimizers of other libraries as pure functions: JAX's example library, Keras and PyTorch.

Their updates are the new parameters minus the old ones.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int, PyTree, UInt8

from jaxnet.core import checks, tracing
from jaxnet.testing.torch_step import Kind, PackedStep, TorchFactory, TorchStep, learn_state


def subtract(new: PyTree, old: PyTree) -> PyTree:
    """Returns the updates that lead from the old parameters to the new ones."""
    received, expected = (jax.tree.map(jnp.shape, tree) for tree in (new, old))
    if received != expected:
        raise checks.InvalidValue(
            "expected new parameters with the structure and shapes of the old ones, "
            f"{expected}. Received: {received}"
        )
    return jax.tree.map(jnp.subtract, new, old)


# JAX's example library.


class TripleState(NamedTuple):
    """The state of an adapted triple.

    Attributes:
        steps: the number of steps.
        leaves: the leaves of the triple's own state, except those that are the parameters.
    """

    steps: Int[Array, ""]
    leaves: tuple[Any, ...]


def init_triple(triple: tuple[Any, Any, Any], parameters: PyTree) -> TripleState:
    """Returns the state without the triple's own copy of the parameters."""
    _, copies = _find_parameters(triple, parameters)
    leaves = jax.tree.leaves(triple[0](parameters))
    others = tuple(leaf for i, leaf in enumerate(leaves) if i not in copies)
    return TripleState(jnp.zeros((), jnp.int32), others)


def update_triple(
    triple: tuple[Any, Any, Any], gradients: PyTree, state: TripleState, parameters: PyTree
) -> tuple[PyTree, TripleState]:
    """Takes a step from the given parameters."""
    structure, copies = _find_parameters(triple, parameters)
    given = dict(zip(copies, jax.tree.leaves(parameters), strict=True))
    others = iter(state.leaves)
    leaves = [given[i] if i in given else next(others) for i in range(structure.num_leaves)]
    after = triple[1](state.steps, gradients, structure.unflatten(leaves))
    new = triple[2](after)
    kept = tuple(leaf for i, leaf in enumerate(jax.tree.leaves(after)) if i not in given)
    return subtract(new, parameters), TripleState(optax.safe_increment(state.steps), kept)


def _find_parameters(triple: tuple[Any, Any, Any], parameters: PyTree) -> tuple[Any, list[int]]:
    """Returns the structure of the state, and which of its leaves are the parameters, in order."""
    structure: Any = jax.tree.structure(tracing.shapes(triple[0], parameters))
    markers = [object() for _ in range(structure.num_leaves)]  # nothing can be computed of them
    try:
        copies = [
            markers.index(m) for m in jax.tree.leaves(triple[2](structure.unflatten(markers)))
        ]
    except Exception:
        copies = None
    count = len(jax.tree.leaves(parameters))
    if copies is None or len(copies) != count:
        received = "a computation" if copies is None else f"{len(copies)} leaves"
        raise checks.InvalidValue(
            f"expected get_params that returns {count} leaves of the state. Received: {received}"
        )
    return structure, copies


# Keras.


@runtime_checkable
class KerasFactory(Protocol):
    """Makes a Keras optimizer, such as `lambda: keras.optimizers.Adam(0.01)`."""

    def __call__(self) -> Any:
        """Returns a new optimizer."""
        ...


def init_keras(make: KerasFactory, parameters: PyTree) -> tuple[Any, ...]:
    """Returns the optimizer's variables."""
    with _build_keras(make, parameters) as optimizer:
        return tuple(variable.value for variable in optimizer.variables)


def update_keras(
    make: KerasFactory, gradients: PyTree, state: tuple[Any, ...], parameters: PyTree
) -> tuple[PyTree, tuple[Any, ...]]:
    """Returns the new parameters minus the old ones, and the next state."""
    leaves, structure = jax.tree.flatten(parameters)
    with _build_keras(make, parameters) as optimizer:
        new, after = optimizer.stateless_apply(list(state), jax.tree.leaves(gradients), leaves)
    return subtract(jax.tree.unflatten(structure, new), parameters), tuple(after)


@contextlib.contextmanager
def _build_keras(make: KerasFactory, parameters: PyTree) -> Iterator[Any]:
    """Makes an optimizer for these parameters, with `floatx` set to their precision meanwhile."""
    import keras

    if keras.backend.backend() != "jax":
        raise checks.InvalidValue(
            "expected Keras with the JAX backend, KERAS_BACKEND=jax. "
            f"Received: {keras.backend.backend()}"
        )
    leaves, floatx = jax.tree.leaves(parameters), keras.config.floatx()
    if any(leaf.dtype == jnp.float64 for leaf in leaves):
        keras.config.set_floatx("float64")
    try:
        optimizer = make()
        optimizer.build([keras.Variable(leaf, dtype=str(leaf.dtype)) for leaf in leaves])
        yield optimizer
    finally:
        keras.config.set_floatx(floatx)


# PyTorch.


class TorchState(NamedTuple):
    """The state of an adapted PyTorch optimizer.

    Attributes:
        started: whether there was a step; an optimizer makes most of its state in the first one.
        parts: the numbers and tensors in its attributes, by path. Python numbers are their 8 bytes.
            So are tensors of a dtype that JAX does not have at the moment, such as float64.
    """

    started: Bool[Array, ""]
    parts: dict[str, Array]


def init_torch(make: TorchFactory, parameters: PyTree) -> TorchState:
    """Returns a state of zeros."""
    kinds = _learn_kinds(TorchStep(make, _find_kinds(parameters)))
    zeros = {path: jnp.zeros(kind.shape, kind.dtype) for path, kind in kinds.items()}
    return TorchState(jnp.zeros((), bool), zeros)


def update_torch(
    make: TorchFactory, gradients: PyTree, state: TorchState, parameters: PyTree
) -> tuple[PyTree, TorchState]:
    """Takes a step on the host."""
    step = TorchStep(make, _find_kinds(parameters))
    kinds = _learn_kinds(step)
    if not kinds:  # PyTorch refuses an empty list of parameters
        return parameters, state
    before = [state.parts[path] for path in kinds]
    arguments = jax.tree.leaves((state.started, parameters, gradients, before))
    packed = list(map(_to_bytes, arguments))
    sizes, n = tuple(leaf.size for leaf in packed), len(step.kinds)
    call = PackedStep(step, tuple(kinds), sizes)
    sizes = sizes[1 : n + 1] + sizes[2 * n + 1 :]
    result = jax.pure_callback(
        call,
        jax.ShapeDtypeStruct((sum(sizes),), jnp.uint8),
        jnp.concatenate(packed),
        vmap_method="sequential",
    )
    rows = jnp.split(result, np.cumsum(sizes)[:-1])
    leaves = list(map(_from_bytes, rows, [*step.kinds, *kinds.values()]))
    updates = jax.tree.unflatten(jax.tree.structure(parameters), leaves[:n])
    return updates, TorchState(jnp.ones((), bool), dict(zip(kinds, leaves[n:], strict=True)))


def _find_kinds(parameters: PyTree) -> tuple[Kind, ...]:
    leaves = jax.tree.leaves(parameters)
    return tuple(Kind(str(jnp.result_type(leaf)), jnp.shape(leaf)) for leaf in leaves)


def _learn_kinds(step: TorchStep) -> dict[str, Kind]:
    """Returns the types of the state's arrays in JAX."""
    kinds = learn_state(step) if step.kinds else {}
    return {path: _find_held(kind) for path, kind in kinds.items()}


def _find_held(kind: Kind) -> Kind:
    """Returns the type itself if JAX has such arrays, and otherwise that of its bytes."""
    dtype = jnp.dtype(kind.dtype)
    if jax.dtypes.canonicalize_dtype(dtype) == dtype:
        return kind
    return Kind("uint8", (math.prod(kind.shape) * dtype.itemsize,))


def _to_bytes(array: Array) -> UInt8[Array, "_"]:
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    return jax.lax.bitcast_convert_type(array, jnp.uint8).reshape(-1)


def _from_bytes(data: UInt8[Array, "_"], kind: Kind) -> Array:
    if kind.dtype == "bool":
        return data.reshape(kind.shape).astype(bool)
    size = jnp.dtype(kind.dtype).itemsize
    shape = kind.shape if size == 1 else (*kind.shape, size)
    return jax.lax.bitcast_convert_type(data.reshape(shape), kind.dtype)
