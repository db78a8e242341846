"""Programs: equal programs have equal fingerprints, different programs do not."""

import flax.linen
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.core import programs

# Equal and different programs.


def scale(factor, power=1):
    def inner(x):
        """Returns a power of x."""
        return factor * x**power

    return inner


def scale_by_other_names(a, b=1):
    def other(y):
        z = y**b
        return a * z

    return other


def flax_network(features):
    module = flax.linen.Dense(features)
    parameters = module.init(jax.random.key(0), jnp.ones((1, 2)))
    return lambda x: module.apply(parameters, jnp.broadcast_to(x[:2], (1, 2)))


SAME = {
    "closure": (scale(2.0), scale(2.0)),
    "names and docstring": (scale(2.0, 2), scale_by_other_names(2.0, 2)),
    "lambda": (scale(2.0, 2), lambda x: 2.0 * x**2),
    "NumPy constants": (lambda x: x * np.arange(3.0), lambda x: x * np.arange(3.0)),
    "JAX constants": (lambda x: x * jnp.arange(3.0), lambda x: x * jnp.arange(3.0)),
    "a jitted helper": (
        lambda x: jax.jit(lambda y: 2 * y)(x),
        lambda x: jax.jit(lambda z: 2 * z)(x),
    ),
    "a Flax module": (flax_network(3), flax_network(3)),
    "a keyword": (lambda x: jnp.sum(x, axis=0), lambda x: jnp.sum(x, axis=np.int64(0))),
    "debug.print": (
        lambda x: jax.debug.print("{}", x) or x,
        lambda x: jax.debug.print("{}", x) or x,
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_equal_programs_have_equal_fingerprints(name):
    prints = [programs.fingerprint(function, jnp.arange(3.0)) for function in SAME[name]]
    assert prints[0] == prints[1]
    assert hash(prints[0]) == hash(prints[1])


DIFFERENT = {
    "number": (scale(2.0), scale(3.0)),
    "type of a number": (lambda x: jnp.float32(2), lambda x: jnp.bfloat16(2)),
    "sign of zero": (lambda x: x + 0.0, lambda x: x + -0.0),
    "NaN": (lambda x: x + np.float32("nan"), lambda x: x + -np.float32("nan")),
    "constant": (lambda x: x + np.arange(3.0), lambda x: x + np.arange(1.0, 4.0)),
    "a late element of a large constant": (
        lambda x: x + np.zeros(3000)[-3:],
        lambda x: x + np.append(np.zeros(2999), 1)[-3:],
    ),
    "operation": (jnp.sin, jnp.cos),
    "order of arguments": (lambda x: x - 2 * x, lambda x: 2 * x - x),
    "axis": (lambda x: jnp.sum(x * x[:, None], 0), lambda x: jnp.sum(x * x[:, None], 1)),
    "precision": (
        lambda x: jnp.dot(x, x, precision="highest"),
        lambda x: jnp.dot(x, x, precision="default"),
    ),
    "body of a loop": (
        lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c + i, x),
        lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c - i, x),
    ),
    "length of a loop": (
        lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c + 1, x),
        lambda x: jax.lax.fori_loop(0, 4, lambda i, c: c + 1, x),
    ),
    "a solver": (
        lambda x: jax.lax.custom_linear_solve(lambda v: 2 * v, x, lambda mv, b: b / 2),
        lambda x: jax.lax.custom_linear_solve(lambda v: 2 * v, x, lambda mv, b: b / 3),
    ),
    "result": (lambda x: (x, 2 * x), lambda x: (2 * x, x)),
    "a format": (
        lambda x: jax.debug.print("a {}", x) or x,
        lambda x: jax.debug.print("b {}", x) or x,
    ),
    "a setting in the function": (
        lambda x: jax.random.normal(jax.random.key(0), (3,)),
        lambda x: partitioned(lambda: jax.random.normal(jax.random.key(0), (3,))),
    ),
    "sizes": (jaxnet.mlp([3, 2]).init, jaxnet.mlp([3, 4]).init),
}


def partitioned(function):
    with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable):
        return function()


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_programs_have_different_fingerprints(name):
    argument = jax.random.key(0) if name == "sizes" else jnp.arange(3.0)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        first, second = (programs.fingerprint(function, argument) for function in DIFFERENT[name])
        assert first == programs.fingerprint(DIFFERENT[name][0], argument)
    assert first != second


def test_another_process_has_the_same_fingerprint():
    script = """
import jax, jax.numpy as jnp, jaxnet, optax
network = jaxnet.serial(jaxnet.dense(3, 4, jax.nn.relu), jaxnet.dropout(0.1), jaxnet.dense(4, 2))
step = jaxnet.make_step(network, jaxnet.softmax_cross_entropy, optax.adamw(0.1))
state = jaxnet.initial_state(network, optax.adamw(0.1), key=jax.random.key(0))
batch = jnp.ones((5, 3)), jnp.zeros(5, int)
print(jaxnet.core.programs.fingerprint(step, state, batch, jax.random.key(1)).digest)
"""
    assert len({helpers.run_plainly(script) for _ in range(2)}) == 1


# Python functions that a program calls.


def make_calling_loss(callback):
    def loss(outputs, targets):
        shape = jax.ShapeDtypeStruct(targets.shape[:1], jnp.float32)
        return jax.pure_callback(callback, shape, targets, vmap_method="sequential") + jnp.sum(
            outputs, -1
        )

    return loss


def test_callbacks_are_compared_by_identity():
    def two(targets):
        return np.full(len(targets), 2.0, np.float32)

    def three(targets):
        return np.full(len(targets), 3.0, np.float32)

    network = jaxnet.Network(lambda key: (), lambda p, x, *, key=None: 0 * x)
    data = jnp.ones((4, 1)), jnp.ones((4, 1))

    def evaluated(callback):
        metrics = {"loss": make_calling_loss(callback)}
        return float(jaxnet.evaluate(network, (), data, metrics)["loss"])

    assert [evaluated(callback) for callback in (two, three, two)] == [2.0, 3.0, 2.0]
    same = [programs.fingerprint(make_calling_loss(two), *data) for _ in range(2)]
    assert same[0] == same[1] != programs.fingerprint(make_calling_loss(three), *data)


def test_debug_callbacks_are_compared_by_their_functions():
    seen = []

    def printing(note):
        return lambda x: jax.debug.callback(note, x) or x

    prints = [programs.fingerprint(printing(note), 1.0) for note in (seen.append, print, print)]
    assert prints[1] == prints[2] != prints[0]
