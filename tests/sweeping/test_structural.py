"""Structural hyperparameters: every combination of Python values is a program of its own."""

import functools
import math
import threading

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.sweeping import chunks
from jaxnet.sweeping.grid import make_grid
from jaxnet.sweeping.run import trace_runs

X = jnp.linspace(-1.0, 1.0, 24)[:, None]
KEYS = jax.random.split(jax.random.key(0), 3)
STRUCTURAL = {"width": [2, 5], "activation": [jaxnet.tanh], "batch_size": [8, None]}


@pytest.fixture(autouse=True)
def allow_key_reuse():
    """Runs of a sweep are compared with single runs, which use the same keys."""
    with jax.debug_key_reuse(False):
        yield


def run(rate, key, width, activation, batch_size):
    network, data = jaxnet.mlp([1, width, 1], activation=activation), (X, X**2)
    sizes = {"epochs": 2, "batch_size": batch_size}
    optimizer = jaxnet.sgd(rate)
    _, history = jaxnet.train(network, jaxnet.squared_error, optimizer, data, key=key, **sizes)
    return history


@pytest.fixture(scope="module")
def found():
    with jax.debug_key_reuse(False):
        return jaxnet.sweep(run, {"rate": [0.01, 0.1], "key": KEYS}, structural=STRUCTURAL)


@pytest.mark.parametrize("place", [(0, 0, 0, 1, 2), (1, 0, 1, 0, 0)])
def test_each_run_equals_a_single_run(found, place):
    i, _, k, rate, key = place
    assert found.results["cost"].shape == (2, 1, 2, 2, 3, 2)
    structural = {"width": [2, 5][i], "activation": jaxnet.tanh}
    single = run([0.01, 0.1][rate], KEYS[key], batch_size=[8, None][k], **structural)
    np.testing.assert_allclose(found.results["cost"][place], single["cost"], rtol=1e-5)
    np.testing.assert_allclose(found.rerun(*place)["cost"], single["cost"], rtol=1e-5)
    at = found.at(*place)
    assert at.place == place and list(at.hyperparameters) == [*STRUCTURAL, "rate", "key"]
    assert at.hyperparameters["activation"] is jaxnet.tanh
    assert at.hyperparameters["batch_size"] == [8, None][k]


def test_structural_values_are_passed_as_they_are():
    """Any Python value, and not a copy of it."""
    values = [object(), {"a": 1}, None, "text", np.float64(2.5), jaxnet.mlp([2, 1])]
    received = []

    def note(value, n):
        received.append(value)
        return n * len(received)

    found = jaxnet.sweep(note, {"n": [1.0, 10.0]}, structural={"value": values})
    assert found.results.shape == (6, 2)
    assert all(a is b for a, b in zip(received, values, strict=True))
    assert found.structural == {"value": tuple(values)}


def test_zipped_values_share_one_axis_after_the_structural_ones():
    found = jaxnet.sweep(
        lambda a, b, power: (a + b) ** power,
        {"a": [1, 2, 3], "b": [10, 20, 30]},
        structural={"power": [1, 2]},
        zipped=True,
    )
    np.testing.assert_array_equal(found.results, [[11, 22, 33], [121, 484, 1089]])
    assert found.at(1, -1).hyperparameters == {"power": 2, "a": 3, "b": 30}
    assert found.best(found.results, largest=True).place == (1, 2)


def test_a_sweep_of_structural_values_alone():
    found = jaxnet.sweep(lambda n: jnp.arange(n).sum(), {}, structural={"n": [1, 3, 5]})
    np.testing.assert_array_equal(found.results, [0, 3, 10])
    assert found.rerun(2) == 10
    found = jaxnet.sweep(lambda n: jnp.arange(n).sum(), {}, structural={"n": range(5)}, zipped=True)
    np.testing.assert_array_equal(found.results, [0, 0, 1, 3, 6])


