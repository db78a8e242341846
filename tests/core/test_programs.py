"""Programs: whatever a function reads is noticed when it changes, and nothing else is."""

import collections
import contextlib
import dataclasses
import functools
import importlib
import os
import sys
import types

import flax.linen
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.core import programs

OUTPUTS, TARGETS = jnp.array([[1.0], [2.0], [4.0]]), jnp.zeros((3, 1))


def times(factor, outputs, targets):
    """The squared error, so many times."""
    return factor * jnp.sum((outputs - targets) ** 2, -1)


# Ways to read a factor, which is 2 and then 3. Each case yields a loss before and after the change;
# those that are called "same" are one object.


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
    """What holds the factor, as things are held in a notebook."""


@dataclasses.dataclass(frozen=True)
class Frozen:
    value: object

    def __call__(self, outputs, targets):
        return times(3.0 if isinstance(self.value, float) else 2.0, outputs, targets)


def holding(value):
    """A loss that is built again of an object that may have changed."""
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
    file.write_text("def factor():\n    return 3.0  # another length, so that it is read\n")
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


def built_anew(*values):
    """Values that Python may call equal."""

    def case():
        for value in values:
            yield Frozen(value)

    return case


def wrapped_as_ours():
    def make(factor):
        @functools.wraps(jaxnet.squared_error)
        def loss(outputs, targets):
            return times(factor, outputs, targets)

        return loss

    yield make(2.0)
    yield make(3.0)


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
    "1 and 1.0": built_anew(1, 1.0),
    "True and 1.0": built_anew(True, 1.0),
    "wrapped as jaxnet's": wrapped_as_ours,
    "global": by_global(helper),
    "global of a helper": by_global(lambda outputs, targets: helper(outputs, targets)),
    "global of a jitted helper": by_global(lambda o, t: jitted(o, t)),
    "global of a jitted function": by_global(jitted),
    "global of a jitted vmap": by_global(jax.jit(jax.vmap(helper))),
    "global in a scan": by_global(lambda o, t: jax.lax.scan(body, 0, (o, t))[1]),
    "global in a branch": by_global(lambda o, t: jax.lax.cond(o.sum() > -9, branch, branch, o, t)),
    "global under checkpoint": by_global(recomputed),
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


def network_of(loss):
    """Outputs are the loss of the inputs."""
    return jaxnet.Network(
        lambda key: jnp.ones(()),
        lambda parameters, x, *, key=None: loss(x * parameters, jnp.zeros_like(x))[:, None],
    )


def results_of(loss):
    """What every function of jaxnet's makes of a loss, in numbers that the factor multiplies."""
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
        "predict": jaxnet.predict(network_of(loss), parameters, OUTPUTS).mean(),
        "diagnose": jaxnet.diagnose(network, loss, parameters, data).cost,
        "sweep": jaxnet.sweep(
            lambda a: (a * loss(OUTPUTS, TARGETS)).mean(), {"a": [1.0]}, progress=False
        ).results[0],
    }


@pytest.mark.parametrize("name", CASES)
def test_a_change_is_noticed_everywhere(name, tmp_path):
    with changes(name, tmp_path) as losses:
        before, after = (results_of(loss) for loss in losses)
    for function, seven in before.items():
        mean = 14 if function == "gradient" else 7  # of the squares of 1, 2 and 4; its derivative
        assert float(seven) == pytest.approx(2 * mean, rel=1e-5), function
        assert float(after[function]) == pytest.approx(3 * mean, rel=1e-5), function


def test_a_rule_of_a_derivative_is_noticed():
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


def test_an_optimizer_that_has_changed_is_compared_and_checked_anew():
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


