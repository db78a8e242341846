"""Optimizers: equal to optax's to the last bit, and refusing what cannot be meant."""

import functools

import chex
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet

STEPS = 10_000
SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 0.02, 100, STEPS)


def weights_only(parameters):
    return jax.tree.map(lambda leaf: leaf.ndim == 2, parameters)


def both(name, learning_rate, **hyperparameters):
    """Our optimizer, and optax's of the same arguments."""
    theirs = {"gradient_descent": "sgd"}.get(name, name)
    return (
        getattr(jaxnet, name)(learning_rate, **hyperparameters),
        getattr(optax, theirs)(learning_rate, **hyperparameters),
    )


CASES = {
    "gradient descent": both("gradient_descent", 0.01),
    "gradient descent, schedule": both("gradient_descent", SCHEDULE),
    "momentum": both("sgd", 0.01, momentum=0.9),
    "momentum 0.5, schedule": both("sgd", SCHEDULE, momentum=0.5),
    "nesterov": both("sgd", 0.01, momentum=0.9, nesterov=True),
    "adam": both("adam", 0.01),
    "adam, schedule": both("adam", SCHEDULE),
    "adam, all else": both("adam", 0.003, b1=0.5, b2=0.95, eps=1e-5, eps_root=1e-9),
    "adam, no memory": both("adam", 0.003, b1=0.0, b2=0.0),
    "adamw": both("adamw", 0.01, weight_decay=0.1),
    "adamw, schedule and mask": both("adamw", SCHEDULE, weight_decay=0.1, mask=weights_only),
}
CASES["adam after clipping"] = tuple(
    optax.chain(optax.clip_by_global_norm(0.5), optimizer) for optimizer in CASES["adam"]
)


NETWORK = jaxnet.mlp([3, 8, 2], activation=jaxnet.tanh)


