"""Fitting: the run is training's, and what surrounds it loses nothing."""

import io
import os
import signal
import sys
import threading

import chex
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import sklearn.datasets

import jaxnet

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(50, 3)).astype(np.float32)
LABELS = RANDOM.integers(4, size=50).astype(np.int32)
HELD_OUT = RANDOM.normal(size=(20, 3)).astype(np.float32), RANDOM.integers(4, size=20)


# One object each: the tests' type checker makes what is built again a different function, which
# would be compiled again.
NETWORK = jaxnet.mlp([3, 8, 4])
ADAM = jaxnet.adam(0.01)


def key(seed=0):
    return jax.random.key(seed)


def fit(data=(INPUTS, LABELS), network=NETWORK, optimizer=ADAM, **options):
    options = {"key": key(), "epochs": 5, "batch_size": 16} | options
    return jaxnet.fit(network, jaxnet.softmax_cross_entropy, optimizer, data, **options)


def run_train(data, validation, **options):
    loss = jaxnet.softmax_cross_entropy
    options |= {"epochs": 5, "validation": validation}
    run = jax.jit(lambda key: jaxnet.train(NETWORK, loss, ADAM, data, key=key, **options))
    return run(key())


@pytest.mark.parametrize("batch_size", [16, 25, None])
def test_bits_are_those_of_train(batch_size):
    """On as many rows as the program has: with weights, and without padding, it is the same."""
    data = INPUTS[:48], LABELS[:48], np.ones(48, np.float32)
    validation = *(part[:16] for part in HELD_OUT), np.ones(16, np.float32)
    options = {"metrics": {"accuracy": jaxnet.accuracy}, "batch_size": batch_size}
    run = fit(data, validation=validation, **options)
    state, history = run_train(data, validation, **options)
    chex.assert_trees_all_equal(run.state, state)
    chex.assert_trees_all_equal(run.history, jax.tree.map(np.asarray, history))
    chex.assert_trees_all_equal(run.parameters, state.best.parameters)
    assert run.stopped == "finished"


@pytest.mark.parametrize(
    "activation, loss",
    helpers.mostly_slow(
        [
            *[("relu", "softmax_cross_entropy"), ("gelu", "softmax_cross_entropy")],
            *[("sigmoid", "softmax_cross_entropy"), ("gelu", "squared_error")],
            *[("relu", "squared_error"), ("sigmoid", "squared_error")],
        ]
    ),
)
def test_bits_are_those_of_train_whatever_the_network_is_made_of(activation, loss):
    """Normalization, dropout and a single output: programs in which compiler options show.

    The mean of the validation losses may be rounded differently, which depends on the processor.
    """
    outputs, loss = 4 if "softmax" in loss else 1, getattr(jaxnet, loss)
    layers = jaxnet.layer_norm(17), jaxnet.dropout(0.1), jaxnet.dense(17, outputs)
    network = jaxnet.serial(jaxnet.dense(3, 17, getattr(jaxnet, activation)), *layers)
    targets = LABELS[:48] if outputs > 1 else INPUTS[:48, :1]
    data = tuple(map(jnp.asarray, (INPUTS[:48], targets, np.ones(48, np.float32))))
    options = {"epochs": 5, "batch_size": 16, "validation": data}
    run = jaxnet.fit(network, loss, ADAM, data, key=key(), **options)
    train = jax.jit(lambda key: jaxnet.train(network, loss, ADAM, data, key=key, **options))
    received, expected = (
        state._replace(best=state.best._replace(value=None))
        for state in (run.state, train(key())[0])
    )
    chex.assert_trees_all_equal(received, expected)


