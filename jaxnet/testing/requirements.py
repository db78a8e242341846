"""The properties that every optimizer must have, each as a function that tries it.

It returns what it saw, in a few words. It raises `Failed` where the property does not hold and
`NotAsked` where the question does not arise, both with the words for it; what the optimizer itself
raises is a failure too. All are tried on one small tree: a matrix, a scalar and a vector.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from jaxnet.core import checks, dtypes, tracing, trees
from jaxnet.testing.lockstep import AGREEMENT, units_apart

Function: TypeAlias = Callable[..., Any]


class Subject(NamedTuple):
    """The optimizer, how to make it from a learning rate if that is known, and what it claims."""

    init: Function
    update: Function
    make: Callable[[Any], optax.GradientTransformation] | None
    per_element: bool


def untraced(subject: Subject) -> contextlib.AbstractContextManager[None]:
    """A context in which JAX has traced no part of the optimizer before."""
    try:
        step = jax.jit(lambda p: subject.update(p, subject.init(p), p)).trace(_tree(0))
    except Exception:  # which is seen again where it counts
        return contextlib.nullcontext()
    return tracing.trace_anew() if tracing.may_be_stale(step) else contextlib.nullcontext()


class Failed(Exception):
    """The property does not hold."""


class NotAsked(Exception):
    """The question does not arise."""


def runs(subject: Subject) -> str:
    """`update` takes gradients, state and parameters, and gives updates like the parameters."""
    updates, _ = subject.update(_tree(1), subject.init(_tree(0)), _tree(0))
    _check_tree("updates", updates, "the parameters", _tree(0))
    return "updates are like the parameters"


def keeps_type(subject: Subject) -> str:
    """The state's structure, shapes, dtypes and weak types are the same after a step."""
    before = subject.init(_tree(0))
    after = jax.jit(subject.update)(_tree(1), before, _tree(0))[1]
    structures = [str(jax.tree.structure(state)) for state in (before, after)]
    if structures[0] != structures[1]:
        raise Failed(f"{structures[0]} becomes {structures[1]}")
    news = jax.tree.leaves(after)
    for (path, old), new in zip(trees.named_leaves(before).items(), news, strict=True):
        words = [_type(leaf) for leaf in (old, new)]
        if words[0] != words[1]:
            raise Failed(f"{path!r} is {words[0]} at first and {words[1]} after a step")
    return f"shapes, dtypes and weak types of {len(news)} leaves"


def compiled_once(subject: Subject) -> str:
    """The second step finds the program of the first."""
    traces = 0

    @jax.jit
    def update(*arguments: Any) -> Any:
        nonlocal traces
        traces += 1
        return subject.update(*arguments)

    _steps(update, subject.init(_tree(0)))
    if traces > 1:
        raise Failed(f"{traces} compilations in {_STEPS} steps, in place of one")
    return f"one compilation in {_STEPS} steps"


def pure(subject: Subject) -> str:
    """The same arguments give the same bits, and are left as they were."""
    state = subject.init(_tree(0))
    before = _numbers(state)
    first, second = (subject.update(_tree(1), state, _tree(0)) for _ in range(2))
    if not _same_bits(before, state):
        raise Failed("update changes the state that it is given")
    if not _same_bits(first, second):
        raise Failed("called again, update gives something else: it remembers outside the state")
    return "the same bits when called again, arguments untouched"


def ways_agree(subject: Subject) -> str:
    """Eager, jitted, scanned and in a branch of `cond`, the updates are equal but for rounding."""
    with jax.enable_x64(True):
        state, parameters = subject.init(_tree(0, float)), _tree(0, float)

        def advance(state: Any, gradients: PyTree) -> Any:
            updates, state = subject.update(gradients, state, parameters)
            return state, updates

        def rest(state: Any, gradients: PyTree) -> Any:
            return state, jax.tree.map(jnp.zeros_like, gradients)

        def choose(state: Any, gradients: PyTree) -> Any:
            known = jnp.isfinite(gradients["scalar"])
            return jax.lax.cond(known, advance, rest, state, gradients)

        gradients = _stacked([_tree(step, float) for step in range(1, _STEPS + 1)])
        expected = _steps(jax.jit(subject.update), state, float)
        _check_equal(_steps(subject.update, state, float), expected, "eager differs from jit")
        for name, way in (("scan", advance), ("cond", choose)):
            received = jax.lax.scan(way, state, gradients)[1]
            _check_equal(received, expected, f"{name} differs from jit")
    return f"{_STEPS} steps in float64, equal but for rounding"


