"""Converts parameters to a PyTorch state dict, and back. PyTorch need not be installed."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnet.core import checks, trees
from jaxnet.core.arrays import as_array
from jaxnet.nn.layers import DenseParameters, LayerNormParameters


@checks.door
def to_pytorch(parameters: PyTree, *, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Converts parameters to the state dict of a `Sequential` of `Linear` and `LayerNorm`.

    The entries are `"<name>.weight"` and `"<name>.bias"`: the weights of a dense layer, transposed
    to `[outputs, inputs]`, and its biases; the scale and the offset of a `layer_norm`. In PyTorch,

        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
        arrays = jaxnet.to_pytorch(parameters)
        model.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})

    gives a model of `jaxnet.mlp([10, 16, 3])`. A state dict does not contain the activations or the
    epsilon of `layer_norm`: they must be equal in both models.

    Args:
        parameters: the parameters of a `serial` or `mlp` without nested `serial` layers.
        names: the names of PyTorch's modules, one for each layer that has parameters. The default
            is "0", "2", "4", ..., as in a `Sequential` with an activation after each layer.

    Returns:
        NumPy arrays, copied, with the dtypes of the parameters.

    Raises:
        TypeError: parameters of other layers, or of an ensemble.
        ValueError: the number of names is wrong, or two names are equal.

    Reference: https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html. PyTorch
    computes `x @ weight.T + bias`. Keras and Flax keep weights as `[inputs, outputs]`, as jaxnet
    does.

    >>> to_pytorch((DenseParameters(jnp.ones((3, 2)), jnp.zeros(2)),), names=["head"])
    {'head.weight': array([[1., 1., 1.], [1., 1., 1.]], dtype=float32),
     'head.bias': array([0., 0.], dtype=float32)}
    """
    trees.arrays("parameters", parameters)
    entries = _name_leaves(parameters, names)
    return {name: np.array(np.asarray(leaf).T, order="C") for name, leaf in entries.items()}


@checks.door
def from_pytorch(
    state_dict: Mapping[str, Any], like: PyTree, *, names: Sequence[str] | None = None
) -> PyTree:
    """Converts a PyTorch state dict to parameters; the inverse of `to_pytorch`.

    `jaxnet.from_pytorch(model.state_dict(), network.init(key))` returns the model's parameters. The
    entries may be in any order.

    Args:
        state_dict: NumPy arrays or PyTorch tensors on any device, by name.
        like: parameters of the same network, such as `network.init(key)`, or their shapes, as from
            `jax.eval_shape(network.init, key)`.
        names: the names of PyTorch's modules, as in `to_pytorch`.

    Returns:
        Parameters with the structure, shapes and dtypes of `like`, copied.

    Raises:
        TypeError: `state_dict` is not a mapping, or `like` has parameters of other layers.
        ValueError: an entry is missing, unexpected, or of another shape or dtype. No dtype is
            converted: for a model in float64, pass `model.float().state_dict()`.

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
    expected = _name_leaves(like, names)
    missing = [name for name in expected if name not in state_dict]
    unexpected = [name for name in state_dict if name not in expected]
    if missing or unexpected:
        raise checks.InvalidValue(
            f"expected the entries {[*expected]}. Received: {[*state_dict]}; "
            f"missing: {missing}, not expected: {unexpected}"
        )
    for name, leaf in expected.items():
        form = f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))[::-1]}"
        received = checks.describe(state_dict[name]).removeprefix("torch.")
        if received != form:
            hint = checks.hint(state_dict[name])
            raise checks.InvalidValue(f"expected {name!r} of {form}. Received: {received}{hint}")
    leaves = [
        jnp.array(_tensor_to_numpy(name, state_dict[name]).T, jnp.result_type(leaf))
        for name, leaf in expected.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


_NDIMS = {DenseParameters: [2, 1], LayerNormParameters: [1, 1]}


def _name_leaves(parameters: PyTree, names: Sequence[str] | None) -> dict[str, Any]:
    """Returns the leaves in their order, by the names of PyTorch's entries."""
    parts = parameters if isinstance(parameters, (tuple, list)) else (parameters,)
    layers = [(i, part) for i, part in enumerate(parts) if jax.tree.leaves(part)]
    for i, layer in layers:
        shapes = [list(jnp.shape(leaf)) for leaf in jax.tree.leaves(layer)]
        if _NDIMS.get(type(layer)) != [len(shape) for shape in shapes]:
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


def _tensor_to_numpy(name: str, value: Any) -> np.ndarray:
    """Converts an array or a PyTorch tensor to NumPy; bfloat16 tensors via float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return np.asarray(as_array(repr(name), value))
