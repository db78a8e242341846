"""Sweeps: each run equals a call of the function alone, and a diverging run affects no other."""

import functools
import os
import subprocess
import sys

import chex
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet

X = jnp.linspace(-1.0, 1.0, 40)[:, None]
NETWORK = jaxnet.mlp([1, 6, 1], activation=jaxnet.tanh)
KEYS = jax.random.split(jax.random.key(0), 3)


def run(key, rate, momentum=0.5):
    optimizer = jaxnet.sgd(rate, momentum=momentum)
    data = X, X**2
    return jaxnet.train(
        NETWORK, jaxnet.squared_error, optimizer, data, key=key, epochs=6, batch_size=8
    )


@pytest.fixture(autouse=True)
def allow_key_reuse():
    """Runs of a sweep are compared with single runs, which use the same keys."""
    with jax.debug_key_reuse(False):
        yield


@pytest.fixture(scope="module")
def found():
    return jaxnet.sweep(run, {"rate": [0.01, 0.1, 1e9, 0.2], "key": KEYS})


def test_each_run_equals_a_single_run(found):
    """Up to the order of sums in a vmap: some rounding errors, which 30 steps do not amplify."""
    single = jax.jit(run)
    for i, rate in ((0, 0.01), (1, 0.1), (3, 0.2)):
        for j, key in enumerate(KEYS):
            one = found.at(i, j)
            assert one.place == (i, j)
            assert one.hyperparameters["rate"] == jnp.float32(rate)
            chex.assert_trees_all_close(one.results, single(key, rate), rtol=1e-5, atol=1e-6)


def test_each_run_equals_a_single_run_in_float64():
    """To 1e-12, as a vmap may change the order of sums."""
    with jax.enable_x64(True):
        x = X.astype(jnp.float64)

        def run(key, rate):
            parameters = jax.tree.map(lambda p: p.astype(float), NETWORK.init(key))
            optimizer = jaxnet.adam(rate)
            state = jaxnet.TrainState(parameters, optimizer.init(parameters), jnp.array(0))
            return jaxnet.train(
                NETWORK,
                jaxnet.squared_error,
                optimizer,
                (x, x**2),
                key=key,
                epochs=6,
                batch_size=8,
                state=state,
            )

        rates = [0.001, 0.01]
        found = jaxnet.sweep(run, {"rate": rates, "key": KEYS})
        for i, rate in enumerate(rates):
            for j, key in enumerate(KEYS):
                expected = jax.jit(run)(key, rate)
                chex.assert_trees_all_close(found.at(i, j).results, expected, rtol=1e-12)


def test_a_diverging_run_is_marked_and_affects_no_other(found):
    _, history = found.results
    np.testing.assert_array_equal(
        found.diverged, [[False] * 3, [False] * 3, [True] * 3, [False] * 3]
    )
    assert np.isfinite(history["cost"][[0, 1, 3]]).all()
    assert found.done.all()


def test_the_best_run_can_be_continued(found):
    costs = found.results[1]["cost"][..., -1]
    best = found.best(costs)
    assert costs[best.place] == np.nanmin(costs)
    optimizer = jaxnet.sgd(best.hyperparameters["rate"], momentum=0.5)
    _, history = jaxnet.train(
        NETWORK,
        jaxnet.squared_error,
        optimizer,
        (X, X**2),
        key=best.hyperparameters["key"],
        epochs=6,
        batch_size=8,
        state=best.results[0],
    )
    # The whole run without interruption.
    _, whole = jaxnet.train(
        NETWORK,
        jaxnet.squared_error,
        optimizer,
        (X, X**2),
        key=best.hyperparameters["key"],
        epochs=12,
        batch_size=8,
    )
    np.testing.assert_allclose(history["cost"], whole["cost"][6:], rtol=1e-5)
    assert (
        found.best(costs, largest=True).results[1]["cost"][-1]
        == costs[found.done & ~found.diverged].max()
    )


def polynomial(a, b):
    return {"value": a * b + b, "row": jnp.stack([a, b])}