@functools.partial(jax.jit, static_argnums=0)
def trajectory(optimizer, parameters, inputs, targets, batches):
    """The parameters after a step on each of the batches, in one scan."""

    def cost(parameters, rows):
        outputs = NETWORK.apply(parameters, inputs[rows])
        return jnp.mean(jaxnet.squared_error(outputs, targets[rows]))

    def step(carry, rows):
        parameters, state = carry
        gradients = jax.grad(cost)(parameters, rows)
        updates, state = optimizer.update(gradients, state, parameters)
        return (optax.apply_updates(parameters, updates), state), None

    return jax.lax.scan(step, (parameters, optimizer.init(parameters)), batches)[0][0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_bits_equal_optax_over_10_000_steps(name, dtype):
    random = np.random.default_rng(0)
    inputs, targets = random.normal(size=(16, 3)), random.normal(size=(16, 2))
    batches = random.integers(16, size=(STEPS, 4))
    # Only optax needs the promotion: it adds Python floats to integer counters.
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"):
        parameters = NETWORK.init(jax.random.key(0))
        start = jax.tree.map(lambda a: jnp.asarray(a, dtype), (parameters, inputs, targets))
        ours, theirs = (trajectory(rule, *start, batches) for rule in CASES[name])
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    chex.assert_trees_all_equal(ours, theirs)
    chex.assert_tree_all_finite(ours)


def test_traced_rate_equals_the_number():
    gradients = {"a": jnp.array([0.3, -2.0]), "b": jnp.array(1e-12)}

    @jax.jit
    def update(rate):
        optimizer = jaxnet.adam(rate)
        return optimizer.update(gradients, optimizer.init(gradients))[0]

    optimizer = jaxnet.adam(0.01)
    chex.assert_trees_all_equal(
        update(0.01), jax.jit(optimizer.update)(gradients, optimizer.init(gradients))[0]
    )


def test_traced_rate_keeps_bfloat16():
    parameters = jnp.ones(3, jnp.bfloat16)

    def update(rate):
        optimizer = jaxnet.adamw(rate, weight_decay=rate)
        return optimizer.update(parameters, optimizer.init(parameters), parameters)

    updates, state = jax.eval_shape(update, jnp.array(0.1))
    assert updates.dtype == state.mu.dtype == state.nu.dtype == jnp.bfloat16


ALL = {
    "gradient_descent": jaxnet.gradient_descent(0.1),
    "sgd": jaxnet.sgd(0.1, momentum=0.9),
    "adam": jaxnet.adam(0.1),
    "adamw": jaxnet.adamw(0.1),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "parameters",
    [{}, {"a": None, "b": [jnp.ones(2), (jnp.ones(()),)]}, jnp.ones((2, 3), jnp.float16)],
    ids=["empty", "nested with None", "one array"],
)
def test_state_stays_of_one_type(name, parameters):
    optimizer = ALL[name]
    state = optimizer.init(parameters)
    _, after = optimizer.update(parameters, state, parameters)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    avals = [jax.typeof(leaf) for leaf in jax.tree.leaves(state)]  # shape, dtype and weak type
    assert [jax.typeof(leaf) for leaf in jax.tree.leaves(after)] == avals


@pytest.mark.parametrize("name", ALL)
def test_counter_stays_at_the_largest_integer(name):
    optimizer, largest = ALL[name], np.iinfo(np.int32).max
    state = optimizer.init(jnp.ones(1))._replace(count=jnp.array(largest, jnp.int32))
    updates, after = optimizer.update(jnp.ones(1), state, jnp.ones(1))
    assert after.count == largest
    assert jnp.isfinite(updates).all()


def test_without_momentum_sgd_is_gradient_descent():
    ours = jaxnet.sgd(0.1).update(jnp.array([3.0]), jaxnet.sgd(0.1).init(jnp.array([1.0])))[0]
    np.testing.assert_array_equal(ours, -jnp.float32(0.1) * jnp.array([3.0]))


def test_mask_may_be_a_prefix():
    parameters = {"decays": [jnp.ones(2)], "stays": [jnp.ones(2)]}
    optimizer = jaxnet.adamw(0.1, weight_decay=0.5, mask={"decays": True, "stays": False})
    zero = jax.tree.map(jnp.zeros_like, parameters)
    updates, _ = optimizer.update(zero, optimizer.init(parameters), parameters)
    np.testing.assert_allclose(updates["decays"][0], -0.1 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(updates["stays"][0], 0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("gradients", "difference"),
    [
        ({"w": jnp.ones((2, 3))}, "'b' is missing"),
        ({"w": jnp.ones((2, 3)), "b": jnp.ones(3), "c": jnp.ones(1)}, "'c' is not expected"),
        ({"w": jnp.ones((3, 2)), "b": jnp.ones(3)}, r"'w' is float32\[3, 2\] instead of"),
        ({"w": jnp.ones((2, 3)), "b": jnp.ones(3, jnp.bfloat16)}, r"'b' is bfloat16\[3\] in"),
    ],
    ids=["missing", "extra", "shape", "dtype"],
)
def test_gradients_that_do_not_match_are_refused(name, gradients, difference):
    parameters = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    optimizer = ALL[name]
    with pytest.raises(ValueError, match=difference) as caught:
        optimizer.update(gradients, optimizer.init(parameters), parameters)
    assert "Expected: {'b': float32[3], 'w': float32[2, 3]}" in str(caught.value)
    assert "Received: {" in str(caught.value)


def test_other_containers_are_refused():
    optimizer = jaxnet.adam(0.1)
    with pytest.raises(ValueError, match="the containers differ"):
        optimizer.update([jnp.ones(1)], optimizer.init((jnp.ones(1),)))


def test_decay_needs_the_parameters():
    optimizer = jaxnet.adamw(0.1)
    with pytest.raises(ValueError, match=r"adamw: expected update\(gradients, state, parameters\)"):
        optimizer.update(jnp.ones(1), optimizer.init(jnp.ones(1)))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: jaxnet.gradient_descent(-0.1), ValueError, "learning_rate of at least 0"),
        (lambda: jaxnet.sgd(float("nan")), ValueError, "finite learning_rate"),
        (lambda: jaxnet.adam(float("inf")), ValueError, "finite learning_rate"),
        (lambda: jaxnet.adam(np.float32(-1)), ValueError, "Received: -1.0"),
        (lambda: jaxnet.adam(jnp.array(-1.0)), ValueError, "Received: -1.0"),
        (lambda: jaxnet.adam(True), TypeError, "expected a number for learning_rate"),
        (lambda: jaxnet.adam(None), TypeError, "expected a number for learning_rate"),
        (lambda: jaxnet.adam("0.1"), TypeError, "Received: str '0.1'"),
        (lambda: jaxnet.adam([0.1]), TypeError, "expected a number for learning_rate"),
        (lambda: jaxnet.adam(jnp.ones(2)), TypeError, "float32[2]"),
        (lambda: jaxnet.sgd(0.1, momentum=1.0), ValueError, "at least 0 and below 1. Received: 1"),
        (lambda: jaxnet.sgd(0.1, momentum=-0.1), ValueError, "momentum"),
        (lambda: jaxnet.adam(0.1, b1=1), ValueError, "adam: expected a finite b1"),
        (lambda: jaxnet.adam(0.1, b2=1.5), ValueError, "b2"),
        (lambda: jaxnet.adam(0.1, eps=-1e-8), ValueError, "eps of at least 0"),
        (lambda: jaxnet.adam(0.1, eps_root=-1), ValueError, "eps_root"),
        (
            lambda: jaxnet.adamw(0.1, weight_decay=-1),
            ValueError,
            "adamw: expected a finite weight_decay",
        ),
        (lambda: jaxnet.adamw(0.1, b1=1), ValueError, "adamw: expected a finite b1"),
    ],
)
def test_hyperparameters_are_checked(make, error, words):
    with helpers.refused(error, words):
        make()


