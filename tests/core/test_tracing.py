"""Tracing: whatever a function reads is noticed when it changes."""

import collections
import contextlib
import dataclasses
import functools
import importlib
import os
import sys
import types

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.core import checks

OUTPUTS, TARGETS = jnp.array([[1.0], [2.0], [4.0]]), jnp.zeros((3, 1))


def times(factor, outputs, targets):
    """The squared error, multiplied by a factor."""
    return factor * jnp.sum((outputs - targets) ** 2, -1)


# Ways to read a factor, which is 2 and then 3. Each case yields a loss before and after the change;
# in a case called "same" both are one object.


class Settings:
    factor = 2.0


FACTOR = 2.0


def helper(outputs, targets):
    return times(FACTOR, outputs, targets)


@jax.jit
def jitted(outputs, targets):
    return times(FACTOR, outputs, targets)


@jax.checkpoint
def recomputed(outputs, targets):
    return times(FACTOR, outputs, targets)


def body(carry, row):
    return carry, times(FACTOR, *row)


def branch(outputs, targets):
    return times(FACTOR, outputs, targets)


@jax.custom_jvp
def with_rule(x):
    return x


@with_rule.defjvp
def _(primals, tangents):
    return primals[0], tangents[0] * FACTOR / 2


class Loss:
    def __init__(self):
        self.factor = 2.0

    def __call__(self, outputs, targets):
        return times(self.factor, outputs, targets)

    def method(self, outputs, targets):
        return times(self.factor, outputs, targets)


class Dict(dict):
    pass


class Float(float):
    pass


class Objects:
    """An object with the factor as an attribute, as in a notebook."""


@dataclasses.dataclass(frozen=True)
class Frozen:
    value: object

    def __call__(self, outputs, targets):
        return times(3.0 if isinstance(self.value, float) else 2.0, outputs, targets)


def holding(value):
    """A new loss that reads an object, which may have changed."""
    return lambda outputs, targets: times(value.factor, outputs, targets)


@contextlib.contextmanager
def set_global(value):
    globals()["FACTOR"] = value
    try:
        yield
    finally:
        globals()["FACTOR"] = 2.0


def by_global(loss):
    def case():
        yield loss
        with set_global(3.0):
            yield loss

    return case


def class_attribute():
    class Reads:
        factor = 2.0

    def make():
        return lambda outputs, targets: times(Reads.factor, outputs, targets)

    yield make()
    Reads.factor = 3.0
    yield make()


def class_code():
    loss = Loss()
    yield loss
    before = Loss.__call__
    Loss.__call__ = lambda self, outputs, targets: times(3.0, outputs, targets)
    yield loss
    Loss.__call__ = before


def reloaded_module(folder):
    file = folder / "losses_to_reload.py"
    sys.path.insert(0, str(folder))
    file.write_text("def factor():\n    return 2.0\n")
    import losses_to_reload

    def make():
        return lambda outputs, targets: times(losses_to_reload.factor(), outputs, targets)

    yield make()
    file.write_text("def factor():\n    return 3.0  # a new length, so that Python reads it\n")
    importlib.invalidate_caches()
    importlib.reload(losses_to_reload)
    yield make()
    sys.path.remove(str(folder))
    del sys.modules["losses_to_reload"]


def module_attribute():
    module = types.ModuleType("settings")
    module.factor = 2.0
    yield holding(module)
    module.factor = 3.0
    yield holding(module)


def partial():
    value = Objects()
    value.factor = 2.0

    def loss(value, outputs, targets):
        return times(value.factor, outputs, targets)

    yield functools.partial(loss, value)
    value.factor = 3.0
    yield functools.partial(loss, value)


def default():
    value = Objects()
    value.factor = 2.0

    def make():
        def loss(outputs, targets, value=value):
            return times(value.factor, outputs, targets)

        return loss

    yield make()
    value.factor = 3.0
    yield make()


def object_array():
    factors = np.array([2.0], dtype=object)

    def make():
        return lambda outputs, targets: times(factors[0], outputs, targets)

    yield make()
    factors[0] = 3.0
    yield make()


def number_array():
    factors = np.array([2.0], np.float32)

    def make():
        return lambda outputs, targets: times(jnp.asarray(factors)[0], outputs, targets)

    yield make()
    factors[0] = 3.0
    yield make()


def attribute_of(kind):
    def case():
        value = kind()
        value.factor = 2.0
        yield holding(value)
        value.factor = 3.0
        yield holding(value)

    return case


def same_callable():
    loss = Loss()
    yield loss
    loss.factor = 3.0
    yield loss


def same_method():
    loss = Loss()
    yield loss.method
    loss.factor = 3.0
    yield loss.method


def same_namespace():
    value = types.SimpleNamespace(factor=2.0)
    loss = holding(value)
    yield loss
    value.factor = 3.0
    yield loss