@pytest.mark.parametrize(
    ("rows", "batch_size", "weighted"),
    helpers.mostly_slow(
        [
            *[(41, 16, False), (41, 25, True), (41, None, True)],
            *[(50, None, False), (50, 16, True), (50, 25, False)],
            *[(64, 25, False), (64, 16, True), (64, None, True)],
        ]
    ),
)
def test_padding_changes_nothing_but_the_rounding_of_sums_over_all_rows(rows, batch_size, weighted):
    random = np.random.default_rng(rows)
    inputs = random.normal(size=(rows, 3)).astype(np.float32)
    data = inputs, random.integers(4, size=rows)
    if weighted:
        data += (random.uniform(0, 2, rows).astype(np.float32),)
    options = {"metrics": {"accuracy": jaxnet.accuracy}, "batch_size": batch_size}
    run = fit(data, validation=HELD_OUT, **options)
    state, history = run_train(data, HELD_OUT, **options)
    assert run.state.task.fingerprint == state.task.fingerprint
    # 20 additions of float32 in another order differ by at most 20 units in the last place.
    rounding = 20 * float(jnp.finfo(jnp.float32).eps)
    if batch_size:  # a batch has the same rows
        chex.assert_trees_all_equal(run.state.parameters, state.parameters)
        chex.assert_trees_all_equal(run.state.optimizer_state, state.optimizer_state)
        for name in run.history:
            np.testing.assert_allclose(run.history[name], history[name], rounding)
    else:  # five steps of Adam at a rate of 0.01 amplify the rounding of a gradient near 0
        chex.assert_trees_all_close(run.state.parameters, state.parameters, atol=1e-4)
        np.testing.assert_allclose(run.history["cost"], history["cost"], rtol=1e-4)


def test_similar_data_share_a_program():
    """In a plain interpreter: the tests' type checker makes every function anew."""
    script = """
import jax, jaxnet, numpy as np
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, fun_name="", **_: compiled.append(fun_name)
    if "backend_compile" in event else None
)
network, metrics = jaxnet.mlp([4, 8, 3]), {"accuracy": jaxnet.accuracy}
options = dict(key=jax.random.key(0), batch_size=32, progress=False, metrics=metrics)
def run(rows, held_out, epochs):
    compiled.clear()
    x = np.random.default_rng(rows).normal(size=(rows + held_out, 4)).astype(np.float32)
    y = np.arange(len(x)) % 3
    data, validation = (x[:rows], y[:rows]), (x[rows:], y[rows:])
    arguments = network, jaxnet.softmax_cross_entropy, jaxnet.adam(0.01), data
    found = jaxnet.fit(*arguments, epochs=epochs, validation=validation, **options)
    assert len(found.history["cost"]) == epochs
    assert jaxnet.predict(network, found.parameters, x[rows:]).shape == (held_out, 3)
    jaxnet.evaluate(network, found.parameters, validation, metrics)
    return len(compiled)
print(run(275, 69, 5), [run(276, 68, 3), run(257, 65, 2000), run(288, 72, 1)], run(289, 72, 1))
"""
    assert helpers.run_plainly(script).split() == ["3", "[0,", "0,", "0]", "1"]


def test_a_loss_that_compares_the_examples_of_a_batch_sees_no_padding():
    """Such as a ranking loss, or Cox's partial likelihood."""

    def spread(outputs, targets):
        return jnp.square(outputs[:, 0] - jnp.mean(outputs)) + 0.0 * targets[:, 0]

    data = INPUTS[:41], INPUTS[:41, :1]
    run = jaxnet.fit(NETWORK, spread, ADAM, data, key=key(), epochs=1, batch_size=None)
    outputs = np.asarray(
        NETWORK.apply(
            jaxnet.initial_state(NETWORK, ADAM, key=key()).parameters, jnp.asarray(data[0])
        ),
        np.float64,
    )
    expected = np.mean(np.square(outputs[:, 0] - outputs.mean()))
    np.testing.assert_allclose(run.history["cost"][0], expected, 1e-5)


def test_without_validation_the_last_parameters_are_returned():
    run = fit()
    chex.assert_trees_all_equal(run.parameters, run.state.parameters)
    assert list(run.history) == ["cost"]


def test_history_is_a_table():
    table = pandas.DataFrame(
        fit(metrics={"accuracy": jaxnet.accuracy}, validation=HELD_OUT).history
    )
    names = ["cost", "accuracy", "validation_cost", "validation_accuracy"]
    assert list(table.columns) == names
    assert len(table) == 5
    assert np.isfinite(table).all(axis=None)


