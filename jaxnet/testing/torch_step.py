"""A step of a PyTorch optimizer as a pure function of bytes, which runs on the host.

An optimizer of PyTorch keeps its state in attributes. For every step a new one is made, its
attributes are set to the given state, and they are read after the step.

A compiled program calls this function, often in another thread. A context such as
`jax.enable_x64(True)` does not hold there, and JAX rounds arguments of float64 to float32. So all
arrays are passed as their bytes, in a single array, since each argument takes time. Nothing here
calls JAX, which could wait for itself.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from jaxnet.core import checks

Bytes: TypeAlias = UInt8[np.ndarray, "_"]


@runtime_checkable
class TorchFactory(Protocol):
    """Makes a PyTorch optimizer, such as `lambda tensors: torch.optim.Adam(tensors, lr=0.01)`."""

    def __call__(self, tensors: list[Any], /) -> Any:
        """Returns an object whose `step()` changes the tensors.

        Args:
            tensors: the parameters, in the order of `jax.tree.leaves`.
        """
        ...


class Kind(NamedTuple):
    """The type of an array."""

    dtype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TorchStep:
    """A step of a PyTorch optimizer.

    Attributes:
        make: makes the optimizer.
        kinds: the types of the parameters.
    """

    make: TorchFactory
    kinds: tuple[Kind, ...]

    def __call__(
        self,
        started: bool,
        parameters: list[Bytes],
        gradients: list[Bytes],
        state: dict[str, Bytes],
    ) -> tuple[list[Bytes], dict[str, Bytes]]:
        """Takes a step.

        Args:
            started: whether there was a step before; otherwise `state` is ignored.
            parameters, gradients: their bytes, leaf by leaf.
            state: the bytes of every number and tensor in the optimizer's attributes, by path.

        Returns:
            The updates, which are the new parameters minus the old ones, and the next state.
        """
        tensors = self.read(parameters)
        optimizer = self.make_optimizer(tensors)
        if started:
            self.advance(optimizer, tensors, parameters)  # which makes the tensors of the state
            self.write_state(optimizer, tensors, state)
            for tensor, start in zip(tensors, self.read(parameters), strict=True):
                tensor.data.copy_(start.data)
        updates = self.advance(optimizer, tensors, gradients)
        return updates, self.read_state(optimizer, tensors)[1]

    def read(self, leaves: list[Bytes]) -> list[Any]:
        """Makes tensors that require gradients from bytes."""
        return [
            _read_tensor(np.array(leaf), kind).requires_grad_()
            for leaf, kind in zip(leaves, self.kinds, strict=True)
        ]

    def make_optimizer(self, tensors: list[Any]) -> Any:
        """Makes an optimizer and checks that it is one."""
        optimizer = self.make(tensors)
        if not callable(getattr(optimizer, "step", None)):
            raise checks.InvalidType(
                "expected make as a function from a list of tensors to a PyTorch optimizer. "
                f"Received: {checks.describe(optimizer)}"
            )
        return optimizer

    def advance(self, optimizer: Any, tensors: list[Any], gradients: list[Bytes]) -> list[Bytes]:
        """Changes the tensors by a step, and returns the updates."""
        before = [tensor.detach().clone() for tensor in tensors]
        for tensor, gradient in zip(tensors, self.read(gradients), strict=True):
            tensor.grad = gradient.detach()
        optimizer.step()
        pairs = zip(tensors, before, strict=True)
        return [_write_tensor(new.detach() - old) for new, old in pairs]

    def read_state(
        self, optimizer: Any, tensors: list[Any]
    ) -> tuple[dict[str, Kind], dict[str, Bytes]]:
        """Reads the numbers and tensors in an optimizer's attributes, by path.

        Returns:
            Their types and their bytes. A Python number is an array of 8 bytes.
        """
        kinds, data = {}, {}

        def read(path: str, leaf: Any) -> Any:
            if type(leaf) in _NUMBERS:
                kinds[path] = Kind("uint8", (8,))
                data[path] = np.array([leaf], _NUMBERS[type(leaf)]).view(np.uint8)
            elif all(leaf is not tensor for tensor in tensors):
                kinds[path], data[path] = _find_kind(leaf), _write_tensor(leaf)
            return leaf

        _visit(vars(optimizer), "", read)
        return kinds, data

    def write_state(self, optimizer: Any, tensors: list[Any], state: dict[str, Bytes]) -> None:
        """Sets the numbers and tensors in an optimizer's attributes."""

        def write(path: str, leaf: Any) -> Any:
            if type(leaf) in _NUMBERS:
                return type(leaf)(np.array(state[path]).view(_NUMBERS[type(leaf)])[0])
            if all(leaf is not tensor for tensor in tensors):
                leaf.data.copy_(_read_tensor(np.array(state[path]), _find_kind(leaf)))
            return leaf

        _visit(vars(optimizer), "", write)


