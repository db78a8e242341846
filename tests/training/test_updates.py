"""Optimizers that ask for more than gradients: they get it, and are right beside optax's loop."""

import functools
import inspect
import re
import types
import warnings
from typing import Any, NamedTuple

import chex
import helpers
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import optax.contrib
import pytest

import jaxnet

RANDOM = np.random.default_rng(0)
INPUTS = jnp.asarray(RANDOM.normal(size=(20, 3)), jnp.float32)
LABELS = jnp.asarray(RANDOM.integers(4, size=20), jnp.int32)
WEIGHTS = jnp.asarray(RANDOM.uniform(size=20), jnp.float32)
DATA = INPUTS, LABELS, WEIGHTS
NETWORK = jaxnet.serial(jaxnet.dense(3, 5, jaxnet.tanh), jaxnet.dropout(0.3), jaxnet.dense(5, 4))
SMALL = jaxnet.serial(jaxnet.dropout(0.3), jaxnet.dense(3, 4))
LOSS = jaxnet.softmax_cross_entropy
KEY = jax.random.key(7)


@pytest.fixture(autouse=True)
def _as_optax_needs_it():
    """Some of optax mixes dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def weights_only(parameters):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)


def by_rank(parameters):
    return jax.tree.map(lambda leaf: "matrix" if leaf.ndim > 1 else "vector", parameters)


def plateau():
    return optax.contrib.reduce_on_plateau(patience=1, accumulation_size=2, rtol=0.5)


def sam(**options):
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    return optax.contrib.sam(optax.sgd(0.1), ascent, **options)


def linesearch():
    return optax.scale_by_backtracking_linesearch(5)


NEED_MORE = {
    "reduce_on_plateau": lambda: optax.chain(optax.adam(0.1), plateau()),
    "polyak_sgd": lambda: optax.polyak_sgd(0.5),
    "momo_adam": optax.contrib.momo_adam,
    "lbfgs": lambda: optax.lbfgs(memory_size=3),
    "backtracking": lambda: optax.chain(optax.sgd(1.0), linesearch()),
    "named": lambda: optax.named_chain(("adam", jaxnet.adam(0.1)), ("plateau", plateau())),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.polyak_sgd)(0.5),
    "MultiSteps": lambda: optax.MultiSteps(
        optax.polyak_sgd(0.5), 2, should_skip_update_fn=optax.skip_not_finite
    ).gradient_transformation(),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.polyak_sgd(0.5), 3),
    "masked": lambda: optax.masked(optax.polyak_sgd(0.5), weights_only),
    "partition": lambda: optax.partition(
        {"matrix": optax.polyak_sgd(0.5), "vector": jaxnet.adam(0.1)}, by_rank
    ),
    "flatten": lambda: optax.flatten(optax.polyak_sgd(0.5)),
    "conditionally_transform": lambda: optax.conditionally_transform(
        optax.polyak_sgd(0.5), lambda step, value, **_: value > 0.1, forward_extra_args=True
    ),
    "mechanize": lambda: optax.contrib.mechanize(optax.polyak_sgd(0.5)),
    "schedule_free": lambda: optax.contrib.schedule_free(
        optax.chain(optax.sgd(0.1), plateau()), 0.1
    ),
    "jitted": lambda: optax.polyak_sgd()._replace(update=jax.jit(optax.polyak_sgd().update)),
}

OTHERS = {
    "clipped opaque sam": (
        lambda: optax.chain(optax.clip(0.5), sam(opaque_mode=True)),
        ["grad_fn"],
    ),
    "sam": (sam, []),
    "sophia": (lambda: optax.contrib.sophia(0.1), ["obj_fn"]),
}

CASES = {name: (make, ["value", "grad", "value_fn"]) for name, make in NEED_MORE.items()} | OTHERS


def optax_step(network, optimizer, names):
    """A step as optax's documentation writes it."""

    def step(state, data, key, t):
        parameters, optimizer_state = state
        inputs, labels, weights = data
        noise = jax.random.fold_in(key, t)

        def cost(parameters):
            outputs = network.apply(parameters, inputs, key=jax.random.clone(noise))
            losses, total = LOSS(outputs, labels), jnp.sum(weights)
            counted = jnp.sum(weights * jnp.where(weights == 0, 0, losses))
            return counted / jnp.where(total == 0, 1, total)

        value, gradients = jax.value_and_grad(cost)(parameters)
        known = {
            "value": value,
            "grad": gradients,
            "value_fn": jax.tree_util.Partial(cost),
            "obj_fn": cost,
            "grad_fn": jax.grad(lambda parameters, _: cost(parameters)),
        }
        extra = {name: known[name] for name in names}
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, parameters, **extra)
        return (optax.apply_updates(parameters, updates), optimizer_state), value

    return step


