"""Descriptions: the same from process to process, and different where what was built is."""

import functools
import json

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import jaxnet
from jaxnet.descriptions import described, difference

RATE = 0.1


class Doubler:
    def __init__(self, factor):
        self.factor = factor

    def times(self, x):
        return self.factor * x


def scaled(factor, power=1):
    def inner(x, shift=0.0):
        return factor * x**power + shift

    return inner


def module(width):
    network = flax.linen.Dense(width)
    return jaxnet.Network(
        lambda key: network.init(key, jnp.ones((1, 3))),
        lambda parameters, x, *, key=None: network.apply(parameters, x),
    )


PAIRS = {
    "learning_rate": (lambda: jaxnet.adam(0.01), lambda: jaxnet.adam(0.02)),
    "beta": (lambda: optax.adam(0.01), lambda: optax.adam(0.01, b1=0.8)),
    "transition_steps": (
        lambda: jaxnet.sgd(optax.linear_schedule(1.0, 0.0, 10)),
        lambda: jaxnet.sgd(optax.linear_schedule(1.0, 0.0, 11)),
    ),
    "max_norm": (
        lambda: optax.chain(optax.clip_by_global_norm(1.0), jaxnet.sgd(0.1)),
        lambda: optax.chain(optax.clip_by_global_norm(2.0), jaxnet.sgd(0.1)),
    ),
    "dense(4, 8, relu)": (
        lambda: jaxnet.mlp([4, 8, 3]),
        lambda: jaxnet.mlp([4, 9, 3]),
    ),
    "dense(4, 3, identity)": (
        lambda: jaxnet.mlp([4, 3]),
        lambda: jaxnet.mlp([4, 3], output_activation=jaxnet.tanh),
    ),
    "dropout(0.1)": (lambda: jaxnet.dropout(0.1), lambda: jaxnet.dropout(0.2)),
    "features": (lambda: module(3), lambda: module(4)),
    "factor": (lambda: scaled(2.0), lambda: scaled(2)),
    "power": (lambda: scaled(2.0), lambda: scaled(2.0, 2)),
    "self/factor": (lambda: Doubler(1).times, lambda: Doubler(2).times),
    "keywords/power": (
        lambda: functools.partial(scaled, power=1),
        lambda: functools.partial(scaled, power=2),
    ),
    "code": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
    "function": (lambda: jaxnet.relu, lambda: jaxnet.gelu),
    "jit": (lambda: jax.jit(scaled(1)), lambda: jax.jit(scaled(2))),
    "float32[3]": (lambda: np.zeros(3, np.float32), lambda: np.ones(3, np.float32)),
    "key<fry>": (lambda: jax.random.key(0), lambda: jax.random.key(1)),
    "float32": (lambda: jnp.float32, lambda: jnp.float64),
    "targets": (
        lambda: jaxnet.Data(np.ones((2, 1)), np.zeros(2)),
        lambda: jaxnet.Data(np.ones((2, 1)), np.ones(2)),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_built_equally_is_described_equally_and_else_the_difference_is_named(name):
    first, second = PAIRS[name]
    assert difference(described(first()), described(first())) is None
    found = difference(described({"it": first()}), described({"it": second()}))
    assert found and found.startswith("it")
    if name not in ("jit", "beta"):
        assert name in found


def test_globals_of_ones_own_functions_count():
    def rated(x):
        return RATE * x

    before = described(rated)
    assert before["RATE"] == "0.1"
    rated.__globals__["RATE"] = 0.2
    try:
        assert difference(before, described(rated)) == "RATE was 0.1 and is 0.2"
    finally:
        rated.__globals__["RATE"] = 0.1


def test_functions_that_refer_to_themselves_end():
    def recursive(n):
        return recursive(n - 1) if n else 0

    assert "inside" in described(recursive)["recursive"]


def test_json_holds_it():
    parts = [jaxnet.mlp([3, 4, 2]), optax.adamw(optax.cosine_decay_schedule(0.1, 9)), np.ones(3)]
    for part in parts:
        assert json.loads(json.dumps(described(part))) == described(part)


def test_another_process_says_the_same():
    script = """
import sys, optax, jax, jaxnet, hashlib, json
from jaxnet.descriptions import described
network = jaxnet.serial(jaxnet.dense(3, 4, jax.nn.relu), lambda x: x in {1, 2, "a", "b"})
optimizer = optax.chain(optax.clip(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 9)))
print(hashlib.sha256(json.dumps(described((network, optimizer))).encode()).hexdigest())
"""
    assert len({problems.run_plainly(script) for _ in range(2)}) == 1


def test_an_absent_part_is_a_difference():
    assert difference({"a": "1"}, {"a": "1", "b": "2"}) == "b was not there"
    assert difference({"a": ["1", "2"]}, {"a": ["1"]}) == "a/1 was there"