def nested_containers():
    value = {"a": [({"factor": 2.0},)]}

    def loss(outputs, targets):
        return times(value["a"][0][0]["factor"], outputs, targets)

    yield loss
    value["a"][0][0]["factor"] = 3.0
    yield loss


def cell():
    factor = 2.0

    def loss(outputs, targets):
        return times(factor, outputs, targets)

    yield loss
    factor = 3.0
    yield loss


def environment_variable():
    def loss(outputs, targets):
        return times(float(os.environ["FACTOR"]), outputs, targets)

    os.environ["FACTOR"] = "2"
    yield loss
    os.environ["FACTOR"] = "3"
    yield loss
    del os.environ["FACTOR"]


def file(folder):
    path = folder / "factor"

    def loss(outputs, targets):
        return times(float(path.read_text()), outputs, targets)

    path.write_text("2")
    yield loss
    path.write_text("3")
    yield loss


def equal_in_python(*values):
    """Values that may be equal in Python."""

    def case():
        for value in values:
            yield Frozen(value)

    return case


def wrapped_as_jaxnet():
    def make(factor):
        @functools.wraps(jaxnet.squared_error)
        def loss(outputs, targets):
            return times(factor, outputs, targets)

        return loss

    yield make(2.0)
    yield make(3.0)


def through_a_door():
    factor = 2.0

    def read(outputs, targets):
        return times(factor, outputs, targets)

    loss = checks.door(read, "loss")
    yield loss
    factor = 3.0
    yield loss


def through_a_door_anew():
    yield checks.door(lambda outputs, targets: times(2.0, outputs, targets), "loss")
    yield checks.door(lambda outputs, targets: times(3.0, outputs, targets), "loss")


CASES = {
    "class attribute": class_attribute,
    "code of a class": class_code,
    "reloaded module": reloaded_module,
    "module attribute": module_attribute,
    "partial": partial,
    "default argument": default,
    "object array": object_array,
    "array of numbers": number_array,
    "attribute of a dict": attribute_of(Dict),
    "attribute of a float": attribute_of(Float),
    "attribute of an object": attribute_of(Objects),
    "same callable": same_callable,
    "same method": same_method,
    "same namespace": same_namespace,
    "nested containers": nested_containers,
    "cell": cell,
    "environment variable": environment_variable,
    "file": file,
    "1 and 1.0": equal_in_python(1, 1.0),
    "True and 1.0": equal_in_python(True, 1.0),
    "wrapped as jaxnet's": wrapped_as_jaxnet,
    "through a door": through_a_door,
    "another function through a door": through_a_door_anew,
    "global": by_global(helper),
    "global of a helper": by_global(lambda outputs, targets: helper(outputs, targets)),
    "global of a jitted helper": by_global(lambda o, t: jitted(o, t)),
    "global of a jitted function": by_global(jitted),
    "global of a jitted vmap": by_global(jax.jit(jax.vmap(helper))),
    "global in a scan": by_global(lambda o, t: jax.lax.scan(body, 0, (o, t))[1]),
    "global in a branch": by_global(lambda o, t: jax.lax.cond(o.sum() > -9, branch, branch, o, t)),
    "global under checkpoint": by_global(recomputed),
    "global through a jitted door": by_global(jax.jit(checks.door(helper))),
    "global in a piece": by_global(
        lambda o, t: jnp.piecewise(helper(o, t) / FACTOR, [o[:, 0] > -9], [lambda x: FACTOR * x])
    ),
}


@contextlib.contextmanager
def changes(name, folder):
    case = CASES[name]
    steps = case(folder) if case.__code__.co_argcount else case()
    try:
        yield steps
    finally:
        collections.deque(steps, maxlen=0)


def make_network(loss):
    """A network whose outputs are the loss of its inputs."""
    return jaxnet.Network(
        lambda key: jnp.ones(()),
        lambda parameters, x, *, key=None: loss(x * parameters, jnp.zeros_like(x))[:, None],
    )


def compute_results(loss):
    """The results of jaxnet's functions for a loss, all proportional to the factor."""
    data, key = (OUTPUTS, TARGETS), jax.random.key(0)
    parameters = jnp.ones(())
    network = jaxnet.Network(lambda key: parameters, lambda p, x, *, key=None: p * x)
    options = {"key": key, "epochs": 1, "batch_size": None, "progress": False}
    optimizer = jaxnet.gradient_descent(0.1)
    run = jaxnet.fit(network, loss, optimizer, data, **options)
    return {
        "fit": run.history["cost"][0],
        "gradient": (1 - run.parameters) * 10,
        "evaluate": jaxnet.evaluate(network, parameters, data, {"loss": loss})["loss"],
        "predict": jaxnet.predict(make_network(loss), parameters, OUTPUTS).mean(),
        "diagnose": jaxnet.diagnose(network, loss, parameters, data).cost,
        "sweep": jaxnet.sweep(
            lambda a: (a * loss(OUTPUTS, TARGETS)).mean(), {"a": [1.0]}, progress=False
        ).results[0],
    }


