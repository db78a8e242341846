"""Resuming: a run that was interrupted ends with the bits of one that was not."""

import contextlib
import datetime
import functools
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import warnings

import chex
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.fitting.run_directory import RunDirectory, Saved
from jaxnet.io.environment import environment

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
    if "directory" in options:
        settings = {name: options.pop(name) for name in ("keep", "every") if name in options}
        options["checkpoints"] = jaxnet.Checkpoints(options.pop("directory"), **settings)
    return jaxnet.fit(network, loss, optimizer, data, **options)


def crash_after(epochs):
    def hook(epoch, metrics, state):
        if epoch == epochs:
            raise RuntimeError("crash")

    return hook


class Killed(BaseException):
    pass


def crashed(folder, after=CUT, name="epoch-{:08}.safetensors", **options):
    """Runs so many epochs and saves each, but dies when the last of them is to be written."""
    save = jaxnet.fitting.run_directory.save

    def saved(path, tree, **about):
        if path.name == name.format(after) and about["metadata"]["epoch"] == after:
            raise Killed
        save(path, tree, **about)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(jaxnet.fitting.run_directory, "save", saved)
        fit(directory=folder, every=1, **options)


def names(*epochs):
    return [f"epoch-{epoch:08}.safetensors" for epoch in epochs]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
        assert_same_runs(fit(directory=tmp_path, **options), whole)
        # A run that has ended, for good or not, is read from the folder.
        assert_same_runs(fit(directory=tmp_path, **options), whole)


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_every_cut(cut, tmp_path):
    crashed(tmp_path, cut, **VALIDATED)
    assert_same_runs(fit(directory=tmp_path, **VALIDATED), fit(**VALIDATED))


def test_stretches_between_saves_give_the_same_bits(tmp_path):
    whole = fit(epochs=20)
    for every in (7, datetime.timedelta(0), datetime.timedelta(days=1)):
        folder = tmp_path / str(every)
        assert_same_runs(fit(epochs=20, directory=folder, keep=99, every=every), whole)
        if every == 7:
            assert files(folder) == [f"epoch-{n:08}.safetensors" for n in (0, 7, 14, 20)]


def test_more_epochs_may_be_asked_for_but_not_fewer(tmp_path):
    fit(directory=tmp_path, epochs=4)
    assert_same_runs(fit(directory=tmp_path, epochs=6), fit(epochs=6))
    with helpers.refused(ValueError, "fit: expected epochs of at least 6", "Received: 5"):
        fit(directory=tmp_path, epochs=5)


def test_a_given_state_is_gone_on_from(tmp_path):
    state = fit(epochs=2).state
    crashed(tmp_path, state=state)
    assert_same_runs(fit(directory=tmp_path, state=state), fit(state=state))


def best_of(folder, parameters):
    about = jaxnet.load_metadata(folder / "best.safetensors")
    return jaxnet.load(folder / "best.safetensors", parameters), about


@pytest.mark.parametrize("epochs", [6, 9])
def test_a_best_that_was_not_written_before_a_kill_is_written_by_the_next_call(epochs, tmp_path):
    whole = fit(**VALIDATED)
    costs = whole.history["validation_cost"]
    assert costs.argmin() == 5  # the last epoch is the best, and the one that is cut off
    crashed(tmp_path, 6, "best.safetensors", **VALIDATED)
    assert files(tmp_path)[-1] == names(6)[0]
    assert best_of(tmp_path, whole.parameters)[1]["epoch"] == 5
    run = fit(directory=tmp_path, epochs=epochs, every=99, **VALIDATED)
    best, about = best_of(tmp_path, run.parameters)
    chex.assert_trees_all_equal(best, run.parameters)
    costs = run.history["validation_cost"]
    assert about == {"epoch": int(costs.argmin()) + 1, "value": float(costs.min())}


@pytest.mark.parametrize("how", ["gone", "damaged", "of another epoch"])
def test_a_best_that_is_not_right_is_written_again(how, tmp_path):
    run, file = fit(directory=tmp_path, **VALIDATED), tmp_path / "best.safetensors"
    right = file.read_bytes()
    if how == "gone":
        file.unlink()
    elif how == "damaged":
        damage(file)
    else:
        jaxnet.save(file, run.parameters, metadata={"epoch": 1, "value": 0.5})
    assert_same_runs(fit(directory=tmp_path, **VALIDATED), run)
    assert file.read_bytes() == right