def test_cartesian_and_zipped_against_numpy():
    a, b = np.arange(5.0, dtype=np.float32), np.array([2.0, 3.0], np.float32)
    grid = jaxnet.sweep(polynomial, {"b": b, "a": a})
    np.testing.assert_array_equal(grid.results["value"], b[:, None] * a + b[:, None])
    assert grid.results["row"].shape == (2, 5, 2)
    line = jaxnet.sweep(polynomial, {"a": a[:2], "b": b}, zipped=True)
    np.testing.assert_array_equal(line.results["value"], a[:2] * b + b)
    assert line.at(-1).hyperparameters == {"a": a[1], "b": b[1]}


def test_values_may_be_arrays():
    vectors = np.arange(6.0).reshape(3, 2)
    found = jaxnet.sweep(lambda v: v.sum(), {"v": vectors})
    np.testing.assert_array_equal(found.results, vectors.sum(1))
    assert list(found.table().columns) == ["result", "done", "diverged"]


def test_columns_of_the_table_have_unique_names():
    """Results and hyperparameters may share names, also those of the table's own columns."""

    def run(rate, done, **others):
        return {
            "rate": rate * 100,
            "done": done * 10,
            "results": {"rate": rate * 1000, "diverged": done},
            "result": others["grid/done"],
            "a": {"b": rate * 2},
            "a/b": rate * 3,
        }

    grid = {"rate": [1.0, 2.0], "done": [3.0, 4.0], "grid/done": [5.0, 6.0]}
    table = jaxnet.sweep(run, grid, zipped=True).table()
    columns = {name: column.tolist() for name, column in table.items()}
    assert columns == {
        "rate": [1, 2],
        "grid/grid/done": [3, 4],
        "grid/done": [5, 6],
        "['a']['b']": [2, 4],
        "['a/b']": [3, 6],
        "['done']": [30, 40],
        "['rate']": [100, 200],
        "['result']": [5, 6],
        "['results']['diverged']": [3, 4],
        "['results']['rate']": [1000, 2000],
        "done": [True, True],
        "diverged": [False, False],
    }

    def short(rate, done):
        return {"rate": rate * 100, "done": done * 10, "results": {"rate": rate}, "diverged": done}

    table = jaxnet.sweep(short, {"rate": [1.0, 2.0], "done": [3.0, 4.0]}, zipped=True).table()
    columns = {name: column.tolist() for name, column in table.items()}
    assert columns == {
        "rate": [1, 2],
        "grid/done": [3, 4],
        "results/diverged": [3, 4],
        "results/done": [30, 40],
        "results/results/rate": [100, 200],
        "results/rate": [1, 2],
        "done": [True, True],
        "diverged": [False, False],
    }
    table = jaxnet.sweep(lambda result: result * 2, {"result": [1.0, 2.0]}).table()
    assert table["result"].tolist() == [1, 2]
    assert table["results/result"].tolist() == [2, 4]


def test_table():
    found = jaxnet.sweep(polynomial, {"a": [1.0, 2.0, 3.0], "b": [10.0, 20.0]})
    table = found.table()
    assert list(table.columns) == ["a", "b", "value", "done", "diverged"]
    assert len(table) == 6
    np.testing.assert_array_equal(table["value"], table["a"] * table["b"] + table["b"])
    keys = jaxnet.sweep(lambda key, n: n * 2, {"key": KEYS, "n": [1, 2]})
    assert list(keys.table().columns) == ["n", "result", "done", "diverged"]


def test_a_hundred_thousand_runs():
    a, b = np.arange(1000, dtype=np.float32), np.arange(100, dtype=np.float32)
    found = jaxnet.sweep(lambda a, b: a * 128 + b, {"a": a, "b": b})
    np.testing.assert_array_equal(found.results, a[:, None] * 128 + b)


