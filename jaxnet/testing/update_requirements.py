"""Requirements on the updates of an optimizer.

They have to be the same under JAX's transformations, have the parameters' types and be finite.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from jaxnet.testing.candidates import LEARNING_RATE, as_optimizer, describe_error
from jaxnet.testing.subject import (
    STEPS,
    Advice,
    Failed,
    Function,
    NotApplicable,
    Subject,
    check_equal,
    check_tree,
    copy_leaves,
    is_bitwise_equal,
    is_finite,
    make_tree,
    run_steps,
    stack,
)


def require_call(subject: Subject) -> str:
    """`update` accepts gradients, state and parameters and returns updates like the parameters."""
    updates, _ = subject.update(make_tree(1), subject.init(make_tree(0)), make_tree(0))
    check_tree("updates", updates, "the parameters", make_tree(0))
    return "updates match the parameters"


def require_purity(subject: Subject) -> str:
    """The same arguments give the same bits and are not modified."""
    state = subject.init(make_tree(0))
    before = copy_leaves(state)
    first, second = (subject.update(make_tree(1), state, make_tree(0)) for _ in range(2))
    if not is_bitwise_equal(before, state):
        raise Failed("update modifies the state passed to it")
    if not is_bitwise_equal(first, second):
        raise Failed("a second call returns something else: update depends on hidden state")
    return "two calls give the same bits, arguments unchanged"


def require_compilations(subject: Subject) -> str:
    """The second step reuses the compiled program of the first."""
    traces = 0

    @jax.jit
    def update(*arguments: Any) -> Any:
        nonlocal traces
        traces += 1
        return subject.update(*arguments)

    run_steps(update, subject.init(make_tree(0)))
    if traces > 1:
        raise Failed(f"{traces} compilations in {STEPS} steps instead of one")
    return f"one compilation in {STEPS} steps"


def require_control_flow(subject: Subject) -> str:
    """Updates agree up to rounding if computed eagerly, by jit, in a scan and in a cond."""
    with jax.enable_x64(True):
        state, parameters = subject.init(make_tree(0, float)), make_tree(0, float)

        def advance(state: Any, gradients: PyTree) -> Any:
            updates, state = subject.update(gradients, state, parameters)
            return state, updates

        def skip(state: Any, gradients: PyTree) -> Any:
            return state, jax.tree.map(jnp.zeros_like, gradients)

        def choose(state: Any, gradients: PyTree) -> Any:
            finite = jnp.isfinite(gradients["scalar"])
            return jax.lax.cond(finite, advance, skip, state, gradients)

        gradients = stack([make_tree(step, float) for step in range(1, STEPS + 1)])
        expected = run_steps(jax.jit(subject.update), state, float)
        check_equal(run_steps(subject.update, state, float), expected, "eager differs from jit")
        for name, step in (("scan", advance), ("cond", choose)):
            received = jax.lax.scan(step, state, gradients)[1]
            check_equal(received, expected, f"{name} differs from jit")
    return f"{STEPS} steps in float64 agree up to rounding"


def require_vmap_over_rates(subject: Subject) -> str:
    """`vmap` over learning rates gives the results of a loop over them."""
    if subject.factory is None:
        raise NotApplicable("needs a function of the learning rate")
    factory = subject.factory
    rates = [0.001, 0.01, 0.1]

    def run(rate: Any) -> PyTree:
        init, update = factory(rate)
        return _run_two_steps(init, update, make_tree(1, float))

    with jax.enable_x64(True):
        expected = stack([run(rate) for rate in rates])
        received = jax.jit(jax.vmap(run))(jnp.array(rates))
        check_equal(received, expected, "vmap differs from a loop")
    return f"{len(rates)} learning rates agree with a loop"


def require_vmap_over_runs(subject: Subject) -> str:
    """`vmap` over runs gives the results of a loop over them."""

    def run(gradients: PyTree) -> PyTree:
        return _run_two_steps(subject.init, subject.update, gradients)

    with jax.enable_x64(True):
        several = [make_tree(seed, float) for seed in range(3)]
        expected = stack([jax.jit(run)(gradients) for gradients in several])
        received = jax.jit(jax.vmap(run))(stack(several))
        check_equal(received, expected, "vmap differs from a loop")
    return f"{len(several)} runs agree with a loop"


def _run_two_steps(init: Function, update: Function, gradients: PyTree) -> PyTree:
    parameters = make_tree(0, float)
    first, state = update(gradients, init(parameters), parameters)
    return first, update(gradients, state, parameters)[0]


def require_eval_shape(subject: Subject) -> str:
    """`jax.eval_shape` gives the types of the updates without computing them."""
    state = jax.eval_shape(subject.init, make_tree(0))
    updates, _ = jax.eval_shape(subject.update, make_tree(1), state, make_tree(0))
    check_tree("updates", updates, "the parameters", make_tree(0))
    return "abstract updates match the parameters"


def require_dtypes(subject: Subject) -> str:
    """Updates have the parameters' dtype in every precision, and the state keeps its dtypes."""
    dtypes = ["bfloat16", "float16", "float32", "float64"]
    for dtype in dtypes:
        with jax.enable_x64(dtype == "float64"):
            parameters = make_tree(0, dtype)
            state = subject.init(parameters)
            updates, after = jax.eval_shape(subject.update, parameters, state, parameters)
            check_tree(f"states for {dtype} parameters", after, "the one before", state)
            others = {str(leaf.dtype) for leaf in jax.tree.leaves(updates)} - {dtype}
            if others:
                raise Failed(f"updates of {dtype} parameters are {', '.join(sorted(others))}")
    return ", ".join(dtypes)


