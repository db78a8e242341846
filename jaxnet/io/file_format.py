"""The format of a file, its checksum and its validation.

A file is in the safetensors format, which PyTorch and other programs read: every leaf is a tensor
named by its path, such as `0/weights`. A header of jaxnet, as JSON, is the file's metadata under
the name "jaxnet". It holds, in this order: a SHA-256 checksum of the whole file, computed with
zeros for the checksum itself; the versions of the packages; the user's metadata; and the spec of
the tree. The checksum has a fixed position, so it is verified before anything is parsed.

A checksum finds accidental changes. A crafted file may have the right checksum, so every part is
validated too: each has exactly one valid form, the one in which `write` writes it.
"""

import functools
import hashlib
import json
import os
import platform
import stat
from io import FileIO
from typing import Any, NamedTuple

import jax
import jaxlib
import numpy as np
import optax
import safetensors.numpy

import jaxnet
from jaxnet.core import checks
from jaxnet.core.atomic import atomic_write
from jaxnet.io.leaves import ARRAYS, DTYPES, NUMBERS
from jaxnet.io.tree_spec import TreeSpec, count_leaves, is_spec, leaf_specs

PathLike = str | os.PathLike[str]

_BEFORE_CHECKSUM = rb'{"__metadata__":{"jaxnet":"{\"sha256\": \"'
_NO_CHECKSUM = b"0" * 64
_BLOCK = 2**20  # bytes


class CorruptFileError(ValueError):
    """A file is not in the form in which `save` wrote it: changed, truncated, or another file.

    A checksum finds accidental changes. In a file that was crafted with the right checksum, the
    parts are compared with each other.
    """


class Contents(NamedTuple):
    """The contents of a file.

    Attributes:
        arrays: the leaves as NumPy arrays, by their paths.
        tree: the spec of the tree.
        metadata: the user's metadata.
    """

    arrays: dict[str, np.ndarray]
    tree: TreeSpec
    metadata: dict[str, Any]


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on."""
    packages = {package.__name__: package.__version__ for package in _PACKAGES}
    return {"python": platform.python_version(), **packages}


_PACKAGES = (jax, jaxlib, jaxnet, np, optax)


# Writing.


def write(path: PathLike, contents: Contents) -> None:
    """Writes a file, whole or not at all. The same contents give the same bytes."""
    header = {
        "sha256": _NO_CHECKSUM.decode(),
        "versions": versions(),
        "metadata": contents.metadata,
        "tree": contents.tree,
    }
    try:
        text = json.dumps(header)
    except (TypeError, ValueError, RecursionError) as error:
        raise checks.InvalidType(
            f"expected metadata that JSON can hold. Received: {error}"
        ) from None
    data = memoryview(safetensors.numpy.save(contents.arrays, {"jaxnet": text}))
    checksum = hashlib.sha256(data).hexdigest().encode()
    start = 8 + len(_BEFORE_CHECKSUM)
    with atomic_write(path) as file:
        for part in (data[:start], checksum, data[start + len(checksum) :]):
            file.write(part)


# Reading.


def read(path: PathLike) -> Contents:
    """Reads a file, and verifies its checksum and its parts.

    Raises:
        CorruptFileError: the file is not in the form in which `write` wrote it.
        OSError: the file cannot be read.
    """

    def corrupt(reason: str) -> CorruptFileError:
        return CorruptFileError(
            f"expected a file written by jaxnet. Received: {os.fspath(path)}, {reason}"
        )

    with open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise corrupt("which is not a regular file")
        checksum = _read_checksum(file)
        if checksum is None or checksum != _compute_checksum(file):
            raise corrupt("which is corrupt, truncated, or from another program")
        file.seek(0)
        data = file.read()
    try:
        return _parse(data)
    except RecursionError:
        raise corrupt("whose parts are nested too deeply") from None
    except (_Invalid, ValueError, safetensors.SafetensorError) as error:
        raise corrupt(f"whose checksum is right but whose contents are invalid: {error}") from error


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens a file; if it is a pipe, without waiting for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_checksum(file: FileIO) -> bytes | None:
    """Returns the checksum in a file, or None if the file does not begin as jaxnet's files do."""
    size, start = file.read(8), file.read(len(_BEFORE_CHECKSUM))
    is_whole = int.from_bytes(size, "little") <= os.fstat(file.fileno()).st_size - 8
    return file.read(len(_NO_CHECKSUM)) if is_whole and start == _BEFORE_CHECKSUM else None