@pytest.mark.parametrize("name", helpers.mostly_slow(CASES))
def test_a_step_equals_optax_s_bit_for_bit(name):
    make, names = CASES[name]
    state = jaxnet.initial_state(SMALL, make(), key=jax.random.key(0))
    expected = state.parameters, state.optimizer_state
    theirs = jax.jit(optax_step(SMALL, make(), names))
    ours = jax.jit(jaxnet.make_step(SMALL, LOSS, make()))
    for t in range(4):
        expected, value = theirs(expected, DATA, KEY, jnp.int32(t))
        state, metrics = ours(state, DATA, KEY)
        np.testing.assert_array_equal(metrics["cost"], value)
        chex.assert_trees_all_equal((state.parameters, state.optimizer_state), expected)


class Seen(NamedTuple):
    """What an update was given."""

    value: Any
    again: Any
    furthest: Any


def witness():
    """Gradient descent that keeps the value, the cost once more, and how far its gradient is."""

    def init(parameters):
        del parameters
        return Seen(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))

    def update(gradients, state, parameters, *, value, value_fn, grad, **extra):
        del state, extra
        again, gradients_again = jax.value_and_grad(value_fn)(parameters)
        apart = jax.tree.map(
            lambda *each: jnp.stack([jnp.abs(each[0] - other).max() for other in each[1:]]).max(),
            gradients,
            grad,
            gradients_again,
        )
        seen = Seen(value, again, jnp.stack(jax.tree.leaves(apart)).max())
        return jax.tree.map(lambda g: -0.1 * g, gradients), seen

    return optax.GradientTransformationExtraArgs(init, update)


@pytest.mark.parametrize("batch_size", [8, None])
def test_the_cost_that_is_passed_is_the_one_that_the_step_descends_on(batch_size):
    """Same batch, also where it is filled up, same weights and same dropout."""
    arguments = (NETWORK, LOSS, witness(), DATA)
    epoch = functools.partial(jaxnet.train, *arguments, key=KEY, epochs=1, batch_size=batch_size)
    state = jax.jit(epoch)()[0]
    others = []
    for _ in range(3):
        state, _ = jax.jit(epoch)(state=state)
        seen = state.optimizer_state
        np.testing.assert_array_equal(seen.value, seen.again)
        assert seen.furthest == 0
        others.append(float(seen.value))
    assert len(set(others)) == 3  # dropout differs from step to step


def test_the_cost_is_that_of_parameters_in_their_own_precision():
    """Line searches try float32 where the parameters are bfloat16."""
    dtypes = []

    def update(gradients, state, parameters, *, value, value_fn):
        tried = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), parameters)
        dtypes.append(value_fn(tried).dtype)
        return jax.tree.map(jnp.zeros_like, gradients), value_fn(tried) - value

    def halved(key):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), jaxnet.mlp([3, 4]).init(key))

    network = jaxnet.Network(init=halved, apply=jaxnet.mlp([3, 4]).apply)
    ones = optax.GradientTransformationExtraArgs(lambda _: jnp.ones((), jnp.bfloat16), update)
    state = jaxnet.initial_state(network, ones, key=jax.random.key(0))
    step = jaxnet.make_step(network, LOSS, ones)
    state, metrics = step(state, (INPUTS.astype(jnp.bfloat16), LABELS))
    assert state.optimizer_state == 0
    assert {*dtypes} == {metrics["cost"].dtype}


def hand_written(optimizer, epochs, data, key):
    """`train` on all examples at once, as a loop of optax's."""
    state = jaxnet.initial_state(NETWORK, optimizer, key=key)
    noise = jax.random.fold_in(key, 2)
    step = optax_step(NETWORK, optimizer, ["value", "grad", "value_fn"])
    return jax.lax.scan(
        lambda state, t: step(state, data, jax.random.clone(noise), t),
        (state.parameters, state.optimizer_state),
        jnp.arange(epochs, dtype=jnp.int32),
    )


