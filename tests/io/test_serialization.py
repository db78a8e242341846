"""Checkpoints: what is loaded is what was saved, bit for bit, or it is refused."""

import collections
import hashlib
import io
import json
import os
import tracemalloc
from typing import NamedTuple

import chex
import helpers
import hypothesis
import hypothesis.extra.numpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import strategies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxnet

Pair = collections.namedtuple("Pair", ["first", "second"])


class Scale(NamedTuple):
    weights: object
    biases: object


DTYPES = [
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32"),
    *("float16", "float32", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64"),
]
WIDE_DTYPES = ["uint64", "int64", "float64"]


def random_bits(dtype, shape=(3, 5)):
    """Numbers of any bits, NaN and infinity among them; of truth values, those."""
    dtype, random = jnp.dtype(dtype), np.random.default_rng(0)
    if dtype.kind == "b":
        return random.integers(2, size=shape).astype(bool)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(random.bytes(size), dtype).reshape(shape)


def zoo():
    """A tree with every kind of leaf and container."""
    return {
        "jax": {dtype: jnp.asarray(random_bits(dtype)) for dtype in DTYPES},
        "numpy": {dtype: random_bits(dtype) for dtype in DTYPES + WIDE_DTYPES},
        "scalars": [jnp.float32(1.5), np.float64(0.1), np.int8(-3), True, 7, 0.1, -0.0],
        "extreme": (-(2**63), 2**63 - 1, float("inf"), float("nan"), 5e-324),
        "empty": (jnp.zeros((0, 3)), np.zeros((2, 0), np.int8), (), {}, None),
        "keys": Pair(jax.random.key(3), jax.random.split(jax.random.key(4, impl="rbg"), (2, 3))),
        "strided": np.arange(12.0).reshape(3, 4).T[::2],
        "big-endian": np.arange(3, dtype=">f4"),
        "é / ü": Scale(jnp.ones(2), None),
    }


def assert_same(received, expected):
    """Types, containers and bits."""
    assert jax.tree.structure(received) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(received), jax.tree.leaves(expected), strict=True):
        if isinstance(other, jax.Array):
            assert isinstance(one, jax.Array) and one.dtype == other.dtype
            if jnp.issubdtype(other.dtype, jax.dtypes.prng_key):
                one, other = jax.random.key_data(one), jax.random.key_data(other)
        else:
            assert isinstance(one, type(other)) and isinstance(other, type(one))
        one, other = np.asarray(one), np.asarray(other)
        assert (one.shape, one.dtype) == (other.shape, other.dtype.newbyteorder("="))
        assert one.tobytes() == other.astype(one.dtype).tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tree.safetensors"


def test_every_kind_of_leaf_comes_back(path):
    jaxnet.save(path, zoo())
    assert_same(jaxnet.load(path, zoo()), zoo())


def test_without_like_it_is_dicts_within_dicts(path):
    jaxnet.save(path, ([jnp.ones(2), None], {"a": Scale(1, ())}))
    loaded = jaxnet.load(path)
    chex.assert_trees_all_equal(
        loaded, {"0": {"0": jnp.ones(2), "1": None}, "1": {"a": {"weights": 1, "biases": {}}}}
    )
    jaxnet.save(path, zoo())
    leaves = jaxnet.load(path)["numpy"]
    assert_same(leaves, zoo()["numpy"])
    leaves["int8"][0] = 1  # it can be written to


def test_a_tree_may_be_one_leaf_or_none(path):
    for tree in (jnp.arange(3), 2.5, None, (), {}):
        jaxnet.save(path, tree)
        assert_same(jaxnet.load(path, tree), tree)
        assert_same(jaxnet.load(path), {} if isinstance(tree, tuple) else tree)


trees = strategies.recursive(
    strategies.one_of(
        strategies.booleans(),
        strategies.integers(-(2**63), 2**63 - 1),
        strategies.floats(),
        strategies.none(),
        hypothesis.extra.numpy.arrays(
            strategies.sampled_from([np.float32, np.int16, np.bool_, np.float16]),
            hypothesis.extra.numpy.array_shapes(min_dims=0, min_side=0, max_side=3),
        ),
    ),
    lambda children: strategies.one_of(
        strategies.lists(children, max_size=3),
        strategies.lists(children, max_size=3).map(tuple),
        strategies.dictionaries(strategies.text('ab/é"\\\0', max_size=2), children, max_size=3),
        strategies.tuples(children, children).map(lambda both: Pair(*both)),
    ),
    max_leaves=6,
)


