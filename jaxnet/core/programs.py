"""The identity of programs: two functions are the same if JAX traces them to the same program.

A loss, a network or an optimizer can read anything that Python can reach: an attribute, a global
variable, a helper in another module. So functions are not compared. They are traced, and the traced
programs are compared: whatever a function reads is in its program or among the program's constants.
"""

import dataclasses
import hashlib
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jaxnet.core.dtypes import is_concrete, is_key
from jaxnet.core.settled import PLAIN, Same, closure, is_of_package, reads_package
from jaxnet.core.tracing import trace


class Fingerprint(NamedTuple):
    """The identity of a traced program.

    Attributes:
        digest: SHA-256 of the operations, their parameters, the types of the arguments, and the
            constants; the same in every process. Names and source positions do not count.
        callbacks: the Python objects in the program, such as the functions of `jax.pure_callback`.
            A program calls them while it runs, so each is compared by identity.
        observers: the same for `jax.debug.callback` and `jax.debug.print`, which only receive
            values and change none.
    """

    digest: str
    callbacks: tuple[Same, ...]
    observers: tuple[Same, ...]


def fingerprint(function: Callable[..., Any], *arguments: Any) -> Fingerprint | None:
    """Computes the fingerprint of the program to which a function is traced.

    None if the function is called within another traced program and reads its values.

    >>> def scale(factor):
    ...     return lambda x: factor * x
    >>> fingerprint(scale(2.0), 1.0) == fingerprint(lambda y: 2.0 * y, 1.0)
    True
    >>> fingerprint(scale(2.0), 1.0) == fingerprint(scale(3.0), 1.0)
    False
    """
    leaves = jax.tree.leaves(arguments)
    if not all(map(is_concrete, leaves)):
        return None
    program = trace(function, *arguments).jaxpr
    if len(program.jaxpr.invars) > len(leaves):  # JAX makes the values of the other program inputs
        return None
    return fingerprint_jaxpr(program.jaxpr, program.consts)


def fingerprint_jaxpr(
    program: Jaxpr, constants: Sequence[Any], written: dict[int, str] | None = None
) -> Fingerprint:
    """Computes the fingerprint of a traced program.

    Args:
        program: the program.
        constants: its constants.
        written: constants as text, by their ids, which programs with the same large arrays may
            share, as long as the arrays are alive and unchanged.
    """
    writer = _Writer({} if written is None else written)
    text = writer.write_program(program, constants)
    return Fingerprint(_digest(text), tuple(writer.callbacks), tuple(writer.observers))


class _Writer:
    """Writes programs as text without names, so that equal programs have equal texts."""

    def __init__(self, arrays: dict[int, str]) -> None:
        self.callbacks: list[Same] = []
        self.observers: list[Same] = []
        self._objects = self.callbacks  # those of the operation that is being written
        self._arrays = arrays  # constants, as text, by their ids
        self._written: dict[int, str] = {}  # by the ids of programs and contexts

    def write_program(self, program: Jaxpr, constants: Sequence[Any]) -> str:
        if id(program) not in self._written:  # it may be a part of another many times
            self._written[id(program)] = _digest(self._write_operations(program))
        return f"{self._written[id(program)]}({','.join(map(self._write_constant, constants))})"

    def _write_constant(self, array: Any) -> str:
        if id(array) not in self._arrays:
            self._arrays[id(array)] = _write_array(array)
        return self._arrays[id(array)]

    def _write_operations(self, program: Jaxpr) -> str:
        inputs = [*program.constvars, *program.invars]
        numbers: dict[Any, int] = {}

        def define(variables: Iterable[Any]) -> None:
            for variable in variables:
                numbers[variable] = len(numbers)

        def use(atoms: Iterable[Any]) -> str:
            return " ".join(
                _write_literal(atom) if isinstance(atom, Literal) else str(numbers[atom])
                for atom in atoms
            )

        define(inputs)
        lines = [" ".join(repr(variable.aval) for variable in inputs)]
        for equation in program.eqns:
            operands = use(equation.invars)
            lines.append(f"{equation.primitive.name}{self._write_parameters(equation)}({operands})")
            define(equation.outvars)
        return "\n".join([*lines, use(program.outvars)])

    def _write_parameters(self, equation: JaxprEqn) -> str:
        parameters = {k: v for k, v in equation.params.items() if k not in _NAMES}
        if equation.primitive.name in _WITH_RULES:
            parameters = {k: v for k, v in parameters.items() if isinstance(v, ClosedJaxpr)}
        is_observed = equation.primitive.name in _OBSERVED
        self._objects = self.observers if is_observed else self.callbacks
        context = equation.ctx  # settings made within the function, one object for many operations
        if id(context) not in self._written:
            self._written[id(context)] = repr(context)
        return f"{self._write(parameters)}{self._written[id(context)]}"

    def _write(self, value: Any) -> str:
        if value is None or type(value) in PLAIN:
            return repr(value)
        if isinstance(value, ClosedJaxpr):
            return self.write_program(value.jaxpr, value.consts)
        if isinstance(value, Jaxpr):
            return self.write_program(value, ())
        if isinstance(value, (tuple, list)):
            return f"({','.join(map(self._write, value))})"
        if isinstance(value, dict):
            return self._write(sorted((str(name), self._write(v)) for name, v in value.items()))
        if isinstance(value, (set, frozenset)):
            return self._write(sorted(map(self._write, value)))
        if isinstance(value, (np.bool_, np.integer)):  # such as axes
            return repr(value.item())
        if hasattr(value, "__array__") and not isinstance(value, np.generic):
            return _write_array(value)
        if isinstance(value, jax.sharding.Mesh):
            return f"{value!r}{value.devices.tolist()}"
        if isinstance(value, jax.sharding.NamedSharding):
            return self._write((value.mesh, value.spec, value.memory_kind))
        if isinstance(value, jax.tree_util.PyTreeDef):
            return ""  # containers do not compute
        if isinstance(value, types.FunctionType) and reads_package(value):
            return self._write((value.__qualname__, closure(value)))
        is_packaged = is_of_package(type(value).__module__)
        if dataclasses.is_dataclass(value) and is_packaged:
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return self._write((type(value).__name__, fields))
        text = repr(value)
        if (is_packaged or type(value).__module__ == "builtins") and " at 0x" not in text:
            return text
        self._objects.append(Same(value))
        return "callback"


_NAMES = ("name", "debug_info", "name_and_src_info")
_OBSERVED = ("debug_callback", "debug_print")
_WITH_RULES = ("custom_jvp_call", "custom_vjp_call")
"""Primitives with rules for derivatives, which are not taken of a finished program."""


def _write_literal(literal: Literal) -> str:
    return f"{literal.aval!r}{_write_array(np.asarray(literal.val))}"


def _write_array(array: Any) -> str:
    """Writes the type of an array, and its values, or a digest of many values."""
    devices = sorted(d.id for d in array.devices()) if isinstance(array, jax.Array) else ""
    kind = f"{array.dtype}{list(array.shape)}{devices}"
    if is_key(array):
        array = jax.random.key_data(array)
    values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return kind + (values.tobytes().hex() if values.size <= 32 else _digest(values))


def _digest(text: str | np.ndarray) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text.data).hexdigest()