def require_finiteness(subject: Subject) -> str:
    """Updates and state are finite for zero gradients and for all that float32 can square."""
    step = jax.jit(subject.update)
    for size in (0.0, 1e-18, 1e18):
        state = subject.init(make_tree(0))
        for seed in range(1, STEPS):
            gradients = jax.tree.map(lambda g, size=size: g * size, make_tree(seed))
            updates, state = step(gradients, state, make_tree(0))
            for name, tree in (("an update", updates), ("the state", state)):
                if not is_finite(tree):
                    raise Failed(f"{name} is non-finite for gradients of {size:g}")
    return "for gradients of 0, 1e-18 and 1e18"


class _Pair(NamedTuple):
    first: Any
    second: Any


def require_pytrees(subject: Subject) -> str:
    """Parameters may be any pytree, including one without leaves."""
    one, two = jnp.ones(1), jnp.ones((2, 2))
    trees = {
        "empty": {},
        "one array": two,
        "scalar": jnp.ones(()),
        "None": {"a": None, "b": one},
        "nested": {"a": {"b": [one, (two,)]}, "c": (one,)},
        "named tuples": _Pair(one, _Pair(two, None)),
    }
    for name, tree in trees.items():
        try:
            updates, _ = jax.eval_shape(subject.update, tree, subject.init(tree), tree)
            check_tree("updates", updates, "the parameters", tree)
        except Exception as error:
            raise Failed(f"{name}: {describe_error(error)}") from error
    return ", ".join(trees)


def require_splitting(subject: Subject) -> str:
    """Updates do not depend on which elements share a leaf, nor on the order of the leaves."""

    def split(tree: PyTree) -> PyTree:
        matrix, vector = tree["matrix"], tree["vector"]
        return vector[2:], tree["scalar"], vector[:2], matrix[1:], matrix[:1]

    def run(change: Callable[[PyTree], PyTree]) -> PyTree:
        parameters = change(make_tree(0, float))
        state = subject.init(parameters)
        for seed in (1, 2):
            updates, state = subject.update(change(make_tree(seed, float)), state, parameters)
        return updates

    with jax.enable_x64(True):
        try:
            whole = split(run(lambda tree: tree))
            check_equal(run(split), whole, "splitting leaves changes updates")
        except Failed as failure:
            if subject.per_element:
                raise
            raise NotApplicable(f"not claimed; {failure}") from failure
    return "splitting and reordering leaves changes nothing"


def require_descent(subject: Subject) -> str:
    """A hundred steps decrease a well-conditioned quadratic."""
    centre, start = make_tree(1), make_tree(0)

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


def require_mask(subject: Subject) -> str:
    """Within `optax.masked`, updates of masked leaves are the gradients."""
    mask = {"matrix": True, "scalar": False, "vector": True}
    masked = optax.masked(optax.GradientTransformation(subject.init, subject.update), mask)
    gradients, parameters = make_tree(1), make_tree(0)
    updates, _ = masked.update(gradients, masked.init(parameters), parameters)
    check_tree("updates", updates, "the parameters", parameters)
    if not is_bitwise_equal(updates["scalar"], gradients["scalar"]):
        raise Failed("a masked leaf changes")
    return "one of three leaves masked"


def require_keyword(subject: Subject) -> str:
    """`update` accepts the parameters by optax's name, `params`."""
    advice = "optax calls its third argument `params`"
    if not _gives_same_bits(subject, advice, params=make_tree(0)):
        raise Failed("parameters by keyword give other updates")
    return "the same bits as by position"


def require_extra_arguments(subject: Subject) -> str:
    """`update` ignores extra arguments, which others in a chain need."""
    advice = "`optax.with_extra_args_support` adds them"
    if not _gives_same_bits(subject, advice, make_tree(0), value=jnp.ones(())):
        raise NotApplicable("the updates depend on `value`")
    return "the same bits with and without `value`"


def _gives_same_bits(subject: Subject, advice: str, *arguments: Any, **keywords: Any) -> bool:
    """Whether another form of calling `update` gives its bits; raises advice if it is refused."""
    state = subject.init(make_tree(0))
    expected = subject.update(make_tree(1), state, make_tree(0))
    try:
        received = subject.update(make_tree(1), state, *arguments, **keywords)
    except TypeError as error:
        raise Advice(f"{advice}; {describe_error(error)}") from error
    return is_bitwise_equal(expected, received)


def require_schedule(subject: Subject) -> str:
    """A constant schedule gives the updates of the number."""
    if subject.factory is None:
        raise NotApplicable("needs a function of the learning rate")
    factory = subject.factory

    def run(rate: Any) -> PyTree:
        init, update = as_optimizer("optimizer", factory(rate))
        return _run_two_steps(init, update, make_tree(1, float))

    with jax.enable_x64(True):
        expected = run(LEARNING_RATE)
        try:
            received = run(lambda step: LEARNING_RATE)
        except Exception as error:
            raise Advice(f"the rate cannot be a schedule; {describe_error(error)}") from error
        check_equal(received, expected, "a constant schedule differs from the number")
    return "a constant schedule agrees with the number"
