"""Optimizers: equal to optax's to the last bit, and refusing what cannot be meant."""

import functools
import inspect

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
    "adamw, nesterov": both("adamw", 0.01, nesterov=True),
    "adamw, schedule and mask": both("adamw", SCHEDULE, weight_decay=0.1, mask=weights_only),
    "adamw, scheduled decay": both("adamw", 0.01, weight_decay=SCHEDULE),
    "nadam": both("nadam", 0.01),
    "amsgrad": both("amsgrad", 0.01),
    "rmsprop": both("rmsprop", SCHEDULE),
    "rmsprop, centred": both(
        "rmsprop", 0.003, decay=0.99, initial_scale=0.1, centered=True, momentum=0.9
    ),
    "rmsprop, all else": both(
        "rmsprop", 0.003, eps_in_sqrt=False, momentum=0.5, nesterov=True, bias_correction=True
    ),
    "adagrad": both("adagrad", 0.01),
    "lion": both("lion", SCHEDULE, mask=weights_only),
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
    if (name, dtype) == ("adamw, scheduled decay", "bfloat16"):
        pytest.skip("optax computes the decay by a schedule in float32")
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


PAIRS = {
    "gradient_descent": both("gradient_descent", 0.1),
    "sgd": both("sgd", 0.1, momentum=0.9, nesterov=True),
    "adam": both("adam", 0.1),
    "adamw": both("adamw", 0.1),
    "nadam": both("nadam", 0.1),
    "amsgrad": both("amsgrad", 0.1),
    "rmsprop": both("rmsprop", 0.1, centered=True, momentum=0.9),
    "adagrad": both("adagrad", 0.1),
    "lion": both("lion", 0.1, weight_decay=0.0),
}
ALL = {name: ours for name, (ours, _) in PAIRS.items()}


def three_steps(optimizer, parameters, gradients):
    """The updates and the state of three steps, as optax needs the promotion of dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        state, updates = optimizer.init(parameters), []
        for g in gradients:
            one, state = jax.jit(optimizer.update)(g, state, parameters)
            updates.append(one)
        return updates, state


@pytest.mark.parametrize("name", PAIRS)
def test_complex_parameters_give_optax_s_bits(name):
    random = np.random.default_rng(0)
    waves = [np.complex64(random.normal(size=4) + 1j * random.normal(size=4)) for _ in range(4)]
    ours, theirs = (
        three_steps(rule, *map(jnp.array, waves[:1]), waves[1:]) for rule in PAIRS[name]
    )
    chex.assert_trees_all_equal(ours[0], theirs[0])
    assert {leaf.dtype for leaf in jax.tree.leaves(ours[0])} == {np.dtype(np.complex64)}


@pytest.mark.parametrize("dtypes", ["bfloat16 float32", "float32 bfloat16"])
@pytest.mark.parametrize("name", PAIRS)
def test_gradients_of_another_precision_give_optax_s_bits_and_keep_the_state_s_types(name, dtypes):
    ours, theirs = PAIRS[name]
    dtype, other = dtypes.split()
    random = np.random.default_rng(0)
    parameters, *gradients = jnp.asarray(random.normal(size=(4, 5)), dtype)
    gradients = [g.astype(other) for g in gradients]
    expected, _ = three_steps(theirs, parameters, gradients[:1])  # then the types of optax's change
    updates, state = three_steps(ours, parameters, gradients)
    chex.assert_trees_all_equal(updates[0], expected[0])
    chex.assert_trees_all_equal_shapes_and_dtypes(state, ours.init(parameters))


@pytest.mark.parametrize("moment", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "nadam", "amsgrad", "lion"])
def test_the_dtype_of_a_moment_may_be_chosen(name, moment):
    option = {"accumulator_dtype" if name == "sgd" else "mu_dtype": moment}
    hyperparameters = {"momentum": 0.9} if name == "sgd" else {}
    random = np.random.default_rng(0)
    parameters, *gradients = jnp.asarray(random.normal(size=(4, 5)), jnp.bfloat16)
    results = [
        three_steps(rule, parameters, gradients)
        for rule in both(name, 0.1, **hyperparameters, **option)
    ]
    chex.assert_trees_all_equal(results[0][0], results[1][0])
    (ours,), (theirs,) = (
        jax.tree.leaves(optax.tree.get(state, "trace" if name == "sgd" else "mu"))
        for _, state in results
    )
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype == jax.dtypes.canonicalize_dtype(moment)


def test_a_decay_of_zero_changes_no_sign():
    """0 * p is added by neither library, so a direction of -0 stays."""
    ours, theirs = both("lion", 0.1, weight_decay=0.0)
    zero = jnp.array([0.0, -0.0])
    received, expected = (three_steps(rule, zero, [zero])[0][0] for rule in (ours, theirs))
    np.testing.assert_array_equal(np.signbit(received), np.signbit(expected))


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
        ({"w": jnp.ones((2, 3)), "b": jnp.ones(3, jnp.complex64)}, r"'b' is complex64\[3\] in"),
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


@pytest.mark.parametrize("name", PAIRS)
def test_states_and_calls_are_those_of_optax_s_users(name):
    """The names of fields, the parameters by keyword, and arguments that others of a chain need."""
    ours, theirs = PAIRS[name]
    parameters = jnp.array([1.0, -2.0])
    state = ours.init(parameters)
    expected, after = ours.update(parameters, state, parameters)
    updates, _ = ours.update(parameters, state, params=parameters, value=jnp.array(3.0))
    np.testing.assert_array_equal(updates, expected)
    assert after.count == 1
    _, reference = three_steps(theirs, parameters, [parameters])
    moments = [field for field in after._fields if field != "count"]
    assert moments or name == "gradient_descent"
    for field in moments:
        mine, its = (optax.tree.get(each, field) for each in (after, reference))
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("name", sorted(PAIRS.keys() - {"gradient_descent"}))
def test_arguments_are_those_of_optax(name):
    """The same names in the same order, with the same defaults; optax has a few more at the end."""
    parameters = [
        [
            (each.name, each.default)
            for each in inspect.signature(getattr(library, name)).parameters.values()
        ]
        for library in (jaxnet, optax)
    ]
    ours, theirs = parameters
    if name == "sgd":
        assert theirs[1] == ("momentum", None)
        theirs[1] = ("momentum", 0.0)
    assert ours == theirs[: len(ours)]
    more = {"nadam": ["nesterov"], "amsgrad": ["bias_correction_mu", "bias_correction_nu"]}
    assert [name for name, _ in theirs[len(ours) :]] == more.get(name, [])
