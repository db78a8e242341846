"""Exporting: taking a trained network elsewhere.

As a program that runs without jaxnet, or as the weights of the same network in PyTorch, and back.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnet.core import arrays, checks, tracing, trees
from jaxnet.core.atomic import atomic_write
from jaxnet.nn.layers import DenseParameters, LayerNormParameters
from jaxnet.nn.network import Network, check_network


@checks.door
def export(
    network: Network, parameters: PyTree, path: str | os.PathLike[str], *, example: Any = None
) -> None:
    """Writes the network with its parameters as a program for CPU and CUDA that needs only JAX.

    Wherever JAX and flatbuffers are installed, jaxnet or not,

        import jax.export

        program = jax.export.deserialize(open(path, "rb").read())
        outputs = program.call(inputs)

    are the outputs of `predict`, for inputs `[batch, features]` of any batch size of at least 1;
    each size is compiled when it first comes. The program has no randomness and no gradients. As
    any of JAX's, it holds the paths of the source files that it was made from.

    Args:
        parameters: of the network; constants in the program.
        path: of the file, which is written whole or not at all.
        example: one example, such as `inputs[0]`, or its `jax.ShapeDtypeStruct`, for shape and
            dtype; needed where the network does not know its number of features. By default,
            that many in float32.

    Raises:
        TypeError: not a network; a path that is none.
        ValueError: parameters that do not fit the network or are not finite; no example where one
            is needed, or one that does not fit; a network that computes for some batch sizes only.
        OSError: the file cannot be written; what was there before is as it was.

    Reference: https://docs.jax.dev/en/latest/export/export.html, which promises that such a program
    runs on versions of JAX up to six months newer, so keep the parameters too. The like of it are
    PyTorch's `torch.export` and TensorFlow's SavedModel.

    >>> import pathlib, tempfile
    >>> from jaxnet import mlp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "network.jax")
    ...     export(mlp([2, 2]), [(jnp.eye(2), jnp.ones(2))], path)
    ...     jax.export.deserialize(path.read_bytes()).call(jnp.array([[1.0, 2.0]]))
    Array([[2., 3.]], dtype=float32)
    """
    check_network(network)
    trees.arrays("parameters", parameters)
    checks.path("path", path)
    inputs = _inputs(network, example)
    _check_fit(network, parameters, inputs)
    values = jax.device_get(parameters)  # one copy, on whichever devices the parameters are
    _check_finite(values)

    def outputs(inputs: jax.Array) -> Any:
        return network.apply(jax.tree.map(jnp.asarray, values), inputs)

    with tracing.trace_anew():
        program = jax.export.export(jax.jit(outputs), platforms=("cpu", "cuda"))(inputs)
    with atomic_write(path) as file:
        file.write(program.serialize())


def _inputs(network: Network, example: Any) -> jax.ShapeDtypeStruct:
    """A batch of inputs, of any size."""
    if example is None and network.in_features is None:
        raise checks.InvalidValue(
            f"expected an example of the inputs, such as example=inputs[0], as "
            f"{network.name} does not know its number of features. Received: none"
        )
    if example is None:
        example = jax.ShapeDtypeStruct((network.in_features,), jnp.float32)
    elif not isinstance(example, jax.ShapeDtypeStruct):
        example = arrays.to_array("the example", example)
    (batch,) = jax.export.symbolic_shape("batch")
    return jax.ShapeDtypeStruct((batch, *example.shape), example.dtype)


def _check_fit(network: Network, parameters: PyTree, inputs: jax.ShapeDtypeStruct) -> None:
    """Traces the network; if that fails, on parameters unlike its own, they are the reason."""
    try:
        tracing.shapes(network.apply, parameters, inputs)
    except Exception as error:
        own = tracing.shapes(network.init, jax.random.key(0))
        trees.same_tree("parameters", parameters, "the network's", own)
        raise checks.InvalidValue(str(error)) from error


def _check_finite(parameters: PyTree) -> None:
    for name, values in trees.named_leaves(parameters).items():
        wrong = ~np.isfinite(values)
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise checks.InvalidValue(
                f"expected finite parameters. "
                f"Received: {np.asarray(values)[index]} in {name!r} at index {index}"
            )


@checks.door
def to_pytorch(parameters: PyTree, *, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Parameters as PyTorch keeps those of a `torch.nn.Sequential` of `Linear` and `LayerNorm`.

    They are `"<name>.weight"` and `"<name>.bias"`: a dense layer's weights, transposed to
    `[outputs, inputs]`, and biases; a `layer_norm`'s scale and offset. In PyTorch,

        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
        arrays = jaxnet.to_pytorch(parameters)
        model.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})

    makes a model of `jaxnet.mlp([10, 16, 3])`. Activations, and the epsilon of `layer_norm`, are
    not in a state dict: they must be the same.

    Args:
        parameters: of the layers of a `serial` or `mlp`, none of them `serial` in turn.
        names: of PyTorch's modules, one for each layer that has parameters. By default "0", "2",
            "4", ..., as in a `Sequential` that has an activation after each.

    Returns:
        NumPy arrays, copied, of the parameters' dtypes.

    Raises:
        TypeError: parameters of another kind, or of many networks at once.
        ValueError: more, fewer or equal names.

    Reference: https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html. PyTorch
    computes `x @ weight.T + bias`, Keras and Flax have `[inputs, outputs]`, as here.

    >>> to_pytorch((DenseParameters(jnp.ones((3, 2)), jnp.zeros(2)),), names=["head"])
    {'head.weight': array([[1., 1., 1.], [1., 1., 1.]], dtype=float32),
     'head.bias': array([0., 0.], dtype=float32)}
    """
    trees.arrays("parameters", parameters)
    entries = _entries(parameters, names)
    return {name: np.array(np.asarray(leaf).T, order="C") for name, leaf in entries.items()}


