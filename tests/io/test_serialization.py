"""Saved trees: `load` returns what was saved, bit for bit, or raises."""

import collections
import json
import os
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
from io_helpers import assert_same
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
    """Random bits as numbers, NaN and infinity among them; random booleans."""
    dtype, random = jnp.dtype(dtype), np.random.default_rng(0)
    if dtype.kind == "b":
        return random.integers(2, size=shape).astype(bool)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(random.bytes(size), dtype).reshape(shape)


def make_zoo():
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


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tree.safetensors"


def test_every_kind_of_leaf_is_restored(path):
    jaxnet.save(path, make_zoo())
    assert_same(jaxnet.load(path, make_zoo()), make_zoo())


def test_without_like_containers_become_dicts(path):
    jaxnet.save(path, ([jnp.ones(2), None], {"a": Scale(1, ())}))
    loaded = jaxnet.load(path)
    chex.assert_trees_all_equal(
        loaded, {"0": {"0": jnp.ones(2), "1": None}, "1": {"a": {"weights": 1, "biases": {}}}}
    )
    jaxnet.save(path, make_zoo())
    leaves = jaxnet.load(path)["numpy"]
    assert_same(leaves, make_zoo()["numpy"])
    leaves["int8"][0] = 1  # it is writable


def test_a_tree_may_be_a_single_leaf_or_none(path):
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
def test_any_tree_is_restored_or_raises_because_of_its_names(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "tree"
    try:
        jaxnet.save(path, tree)
    except ValueError as error:
        assert "all different" in str(error)
        assert not path.exists()
    else:
        assert_same(jaxnet.load(path, tree), tree)


def test_safetensors_reads_the_leaves_by_their_paths(path):
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
        jaxnet.save(tmp_path / name, make_zoo(), metadata={"a": [1, 2]})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


TREE = {"a": jnp.ones((2, 3)), "b": (jnp.zeros(2, jnp.int32), 1.0)}

MISMATCHES = {
    "missing": ({"a": TREE["a"], "b": (*TREE["b"], 2)}, "'b/2' is missing"),
    "extra": ({"b": TREE["b"]}, "'a' of the file is not expected"),
    "shape": (
        TREE | {"a": jnp.ones((3, 2))},
        "at 'a' the file has float32[2, 3] instead of float32[3, 2]",
    ),
    "dtype": (TREE | {"a": jnp.ones((2, 3), jnp.bfloat16)}, "'a'", "bfloat16[2, 3]"),
    "number for array": (TREE | {"a": 1.0}, "'a'", "instead of float"),
    "int for float": (TREE | {"b": (TREE["b"][0], 1)}, "'b/1' the file has float instead of int"),
    "none for array": (TREE | {"a": None}, "'a'", "instead of None"),
    "list for tuple": (
        TREE | {"b": list(TREE["b"])},
        "at 'b' the file has a tuple instead of a list",
    ),
    "other tuple": (TREE | {"b": Pair(*TREE["b"])}, "'b/first' is missing"),
    "key for numbers": (TREE | {"a": jax.random.key(0)}, "'a'", "key<fry>"),
    "leaf for container": (TREE | {"b": jnp.zeros(2)}, "at 'b' the file has a tuple"),
    "text": (TREE | {"a": "text"}, "'a'"),
}


@pytest.mark.parametrize("kind", MISMATCHES)
def test_a_mismatch_with_like_raises_with_the_path(kind, path):
    like, *phrases = MISMATCHES[kind]
    jaxnet.save(path, TREE)
    with helpers.refused(ValueError, "load: expected a tree that matches like", *phrases):
        jaxnet.load(path, like)


def test_keys_of_another_generator_raise(path):
    jaxnet.save(path, jax.random.key(0, impl="rbg"))
    with helpers.refused(ValueError, "key<rbg>", "key<fry>"):
        jaxnet.load(path, jax.random.key(0))


def test_like_may_hold_shapes_and_selects_jax_or_numpy(path):
    network = jaxnet.mlp([3, 2, 1])
    parameters = network.init(jax.random.key(0))
    jaxnet.save(path, parameters)
    loaded = jaxnet.load(path, jax.eval_shape(network.init, jax.random.key(1)))
    chex.assert_trees_all_equal(loaded, parameters)
    assert type(loaded[0]) is jaxnet.DenseParameters
    plain = jaxnet.load(path, jax.tree.map(np.asarray, parameters))
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(plain))