@pytest.mark.parametrize("name", ["reduce_on_plateau", "backtracking"])
def test_train_and_fit_equal_optax_s_loop(name):
    optimizer = NEED_MORE[name]()
    data = tuple(part[:16] for part in DATA)  # as many rows as a program of `fit` has
    (parameters, _), costs = jax.jit(hand_written, static_argnums=(0, 1))(optimizer, 8, data, KEY)
    arguments, sizes = (NETWORK, LOSS, optimizer), {"epochs": 8, "batch_size": None}
    trained = jax.jit(lambda data, key: jaxnet.train(*arguments, data, key=key, **sizes))
    state, history = trained(data, KEY)
    np.testing.assert_allclose(history["cost"], costs, rtol=1e-6)
    chex.assert_trees_all_close(state.parameters, parameters, rtol=1e-5, atol=1e-6)
    run = jaxnet.fit(*arguments, data, key=KEY, progress=False, **sizes)
    np.testing.assert_array_equal(run.history["cost"], history["cost"])
    chex.assert_trees_all_equal(run.state, state)


def test_reduce_on_plateau_reduces_the_rate_in_fit():
    """A rate of 0 never improves: the scale halves every second step, from the second on."""
    halving = optax.contrib.reduce_on_plateau(factor=0.5, patience=2, rtol=0.1)
    optimizer = optax.chain(optax.sgd(0.0), halving)
    network = jaxnet.mlp([3, 4])
    options = {"key": KEY, "epochs": 9, "batch_size": None, "progress": False}
    state = jaxnet.fit(network, LOSS, optimizer, DATA, **options).state
    assert float(optax.tree.get(state.optimizer_state, "scale")) == 0.5**4


def test_sweep_over_an_optimizer_that_needs_the_value():
    def run(key, largest):
        options = {"key": key, "epochs": 3, "batch_size": 8}
        return jaxnet.train(NETWORK, LOSS, optax.polyak_sgd(largest), DATA, **options)[1]["cost"]

    keys, rates = jax.random.split(KEY, 2), [0.01, 0.1]
    found = jaxnet.sweep(run, {"key": keys, "largest": rates})
    single = jax.jit(run)
    for i, key in enumerate(keys):
        for j, rate in enumerate(rates):
            np.testing.assert_allclose(found.results[i, j], single(key, rate), rtol=1e-5)


def test_a_multi_steps_object_is_an_optimizer():
    """It is no GradientTransformation, which only the annotations of these tests mind."""
    optimizer = optax.MultiSteps(optax.polyak_sgd(0.5), 2)
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        step = jaxnet.make_step(NETWORK, LOSS, optimizer)
        state = jaxnet.initial_state(NETWORK, optimizer, key=jax.random.key(0))
        after, _ = jax.eval_shape(step, state, DATA, KEY)
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


# Nothing is added for the others.


def program_of(optimizer):
    """The traced step, without addresses of functions."""
    state = jaxnet.initial_state(NETWORK, optimizer, key=jax.random.key(0))
    step = jaxnet.make_step(NETWORK, LOSS, optimizer)
    return re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(step)(state, DATA, KEY)))


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(0.1),
        optax.chain(optax.clip_by_global_norm(1.0), jaxnet.adam(0.1)),
        optax.masked(optax.adamw(0.1), weights_only),
        sam(),
        optax.chain(optax.clip(0.5), sam()),
    ],
)
def test_what_is_not_needed_is_not_in_the_program(optimizer):
    plain = optax.GradientTransformation(optimizer.init, lambda g, s, p: optimizer.update(g, s, p))
    assert program_of(optimizer) == program_of(plain)


def test_the_value_takes_no_further_pass():
    products = {
        name: program_of(optimizer).count("dot_general")
        for name, optimizer in [("sgd", optax.sgd(0.1)), ("momo", optax.contrib.momo())]
    }
    assert products["sgd"] > 0
    # momo's own are one for each of the four leaves, twice
    assert products["momo"] - products["sgd"] == 8, products


