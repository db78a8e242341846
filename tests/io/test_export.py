"""Exported networks give the outputs of `predict` in programs that do not import jaxnet."""

import helpers
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from io_helpers import draw_parameters

import jaxnet

FEATURES = 5
SIZES = (1, 7, 64)
INPUTS = np.random.default_rng(0).normal(size=(max(SIZES), FEATURES)).astype(np.float32)


def custom():
    """A network whose parameters are a dict with integers, and whose `in_features` is None."""

    def apply(parameters, inputs, *, key=None):
        return inputs[..., parameters["columns"]] @ parameters["matrix"]

    def init(key):
        return {"columns": jnp.array([4, 0]), "matrix": jax.random.normal(key, (2, 3))}

    return jaxnet.Network(init, apply, name="custom")


NETWORKS = {
    "mlp": jaxnet.mlp([FEATURES, 16, 3], output_activation=jaxnet.softmax),
    "bfloat16": jaxnet.mlp([FEATURES, 16, 3], compute_dtype=jnp.bfloat16),
    "layers": jaxnet.serial(
        jaxnet.dense(FEATURES, 8),
        jaxnet.layer_norm(8),
        jaxnet.gelu,
        jaxnet.dropout(0.5),
        jaxnet.residual(jaxnet.dense(8, 8, jaxnet.tanh)),
        jaxnet.dense(8, 3),
    ),
    "custom": custom(),
}


def export(name, path, **options):
    """Exports one of the networks, and returns it with its parameters."""
    network = NETWORKS[name]
    parameters = draw_parameters(network)
    if network.in_features is None:
        options = {"example": INPUTS[0], **options}
    jaxnet.export(network, parameters, path, **options)
    return network, parameters


def read(path):
    return jax.export.deserialize(path.read_bytes())


ELSEWHERE = """
import sys
sys.modules["jaxnet"] = None  # importing it is an error
import pathlib, jax.export, numpy
folder = pathlib.Path({folder!r})
inputs = numpy.load(folder / "inputs.npy")
for path in sorted(folder.glob("*.jax")):
    program = jax.export.deserialize(open(path, "rb").read())
    for size in {sizes}:
        numpy.save(folder / f"{{path.stem}}-{{size}}.npy", program.call(inputs[:size]))
    print(path.stem, program.platforms)
"""


@pytest.fixture(scope="module")
def outputs_elsewhere(tmp_path_factory):
    """A folder with the outputs of all programs, from an interpreter that has no jaxnet."""
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "inputs.npy", INPUTS)
    for name in NETWORKS:
        export(name, folder / f"{name}.jax")
    lines = helpers.run_plainly(ELSEWHERE.format(folder=str(folder), sizes=SIZES)).splitlines()
    assert lines == [f"{name} ('cpu', 'cuda')" for name in sorted(NETWORKS)]
    return folder


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", SIZES)
def test_programs_without_jaxnet_give_the_bits_of_the_network(outputs_elsewhere, name, size):
    network = NETWORKS[name]
    arguments = draw_parameters(network), INPUTS[:size]
    expected = jax.jit(network.apply)(*arguments)
    received = np.load(outputs_elsewhere / f"{name}-{size}.npy")
    assert received.dtype == expected.dtype
    np.testing.assert_array_equal(received, expected)
    predicted = jaxnet.predict(network, *arguments)  # with padding
    np.testing.assert_allclose(received, predicted, rtol=1e-5, atol=1e-6)


def test_the_program_is_lowered_for_both_platforms_and_any_batch(tmp_path):
    export("layers", tmp_path / "file")
    program = read(tmp_path / "file")
    assert program.platforms == ("cpu", "cuda")
    shapes = [str(aval.shape) for aval in program.in_avals + program.out_avals]
    assert shapes == ["(batch, 5)", "(batch, 3)"]
    # The first argument of a program selects the platform.
    assert "_platform_index" in program.mlir_module()
    for platform in program.platforms:
        jax.jit(program.call).trace(INPUTS).lower(lowering_platforms=(platform,))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (INPUTS[:0], "batch"),  # JAX requires a symbolic dimension to be at least 1
        (INPUTS[:, :4], "shape"),
        (INPUTS.astype(np.int32), "int32"),
    ],
)
def test_a_program_raises_on_other_inputs(tmp_path, inputs, words):
    export("mlp", tmp_path / "file")
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "file").call(inputs)