def test_one_device_and_two_devices_give_the_same_bits():
    script = """
import jax, jaxnet, numpy as np
x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
def run(key, rate):
    network, data, sizes = jaxnet.mlp([1, 6, 1]), (x, x**2), {"epochs": 6, "batch_size": 8}
    return jaxnet.train(network, jaxnet.squared_error, jaxnet.sgd(rate), data, key=key, **sizes)
found = jaxnet.sweep(run, {"key": jax.random.split(jax.random.key(0), 7), "rate": [0.01, 0.1]})
print(len(jax.devices()), hash(found.results[1]["cost"].tobytes()))
"""
    printed = []
    for devices in (1, 2):
        settings = {k: v for k, v in os.environ.items() if not k.startswith("JAX")}
        flags = f"--xla_force_host_platform_device_count={devices}"
        command = [sys.executable, "-c", script]
        environment = {**settings, "XLA_FLAGS": flags, "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=helpers.HANGS
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.split())
    assert [words[0] for words in printed] == ["1", "2"]
    assert printed[0][1] == printed[1][1]


def test_ctrl_c_keeps_the_finished_chunks():
    script = """
import jax, jax.numpy as jnp, jaxnet, numpy as np
def run(a):
    jax.debug.callback(press_ctrl_c)
    return jnp.sin(a) + a
found = jaxnet.sweep(run, {"a": np.linspace(1, 2, 100_000)}, memory=4000)
done = found.done.sum()
print(0 < done < 100_000, bool(found.done[:done].all()), bool((found.results[:done] != 0).all()),
      bool((found.results[done:] == 0).all()))
"""
    printed = helpers.run_plainly(helpers.PRESS_CTRL_C + script)
    assert printed.split() == ["True"] * 4


def test_a_second_ctrl_c_does_not_wait_for_the_chunks_that_run():
    """They would run for an hour."""
    script = """
import os, signal, time, jax, jaxnet
def press(_):
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    time.sleep(3600)
def run(a):
    jax.debug.callback(press, a)
    return a
try:
    jaxnet.sweep(run, {"a": [1.0]})
except KeyboardInterrupt:
    print("interrupted", flush=True)
    os._exit(0)
"""
    assert helpers.run_plainly(script) == "interrupted\n"


def branching(a):
    return a if a > 1 else -a


def sized(n):
    return jnp.zeros(n)


def train(network=NETWORK, optimizer=None, **changes):
    options = {"key": jax.random.key(0), "epochs": 2, "batch_size": 8} | changes
    optimizer = jaxnet.sgd(0.1) if optimizer is None else optimizer
    arguments = (network, jaxnet.squared_error, optimizer, (X, X**2))
    return jaxnet.train(*arguments, **options)[1]["cost"]


NEEDS_NUMBER = {
    "batch_size": lambda batch_size, rate: train(optimizer=jaxnet.sgd(rate), batch_size=batch_size),
    "epochs": lambda epochs, rate: train(optimizer=jaxnet.sgd(rate), epochs=epochs),
    "jitted": jax.jit(lambda jitted, rate: train(epochs=jitted) * rate),
    "width": lambda width, rate: train(jaxnet.mlp([1, width, 1])) * rate,
    "nesterov": lambda nesterov, rate: train(
        optimizer=jaxnet.sgd(rate, momentum=0.9, nesterov=nesterov > 0)
    ),
    "length": lambda length, rate: sum(rate * i for i in range(length)),
    "item": lambda item, rate: [rate, -rate][item],
    "name": lambda name, rate: {1: rate, 2: -rate}[name],
    "converted": lambda converted, rate: rate * float(converted),
    "of_numpy": lambda of_numpy, rate: rate * np.sqrt(of_numpy),
    "printed": lambda printed, rate: rate * len(f"{printed:3d}"),
}


@pytest.mark.parametrize("name", NEEDS_NUMBER)
def test_a_hyperparameter_that_cannot_be_traced_is_named(name):
    """JAX, NumPy, Python or a check of jaxnet may raise the error."""
    words = [
        "sweep: expected a run that is one program",
        f"a branch, or become a Python number, as {name!r} would",
    ]
    with helpers.refused(TypeError, *words) as caught:
        jaxnet.sweep(NEEDS_NUMBER[name], {name: [1, 2], "rate": [0.1, 0.2]})
    assert "'rate'" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_all_hyperparameters_that_cannot_be_traced_are_named():
    def run(epochs, batch_size):
        return train(epochs=epochs, batch_size=batch_size)

    with helpers.refused(TypeError, "as 'epochs' and 'batch_size' would"):
        jaxnet.sweep(run, {"epochs": [1, 2], "batch_size": [8, 16]})


