"""Exports: programs that run without jaxnet, and weights to and from PyTorch."""

import itertools

import chex
import helpers
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet

FEATURES = 5
SIZES = (1, 7, 64)
INPUTS = np.random.default_rng(0).normal(size=(max(SIZES), FEATURES)).astype(np.float32)


def shapes_of(network):
    return jax.eval_shape(network.init, jax.random.key(0))


def parameters_of(network):
    """Normal numbers, those of whole numbers cut off; drawn by NumPy, which compiles nothing."""
    random = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape).astype(leaf.dtype)),
        shapes_of(network),
    )


def handmade():
    """Parameters in a dictionary, of whole numbers too; the inputs' width is not known."""

    def apply(parameters, inputs, *, key=None):
        return inputs[..., parameters["columns"]] @ parameters["matrix"]

    def init(key):
        return {"columns": jnp.array([4, 0]), "matrix": jax.random.normal(key, (2, 3))}

    return jaxnet.Network(init, apply, name="handmade")


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
    "handmade": handmade(),
}


def export(name, path, **options):
    """Exports one of the networks, and gives it back with its parameters."""
    network = NETWORKS[name]
    parameters = parameters_of(network)
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
def elsewhere(tmp_path_factory):
    """A folder of what the networks put out in an interpreter that has no jaxnet."""
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "inputs.npy", INPUTS)
    for name in NETWORKS:
        export(name, folder / f"{name}.jax")
    lines = helpers.run_plainly(ELSEWHERE.format(folder=str(folder), sizes=SIZES)).splitlines()
    assert lines == [f"{name} ('cpu', 'cuda')" for name in sorted(NETWORKS)]
    return folder


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", SIZES)
def test_without_jaxnet_the_outputs_are_those_of_predict(elsewhere, name, size):
    network = NETWORKS[name]
    expected = jaxnet.predict(network, parameters_of(network), INPUTS[:size])
    received = np.load(elsewhere / f"{name}-{size}.npy")
    assert received.dtype == expected.dtype
    np.testing.assert_array_equal(received, expected)


def test_the_program_is_lowered_for_both_platforms_and_any_batch(tmp_path):
    export("layers", tmp_path / "file")
    program = read(tmp_path / "file")
    assert program.platforms == ("cpu", "cuda")
    shapes = [str(aval.shape) for aval in program.in_avals + program.out_avals]
    assert shapes == ["(batch, 5)", "(batch, 3)"]
    # Which of its platforms a program runs on is its first argument.
    assert "_platform_index" in program.mlir_module()
    for platform in program.platforms:
        jax.jit(program.call).trace(INPUTS).lower(lowering_platforms=(platform,))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (INPUTS[:0], "batch"),  # JAX takes a symbolic dimension to be at least 1
        (INPUTS[:, :4], "shape"),
        (INPUTS.astype(np.int32), "int32"),
    ],
)
def test_other_inputs_are_refused_by_the_program(tmp_path, inputs, words):
    export("mlp", tmp_path / "file")
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "file").call(inputs)


@pytest.mark.parametrize(
    "example",
    [INPUTS[0].astype(np.float64), INPUTS[0].tolist(), jnp.asarray(INPUTS[0])],
    ids=["float64", "list", "jax"],
)
def test_examples_are_converted_as_inputs_of_predict_are(tmp_path, example):
    export("handmade", tmp_path / "file", example=example)
    (inputs,) = read(tmp_path / "file").in_avals
    assert (inputs.dtype, inputs.shape[1:]) == (jnp.float32, (FEATURES,))


@pytest.mark.parametrize("shape", [(FEATURES,), (2, FEATURES)])
def test_an_example_gives_shape_and_dtype(tmp_path, shape):
    network = jaxnet.dense(FEATURES, 3)
    parameters = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), parameters_of(network))
    example = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    jaxnet.export(network, parameters, tmp_path / "file", example=example)
    inputs = jnp.ones((4, *shape), jnp.bfloat16)
    received = read(tmp_path / "file").call(inputs)
    np.testing.assert_array_equal(received, jaxnet.predict(network, parameters, inputs))