def test_functions_that_are_not_traced_again_notice_settings():
    """In a plain interpreter: the tests' type checker makes every function of jaxnet's another."""
    script = """
import jax, jax.numpy as jnp, jaxnet, numpy as np, optax
x = np.ones((8, 3), np.float32)
network = jaxnet.serial(jaxnet.dense(3, 4), jaxnet.dropout(0.5))
def cost(optimizer):
    options = dict(key=jax.random.key(0), epochs=2, batch_size=4, progress=False)
    return jaxnet.fit(network, jaxnet.squared_error, optimizer, (x, x[:, [0] * 4]), **options)
assert jaxnet.core.programs.settled((network, jaxnet.squared_error, jaxnet.adam(0.1))) is not None
before = cost(jaxnet.adam(0.1)).history["cost"]
with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable):
    print((cost(jaxnet.adam(0.1)).history["cost"] != before).any())
print((cost(jaxnet.adam(0.1)).history["cost"] == before).all())
noisy = optax.chain(optax.add_noise(0.1, 0.5, 7), optax.sgd(0.1))
assert jaxnet.core.programs.settled(noisy) is not None
before = cost(noisy).history["cost"]
with jax.default_prng_impl("rbg"):
    print((cost(noisy).history["cost"] != before).any())
"""
    assert helpers.run_plainly(script).split() == ["True"] * 3


# What is the same program.


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


# Python functions that a program calls back.


def called_back(callback):
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
        metrics = {"loss": called_back(callback)}
        return float(jaxnet.evaluate(network, (), data, metrics)["loss"])

    assert [evaluated(callback) for callback in (two, three, two)] == [2.0, 3.0, 2.0]
    same = [programs.fingerprint(called_back(two), *data) for _ in range(2)]
    assert same[0] == same[1] != programs.fingerprint(called_back(three), *data)


def test_debug_callbacks_are_looked_into():
    seen = []

    def printing(note):
        return lambda x: jax.debug.callback(note, x) or x

    prints = [programs.fingerprint(printing(note), 1.0) for note in (seen.append, print, print)]
    assert prints[1] == prints[2] != prints[0]


# Reuse.


COUNT = """
import jax, jax.numpy as jnp, jaxnet, numpy as np, optax
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: compiled.append(event) if "backend_compile" in event else None
)
x, key = np.ones((50, 3), np.float32), jax.random.key(0)
y = np.arange(50, dtype=np.int32) % 4
class Loss:
    factor = 2.0
    def __call__(self, outputs, targets):
        return self.factor * jaxnet.softmax_cross_entropy(outputs, targets)
def build():
    apply = lambda p, x, *, key=None: jnp.tanh(x @ p["w"])
    network = jaxnet.Network(lambda key: {"w": jax.random.normal(key, (3, 4))}, apply)
    return network, Loss(), optax.MultiSteps(optax.adam(0.1), 2)
def call():
    network, loss, optimizer = build()
    compiled.clear()
    options = dict(key=key, epochs=3, batch_size=16, validation=(x, y), progress=False)
    parameters = jaxnet.fit(network, loss, optimizer, (x, y), **options).parameters
    jaxnet.evaluate(network, parameters, (x, y), {"loss": loss})
    jaxnet.predict(network, parameters, x)
    jaxnet.diagnose(network, loss, parameters, (x, y))
    jaxnet.sweep(lambda a: a * loss(jnp.ones((50, 4)), y).sum(), {"a": [1.0, 2.0]}, progress=False)
    return len(compiled)
"""


def test_what_is_built_equally_is_compiled_once():
    script = "print(call() > 4, [call() for _ in range(3)])\nLoss.factor = 3.0\nprint(call() > 2)"
    assert helpers.run_plainly(COUNT + script).splitlines() == ["True [0, 0, 0]", "True"]


def test_programs_are_bounded_and_can_be_cleared():
    script = """
import gc
parameters = build()[0].init(key)
def programs_alive():
    gc.collect()
    return len(jax.devices()[0].client.live_executables())
def evaluate(constant):
    network, loss, _ = build()
    metrics = {"loss": lambda o, t: loss(o, t) + constant[0]}
    jaxnet.evaluate(network, parameters, (x, y), metrics)
for i in range(20):
    evaluate(jnp.full(1000, float(i)))
before = programs_alive()
for i in range(20, 60):
    evaluate(jnp.full(1000, float(i)))
after = programs_alive()
jaxnet.clear_caches()
print(after <= before, programs_alive() <= after - 16)
"""
    assert helpers.run_plainly(COUNT + script).split() == ["True", "True"]