def test_the_working_directory_may_change(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    monkeypatch.chdir(there)
    fit(directory="run", epochs=2, every=1)
    before = contents(there / "run")
    monkeypatch.chdir(here)
    options = {"directory": pathlib.Path("run"), "every": 1}
    fit(on_epoch=lambda epoch, *_: monkeypatch.chdir(there) if epoch == 2 else None, **options)
    assert files(here / "run") == names(4, 5, 6)
    assert contents(there / "run") == before


def test_damaged_files_are_not_among_those_that_stay(tmp_path):
    whole = fit(epochs=8)
    fit(directory=tmp_path, every=2)
    damage(tmp_path / names(4)[0])
    fit(directory=tmp_path, epochs=7)
    assert files(tmp_path) == names(2, 6, 7)
    # The newest is damaged, and it dies before that is written again.
    damage(tmp_path / names(7)[0])
    with pytest.warns(UserWarning, match="damaged"):
        crashed(tmp_path, 7, epochs=8, keep=1)
    assert files(tmp_path) == names(2, 6, 7)
    with pytest.warns(UserWarning, match="damaged"):
        assert_same_runs(fit(directory=tmp_path, epochs=8, keep=1), whole)
    assert files(tmp_path) == names(8)


def test_a_damaged_newest_file_does_not_cost_the_one_before(tmp_path):
    fit(directory=tmp_path, every=2)
    damage(tmp_path / names(6)[0])
    with pytest.warns(UserWarning, match="damaged"):
        crashed(tmp_path, 6, epochs=8, keep=1)
    assert files(tmp_path) == names(5, 6)


def test_epochs_of_any_number_of_digits_are_in_order(tmp_path):
    epochs = [99_999_998, 99_999_999, 100_000_000, 100_000_001, 1_000_000_000]
    state = jaxnet.TrainState({"weights": np.ones(1)}, (), np.int32(0))
    same = {"environment": environment(), "values": {"settings": {}}, "programs": {}}
    for last in range(3, 6):
        with RunDirectory(jaxnet.Checkpoints(tmp_path / str(last), 2, 1), same) as folder:
            for epoch in epochs[:last]:
                folder.save(Saved(state, {}, epoch, ""), wait=True)
            expected = {f"epoch-{epoch}.safetensors" for epoch in epochs[last - 2 : last]}
            assert set(files(folder.path)) == expected
        with RunDirectory(jaxnet.Checkpoints(tmp_path / str(last), 2, 1), same) as folder:
            assert folder.newest(lambda epoch: (state, {})).epoch == epochs[last - 1]


def test_what_is_no_checkpoint_is_left_alone(tmp_path):
    """Folders, pipes and other files, some of them with the name of a checkpoint."""
    hexadecimal = "0123456789abcdef"
    others = [
        "notes.txt",
        "epoch-note.safetensors",
        "epoch-7.safetensors",
        "epoch-000000007.safetensors",
        "epoch-00000007.safetensors.txt",
        f".{hexadecimal}.unfinished",
        f".mine.safetensors.{hexadecimal}.unfinished",
        ".unfinished",
    ]
    for name in others:
        (tmp_path / name).write_text(name)
    left = [
        f".{names(3)[0]}.{hexadecimal}.unfinished",
        f".best.safetensors.{hexadecimal}.unfinished",
    ]
    for name in left:
        (tmp_path / name).write_text("of a run that was killed")
    (tmp_path / names(2)[0]).mkdir()
    os.mkfifo(tmp_path / names(99)[0])
    run = fit(directory=tmp_path, keep=1, every=3, **VALIDATED)
    assert_same_runs(fit(directory=tmp_path, **VALIDATED), run)
    expected = {*others, *names(2, 6, 99), ".lock", "best.safetensors"}
    assert set(os.listdir(tmp_path)) == expected
    assert all((tmp_path / name).read_text() == name for name in others)


def test_a_folder_in_place_of_a_checkpoint_costs_that_one_only(tmp_path, capsys):
    (tmp_path / names(2)[0]).mkdir()
    (tmp_path / "best.safetensors").mkdir()
    with pytest.warns(jaxnet.CheckpointWarning, match="best.safetensors, which is a folder"):
        run = fit(directory=tmp_path, every=1, keep=1, **VALIDATED)
    assert_same_runs(run, fit(**VALIDATED))
    (tmp_path / "best.safetensors").rmdir()
    assert_same_runs(fit(directory=tmp_path, **VALIDATED), run)
    chex.assert_trees_all_equal(best_of(tmp_path, run.parameters)[0], run.parameters)


def test_a_file_of_another_kind_with_the_name_of_a_checkpoint_is_refused(tmp_path):
    file = tmp_path / names(5)[0]
    jaxnet.save(file, {"mine": np.ones(3)})
    before = file.read_bytes()
    with helpers.refused(ValueError, "fit: expected checkpoint", "not a checkpoint of a run"):
        fit(directory=tmp_path)
    assert (files(tmp_path), file.read_bytes()) == ([file.name], before)


def test_the_last_few_and_the_best_are_kept(tmp_path):
    options = {**VALIDATED, "optimizer": jaxnet.adam(0.3), "epochs": 8}
    run = fit(directory=tmp_path, keep=2, every=1, **options)
    assert files(tmp_path) == ["best.safetensors", *names(7, 8)]
    best, about = best_of(tmp_path, run.parameters)
    chex.assert_trees_all_equal(best, run.parameters)
    costs = run.history["validation_cost"]
    assert about == {"epoch": int(costs.argmin()) + 1, "value": float(costs.min())}


OTHERS = {
    "optimizer/update/learning_rate was 0.01 and is 0.02": {"optimizer": jaxnet.adam(0.02)},
    "network": {"network": jaxnet.mlp([3, 9, 4])},
    "loss was softmax_cross_entropy and is <lambda>": {
        "loss": lambda outputs, labels: 2 * jaxnet.softmax_cross_entropy(outputs, labels)
    },
    "data/inputs": {"data": (INPUTS + 1, LABELS)},
    "data/targets": {"data": (INPUTS, LABELS[::-1].copy())},
    "batch_size was 16 and is 25": {"batch_size": 25},
    "key": {"key": jax.random.key(1)},
    "validation": {"validation": HELD_OUT},
    "metrics": {"metrics": {"accuracy": jaxnet.accuracy}},
}


@pytest.mark.parametrize("phrase", OTHERS)
def test_a_folder_with_another_run_is_refused(phrase, tmp_path):
    fit(directory=tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with helpers.refused(ValueError, "fit: expected checkpoint", "another run: ", phrase):
        fit(directory=tmp_path, **OTHERS[phrase])
    assert before == {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}


def damage(file):
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)


def test_a_damaged_newest_file_is_reported_and_the_one_before_used(tmp_path):
    crashed(tmp_path, 5)
    damage(tmp_path / files(tmp_path)[-1])
    with pytest.warns(UserWarning, match="damaged.*resuming from the checkpoint before"):
        run = fit(directory=tmp_path, every=6)
    assert_same_runs(run, fit())
    for name in files(tmp_path):
        (tmp_path / name).write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="damaged"),
        helpers.refused(jaxnet.CorruptFileError, "in which all 3 are corrupt"),
    ):
        fit(directory=tmp_path)