def test_an_update_that_prints_does_so_once_a_step():
    def shout(updates, parameters):
        del parameters
        jax.debug.callback(lambda: None)
        return updates

    assert program_of(optax.chain(optax.stateless(shout), sam())).count("debug_callback[") == 1


# jaxnet's optimizers are optax's, also inside of what passes more.


@pytest.mark.parametrize(
    "wrapped",
    helpers.mostly_slow(
        [
            lambda adam: optax.chain(adam(0.1), plateau()),
            lambda adam: optax.MultiSteps(adam(0.1), 2).gradient_transformation(),
            lambda adam: optax.masked(adam(0.1), weights_only),
            lambda adam: optax.apply_if_finite(adam(0.1), 3),
            lambda adam: optax.flatten(adam(0.1)),
            lambda adam: optax.contrib.mechanize(adam(0.1)),
            lambda adam: optax.contrib.schedule_free(adam(0.1), 0.1),
            lambda adam: optax.contrib.sam(adam(0.1), adam(0.01)),
            lambda adam: optax.conditionally_transform(adam(0.1), lambda step: step % 2 == 0),
            lambda adam: optax.inject_hyperparams(adam)(0.1),
        ]
    ),
)
def test_jaxnet_s_adam_in_a_wrapper_equals_optax_s(wrapped):
    ends = []
    for adam in (jaxnet.adam, optax.adam):
        optimizer = wrapped(adam)
        state = jaxnet.initial_state(SMALL, optimizer, key=jax.random.key(0))
        step = jax.jit(jaxnet.make_step(SMALL, LOSS, optimizer))
        for _ in range(3):
            state, _ = step(state, DATA, KEY)
        ends.append(state.parameters)
    chex.assert_trees_all_equal(*ends)


# What looks into a step.


