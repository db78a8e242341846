"""Settled values: those that need not be traced again."""

import helpers


def test_functions_of_packages_are_settled_and_those_of_users_are_not():
    """In a plain interpreter, since the tests' type checker wraps jaxnet's functions."""
    script = """
import functools, pickle, jax, jax.numpy as jnp, jaxnet, numpy as np, optax, types
from jaxnet.core import checks
from jaxnet.core.settled import settled_key
equal = {
    "mlp": lambda: jaxnet.mlp([4, 8, 3], activation=jaxnet.gelu, compute_dtype=jnp.bfloat16),
    "dropout": lambda: jaxnet.serial(jaxnet.residual(jaxnet.dense(2, 2)), jaxnet.dropout(0.5)),
    "straight through": lambda: jaxnet.straight_through(jaxnet.binary_step),
    "of JAX": lambda: jaxnet.dense(2, 2, jax.nn.relu, initializer=jax.nn.initializers.zeros),
    "adam": lambda: jaxnet.adam(optax.cosine_decay_schedule(0.1, 100), b1=0.8),
    "adamw": lambda: jaxnet.adamw(0.1, mask={"a": True}),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.lion(0.1)),
    "door": lambda: checks.door(jaxnet.relu, "activation"),
    "encoding": lambda: jaxnet.piecewise_linear([np.linspace(0, 1, 5), [0, 1]]),
    "ensemble": lambda: jaxnet.batch_ensemble(jaxnet.mlp([2, 3, 1]), 2),
    "waves": lambda: jaxnet.periodic(3),
    "loss": lambda: jaxnet.member_mean(jaxnet.squared_error),
    "metrics": lambda: {"top": functools.partial(jaxnet.top_k_accuracy, k=2)},
    "layer norm": lambda: jaxnet.layer_norm(3, epsilon=0.1),
    "gradient descent": lambda: jaxnet.gradient_descent(0.1),
    "sgd": lambda: jaxnet.sgd(0.1, momentum=0.9, nesterov=True),
    "step": lambda: jaxnet.make_step(jaxnet.mlp([2, 1]), jaxnet.squared_error, jaxnet.sgd(0.1)),
}
print([name for name, make in equal.items() if settled_key(make()) is None])
print([name for name, make in equal.items() if settled_key(make()) != settled_key(make())])
unnamed = ("of JAX", "adam", "chain", "door")  # which pickle finds by no name
copies = {n: pickle.loads(pickle.dumps(f())) for n, f in equal.items() if n not in unnamed}
print([name for name, copy in copies.items() if settled_key(copy) != settled_key(equal[name]())])
different = [
    jaxnet.adam(0.1), jaxnet.adam(0.2), jaxnet.adam(0.0), jaxnet.adam(0.1, b1=0.0),
    (0.1, False), (0.1, 0), jaxnet.mlp([4, 8]), jaxnet.mlp([4, 9]), [1, 2], (1, 2), {"a": 1},
    {"b": 1}, jaxnet.mlp([4, 8], output_activation=jaxnet.tanh), True, 1, 1.0, 0.0, -0.0,
]
keys = list(map(settled_key, different))
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
    checks.door(mine), checks.door(mine, "relu"), checks.door(functools.wraps(jaxnet.relu)(mine)),
    checks.door(checks.door(mine)), checks.door(functools.partial(mine), "partial"),
    jaxnet.Network(checks.door(mine), checks.door(mine)),
]
print([i for i, user in enumerate(users) if settled_key(user) is not None])
"""
    printed = helpers.run_plainly(script).splitlines()
    assert printed == ["[]", "[]", "[]", "True False", "[]"]


def test_an_edited_function_behind_a_door_is_noticed():
    """A door of jaxnet holds the function, so the key is that of the function, not of the door."""
    script = """
import jax, jax.numpy as jnp, jaxnet
from jaxnet.core import checks, programs
from jaxnet.core.settled import settled_key
def loss(outputs, targets):
    return 2.0 * jnp.sum((outputs - targets) ** 2, -1)
network, x = jaxnet.mlp([1, 1]), jnp.ones((4, 1))
parameters = network.init(jax.random.key(0))
entered = checks.door(loss)
def evaluate():
    return float(jaxnet.evaluate(network, parameters, (x, x), {"loss": entered})["loss"])
before, print_before = evaluate(), programs.fingerprint(entered, x, x)
def edited(outputs, targets):
    return 4.0 * jnp.sum((outputs - targets) ** 2, -1)
loss.__code__ = edited.__code__
print(settled_key(entered), evaluate() == 2 * before > 0)
print(programs.fingerprint(entered, x, x) != print_before)
"""
    assert helpers.run_plainly(script).split() == ["None", "True", "True"]
