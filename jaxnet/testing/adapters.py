"""Adapters: optimizers in other forms as optax `GradientTransformation`s, for a comparison.

`from_step` is for a function that returns new parameters, `from_triple` for the form of JAX's
example library, `from_keras` and `from_torch` for the objects of these libraries, and `replay` for
any program whose gradients and parameters were recorded.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Int, PyTree
from optax import GradientTransformation

from jaxnet.core import checks, trees
from jaxnet.testing import foreign
from jaxnet.testing.candidates import OptimizerInit
from jaxnet.testing.problems import Problem
from jaxnet.testing.torch_step import TorchFactory

# Functions that return new parameters.


@runtime_checkable
class ParameterStep(Protocol):
    """One step of an optimizer, a pure function that JAX can trace."""

    def __call__(self, *arguments: Any) -> Any:
        """Returns the new parameters, or `(parameters, state)`.

        Args:
            *arguments: the parameters, the gradients and the state in an order of one's own.
        """
        ...


_ORDER = ("parameters", "gradients", "state")


@checks.door
def from_step(
    step: ParameterStep,
    init_state: OptimizerInit | None = None,
    *,
    order: Sequence[str] = _ORDER,
) -> GradientTransformation:
    """Adapts a function that returns new parameters.

    The updates are the new parameters minus the old ones, so they are only as exact as the
    parameters; `compare_optimizers` takes this into account.

    Args:
        step: `step(parameters, gradients, state) -> (parameters, state)`. Without `init_state` it
            has no state: `step(parameters, gradients) -> parameters`. Wrap a function with other
            arguments or results in one of this form; a step count is a part of the state.
        init_state: `init_state(parameters) -> state`, a pytree of arrays.
        order: the order of the arguments of `step`, by their names "parameters", "gradients" and
            "state"; without `init_state`, "state" is left out.

    Raises:
        TypeError, ValueError: `step` or `init_state` is not a function, or `order` is not an order
            of these names. The result raises if `step` returns anything else.

    >>> import optax
    >>> from jaxnet import compare_optimizers
    >>> def momentum(gradients, velocity, parameters):
    ...     velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradients)
    ...     return jax.tree.map(lambda p, v: p - 0.1 * v, parameters, velocity), velocity
    >>> def zeros(parameters):
    ...     return jax.tree.map(jnp.zeros_like, parameters)
    >>> candidate = from_step(momentum, zeros, order=("gradients", "state", "parameters"))
    >>> compare_optimizers(candidate, optax.sgd(0.1, momentum=0.9), steps=50).verdict
    'rounding'
    """
    checks.function("step", step)
    if init_state is not None:
        checks.function("init_state", init_state)
    checks.instance("order", order, Sequence)
    has_state = init_state is not None
    names, given = ([n for n in o if n != "state" or has_state] for o in (_ORDER, order))
    if sorted(map(str, given)) != sorted(names):
        raise checks.InvalidValue(
            f"expected order with the names {', '.join(map(repr, names))}. "
            f"Received: {checks.shorten(repr(order))}"
        )
    return GradientTransformation(
        checks.bind("from_step", _init_step, init_state),
        checks.bind("from_step", _update_step, step, has_state, tuple(given)),
    )


def _init_step(init_state: OptimizerInit | None, parameters: PyTree) -> Any:
    return () if init_state is None else init_state(parameters)


def _update_step(
    step: ParameterStep,
    has_state: bool,
    order: tuple[str, ...],
    gradients: PyTree,
    state: Any,
    parameters: PyTree,
) -> tuple[PyTree, Any]:
    arguments = {"parameters": parameters, "gradients": gradients, "state": state}
    result = step(*(arguments[name] for name in order))
    if has_state and not (isinstance(result, tuple) and len(result) == 2):
        raise checks.InvalidType(
            f"expected a step that returns (parameters, state). Received: {type(result).__name__}"
        )
    new, state = result if has_state else (result, state)
    return foreign.subtract(new, parameters), state


# The form of JAX's example library.


@checks.door
def from_triple(triple: tuple[Any, Any, Any]) -> GradientTransformation:
    """Adapts three functions `(init, update, get_params)`, the form of JAX's example library.

    The state of such an optimizer contains its own copy of the parameters. The adapter replaces
    this copy by the parameters that it is given, before every step. The updates are the new
    parameters minus these.

    Args:
        triple: `init(parameters) -> state`, `update(step, gradients, state) -> state` with steps 0,
            1, ..., and `get_params(state) -> parameters`, which returns a part of the state
            unchanged. Those of `jax.example_libraries.optimizers` have this form.

    Raises:
        TypeError: the argument is not a tuple of three functions. The result raises a ValueError
            if `get_params` does not return a part of the state.

    >>> from jax.example_libraries import optimizers
    >>> import optax
    >>> from jaxnet import compare_optimizers
    >>> candidate = from_triple(optimizers.momentum(0.1, 0.9))
    >>> compare_optimizers(candidate, optax.sgd(0.1, momentum=0.9), steps=50).verdict
    'rounding'
    """
    if not (isinstance(triple, tuple) and len(triple) == 3 and all(map(callable, triple))):
        raise checks.InvalidType(
            "expected a tuple of three functions (init, update, get_params). "
            f"Received: {checks.describe(triple)}"
        )
    return GradientTransformation(
        checks.bind("from_triple", foreign.init_triple, tuple(triple)),
        checks.bind("from_triple", foreign.update_triple, tuple(triple)),
    )


# The objects of Keras and PyTorch.


@checks.door
def from_keras(make: foreign.KerasFactory) -> GradientTransformation:
    """Adapts an optimizer of Keras 3, which has to use the JAX backend.

    A step is `optimizer.stateless_apply`. The state contains the optimizer's variables. The updates
    are the new parameters minus the old ones.

    Args:
        make: a function without arguments that returns a new optimizer, such as `lambda:
            keras.optimizers.Adam(0.01)`. It is called with Keras's `floatx` set to float64 if
            parameters are float64, since an optimizer rounds its learning rate to `floatx`.

    Raises:
        TypeError: `make` is not a function. The result raises a ValueError if Keras has another
            backend; set the environment variable KERAS_BACKEND to "jax" before Keras is imported.
    """
    checks.function("make", make)
    return GradientTransformation(
        checks.bind("from_keras", foreign.init_keras, make),
        checks.bind("from_keras", foreign.update_keras, make),
    )


@checks.door
def from_torch(make: TorchFactory) -> GradientTransformation:
    """Adapts an optimizer of PyTorch, or another object that changes tensors in place.

    Compiled programs call it by `jax.pure_callback`. The state contains all numbers and tensors in
    the object's attributes, also in dictionaries, lists and tuples. Every step makes a new object
    and sets its attributes to that state, so the result is a pure function. The updates are the new
    parameters minus the old ones. A step takes about a millisecond.

    Args:
        make: a function from a list of tensors, the parameters in the order of `jax.tree.leaves`,
            to an object with a method `step()`, such as `lambda tensors: torch.optim.Adam(tensors,
            lr=0.01)`. `step()` reads the gradients in `tensor.grad`.

    Raises:
        TypeError: `make` is not a function. The result raises a TypeError if `make` returns another
            object, and a ValueError if a part of its state is not in its attributes, which is found
            out by three steps on random gradients.
    """
    checks.function("make", make)
    return GradientTransformation(
        checks.bind("from_torch", foreign.init_torch, make),
        checks.bind("from_torch", foreign.update_torch, make),
    )


# Recordings of any program.


@checks.door
def replay(
    gradients: Sequence[PyTree] | np.ndarray, parameters: Sequence[PyTree] | np.ndarray
) -> tuple[GradientTransformation, Problem]:
    """Adapts a recording of the gradients and parameters of another program.

    Args:
        gradients: the gradients of every step, a list of pytrees of NumPy arrays, or an array
            `[steps, ...]`.
        parameters: the parameters before the first step and after every step, in the same form; one
            more than there are gradients.

    Returns:
        An optimizer whose updates are the differences of the recorded parameters, and a problem,
        "recording", whose gradients are the recorded ones. It has as many steps as the recording:
        later gradients are NaN, which ends a comparison. A recording of float32 is compared in
        float32 alone, which finds only what is larger than the rounding of the parameters.

    Raises:
        TypeError, ValueError: the recording has no steps, the trees differ in structure or shapes,
            they contain anything but floating-point arrays, or the numbers of steps do not fit.

    >>> import optax
    >>> from jaxnet import compare_optimizers
    >>> w, velocity, gradients, parameters = np.ones(3), 0.0, [], [np.ones(3)]
    >>> for step in range(20):
    ...     gradients.append(np.cos(step + w))
    ...     velocity = 0.9 * velocity + gradients[-1]
    ...     w = w - 0.1 * velocity
    ...     parameters.append(w)
    >>> recorded, problem = replay(gradients, parameters)
    >>> reference = optax.sgd(0.1, momentum=0.9)
    >>> compare_optimizers(recorded, reference, problems=[problem]).verdict
    'rounding'
    """
    for name, rows in (("gradients", gradients), ("parameters", parameters)):
        if not isinstance(rows, (Sequence, np.ndarray)):
            raise checks.InvalidType(
                f"expected a list of {name}, one for each step. Received: {checks.describe(rows)}"
            )
    if not len(gradients) or len(parameters) != len(gradients) + 1:
        raise checks.InvalidValue(
            "expected the gradients of at least one step and the parameters before and after each. "
            f"Received: {len(gradients)} gradients and {len(parameters)} parameters"
        )
    for name, rows in (("gradients", gradients), ("parameters", parameters)):
        for i, row in enumerate(rows):
            trees.floats(f"{name}[{i}]", row)
            trees.same_tree(f"{name}[{i}]", row, "parameters[0]", parameters[0])
    updates = _stack([jax.tree.map(_difference, *pair) for pair in itertools.pairwise(parameters)])
    optimizer = GradientTransformation(_init_replay, Partial(_update_replay, updates))
    source = Partial(_read_gradients, _stack(gradients))
    is_double = all(np.asarray(leaf).dtype == np.float64 for leaf in jax.tree.leaves(parameters))
    precision = None if is_double else "float32"
    return optimizer, Problem("recording", parameters[0], source, precision)


def _stack(rows: Sequence[PyTree] | np.ndarray) -> PyTree:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def _difference(before: Any, after: Any) -> np.ndarray:
    return np.subtract(after, before, dtype=np.float64)


def _init_replay(parameters: PyTree) -> Int[Array, ""]:
    del parameters
    return jnp.zeros((), jnp.int32)


def _update_replay(
    recorded: PyTree, gradients: PyTree, step: Int[Array, ""], parameters: PyTree
) -> tuple[PyTree, Int[Array, ""]]:
    """Returns the recorded updates, rounded to the differences of two parameters."""
    del gradients

    def update(rows: Any, old: Any) -> Array:
        return (old + jnp.asarray(rows, old.dtype)[step]) - old

    return jax.tree.map(update, recorded, parameters), step + 1


def _read_gradients(recorded: PyTree, parameters: PyTree, step: Int[Array, ""]) -> PyTree:
    del parameters

    def read(rows: Any) -> Array:
        rows = jnp.asarray(rows)
        return jnp.where(step < len(rows), rows[step], jnp.nan)

    return jax.tree.map(read, recorded)