@dataclasses.dataclass(frozen=True)
class PackedStep:
    """A step of a PyTorch optimizer whose arguments and results are one array of bytes each.

    It is a dataclass, since programs that call equal ones are the same program.

    Attributes:
        step: the step.
        paths: those of the optimizer's state.
        sizes: the numbers of bytes of what is packed: whether there was a step before, the
            parameters, the gradients and the state.
    """

    step: TorchStep
    paths: tuple[str, ...]
    sizes: tuple[int, ...]

    def __call__(self, data: Any) -> Bytes:
        """Takes a step, and returns the updates and the state."""
        (started, *leaves) = np.split(np.array(data), np.cumsum(self.sizes)[:-1])
        n = len(self.step.kinds)
        state = dict(zip(self.paths, leaves[2 * n :], strict=True))
        updates, after = self.step(bool(started[0]), leaves[:n], leaves[n : 2 * n], state)
        return np.concatenate([*updates, *(after[path] for path in self.paths)])


def learn_state(step: TorchStep) -> dict[str, Kind]:
    """Learns the types of an optimizer's state by three steps on random gradients.

    Raises:
        InvalidType: `make` returns no optimizer.
        InvalidValue: an optimizer whose state was restored continues differently, so a part of its
            state is not in its attributes.
    """
    random = np.random.default_rng(0)
    start, *rows = [[_draw(random, kind) for kind in step.kinds] for _ in range(4)]
    tensors = step.read(start)
    optimizer = step.make_optimizer(tensors)
    kinds: dict[str, Kind] = {}
    state: dict[str, Bytes] = {}
    for i, gradients in enumerate(rows):
        updates, state = step(i > 0, list(map(_write_tensor, tensors)), gradients, state)
        expected = step.advance(optimizer, tensors, gradients)
        kinds, data = step.read_state(optimizer, tensors)
        pairs = [*zip(updates, expected, strict=True), *((state.get(p), data[p]) for p in data)]
        if any(a is None or a.tobytes() != b.tobytes() for a, b in pairs):
            raise checks.InvalidValue(
                "expected an optimizer that depends only on numbers and tensors in its attributes. "
                f"Received: {type(optimizer).__name__}, which continues differently when these "
                "are restored"
            )
    return kinds


def _draw(random: np.random.Generator, kind: Kind) -> Bytes:
    import torch

    numbers = torch.from_numpy(np.array(random.standard_normal(kind.shape)))
    return _write_tensor(numbers.to(getattr(torch, kind.dtype)))


# The attributes.


_NUMBERS: dict[type, str] = {bool: "int64", int: "int64", float: "float64"}


def _visit(node: Any, path: str, visit: Callable[[str, Any], Any]) -> Any:
    """Replaces the numbers and tensors in nested containers; keys that are no text are counted."""
    if isinstance(node, dict):
        for i, (key, value) in enumerate(node.items()):
            node[key] = _visit(value, f"{path}/{key if isinstance(key, str) else i}", visit)
    elif isinstance(node, list):
        node[:] = [_visit(value, f"{path}/{i}", visit) for i, value in enumerate(node)]
    elif type(node) is tuple:
        return tuple(_visit(value, f"{path}/{i}", visit) for i, value in enumerate(node))
    elif type(node) in _NUMBERS or hasattr(node, "detach"):
        return visit(path.removeprefix("/"), node)
    return node


def _find_kind(tensor: Any) -> Kind:
    return Kind(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _read_tensor(data: Bytes, kind: Kind) -> Any:
    import torch

    return torch.from_numpy(data).view(getattr(torch, kind.dtype)).reshape(kind.shape)


def _write_tensor(tensor: Any) -> Bytes:
    import torch

    flat = tensor.detach().contiguous().reshape(-1)
    return np.array(flat.view(torch.uint8).numpy())
