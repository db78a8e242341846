"""Outlines: what a value was built from, and what differs, in words."""

import functools
import json
import types

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import io_callback

import jaxnet
from jaxnet.core import programs
from jaxnet.core.outlines import difference, outline, outline_program

RATE = 0.1


class Doubler:
    def __init__(self, factor):
        self.factor = factor

    def times(self, x):
        return self.factor * x


def scale(factor, power=1):
    def inner(x, shift=0.0):
        return factor * x**power + shift

    return inner


PAIRS = {
    "it/update/learning_rate was 0.01 and is 0.5": (jaxnet.adam(0.01), jaxnet.adam(0.5)),
    "it/update/b1 was 0.9 and is 0.8": (optax.scale_by_adam(), optax.scale_by_adam(b1=0.8)),
    "transition_steps was 10 and is 11": (
        jaxnet.sgd(optax.linear_schedule(1.0, 0.0, 10)),
        jaxnet.sgd(optax.linear_schedule(1.0, 0.0, 11)),
    ),
    "max_norm was 1.0 and is 2.0": (
        optax.chain(optax.clip_by_global_norm(1.0), jaxnet.sgd(0.1)),
        optax.chain(optax.clip_by_global_norm(2.0), jaxnet.sgd(0.1)),
    ),
    "init/out_features was 8 and is 9": (
        jaxnet.mlp([4, 8, 3]).layers[0],
        jaxnet.mlp([4, 9, 3]).layers[0],
    ),
    "it/factor was 2.0 and is 2": (scale(2.0), scale(2)),
    "it/power was 1 and is 2": (scale(2.0), scale(2.0, 2)),
    "it/self/factor was 1 and is 2": (Doubler(1).times, Doubler(2).times),
    "it/keywords/power was 1 and is 2": (
        functools.partial(scale, power=1),
        functools.partial(scale, power=2),
    ),
    "it/factor was 3 and is 4": (functools.partial(scale, 3), functools.partial(scale, 4)),
    "it/arguments/0 was 1 and is 2": (functools.partial(max, 1), functools.partial(max, 2)),
    "apply/rate was 0.5 and is 0.25": (jaxnet.dropout(0.5), jaxnet.dropout(0.25)),
    "it/init was _init_sgd and is _init_adam": (jaxnet.sgd(0.1), jaxnet.adam(0.1)),
    "it was relu and is gelu": (jaxnet.relu, jaxnet.gelu),
    "it/factor was 1 and is 2": (jax.jit(scale(1)), jax.jit(scale(2))),
    "it was float32[3] of SHA-256 ": (np.zeros(3, np.float32), np.ones(3, np.float32)),
    "it was key<fry>": (jax.random.key(0), jax.random.key(1)),
    "it was range(0, 3) and is range(0, 4)": (range(3), range(4)),
    "it/1 was 3 and is 4": ({1, 3}, {1, 4}),
    "it/delta was 1.0 and is 0.5": (
        types.SimpleNamespace(delta=1.0),
        types.SimpleNamespace(delta=0.5),
    ),
    "it/targets was": (
        jaxnet.Data(np.ones((2, 1)), np.zeros(2)),
        jaxnet.Data(np.ones((2, 1)), np.ones(2)),
    ),
}


@pytest.mark.parametrize("words", PAIRS)
def test_the_first_difference_is_named(words):
    first, second = ({"it": outline(value)} for value in PAIRS[words])
    assert difference(first, {"it": outline(PAIRS[words][0])}) is None
    assert words in difference(first, second)


def test_a_missing_part_is_a_difference():
    assert difference({"a": "1"}, {"a": "1", "b": "2"}) == "b was not there"
    assert difference({"a": ["1", "2"]}, {"a": ["1"]}) == "a/1 was there"


def test_globals_of_a_users_functions_are_included(monkeypatch):
    def rated(x):
        return RATE * x

    before = outline(rated)
    assert before["RATE"] == "0.1"
    monkeypatch.setitem(globals(), "RATE", 0.2)
    assert difference(before, outline(rated)) == "RATE was 0.1 and is 0.2"


def test_recursive_functions_are_outlined():
    def recursive(n):
        return recursive(n - 1) if n else 0

    assert outline(recursive)["recursive"].endswith("recursive")