def test_parameters_on_several_devices_make_the_same_program(tmp_path):
    network, (one, *_) = NETWORKS["mlp"], jax.devices()
    mesh = jax.make_mesh((2,), ("devices",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    for i, place in enumerate((one, everywhere)):
        jaxnet.export(network, jax.device_put(parameters_of(network), place), tmp_path / str(i))
    assert read(tmp_path / "1").nr_devices == 1
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def with_weight(value):
    """Parameters of an mlp, of which one weight is a given value."""
    first, second = parameters_of(jaxnet.mlp([FEATURES, 16, 3]))
    return first, second._replace(weights=second.weights.at[4, 1].set(value))


def only_even_batches():
    return jaxnet.Network(lambda key: (), lambda p, x, *, key=None: x.reshape(-1, 2, 3))


MLP = NETWORKS["mlp"]
REFUSED = {
    "no network": (
        lambda path: jaxnet.export((MLP.init, MLP.apply), parameters_of(MLP), path),
        TypeError,
        "expected network of type Network. Received: tuple",
    ),
    "shape": (
        lambda path: jaxnet.export(MLP, parameters_of(jaxnet.mlp([FEATURES, 8, 3])), path),
        ValueError,
        "'0/weights' is float32[5, 8] instead of float32[5, 16]",
    ),
    "dtype": (
        lambda path: jaxnet.export(
            MLP, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), parameters_of(MLP)), path
        ),
        ValueError,
        "'0/weights' is bfloat16[5, 16] instead of float32[5, 16]",
    ),
    "layers": (
        lambda path: jaxnet.export(MLP, parameters_of(MLP)[:1], path),
        ValueError,
        "'1/weights' is missing",
    ),
    "entries": (
        lambda path: jaxnet.export(
            handmade(), {"matrix": jnp.ones((2, 3))}, path, example=INPUTS[0]
        ),
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
        lambda path: jaxnet.export(handmade(), parameters_of(handmade()), path),
        ValueError,
        "example=inputs[0], as handmade does not know its number of features",
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


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_and_the_file_of_before_stays(tmp_path, name):
    call, error, words = REFUSED[name]
    (tmp_path / "file").write_bytes(b"old")
    with helpers.refused(error, words):
        call(tmp_path / "file")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


SHAPES = {"0.weight": (16, 5), "0.bias": (16,), "2.weight": (3, 16), "2.bias": (3,)}


def state_dict(shapes=SHAPES):
    """Whole numbers from -3 to 3, of which float32 keeps sums and products exactly."""
    random = np.random.default_rng(1)
    return {
        name: random.integers(-3, 4, shape).astype(np.float32) for name, shape in shapes.items()
    }


def test_from_a_state_dict_the_network_is_pytorch_s():
    arrays, inputs = state_dict(), np.round(INPUTS)
    network = jaxnet.mlp([FEATURES, 16, 3])
    parameters = jaxnet.from_pytorch(arrays, parameters_of(network))
    hidden = np.maximum(inputs @ arrays["0.weight"].T + arrays["0.bias"], 0)
    expected = hidden @ arrays["2.weight"].T + arrays["2.bias"]
    np.testing.assert_array_equal(jaxnet.predict(network, parameters, inputs), expected)


def test_to_a_state_dict_and_back_again():
    network = jaxnet.serial(
        jaxnet.dense(5, 16),
        jaxnet.relu,
        jaxnet.layer_norm(16),
        jaxnet.dropout(0.5),
        jaxnet.residual(jaxnet.dense(16, 16)),
    )
    parameters = parameters_of(network)
    names = ["enter", "norm.1", "leave"]
    arrays = jaxnet.to_pytorch(parameters, names=names)
    assert {name: array.shape for name, array in arrays.items()} == {
        "enter.weight": (16, 5),
        "enter.bias": (16,),
        "norm.1.weight": (16,),
        "norm.1.bias": (16,),
        "leave.weight": (16, 16),
        "leave.bias": (16,),
    }
    np.testing.assert_array_equal(arrays["enter.weight"], parameters[0].weights.T)
    np.testing.assert_array_equal(arrays["norm.1.weight"], parameters[2].scale)
    np.testing.assert_array_equal(arrays["norm.1.bias"], parameters[2].offset)
    backwards = dict(reversed(arrays.items()))
    for like in (parameters, shapes_of(network)):
        back = jaxnet.from_pytorch(backwards, like, names=names)
        chex.assert_trees_all_equal(back, parameters, strict=True)


def test_names_are_those_of_a_sequential_with_an_activation_after_each_layer():
    parameters = parameters_of(jaxnet.mlp([2] * 7))
    names = {name.split(".")[0] for name in jaxnet.to_pytorch(parameters)}
    assert names == {"0", "2", "4", "6", "8", "10"}


def test_dtypes_stay():
    network = jaxnet.mlp([2, 3])
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), parameters_of(network))
    arrays = jaxnet.to_pytorch(narrow)
    assert {array.dtype for array in arrays.values()} == {jnp.dtype("bfloat16")}
    chex.assert_trees_all_equal(jaxnet.from_pytorch(arrays, narrow), narrow, strict=True)


