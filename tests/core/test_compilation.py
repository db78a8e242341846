"""Compiled programs: they are reused, limited in number, and can be cleared."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np

import jaxnet

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


def test_functions_built_again_are_compiled_once():
    script = "print(call() > 4, [call() for _ in range(3)])\nLoss.factor = 3.0\nprint(call() > 2)"
    assert helpers.run_plainly(COUNT + script).splitlines() == ["True [0, 0, 0]", "True"]


def test_the_number_of_programs_is_limited_and_they_can_be_cleared():
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


def test_a_call_within_a_traced_program_keeps_nothing():
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


def test_another_process_finds_the_programs_in_the_cache_on_disk(tmp_path):
    script = """
import collections, jax, jaxnet, numpy as np
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event.split("/")[-1]]))
network, x = jaxnet.mlp([3, 8, 1]), np.eye(3, dtype=np.float32)
arguments = network, jaxnet.squared_error, jaxnet.adam(0.01), (x, x[:, :1])
run = jaxnet.fit(*arguments, key=jax.random.key(0), epochs=2, batch_size=2, progress=False)
jaxnet.predict(network, run.parameters, x)
print(counts["cache_hits"], counts["cache_misses"])
"""
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    first, second = (helpers.run_plainly(script, **settings).split() for _ in range(2))
    programs = first[1]
    assert first == ["0", programs] and int(programs) >= 2
    assert second == [programs, "0"]