def _compute_checksum(file: FileIO) -> bytes:
    """Computes the checksum of a file block by block, with zeros instead of the checksum in it."""
    file.seek(0)
    computed = hashlib.sha256(file.read(8 + len(_BEFORE_CHECKSUM)))
    file.seek(len(_NO_CHECKSUM), os.SEEK_CUR)
    computed.update(_NO_CHECKSUM)
    while block := file.read(_BLOCK):
        computed.update(block)
    return computed.hexdigest().encode()


# Validation.


class _Invalid(Exception):
    """A part of a file has an invalid form, or contradicts another part."""


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise _Invalid(otherwise)


def _parse(data: bytes) -> Contents:
    """Parses and validates a file whose checksum is right."""
    size = int.from_bytes(data[:8], "little")
    names = json.loads(data[8 : 8 + size], object_pairs_hook=_make_object)["__metadata__"]
    _require(isinstance(names, dict) and list(names) == ["jaxnet"], "unexpected metadata")
    header = json.loads(names["jaxnet"], object_pairs_hook=_make_object)
    _require(
        isinstance(header, dict)
        and list(header) == ["sha256", "versions", "metadata", "tree"]
        and isinstance(header["versions"], dict)
        and isinstance(header["metadata"], dict),
        "an invalid header",
    )
    _require(is_spec(header["tree"]), "an invalid tree")
    tensors = dict(safetensors.deserialize(data))
    specs = leaf_specs(header["tree"])
    _require(len(specs) == count_leaves(header["tree"]), "a tree with a duplicate name")
    _require(specs.keys() == tensors.keys(), "a tree with other leaves than there are tensors")
    arrays = {name: _parse_tensor(name, tensors[name], spec) for name, spec in specs.items()}
    return Contents(arrays, header["tree"], header["metadata"])


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes a JSON object, which must not have duplicate names."""
    named = dict(pairs)
    _require(len(named) == len(pairs), "a JSON object with a duplicate name")
    return named


def _parse_tensor(name: str, tensor: dict[str, Any], spec: dict[str, Any]) -> np.ndarray:
    """Converts a tensor to an array, which must have the kind, dtype and shape in its spec."""
    dtype = DTYPES.get(tensor["dtype"])
    _require(dtype is not None, f"a tensor of {tensor['dtype']}")
    array = np.ndarray(tensor["shape"], dtype, tensor["data"]).copy()
    kind, spec_dtype, shape = spec["kind"], spec["dtype"], spec["shape"]
    difference = f"{checks.describe(array)} instead of {kind} {spec_dtype}{shape} at {name!r}"
    if kind == "key":
        form = _key_dtype_and_shape(array, spec["implementation"])
        _require(form == (spec_dtype, shape), difference)
        return array
    same_dtype = spec_dtype == str(array.dtype)
    if kind != "jax":  # a big-endian array of NumPy is saved in the usual byte order
        same_dtype |= spec_dtype == str(array.dtype.newbyteorder(">"))
    _require(same_dtype and shape == list(array.shape), difference)
    _require(kind in ARRAYS or spec_dtype == _NUMBER_DTYPES.get(kind), difference)
    _require(kind in ("jax", "numpy") or shape == [], difference)
    is_boolean = bool((array.view(np.uint8) <= 1).all()) if spec_dtype == "bool" else True
    _require(is_boolean, f"a boolean other than 0 and 1 at {name!r}")
    return array


_NUMBER_DTYPES = {kind: str(np.asarray(number()).dtype) for kind, number in NUMBERS.items()}


def _key_dtype_and_shape(data: np.ndarray, implementation: str) -> tuple[str, list[int]]:
    """The dtype and shape of the keys with this data."""
    wrap = functools.partial(jax.random.wrap_key_data, impl=implementation)
    try:
        keys = jax.eval_shape(wrap, jax.ShapeDtypeStruct(data.shape, data.dtype))
    except (TypeError, ValueError) as error:
        raise _Invalid(f"keys of {implementation!r}") from error
    return str(keys.dtype), list(keys.shape)