def test_inside_of_another_program_nothing_is_kept():
    network = jaxnet.mlp([2, 3, 1])
    parameters = network.init(jax.random.key(0))
    data, factor = (jnp.ones((5, 2)), jnp.ones((5, 1))), 2.0

    def cost(parameters, weight):
        def loss(outputs, targets):
            return factor * weight * jaxnet.squared_error(outputs, targets)

        return jaxnet.evaluate(network, parameters, data, {"loss": loss})["loss"]

    before = [jax.jit(cost)(parameters, 3.0), jax.grad(cost, 1)(parameters, 3.0)]
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), parameters)
    both = jax.vmap(cost, (0, None))(stacked, 3.0)
    np.testing.assert_allclose(both, [before[0]] * 2, rtol=1e-6)
    factor = 4.0
    after = [jax.jit(cost)(parameters, 3.0), jax.grad(cost, 1)(parameters, 3.0)]
    np.testing.assert_allclose(np.array(after[1]), 2 * np.array(before[1]), rtol=1e-6)


# Functions that cannot have changed are not traced again.


def test_what_is_settled():
    """In a plain interpreter: the tests' type checker makes every function anew."""
    script = """
import functools, jax, jax.numpy as jnp, jaxnet, numpy as np, optax, types
from jaxnet.core.programs import settled
equal = {
    "mlp": lambda: jaxnet.mlp([4, 8, 3], activation=jaxnet.gelu, compute_dtype=jnp.bfloat16),
    "dropout": lambda: jaxnet.serial(jaxnet.residual(jaxnet.dense(2, 2)), jaxnet.dropout(0.5)),
    "straight through": lambda: jaxnet.straight_through(jaxnet.binary_step),
    "of JAX": lambda: jaxnet.dense(2, 2, jax.nn.relu, initializer=jax.nn.initializers.zeros),
    "adam": lambda: jaxnet.adam(optax.cosine_decay_schedule(0.1, 100), b1=0.8),
    "adamw": lambda: jaxnet.adamw(0.1, mask={"a": True}),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.lion(0.1)),
    "metrics": lambda: {"top": functools.partial(jaxnet.top_k_accuracy, k=2)},
}
print([name for name, make in equal.items() if settled(make()) is None])
print([name for name, make in equal.items() if settled(make()) != settled(make())])
different = [
    jaxnet.adam(0.1), jaxnet.adam(0.2), jaxnet.adam(0.0), jaxnet.adam(0.1, b1=0.0),
    (0.1, False), (0.1, 0), jaxnet.mlp([4, 8]), jaxnet.mlp([4, 9]), [1, 2], (1, 2), {"a": 1},
    {"b": 1}, jaxnet.mlp([4, 8], output_activation=jaxnet.tanh), True, 1, 1.0, 0.0, -0.0,
]
keys = list(map(settled, different))
print(len(set(keys)) == len(different), None in keys)
class Rate(float):
    pass
class Network(jaxnet.Network):
    pass
mine = lambda x: x
users = [
    mine, jaxnet.dense(2, 2, mine), functools.partial(mine), functools.wraps(jaxnet.relu)(mine),
    optax.masked(optax.adam(0.1), mine), jaxnet.adam(mine), jax.jit(mine), jax.custom_jvp(mine),
    jaxnet.straight_through(mine), optax.MultiSteps(optax.adam(0.1), 2), np.ones(3), jnp.ones(3),
    jaxnet.adam(jnp.float32(0.1)), types.SimpleNamespace(),
    Network(*jaxnet.mlp([2, 2])), {"a": mine}, optax.MultiSteps(optax.adam(0.1), 2).update, Rate(),
]
print([i for i, user in enumerate(users) if settled(user) is not None])
"""
    printed = helpers.run_plainly(script).splitlines()
    assert printed == ["[]", "[]", "True False", "[]"]