def test_both_sides_are_copies():
    network = jaxnet.mlp([5, 16, 3])
    arrays = state_dict()
    parameters = jaxnet.from_pytorch(arrays, parameters_of(network))
    again = jaxnet.to_pytorch(parameters)
    before = state_dict()
    for name in arrays:
        arrays[name][...] = 99
        np.testing.assert_array_equal(jaxnet.to_pytorch(parameters)[name], before[name])
        assert again[name].flags.c_contiguous
        again[name][...] = 99  # torch.from_numpy warns of arrays that cannot be written
    chex.assert_trees_all_equal(jaxnet.to_pytorch(parameters), before)


def from_changed(changes):
    """Reads a state dict in which entries are replaced, or missing where they are `None`."""
    arrays = {**state_dict(), **changes}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    return jaxnet.from_pytorch(arrays, parameters_of(jaxnet.mlp([5, 16, 3])))


def ensemble():
    """Parameters of four networks."""
    network = jaxnet.mlp([FEATURES, 16, 3])
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), parameters_of(network))


def dense_parameters(**options):
    return jaxnet.to_pytorch(parameters_of(jaxnet.mlp([5, 16, 3])), **options)


MISFITS = {
    "missing": (
        lambda: from_changed({"2.bias": None}),
        ValueError,
        "missing: ['2.bias'], not expected: []",
    ),
    "unexpected": (
        lambda: from_changed({"1.running_mean": np.zeros(16)}),
        ValueError,
        "missing: [], not expected: ['1.running_mean']",
    ),
    "shape": (
        lambda: from_changed({"0.weight": np.ones((5, 16), np.float32)}),
        ValueError,
        "expected '0.weight' of float32[16, 5]. Received: float32[5, 16]",
    ),
    "dtype": (
        lambda: from_changed({"0.bias": np.ones(16)}),
        ValueError,
        "expected '0.bias' of float32[16]. Received: float64[16]",
    ),
    "no array": (
        lambda: from_changed({"0.bias": [0.0] * 16}),
        ValueError,
        "expected '0.bias' of float32[16]. Received: list",
    ),
    "model": (
        lambda: jaxnet.from_pytorch(object(), ()),
        TypeError,
        "such as model.state_dict(). Received: object",
    ),
    "names in the way": (
        lambda: jaxnet.from_pytorch(
            state_dict(), parameters_of(jaxnet.mlp([5, 16, 3])), names=["0", "3"]
        ),
        ValueError,
        "missing: ['3.weight', '3.bias'], not expected: ['2.weight', '2.bias']",
    ),
    "few names": (
        lambda: dense_parameters(names=["0"]),
        ValueError,
        "to_pytorch: expected 2 different names",
    ),
    "equal names": (lambda: dense_parameters(names=["0", "0"]), ValueError, "['0', '0']"),
    "several networks": (
        lambda: jaxnet.to_pytorch(ensemble()),
        TypeError,
        "Received: DenseParameters with shapes [[4, 5, 16], [4, 16]] for layer 0",
    ),
    "several networks to be": (
        lambda: jaxnet.from_pytorch(state_dict(), ensemble()),
        TypeError,
        "from_pytorch: expected the parameters of a dense layer or a layer_norm",
    ),
    "a serial network inside": (
        lambda: jaxnet.to_pytorch(parameters_of(jaxnet.serial(jaxnet.mlp([1, 2])))),
        TypeError,
        "Received: tuple with shapes [[1, 2], [2]] for layer 0",
    ),
    "a dictionary": (
        lambda: jaxnet.to_pytorch(parameters_of(handmade())),
        TypeError,
        "Received: dict",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_misfits_are_refused(name):
    call, error, words = MISFITS[name]
    with helpers.refused(error, words):
        call()


def rounding(inputs, *layers):
    """By how much a chain of dense layers and relu can be off, rounding in whatever order.

    A sum of n products is off by n + 1 roundings of the sum of their sizes, and what came in by
    more than that is multiplied with the weights; relu adds nothing.
    """
    values, error = np.float64(inputs), np.zeros(inputs.shape)
    for layer in layers:
        weights, biases = map(np.float64, layer)
        sizes = np.abs(values) @ np.abs(weights) + np.abs(biases)
        error = error @ np.abs(weights) + (len(weights) + 1) * helpers.ROUNDING * sizes
        values = np.maximum(values @ weights + biases, 0)
    return 1.01 * error  # for the roundings of the roundings


def pytorch():
    """PyTorch, and three dense layers of it with relu between, beside the same network here."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    widths = [FEATURES, 16, 16, 3]
    first, second, third = (torch.nn.Linear(*pair) for pair in itertools.pairwise(widths))
    model = torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU(), third)
    return torch, model, jaxnet.mlp(widths)


def test_a_network_from_pytorch():
    torch, model, network = pytorch()
    parameters = jaxnet.from_pytorch(model.state_dict(), parameters_of(network))
    with torch.no_grad():
        theirs = model(torch.from_numpy(INPUTS)).numpy()
        model[0].bias.fill_(99)  # shows in the parameters if they share its memory
    ours = jaxnet.predict(network, parameters, INPUTS)
    assert (np.abs(ours - theirs) <= 2 * rounding(INPUTS, *parameters)).all()


def test_a_network_to_pytorch():
    torch, model, network = pytorch()
    parameters = parameters_of(network)
    arrays = jaxnet.to_pytorch(parameters)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    with torch.no_grad():
        theirs = model(torch.from_numpy(INPUTS)).numpy()
    ours = jaxnet.predict(network, parameters, INPUTS)
    assert (np.abs(ours - theirs) <= 2 * rounding(INPUTS, *parameters)).all()
    # Unlike those of a state dict, these tensors are differentiable, which NumPy refuses.
    back = jaxnet.from_pytorch(dict(model.named_parameters()), parameters)
    chex.assert_trees_all_equal(back, parameters, strict=True)


def test_a_layer_norm_of_pytorch():
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.LayerNorm(FEATURES))
    with torch.no_grad():
        model[0].weight.copy_(torch.linspace(-1, 1, FEATURES))
        model[0].bias.copy_(torch.linspace(0, 1, FEATURES))
        theirs = model(torch.from_numpy(INPUTS)).numpy()
    network = jaxnet.serial(jaxnet.layer_norm(FEATURES))
    parameters = jaxnet.from_pytorch(model.state_dict(), parameters_of(network))
    ours = jaxnet.predict(network, parameters, INPUTS)
    # Statistics of five numbers in float32, then three roundings, of values below 4, on both sides.
    np.testing.assert_allclose(ours, theirs, atol=2 * 4 * (FEATURES + 3) * 2**-23)


def test_tensors_of_another_dtype_are_refused():
    torch, model, network = pytorch()
    for dtype in (torch.float64, torch.bfloat16):
        words = f"expected '0.weight' of float32[16, 5]. Received: {dtype}[16, 5]"
        with helpers.refused(ValueError, words.replace("torch.", "")):
            jaxnet.from_pytorch(model.to(dtype).state_dict(), parameters_of(network))