def test_work_inside_optax():
    """In `inject_hyperparams`, `MultiSteps` and `masked`, as optax's own."""
    parameters = {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
    wrappers = [
        lambda rule: optax.inject_hyperparams(rule)(learning_rate=0.1),
        lambda rule: optax.MultiSteps(rule(0.1), 2).gradient_transformation(),
        lambda rule: optax.masked(rule(0.1), {"w": True, "b": False}),
    ]
    with jax.numpy_dtype_promotion("standard"):
        for wrap in wrappers:
            results = []
            for optimizer in (wrap(jaxnet.adam), wrap(optax.adam)):
                state = optimizer.init(parameters)
                for _ in range(4):
                    updates, state = optimizer.update(parameters, state, parameters)
                results.append(updates)
            chex.assert_trees_all_equal(*results)


@pytest.mark.parametrize("name", ["gradient_descent", "sgd", "adam", "adamw"])
def test_states_and_calls_are_those_of_optax_s_users(name):
    """The names of fields, the parameters by keyword, and arguments that others of a chain need."""
    parameters = jnp.array([1.0, -2.0])
    ours = {
        "gradient_descent": jaxnet.gradient_descent(0.1),
        "sgd": jaxnet.sgd(0.1, 0.9),
        "adam": jaxnet.adam(0.1),
        "adamw": jaxnet.adamw(0.1),
    }[name]
    state = ours.init(parameters)
    expected, _ = ours.update(parameters, state, parameters)
    updates, state = ours.update(parameters, state, params=parameters, value=jnp.array(3.0))
    np.testing.assert_array_equal(updates, expected)
    assert optax.tree.get(state, "count") == 1
    fields = {"sgd": ["trace"], "adam": ["mu", "nu"], "adamw": ["mu", "nu"]}.get(name, [])
    theirs = {
        "sgd": optax.sgd(0.1, 0.9),
        "adam": optax.adam(0.1),
        "adamw": optax.adamw(0.1),
    }.get(name)
    for field in fields:
        with jax.numpy_dtype_promotion("standard"):  # as optax needs it
            _, reference = theirs.update(parameters, theirs.init(parameters), parameters)
        mine, its = (optax.tree.get(each, field) for each in (state, reference))
        np.testing.assert_array_equal(mine, its)
