"""Going on from a state: on the same data it is one run, on other data another run begins."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.training.data import check_data
from jaxnet.training.state import fingerprint

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(40, 3)).astype(np.float32)
TARGETS = INPUTS[:, :1]
HELD_OUT = RANDOM.normal(size=(24, 3)).astype(np.float32)
# With weights, and as many rows as a program has, `fit` computes what `train` computes.
ONES, HELD_OUT_ONES = np.ones(40, np.float32), np.ones(24, np.float32)
VALIDATION = HELD_OUT, HELD_OUT[:, :1], HELD_OUT_ONES
NETWORK = jaxnet.mlp([3, 6, 1])
DESCENT = jaxnet.gradient_descent(0.1)
FIRST = {"data": (INPUTS, TARGETS, ONES), "batch_size": 8, "validation": VALIDATION}


def fit(**options):
    options = {**FIRST, "key": jax.random.key(0), "epochs": 6, **options}
    data = options.pop("data")
    return jaxnet.fit(NETWORK, jaxnet.squared_error, DESCENT, data, **options)


def train(**options):
    options = {**FIRST, "key": jax.random.key(0), "epochs": 6, **options}
    data, state = options.pop("data"), options.pop("state", None)
    arguments = NETWORK, jaxnet.squared_error, DESCENT, data
    return jax.jit(lambda state: jaxnet.train(*arguments, state=state, **options))(state)


@functools.cache
def first():
    return fit()


HARDER = np.roll(TARGETS, 1) + 3  # no network that sees the inputs can do well
LAST = np.arange(40)[::-1]
OTHERS = {
    "targets": {"data": (INPUTS, HARDER, ONES)},
    "targets of the other sign": {"data": (INPUTS, -TARGETS, ONES)},
    "one target, by one bit": {
        "data": (INPUTS, np.nextafter(TARGETS, TARGETS + (LAST == 7)[:, None]), ONES)
    },
    "inputs": {"data": (INPUTS[LAST], TARGETS, ONES)},
    "order of the rows": {"data": (INPUTS[LAST], TARGETS[LAST], ONES)},
    "fewer rows": {"data": (INPUTS[:32], TARGETS[:32], ONES[:32])},
    "weights": {"data": (INPUTS, TARGETS, np.arange(1, 41))},
    "validation targets": {"validation": (HELD_OUT, HELD_OUT[:, :1] + 3, HELD_OUT_ONES)},
    "validation inputs": {"validation": (HELD_OUT * 2, HELD_OUT[:, :1], HELD_OUT_ONES)},
    "batch size": {"batch_size": 10},
    "all in a batch": {"batch_size": None},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_on_another_task_all_that_is_measured_begins_anew(kind):
    before, options = first().state, OTHERS[kind]
    assert before.best.value < 0.1
    run = fit(state=before, **options)
    costs = run.history["validation_cost"]
    lowest = int(costs.argmin())
    assert run.state.best.epoch == lowest + 1
    assert run.state.best.value == costs[lowest]
    # As from a state that knows of no earlier run. The rule does not depend on the step.
    unknown = jaxnet.TrainState(before.parameters, before.optimizer_state, jnp.zeros((), jnp.int32))
    begun = fit(state=unknown, **options)
    chex.assert_trees_all_equal(run.parameters, begun.parameters)
    chex.assert_trees_all_equal(run.state.best, begun.state.best)
    chex.assert_trees_all_equal(run.history, begun.history)
    assert run.state.step == before.step + begun.state.step
    # The same from train, and going on from there is one run again.
    state, history = train(epochs=4, state=before, **options)
    chex.assert_trees_all_equal(history["validation_cost"], costs[:4])
    state, _ = train(epochs=2, state=state, **options)
    chex.assert_trees_all_equal(state, run.state)


def test_patience_begins_anew():
    options = {**OTHERS["validation targets"], "state": first().state}
    costs = fit(epochs=30, **options).history["validation_cost"]
    run = fit(epochs=30, patience=3, **options)
    since = np.arange(1, 31) - [costs[:n].argmin() + 1 for n in range(1, 31)]
    expected = next((n for n, epochs in enumerate(since, 1) if epochs == 3), 30)
    assert first().state.best.value < costs.min()  # or there is nothing to be mistaken about
    assert len(run.history["cost"]) == expected > 3


def test_on_the_same_task_it_is_one_run():
    whole = fit(epochs=12)
    for going_on in (fit, train):
        chex.assert_trees_all_equal(
            going_on(state=first().state)[2 * (going_on is fit)], whole.state
        )
    second = fit(state=first().state)
    chex.assert_trees_all_equal(second.parameters, whole.parameters)
    assert whole.state.best.epoch > 6
    # Which a best of before also shows where nothing is better.
    best = first().state.best._replace(value=jnp.array(0.0, jnp.float32))
    kept = fit(state=first().state._replace(best=best))
    chex.assert_trees_all_equal(kept.state.best, best)
    chex.assert_trees_all_equal(kept.parameters, best.parameters)
    older = first().state._replace(best=best._replace(epoch=jnp.array(4, jnp.int32)))
    stopped = fit(state=older, patience=3)  # 2 of the 3 epochs are over
    assert (stopped.stopped, len(stopped.history["cost"])) == ("patience", 1)
    # And with the best left out, what went on before does not count.
    without = fit(state=first().state._replace(best=None))
    assert without.state.best.value == without.history["validation_cost"].min()


def test_the_form_of_the_data_does_not_count():
    whole = fit(epochs=12)
    data = INPUTS.astype(np.float64), TARGETS.tolist(), ONES.tolist()
    run = fit(state=first().state, data=data, validation=tuple(map(jnp.asarray, VALIDATION)))
    chex.assert_trees_all_equal(run.state, whole.state)


def test_validation_that_begins_or_ends_later():
    plain = fit(validation=None)
    assert plain.state.best is None
    validated = fit(state=plain.state)
    costs = validated.history["validation_cost"]
    assert validated.state.best.epoch == costs.argmin() + 1
    after = fit(state=validated.state, validation=None)
    assert after.state.best is None
    chex.assert_trees_all_equal(after.parameters, after.state.parameters)
    again = fit(state=after.state, data=(INPUTS, TARGETS))
    assert again.state.best.value == again.history["validation_cost"].min()


def test_a_folder_has_the_best_of_its_own_run(tmp_path):
    run = fit(checkpoints=tmp_path, state=first().state, **OTHERS["validation targets"])
    best = jaxnet.load(tmp_path / "best.safetensors", run.parameters)
    chex.assert_trees_all_equal(best, run.parameters)
    costs = run.history["validation_cost"]
    about = {"epoch": int(costs.argmin()) + 1, "value": float(costs.min())}
    assert jaxnet.load_metadata(tmp_path / "best.safetensors") == about


def test_side_by_side_each_goes_on_from_its_own():
    def going_on(state, shift):
        data = INPUTS, TARGETS + shift
        options = {**FIRST, "data": data, "key": jax.random.key(0), "epochs": 3}
        del options["data"]
        return jaxnet.train(NETWORK, jaxnet.squared_error, DESCENT, data, state=state, **options)

    shifts = jnp.array([0.0, 3.0, 0.0], jnp.float32)
    states = [first().state, first().state, train(data=(INPUTS, HARDER))[0]]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together, costs = jax.jit(jax.vmap(going_on))(stacked, shifts)
    assert together.best.epoch[0] > 6
    for member in (1, 2):
        lowest = costs["validation_cost"][member].argmin()
        assert together.best.epoch[member] == lowest + 1
    sweep = jaxnet.sweep(
        lambda shift: going_on(first().state, shift)[0].best, {"shift": shifts[:2]}
    )
    np.testing.assert_array_equal(sweep.results.epoch, together.best.epoch[:2])


DTYPES = ["float32", "float64", "float16", "bfloat16", "float8_e5m2", "bool", "uint8", "int8"]


def fingerprint_of(inputs, targets=((0,),)):
    data = check_data("data", (inputs, targets))
    return int(jax.jit(fingerprint, static_argnums=2)(data, data, 1))


@pytest.mark.parametrize("dtype", [*DTYPES, "int16", "int32", "uint32", "int64"])
def test_a_fingerprint_notices_one_bit_in_every_dtype(dtype):
    zeros_and_ones = RANDOM.integers(0, 2, size=(5, 3))
    with jax.enable_x64(True):

        def number():
            return fingerprint_of(jnp.asarray(zeros_and_ones).astype(dtype), [0] * 5)

        before = number()
        assert before == number()
        zeros_and_ones[4, 2] ^= 1
        assert number() != before


def test_a_fingerprint_notices_the_order_of_rows():
    rows = 3 * 2**16 + 5
    numbers = np.arange(rows)
    before = fingerprint_of(numbers[:, None], np.zeros(rows))
    numbers[[7, 2**17]] = numbers[[2**17, 7]]
    assert fingerprint_of(numbers[:, None], np.zeros(rows)) != before


def test_fingerprints_are_spread_evenly():
    """Of 4,000 data sets that differ in a few bits, no more agree than of random numbers."""
    units = [np.eye(1, 4, k=place, dtype=np.float32) for place in range(4)]
    inputs = np.stack([unit * value for unit in units for value in range(1, 1001)])

    def number(inputs):
        data = jaxnet.Data(inputs, jnp.zeros((1, 1)))
        return fingerprint(data, data, 1)

    numbers = set(np.asarray(jax.jit(jax.vmap(number))(inputs)).tolist())
    assert len(numbers) >= 3999  # of the 8 million pairs, one in 2**32 agrees by chance