def test_diagnose_makes_the_update_of_an_optimizer_that_needs_the_cost():
    network, optimizer = jaxnet.mlp([3, 5, 4]), optax.polyak_sgd(0.5)
    parameters = network.init(jax.random.key(0))

    def cost(parameters):
        return jnp.mean(LOSS(network.apply(parameters, INPUTS), LABELS))

    value, gradients = jax.value_and_grad(cost)(parameters)
    kept = optimizer.init(parameters)
    updates, _ = optimizer.update(gradients, kept, parameters, value=value)
    found = jaxnet.diagnose(network, LOSS, parameters, (INPUTS, LABELS), optimizer=optimizer)
    for layer, update in zip(found.layers, updates, strict=True):
        expected = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(update)))
        np.testing.assert_allclose(layer.updates, expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:fit. expected inputs of data on a similar scale")
def test_a_step_that_fails_is_found_under_an_optimizer_that_needs_the_cost():
    network = jaxnet.mlp([3, 4])
    inputs = np.array(INPUTS)
    inputs[13] = 1e30  # squared_error's square is infinite in float32
    options = {"key": KEY, "epochs": 2, "batch_size": None, "progress": False}
    targets = np.zeros((20, 4), np.float32)
    arguments = (network, jaxnet.squared_error, optax.chain(optax.sgd(0.1), plateau()))
    with pytest.raises(jaxnet.NonFiniteError) as caught:
        jaxnet.fit(*arguments, (inputs, targets), **options)
    failure = caught.value.failure
    assert failure.step == 0
    assert failure.rows.tolist() == [13]
    assert failure.nonfinite.quantity == "loss"


def test_comparing_optimizers_that_need_the_cost_is_refused():
    with helpers.refused(ValueError, "compare_optimizers: expected a candidate", "'value'"):
        jaxnet.compare_optimizers(optax.polyak_sgd(), optax.sgd(0.1))
    runs = jaxnet.check_optimizer(optax.polyak_sgd()).checks[0]
    assert not runs.passed
    assert "'value'" in runs.seen


# What does not work is refused.


def needs_curvature():
    def update(gradients, state, parameters, *, curvature, **extra):
        raise NotImplementedError

    return optax.GradientTransformationExtraArgs(optax.identity().init, update)


SQUARE = jaxnet.mlp([3, 3])
"""With a bias and weights of as many rows: what is summed over rows fits by chance."""

REFUSED = {
    "lookahead": (
        lambda: optax.lookahead(optax.adam(0.1), 3, 0.5),
        TypeError,
        ["one tree of parameters", "optax.lookahead"],
    ),
    "clipped lookahead": (
        lambda: optax.chain(optax.clip(0.5), optax.lookahead(optax.adam(0.1), 3, 0.5)),
        TypeError,
        ["one tree of parameters", "optax.lookahead"],
    ),
    "another argument": (needs_curvature, TypeError, ["value_fn, obj_fn, grad_fn", "'curvature'"]),
    "not handed on": (
        lambda: optax.contrib.split_real_and_imaginary(optax.polyak_sgd()),
        TypeError,
        ["passes them on", "'value'"],
    ),
    "masked search": (
        lambda: optax.masked(optax.lbfgs(), weights_only),
        TypeError,
        ["at all of the network's parameters", "masked"],
    ),
    "masked sophia": (
        lambda: optax.masked(optax.contrib.sophia(0.1), weights_only),
        ValueError,
        ["at all of the network's parameters", "masked"],
    ),
    "per example": (
        lambda: optax.contrib.differentially_private_aggregate(1.0, 0.1, jax.random.key(1)),
        ValueError,
        ["updates of the parameters' structure and shapes", "weights=float32[3]"],
    ),
    "growing state": (
        lambda: optax.chain(optax.sgd(0.1), optax.monitor({"norm": optax.tree.norm})),
        ValueError,
        ["optimizer's state after a step", "norm' is not expected"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("function", [jaxnet.train, jaxnet.fit])
def test_an_optimizer_that_cannot_work_is_refused(name, function, tmp_path):
    make, error, words = REFUSED[name]
    data = INPUTS, jnp.zeros(20, jnp.int32)
    options = {"key": KEY, "epochs": 2, "batch_size": 8}
    if function is jaxnet.fit:
        options |= {"progress": False, "checkpoints": tmp_path / "run"}
    with helpers.refused(error, f"{function.__name__}: expected", *words):
        function(SQUARE, LOSS, make(), data, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "growing state"])
def test_a_step_refuses_it_too(name):
    make, error, words = REFUSED[name]
    state = jaxnet.initial_state(SQUARE, make(), key=jax.random.key(0))
    step = jaxnet.make_step(SQUARE, LOSS, make())
    with helpers.refused(error, "step: expected", *words):
        step(state, (INPUTS, jnp.zeros(20, jnp.int32)))


def makers():
    """optax's functions of a learning rate, and those that need nothing."""
    for module in (optax, optax.contrib):
        for name, function in vars(module).items():
            if name.startswith("_") or not isinstance(
                function, (types.FunctionType, functools.partial)
            ):
                continue
            signature = inspect.signature(function)
            needs = [p.name for p in signature.parameters.values() if p.default is p.empty]
            if "Transformation" in str(signature.return_annotation):
                if needs == ["learning_rate"]:
                    yield name, functools.partial(function, 0.01)
                elif not needs:
                    yield name, function


def test_train_takes_all_of_optax_s_optimizers():
    makes = dict(makers())
    assert len(makes) > 60
    del makes["scale_by_muon"]  # a part of muon, only for matrices
    for name, make in makes.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some ask for a key
            optimizer = make()
        options = {"key": KEY, "epochs": 2, "batch_size": 8}
        arguments = (jaxnet.mlp([3, 4]), LOSS, optimizer, DATA)
        call = functools.partial(jaxnet.train, *arguments, **options)
        _, history = jax.eval_shape(call)
        assert history["cost"].shape == (2,), name


def test_groups_of_parameters_have_rules_of_their_own():
    """As the README has it: in each group, the steps are those of its rule."""

    def group(path, leaf):
        return path[-1].name

    def fit(optimizer):
        options = {"key": jax.random.key(0), "epochs": 1, "batch_size": None}
        return jaxnet.fit(NETWORK, LOSS, optimizer, DATA, **options).parameters

    rules = {"weights": jaxnet.adamw(0.1, weight_decay=0.5), "biases": jaxnet.adam(0.01)}
    both = optax.multi_transform(rules, lambda tree: jax.tree.map_with_path(group, tree))
    received = fit(both)
    for name, rule in rules.items():
        expected = fit(rule)  # the first step does not depend on the other group
        for layer in (0, 2):
            mine, its = (getattr(tree[layer], name) for tree in (received, expected))
            np.testing.assert_array_equal(mine, its)
