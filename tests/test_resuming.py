"""Resuming: a run that was interrupted ends with the bits of one that was not."""

import datetime
import pathlib
import signal
import subprocess
import sys
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import jaxnet

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(50, 3)).astype(np.float32)
LABELS = RANDOM.integers(4, size=50).astype(np.int32)
HELD_OUT = RANDOM.normal(size=(20, 3)).astype(np.float32), RANDOM.integers(4, size=20)
NETWORK = jaxnet.mlp([3, 8, 4])
ADAM = jaxnet.adam(0.01)
CUT = 3


def fit(network=NETWORK, optimizer=ADAM, data=(INPUTS, LABELS), **options):
    options = {"key": jax.random.key(0), "epochs": 6, "batch_size": 16} | options
    loss = options.pop("loss", jaxnet.softmax_cross_entropy)
    return jaxnet.fit(network, loss, optimizer, data, **options)


def crash_after(epochs):
    def hook(epoch, measures, state):
        if epoch == epochs:
            raise RuntimeError("crash")

    return hook


class Killed(BaseException):
    pass


def crashed(folder, after=CUT, name="epoch-{:08}.safetensors", **options):
    """Runs so many epochs and saves each, but dies when the last of them is to be written."""
    save = jaxnet.resuming.save

    def saved(path, tree, **about):
        if path.name == name.format(after) and about["metadata"]["epoch"] == after:
            raise Killed
        save(path, tree, **about)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(jaxnet.resuming, "save", saved)
        fit(checkpoint=folder, save_every=1, **options)


def names(*epochs):
    return [f"epoch-{epoch:08}.safetensors" for epoch in epochs]


def files(folder):
    return sorted(file.name for file in pathlib.Path(folder).glob("*.safetensors"))


def assert_same_runs(one, other):
    chex.assert_trees_all_equal(one.state, other.state)
    chex.assert_trees_all_equal(one.parameters, other.parameters)
    chex.assert_trees_all_equal(one.history, other.history)
    assert one.stopped == other.stopped


def weakly_typed():
    """A rule whose state gives way to the gradients' dtype."""

    def init(parameters):
        del parameters
        return jnp.asarray(0.5)

    def update(gradients, rate, parameters=None):
        del parameters
        return jax.tree.map(lambda g: -rate * g, gradients), rate * 0.9

    return optax.GradientTransformation(init, update)


DROPOUT = jaxnet.serial(jaxnet.dense(3, 8, jaxnet.relu), jaxnet.dropout(0.3), jaxnet.dense(8, 4))
VALIDATED = {"validation": HELD_OUT, "metrics": {"accuracy": jaxnet.accuracy}}

RUNS = {
    "gradient descent": {"optimizer": jaxnet.gradient_descent(0.1), "batch_size": None},
    "momentum": {"optimizer": jaxnet.sgd(0.1, momentum=0.9, nesterov=True)},
    "adam, dropout": {"network": DROPOUT},
    "adamw, schedule": {"optimizer": jaxnet.adamw(optax.cosine_decay_schedule(0.1, 20))},
    "validation": VALIDATED,
    "patience": {**VALIDATED, "optimizer": jaxnet.adam(0.1), "patience": 4, "epochs": 30},
    "optax": {"optimizer": optax.chain(optax.clip(1.0), optax.sgd(0.1, momentum=0.9))},
    "weak types": {"optimizer": weakly_typed()},
}


@pytest.mark.parametrize("kind", RUNS)
def test_cut_anywhere_it_ends_with_the_same_bits(kind, tmp_path):
    options = RUNS[kind]
    with jax.numpy_dtype_promotion("standard"):  # for optax's schedule
        whole = fit(**options)
        crashed(tmp_path, **options)
        assert f"epoch-{CUT - 1:08}.safetensors" in files(tmp_path)
        assert_same_runs(fit(checkpoint=tmp_path, **options), whole)
        # A run that has ended, for good or not, is read from the folder.
        assert_same_runs(fit(checkpoint=tmp_path, **options), whole)


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_every_cut(cut, tmp_path):
    crashed(tmp_path, cut, **VALIDATED)
    assert_same_runs(fit(checkpoint=tmp_path, **VALIDATED), fit(**VALIDATED))


