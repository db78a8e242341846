"""Static arguments: equal if built equally, and never equal if they may differ."""

import functools
import types

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import jaxnet
from jaxnet.statics import Static

SCALE = 2.0


def scaled(factor):
    return lambda x: factor * x


def with_default(factor):
    def function(x, by=factor):
        return by * x

    return function


def recursive(limit):
    def count(n):
        return n if n > limit else count(n + 1)

    return count


def uses_global():
    return lambda x: SCALE * x


class Method:
    def __init__(self, factor):
        self.factor = factor

    def __eq__(self, other):
        return self.factor == other.factor

    def __hash__(self):
        return hash(self.factor)

    def apply(self, x):
        return self.factor * x


def flax_network(features):
    module = flax.linen.Dense(features)
    return jaxnet.Network(lambda key: module.init(key, jnp.ones(2)), module.apply)


EQUAL = {
    "closure": lambda: scaled(2.0),
    "default": lambda: with_default(2.0),
    "recursive": lambda: recursive(3),
    "partial": lambda: functools.partial(scaled(2.0), 1.0),
    "method": lambda: Method(2.0).apply,
    "numpy": lambda: scaled(np.arange(3.0)),
    "global": uses_global,
    "flax": lambda: flax.linen.Dense(3).apply,
    "optax": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.lion(0.1)),
    "metrics": lambda: {"top": functools.partial(jaxnet.top_k_accuracy, k=2)},
}


@pytest.mark.parametrize("name", EQUAL)
def test_built_equally_is_equal(name):
    first, again = Static(EQUAL[name]()), Static(EQUAL[name]())
    assert first == again
    assert hash(first) == hash(again)


def test_what_jaxnet_builds_equally_is_equal():
    """In a plain interpreter: the tests' type checker makes every function anew."""
    script = """
import jax.numpy as jnp, jaxnet, optax
from jaxnet.statics import Static
build = {
    "mlp": lambda: jaxnet.mlp([4, 8, 3], activation=jaxnet.gelu, compute_dtype=jnp.bfloat16),
    "dropout": lambda: jaxnet.serial(jaxnet.residual(jaxnet.dense(2, 2)), jaxnet.dropout(0.5)),
    "straight through": lambda: jaxnet.straight_through(jaxnet.binary_step),
    "adam": lambda: jaxnet.adam(optax.cosine_decay_schedule(0.1, 100), b1=0.8),
    "adamw": lambda: jaxnet.adamw(0.1, mask={"a": True}),
}
print([name for name, make in build.items() if Static(make()) != Static(make())])
"""
    assert problems.run_plainly(script) == "[]\n"


DIFFERENT = {
    "number": (scaled(2.0), scaled(3.0)),
    "type of number": (scaled(2.0), scaled(2)),
    "bool and int": (scaled(True), scaled(1)),
    "sign of zero": (scaled(0.0), scaled(-0.0)),
    "default": (with_default(2.0), with_default(3.0)),
    "partial": (functools.partial(max, 1), functools.partial(max, 2)),
    "method": (Method(1.0).apply, Method(2.0).apply),
    "code": (lambda x: x + 1, lambda x: x + 1),
    "numpy": (scaled(np.arange(3.0)), scaled(np.arange(3.0) + 1)),
    "jax arrays": (scaled(jnp.ones(1)), scaled(jnp.ones(1))),
    "sizes": (jaxnet.mlp([4, 8, 3]), jaxnet.mlp([4, 9, 3])),
    "activation": (jaxnet.mlp([4, 8]), jaxnet.mlp([4, 8], output_activation=jaxnet.tanh)),
    "rate": (jaxnet.adam(0.1), jaxnet.adam(0.2)),
    "schedule": (
        jaxnet.adam(optax.cosine_decay_schedule(0.1, 100)),
        jaxnet.adam(optax.cosine_decay_schedule(0.1, 101)),
    ),
    "flax": (flax_network(3), flax_network(4)),
    "list and tuple": ([1, 2], (1, 2)),
    "dict": ({"a": 1}, {"b": 1}),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_may_differ_is_not_equal(name):
    first, second = DIFFERENT[name]
    assert Static(first) == Static(first)
    assert Static(first) != Static(second)


def test_a_changed_global_is_noticed(monkeypatch):
    before = Static(uses_global())
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert Static(uses_global()) != before


SETTINGS = {"scale": 2.0}
NAMESPACE = types.SimpleNamespace(scale=2.0)


def uses_settings():
    return lambda x: SETTINGS["scale"] * x


def uses_namespace():
    return lambda x: NAMESPACE.scale * x


def captures(value):
    return lambda x: value.scale * x


def test_a_global_container_changed_in_place_is_noticed(monkeypatch):
    before = Static(uses_settings())
    assert Static(uses_settings()) == before
    monkeypatch.setitem(SETTINGS, "scale", 3.0)
    assert Static(uses_settings()) != before


@pytest.mark.parametrize("make", [uses_namespace, lambda: captures(NAMESPACE)])
def test_what_cannot_be_looked_into_is_taken_for_changed(make):
    function = make()
    assert Static(function) == Static(function)
    assert Static(function) != Static(make())


def test_a_changed_list_is_noticed():
    sizes = [1, 2]
    before = Static(scaled(sizes))
    sizes.append(3)
    assert Static(scaled(sizes)) != before


def test_jit_compiles_equal_ones_once():
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def call(static, x):
        traced.append(static)
        return static.value(x)

    results = [float(call(Static(scaled(factor)), 1.0)) for factor in (2.0, 2.0, 3.0)]
    assert results == [2.0, 2.0, 3.0]
    assert len(traced) == 2
