"""Checkpoints: what is loaded is what was saved, bit for bit, or it is refused."""

import collections
import json
import os
import tracemalloc
from typing import NamedTuple

import chex
import hypothesis
import hypothesis.extra.numpy
import jax
import jax.numpy as jnp
import numpy as np
import problems
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
    with problems.refused(ValueError, "load: expected a tree like", *phrases):
        jaxnet.load(path, like)


def test_keys_of_another_generator_are_refused(path):
    jaxnet.save(path, jax.random.key(0, impl="rbg"))
    with problems.refused(ValueError, "key<rbg>", "key<fry>"):
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


def test_64_bits_are_not_rounded_silently(path):
    with jax.enable_x64(True):
        tree = {"x": jnp.array([0.1, 0.2])}
        jaxnet.save(path, tree)
        assert_same(jaxnet.load(path, tree), tree)
    with problems.refused(ValueError, "load: expected jax_enable_x64", "float64[2] at 'x'"):
        jaxnet.load(path)


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
}


@pytest.mark.parametrize("kind", UNSAVEABLE)
def test_what_cannot_be_saved_is_refused_and_nothing_is_written(kind, path):
    tree, error, *phrases = UNSAVEABLE[kind]
    path.write_bytes(b"before")
    with problems.refused(error, *phrases):
        jaxnet.save(path, tree)
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == [path.name]


def test_traced_arrays_are_refused(path):
    with problems.refused(TypeError, "save: expected arrays with values"):
        jax.jit(lambda x: jaxnet.save(path, x))(1.0)


def test_metadata_that_json_cannot_hold_is_refused(path):
    with problems.refused(TypeError, "save: expected metadata that JSON can hold"):
        jaxnet.save(path, 1, metadata={"a": {1, 2}})


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
        with pytest.raises(jaxnet.DamagedFileError, match="damaged"):
            jaxnet.load(path)


def test_files_cut_off_anywhere_are_noticed(path):
    contents = small_file(path)
    for length in range(0, len(contents), 3):
        path.write_bytes(contents[:length])
        with pytest.raises(jaxnet.DamagedFileError):
            jaxnet.load(path)
    path.write_bytes(contents + b"\0")
    with pytest.raises(jaxnet.DamagedFileError):
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
    with pytest.raises(jaxnet.DamagedFileError):
        jaxnet.load(path)


def test_a_damaged_file_takes_no_memory(path):
    """A file of 8 MB whose header says that it is one of 2**62 bytes."""
    jaxnet.save(path, jnp.zeros(2**21))
    contents = path.read_bytes()
    path.write_bytes((2**62).to_bytes(8, "little") + contents[8:])
    tracemalloc.start()
    with pytest.raises(jaxnet.DamagedFileError):
        jaxnet.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22  # a few blocks


def test_a_safetensors_file_of_others_is_refused(path):
    safetensors.numpy.save_file({"a": np.ones(2)}, path)
    with problems.refused(jaxnet.DamagedFileError, "of another origin"):
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
    assert problems.run_plainly(script) == f"OSError\n3.0 ['{path.name}']\n"
