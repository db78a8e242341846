"""The identity of a program: two functions are the same if JAX traces them to the same program.

A loss, a network or an optimizer can read anything that Python can reach: an attribute, a global
variable, a helper in another module. So functions are not compared. They are traced, and the traced
programs are compared: whatever a function reads is in its program or among the program's constants.

`compile_once` reuses a compiled program if the same program is traced again. Tracing is skipped for
functions of jaxnet, optax and JAX that hold nothing but numbers, text and each other: `settled`
says why that is sound.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import sys
import types
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

_MOST_PROGRAMS = 16  # kept; the one that was used longest ago goes first

Made = TypeVar("Made")


# Traced programs.


class Same:
    """Equal only to the same object, which is kept alive."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value


class Fingerprint(NamedTuple):
    """What identifies a traced program.

    Attributes:
        digest: SHA-256 of the operations, their parameters, the types of the arguments, and the
            constants; the same in every process. Names and source positions do not count.
        callbacks: the Python objects in the program, such as the functions of `jax.pure_callback`.
            A program calls them while it runs, so each is compared by identity.
    """

    digest: str
    callbacks: tuple[Same, ...]


def trace(function: Callable[..., Any], *arguments: Any) -> jax.stages.Traced:
    """Traces a function as it is now.

    JAX keeps what it has traced of the functions that are given to `jax.jit`, `jax.lax.scan`,
    `jax.checkpoint` and others, and does not notice if what they read has changed. If the program
    has such parts, other than JAX's own, all of it is traced again.
    """
    traced = jax.jit(lambda *args: function(*args)).trace(*arguments)
    if not may_be_stale(traced):
        return traced
    with trace_anew():
        return jax.jit(lambda *args: function(*args)).trace(*arguments)


def may_be_stale(traced: jax.stages.Traced) -> bool:
    """Whether a program has a part that JAX may have traced of a user's function before."""
    return not all(map(_is_packaged, _inner_programs(traced.jaxpr.jaxpr)))


def trace_anew() -> contextlib.AbstractContextManager[None]:
    """A context in which nothing has been traced yet."""
    return _context(next(_contexts))


_context = jax.make_user_context(None)
_contexts = itertools.count()


def _inner_programs(program: Jaxpr) -> Iterator[Jaxpr]:
    for equation in program.eqns:
        for value in equation.params.values():
            for part in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(part, (ClosedJaxpr, Jaxpr)):
                    inner = part.jaxpr if isinstance(part, ClosedJaxpr) else part
                    yield inner
                    yield from _inner_programs(inner)


def _is_packaged(program: Jaxpr) -> bool:
    """Whether a program was traced from a function of JAX, optax or jaxnet."""
    _, _, place = program.debug_info.func_src_info.partition(" at ")
    return place.startswith(_FOLDERS)


_FOLDERS = tuple(
    os.path.join(os.path.dirname(file), "")
    for file in (jax.__file__, optax.__file__, os.path.dirname(__file__))
)


def shapes(function: Callable[..., Any], *arguments: Any) -> Any:
    """`jax.eval_shape`, of a function as it is now."""
    return trace(function, *arguments).out_info


def fingerprint(function: Callable[..., Any], *arguments: Any) -> Fingerprint | None:
    """The identity of the program that a function is traced to.

    None if the program is a part of one that is being traced, and reads values of that.

    >>> def scale(factor):
    ...     return lambda x: factor * x
    >>> fingerprint(scale(2.0), 1.0) == fingerprint(lambda y: 2.0 * y, 1.0)
    True
    >>> fingerprint(scale(2.0), 1.0) == fingerprint(scale(3.0), 1.0)
    False
    """
    leaves = jax.tree.leaves(arguments)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return None
    program = trace(function, *arguments).jaxpr
    if len(program.jaxpr.invars) > len(leaves):  # JAX makes them arguments
        return None
    return fingerprint_of(program.jaxpr, program.consts)


def fingerprint_of(program: Jaxpr, constants: Sequence[Any]) -> Fingerprint:
    """The identity of a traced program."""
    writer = _Writer()
    text = writer.program(program, constants)
    return Fingerprint(_digest(text), tuple(writer.callbacks))