def test_more_combinations_than_programs_that_are_kept():
    found = jaxnet.sweep(lambda a, n: a * n, {"a": [1, 2]}, structural={"n": range(20)})
    np.testing.assert_array_equal(found.results, np.outer(range(20), [1, 2]))


def test_rerun_returns_what_run_returns():
    """Parameters whose shape depends on a structural value, keys, and a jitted run."""

    @jax.jit
    def inner(key, shift):
        return jax.random.normal(key) + shift

    def parameters(key, shift, width, full):
        network = jaxnet.mlp([1, width, 1])
        values, score = network.init(key), inner(key, shift)
        return {"parameters": values, "key": key, "score": score} if full else {"score": score}

    grid, structural = {"key": KEYS, "shift": [0.0, 1.0]}, {"width": [2, 3], "full": [False]}
    found = jaxnet.sweep(parameters, grid, structural=structural)
    found = found._replace(structural=found.structural | {"full": (True,)})
    again = found.rerun(1, 0, 2, 1)
    assert jax.random.key_data(again["key"]).tolist() == jax.random.key_data(KEYS[2]).tolist()
    np.testing.assert_array_equal(again["score"], found.results["score"][1, 0, 2, 1])
    np.testing.assert_array_equal(
        again["parameters"][0].weights, jaxnet.mlp([1, 3, 1]).init(KEYS[2])[0].weights
    )
    with helpers.refused(ValueError, "Sweep.rerun: expected one index for each axis", "(0,)"):
        found.rerun(0)


def test_the_table_has_structural_values_as_columns(found):
    table = found.table()
    assert list(table.columns) == ["width", "activation", "batch_size", "rate", "done", "diverged"]
    assert table["width"].tolist() == [2] * 12 + [5] * 12
    assert table["activation"].tolist() == ["tanh"] * 24
    assert table["batch_size"].tolist() == (["8"] * 6 + ["None"] * 6) * 2
    assert table["rate"].tolist() == ([np.float32(0.01)] * 3 + [np.float32(0.1)] * 3) * 4


def test_equal_texts_in_the_table_are_numbered():
    structural = {"f": [lambda a: a, lambda a: 2 * a]}
    table = jaxnet.sweep(lambda a, f: f(a), {"a": [1, 2]}, structural=structural).table()
    assert table["f"].tolist() == ["<lambda> 0"] * 2 + ["<lambda> 1"] * 2
    assert table["result"].tolist() == [1, 2, 2, 4]


class Textless:
    def __repr__(self):
        raise RuntimeError("no text")


def test_columns_of_the_table_by_kind():
    optimizer = jaxnet.adam(0.1)
    structural = {
        "width": np.array([8, 16]),
        "optimizer": [optimizer, functools.partial(jnp.sin)],
        "object": [Textless(), 3],
    }
    table = jaxnet.sweep(lambda width, **others: width * 1, {}, structural=structural).table()
    assert table["width"].tolist() == [8] * 4 + [16] * 4
    assert table["width"].dtype.kind == "i"
    assert table["optimizer"].tolist()[::2] == [type(optimizer).__name__, "partial"] * 2
    assert table["object"].tolist() == ["Textless", "3"] * 4


def test_an_object_without_text_does_not_hide_an_error_of_run():
    def fails(a, value):
        raise ZeroDivisionError("the user's")

    with pytest.raises(ZeroDivisionError, match="the user's") as caught:
        jaxnet.sweep(fails, {"a": [1.0]}, structural={"value": [Textless()]})
    assert "with value=Textless" in caught.value.__notes__