DATA = {
    "numpy": (INPUTS, LABELS),
    "numpy float64 and int64": (INPUTS.astype(np.float64), LABELS.astype(np.int64)),
    "jax": (jnp.asarray(INPUTS), jnp.asarray(LABELS)),
    "lists": (INPUTS.tolist(), LABELS.tolist()),
    "pandas": (pandas.DataFrame(INPUTS), pandas.Series(LABELS)),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_may_come_in_any_form(kind):
    chex.assert_trees_all_equal(fit(DATA[kind]).history, fit().history)


def test_mixed_columns_and_integers_become_float32():
    table = pandas.DataFrame({"weight": [150.0, 120.0], "smooth": [True, False], "count": [1, 2]})
    run = fit((table, [0, 1]), batch_size=None)
    by_hand = np.array([[150, 1, 1], [120, 0, 2]], np.float32)
    chex.assert_trees_all_equal(run.history, fit((by_hand, [0, 1]), batch_size=None).history)


def test_built_again_it_compiles_nothing(tmp_path):
    """In a plain interpreter: the tests' type checker makes every function anew."""
    script = """
import jax, jaxnet, numpy as np, optax
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, fun_name="", **_: compiled.append(fun_name)
    if "backend_compile" in event else None
)
host = np.ones((50, 3), np.float32), np.arange(50, dtype=np.int32) % 4
placed = jax.device_put(host, jax.devices()[0])
for seed, data in enumerate([host, host, placed]):
    key = jax.random.key(seed)
    compiled.clear()
    layers = jaxnet.dense(3, 7, jaxnet.relu), jaxnet.dropout(0.1), jaxnet.dense(7, 4)
    network = jaxnet.serial(*layers)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), jaxnet.adam(0.02))
    metrics = {"accuracy": jaxnet.accuracy}
    options = dict(key=key, epochs=3, batch_size=16, validation=data, metrics=metrics)
    jaxnet.fit(network, jaxnet.softmax_cross_entropy, optimizer, data, **options)
    print(len(compiled), sum("advance" in name for name in compiled))
def crash(epoch, *_):
    if epoch == 2:
        raise RuntimeError("crash")
options |= dict(checkpoints=jaxnet.Checkpoints(folder, every=1))
for on_epoch in crash, None:
    compiled.clear()
    options["on_epoch"] = on_epoch
    try:
        jaxnet.fit(network, jaxnet.softmax_cross_entropy, optimizer, data, **options)
    except RuntimeError as error:
        print(error)
print(sum("advance" in name for name in compiled))
"""
    printed = helpers.run_plainly(f"folder = {str(tmp_path / 'run')!r}" + script)
    first, second, third, crashed, resumed = printed.splitlines()
    assert first.endswith(" 1")  # or the next proves nothing
    assert second == "0 0"
    assert third.endswith(" 1")  # for where the data is, and not also for where the run began
    assert (crashed, resumed) == ("crash", "0")


@pytest.mark.parametrize("batch_size", [16, None])
def test_with_float64_switched_on_float32_data_is_trained_on_as_before(batch_size):
    options = {"batch_size": batch_size, "validation": HELD_OUT}
    before = fit(**options)
    with jax.enable_x64(True):
        run = fit(**options)
    chex.assert_trees_all_equal_dtypes(run.state, before.state)
    chex.assert_trees_all_close(run.history, before.history, rtol=1e-5)


def test_patience_stops_and_returns_the_best():
    options = {"validation": HELD_OUT, "optimizer": jaxnet.adam(0.3), "epochs": 60}
    run = fit(patience=4, **options)
    costs = run.history["validation_cost"]
    best = int(np.argmin(costs))
    assert run.stopped == "patience"
    assert len(costs) == best + 1 + 4 < 60
    until = fit(**options | {"epochs": best + 1})
    chex.assert_trees_all_equal(run.parameters, until.state.parameters)
    # And the state is that of the epoch where it stopped, not of a later one of the same stretch.
    chex.assert_trees_all_equal(run.state, fit(**options | {"epochs": len(costs)}).state)


def stop_by_hand(values, stopping):
    """The best epoch and the last one, counting from 1."""
    sign = 1 if stopping.mode == "min" else -1
    best, at = np.float32(np.inf), 0
    for epoch, value in enumerate(sign * values, 1):
        if value < best - np.float32(stopping.min_delta):
            best, at = value, epoch
        if stopping.patience and epoch - at >= stopping.patience:
            return at, epoch
    return at, len(values)


@pytest.mark.parametrize(
    "stopping",
    helpers.mostly_slow(
        [
            jaxnet.EarlyStopping(4, "accuracy", "max", min_delta=0.08),
            jaxnet.EarlyStopping(4, "accuracy", "max"),
            jaxnet.EarlyStopping(None, "accuracy", "max"),
            jaxnet.EarlyStopping(7, "cost", min_delta=0.02),
            jaxnet.EarlyStopping(3, "accuracy", "min"),
        ]
    ),
)
def test_any_metric_is_monitored(stopping):
    options = {"validation": HELD_OUT, "optimizer": jaxnet.adam(0.05), "epochs": 40}
    options["metrics"] = {"accuracy": jaxnet.accuracy}
    values = fit(**options).history[f"validation_{stopping.monitor}"]
    best, last = stop_by_hand(values, stopping)
    run = fit(patience=stopping, **options)
    assert len(run.history["cost"]) == last
    assert run.stopped == ("finished" if stopping.patience is None else "patience")
    assert int(run.state.best.epoch) == best
    assert run.state.best.value == values[best - 1]
    until = fit(**options | {"epochs": best})
    chex.assert_trees_all_equal(run.parameters, until.state.parameters)


def test_a_feature_on_another_scale_is_named_once():
    table = pandas.DataFrame({"bill": INPUTS[:, 0], "grams": 1000 * INPUTS[:, 1], "one": 1.0})
    with pytest.warns(UserWarning) as caught:
        fit((table, LABELS))
    (warning,) = caught
    deviation = f"{np.std(1000 * INPUTS[:, 1]):.3g}"
    assert f"Received: a standard deviation of {deviation} in column 'grams'" in str(
        warning.message
    )
    with pytest.warns(UserWarning, match="in feature 0 and 2 more"):
        fit((INPUTS / 1000, LABELS))
    rare = INPUTS * (np.arange(50) == 7)[:, None] / 100  # almost constant
    assert 0 < rare.std() < 0.01
    fit((rare, LABELS))


def test_going_on_from_a_state_equals_one_run():
    first = fit(epochs=2)
    second = fit(epochs=3, state=first.state)
    whole = fit(epochs=5)
    chex.assert_trees_all_equal(second.state, whole.state)
    joined = np.concatenate([first.history["cost"], second.history["cost"]])
    np.testing.assert_array_equal(joined, whole.history["cost"])
    chex.assert_tree_all_finite(first.state)  # still there: it was not overwritten


def test_on_epoch_sees_every_epoch_and_may_keep_what_it_sees():
    seen = []
    run = fit(on_epoch=lambda *event: seen.append(event))
    assert [epoch for epoch, _, _ in seen] == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal([m["cost"] for _, m, _ in seen], run.history["cost"])
    for epoch, _, state in seen:
        until = fit(on_epoch=lambda now, *_, epoch=epoch: now == epoch)
        chex.assert_trees_all_equal(state, until.state)


def test_on_epoch_may_stop():
    run = fit(on_epoch=lambda epoch, metrics, state: epoch == 2)
    assert run.stopped == "on_epoch"
    chex.assert_trees_all_equal(run.state, fit(epochs=2).state)


def test_an_error_in_on_epoch_comes_through():
    def fail(*_):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit(on_epoch=fail)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def press_ctrl_c(*_):
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_returns_what_there_is(capsys):
    run = fit(epochs=1000, on_epoch=lambda epoch, *_: epoch == 3 and press_ctrl_c())
    assert run.stopped == "interrupted"
    assert "press again to interrupt at once" in capsys.readouterr().err
    chex.assert_trees_all_equal(run.state, fit(epochs=3).state)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_twice_interrupts_at_once():
    def twice(*_):
        press_ctrl_c()
        press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        fit(on_epoch=twice)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_runs_in_a_thread():
    runs = []
    thread = threading.Thread(target=lambda: runs.append(fit()))
    thread.start()
    thread.join()
    chex.assert_trees_all_equal(runs[0].history, fit().history)


def test_cost_that_is_not_finite_ends_the_run_and_names_the_epoch():
    # The rate explodes in the fifth epoch, after 4 * 4 steps.
    optimizer = jaxnet.gradient_descent(lambda step: jnp.where(step < 16, 0.01, 1e30))
    with pytest.raises(jaxnet.NonFiniteError, match=r"cost of epoch 5 is (nan|inf)") as caught:
        fit(epochs=100, optimizer=optimizer)
    run = caught.value.result
    assert run.stopped == "non-finite"
    assert np.isfinite(run.history["cost"]).tolist() == [True] * 4
    chex.assert_tree_all_finite(run.state)


@pytest.mark.parametrize("flag", ["jax_debug_infs", "jax_debug_nans"])
def test_a_healthy_run_passes_where_jax_looks_for_infinities_and_nan(flag):
    """JAX then raises an error for any in the results of a program."""
    expected = fit(validation=HELD_OUT, metrics={"accuracy": jaxnet.accuracy})
    metrics = {"loss": jaxnet.softmax_cross_entropy, "accuracy": jaxnet.accuracy}
    data = tuple(map(jnp.asarray, HELD_OUT))

    def rates(rate):
        options = {"key": key(), "epochs": 2, "batch_size": 8, "validation": data}
        loss = jaxnet.softmax_cross_entropy
        return jaxnet.train(NETWORK, loss, jaxnet.adam(rate), data, **options)[1]

    jax.clear_caches()
    jax.config.update(flag, True)
    try:
        run = fit(validation=HELD_OUT, metrics={"accuracy": jaxnet.accuracy}, patience=5)
        held_out = jaxnet.evaluate(NETWORK, run.parameters, HELD_OUT, metrics, batch_size=7)
        found = jaxnet.sweep(rates, {"rate": [0.01, 0.1]})
    finally:
        jax.config.update(flag, False)
    chex.assert_trees_all_equal(run.history, expected.history)
    chex.assert_trees_all_equal(run.parameters, expected.parameters)
    assert run.history["validation_cost"].min() == run.state.best.value
    best = int(run.state.best.epoch) - 1
    np.testing.assert_allclose(held_out["accuracy"], run.history["validation_accuracy"][best], 1e-6)
    assert not found.diverged.any()


def test_cost_that_is_not_finite_leaves_the_best_parameters():
    optimizer = jaxnet.gradient_descent(lambda step: jnp.where(step < 16, 0.01, 1e30))
    with pytest.raises(jaxnet.NonFiniteError) as caught:
        fit(epochs=100, optimizer=optimizer, validation=HELD_OUT)
    chex.assert_tree_all_finite(caught.value.result.parameters)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("progress", [True, False])
def test_bar_on_a_terminal(monkeypatch, progress):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run = fit(metrics={"accuracy": jaxnet.accuracy}, progress=progress)
    shown = terminal.getvalue()
    if progress:
        assert "5/5 [" in shown
        assert f"cost {run.history['cost'][-1]:.4g}, accuracy" in shown
        assert "examples/s" in shown
    else:
        assert shown == ""


def test_nothing_is_printed_where_there_is_no_terminal(capsys):
    fit()
    assert capsys.readouterr() == ("", "")


def test_digits_within_a_few_seconds_of_training():
    digits = sklearn.datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.data))
    inputs, labels = digits.data[order] / 16, digits.target[order]
    run = fit(
        (inputs[:1400], labels[:1400]),
        network=jaxnet.mlp([64, 64, 10]),
        validation=(inputs[1400:], labels[1400:]),
        metrics={"accuracy": jaxnet.accuracy},
        epochs=40,
        patience=10,
        batch_size=64,
        optimizer=jaxnet.adam(0.003),
    )
    assert run.history["validation_accuracy"].max() > 0.95