class _Writer:
    """Writes a program down without names, so that equal programs are written equally."""

    def __init__(self) -> None:
        self.callbacks: list[Same] = []
        self._written: dict[int, str] = {}  # programs by their id

    def program(self, program: Jaxpr, constants: Sequence[Any]) -> str:
        if id(program) not in self._written:  # it may be a part of another many times
            self._written[id(program)] = _digest(self._operations(program))
        return f"{self._written[id(program)]}({','.join(map(_array, constants))})"

    def _operations(self, program: Jaxpr) -> str:
        inputs = [*program.constvars, *program.invars]
        numbers: dict[Any, int] = {}

        def define(variables: Iterable[Any]) -> None:
            for variable in variables:
                numbers[variable] = len(numbers)

        def use(atoms: Iterable[Any]) -> str:
            return " ".join(
                _literal(atom) if isinstance(atom, Literal) else str(numbers[atom])
                for atom in atoms
            )

        define(inputs)
        lines = [" ".join(repr(variable.aval) for variable in inputs)]
        for equation in program.eqns:
            inputs_of = use(equation.invars)
            lines.append(f"{equation.primitive.name}{self._parameters(equation)}({inputs_of})")
            define(equation.outvars)
        return "\n".join([*lines, use(program.outvars)])

    def _parameters(self, equation: JaxprEqn) -> str:
        parameters = {k: v for k, v in equation.params.items() if k not in _NAMES}
        if equation.primitive.name in _WITH_RULES:
            parameters = {k: v for k, v in parameters.items() if isinstance(v, ClosedJaxpr)}
        context = equation.ctx  # settings made within the function, one object for many operations
        if id(context) not in self._written:
            self._written[id(context)] = repr(context)
        return f"{self._value(parameters)}{self._written[id(context)]}"

    def _value(self, value: Any) -> str:
        if value is None or type(value) in _PLAIN:
            return repr(value)
        if isinstance(value, ClosedJaxpr):
            return self.program(value.jaxpr, value.consts)
        if isinstance(value, Jaxpr):
            return self.program(value, ())
        if isinstance(value, (tuple, list)):
            return f"({','.join(map(self._value, value))})"
        if isinstance(value, dict):
            return self._value(sorted((str(name), self._value(v)) for name, v in value.items()))
        if isinstance(value, (set, frozenset)):
            return self._value(sorted(map(self._value, value)))
        if isinstance(value, (np.bool_, np.integer)):  # such as axes
            return repr(value.item())
        if hasattr(value, "__array__") and not isinstance(value, np.generic):
            return _array(value)
        if isinstance(value, jax.sharding.Mesh):
            return f"{value!r}{value.devices.tolist()}"
        if isinstance(value, jax.sharding.NamedSharding):
            return self._value((value.mesh, value.spec, value.memory_kind))
        if isinstance(value, jax.tree_util.PyTreeDef):
            return ""  # containers do not compute
        if isinstance(value, types.FunctionType) and _reads_package(value):
            return self._value((value.__qualname__, contents(value)))
        is_packaged = _is_of_package(type(value).__module__)
        if dataclasses.is_dataclass(value) and is_packaged:
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return self._value((type(value).__name__, fields))
        text = repr(value)
        if (is_packaged or type(value).__module__ == "builtins") and " at 0x" not in text:
            return text
        self.callbacks.append(Same(value))
        return "callback"


_PLAIN = (bool, int, float, complex, str, bytes)
_NAMES = ("name", "debug_info", "name_and_src_info")
_WITH_RULES = ("custom_jvp_call", "custom_vjp_call")  # of derivatives, which are not taken later


def _literal(literal: Literal) -> str:
    return f"{literal.aval!r}{_array(np.asarray(literal.val))}"


def _array(array: Any) -> str:
    """The type of an array, and its values as text if they are few."""
    devices = sorted(d.id for d in array.devices()) if isinstance(array, jax.Array) else ""
    kind = f"{array.dtype}{list(array.shape)}{devices}"
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return kind + (values.tobytes().hex() if values.size <= 32 else _digest(values))


def _digest(text: str | np.ndarray) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text.data).hexdigest()


# Compiled programs.


def compile_once(
    function: Callable[..., Any],
    static: tuple[Any, ...],
    arguments: tuple[Any, ...],
    *,
    identity: Hashable = None,
    keep_unused: bool = False,
) -> Callable[..., Any]:
    """Compiles `function(*static, *arguments)` for arguments of these types, or finds it compiled.

    It is `jax.jit` with static arguments that may hold the user's functions. `jax.jit` compares
    those by `==`, so it does not notice an attribute or a global variable that has changed.

    Args:
        function: a function of jaxnet, which may call the functions in `static`.
        static: whatever is not an array.
        arguments: trees of arrays.
        identity: what `identify` returned for a function that calls those in `static` as `function`
            does; by default it is found for `function`.
        keep_unused: as for `jax.jit`.

    Returns:
        A function of `arguments`.
    """
    bound = functools.partial(function, *static)
    leaves, structure = jax.tree.flatten(arguments)
    kinds = tuple((jnp.shape(a), jnp.result_type(a), _is_weakly_typed(a)) for a in leaves)
    call = function, structure, kinds, keep_unused, settings()
    if identity is None:
        identity = identify(function, static, arguments)
    if identity is None:
        return jax.jit(bound, keep_unused=keep_unused)
    if not isinstance(identity, Fingerprint):
        return reuse((call, identity), lambda: jax.jit(bound, keep_unused=keep_unused))

    def compile_program() -> Callable[..., Any]:
        # Not the function itself, which may be traced to something else when JAX traces it again.
        program = trace(bound, *arguments)
        flat = jax.jit(jaxpr_as_fun(program.jaxpr), keep_unused=keep_unused)
        results = jax.tree.structure(program.out_info)
        return lambda *args: jax.tree.unflatten(results, flat(*jax.tree.leaves(args)))

    return reuse((call, identity, _settled_parts(static)), compile_program)