@checks.door
def from_pytorch(
    state_dict: Mapping[str, Any], like: PyTree, *, names: Sequence[str] | None = None
) -> PyTree:
    """The parameters in a state dict of PyTorch's; the way back of `to_pytorch`.

    `jaxnet.from_pytorch(model.state_dict(), network.init(key))` are the model's. The entries
    may be in any order.

    Args:
        state_dict: NumPy arrays or PyTorch's tensors, on any device, by their names.
        like: parameters of the same network, such as `network.init(key)`, or their shapes, as from
            `jax.eval_shape(network.init, key)`.
        names: as for `to_pytorch`.

    Returns:
        Parameters of the structure, shapes and dtypes of `like`, copied.

    Raises:
        TypeError: a state dict that is none, or parameters that have no such form.
        ValueError: an entry that is missing, is one too many, or has another shape or dtype;
            nothing is converted: of a model in float64, take `model.float()`.

    >>> arrays = {"0.weight": np.ones((2, 3), np.float32), "0.bias": np.zeros(2, np.float32)}
    >>> from jaxnet import mlp
    >>> (layer,) = from_pytorch(arrays, mlp([3, 2]).init(jax.random.key(0)))
    >>> layer.weights.shape
    (3, 2)
    """
    if not isinstance(state_dict, Mapping):
        raise checks.InvalidType(
            f"expected a state dict, such as model.state_dict(). "
            f"Received: {checks.describe(state_dict)}"
        )
    expected = _entries(like, names)
    missing = [name for name in expected if name not in state_dict]
    unexpected = [name for name in state_dict if name not in expected]
    if missing or unexpected:
        raise checks.InvalidValue(
            f"expected the entries {[*expected]}. Received: {[*state_dict]}, "
            f"of which are missing: {missing}, not expected: {unexpected}"
        )
    for name, leaf in expected.items():
        form = f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))[::-1]}"
        received = checks.describe(state_dict[name]).removeprefix("torch.")
        if received != form:
            hint = checks.hint(state_dict[name])
            raise checks.InvalidValue(f"expected {name!r} of {form}. Received: {received}{hint}")
    leaves = [
        jnp.array(_as_numpy(name, state_dict[name]).T, jnp.result_type(leaf))
        for name, leaf in expected.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


_AXES = {DenseParameters: [2, 1], LayerNormParameters: [1, 1]}


def _entries(parameters: PyTree, names: Sequence[str] | None) -> dict[str, Any]:
    """The leaves, in their order, by PyTorch's names."""
    parts = parameters if isinstance(parameters, (tuple, list)) else (parameters,)
    layers = [(i, part) for i, part in enumerate(parts) if jax.tree.leaves(part)]
    for i, layer in layers:
        shapes = [list(jnp.shape(leaf)) for leaf in jax.tree.leaves(layer)]
        if _AXES.get(type(layer)) != [len(shape) for shape in shapes]:
            raise checks.InvalidType(
                f"expected the parameters of a dense layer or a layer_norm for every "
                f"layer that has any. Received: {type(layer).__name__} with shapes {shapes} for "
                f"layer {i}"
            )
    names = [str(2 * i) for i in range(len(layers))] if names is None else names
    if len(names) != len(layers) or len({*names}) != len(layers):
        raise checks.InvalidValue(
            f"expected {len(layers)} different names, one for each layer that has "
            f"parameters. Received: {names!r}"
        )
    return {
        f"{name}.{kind}": leaf
        for name, (_, layer) in zip(names, layers, strict=True)
        for kind, leaf in zip(("weight", "bias"), layer, strict=True)
    }


def _as_numpy(name: str, value: Any) -> np.ndarray:
    """An array, or a tensor of PyTorch's, which need not be installed."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return np.asarray(arrays.as_array(repr(name), value))