@pytest.mark.parametrize(
    "example",
    [INPUTS[0].astype(np.float64), INPUTS[0].tolist(), jnp.asarray(INPUTS[0])],
    ids=["float64", "list", "jax"],
)
def test_examples_are_converted_like_inputs_of_predict(tmp_path, example):
    export("custom", tmp_path / "file", example=example)
    (inputs,) = read(tmp_path / "file").in_avals
    assert (inputs.dtype, inputs.shape[1:]) == (jnp.float32, (FEATURES,))


@pytest.mark.parametrize("shape", [(FEATURES,), (2, FEATURES)])
def test_the_program_has_the_shape_and_dtype_of_the_example(tmp_path, shape):
    network = jaxnet.dense(FEATURES, 3)
    parameters = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), draw_parameters(network))
    example = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    jaxnet.export(network, parameters, tmp_path / "file", example=example)
    inputs = jnp.ones((4, *shape), jnp.bfloat16)
    received = read(tmp_path / "file").call(inputs)
    np.testing.assert_array_equal(received, jaxnet.predict(network, parameters, inputs))


def test_parameters_on_several_devices_give_the_same_program(tmp_path):
    network, (one, *_) = NETWORKS["mlp"], jax.devices()
    mesh = jax.make_mesh((2,), ("devices",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    for i, place in enumerate((one, everywhere)):
        jaxnet.export(network, jax.device_put(draw_parameters(network), place), tmp_path / str(i))
    assert read(tmp_path / "1").nr_devices == 1
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def with_weight(value):
    """Parameters of an mlp with one weight set to a value."""
    first, second = draw_parameters(jaxnet.mlp([FEATURES, 16, 3]))
    return first, second._replace(weights=second.weights.at[4, 1].set(value))


def only_even_batches():
    return jaxnet.Network(lambda key: (), lambda p, x, *, key=None: x.reshape(-1, 2, 3))


MLP = NETWORKS["mlp"]
WRONG_CALLS = {
    "no network": (
        lambda path: jaxnet.export((MLP.init, MLP.apply), draw_parameters(MLP), path),
        TypeError,
        "expected network of type Network. Received: tuple",
    ),
    "shape": (
        lambda path: jaxnet.export(MLP, draw_parameters(jaxnet.mlp([FEATURES, 8, 3])), path),
        ValueError,
        "'0/weights' is float32[5, 8] instead of float32[5, 16]",
    ),
    "dtype": (
        lambda path: jaxnet.export(
            MLP, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), draw_parameters(MLP)), path
        ),
        ValueError,
        "'0/weights' is bfloat16[5, 16] instead of float32[5, 16]",
    ),
    "layers": (
        lambda path: jaxnet.export(MLP, draw_parameters(MLP)[:1], path),
        ValueError,
        "'1/weights' is missing",
    ),
    "entries": (
        lambda path: jaxnet.export(custom(), {"matrix": jnp.ones((2, 3))}, path, example=INPUTS[0]),
        ValueError,
        "'columns' is missing",
    ),
    "nothing": (lambda path: jaxnet.export(MLP, None, path), ValueError, "'0/weights' is missing"),
    "nan": (
        lambda path: jaxnet.export(MLP, with_weight(jnp.nan), path),
        ValueError,
        "expected finite parameters. Received: nan in '1/weights' at index (4, 1)",
    ),
    "infinity": (
        lambda path: jaxnet.export(MLP, with_weight(-jnp.inf), path),
        ValueError,
        "Received: -inf in '1/weights'",
    ),
    "no example": (
        lambda path: jaxnet.export(custom(), draw_parameters(custom()), path),
        ValueError,
        "example=inputs[0], as custom does not know its number of features",
    ),
    "example": (
        lambda path: export("mlp", path, example=np.ones(12)),
        ValueError,
        "expected inputs with 5 features. Received: [batch, 12]",
    ),
    "words": (lambda path: export("mlp", path, example="five"), TypeError, "the example"),
    "even batches": (
        lambda path: jaxnet.export(only_even_batches(), (), path, example=np.ones(3)),
        ValueError,
        "batch",
    ),
    "path": (lambda path: export("mlp", 3), TypeError, "a string or a pathlib.Path"),
    "folder": (
        lambda path: export("mlp", path / "file"),
        FileNotFoundError,
        "there is no folder",
    ),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_wrong_calls_raise_and_keep_the_existing_file(tmp_path, name):
    call, error, words = WRONG_CALLS[name]
    (tmp_path / "file").write_bytes(b"old")
    with helpers.refused(error, words):
        call(tmp_path / "file")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]
