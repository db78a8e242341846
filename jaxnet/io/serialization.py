"""Checkpoints: any tree of arrays in one file, whole or not at all, and never with wrong numbers.

A file is in the safetensors format, which PyTorch and many others read: every leaf is a tensor
named by its path, such as `0/weights`. What else makes up the tree stands in the file's metadata,
as JSON under the name "jaxnet", and begins with a SHA-256 over the whole file. Nothing that a file
says is believed before that has been compared.
"""

import functools
import hashlib
import json
import os
import platform
import stat
from collections.abc import Mapping
from io import FileIO
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax
import safetensors.numpy
from jaxtyping import PyTree

import jaxnet
from jaxnet.core import checks, dtypes, trees
from jaxnet.core.atomic import atomic_write

PathLike = str | os.PathLike[str]

_BEFORE_CHECKSUM = rb'{"__metadata__":{"jaxnet":"{\"sha256\": \"'
_NO_CHECKSUM = b"0" * 64
_BLOCK = 2**20  # bytes

_DTYPES = {
    name: np.dtype(dtype)
    for name, dtype in {
        "BOOL": np.bool_,
        "U8": np.uint8,
        "I8": np.int8,
        "U16": np.uint16,
        "I16": np.int16,
        "U32": np.uint32,
        "I32": np.int32,
        "U64": np.uint64,
        "I64": np.int64,
        "F8_E4M3": jnp.float8_e4m3fn,
        "F8_E5M2": jnp.float8_e5m2,
        "BF16": jnp.bfloat16,
        "F16": np.float16,
        "F32": np.float32,
        "F64": np.float64,
        "C64": np.complex64,
    }.items()
}


class CorruptFileError(ValueError):
    """A file that is not what `save` wrote: changed, cut off, or something else.

    A checksum finds what chance has changed. What somebody has made on purpose, with the right
    checksum, is compared part by part.
    """


