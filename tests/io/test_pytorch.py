"""Parameters converted to PyTorch and back: same outputs, same bits, errors that name entries."""

import itertools

import chex
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from io_helpers import abstract_parameters, draw_parameters

import jaxnet

FEATURES = 5
INPUTS = np.random.default_rng(0).normal(size=(64, FEATURES)).astype(np.float32)


SHAPES = {"0.weight": (16, 5), "0.bias": (16,), "2.weight": (3, 16), "2.bias": (3,)}


def state_dict(shapes=SHAPES):
    """Integers from -3 to 3, whose sums and products are exact in float32."""
    random = np.random.default_rng(1)
    return {
        name: random.integers(-3, 4, shape).astype(np.float32) for name, shape in shapes.items()
    }


def test_a_network_from_a_state_dict_computes_what_pytorch_computes():
    arrays, inputs = state_dict(), np.round(INPUTS)
    network = jaxnet.mlp([FEATURES, 16, 3])
    parameters = jaxnet.from_pytorch(arrays, draw_parameters(network))
    hidden = np.maximum(inputs @ arrays["0.weight"].T + arrays["0.bias"], 0)
    expected = hidden @ arrays["2.weight"].T + arrays["2.bias"]
    np.testing.assert_array_equal(jaxnet.predict(network, parameters, inputs), expected)


def test_from_pytorch_is_the_inverse_of_to_pytorch():
    network = jaxnet.serial(
        jaxnet.dense(5, 16),
        jaxnet.relu,
        jaxnet.layer_norm(16),
        jaxnet.dropout(0.5),
        jaxnet.residual(jaxnet.dense(16, 16)),
    )
    parameters = draw_parameters(network)
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
    for like in (parameters, abstract_parameters(network)):
        back = jaxnet.from_pytorch(backwards, like, names=names)
        chex.assert_trees_all_equal(back, parameters, strict=True)


def test_default_names_are_of_a_sequential_with_an_activation_after_each_layer():
    parameters = draw_parameters(jaxnet.mlp([2] * 7))
    names = {name.split(".")[0] for name in jaxnet.to_pytorch(parameters)}
    assert names == {"0", "2", "4", "6", "8", "10"}


def test_dtypes_are_kept():
    network = jaxnet.mlp([2, 3])
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), draw_parameters(network))
    arrays = jaxnet.to_pytorch(narrow)
    assert {array.dtype for array in arrays.values()} == {jnp.dtype("bfloat16")}
    chex.assert_trees_all_equal(jaxnet.from_pytorch(arrays, narrow), narrow, strict=True)


def test_arrays_are_copied_both_ways():
    network = jaxnet.mlp([5, 16, 3])
    arrays = state_dict()
    parameters = jaxnet.from_pytorch(arrays, draw_parameters(network))
    again = jaxnet.to_pytorch(parameters)
    before = state_dict()
    for name in arrays:
        arrays[name][...] = 99
        np.testing.assert_array_equal(jaxnet.to_pytorch(parameters)[name], before[name])
        assert again[name].flags.c_contiguous
        again[name][...] = 99  # torch.from_numpy warns about read-only arrays
    chex.assert_trees_all_equal(jaxnet.to_pytorch(parameters), before)


def convert_with(changes):
    """Converts a state dict with some entries replaced, or removed where the change is None."""
    arrays = {**state_dict(), **changes}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    return jaxnet.from_pytorch(arrays, draw_parameters(jaxnet.mlp([5, 16, 3])))


def ensemble():
    """Stacked parameters of four networks."""
    network = jaxnet.mlp([FEATURES, 16, 3])
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), draw_parameters(network))


def convert(**options):
    return jaxnet.to_pytorch(draw_parameters(jaxnet.mlp([5, 16, 3])), **options)