def test_ctrl_c_in_a_real_process():
    """A script that is interrupted while the program runs, not between two epochs."""
    script = """
import jax, jaxnet, numpy as np
data = np.ones((2000, 50), np.float32), np.zeros(2000, np.int32)
def loss(outputs, labels):
    jax.debug.callback(press_ctrl_c)
    return jaxnet.softmax_cross_entropy(outputs, labels)
arguments = jaxnet.mlp([50, 200, 3]), loss, jaxnet.adam(1e-3), data
run = jaxnet.fit(*arguments, key=jax.random.key(0), epochs=10**6, batch_size=10)
print(run.stopped, len(run.history["cost"]) > 0, bool(np.isfinite(run.parameters[0].biases).all()))
"""
    printed = helpers.run_plainly(helpers.PRESS_CTRL_C + script)
    assert printed.split() == ["interrupted", "True", "True"]


NOT_NUMBERS = pandas.DataFrame({"weight": [150.0, 120.0], "colour": ["red", "green"]})
NAN = INPUTS.copy()
NAN[7, 2] = np.nan
WRONG = {
    "raw key": (lambda: fit(key=0), TypeError, "jax.random.key(seed). Received: int 0"),
    "epochs": (lambda: fit(epochs=0), ValueError, "fit: expected epochs of at least 1"),
    "batch": (lambda: fit(batch_size=0), ValueError, "batch_size of at least 1"),
    "patience 0": (lambda: fit(patience=0, validation=HELD_OUT), ValueError, "patience"),
    "patience alone": (lambda: fit(patience=3), ValueError, "validation data with patience"),
    "array": (lambda: fit(INPUTS), TypeError, "data as a tuple (inputs, targets)"),
    "strings": (lambda: fit((NOT_NUMBERS, [0, 1])), TypeError, "such as"),
    "names": (lambda: fit((INPUTS[:2], ["apple", "orange"])), TypeError, "targets of data"),
    "ragged": (lambda: fit(([[1.0], [1.0, 2.0]], [0, 1])), ValueError, "rows of equal length"),
    "NaN": (lambda: fit((NAN, LABELS)), ValueError, "Received: nan at index (7, 2)"),
    "beyond float32": (
        lambda: fit((INPUTS.astype(float) * 1e300, LABELS)),
        ValueError,
        "inf at index",
    ),
    "NaN in validation": (lambda: fit(validation=(NAN, LABELS)), ValueError, "of validation"),
    "labels": (lambda: fit((INPUTS, LABELS + 1)), ValueError, "fit: data: softmax_cross_entropy"),
    "huge labels": (
        lambda: fit((INPUTS, LABELS.astype(int) + 2**40)),
        ValueError,
        "within 32 bits",
    ),
    "validation labels": (
        lambda: fit(validation=(HELD_OUT[0], HELD_OUT[1] - 1)),
        ValueError,
        "fit: validation: softmax_cross_entropy: expected labels from 0 to 3",
    ),
    "empty": (lambda: fit((np.ones((0, 3)), [])), ValueError, "at least one example"),
    "one row": (lambda: fit(([1.0, 2.0, 3.0], [0])), ValueError, "[examples, features]"),
    "lengths": (lambda: fit((INPUTS, LABELS[:-1])), ValueError, "for 50 examples"),
    "negative weights": (lambda: fit((INPUTS, LABELS, -np.ones(50))), ValueError, "non-negative"),
    "zero weights": (lambda: fit((INPUTS, LABELS, np.zeros(50))), ValueError, "not all 0"),
    "features": (
        lambda: fit(network=jaxnet.mlp([10, 4])),
        ValueError,
        "dense(10, 4, identity): expected inputs with 10 features. Received: [50, 3]",
    ),
    "one-hot": (lambda: fit((INPUTS, np.eye(4, dtype=int)[LABELS])), ValueError, "expected labels"),
    "metric": (
        lambda: fit(metrics={"mean": lambda outputs, targets: outputs.mean()}),
        ValueError,
        "mean: expected one value per example, [50]. Received: []",
    ),
    "traced": (lambda: jax.jit(lambda x: fit((x, LABELS)))(INPUTS), TypeError, "use train"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_before_compiling(name, monkeypatch):
    make, error, words = WRONG[name]
    monkeypatch.setattr(
        "jaxnet.fitting.trainer.Trainer.start", lambda *_: pytest.fail("went on to train")
    )
    with helpers.refused(error, words):
        make()
