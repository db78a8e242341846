"""Data parallelism: the examples of a batch are divided among devices, also of other processes.

Each device computes the gradient of its examples, and the devices add them up. XLA divides the
work in this way only if the batch is constrained to the devices: without a constraint every device
computes the whole batch, with the same result.
"""

from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxnet.core import checks
from jaxnet.core.dtypes import is_concrete, is_key
from jaxnet.core.trees import restore_key

NAME = "batch_sharding"
Tree = TypeVar("Tree")


def find_batch_sharding(given: Any, data: PyTree) -> NamedSharding | None:
    """Checks a batch sharding; by default that of data whose rows are on several devices.

    Args:
        given: the caller's, or None.
        data: the examples, converted. Under `jax.jit`, JAX does not tell where they are.
    """
    if given is not None:
        return _check(given)
    found = [sharding for leaf in jax.tree.leaves(data) if (sharding := _find_rows(leaf))]
    return found[0] if found else None


def constrain(tree: Tree, sharding: NamedSharding | None, axis: int = 0) -> Tree:
    """Divides an axis of traced arrays among the devices; None leaves them unchanged."""
    if sharding is None:
        return tree
    spec = PartitionSpec(*[None] * axis, *sharding.spec)
    return jax.lax.with_sharding_constraint(tree, NamedSharding(sharding.mesh, spec))


def replicate(tree: Tree, sharding: NamedSharding | None) -> Tree:
    """Copies traced arrays to all devices of a batch sharding; None leaves them unchanged."""
    if sharding is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(sharding.mesh, PartitionSpec()))


def place(name: str, tree: Tree, sharding: NamedSharding | None) -> Tree:
    """Copies arrays to all devices of a batch sharding; those that are placed there stay as is.

    Args:
        name: the name of the arrays in error messages.
        tree: traced arrays are left as they are.
        sharding: of the batches; None leaves all arrays unchanged.
    """

    def place_leaf(path: Any, leaf: Any) -> Any:
        leaf_name = name + jax.tree_util.keystr(path)
        if not is_concrete(leaf):
            return leaf
        if is_placed(leaf):
            _check_mesh(leaf_name, leaf.sharding)
        if sharding is None:
            return leaf
        if not (isinstance(leaf, jax.Array) and leaf.committed):
            return put(leaf, NamedSharding(sharding.mesh, PartitionSpec()))
        if leaf.sharding.device_set != sharding.device_set:
            raise checks.InvalidValue(
                f"expected {leaf_name} on the devices of {NAME}, {_ids(sharding)}, or not placed "
                f"on a device. Received: {_ids(leaf.sharding)}"
            )
        return leaf

    placed: Tree = jax.tree.map_with_path(place_leaf, tree)
    return placed


def put(leaf: Any, sharding: Any) -> Any:
    """Copies an array to devices; for those of other processes, these pass the same array."""
    if sharding is None or sharding.is_fully_addressable or spans_processes(leaf):
        return jax.device_put(leaf, sharding)
    if is_key(leaf):
        return restore_key(put(jax.random.key_data(leaf), sharding), leaf)
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def fetch(tree: Tree) -> Tree:
    """Copies arrays on devices of several processes to this one, which all processes call."""

    def fetch_leaf(leaf: Any) -> Any:
        if not spans_processes(leaf):
            return leaf
        if is_key(leaf):
            return restore_key(fetch_leaf(jax.random.key_data(leaf)), leaf)
        return jax.numpy.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    fetched: Tree = jax.tree.map(fetch_leaf, tree)
    return fetched


def spans_processes(tree: PyTree) -> bool:
    """Whether an array of a tree is on devices of several processes."""
    return any(
        isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        for leaf in jax.tree.leaves(tree)
    )


def check_whole(name: str, tree: PyTree) -> None:
    """Checks that this process has every value of concrete arrays."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if is_concrete(leaf) and spans_processes(leaf) and not leaf.is_fully_replicated:
            raise checks.InvalidValue(
                f"expected {name}{jax.tree_util.keystr(path)} that every process has as a whole, "
                "such as the same NumPy array in each. Received: rows on the devices of other "
                "processes"
            )


def is_placed(leaf: Any) -> bool:
    """Whether an array has been placed on a mesh."""
    is_committed = isinstance(leaf, jax.Array) and leaf.committed
    return is_committed and isinstance(leaf.sharding, NamedSharding)


def remove_placement(tree: PyTree) -> PyTree:
    """The types of JAX arrays, without their devices, which a traced program may name."""

    def remove(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        return jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, weak_type=getattr(leaf, "weak_type", False)
        )

    return jax.tree.map(remove, tree)


def _check(given: Any) -> NamedSharding:
    if not isinstance(given, NamedSharding):
        raise checks.InvalidType(
            f"expected {NAME} as a jax.sharding.NamedSharding. Received: {checks.describe(given)}"
        )
    spec = given.spec
    if not len(spec) or spec[0] in (None, (), PartitionSpec.UNCONSTRAINED) or any(spec[1:]):
        raise checks.InvalidValue(
            f"expected {NAME} that divides the first axis alone, such as "
            f"PartitionSpec({given.mesh.axis_names[0]!r}). Received: {spec}"
        )
    _check_mesh(NAME, given)
    return NamedSharding(given.mesh, PartitionSpec(spec[0]))


def _find_rows(array: Any) -> NamedSharding | None:
    """The sharding of an array's rows, if they are on several devices."""
    sharding = array.sharding if is_concrete(array) else jax.typeof(array).sharding
    if not isinstance(sharding, NamedSharding):
        if sharding.is_fully_replicated:
            return None
        raise checks.InvalidType(
            f"expected data with a jax.sharding.NamedSharding. Received: {sharding}"
        )
    if not len(sharding.spec) or sharding.spec[0] in (None, ()) or sharding.mesh.size == 1:
        return None
    _check_mesh("data", sharding)
    return NamedSharding(sharding.mesh, PartitionSpec(sharding.spec[0]))


def _check_mesh(name: str, sharding: NamedSharding) -> None:
    mesh = sharding.mesh
    if all(kind == AxisType.Auto for kind in mesh.axis_types):
        return
    kinds = ", ".join(["jax.sharding.AxisType.Auto"] * len(mesh.axis_names))
    raise checks.InvalidValue(
        f"expected {name} on a mesh whose axes are Auto, such as jax.make_mesh({mesh.axis_sizes}, "
        f"{mesh.axis_names}, axis_types=({kinds},)). Received: {mesh.axis_types}"
    )


def _ids(sharding: Any) -> str:
    ids = sorted(device.id for device in sharding.device_set)
    return f"device {ids[0]}" if len(ids) == 1 else f"devices {np.array(ids).tolist()}"