def test_each_function_is_outlined_once():
    """Each function is called by two others, so there are 2**n paths to the first."""
    names = {}
    text = "def f0(x): return x\ndef g0(x): return x\n"
    for i in range(1, 17):
        text += f"def f{i}(x): return f{i - 1}(x) + g{i - 1}(x)\n"
        text += f"def g{i}(x): return f{i - 1}(x) - g{i - 1}(x)\n"
    exec(text, names)
    assert len(json.dumps(outline(names["f16"]))) < 33 * 100


class Endless:
    """Every attribute is another object of the class."""

    def __getattr__(self, name):
        return Endless()


class Silent:
    __slots__ = ()

    def __repr__(self):
        raise ValueError("it does not say")


def test_any_object_has_an_outline():
    itself = []
    itself.append(itself)
    chain = None
    for _ in range(10_000):
        chain = [chain]
    assert [outline(value) for value in (itself, chain, Silent())] == ["list", "list", "Silent"]
    assert len(json.dumps(outline(Endless()))) < 1000
    many = outline(list(range(10_000))), outline([*range(9_999), 0]), outline("a" * 10_000)
    assert len({json.dumps(one) for one in many}) == 3
    assert all(len(one) < 100 for one in many)


def test_outlines_are_json_and_equal_in_every_process():
    parts = [jaxnet.mlp([3, 4, 2]), optax.adamw(optax.cosine_decay_schedule(0.1, 9)), np.ones(3)]
    for part in [*parts, object(), np.array(["a", object()]), jnp.ones(())]:
        assert json.loads(json.dumps(outline(part))) == outline(part)
    script = """
import json, optax, jax, jaxnet, numpy as np
from jaxnet.core.outlines import outline
network = jaxnet.serial(jaxnet.dense(3, 4, jax.nn.relu), lambda x: x in {1, 2, "a", "b"})
optimizer = optax.chain(optax.clip(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 9)))
print(json.dumps(outline((network, optimizer, {"a", "b", "c"}, np.array(["a", object()])))))
"""
    assert len({helpers.run_plainly(script) for _ in range(2)}) == 1


# Callbacks, of which the code counts.


def calling(function):
    """A program that uses the result of a Python function."""
    shape = jax.ShapeDtypeStruct((), np.float32)
    return lambda x: jax.pure_callback(function, shape, x, vmap_method="sequential")


def outline_calling(function, by=calling):
    found = programs.fingerprint(by(function), np.float32(1))
    return outline_program(found)


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


class Tripled(Slotted):
    __slots__ = ()

    def __call__(self, x):
        return x * self.factor * 3


def helped(factor):
    def helper(x):
        return x * factor if factor == 2 else x / factor

    return functools.partial(lambda f, x: f(x), helper)


CHANGED = {
    "code": (lambda x: x * 2, lambda x: x + 2),
    "constant": (lambda x: x * 2, lambda x: x * 3),
    "inner code": (lambda x: (lambda y: y * 2)(x), lambda x: (lambda y: y + 2)(x)),
    "set": (lambda x: x in {1, 2}, lambda x: x in {1, 3}),
    "slot": (Slotted(2), Slotted(3)),
    "method": (Slotted(2), Tripled(2)),
    "closure of a partial": (helped(2), helped(3)),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_callback_that_computes_something_else_has_another_outline(name):
    before, now = CHANGED[name]
    for by in (calling, lambda f: lambda x: io_callback(f, np.float32(0), x)):
        assert outline_calling(before, by) == outline_calling(before, by)
        assert outline_calling(before, by)[1:] != outline_calling(now, by)[1:]


def test_the_name_and_the_place_of_a_callback_do_not_count():
    def one(x):
        return x * 2

    def two(x):

        return x * 2

    two.__name__ = two.__qualname__ = one.__qualname__ = "f"
    assert outline_calling(one) == outline_calling(two)


def test_functions_that_only_observe_are_not_in_the_outline():
    """They receive values and return none, and may record them."""
    log = []

    def observed(x):
        jax.debug.callback(log.append, x)
        jax.debug.callback(lambda x: log.append(x), x)
        jax.debug.print("{}", x)
        return x * 2

    before = outline_calling(observed, lambda f: f)
    log.append(3)
    assert outline_calling(observed, lambda f: f) == before and len(before) == 1