def test_mean_and_standard_error_over_the_seeds():
    """The lines of pandas in the documentation, against NumPy."""

    def noise(key, scale, shift):
        return {"score": scale * shift(jax.random.normal(key))}

    structural = {"shift": [jnp.abs, jnp.exp]}
    found = jaxnet.sweep(noise, {"scale": [1.0, 2.0], "key": KEYS}, structural=structural)
    table = found.table().groupby(["shift", "scale"], sort=False)["score"].agg(["mean", "sem"])
    scores = found.results["score"].reshape(4, 3)
    np.testing.assert_allclose(table["mean"], scores.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(table["sem"], scores.std(axis=1, ddof=1) / math.sqrt(3), rtol=1e-5)


def test_the_next_program_is_compiled_while_the_first_one_runs(monkeypatch):
    """The first program waits in a callback until the second one is being compiled."""
    started = threading.Event()
    original = chunks.make_chunk

    def make_chunk(traced, grid, memory):
        if len(made) == 1:
            started.set()
        made.append(threading.get_ident())
        return original(traced, grid, memory)

    made = []
    monkeypatch.setattr("jaxnet.sweeping.sweep.make_chunk", make_chunk)

    def waits(a, n):
        jax.debug.callback(lambda: started.wait(60))
        return a * n

    jax.config.update("jax_debug_key_reuse", False)  # the threads have the same settings then
    try:
        found = jaxnet.sweep(waits, {"a": [1.0, 2.0]}, structural={"n": [1, 2]})
    finally:
        jax.config.update("jax_debug_key_reuse", True)
    assert started.is_set() and threading.get_ident() not in made
    np.testing.assert_array_equal(found.results, [[1, 2], [2, 4]])


def test_settings_of_a_context_manager_apply_to_all_programs():
    """Threads do not see them, so such programs are compiled in the main thread."""
    with jax.enable_x64(True):
        found = jaxnet.sweep(lambda a, n: a**n / 3, {"a": [1.0, 2.0]}, structural={"n": [1, 2, 3]})
    assert found.results.dtype == np.float64
    np.testing.assert_array_equal(found.results, [[1 / 3, 2 / 3], [1 / 3, 4 / 3], [1 / 3, 8 / 3]])


def test_captured_numpy_arrays_are_kept_once():
    data = np.arange(1000.0, dtype=np.float32)
    grid = make_grid({"a": [1.0]}, {"n": [1, 2, 3]})
    traced = trace_runs(lambda a, n: (jnp.asarray(data) * a).sum() * n, grid)
    held = {id(c) for t in traced for c in t.constants if c.size == 1000}
    assert len(held) == 1


def test_results_of_different_shapes_are_refused():
    def parameters(key, width):
        return {"cost": 0.0, "parameters": jaxnet.mlp([1, width]).init(key)}

    words = (
        "sweep: expected results of the same shapes and dtypes for all structural values",
        "float32[1, 2] with width=2 and float32[1, 3] with width=3 at 'parameters/0/weights'",
        "Let run return scores only; Sweep.rerun gives a run's parameters",
    )
    with helpers.refused(ValueError, *words):
        jaxnet.sweep(parameters, {"key": KEYS}, structural={"width": [2, 3]})
    with helpers.refused(ValueError, "float32[] with n=0 and nothing with n=1 at 'a'"):
        jaxnet.sweep(lambda a, n: [{"a": a}, {"b": a}][n], {"a": [1.0]}, structural={"n": [0, 1]})


def test_an_error_of_run_names_the_structural_values():
    def fails(a, width, activation):
        if width == 3:
            raise KeyError("own")
        return activation(a)

    structural = {"width": [2, 3], "activation": [jnp.tanh]}
    with pytest.raises(KeyError, match="own") as caught:
        jaxnet.sweep(fails, {"a": [1.0]}, structural=structural)
    assert "with width=3, activation=tanh" in caught.value.__notes__


def test_a_traced_value_that_decides_is_named_also_beside_structural_ones():
    def run(a, n, width):
        return a * jnp.zeros(width + n).sum()

    words = "as 'n' would; pass it in structural"
    with helpers.refused(TypeError, words):
        jaxnet.sweep(run, {"a": [1.0], "n": [1, 2]}, structural={"width": [2]})
