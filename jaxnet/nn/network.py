"""A network is a pair of pure functions.

`init(key) -> parameters` draws the parameters, and `apply(parameters, inputs) -> outputs` computes
the outputs. A layer is a network too. A pair from another library, or written by hand, is a network
as well: `Network(init, apply)`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Key, PyTree

from jaxnet.core import checks

Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]


@runtime_checkable
class Init(Protocol):
    """Draws the parameters of a network; a function that JAX can trace."""

    def __call__(self, key: Key[Array, ""], /) -> PyTree:
        """Returns any pytree of arrays."""
        ...


@runtime_checkable
class Apply(Protocol):
    """Computes the outputs of a network; a function that JAX can trace and differentiate."""

    def __call__(
        self, parameters: PyTree, inputs: Array, /, *, key: Key[Array, ""] | None = None
    ) -> Array:
        """Returns the outputs for `inputs [..., features]`.

        Training passes a key for noise such as dropout. Without a key there must be no noise, and
        dropout is the identity.
        """
        ...


class Network(NamedTuple):
    """A pair of pure functions, and the properties of the network that are known.

    Attributes:
        init: `init(key) -> parameters`.
        apply: `apply(parameters, inputs, *, key=None) -> outputs`, for inputs `[..., features]`.
            Without a key there is no noise, and dropout is the identity.
        layers: the parts of a serial network or a residual block; empty for other networks.
        name: the name in error messages.
        in_features, out_features: the size of the last axis of inputs and outputs, if known.
        weighted_sums: `weighted_sums(parameters, inputs)`, the inputs of the activation of a dense
            layer; None for other networks.
        rebuild: `rebuild(*layers)` makes the same network of other layers; None if there are no
            layers.
        at: `at(fraction)` makes the network at a fraction of the training, from 0 to 1, with the
            same parameters; None if it does not change. Training calls it in every step.

    A Flax module `module` is the network

        Network(
            init=lambda key: module.init(key, example),
            apply=lambda parameters, inputs, *, key=None: module.apply(parameters, inputs),
        )
    """

    init: Init
    apply: Apply
    layers: tuple["Network", ...] = ()
    name: str = "network"
    in_features: int | None = None
    out_features: int | None = None
    weighted_sums: Callable[[Any, Array], Array] | None = None
    rebuild: Callable[..., "Network"] | None = None
    at: Callable[[Any], "Network"] | None = None


def check_network(network: Any) -> None:
    """Checks that a network is a `Network` of two functions."""
    checks.instance("network", network, Network)
    checks.function("network.init", network.init)
    checks.function("network.apply", network.apply)


def no_parameters(key: Key[Array, ""]) -> tuple[()]:
    """The `init` of a layer without parameters."""
    del key
    return ()


def name_function(function: Callable[..., Any]) -> str:
    """The name of an activation function, for the name of a layer."""
    while isinstance(function, functools.partial) and not hasattr(function, "__name__"):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)