@hypothesis.settings(max_examples=100)
@hypothesis.given(tree=trees)
def test_any_tree_comes_back_or_is_refused_for_its_names(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "tree"
    try:
        jaxnet.save(path, tree)
    except ValueError as error:
        assert "all different" in str(error)
        assert not path.exists()
    else:
        assert_same(jaxnet.load(path, tree), tree)


def test_other_readers_see_the_leaves_by_their_paths(path):
    network = jaxnet.mlp([3, 2, 1])
    parameters = network.init(jax.random.key(0))
    jaxnet.save(path, parameters, metadata={"note": 'a "quoted" text', "epochs": 3})
    seen = safetensors.numpy.load_file(path)
    assert sorted(seen) == ["0/biases", "0/weights", "1/biases", "1/weights"]
    np.testing.assert_array_equal(seen["0/weights"], parameters[0].weights)
    with safetensors.safe_open(path, "np") as file:
        about = json.loads(file.metadata()["jaxnet"])
    assert about["metadata"] == jaxnet.load_metadata(path)
    assert about["metadata"] == {"note": 'a "quoted" text', "epochs": 3}
    assert about["versions"]["jax"] == jax.__version__


def test_the_same_tree_gives_the_same_bytes(path, tmp_path):
    for name in ("one", "two"):
        jaxnet.save(tmp_path / name, zoo(), metadata={"a": [1, 2]})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


TREE = {"a": jnp.ones((2, 3)), "b": (jnp.zeros(2, jnp.int32), 1.0)}

UNLIKE = {
    "missing": ({"a": TREE["a"], "b": (*TREE["b"], 2)}, "'b/2' is missing"),
    "extra": ({"b": TREE["b"]}, "'a' of the file is not expected"),
    "shape": (
        TREE | {"a": jnp.ones((3, 2))},
        "at 'a' the file has float32[2, 3] in place of float32[3, 2]",
    ),
    "dtype": (TREE | {"a": jnp.ones((2, 3), jnp.bfloat16)}, "'a'", "bfloat16[2, 3]"),
    "number for array": (TREE | {"a": 1.0}, "'a'", "in place of float"),
    "int for float": (TREE | {"b": (TREE["b"][0], 1)}, "'b/1' the file has float in place of int"),
    "none for array": (TREE | {"a": None}, "'a'", "in place of None"),
    "list for tuple": (
        TREE | {"b": list(TREE["b"])},
        "at 'b' the file has a tuple in place of a list",
    ),
    "other tuple": (TREE | {"b": Pair(*TREE["b"])}, "'b/first' is missing"),
    "key for numbers": (TREE | {"a": jax.random.key(0)}, "'a'", "key<fry>"),
    "leaf for container": (TREE | {"b": jnp.zeros(2)}, "at 'b' the file has a tuple"),
    "text": (TREE | {"a": "text"}, "'a'"),
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_what_is_not_alike_is_refused_by_its_path(kind, path):
    like, *phrases = UNLIKE[kind]
    jaxnet.save(path, TREE)
    with helpers.refused(ValueError, "load: expected a tree like", *phrases):
        jaxnet.load(path, like)


def test_keys_of_another_generator_are_refused(path):
    jaxnet.save(path, jax.random.key(0, impl="rbg"))
    with helpers.refused(ValueError, "key<rbg>", "key<fry>"):
        jaxnet.load(path, jax.random.key(0))


def test_like_may_be_shapes_and_decides_between_jax_and_numpy(path):
    network = jaxnet.mlp([3, 2, 1])
    parameters = network.init(jax.random.key(0))
    jaxnet.save(path, parameters)
    loaded = jaxnet.load(path, jax.eval_shape(network.init, jax.random.key(1)))
    chex.assert_trees_all_equal(loaded, parameters)
    assert type(loaded[0]) is jaxnet.DenseParameters
    plain = jaxnet.load(path, jax.tree.map(np.asarray, parameters))
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(plain))


def test_arrays_are_placed_on_the_sharding_asked_for(path):
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    sharding = NamedSharding(mesh, PartitionSpec("rows"))
    jaxnet.save(path, {"x": jnp.arange(8.0)})
    for like in (
        jax.ShapeDtypeStruct((8,), jnp.float32, sharding=sharding),
        jax.device_put(jnp.zeros(8), sharding),
    ):
        loaded = jaxnet.load(path, {"x": like})["x"]
        assert loaded.sharding == sharding
        np.testing.assert_array_equal(loaded, np.arange(8.0))
    jaxnet.save(path, {"x": loaded})  # a sharded one is saved whole
    np.testing.assert_array_equal(jaxnet.load(path)["x"], np.arange(8.0))


def test_a_file_in_memory_is_an_array(path, tmp_path):
    mapped = np.memmap(tmp_path / "mapped", np.float32, "w+", shape=(3,))
    mapped[:] = [1, 2, 3]
    jaxnet.save(path, mapped)
    np.testing.assert_array_equal(jaxnet.load(path), [1, 2, 3])


def test_a_state_that_was_donated_tells_what_to_load(path):
    tree = {"a": jnp.arange(3.0)}
    jaxnet.save(path, tree)
    tree["a"].delete()
    np.testing.assert_array_equal(jaxnet.load(path, tree)["a"], [0, 1, 2])


def test_64_bits_are_not_rounded_silently(path):
    with jax.enable_x64(True):
        tree = {"x": jnp.array([0.1, 0.2])}
        jaxnet.save(path, tree)
        assert_same(jaxnet.load(path, tree), tree)
    with helpers.refused(ValueError, "load: expected jax_enable_x64", "float64[2] at 'x'"):
        jaxnet.load(path)


class Bag(tuple):
    """JAX takes it for a leaf."""


class Units(np.ndarray):
    """An array that means more than its numbers, like those of astropy."""


def deleted():
    array = jnp.ones(2)
    array.delete()
    return array


UNSAVEABLE = {
    "text": ({"a": "text"}, TypeError, "save: expected arrays", "str 'text' at 'a'"),
    "object": ({"a": np.array([None])}, TypeError, "object[1] at 'a'"),
    "complex128": ({"a": np.zeros(1, complex)}, TypeError, "complex128[1] at 'a'"),
    "int4": ({"a": jnp.zeros(1, jnp.int4)}, TypeError, "int4[1] at 'a'"),
    "huge integer": ([2**63], ValueError, "within 64 bits", "at '0'"),
    "function": ((len,), TypeError, "at '0'"),
    "shape only": (jax.ShapeDtypeStruct((2,), jnp.float32), TypeError, "arrays with values"),
    "same names": ({"a/b": {"c": 1}, "a": {"b/c": 2}}, ValueError, "all different"),
    "nested names": ({"a/b": 1, "a": {"b": 2}}, ValueError, "all different"),
    "metadata's name": ({"__metadata__": 1}, ValueError, "'__metadata__'"),
    "no UTF-8": ({"\ud800": 1.0}, ValueError, "names that UTF-8 can hold", r"Received: '\ud800'"),
    "mask": (
        {"a": np.ma.array([1.0, 2.0], mask=[0, 1])},
        TypeError,
        "MaskedArray float64[2] at 'a', which has a mask; array.filled(number) has none",
    ),
    "masked scalar": ([np.ma.masked], TypeError, "at '0', which has a mask"),
    "units": ({"a": np.ones(2).view(Units)}, TypeError, "Units float64[2] at 'a'"),
    "tuple's subclass": (Bag((np.ones(2), np.ones(3))), TypeError, "Bag (array([1., 1.])"),
    "deleted": ({"a": deleted()}, TypeError, "float32[2] at 'a', which was deleted"),
    "lists of letters": ({"a": {"b": np.array(["x"])}}, TypeError, "at 'a/b'"),
}


@pytest.mark.parametrize("kind", UNSAVEABLE)
def test_what_cannot_be_saved_is_refused_and_nothing_is_written(kind, path):
    tree, error, *phrases = UNSAVEABLE[kind]
    path.write_bytes(b"before")
    with helpers.refused(error, *phrases):
        jaxnet.save(path, tree)
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == [path.name]


def test_traced_arrays_are_refused(path):
    with helpers.refused(TypeError, "save: expected arrays with values"):
        jax.jit(lambda x: jaxnet.save(path, x))(1.0)


def test_metadata_that_json_cannot_hold_is_refused(path):
    with helpers.refused(TypeError, "save: expected metadata that JSON can hold"):
        jaxnet.save(path, 1, metadata={"a": {1, 2}})
    assert not path.exists()


@pytest.mark.parametrize(
    "metadata", [{1: "a", "1": "b"}, {"a": {None: 1}}, {"a": [{"b": 1}, ({2.5: 1},)]}, {True: 1}]
)
def test_metadata_that_json_would_change_is_refused(metadata, path):
    """JSON has no names but strings: 1 and "1" would become one."""
    with helpers.refused(TypeError, "save: expected metadata whose names are strings"):
        jaxnet.save(path, 1, metadata=metadata)
    assert not path.exists()


def small_file(path):
    jaxnet.save(path, {"weights": jnp.arange(20.0), "key": jax.random.key(1)}, metadata={"a": 1})
    return path.read_bytes()


def test_single_bits_that_flip_are_noticed(path):
    contents = small_file(path)
    random = np.random.default_rng(0)
    for position in random.choice(8 * len(contents), 400, replace=False).tolist():
        changed = bytearray(contents)
        changed[position // 8] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(jaxnet.CorruptFileError, match="damaged"):
            jaxnet.load(path)


def test_files_cut_off_anywhere_are_noticed(path):
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
def test_any_other_bytes_are_refused(start, noise, whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("noise") / "file"
    contents = small_file(path)
    mutated = noise if whole else contents[:start] + noise + contents[start + len(noise) :]
    hypothesis.assume(mutated != contents)
    path.write_bytes(mutated)
    with pytest.raises(jaxnet.CorruptFileError):
        jaxnet.load(path)


def test_a_damaged_file_takes_no_memory(path):
    """A file of 8 MB whose header says that it is one of 2**62 bytes."""
    jaxnet.save(path, jnp.zeros(2**21))
    contents = path.read_bytes()
    path.write_bytes((2**62).to_bytes(8, "little") + contents[8:])
    tracemalloc.start()
    with pytest.raises(jaxnet.CorruptFileError):
        jaxnet.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22  # a few blocks


def test_a_safetensors_file_of_others_is_refused(path):
    safetensors.numpy.save_file({"a": np.ones(2)}, path)
    with helpers.refused(jaxnet.CorruptFileError, "of another origin"):
        jaxnet.load(path)


def test_a_disk_that_is_full_leaves_the_file_before(path):
    """A limit on the size of files takes the place of the disk's."""
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


# What a file says is compared with itself, also where its checksum is right.


def with_checksum(contents):
    """The contents of a file, with the right checksum where jaxnet's header has one."""
    start = 8 + len(b'{"__metadata__":{"jaxnet":"{\\"sha256\\": \\"')
    zeroed = contents[:start] + b"0" * 64 + contents[start + 64 :]
    return zeroed[:start] + hashlib.sha256(zeroed).hexdigest().encode() + zeroed[start + 64 :]


def crafted(contents, outer=lambda names: None, inner=lambda header: None, text=lambda text: text):
    """A file whose header is changed, in the places that are given, under the right checksum."""
    size = int.from_bytes(contents[:8], "little")
    names = json.loads(contents[8 : 8 + size])
    header = json.loads(names["__metadata__"]["jaxnet"])
    inner(header)
    names["__metadata__"]["jaxnet"] = text(json.dumps(header))
    outer(names)
    said = json.dumps(names, separators=(",", ":"), ensure_ascii=False).encode()
    said += b" " * (-len(said) % 8)
    return with_checksum(len(said).to_bytes(8, "little") + said + contents[8 + size :])


CRAFTED_TREE = {
    "jax": jnp.arange(6.0).reshape(2, 3),
    "numpy": np.arange(3),
    "flag": np.array([True, False]),
    "key": jax.random.key(1),
    "numbers": (1, 2.5, True, np.int8(3)),
}


def leaf(name, **changes):
    """The outline of a leaf is changed; None takes a part of it away."""

    def change(header):
        outline = header["tree"][1][name]
        for part, value in changes.items():
            if value is None:
                del outline[part]
            else:
                outline[part] = value

    return change


def number(i, **changes):
    return lambda header: header["tree"][1]["numbers"][1][str(i)].update(changes)


def put(*path):
    """A value is put at a place in the header."""
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
    "a tensor too many": without("tree", 1, "numpy"),
    "a tensor too few": put("tree", 1, "new", {"kind": "jax", "dtype": "float32", "shape": []}),
    "two leaves of one name": lambda header: header["tree"][1].update(
        {"numbers/0": {"kind": "int", "dtype": "int64", "shape": []}}
    ),
    "no kind": leaf("jax", kind=None),
    "no dtype": leaf("jax", dtype=None),
    "no shape": leaf("jax", shape=None),
    "a part too many": leaf("jax", more=1),
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
    "a shape of truth values": leaf("key", shape=[True]),
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


def flag_of_two(contents):
    """A byte of a boolean tensor is 2."""
    size = int.from_bytes(contents[:8], "little")
    start, _ = json.loads(contents[8 : 8 + size])["flag"]["data_offsets"]
    changed = bytearray(contents)
    changed[8 + size + start] = 2
    return with_checksum(bytes(changed))


def deeper(levels):
    """The tree of a header in so many containers, of which JSON's writer would despair."""
    opened, closed = '["tuple", {"a": ' * levels, "}]" * levels
    return lambda text: text[:-1].replace('"tree": ', f'"tree": {opened}') + closed + "}"


WHOLE = {
    **{
        f"a tree {levels} deep": lambda contents, levels=levels: crafted(
            contents, text=deeper(levels)
        )
        for levels in (1, 100, 400, 5000, 100_000)
    },
    "a truth value of 2": flag_of_two,
    "no JSON": lambda contents: crafted(contents, text=lambda text: text + "}"),
    "a JSON name twice": lambda contents: crafted(
        contents, text=lambda text: text[:-1] + ', "metadata": {"a": 2}}'
    ),
    "more metadata": lambda contents: crafted(contents, put("__metadata__", "format", "pt")),
    "an unknown dtype of safetensors": lambda contents: crafted(
        contents, put("jax", "dtype", "F3")
    ),
    "a dtype that is not ours": lambda contents: crafted(
        contents, put("numpy", "dtype", "F8_E8M0")
    ),
    "offsets beyond the end": lambda contents: crafted(
        contents, put("jax", "data_offsets", [0, 2**40])
    ),
    "a shape of another size": lambda contents: crafted(contents, put("jax", "shape", [7])),
    "a tensor that is a list": lambda contents: crafted(contents, put("jax", [])),
    "a tensor left out": lambda contents: crafted(contents, without("jax")),
    "bytes at the end": lambda contents: with_checksum(contents + b"\0" * 8),
    "JSON that is not UTF-8": lambda contents: with_checksum(
        contents.replace(b'"numpy":', b'"num\xff\xff":')
    ),
}
WHOLE |= {
    name: lambda contents, change=change: crafted(contents, inner=change)
    for name, change in INNER.items()
    if name != "deep metadata"
}


def crafted_file(path):
    jaxnet.save(path, CRAFTED_TREE, metadata={"a": 1})
    return path.read_bytes()


@pytest.mark.parametrize("kind", WHOLE)
def test_crafted_files_are_refused(kind, path):
    changed = WHOLE[kind](crafted_file(path))
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    for read in (jaxnet.load, jaxnet.load_metadata, lambda path: jaxnet.load(path, CRAFTED_TREE)):
        with pytest.raises(jaxnet.CorruptFileError, match="expected a file as save wrote it"):
            read(path)


def test_what_is_crafted_without_a_change_loads(path):
    """So that the files above are refused for what is changed in them."""
    path.write_bytes(crafted(crafted_file(path)))
    assert_same(jaxnet.load(path, CRAFTED_TREE), CRAFTED_TREE)
    path.write_bytes(crafted(crafted_file(path), inner=INNER["deep metadata"]))
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
def test_any_change_of_a_header_is_refused_or_loads_what_other_readers_see(part, path):
    contents, random = crafted_file(path), np.random.default_rng(0)
    refused = 0
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

        def of_text(names):
            if isinstance(names.get("__metadata__", {}).get("jaxnet"), str):
                change(names)

        path.write_bytes(
            crafted(contents, of_text) if part == "outer" else crafted(contents, inner=change)
        )
        try:
            loaded, metadata = jaxnet.load(path), jaxnet.load_metadata(path)
        except jaxnet.CorruptFileError:
            refused += 1
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
    assert refused == 400 if part == "outer" else 200 < refused < 400


# What is no file of ours is told from its first bytes.


def test_a_large_file_of_others_is_refused_by_its_first_bytes(path, monkeypatch):
    """8 GB of nothing, and the start of a file of ours that is said to go on for longer."""
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
            with helpers.refused(jaxnet.CorruptFileError, "of another origin"):
                function(path)
            assert 0 < read <= 64


def small_file_beginning():
    return b'{"__metadata__":{"jaxnet":"{\\"sha256\\": \\"'


def test_what_is_not_a_file_is_refused_at_once(path, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    script = f"""
import jaxnet
for name in ({str(tmp_path / "fifo")!r}, "/dev/zero", "/dev/null"):
    for read in (jaxnet.load, jaxnet.load_metadata):
        try:
            read(name)
        except jaxnet.CorruptFileError as error:
            print(str(error).endswith("which is not a file"))
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
    with helpers.refused(jaxnet.CorruptFileError, "cut off"):
        jaxnet.load(path)