def test_stretches_between_saves_give_the_same_bits(tmp_path):
    whole = fit(epochs=20)
    for every in (7, datetime.timedelta(0), datetime.timedelta(days=1)):
        folder = tmp_path / str(every)
        assert_same_runs(fit(epochs=20, checkpoint=folder, keep=99, save_every=every), whole)
        if every == 7:
            assert files(folder) == [f"epoch-{n:08}.safetensors" for n in (0, 7, 14, 20)]


def test_more_epochs_may_be_asked_for_but_not_fewer(tmp_path):
    fit(checkpoint=tmp_path, epochs=4)
    assert_same_runs(fit(checkpoint=tmp_path, epochs=6), fit(epochs=6))
    with problems.refused(ValueError, "fit: expected epochs of at least 6", "Received: 5"):
        fit(checkpoint=tmp_path, epochs=5)


def test_a_given_state_is_gone_on_from(tmp_path):
    state = fit(epochs=2).state
    crashed(tmp_path, state=state)
    assert_same_runs(fit(checkpoint=tmp_path, state=state), fit(state=state))


def test_the_last_few_and_the_best_are_kept(tmp_path):
    options = {**VALIDATED, "optimizer": jaxnet.adam(0.3), "epochs": 8}
    run = fit(checkpoint=tmp_path, keep=2, save_every=1, **options)
    names = ["best.safetensors", "epoch-00000007.safetensors", "epoch-00000008.safetensors"]
    assert files(tmp_path) == names
    best = jaxnet.load(tmp_path / "best.safetensors", run.parameters)
    chex.assert_trees_all_equal(best, run.parameters)
    about = jaxnet.load_metadata(tmp_path / "best.safetensors")
    costs = run.history["validation_cost"]
    assert about == {"epoch": int(costs.argmin()) + 1, "cost": float(costs.min())}


OTHERS = {
    "optimizer/update/learning_rate was 0.01 and is 0.02": {"optimizer": jaxnet.adam(0.02)},
    "network": {"network": jaxnet.mlp([3, 9, 4])},
    "loss": {"loss": lambda outputs, labels: jaxnet.softmax_cross_entropy(outputs, labels)},
    "data/inputs": {"data": (INPUTS + 1, LABELS)},
    "data/targets": {"data": (INPUTS, LABELS[::-1].copy())},
    "batch_size was 16 and is 25": {"batch_size": 25},
    "key": {"key": jax.random.key(1)},
    "validation": {"validation": HELD_OUT},
    "metrics": {"metrics": {"accuracy": jaxnet.accuracy}},
}


@pytest.mark.parametrize("phrase", OTHERS)
def test_a_folder_with_another_run_is_refused(phrase, tmp_path):
    fit(checkpoint=tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with problems.refused(ValueError, "fit: expected checkpoint", "another run: ", phrase):
        fit(checkpoint=tmp_path, **OTHERS[phrase])
    assert before == {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}


def damage(file):
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)


def test_a_damaged_newest_file_is_reported_and_the_one_before_used(tmp_path):
    crashed(tmp_path, 5)
    damage(tmp_path / files(tmp_path)[-1])
    with pytest.warns(UserWarning, match="damaged.*going on from the one before"):
        run = fit(checkpoint=tmp_path, save_every=6)
    assert_same_runs(run, fit())
    for name in files(tmp_path):
        (tmp_path / name).write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="damaged"),
        problems.refused(jaxnet.DamagedFileError, "in which all 3 are damaged"),
    ):
        fit(checkpoint=tmp_path)


def test_other_versions_are_reported(tmp_path, monkeypatch):
    fit(checkpoint=tmp_path)
    monkeypatch.setattr(jaxnet.resuming, "versions", lambda: {"jax": "99"})
    with pytest.warns(UserWarning, match="'jax': '99'.*the bits may differ"):
        fit(checkpoint=tmp_path)


def test_two_runs_in_one_folder_are_refused(tmp_path):
    def second(epoch, measures, state):
        with problems.refused(BlockingIOError, "in use by another run", str(tmp_path)):
            fit(checkpoint=tmp_path)

    run = fit(checkpoint=tmp_path, on_epoch=second)
    assert_same_runs(run, fit())
    fit(checkpoint=tmp_path)  # now it is free


