"""Saving trees of arrays: a tree is loaded bit for bit as it was saved, or not at all."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnet.core import checks, trees
from jaxnet.io import file_format
from jaxnet.io.file_format import Contents, PathLike
from jaxnet.io.leaves import from_numpy, to_numpy
from jaxnet.io.tree_spec import TreeSpec, first_difference, leaf_specs, make_spec


@checks.door
def save(path: PathLike, tree: PyTree, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Saves a tree to a file, from which `load` returns the same bits.

    The file is in the safetensors format, in which every leaf is a tensor named by its path. The
    same tree gives the same bytes. There is no pickle in the file, so loading runs no code.

    Args:
        path: the file. An existing file is replaced once the new one is complete on the disk;
            after an error the existing file is unchanged.
        tree: dicts, lists, tuples, NamedTuples and other registered containers. The leaves are JAX
            or NumPy arrays of bool, (unsigned) integers, float8, bfloat16, float16, float32,
            float64 or complex64, typed keys, and Python's int (64 bits), float and bool.
        metadata: anything that JSON can represent, for `load_metadata`.

    Raises:
        TypeError: a leaf of another type, such as a masked array; metadata that JSON cannot
            represent or would change, such as a number as a name.
        ValueError: two leaves with the same path; a name that UTF-8 cannot encode; an integer of
            more than 64 bits.
        OSError: the file cannot be written.

    >>> import tempfile
    >>> import jax.numpy as jnp
    >>> from safetensors.numpy import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/network", ({"weights": jnp.eye(2)}, 0.5))
    ...     print(sorted(load_file(f"{folder}/network")))
    ...     print(load(f"{folder}/network"))
    ['0/weights', '1']
    {'0': {'weights': Array([[1., 0.],
           [0., 1.]], dtype=float32)}, '1': 0.5}
    """
    checks.path("path", path)
    if not isinstance(metadata, (Mapping, type(None))):
        raise checks.InvalidType(
            f"expected metadata as names and values. Received: {checks.describe(metadata)}"
        )
    leaves = trees.named_leaves(tree)
    arrays = {name: to_numpy(name, leaf) for name, leaf in leaves.items()}
    spec = make_spec(tree)
    if len(leaf_specs(spec)) < len(jax.tree.leaves(tree)) or "__metadata__" in leaves:
        raise checks.InvalidValue(
            "expected leaves whose paths, joined by '/', are all different and not "
            f"'__metadata__'. Received: {', '.join(map(repr, leaves))}"
        )
    for name in leaves:
        _check_encodable(name)
    _check_names(metadata)
    file_format.write(path, Contents(arrays, spec, dict(metadata or {})))


def _check_encodable(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise checks.InvalidValue(
            f"expected names that UTF-8 can encode. Received: {name!r}"
        ) from None


def _check_names(metadata: Any) -> None:
    """Checks the names in metadata: JSON would turn 1 and "1" into the same name."""
    if isinstance(metadata, Mapping):
        for name in metadata:
            if not isinstance(name, str):
                raise checks.InvalidType(
                    "expected metadata whose names are strings, as they are in JSON. "
                    f"Received: {checks.describe(name)}"
                )
        metadata = list(metadata.values())
    if isinstance(metadata, (list, tuple)):
        for value in metadata:
            _check_names(value)


@checks.door
def load(path: PathLike, like: PyTree = None) -> PyTree:
    """Loads a tree from a file that `save` wrote.

    Args:
        path: the file.
        like: a tree with the same containers, names, shapes and dtypes. A leaf may be a
            `jax.ShapeDtypeStruct`, for instance from `jax.eval_shape(network.init, key)`. Each
            array is placed on the devices, or with the sharding, of the leaf in `like`. By
            default, the containers become dicts, whose keys are the parts of the leaves' paths.

    Returns:
        The tree, with the containers of `like`. The arrays do not share memory with the file.

    Raises:
        CorruptFileError: the file was not written by `save`, is corrupt, or is not a regular file.
            It is a ValueError.
        ValueError: the tree does not match `like`; the message names the first difference. Or the
            tree has 64-bit JAX arrays and JAX is set to 32 bits: no value is rounded silently.
        OSError: the file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/pair", (np.arange(2), 0.5))
    ...     print(load(f"{folder}/pair", (np.zeros(2, int), 0.0)))
    (array([0, 1]), 0.5)
    """
    checks.path("path", path)
    arrays, spec, _ = file_format.read(path)
    if like is None:
        return _make_dicts(spec, arrays)
    if difference := first_difference(spec, make_spec(like)):
        raise checks.InvalidValue(
            f"expected a tree that matches like. Received: {os.fspath(path)}, {difference}"
        )
    specs = leaf_specs(spec)
    leaves = [
        from_numpy(name, arrays[name], specs[name], leaf)
        for name, leaf in trees.named_leaves(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _make_dicts(
    spec: TreeSpec, arrays: Mapping[str, np.ndarray], path: tuple[str, ...] = ()
) -> PyTree:
    """Builds a tree whose containers are dicts."""
    if spec is None:
        return None
    if isinstance(spec, dict):
        name = "/".join(path)
        return from_numpy(name, arrays[name], spec)
    return {name: _make_dicts(child, arrays, (*path, name)) for name, child in spec[1].items()}


@checks.door
def load_metadata(path: PathLike) -> dict[str, Any]:
    """Loads the metadata that `save` was given; the whole file is verified.

    Raises:
        CorruptFileError: the file was not written by `save`, is corrupt, or is not a regular file.
        OSError: the file cannot be read.

    >>> import tempfile
    >>> import jax.numpy as jnp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/network", jnp.ones(2), metadata={"epochs": 3})
    ...     load_metadata(f"{folder}/network")
    {'epochs': 3}
    """
    checks.path("path", path)
    return file_format.read(path).metadata
