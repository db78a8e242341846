"""Halving: each member equals calls of its functions alone, and the best ones go on."""

import itertools
import re

import chex
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.halving import halve, rungs
from jaxnet.halving.members import trace_members
from jaxnet.sweeping import chunks
from jaxnet.sweeping.grid import make_grid

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices run more lanes")
X = jnp.linspace(-1.0, 1.0, 24)[:, None]
DATA, HELD_OUT = (X[::2], X[::2] ** 2), (X[1::2], X[1::2] ** 2)
KEYS = jax.random.split(jax.random.key(0), 3)


@pytest.fixture(autouse=True)
def allow_key_reuse():
    """Members are compared with single calls, which use the same keys."""
    with jax.debug_key_reuse(False):
        yield


def halved_alone(start, run, members, rungs, factor, largest=False):
    """The scores, calls and last states of members that are started and run one by one."""
    going = {number: start(**hyperparameters) for number, hyperparameters in enumerate(members)}
    scores, calls, made = {}, [0] * len(members), 0
    for rung in rungs:
        for number, state in going.items():
            for _ in range(rung - made):
                state, score = run(state, **members[number])
            going[number], calls[number] = state, rung
            scores[number, rung] = float(score)
        made, states = rung, going

        def worth(number, rung=rung):
            score = scores[number, rung]
            if not np.isfinite(score):
                return np.inf
            return -score if largest else score

        best = sorted(going, key=worth)
        going = {number: going[number] for number in sorted(best[: -(-len(best) // factor)])}
    return scores, calls, {number: states[number] for number in best}


def assert_halved(found, expected, members, rtol):
    scores, calls, states = expected
    assert found.calls.reshape(-1).tolist() == calls
    table = found.scores.reshape(len(members), -1)
    for number, (place, rung) in itertools.product(range(len(members)), enumerate(found.rungs)):
        if (number, rung) in scores:
            np.testing.assert_allclose(table[number, place], scores[number, rung], rtol)
        else:
            assert np.isnan(table[number, place])
    places = [np.unravel_index(number, found.calls.shape) for number in states]
    assert [finalist.place for finalist in found.finalists] == places
    for finalist, (number, state) in zip(found.finalists, states.items(), strict=True):
        chex.assert_trees_all_close(finalist.state, state, rtol=rtol)
        np.testing.assert_equal(finalist.score, table[number, -1].item())
        assert finalist.hyperparameters.keys() == members[number].keys()
        assert all(finalist.hyperparameters[name] == v for name, v in members[number].items())


def start(width, rate, key):
    return jaxnet.initial_state(jaxnet.mlp([1, width, 1]), jaxnet.sgd(rate, momentum=0.9), key=key)


def train(width, rate, key, **options):
    network, optimizer = jaxnet.mlp([1, width, 1]), jaxnet.sgd(rate, momentum=0.9)
    options |= {"key": key, "batch_size": 8, "validation": HELD_OUT}
    return jaxnet.train(network, jaxnet.squared_error, optimizer, DATA, **options)


def run(state, width, rate, key):
    state, history = train(width, rate, key, epochs=1, state=state)
    return state, history["validation_cost"][-1]


def test_each_member_equals_one_that_is_trained_alone_to_its_rung():
    """The state has no `best` and no `task` before the first call."""
    rates = jnp.array([0.1, 0.01, 0.3])
    found = jaxnet.halve(
        start,
        run,
        {"rate": rates, "key": KEYS},
        rungs=(2, 3, 6),
        factor=2,
        structural={"width": [5]},
        zipped=True,
    )
    pairs = zip(rates, KEYS, strict=True)
    members = [{"width": 5, "rate": rate, "key": key} for rate, key in pairs]
    step = jax.jit(run, static_argnames="width")
    expected = halved_alone(start, step, members, (2, 3, 6), 2)
    assert_halved(found, expected, members, rtol=1e-5)
    assert found.calls.shape == (1, 3)
    best = found.best
    state, history = train(**best.hyperparameters, epochs=6)
    chex.assert_trees_all_close(best.state, state, rtol=1e-5)
    np.testing.assert_allclose(best.score, history["validation_cost"][-1], rtol=1e-5)


# Members whose scores are known beforehand.


def of_table(table):
    """A member's score is in its row of the table, in the column of the number of calls."""

    def begin(member):
        return {"calls": jnp.zeros((), jnp.int32), "sum": 0.0}

    def go_on(state, member):
        score = table[member, state["calls"]]
        return {"calls": state["calls"] + 1, "sum": state["sum"] + score}, score

    return begin, go_on


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize(("members", "factor"), [(1, 2), (7, 2), (40, 3), (200, 4)])
def test_the_best_go_on(members, factor, largest):
    """Of equal scores the first, and non-finite ones last."""
    rng = np.random.default_rng(members)
    choices = np.array([-1.0, 0.0, 1.0, 2.0, np.nan, np.inf, -np.inf], np.float32)
    table = jnp.asarray(rng.choice(choices, (members, 8)))
    begin, go_on = of_table(table)
    found = jaxnet.halve(
        begin,
        go_on,
        {"member": np.arange(members)},
        rungs=(1, 4, 5, 8),
        factor=factor,
        largest=largest,
    )
    all_members = [{"member": number} for number in range(members)]
    expected = halved_alone(begin, go_on, all_members, (1, 4, 5, 8), factor, largest)
    with np.errstate(invalid="ignore"):
        assert_halved(found, expected, all_members, rtol=0)


def test_members_of_all_structural_values_are_ranked_together():
    """The best of width 3 are worse than all of width 5, and one rung is for one of them alone."""

    def begin(a, width):
        return jnp.full(width, a)

    def go_on(state, a, width):
        return state + 1, -width * 100 + state.sum()

    found = jaxnet.halve(
        begin, go_on, {"a": [1.0, 2.0, 0.0]}, rungs=[1, 3], structural={"width": [3, 5]}
    )
    assert found.calls.tolist() == [[1, 1, 1], [3, 1, 3]]
    assert found.best.place == (1, 2)
    np.testing.assert_array_equal(found.best.state, np.full(5, 3.0))
    table = found.table()
    assert list(table.columns) == ["width", "a", "score", "calls"]
    assert table["width"].tolist() == [3] * 3 + [5] * 3
    assert table["calls"].tolist() == [1, 1, 1, 3, 1, 3]
    assert table["score"].tolist() == [-297, -294, -300, -485, -490, -490]


def test_states_may_hold_keys_and_integers_or_nothing():
    def begin(key):
        return {"key": key, "n": 0, "mask": True}

    def go_on(state, key):
        key, drawn = jax.random.split(state["key"])
        return state | {"key": key, "n": state["n"] + 2}, jax.random.normal(drawn)

    found = jaxnet.halve(begin, go_on, {"key": KEYS}, rungs=(1, 3))
    members = [{"key": key} for key in KEYS]
    scores, calls, states = halved_alone(begin, go_on, members, (1, 3), 3)
    assert found.calls.tolist() == calls
    np.testing.assert_allclose(found.best.score, scores[found.best.place[0], 3], rtol=1e-6)
    (state,) = states.values()
    assert found.best.state["key"] == state["key"]
    assert (found.best.state["n"], found.best.state["mask"]) == (6, True)
    empty = jaxnet.halve(lambda a: (), lambda state, a: (state, a), {"a": [3, 1, 2]}, rungs=(1, 2))
    assert empty.best.place == (1,) and empty.best.state == ()
    assert empty.best.score == 1


def test_each_member_equals_a_single_one_in_float64():
    with jax.enable_x64(True):

        def begin(a):
            return jnp.array([a, 1.0])

        def go_on(state, a):
            state = jnp.sin(state * a + 1 / 3)
            return state, state.sum()

        values = np.linspace(0.1, 2, 9)
        found = jaxnet.halve(begin, go_on, {"a": values}, rungs=(2, 4), factor=2)
        members = [{"a": jnp.asarray(value)} for value in values]
        expected = halved_alone(begin, go_on, members, (2, 4), 2)
        assert_halved(found, expected, members, rtol=1e-14)
        assert found.best.state.dtype == found.scores.dtype == np.float64


# Programs and chunks.


def test_one_program_for_all_rungs(monkeypatch):
    compiled = []
    original = chunks._compile
    monkeypatch.setattr(chunks, "_compile", lambda *call: compiled.append(1) or original(*call))
    begin, go_on = of_table(jnp.ones((50, 30)))
    for _ in range(2):
        found = jaxnet.halve(begin, go_on, {"member": np.arange(50)}, rungs=(1, 3, 9, 27))
    assert len(compiled) == 1
    assert sorted(found.calls.tolist()) == [1] * 33 + [3] * 11 + [9] * 4 + [27] * 2


@on_cpu
def test_the_survivors_fill_chunks(monkeypatch):
    """Of 1,000 members 12 are left after 4 rungs, here of two structural values."""
    lanes = {}
    original = rungs.Rung.arguments

    def noted(self, numbers, blank):
        lanes[self.calls.stop] = lanes.get(self.calls.stop, 0) + len(numbers)
        return original(self, numbers, blank)

    monkeypatch.setattr(rungs.Rung, "arguments", noted)
    begin, go_on = of_table(jnp.asarray(np.random.default_rng(0).normal(size=(500, 5))))
    jaxnet.halve(
        lambda member, a: begin(member),
        lambda state, member, a: go_on(state, member),
        {"member": np.arange(500)},
        rungs=(1, 2, 3, 4, 5),
        structural={"a": [0, 1]},
    )
    size = halve._MOST_ON_CPU * len(jax.devices())
    for calls, members in {1: 1000, 2: 334, 3: 112, 4: 38, 5: 13}.items():
        assert members <= lanes[calls] < members + 2 * size


@pytest.mark.parametrize("wrapped", [lambda function: function, jax.jit])
def test_captured_arrays_are_arguments_of_the_program(wrapped):
    data, other = jnp.arange(1e6, dtype=jnp.float32).reshape(1000, 1000), jnp.ones(999)
    begin = wrapped(lambda a: other * a)
    go_on = wrapped(lambda state, a: (state + 1, (data * a).sum()))
    grid = make_grid({"a": jnp.arange(4.0)})
    member = trace_members(begin, go_on, grid)[0]
    program, _ = chunks.compile_runs(member.traced, 4, None)
    text = program.func.as_text()
    for shape in ("1000,1000", "999"):
        assert re.search(rf"f32\[{shape}\]\S* parameter", text)
        assert not re.search(rf"f32\[{shape}\]\S* constant\(\{{", text)


def test_ctrl_c_keeps_what_is_known():
    """It is pressed in the second rung, which 334 of 1,000 members reach."""
    script = """
import jax, jax.numpy as jnp, jaxnet, numpy as np
def start(a):
    return jnp.zeros((), jnp.int32)
def press(calls):
    if calls == 1:
        press_ctrl_c()
def run(calls, a):
    jax.debug.callback(press, calls)
    return calls + 1, jnp.sin(a)
found = jaxnet.halve(start, run, {"a": np.linspace(1, 2, 1000)}, rungs=(1, 3, 9))
known = np.isfinite(found.scores).sum(0)
print(known[0] == 1000, 0 < known[1] < 334, known[2] == 0,
      sorted(set(found.calls.tolist())) == [1, 3], len(found.finalists) == known[1],
      bool(found.best.state == 3), len(found.table()) == 1000)
"""
    printed = helpers.run_plainly(helpers.PRESS_CTRL_C + script)
    assert printed.split() == ["True"] * 7


# Errors.


def test_other_errors_are_not_changed():
    error = RuntimeError("of the user")
    with pytest.raises(RuntimeError) as caught:
        jaxnet.halve(
            lambda a, n: a,
            lambda state, a, n: helpers.raise_(error),
            {"a": [1.0]},
            rungs=(1,),
            structural={"n": [5]},
        )
    assert caught.value is error
    assert "with n=5" in error.__notes__


def test_a_hyperparameter_that_cannot_be_traced_is_named():
    words = ["halve: expected a run that is one program", "as 'width' would"]
    grid = {"width": [1, 2], "rate": [0.1, 0.2], "key": KEYS[:2]}
    with helpers.refused(TypeError, *words):
        jaxnet.halve(start, run, grid, rungs=(1,))


def test_best_raises_without_a_finite_score():
    found = jaxnet.halve(lambda a: a, lambda b, a: (b, jnp.log(-a)), {"a": [1.0, 2.0]}, rungs=(1,))
    assert len(found.finalists) == 2
    with helpers.refused(ValueError, "Halving.best: expected a finalist with a finite score"):
        found.best  # noqa: B018