@pytest.mark.parametrize(
    "run",
    [
        lambda a: jnp.ones(()) if jnp.log(a) > 0 else jnp.zeros(()),
        lambda a: float(train(optimizer=jaxnet.sgd(a))[-1]),
        lambda a: jnp.arange(4.0)[jnp.arange(4.0) < a],
    ],
)
def test_values_computed_from_hyperparameters_cannot_decide_either(run):
    with helpers.refused(TypeError, "sweep: expected a run that is one program", "Received: A"):
        jaxnet.sweep(run, {"a": [1.0, 2.0]})


class OwnError(TypeError):
    pass


def test_other_errors_of_a_run_are_not_changed():
    error = OwnError("not a concrete reason")

    def fails(a):
        raise error

    with pytest.raises(OwnError) as caught:
        jaxnet.sweep(fails, {"a": [1.0, 2.0]})
    assert caught.value is error
    with helpers.refused(TypeError, "train: expected an integer for batch_size. Received: float"):
        jaxnet.sweep(lambda a: train(batch_size=2.5), {"a": [1.0, 2.0]})
    with helpers.refused(TypeError, "sweep: expected arrays in the results of run"):
        jaxnet.sweep(lambda a: "a", {"a": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: jaxnet.sweep(run, {}), TypeError, ["expected a grid", "dict {}"]),
        (lambda: jaxnet.sweep(run, [("rate", [1.0])]), TypeError, ["expected a grid", "list"]),
        (lambda: jaxnet.sweep(run, {"rate": [1.0]}), ValueError, ["no 'key'"]),
        (
            lambda: jaxnet.sweep(run, {"rates": [1.0], "key": KEYS}),
            ValueError,
            ["key, rate, momentum", "'rates', which it does not take"],
        ),
        (
            lambda: jaxnet.sweep(run, {"rate": [1.0], "key": KEYS}, zipped=True),
            ValueError,
            ["rate 1, key 3"],
        ),
        (
            lambda: jaxnet.sweep(polynomial, {"a": [], "b": [1.0]}),
            ValueError,
            ["number or key for 'a'"],
        ),
        (
            lambda: jaxnet.sweep(polynomial, {"a": 1.0, "b": [1.0]}),
            ValueError,
            ["for 'a'", "float 1.0"],
        ),
        (
            lambda: jaxnet.sweep(polynomial, {"a": ["x"], "b": [1.0]}),
            ValueError,
            ["for 'a'", "'x'"],
        ),
        (
            lambda: jaxnet.sweep(polynomial, {"a": [1.0, np.nan], "b": [1.0]}),
            ValueError,
            ["finite values for 'a'"],
        ),
        (
            lambda: jaxnet.sweep(polynomial, {"a": [1.0], "b": [1.0]}, memory=0),
            ValueError,
            ["memory of at least 1"],
        ),
        (lambda: jaxnet.sweep(branching, {"a": [1.0]}), TypeError, ["decide a shape or a branch"]),
        (lambda: jaxnet.sweep(sized, {"n": [1, 2]}), TypeError, ["decide a shape or a branch"]),
    ],
)
def test_wrong_calls_raise(call, error, words):
    with helpers.refused(error, "sweep: expected", *words):
        call()


def test_best_raises_without_a_finite_run():
    found = jaxnet.sweep(lambda a: jnp.log(a), {"a": [-1.0, -2.0]})
    assert found.diverged.all()
    words = "Sweep.best: expected a complete run with finite results and score"
    with helpers.refused(ValueError, words):
        found.best(found.results)
    with helpers.refused(ValueError, "with the axes of the grid, [2]. Received: [3]"):
        found.best(np.zeros(3))


def test_a_function_with_partial_arguments():
    found = jaxnet.sweep(functools.partial(polynomial, b=2.0), {"a": [1.0, 2.0]})
    np.testing.assert_array_equal(found.results["value"], [4.0, 6.0])