def vmap_over_rates(subject: Subject) -> str:
    """A vector of learning rates gives what a loop over them gives."""
    if subject.make is None:
        raise NotAsked("needs a function from a rate to the optimizer")
    make = subject.make
    rates = [0.001, 0.01, 0.1]

    def run(rate: Any) -> PyTree:
        init, update = make(rate)
        return _two_steps(init, update, _tree(1, float))

    with jax.enable_x64(True):
        one_by_one = _stacked([run(rate) for rate in rates])
        at_once = jax.jit(jax.vmap(run))(jnp.array(rates))
        _check_equal(at_once, one_by_one, "vmap differs from a loop")
    return f"{len(rates)} rates, equal to a loop over them"


def vmap_over_runs(subject: Subject) -> str:
    """Several runs at once give what they give one by one."""

    def run(gradients: PyTree) -> PyTree:
        return _two_steps(subject.init, subject.update, gradients)

    with jax.enable_x64(True):
        several = [_tree(seed, float) for seed in range(3)]
        one_by_one = _stacked([jax.jit(run)(gradients) for gradients in several])
        at_once = jax.jit(jax.vmap(run))(_stacked(several))
        _check_equal(at_once, one_by_one, "vmap differs from a loop")
    return f"{len(several)} runs, equal to a loop over them"


def abstract(subject: Subject) -> str:
    """`eval_shape` knows the updates without computing them."""
    state = jax.eval_shape(subject.init, _tree(0))
    updates, _ = jax.eval_shape(subject.update, _tree(1), state, _tree(0))
    _check_tree("updates", updates, "the parameters", _tree(0))
    return "eval_shape knows the updates"


def keeps_dtype(subject: Subject) -> str:
    """Updates have the parameters' dtype in every precision."""
    dtypes = ["bfloat16", "float16", "float32", "float64"]
    for dtype in dtypes:
        with jax.enable_x64(dtype == "float64"):
            parameters = _tree(0, dtype)
            state = subject.init(parameters)
            updates, _ = jax.eval_shape(subject.update, parameters, state, parameters)
            others = {str(leaf.dtype) for leaf in jax.tree.leaves(updates)} - {dtype}
            if others:
                raise Failed(f"updates of {dtype} parameters are {', '.join(sorted(others))}")
    return ", ".join(dtypes)


def finite(subject: Subject) -> str:
    """Updates and state stay finite at zero gradients, and at any that float32 can square."""
    step = jax.jit(subject.update)
    for size in (0.0, 1e-18, 1e18):
        state = subject.init(_tree(0))
        for seed in range(1, _STEPS):
            gradients = jax.tree.map(lambda g, size=size: g * size, _tree(seed))
            updates, state = step(gradients, state, _tree(0))
            for what, tree in (("an update", updates), ("the state", state)):
                if not _is_finite(tree):
                    raise Failed(f"{what} is not finite at gradients of {size:g}")
    return "at gradients of 0, 1e-18 and 1e18"


def any_tree(subject: Subject) -> str:
    """Parameters may be any tree, also one without leaves."""
    one, two = jnp.ones(1), jnp.ones((2, 2))
    trees = {
        "empty": {},
        "one array": two,
        "scalar": jnp.ones(()),
        "None leaves": {"a": None, "b": one},
        "nested": {"a": {"b": [one, (two,)]}, "c": (one,)},
        "named tuples": _Pair(one, _Pair(two, None)),
    }
    for name, tree in trees.items():
        try:
            updates, _ = jax.eval_shape(subject.update, tree, subject.init(tree), tree)
            _check_tree("updates", updates, "the parameters", tree)
        except Exception as error:
            raise Failed(f"{name}: {first_line(error)}") from error
    return ", ".join(trees)


def any_split(subject: Subject) -> str:
    """It does not matter which elements share a leaf, nor in which order the leaves come."""

    def split(tree: PyTree) -> PyTree:
        matrix, vector = tree["matrix"], tree["vector"]
        return vector[2:], tree["scalar"], vector[:2], matrix[1:], matrix[:1]

    def run(change: Callable[[PyTree], PyTree]) -> PyTree:
        parameters = change(_tree(0, float))
        state = subject.init(parameters)
        for seed in (1, 2):
            updates, state = subject.update(change(_tree(seed, float)), state, parameters)
        return updates

    with jax.enable_x64(True):
        try:
            whole = split(run(lambda tree: tree))
            _check_equal(run(split), whole, "splitting leaves changes updates")
        except Failed as seen:
            if subject.per_element:
                raise
            raise NotAsked(f"not claimed; {seen}") from seen
    return "the same, however the elements are split"


