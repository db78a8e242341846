"""Corrupt and crafted files: each raises, and none is loaded with wrong values."""

import hashlib
import io
import json
import os
import tracemalloc

import helpers
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import strategies
from io_helpers import assert_same

import jaxnet


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tree.safetensors"


def small_file(path):
    jaxnet.save(path, {"weights": jnp.arange(20.0), "key": jax.random.key(1)}, metadata={"a": 1})
    return path.read_bytes()


def test_single_flipped_bits_raise(path):
    contents = small_file(path)
    random = np.random.default_rng(0)
    for position in random.choice(8 * len(contents), 400, replace=False).tolist():
        changed = bytearray(contents)
        changed[position // 8] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(jaxnet.CorruptFileError, match="corrupt"):
            jaxnet.load(path)


def test_truncated_files_raise(path):
    contents = small_file(path)
    for length in range(0, len(contents), 3):
        path.write_bytes(contents[:length])
        with pytest.raises(jaxnet.CorruptFileError):
            jaxnet.load(path)
    path.write_bytes(contents + b"\0")
    with pytest.raises(jaxnet.CorruptFileError):
        jaxnet.load(path)


@hypothesis.given(
    start=strategies.integers(0, 200),
    noise=strategies.binary(max_size=200),
    whole=strategies.booleans(),
)
def test_other_bytes_raise(start, noise, whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("noise") / "file"
    contents = small_file(path)
    mutated = noise if whole else contents[:start] + noise + contents[start + len(noise) :]
    hypothesis.assume(mutated != contents)
    path.write_bytes(mutated)
    with pytest.raises(jaxnet.CorruptFileError):
        jaxnet.load(path)


def test_a_corrupt_file_takes_no_memory(path):
    """A file of 8 MB whose header claims a size of 2**62 bytes."""
    jaxnet.save(path, jnp.zeros(2**21))
    contents = path.read_bytes()
    path.write_bytes((2**62).to_bytes(8, "little") + contents[8:])
    tracemalloc.start()
    with pytest.raises(jaxnet.CorruptFileError):
        jaxnet.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22  # a few blocks


def test_a_safetensors_file_of_another_program_raises(path):
    safetensors.numpy.save_file({"a": np.ones(2)}, path)
    with helpers.refused(jaxnet.CorruptFileError, "from another program"):
        jaxnet.load(path)


def test_a_full_disk_keeps_the_existing_file(path):
    """A limit on the size of files stands for a full disk."""
    script = f"""
import os, resource, signal
import jax.numpy as jnp
import jaxnet
path = {str(path)!r}
jaxnet.save(path, jnp.ones(3))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    jaxnet.save(path, jnp.ones(100_000))
except OSError as error:
    print(type(error).__name__)
print(jaxnet.load(path).sum(), os.listdir(os.path.dirname(path)))
"""
    assert helpers.run_plainly(script) == f"OSError\n3.0 ['{path.name}']\n"


# Crafted files: the checksum is right, the parts contradict each other.


def with_checksum(contents):
    """The contents of a file with the right checksum in jaxnet's header."""
    start = 8 + len(b'{"__metadata__":{"jaxnet":"{\\"sha256\\": \\"')
    zeroed = contents[:start] + b"0" * 64 + contents[start + 64 :]
    return zeroed[:start] + hashlib.sha256(zeroed).hexdigest().encode() + zeroed[start + 64 :]


def craft(contents, outer=lambda names: None, inner=lambda header: None, text=lambda text: text):
    """A file whose header is changed by the given functions, with the right checksum.

    `outer` changes the header of safetensors, `inner` that of jaxnet, and `text` its JSON.
    """
    size = int.from_bytes(contents[:8], "little")
    names = json.loads(contents[8 : 8 + size])
    header = json.loads(names["__metadata__"]["jaxnet"])
    inner(header)
    names["__metadata__"]["jaxnet"] = text(json.dumps(header))
    outer(names)
    start = json.dumps(names, separators=(",", ":"), ensure_ascii=False).encode()
    start += b" " * (-len(start) % 8)
    return with_checksum(len(start).to_bytes(8, "little") + start + contents[8 + size :])


CRAFTED_TREE = {
    "jax": jnp.arange(6.0).reshape(2, 3),
    "numpy": np.arange(3),
    "flag": np.array([True, False]),
    "key": jax.random.key(1),
    "numbers": (1, 2.5, True, np.int8(3)),
}


def leaf(name, **changes):
    """Changes the spec of a leaf; None removes a part of it."""

    def change(header):
        spec = header["tree"][1][name]
        for part, value in changes.items():
            if value is None:
                del spec[part]
            else:
                spec[part] = value

    return change


def number(i, **changes):
    return lambda header: header["tree"][1]["numbers"][1][str(i)].update(changes)


def put(*path):
    """Puts a value at a place in the header."""
    *path, last, value = path

    def change(header):
        for name in path:
            header = header[name]
        header[last] = value

    return change


def without(*path):
    *path, last = path

    def change(header):
        for name in path:
            header = header[name]
        del header[last]

    return change


INNER = {
    "no tree": without("tree"),
    "no metadata": without("metadata"),
    "no versions": without("versions"),
    "another part": put("more", 1),
    "metadata of numbers": put("metadata", [1]),
    "versions of numbers": put("versions", 1),
    "a tree of text": put("tree", "dict"),
    "a tree of a number": put("tree", 3),
    "a tree of a list": put("tree", []),
    "a tree of three": lambda header: header["tree"].append(1),
    "a container of a number": put("tree", 0, 1),
    "children in a list": put("tree", 1, []),
    "deep metadata": lambda header: header["metadata"].update(a=eval("[" * 90 + "]" * 90)),
    "a tensor without a leaf": without("tree", 1, "numpy"),
    "a leaf without a tensor": put(
        "tree", 1, "new", {"kind": "jax", "dtype": "float32", "shape": []}
    ),
    "two leaves with the same name": lambda header: header["tree"][1].update(
        {"numbers/0": {"kind": "int", "dtype": "int64", "shape": []}}
    ),
    "no kind": leaf("jax", kind=None),
    "no dtype": leaf("jax", dtype=None),
    "no shape": leaf("jax", shape=None),
    "an additional part": leaf("jax", more=1),
    "an unknown kind": leaf("jax", kind="torch"),
    "a kind that is a list": leaf("jax", kind=["jax"]),
    "an unknown dtype": leaf("jax", dtype="float33"),
    "another dtype of the same size": leaf("jax", dtype="int32"),
    "a wider dtype": leaf("jax", dtype="float64"),
    "a dtype that is a number": leaf("jax", dtype=32),
    "another shape": leaf("jax", shape=[3, 2]),
    "another number of axes": leaf("jax", shape=[6]),
    "a shape that is a number": leaf("jax", shape=6),
    "a shape of floats": leaf("jax", shape=[2.0, 3]),
    "a shape of booleans": leaf("key", shape=[True]),
    "a big-endian JAX array": leaf("jax", dtype=">f4"),
    "a scalar that is an array": leaf("numpy", kind="numpy scalar"),
    "a number that is an array": leaf("numpy", kind="int"),
    "a key without implementation": leaf("key", implementation=None),
    "a key of an unknown implementation": leaf("key", implementation="mine"),
    "a key of another implementation": leaf("key", implementation="rbg"),
    "a key that says another implementation": leaf("key", dtype="key<rbg>"),
    "an implementation that is a number": leaf("key", implementation=3),
    "a key of another shape": leaf("key", shape=[2]),
    "an implementation of numbers": leaf("jax", implementation="rbg"),
    "numbers that are a key": leaf("jax", kind="key", implementation="threefry2x32"),
    "a key that is numbers": leaf("key", kind="jax", implementation=None),
    "an int that is a float": number(0, kind="float"),
    "an int that says float": number(0, dtype="float64"),
    "a float that is an int": number(1, kind="int"),
    "a bool that is an int": number(2, kind="int"),
    "a scalar of another dtype": number(3, dtype="uint8"),
}


def put_two_in_flag(contents):
    """A file in which a byte of a boolean tensor is 2."""
    size = int.from_bytes(contents[:8], "little")
    start, _ = json.loads(contents[8 : 8 + size])["flag"]["data_offsets"]
    changed = bytearray(contents)
    changed[8 + size + start] = 2
    return with_checksum(bytes(changed))


def nest(levels):
    """Nests the tree of a header in containers, deeper than `json.dumps` can write."""
    opened, closed = '["tuple", {"a": ' * levels, "}]" * levels
    return lambda text: text[:-1].replace('"tree": ', f'"tree": {opened}') + closed + "}"


WHOLE = {
    **{
        f"a tree {levels} deep": lambda contents, levels=levels: craft(contents, text=nest(levels))
        for levels in (1, 100, 400, 5000, 100_000)
    },
    "a boolean of 2": put_two_in_flag,
    "invalid JSON": lambda contents: craft(contents, text=lambda text: text + "}"),
    "a duplicate JSON name": lambda contents: craft(
        contents, text=lambda text: text[:-1] + ', "metadata": {"a": 2}}'
    ),
    "more metadata": lambda contents: craft(contents, put("__metadata__", "format", "pt")),
    "an unknown dtype of safetensors": lambda contents: craft(contents, put("jax", "dtype", "F3")),
    "a dtype that jaxnet does not save": lambda contents: craft(
        contents, put("numpy", "dtype", "F8_E8M0")
    ),
    "offsets beyond the end": lambda contents: craft(
        contents, put("jax", "data_offsets", [0, 2**40])
    ),
    "a shape of another size": lambda contents: craft(contents, put("jax", "shape", [7])),
    "a tensor that is a list": lambda contents: craft(contents, put("jax", [])),
    "a tensor left out": lambda contents: craft(contents, without("jax")),
    "additional bytes at the end": lambda contents: with_checksum(contents + b"\0" * 8),
    "JSON that is not UTF-8": lambda contents: with_checksum(
        contents.replace(b'"numpy":', b'"num\xff\xff":')
    ),
}
WHOLE |= {
    name: lambda contents, change=change: craft(contents, inner=change)
    for name, change in INNER.items()
    if name != "deep metadata"
}


def crafted_file(path):
    jaxnet.save(path, CRAFTED_TREE, metadata={"a": 1})
    return path.read_bytes()


@pytest.mark.parametrize("kind", WHOLE)
def test_crafted_files_raise(kind, path):
    changed = WHOLE[kind](crafted_file(path))
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    for read in (jaxnet.load, jaxnet.load_metadata, lambda path: jaxnet.load(path, CRAFTED_TREE)):
        with pytest.raises(jaxnet.CorruptFileError, match="expected a file written by jaxnet"):
            read(path)


def test_a_file_crafted_without_a_change_loads(path):
    """So the crafted files above raise because of their changes."""
    path.write_bytes(craft(crafted_file(path)))
    assert_same(jaxnet.load(path, CRAFTED_TREE), CRAFTED_TREE)
    path.write_bytes(craft(crafted_file(path), inner=INNER["deep metadata"]))
    assert_same(jaxnet.load(path, CRAFTED_TREE), CRAFTED_TREE)


def places(tree, path=()):
    """Every place in a JSON document."""
    yield path
    children = tree if isinstance(tree, dict) else {}
    if isinstance(tree, list):
        children = dict(enumerate(tree))
    for name, child in children.items():
        yield from places(child, (*path, name))


JUNK = [None, True, 0, 1, -1, 2**70, 1.5, "", "jax", "key", "float32", ">f4", "a/b", [], {}]
JUNK += [[1], {"a": None}, ["dict", {}], {"kind": "jax", "dtype": "float32", "shape": []}]


@pytest.mark.parametrize("part", ["outer", "inner"])
def test_any_change_of_a_header_raises_or_loads_what_other_readers_see(part, path):
    contents, random = crafted_file(path), np.random.default_rng(0)
    raised = 0
    for _ in range(400):

        def change(header):
            found = [place for place in places(header) if place]
            *path, last = found[random.integers(len(found))]
            for name in path:
                header = header[name]
            what = random.integers(3)
            if what == 0:
                del header[last]
            elif what == 1 and isinstance(header, dict):
                header[str(last) + "x"] = header.pop(last)
            else:
                header[last] = JUNK[random.integers(len(JUNK))]

        def change_text(names):
            if isinstance(names.get("__metadata__", {}).get("jaxnet"), str):
                change(names)

        path.write_bytes(
            craft(contents, change_text) if part == "outer" else craft(contents, inner=change)
        )
        try:
            loaded, metadata = jaxnet.load(path), jaxnet.load_metadata(path)
        except jaxnet.CorruptFileError:
            raised += 1
            with pytest.raises(jaxnet.CorruptFileError):
                jaxnet.load_metadata(path)
            continue
        assert isinstance(metadata, dict)
        seen = safetensors.numpy.load_file(path)
        leaves, _ = jax.tree.flatten_with_path(loaded)
        assert len(leaves) == len(seen)
        for place, leaf in leaves:
            if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                leaf = jax.random.key_data(leaf)
            other = seen[jax.tree_util.keystr(place, simple=True, separator="/")]
            assert (np.shape(leaf), np.asarray(leaf).dtype) == (other.shape, other.dtype)
            assert np.asarray(leaf).tobytes() == other.tobytes()
    assert raised == 400 if part == "outer" else 200 < raised < 400


# Files of other programs are recognised by their first bytes.


def test_a_large_file_of_another_program_raises_after_its_first_bytes(path, monkeypatch):
    """8 GB of zeros, also after the start of a jaxnet file that claims to be longer."""
    read = 0

    class Counting(io.FileIO):
        def read(self, size=-1):
            nonlocal read
            read += len(part := super().read(size))
            return part

    def counting(path, mode, buffering, opener):
        assert buffering == 0
        return Counting(path, mode, opener=opener)

    monkeypatch.setattr("builtins.open", counting)
    beginning = (2**40).to_bytes(8, "little") + small_file_beginning()
    for start in (b"", beginning, b"\x80\x04 a pickle", b"PK\x03\x04 an archive"):
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, start)
        os.ftruncate(descriptor, 2**33)
        os.close(descriptor)
        for function in (jaxnet.load, jaxnet.load_metadata):
            read = 0
            with helpers.refused(jaxnet.CorruptFileError, "from another program"):
                function(path)
            assert 0 < read <= 64


def small_file_beginning():
    return b'{"__metadata__":{"jaxnet":"{\\"sha256\\": \\"'


def test_what_is_not_a_regular_file_raises_at_once(path, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    script = f"""
import jaxnet
for name in ({str(tmp_path / "fifo")!r}, "/dev/zero", "/dev/null"):
    for read in (jaxnet.load, jaxnet.load_metadata):
        try:
            read(name)
        except jaxnet.CorruptFileError as error:
            print(str(error).endswith("which is not a regular file"))
"""
    assert helpers.run_plainly(script).split() == ["True"] * 6
    with pytest.raises(IsADirectoryError):
        jaxnet.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        jaxnet.load(tmp_path / "missing")
    (tmp_path / "link").symlink_to(path)
    jaxnet.save(path, 1.5)
    assert jaxnet.load(tmp_path / "link") == 1.5
    path.write_bytes(b"")
    with helpers.refused(jaxnet.CorruptFileError, "truncated"):
        jaxnet.load(path)