def test_a_folder_that_cannot_be_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "folder"):
        with problems.refused(OSError, "fit: expected checkpoint to be a folder", str(place)):
            fit(checkpoint=place, on_epoch=crash_after(1))


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_trained(
    tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(jaxnet.resuming, "save", refuse)
    with problems.refused(PermissionError, "Permission denied"):
        fit(checkpoint=tmp_path, on_epoch=crash_after(1))


def test_a_folder_deleted_in_mid_run_does_not_cost_the_result(tmp_path, capsys):
    folder = tmp_path / "run"

    def delete(epoch, measures, state):
        if epoch == 2:
            folder.rename(tmp_path / "gone")  # as deleting it, without a race with what is written

    with pytest.warns(jaxnet.CheckpointWarning, match="could not be saved to its end") as caught:
        run = fit(checkpoint=folder, save_every=1, on_epoch=delete)
    assert_same_runs(run, fit())
    assert_same_runs(caught[0].message.fit, run)
    assert capsys.readouterr().err.count("could not write") == 1


def test_a_disk_full_for_a_while_costs_only_those_checkpoints(tmp_path, monkeypatch):
    original, full = jaxnet.resuming.save, False

    def save(path, *arguments, **options):
        if full:
            raise OSError(28, "No space left on device")
        original(path, *arguments, **options)

    def fill(epoch, measures, state):
        nonlocal full
        full = 2 <= epoch < 5

    monkeypatch.setattr(jaxnet.resuming, "save", save)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = fit(checkpoint=tmp_path, keep=99, save_every=1, on_epoch=fill)
    assert_same_runs(run, fit())
    assert "epoch-00000003.safetensors" not in files(tmp_path)
    assert files(tmp_path)[-2:] == ["epoch-00000005.safetensors", "epoch-00000006.safetensors"]


SCRIPT = """
import os, signal, sys, threading
import jax, numpy as np, jaxnet
random = np.random.default_rng(0)
data = random.normal(size=(50, 3)), random.integers(4, size=50)
def signalled(epoch, measures, state):
    if epoch == int(sys.argv[2]):
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
run = jaxnet.fit(
    jaxnet.mlp([3, 8, 4]), jaxnet.softmax_cross_entropy, jaxnet.adam(0.01), data,
    key=jax.random.key(0), epochs=6, batch_size=16, checkpoint=sys.argv[1],
    on_epoch=signalled if len(sys.argv) > 2 else None,
)
print(run.stopped, len(run.history["cost"]), run.history["cost"].tobytes().hex())
"""


def run_script(*arguments):
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_signals_save_and_leave_cleanly(tmp_path):
    pressed = run_script(tmp_path, 2, "SIGINT")
    assert pressed.returncode == 0, pressed.stderr
    assert pressed.stdout.split()[:2] == ["interrupted", "2"]
    ended = run_script(tmp_path, 4, "SIGTERM")
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert "Traceback" not in ended.stderr
    assert files(tmp_path)[-1] == "epoch-00000004.safetensors"
    random = np.random.default_rng(0)
    data = random.normal(size=(50, 3)), random.integers(4, size=50)
    costs = fit(data=data).history["cost"].tobytes().hex()
    assert run_script(tmp_path).stdout.split() == ["finished", "6", costs]


WRONG = {
    "keep 0": ({"keep": 0}, ValueError, "keep of at least 1"),
    "keep a float": ({"keep": 1.5}, TypeError, "integer for keep"),
    "every 0": ({"save_every": 0}, ValueError, "save_every of at least 1"),
    "every a float": ({"save_every": 1.5}, TypeError, "number of epochs or a datetime.timedelta"),
    "every negative": ({"save_every": -datetime.timedelta(1)}, ValueError, "not below 0"),
    "every a bool": ({"save_every": True}, TypeError, "save_every"),
    "folder a number": ({"checkpoint": 3}, TypeError, "checkpoint"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arguments(kind, tmp_path):
    options, error, phrase = WRONG[kind]
    with problems.refused(error, "fit: expected", phrase):
        fit(**{"checkpoint": tmp_path, **options})