def donatable(subject: Subject) -> str:
    """A step may overwrite the state that it is given: no two of its leaves are one buffer."""
    state, another = subject.init(_tree(0)), subject.init(_tree(0))
    if len(set(_buffers(state))) < len(_buffers(state)):
        raise Failed("two leaves of the state that init gives are one buffer")
    if set(_buffers(state)) & set(_buffers(another)):
        raise Failed("init gives an array that it keeps: donated, it is lost to the next init")
    kept = jax.jit(subject.update)(_tree(1), state, _tree(0))
    donated = jax.jit(subject.update, donate_argnums=1)(_tree(1), state, _tree(0))
    if not _same_bits(kept, donated):
        raise Failed("the results differ when the state is donated")
    return "the same bits with and without"


def follows_sharding(subject: Subject) -> str:
    """A moment lies on the devices as its parameter does, before and after a step."""
    devices = jax.devices()[:2]
    if len(devices) < 2:
        raise NotAsked("needs two devices")
    mesh = jax.sharding.Mesh(np.array(devices), ("halves",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("halves"))
    parameters, gradients = (jax.device_put(_tree(seed)["matrix"], rows) for seed in (0, 1))
    state = subject.init(parameters)
    updates, after = jax.jit(subject.update)(gradients, state, parameters)
    for when, tree in (("init", state), ("a step", (updates, after))):
        for path, leaf in trees.named_leaves(tree).items():
            like = jnp.shape(leaf) == parameters.shape
            if like and not leaf.sharding.is_equivalent_to(rows, leaf.ndim):
                raise Failed(f"after {when}, {path!r} is not sharded as its parameter is")
    return "two devices, after init and after a step"


def storable(subject: Subject) -> str:
    """Written to bytes and read again, the state goes on with the same bits."""
    state = _after_steps(subject, 2)

    def stored(leaf: Any) -> Any:
        if dtypes.is_key(leaf):
            return jax.random.wrap_key_data(stored(jax.random.key_data(leaf)))
        array = np.asarray(leaf)
        return jnp.asarray(np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape))

    step = jax.jit(subject.update)
    kept = step(_tree(3), state, _tree(0))
    read = step(_tree(3), jax.tree.map(stored, state), _tree(0))
    if not _same_bits(kept, read):
        raise Failed("a step from the stored state differs")
    return "the next step has the same bits"


def counts_far(subject: Subject) -> str:
    """A count of steps is an integer and does not overflow."""
    state = _after_steps(subject, _COUNTED)
    leaves, structure = jax.tree.flatten(state)
    paths = list(trees.named_leaves(state))
    counts = [i for i, leaf in enumerate(leaves) if _is_number(leaf) and leaf == _COUNTED]
    for i in counts:
        dtype = jnp.result_type(leaves[i])
        if jnp.issubdtype(dtype, jnp.floating):
            last = 2 ** (jnp.finfo(dtype).nmant + 1)
            raise Failed(f"{paths[i]!r} counts steps in {dtype}, which cannot count past {last}")
        largest = jnp.asarray(jnp.iinfo(dtype).max, dtype)
        full = jax.tree.unflatten(structure, [*leaves[:i], largest, *leaves[i + 1 :]])
        updates, after = jax.jit(subject.update)(_tree(1), full, _tree(0))
        count = jax.tree.leaves(after)[i]
        if count < 0 or count == 0:
            raise Failed(f"{paths[i]!r} goes from {largest} to {count}")
        if not _is_finite(updates):
            raise Failed(f"updates are not finite when {paths[i]!r} is {largest}")
    named = ", ".join(repr(paths[i]) for i in counts)
    return f"{named} of {largest} and one more" if counts else "no count of steps in the state"