def test_another_version_is_a_warning_and_outlines_are_compared(tmp_path, monkeypatch):
    fit(directory=tmp_path)
    monkeypatch.setattr(jax, "__version__", "99")
    with pytest.warns(UserWarning, match="jax was .* and is 99.*the bits may differ"):
        fit(directory=tmp_path)
    with (
        pytest.warns(UserWarning, match="is 99"),
        helpers.refused(ValueError, "learning_rate was 0.01 and is 0.02"),
    ):
        fit(directory=tmp_path, optimizer=jaxnet.adam(0.02))


def test_two_runs_in_one_folder_are_refused(tmp_path):
    def second(epoch, metrics, state):
        with helpers.refused(BlockingIOError, "in use by another run", str(tmp_path)):
            fit(directory=tmp_path)

    run = fit(directory=tmp_path, on_epoch=second)
    assert_same_runs(run, fit())
    fit(directory=tmp_path)  # now it is free


def test_a_folder_that_cannot_be_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "folder"):
        with helpers.refused(OSError, "fit: expected checkpoints to be a directory", str(place)):
            fit(directory=place, on_epoch=crash_after(1))


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_trained(
    tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(jaxnet.fitting.run_directory, "save", refuse)
    with helpers.refused(PermissionError, "Permission denied"):
        fit(directory=tmp_path, on_epoch=crash_after(1))


def test_a_folder_that_becomes_another_runs_is_not_written(tmp_path):
    folder, other = tmp_path / "run", {"key": jax.random.key(1), "every": 1}

    def replace(epoch, metrics, state):
        if epoch == 2:  # when nothing is being written
            folder.rename(tmp_path / "gone")
            fit(directory=folder, **other)

    with pytest.warns(jaxnet.CheckpointWarning, match="no longer belongs to this run"):
        run = fit(directory=folder, every=99, keep=1, on_epoch=replace)
    assert_same_runs(run, fit())
    assert files(folder) == names(4, 5, 6)
    assert_same_runs(fit(directory=folder, **other), fit(key=other["key"]))
    assert_same_runs(fit(directory=tmp_path / "gone"), run)


def test_a_link_that_changes_in_mid_run_changes_nothing(tmp_path):
    link = tmp_path / "link"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    link.symlink_to(tmp_path / "one")

    def relink(epoch, metrics, state):
        if epoch == 2:
            with helpers.refused(BlockingIOError, "in use by another run"):
                fit(directory=tmp_path / "one")  # the same folder, by another name
            link.unlink()
            link.symlink_to(tmp_path / "two")

    fit(directory=link, every=1, on_epoch=relink)
    assert (files(tmp_path / "one"), files(tmp_path / "two")) == (names(4, 5, 6), [])


@contextlib.contextmanager
def unprivileged():
    """A user may write anything if it is root."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_run_that_has_ended_is_read_from_a_folder_that_cannot_be_written():
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place, "run")
        run = fit(directory=folder, **VALIDATED)
        for path in (folder / ".lock", folder, pathlib.Path(place)):
            path.chmod(0o555)
        before = contents(folder)
        with unprivileged():
            assert_same_runs(fit(directory=folder, **VALIDATED), run)
            for other in (folder, pathlib.Path(place, "other")):
                with helpers.refused(PermissionError, "fit: expected checkpoint", "denied"):
                    fit(directory=other, epochs=7, on_epoch=crash_after(7), **VALIDATED)
        assert contents(folder) == before
        pathlib.Path(place).chmod(0o755)
        folder.chmod(0o755)


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_process_does_not_keep_the_folder(tmp_path):
    reads, writes = os.pipe()
    children = []

    def fork(epoch, metrics, state):
        if epoch == 2:
            child = os.fork()
            if child == 0:
                os.close(writes)
                os.read(reads, 1)  # until the test is over
                os._exit(0)
            children.append(child)
            with helpers.refused(BlockingIOError, "in use by another run"):
                fit(directory=tmp_path)

    try:
        fit(directory=tmp_path, on_epoch=fork)
        assert children
        assert_same_runs(fit(directory=tmp_path, epochs=7), fit(epochs=7))
    finally:
        os.close(writes)
        for child in children:
            os.waitpid(child, 0)
        os.close(reads)


def test_a_forked_process_that_leaves_on_epoch_writes_nothing(tmp_path):
    script = """
import os, sys, warnings
warnings.filterwarnings("ignore", message=".*fork")
import jax, jaxnet, numpy as np
data = np.ones((8, 2)), np.ones((8, 1))
def fork(epoch, metrics, state):
    if epoch == 2:
        child = os.fork()
        if child == 0:
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.listdir(folder) == before)
def seen(epoch, metrics, state):
    global before
    before = os.listdir(folder)
    return fork(epoch, metrics, state)
