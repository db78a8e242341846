"""`fit` in two processes: they agree, one writes, and a death loses nothing."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from processes_helpers import NETWORK, OPTIMIZER, make_data, make_key

import jaxnet

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]


def start(folder, *arguments, restarts=0):
    """Runs `two_processes.py` under the supervisor; returns what the processes tell by name."""
    command = [sys.executable, ROOT / "scripts/supervise.py", "--processes", "2"]
    command += ["--restarts", str(restarts), HERE / "two_processes.py", folder, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}  # process 0 writes it
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    ended = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=500
    )
    assert ended.returncode == 0, ended.stderr
    told = {}
    for rank in range(2):
        for line in map(json.loads, (folder / f"told-{rank}").read_text().splitlines()):
            told.setdefault(line["name"], []).append(line)
    return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def told(folder):
    return start(folder)


def fit_alone(**changes):
    arguments = {"key": make_key(), "epochs": 8, "batch_size": 15, "progress": False}
    loss, data = jaxnet.softmax_cross_entropy, changes.pop("data", make_data(65))
    return jaxnet.fit(NETWORK, loss, OPTIMIZER, data, **arguments | changes)


def test_two_processes_equal_one(told):
    costs = fit_alone().history["cost"]
    for name in ("plain", "divided"):
        first, second = (line for line in told[name] if line["epochs"] == 8)
        assert first["stopped"] == second["stopped"] == "finished"
        np.testing.assert_allclose(first["cost"], costs, rtol=1e-5)
        assert first["cost"] == second["cost"]
    assert told["plain"][0]["digest"] == told["plain"][1]["digest"]


def test_a_wish_of_one_process_stops_all_at_the_same_epoch(told, folder):
    for line in told["stop"]:
        assert (line["stopped"], line["epochs"]) == ("on_epoch", 3)
    assert (folder / "stop/epoch-00000003.safetensors").exists()


def test_an_error_in_one_process_ends_all_and_is_saved(told, folder):
    first, second = (line["error"] for line in told["error"])
    assert first == "RuntimeError: fit: on_epoch has raised an error in another process"
    assert second == "KeyError: 'of process 1'"
    assert (folder / "error/epoch-00000003.safetensors").exists()


def test_sigterm_to_one_process_ends_all_and_the_run_goes_on_to_the_same_bits(told):
    ends = [line for line in told["term"] if "error" in line]
    assert [line["error"] for line in ends] == ["SystemExit: 143"] * 2
    finished = [line["digest"] for line in told["term"] if "digest" in line]
    assert finished == [line["digest"] for line in told["plain"]]


def test_a_stream_is_stopped_and_resumed_at_the_same_block(told, folder):
    assert [line["epochs"] for line in told["stream"]] == [8, 8]
    ends = [line["error"] for line in told["stream-term"] if "error" in line]
    assert ends == ["SystemExit: 143"] * 2
    finished = [line["digest"] for line in told["stream-term"] if "digest" in line]
    assert finished == [line["digest"] for line in told["stream"]]
    alone = fit_alone(data=jaxnet.Stream(65, read_rows, piece=1, block_bytes=24 * 68))
    np.testing.assert_allclose(told["stream"][0]["cost"], alone.history["cost"], rtol=1e-5)


def read_rows(start, stop):
    inputs, labels = make_data(65)
    return inputs[start:stop], labels[start:stop]


@pytest.mark.parametrize("name", ["data", "key"])
def test_values_that_differ_between_processes_are_refused(told, name):
    for line in told[name]:
        assert line["error"] == (
            f"ValueError: fit: expected the same {name} in every process. "
            f"Received: other {name} in process 1 than in process 0"
        )


def test_a_directory_of_another_run_is_refused_in_all_processes(told):
    first, second = (line["error"] for line in told["occupied"] if "error" in line)
    assert "which holds another run: optimizer/update/learning_rate was 0.01 and is 0.02" in first
    assert "process 0 of this run has raised an error" in second


def test_a_cost_that_is_not_finite_is_explained_in_all_processes(told):
    for line in told["nan"]:
        assert "NonFiniteError: fit: the cost of epoch 1 is nan" in line["error"]
        assert "appeared in step 1" in line["error"]


def test_rows_of_other_processes_are_refused(told):
    for line in told["rows"]:
        assert "expected data.inputs that every process has as a whole" in line["error"]


def test_evaluation_in_two_processes_equals_one(told):
    parameters = NETWORK.init(make_key())
    cost = jaxnet.evaluate(
        NETWORK, parameters, make_data(65), {"cost": jaxnet.softmax_cross_entropy}
    )["cost"]
    outputs = jaxnet.predict(NETWORK, parameters, make_data(65)[0])
    for line in told["evaluate"]:
        np.testing.assert_allclose(line["cost"], cost, rtol=1e-6)
        np.testing.assert_allclose(line["outputs"], outputs, atol=1e-5)


def test_a_run_of_two_processes_goes_on_in_one(told, folder):
    with pytest.warns(UserWarning, match="devices of a batch was 2 and is 1"):
        resumed = fit_alone(checkpoints=folder / "stop")
    np.testing.assert_allclose(resumed.history["cost"], told["plain"][0]["cost"], rtol=1e-5)
    assert jax.tree.leaves(resumed.state)[0].devices() == {jax.devices()[0]}


def test_each_process_is_killed_once_and_the_bits_are_the_same(told, folder):
    killed = start(folder, "killed", restarts=2)["killed"]
    assert {"killed-0", "killed-1"} <= {path.name for path in folder.iterdir()}
    finished = [line["digest"] for line in killed if "digest" in line]
    assert finished == [line["digest"] for line in told["plain"]]