@pytest.mark.parametrize("name", CASES)
def test_every_function_notices_a_change(name, tmp_path):
    with changes(name, tmp_path) as losses:
        before, after = (compute_results(loss) for loss in losses)
    for function, seven in before.items():
        mean = (
            14 if function == "gradient" else 7
        )  # of the squares of 1, 2 and 4, or its derivative
        assert float(seven) == pytest.approx(2 * mean, rel=1e-5), function
        assert float(after[function]) == pytest.approx(3 * mean, rel=1e-5), function


def test_a_changed_derivative_rule_is_noticed():
    def gradient():
        network = jaxnet.Network(lambda key: jnp.ones(()), lambda p, x, *, key=None: p * x)
        options = {"key": jax.random.key(0), "epochs": 1, "batch_size": None, "progress": False}
        optimizer = jaxnet.gradient_descent(0.1)
        loss = lambda o, t: with_rule(times(2.0, o, t))  # noqa: E731
        run = jaxnet.fit(network, loss, optimizer, (OUTPUTS, TARGETS), **options)
        return float((1 - run.parameters) * 10)

    before = gradient()
    with set_global(3.0):
        assert gradient() == pytest.approx(1.5 * before)


def test_a_changed_initialiser_and_optimizer_are_noticed():
    start, rate = types.SimpleNamespace(value=1.0), types.SimpleNamespace(value=0.1)
    network = jaxnet.Network(lambda key: jnp.full((), start.value), lambda p, x, *, key=None: p * x)
    optimizer = optax.GradientTransformation(
        lambda parameters: (),
        lambda g, state, parameters=None: (jax.tree.map(lambda g: -rate.value * g, g), state),
    )

    def parameter():
        options = {"key": jax.random.key(0), "epochs": 1, "batch_size": None, "progress": False}
        data = jnp.ones((1, 1)), jnp.zeros((1, 1))
        run = jaxnet.fit(network, jaxnet.squared_error, optimizer, data, **options)
        return float(run.parameters)

    assert parameter() == pytest.approx(0.8)
    rate.value = 0.2
    assert parameter() == pytest.approx(0.6)
    start.value = 2.0
    assert parameter() == pytest.approx(1.2)


def test_a_changed_optimizer_is_compared_and_checked_again():
    class Descent:
        rate = 0.1

        def init(self, parameters):
            return ()

        def update(self, gradients, state, parameters=None):
            return jax.tree.map(lambda g: jnp.asarray(-self.rate, g.dtype) * g, gradients), state

    descent, reference = Descent(), optax.sgd(0.1)

    def verdicts():
        pair = descent.init, descent.update
        compared = jaxnet.compare_optimizers(pair, reference, steps=10).verdict
        return compared, jaxnet.check_optimizer(pair, reference=reference).passed

    assert verdicts() == ("identical", True)
    descent.rate = 0.2
    assert verdicts() == ("different", False)


# Settings of JAX.


def noise(a):
    return a * jax.random.normal(jax.random.key(0), (3,))


def test_sweeps_notice_settings():
    def results():
        return jaxnet.sweep(noise, {"a": [1.0]}, progress=False).results[0]

    before = results()
    with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable):
        assert not np.array_equal(results(), before)
    with jax.default_prng_impl("rbg"):
        assert not np.array_equal(results(), before)
    np.testing.assert_array_equal(results(), before)


def test_settled_functions_notice_settings():
    """In a plain interpreter, since the tests' type checker wraps jaxnet's functions."""
    script = """
import jax, jax.numpy as jnp, jaxnet, numpy as np, optax
from jaxnet.core.settled import settled_key
x = np.ones((8, 3), np.float32)
network = jaxnet.serial(jaxnet.dense(3, 4), jaxnet.dropout(0.5))
def cost(optimizer):
    options = dict(key=jax.random.key(0), epochs=2, batch_size=4, progress=False)
    return jaxnet.fit(network, jaxnet.squared_error, optimizer, (x, x[:, [0] * 4]), **options)
assert settled_key((network, jaxnet.squared_error, jaxnet.adam(0.1))) is not None
before = cost(jaxnet.adam(0.1)).history["cost"]
with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable):
    print((cost(jaxnet.adam(0.1)).history["cost"] != before).any())
print((cost(jaxnet.adam(0.1)).history["cost"] == before).all())
noisy = optax.chain(optax.add_noise(0.1, 0.5, 7), optax.sgd(0.1))
assert settled_key(noisy) is not None
before = cost(noisy).history["cost"]
with jax.default_prng_impl("rbg"):
    print((cost(noisy).history["cost"] != before).any())
"""
    assert helpers.run_plainly(script).split() == ["True"] * 3