arguments = jaxnet.mlp([2, 1]), jaxnet.squared_error, jaxnet.adam(0.01), data
options = dict(key=jax.random.key(0), epochs=3, batch_size=None)
options |= dict(checkpoints=jaxnet.Checkpoints(folder, every=99))
try:
    run = jaxnet.fit(*arguments, on_epoch=seen, **options)
except SystemExit as error:
    os._exit(error.code)  # since XLA does not survive the end of a forked interpreter
print(run.stopped, sorted(os.listdir(folder)))
"""
    printed = helpers.run_plainly(f"folder = {str(tmp_path / 'run')!r}" + script)
    assert printed.splitlines() == ["7 True", f"finished {['.lock', *names(0, 3)]}"]


STOPS = {
    "returns True": lambda: True,
    "an error": lambda: helpers.raise_(RuntimeError("mine")),
    "Ctrl-C twice": lambda: helpers.raise_(KeyboardInterrupt),
    "leaves the program": lambda: helpers.raise_(SystemExit(3)),
}


@pytest.mark.parametrize("kind", STOPS)
def test_where_on_epoch_ends_a_run_it_is_asked_again(kind, tmp_path):
    seen = []

    def hook(at, epoch, metrics, state):
        seen.append((epoch, metrics, state))
        return STOPS[kind]() if epoch == at else None

    def call(at, **options):
        hooked = functools.partial(hook, at)
        ends = contextlib.nullcontext() if kind == "returns True" else pytest.raises(BaseException)
        with ends as caught:
            run = fit(directory=tmp_path, every=99, on_epoch=hooked, **options)
            assert run.stopped == "on_epoch"
        return caught

    for _ in range(2):  # the second time, nothing is trained
        caught = call(2)
        assert [event[0] for event in seen] in ([1, 2], [1, 2, 2])
        if caught is not None:
            assert caught.type is not pytest.fail.Exception and "saved" not in str(caught.value)
        assert files(tmp_path) == names(0, 2)
    chex.assert_trees_all_equal(seen[-1], seen[-2])
    call(4)
    assert [event[0] for event in seen] == [1, 2, 2, 2, 3, 4]
    assert files(tmp_path) == names(0, 2, 4)
    assert_same_runs(fit(directory=tmp_path), fit())


def test_on_epoch_is_asked_about_the_epoch_in_which_patience_ends(tmp_path):
    options = {**RUNS["patience"]}
    whole, seen = fit(**options), []
    last = len(whole.history["cost"])
    with pytest.raises(RuntimeError, match="crash"):
        fit(directory=tmp_path, on_epoch=crash_after(last), **options)
    run = fit(directory=tmp_path, on_epoch=lambda *event: seen.append(event), **options)
    assert_same_runs(run, whole)
    assert (run.stopped, seen) == ("patience", [])
    fit(on_epoch=lambda epoch, *_: seen.append(epoch), **options)
    assert seen[-1] == last


def test_asked_again_after_the_last_epoch_a_run_may_be_finished(tmp_path):
    fit(directory=tmp_path, on_epoch=lambda epoch, *_: epoch == 6)
    again = fit(directory=tmp_path, on_epoch=lambda epoch, *_: epoch == 6)
    assert again.stopped == "on_epoch"
    assert_same_runs(fit(directory=tmp_path), fit())
    assert_same_runs(fit(directory=tmp_path, epochs=8), fit(epochs=8))


def test_a_folder_deleted_in_mid_run_does_not_cost_the_result(tmp_path, capsys):
    folder = tmp_path / "run"

    def delete(epoch, metrics, state):
        if epoch == 2:
            folder.rename(tmp_path / "gone")  # as deleting it, without a race with what is written

    with pytest.warns(jaxnet.CheckpointWarning, match="could not be written") as caught:
        run = fit(directory=folder, every=1, on_epoch=delete)
    assert_same_runs(run, fit())
    assert_same_runs(caught[0].message.result, run)
    assert capsys.readouterr().err.count("could not write") == 1


def test_a_disk_full_for_a_while_costs_only_those_checkpoints(tmp_path, monkeypatch):
    original, full = jaxnet.fitting.run_directory.save, False

    def save(path, *arguments, **options):
        if full:
            raise OSError(28, "No space left on device")
        original(path, *arguments, **options)

    def fill(epoch, metrics, state):
        nonlocal full
        full = 2 <= epoch < 5

    monkeypatch.setattr(jaxnet.fitting.run_directory, "save", save)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = fit(directory=tmp_path, keep=99, every=1, on_epoch=fill)
    assert_same_runs(run, fit())
    assert "epoch-00000003.safetensors" not in files(tmp_path)
    assert files(tmp_path)[-2:] == ["epoch-00000005.safetensors", "epoch-00000006.safetensors"]


SCRIPT = """
import os, signal, sys, threading
import jax, numpy as np, jaxnet
random = np.random.default_rng(0)
data = random.normal(size=(50, 3)), random.integers(4, size=50)
def signalled(epoch, metrics, state):
    if epoch == int(sys.argv[2]):
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
run = jaxnet.fit(
    jaxnet.mlp([3, 8, 4]), jaxnet.softmax_cross_entropy, jaxnet.adam(0.01), data,
    key=jax.random.key(0), epochs=6, batch_size=16, checkpoints=sys.argv[1],
    on_epoch=signalled if len(sys.argv) > 2 else None,
)
print(run.stopped, len(run.history["cost"]), run.history["cost"].tobytes().hex())
"""


def run_script(*arguments):
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=helpers.HANGS)


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
    "keep 0": ({"keep": 0}, ValueError, "checkpoints.keep of at least 1"),
    "keep a float": ({"keep": 1.5}, TypeError, "integer for checkpoints.keep"),
    "every 0": ({"every": 0}, ValueError, "checkpoints.every of at least 1"),
    "every a float": ({"every": 1.5}, TypeError, "number of epochs or a datetime.timedelta"),
    "every negative": (
        {"every": -datetime.timedelta(1)},
        ValueError,
        "non-negative checkpoints.every",
    ),
    "every a bool": ({"every": True}, TypeError, "checkpoints.every"),
    "folder a number": ({"directory": 3}, TypeError, "checkpoints.directory"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arguments(kind, tmp_path):
    options, error, phrase = WRONG[kind]
    with helpers.refused(error, "fit: expected", phrase):
        fit(**{"directory": tmp_path, **options})