@checks.door
def save(path: PathLike, tree: PyTree, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes a tree to a file, from which `load` gives the same bits.

    Args:
        path: of the file. One that is there is replaced when the new one is whole and on the disk;
            until then, and if anything goes wrong, it stays as it is.
        tree: dicts, lists, tuples, NamedTuples and other registered containers; its leaves are JAX
            or NumPy arrays, of bool, (unsigned) integers, float8, bfloat16, float16, float32,
            float64 or complex64, typed keys, and Python's int (64 bits), float and bool.
        metadata: what else to keep, for `load_metadata`: anything that JSON can hold.

    The same tree gives the same bytes. No pickle is involved, so loading runs no code.

    Raises:
        TypeError, ValueError: a leaf of another type, such as an array with a mask; two leaves
            whose paths read the same; a name that UTF-8 cannot hold; metadata that would be read
            as something else, such as a number for a name.
        OSError: the file cannot be written.

    >>> import tempfile
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
    arrays = {name: _as_numpy(name, leaf) for name, leaf in leaves.items()}
    outline = _outline(tree)
    if len(_leaf_outlines(outline)) < len(jax.tree.leaves(tree)) or "__metadata__" in leaves:
        raise checks.InvalidValue(
            "expected leaves whose paths, joined by '/', are all different and not "
            f"'__metadata__'. Received: {', '.join(map(repr, leaves))}"
        )
    _check_names(leaves, metadata)
    try:
        text = json.dumps(
            {
                "sha256": _NO_CHECKSUM.decode(),
                "versions": versions(),
                "metadata": dict(metadata or {}),
                "tree": outline,
            }
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise checks.InvalidType(
            f"expected metadata that JSON can hold. Received: {error}"
        ) from None
    contents = memoryview(safetensors.numpy.save(arrays, {"jaxnet": text}))
    checksum = hashlib.sha256(contents).hexdigest().encode()
    start = 8 + len(_BEFORE_CHECKSUM)
    with atomic_write(path) as file:
        for part in (contents[:start], checksum, contents[start + len(checksum) :]):
            file.write(part)


@checks.door
def load(path: PathLike, like: PyTree = None) -> PyTree:
    """Reads a tree from a file that `save` wrote.

    Args:
        path: of the file.
        like: a tree of the same containers, names, shapes and dtypes, whose leaves may be
            `jax.ShapeDtypeStruct`s, for instance of `jax.eval_shape(network.init, key)`. An array
            is placed where that leaf is, or on the sharding that it asks for. Without, the result
            is dicts within dicts, their keys the parts of the leaves' paths.

    Raises:
        CorruptFileError: what is there is not a file that `save` wrote, or not a file. That is a
            ValueError.
        ValueError: the tree is not like `like`; the first difference is named. Or it has 64-bit
            JAX arrays, while JAX is set to 32 bits: nothing is rounded silently.
        OSError: the file cannot be read.
    """
    arrays, found, _ = _read(path)
    if like is None:
        return _as_dicts(found, arrays)
    if difference := _first_difference(found, _outline(like)):
        raise checks.InvalidValue(
            f"expected a tree like the one given. Received: {os.fspath(path)}, {difference}"
        )
    outlines = _leaf_outlines(found)
    leaves = [
        _restored(name, arrays[name], outlines[name], leaf)
        for name, leaf in trees.named_leaves(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


@checks.door
def load_metadata(path: PathLike) -> dict[str, Any]:
    """What `save` was given as metadata; the whole file is checked.

    Raises:
        CorruptFileError: what is there is not a file that `save` wrote, or not a file.
        OSError: the file cannot be read.
    """
    return _read(path).metadata


def _check_names(leaves: Mapping[str, Any], metadata: Any) -> None:
    """Names that a file can hold, also within the metadata."""
    for name in leaves:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise checks.InvalidValue(
                f"expected names that UTF-8 can hold. Received: {name!r}"
            ) from None
    if isinstance(metadata, Mapping):
        for name, value in metadata.items():
            if not isinstance(name, str):
                raise checks.InvalidType(
                    "expected metadata whose names are strings, as they are in JSON. "
                    f"Received: {checks.describe(name)}"
                )
            _check_names({}, value)
    elif isinstance(metadata, (list, tuple)):
        for value in metadata:
            _check_names({}, value)


def versions() -> dict[str, str]:
    """Those of Python and of the packages that numbers depend on."""
    packages = {package.__name__: package.__version__ for package in _PACKAGES}
    return {"python": platform.python_version(), **packages}


_PACKAGES = (jax, jaxlib, jaxnet, np, optax)


# The outline of a tree, as JSON. Of a leaf: what kind of thing it is, its dtype and shape; of no
# leaf (None): null; of a container: its type, and its children by their parts of the path.

Outline = Any


def _outline(tree: PyTree) -> Outline:
    if tree is None:
        return None
    children, _ = jax.tree.flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    if children and not children[0][0]:
        return _outline_of_leaf(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in children]
    outlines = [_outline(child) for _, child in children]
    return [type(tree).__name__, dict(zip(names, outlines, strict=True))]


def _outline_of_leaf(leaf: Any) -> dict[str, Any]:
    kind = _kind(leaf)
    if kind is None:
        return {"kind": None, "dtype": type(leaf).__name__, "shape": []}
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    outline = {"kind": kind, "dtype": str(dtype), "shape": list(np.shape(leaf))}
    if outline["kind"] == "key" and isinstance(leaf, jax.Array):
        outline["implementation"] = str(jax.random.key_impl(leaf))
    return outline


def _kind(leaf: Any) -> str | None:
    """What a leaf is; None for what cannot be saved."""
    if isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)):
        return "key" if dtypes.is_key(leaf) else "jax"
    if type(leaf) in (np.ndarray, np.memmap):
        return "numpy"
    if isinstance(leaf, np.generic):
        return "numpy scalar"
    return type(leaf).__name__ if type(leaf) in _NUMBERS else None


_NUMBERS = (bool, int, float)
_ARRAYS = ("jax", "numpy", "numpy scalar")  # one may be loaded as the other


def _first_difference(found: Outline, expected: Outline, path: tuple[str, ...] = ()) -> str | None:
    """Where two trees differ, in words."""
    where = f"at {'/'.join(path)!r}" if path else "as a whole"
    if not (isinstance(found, list) and isinstance(expected, list)):
        if _comparable(found) == _comparable(expected):
            return None
        return f"{where} the file has {_worded(found)} in place of {_worded(expected)}"
    (found_type, children), (expected_type, expected_children) = found, expected
    for name in [*expected_children, *children]:
        at = "/".join((*path, name))
        if name not in children:
            return f"{at!r} is missing from the file, which has {', '.join(children)}"
        if name not in expected_children:
            return f"{at!r} of the file is not expected"
        difference = _first_difference(children[name], expected_children[name], (*path, name))
        if difference:
            return difference
    if found_type != expected_type:
        return f"{where} the file has a {found_type} in place of a {expected_type}"
    return None


def _comparable(outline: Outline) -> Any:
    if not isinstance(outline, dict):
        return outline
    kind = "array" if outline["kind"] in _ARRAYS else outline["kind"]
    return kind, outline["dtype"], outline["shape"]


def _worded(outline: Outline) -> str:
    if isinstance(outline, list):
        return f"a {outline[0]}"
    if outline is None:
        return "None"
    number = outline["kind"] if outline["kind"] in _NUMBER_NAMES else ""
    return number or f"{outline['dtype']}{outline['shape']}"


_NUMBER_NAMES = tuple(number.__name__ for number in _NUMBERS)


# Leaves, as arrays of NumPy and back.


def _as_numpy(name: str, leaf: Any) -> np.ndarray:
    kind = _kind(leaf)
    hint = checks.hint(leaf)
    if kind is None or not dtypes.is_concrete(leaf) or hint:
        raise checks.InvalidType(
            "expected arrays with values, keys or numbers. "
            f"Received: {checks.describe(leaf)} at {name!r}{hint}"
        )
    if kind == "int" and not -(2**63) <= leaf < 2**63:
        raise checks.InvalidValue(f"expected integers within 64 bits. Received: {leaf} at {name!r}")
    array = np.asarray(jax.random.key_data(leaf) if kind == "key" else leaf, order="C")
    if array.dtype.newbyteorder("=") not in _DTYPES.values():
        raise checks.InvalidType(
            f"expected leaves of {', '.join(map(str, _DTYPES.values()))}. "
            f"Received: {checks.describe(array)} at {name!r}"
        )
    return array


def _restored(name: str, array: np.ndarray, outline: Outline, like: Any = None) -> Any:
    """The leaf that an array was; with `like`, of that one's type and in its place."""
    kind = outline["kind"] if like is None else _kind(like)
    if kind in _NUMBER_NAMES:
        return array.item()
    if kind in ("numpy", "numpy scalar"):
        return array if kind == "numpy" else array[()]
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise checks.InvalidValue(
            f"expected jax_enable_x64 to be set, for {checks.describe(array)} at {name!r}. "
            "Received: a JAX of 32 bits"
        )
    leaf = jnp.array(array)
    if kind == "key":
        leaf = jax.random.wrap_key_data(leaf, impl=outline["implementation"])
    chosen = getattr(like, "committed", True)  # not only where JAX happens to put things
    return jax.device_put(leaf, getattr(like, "sharding", None) if chosen else None)


def _as_dicts(
    outline: Outline, arrays: Mapping[str, np.ndarray], path: tuple[str, ...] = ()
) -> PyTree:
    if outline is None:
        return None
    if isinstance(outline, dict):
        name = "/".join(path)
        return _restored(name, arrays[name], outline)
    children = outline[1].items()
    return {name: _as_dicts(child, arrays, (*path, name)) for name, child in children}


def _leaf_outlines(outline: Outline, path: tuple[str, ...] = ()) -> dict[str, Outline]:
    """The outlines of the leaves, by their paths."""
    if not isinstance(outline, list):
        return {} if outline is None else {"/".join(path): outline}
    parts = [_leaf_outlines(child, (*path, name)) for name, child in outline[1].items()]
    return {name: leaf for part in parts for name, leaf in part.items()}


# The file.


class _Contents(NamedTuple):
    arrays: dict[str, np.ndarray]
    tree: Outline
    metadata: dict[str, Any]


def _read(path: PathLike) -> _Contents:
    """What a file holds, if its checksum is that of its bytes and its parts fit each other."""
    checks.path("path", path)

    def damaged(what: str) -> CorruptFileError:
        return CorruptFileError(
            f"expected a file as save wrote it. Received: {os.fspath(path)}, {what}"
        )

    with open(path, "rb", buffering=0, opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise damaged("which is not a file")
        said = _checksum_in(file)
        if said is None or said != _checksum_of(file):
            raise damaged("which is damaged, cut off, or of another origin")
        file.seek(0)
        contents = file.read()
    try:
        return _parsed(contents)
    except RecursionError:
        raise damaged("whose parts are nested too deeply") from None
    except (_Unfit, ValueError, safetensors.SafetensorError) as error:
        raise damaged(f"whose checksum is right but whose contents are not: {error}") from error


def _open_at_once(path: str, flags: int) -> int:
    """Opens a file; a pipe too, without waiting for somebody to write into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _checksum_in(file: FileIO) -> bytes | None:
    """What the file says, if it begins as it should."""
    size, start = file.read(8), file.read(len(_BEFORE_CHECKSUM))
    whole = int.from_bytes(size, "little") <= os.fstat(file.fileno()).st_size - 8
    return file.read(len(_NO_CHECKSUM)) if whole and start == _BEFORE_CHECKSUM else None


def _checksum_of(file: FileIO) -> bytes:
    """That of its bytes, with zeros in place of the checksum; a block of them at a time."""
    file.seek(0)
    computed = hashlib.sha256(file.read(8 + len(_BEFORE_CHECKSUM)))
    file.seek(len(_NO_CHECKSUM), os.SEEK_CUR)
    computed.update(_NO_CHECKSUM)
    while block := file.read(_BLOCK):
        computed.update(block)
    return computed.hexdigest().encode()


# What a file says, whoever wrote it. Every part has one form, that in which `save` writes it.


class _Unfit(Exception):
    """A part of a file has another form, or does not fit the rest."""


def _parsed(contents: bytes) -> _Contents:
    """The contents of a file whose checksum is right."""
    size = int.from_bytes(contents[:8], "little")
    about = json.loads(contents[8 : 8 + size], object_pairs_hook=_unique)["__metadata__"]
    _demand(isinstance(about, dict) and list(about) == ["jaxnet"], "other metadata than jaxnet's")
    header = json.loads(about["jaxnet"], object_pairs_hook=_unique)
    _demand(
        isinstance(header, dict)
        and list(header) == ["sha256", "versions", "metadata", "tree"]
        and isinstance(header["versions"], dict)
        and isinstance(header["metadata"], dict),
        "a header of other parts",
    )
    _demand(_is_outline(header["tree"]), "an outline of another form")
    tensors = dict(safetensors.deserialize(contents))
    outlines = _leaf_outlines(header["tree"])
    _demand(len(outlines) == _count(header["tree"]), "an outline in which a name comes twice")
    _demand(outlines.keys() == tensors.keys(), "an outline of other tensors")
    arrays = {name: _array(name, tensors[name], leaf) for name, leaf in outlines.items()}
    return _Contents(arrays, header["tree"], header["metadata"])


def _demand(fits: bool, otherwise: str) -> None:
    if not fits:
        raise _Unfit(otherwise)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no name comes twice."""
    named = dict(pairs)
    _demand(len(named) == len(pairs), "a name that comes twice")
    return named


def _is_outline(outline: Any) -> bool:
    """Whether it has the form of what `_outline` gives."""
    if outline is None:
        return True
    if isinstance(outline, list):
        return (
            len(outline) == 2
            and isinstance(outline[0], str)
            and isinstance(outline[1], dict)
            and all(map(_is_outline, outline[1].values()))
        )
    if not isinstance(outline, dict):
        return False
    names = ["kind", "dtype", "shape"]
    names += ["implementation"] if outline.get("kind") == "key" else []
    return (
        list(outline) == names
        and all(isinstance(outline[name], str) for name in names if name != "shape")
        and isinstance(outline["shape"], list)
        and all(type(length) is int for length in outline["shape"])
    )


def _count(outline: Outline) -> int:
    """How many leaves there are."""
    if not isinstance(outline, list):
        return int(outline is not None)
    return sum(map(_count, outline[1].values()))


def _array(name: str, tensor: dict[str, Any], outline: Outline) -> np.ndarray:
    """A tensor as an array, if it is of the kind, dtype and shape that its outline says."""
    dtype = _DTYPES.get(tensor["dtype"])
    _demand(dtype is not None, f"a tensor of {tensor['dtype']}")
    array = np.ndarray(tensor["shape"], dtype, tensor["data"]).copy()
    kind, said, shape = outline["kind"], outline["dtype"], outline["shape"]
    received = f"{checks.describe(array)} in place of {kind} {said}{shape} at {name!r}"
    if kind == "key":
        _demand(_key_form(array, outline["implementation"]) == (said, shape), received)
        return array
    same_dtype = said == str(array.dtype) or (
        kind != "jax" and said == str(array.dtype.newbyteorder(">"))
    )
    _demand(same_dtype and shape == list(array.shape), received)
    _demand(kind in _ARRAYS or (kind, said) in _NUMBER_DTYPES, received)
    _demand(kind in ("jax", "numpy") or shape == [], received)
    _demand(said != "bool" or bool((array.view(np.uint8) <= 1).all()), f"bytes of {name!r}")
    return array


_NUMBER_DTYPES = {(number.__name__, str(np.asarray(number()).dtype)) for number in _NUMBERS}


def _key_form(bits: np.ndarray, implementation: str) -> tuple[str, list[int]]:
    """The dtype and shape of the keys that have these bits."""
    wrap = functools.partial(jax.random.wrap_key_data, impl=implementation)
    try:
        keys = jax.eval_shape(wrap, jax.ShapeDtypeStruct(bits.shape, bits.dtype))
    except (TypeError, ValueError) as error:
        raise _Unfit(f"keys of {implementation!r}") from error
    return str(keys.dtype), list(keys.shape)