def test_arrays_get_the_sharding_of_like(path):
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
    jaxnet.save(path, {"x": loaded})  # a sharded array is saved whole
    np.testing.assert_array_equal(jaxnet.load(path)["x"], np.arange(8.0))


def test_a_memory_mapped_array_is_saved_as_an_array(path, tmp_path):
    mapped = np.memmap(tmp_path / "mapped", np.float32, "w+", shape=(3,))
    mapped[:] = [1, 2, 3]
    jaxnet.save(path, mapped)
    np.testing.assert_array_equal(jaxnet.load(path), [1, 2, 3])


def test_like_may_have_donated_arrays(path):
    tree = {"a": jnp.arange(3.0)}
    jaxnet.save(path, tree)
    tree["a"].delete()
    np.testing.assert_array_equal(jaxnet.load(path, tree)["a"], [0, 1, 2])


def test_64_bit_values_are_not_rounded_silently(path):
    with jax.enable_x64(True):
        tree = {"x": jnp.array([0.1, 0.2])}
        jaxnet.save(path, tree)
        assert_same(jaxnet.load(path, tree), tree)
    with helpers.refused(ValueError, "load: expected jax_enable_x64", "float64[2] at 'x'"):
        jaxnet.load(path)


class Bag(tuple):
    """A leaf for JAX."""


class Units(np.ndarray):
    """An array with units, such as astropy's quantities."""


def make_deleted():
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
    "no UTF-8": ({"\ud800": 1.0}, ValueError, "names that UTF-8 can encode", r"Received: '\ud800'"),
    "mask": (
        {"a": np.ma.array([1.0, 2.0], mask=[0, 1])},
        TypeError,
        "MaskedArray float64[2] at 'a', which has a mask; array.filled(number) has none",
    ),
    "masked scalar": ([np.ma.masked], TypeError, "at '0', which has a mask"),
    "units": ({"a": np.ones(2).view(Units)}, TypeError, "Units float64[2] at 'a'"),
    "tuple's subclass": (Bag((np.ones(2), np.ones(3))), TypeError, "Bag (array([1., 1.])"),
    "deleted": ({"a": make_deleted()}, TypeError, "float32[2] at 'a', which was deleted"),
    "lists of letters": ({"a": {"b": np.array(["x"])}}, TypeError, "at 'a/b'"),
}


@pytest.mark.parametrize("kind", UNSAVEABLE)
def test_unsaveable_trees_raise_and_write_nothing(kind, path):
    tree, error, *phrases = UNSAVEABLE[kind]
    path.write_bytes(b"before")
    with helpers.refused(error, *phrases):
        jaxnet.save(path, tree)
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == [path.name]


def test_traced_arrays_raise(path):
    with helpers.refused(TypeError, "save: expected arrays with values"):
        jax.jit(lambda x: jaxnet.save(path, x))(1.0)


def test_metadata_that_json_cannot_represent_raises(path):
    with helpers.refused(TypeError, "save: expected metadata that JSON can hold"):
        jaxnet.save(path, 1, metadata={"a": {1, 2}})
    assert not path.exists()


@pytest.mark.parametrize(
    "metadata", [{1: "a", "1": "b"}, {"a": {None: 1}}, {"a": [{"b": 1}, ({2.5: 1},)]}, {True: 1}]
)
def test_metadata_that_json_would_change_raises(metadata, path):
    """Names in JSON are strings: 1 and "1" would become the same name."""
    with helpers.refused(TypeError, "save: expected metadata whose names are strings"):
        jaxnet.save(path, 1, metadata=metadata)
    assert not path.exists()