def identify(
    function: Callable[..., Any], static: tuple[Any, ...], arguments: tuple[Any, ...]
) -> Hashable:
    """A key for what `function(*static, *arguments)` computes, if that can be told.

    It is that of `settled`, or else the fingerprint of the program.
    """
    key = settled(static)
    return fingerprint(functools.partial(function, *static), *arguments) if key is None else key


def reuse(key: Hashable, make: Callable[[], Made]) -> Made:
    """What was made for an equal key, or what is made now."""
    made: Made = _made(_Key(key, make))
    return made


def clear_caches() -> None:
    """Frees the compiled programs that jaxnet keeps, and the constants that they hold.

    jaxnet keeps the last 16, so that a call with the same functions and shapes compiles nothing.
    JAX has caches of its own, which `jax.clear_caches` frees.

    >>> clear_caches()
    """
    _made.cache_clear()


class _Key:
    """What a program is found by, and how it is made where it is not found."""

    def __init__(self, key: Hashable, make: Callable[[], Any]) -> None:
        self.key, self.make = key, make

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.key == other.key


@functools.lru_cache(maxsize=_MOST_PROGRAMS)
def _made(key: _Key) -> Any:
    made = key.make()
    del key.make  # which holds the arguments
    return made


def settings() -> str:
    """All of JAX's settings."""
    return sys.intern(repr(jax.config.values))


def _is_weakly_typed(value: Any) -> bool:
    return isinstance(value, (int, float, complex)) or getattr(value, "weak_type", False)


# Functions that cannot have changed.


class _Unsettled(Exception):
    """A value that may have changed, or may be about to."""


def settled(value: Any) -> Hashable | None:
    """A key for a value that is made of numbers, text and functions of jaxnet, optax and JAX.

    None for any other value.

    Values with equal keys behave equally, so what was traced of one is the trace of the other:

    - A number, a string or a dtype is itself. A tuple, list or dict is what it contains now.
    - A function is its code, and what that can read: its closure and its defaults, which are
      looked into here, its arguments, which are a part of the traced program, JAX's settings,
      which are in the key of every compiled program, and the global variables of its module. The
      modules of jaxnet, optax and JAX assign theirs once, when they are imported.
    - Nothing else is settled: no function of the user's, no object with attributes, no array, and
      nothing that holds one of them.

    Whether a function is of one of these packages is told by the module that its code reads from,
    which a decorator such as `functools.wraps` does not change.
    """
    try:
        return _settled(value, ())
    except _Unsettled:
        return None


def _settled_parts(value: Any) -> Hashable:
    """The keys of those parts of a tuple that are settled."""
    key = settled(value)
    return tuple(map(_settled_parts, value)) if key is None and isinstance(value, tuple) else key


def _settled(value: Any, within: tuple[int, ...]) -> Hashable:
    """The key; `within` holds the functions that are being looked into."""

    def each(*parts: Any) -> Hashable:
        return tuple(_settled(part, (*within, id(value))) for part in parts)

    if id(value) in within:
        raise _Unsettled
    if value is None or type(value) in _PLAIN:
        return type(value), repr(value)
    if isinstance(value, np.dtype):
        return value
    if type(value) is dict:
        return dict, each(*value, *value.values())
    if type(value) in (tuple, list) or _is_packaged_tuple(value):
        return type(value), each(*value)
    if type(value) is functools.partial:
        return functools.partial, each(value.func, value.args, value.keywords)
    if type(value) is types.FunctionType and _reads_package(value):
        held = each(contents(value), value.__defaults__, value.__kwdefaults__)
        return value.__code__, value.__globals__["__name__"], held
    if _is_global_of_package(value):  # such as jax.nn.relu, which jax.jit made
        return Same(value)
    if type(value) in (jax.custom_jvp, jax.custom_vjp):
        own = {name: part for name, part in vars(value).items() if not name.startswith("__")}
        return type(value), each(own)
    raise _Unsettled


_PACKAGES = ("jax", "jaxlib", "jaxnet", "ml_dtypes", "numpy", "optax")


def _is_of_package(module: Any) -> bool:
    return str(module).partition(".")[0] in _PACKAGES


def _is_packaged_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and _is_global_of_package(type(value))


def _is_global_of_package(value: Any) -> bool:
    """Whether a module of one of the packages has that object under its own name."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__name__", None)
    return (
        _is_of_package(module) and getattr(sys.modules.get(str(module)), str(name), None) is value
    )


def _reads_package(function: types.FunctionType) -> bool:
    """Whether the global variables of a function are those of a module of one of the packages."""
    name = function.__globals__.get("__name__")
    module = sys.modules.get(str(name)) if _is_of_package(name) else None
    return module is not None and vars(module) is function.__globals__


def contents(function: types.FunctionType) -> tuple[Any, ...]:
    """What the closure of a function holds."""
    return tuple(map(_content, function.__closure__ or ()))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has not been assigned yet
        return _UNASSIGNED


_UNASSIGNED = object()