WRONG_CALLS = {
    "missing": (
        lambda: convert_with({"2.bias": None}),
        ValueError,
        "missing: ['2.bias'], not expected: []",
    ),
    "unexpected": (
        lambda: convert_with({"1.running_mean": np.zeros(16)}),
        ValueError,
        "missing: [], not expected: ['1.running_mean']",
    ),
    "shape": (
        lambda: convert_with({"0.weight": np.ones((5, 16), np.float32)}),
        ValueError,
        "expected '0.weight' of float32[16, 5]. Received: float32[5, 16]",
    ),
    "dtype": (
        lambda: convert_with({"0.bias": np.ones(16)}),
        ValueError,
        "expected '0.bias' of float32[16]. Received: float64[16]",
    ),
    "no array": (
        lambda: convert_with({"0.bias": [0.0] * 16}),
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
            state_dict(), draw_parameters(jaxnet.mlp([5, 16, 3])), names=["0", "3"]
        ),
        ValueError,
        "missing: ['3.weight', '3.bias'], not expected: ['2.weight', '2.bias']",
    ),
    "few names": (
        lambda: convert(names=["0"]),
        ValueError,
        "to_pytorch: expected 2 different names",
    ),
    "equal names": (lambda: convert(names=["0", "0"]), ValueError, "['0', '0']"),
    "several networks": (
        lambda: jaxnet.to_pytorch(ensemble()),
        TypeError,
        "Received: DenseParameters with shapes [[4, 5, 16], [4, 16]] for layer 0",
    ),
    "a like of several networks": (
        lambda: jaxnet.from_pytorch(state_dict(), ensemble()),
        TypeError,
        "from_pytorch: expected the parameters of a dense layer or a layer_norm",
    ),
    "a serial network inside": (
        lambda: jaxnet.to_pytorch(draw_parameters(jaxnet.serial(jaxnet.mlp([1, 2])))),
        TypeError,
        "Received: tuple with shapes [[1, 2], [2]] for layer 0",
    ),
    "a dictionary": (
        lambda: jaxnet.to_pytorch({"columns": jnp.zeros(2), "matrix": jnp.ones((2, 3))}),
        TypeError,
        "Received: dict",
    ),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_wrong_calls_raise(name):
    call, error, words = WRONG_CALLS[name]
    with helpers.refused(error, words):
        call()


def rounding(inputs, *layers):
    """Bounds the rounding error of dense layers with relu between, for any order of the sums.

    A sum of n products has at most n + 1 rounding errors relative to the sum of absolute values.
    The error of a layer's inputs is multiplied by the absolute weights. relu adds no error.
    """
    values, error = np.float64(inputs), np.zeros(inputs.shape)
    for layer in layers:
        weights, biases = map(np.float64, layer)
        sizes = np.abs(values) @ np.abs(weights) + np.abs(biases)
        error = error @ np.abs(weights) + (len(weights) + 1) * helpers.ROUNDING * sizes
        values = np.maximum(values @ weights + biases, 0)
    return 1.01 * error  # for second-order rounding errors


def pytorch():
    """PyTorch, a model of three linear layers with relu between, and the same network here."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    widths = [FEATURES, 16, 16, 3]
    first, second, third = (torch.nn.Linear(*pair) for pair in itertools.pairwise(widths))
    model = torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU(), third)
    return torch, model, jaxnet.mlp(widths)


def test_a_network_from_pytorch():
    torch, model, network = pytorch()
    parameters = jaxnet.from_pytorch(model.state_dict(), draw_parameters(network))
    with torch.no_grad():
        theirs = model(torch.from_numpy(INPUTS)).numpy()
        model[0].bias.fill_(99)  # would change the parameters if they shared memory
    ours = jaxnet.predict(network, parameters, INPUTS)
    assert (np.abs(ours - theirs) <= 2 * rounding(INPUTS, *parameters)).all()


def test_a_network_to_pytorch():
    torch, model, network = pytorch()
    parameters = draw_parameters(network)
    arrays = jaxnet.to_pytorch(parameters)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    with torch.no_grad():
        theirs = model(torch.from_numpy(INPUTS)).numpy()
    ours = jaxnet.predict(network, parameters, INPUTS)
    assert (np.abs(ours - theirs) <= 2 * rounding(INPUTS, *parameters)).all()
    # Unlike the tensors of a state dict, these require gradients; NumPy raises on those.
    back = jaxnet.from_pytorch(dict(model.named_parameters()), parameters)
    chex.assert_trees_all_equal(back, parameters, strict=True)


def test_a_layer_norm_from_pytorch():
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.LayerNorm(FEATURES))
    with torch.no_grad():
        model[0].weight.copy_(torch.linspace(-1, 1, FEATURES))
        model[0].bias.copy_(torch.linspace(0, 1, FEATURES))
        theirs = model(torch.from_numpy(INPUTS)).numpy()
    network = jaxnet.serial(jaxnet.layer_norm(FEATURES))
    parameters = jaxnet.from_pytorch(model.state_dict(), draw_parameters(network))
    ours = jaxnet.predict(network, parameters, INPUTS)
    # On both sides: mean and variance of five float32 numbers, three roundings of values below 4.
    np.testing.assert_allclose(ours, theirs, atol=2 * 4 * (FEATURES + 3) * 2**-23)


def test_tensors_of_another_dtype_raise():
    torch, model, network = pytorch()
    for dtype in (torch.float64, torch.bfloat16):
        words = f"expected '0.weight' of float32[16, 5]. Received: {dtype}[16, 5]"
        with helpers.refused(ValueError, words.replace("torch.", "")):
            jaxnet.from_pytorch(model.to(dtype).state_dict(), draw_parameters(network))