def descends(subject: Subject) -> str:
    """A hundred steps bring it nearer to the centre of a round bowl."""
    centre, start = _tree(1), _tree(0)

    def height(parameters: PyTree) -> Any:
        squares = jax.tree.map(lambda p, c: jnp.sum((p - c) ** 2) / 2, parameters, centre)
        return sum(jax.tree.leaves(squares))

    def step(carry: Any, _: None) -> Any:
        parameters, state = carry
        updates, state = subject.update(jax.grad(height)(parameters), state, parameters)
        return (optax.apply_updates(parameters, updates), state), None

    (end, _), _ = jax.lax.scan(step, (start, subject.init(start)), length=100)
    before, after = float(height(start)), float(height(end))
    if not after < before:
        raise Failed(f"from {before:.4g} to {after:.4g} in 100 steps on a quadratic")
    return f"from {before:.4g} to {after:.4g} in 100 steps on a quadratic"


PROPERTIES = {
    "keeps its state's type": keeps_type,
    "is compiled once": compiled_once,
    "is pure": pure,
    "eager, jit, scan and cond agree": ways_agree,
    "vmap over learning rates": vmap_over_rates,
    "vmap over runs": vmap_over_runs,
    "takes abstract arrays": abstract,
    "keeps the parameters' dtype": keeps_dtype,
    "stays finite": finite,
    "takes any tree": any_tree,
    "takes any split into leaves": any_split,
    "state can be donated": donatable,
    "state follows the sharding": follows_sharding,
    "state can be stored": storable,
    "counts far": counts_far,
    "descends": descends,
}

_STEPS = 4
_COUNTED = 5


class _Pair(NamedTuple):
    first: Any
    second: Any


_check_tree = checks.door(trees.same_tree, "update")


def first_line(error: Exception) -> str:
    """What was raised, in one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _tree(seed: int, dtype: Any = np.float32) -> PyTree:
    random = np.random.default_rng(seed)
    shapes = {"matrix": (4, 3), "scalar": (), "vector": (4,)}
    return {name: jnp.asarray(random.standard_normal(s), dtype) for name, s in shapes.items()}


def _stacked(trees: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _steps(update: Function, state: Any, dtype: Any = np.float32) -> PyTree:
    """The updates of a few steps, stacked."""
    updates = []
    for step in range(1, _STEPS + 1):
        one, state = update(_tree(step, dtype), state, _tree(0, dtype))
        updates.append(one)
    return _stacked(updates)


def _two_steps(init: Function, update: Function, gradients: PyTree) -> PyTree:
    parameters = _tree(0, float)
    first, state = update(gradients, init(parameters), parameters)
    return first, update(gradients, state, parameters)[0]


def _after_steps(subject: Subject, count: int) -> Any:
    state, step = subject.init(_tree(0)), jax.jit(subject.update)
    for seed in range(1, count + 1):
        _, state = step(_tree(seed), state, _tree(0))
    return state


def _numbers(tree: PyTree) -> list[np.ndarray]:
    """The leaves as NumPy arrays that nothing else holds; of keys their bits."""

    def numbers(leaf: Any) -> np.ndarray:
        return np.array(jax.random.key_data(leaf) if dtypes.is_key(leaf) else leaf)

    return [numbers(leaf) for leaf in jax.tree.leaves(tree)]


def _buffers(tree: PyTree) -> list[int]:
    """Where the arrays of a tree lie in memory."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    plain = [jax.random.key_data(leaf) if dtypes.is_key(leaf) else leaf for leaf in leaves]
    return [array.unsafe_buffer_pointer() for array in plain]


def _same_bits(a: PyTree, b: PyTree) -> bool:
    pairs = zip(_numbers(a), _numbers(b), strict=True)
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


def _is_finite(tree: PyTree) -> bool:
    floats = [n for n in _numbers(tree) if jnp.issubdtype(n.dtype, jnp.floating)]
    return all(bool(np.isfinite(n.astype(float)).all()) for n in floats)


def _is_number(leaf: Any) -> bool:
    dtype = jnp.result_type(leaf)
    kinds = (jnp.integer, jnp.floating)
    return jnp.ndim(leaf) == 0 and any(jnp.issubdtype(dtype, kind) for kind in kinds)


def _type(leaf: Any) -> str:
    kind = jax.typeof(leaf)
    return f"{'weakly typed ' if kind.weak_type else ''}{kind.dtype}{list(kind.shape)}"


def _check_equal(received: PyTree, expected: PyTree, difference: str) -> None:
    """Two trees of float64 are equal but for rounding."""
    pairs = zip(_numbers(received), _numbers(expected), strict=True)
    apart = max(float(units_apart(a, b, "float64").max()) for a, b in pairs)
    if not apart <= AGREEMENT:
        raise Failed(f"{difference}, by up to {apart:.2g} units in the last place")
