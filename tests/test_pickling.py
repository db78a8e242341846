"""Results and errors travel to other processes, and can be copied."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.testing import comparison, conformance, difference, problems

NETWORK, SGD = jaxnet.mlp([2, 3, 1]), jaxnet.sgd(0.1, momentum=0.9)
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2)
DATA = X, X[:, :1] ** 2
FIT = {"key": jax.random.key(0), "epochs": 2, "batch_size": 3, "progress": False}
PARAMETERS = NETWORK.init(jax.random.key(0))
STATE = jaxnet.initial_state(NETWORK, SGD, key=jax.random.key(0))


def fitted(rate=0.1, **options):
    data = tuple(map(jnp.asarray, DATA))
    return jaxnet.fit(
        NETWORK, jaxnet.squared_error, jaxnet.sgd(rate), data, validation=data, **FIT, **options
    )


def diverged():
    with pytest.raises(jaxnet.NonFiniteError) as caught:
        fitted(1e30)
    return caught.value


def swept():
    def run(rate, key):
        return {"noise": jax.random.normal(key), "rate": rate * 2}

    grid = {"rate": [0.1, 0.2], "key": jax.random.split(jax.random.key(0), 2)}
    return jaxnet.sweep(run, grid, progress=False)


def damaged():
    with pytest.raises(jaxnet.CorruptFileError) as caught:
        jaxnet.load("/dev/null")
    return caught.value


def warned():
    return jaxnet.CheckpointWarning("fit: not saved", fitted())


def origin():
    state = STATE._replace(parameters=jax.tree.map(lambda leaf: leaf * jnp.inf, PARAMETERS))
    return jaxnet.find_nonfinite(NETWORK, jaxnet.squared_error, SGD, state, DATA)


def compared():
    bowl = problems.Problem("bowl", np.ones(2, np.float32), gradients_of_bowl)
    return jaxnet.compare_optimizers(jaxnet.sgd(0.1), jaxnet.adam(0.1), problems=[bowl], steps=2)


def gradients_of_bowl(parameters, step):
    return parameters


def diagnosed():
    return jaxnet.diagnose(NETWORK, jaxnet.squared_error, PARAMETERS, DATA, optimizer=SGD)


CASES = {
    "AdamState": lambda: jaxnet.adam(0.1).init(PARAMETERS),
    "BestSoFar": lambda: fitted().state.best,
    "Check": lambda: conformance.Check("is pure", True, "the same bits"),
    "CheckpointWarning": warned,
    "EarlyStopping": lambda: jaxnet.EarlyStopping(3, "accuracy", "max"),
    "Checkpoints": lambda: jaxnet.Checkpoints("runs/a", every=2),
    "ClassScores": lambda: jaxnet.class_scores(jnp.eye(3, dtype=jnp.int32)),
    "Comparison": compared,
    "CorruptFileError": damaged,
    "Data": lambda: jaxnet.Data(*map(jnp.asarray, DATA)),
    "DenseParameters": lambda: PARAMETERS[0],
    "Diagnosis": diagnosed,
    "Difference": lambda: compared().first,
    "NonFiniteStep": lambda: diverged().failure,
    "FitResult": fitted,
    "GradientDescentState": lambda: jaxnet.gradient_descent(0.1).init(PARAMETERS),
    "LayerDiagnosis": lambda: diagnosed().layers[0],
    "LayerNormParameters": lambda: jaxnet.layer_norm(3).init(jax.random.key(0)),
    "LayerSummary": lambda: jaxnet.summary(NETWORK).total,
    "SweepRun": lambda: swept().at(1, 0),
    "NonFiniteError": diverged,
    "NonFinite": origin,
    "Problem": lambda: problems.standard_problems()[0],
    "ProblemComparison": lambda: compared().problems[0],
    "Report": lambda: conformance.Report((conformance.Check("runs", False, "no"),), compared()),
    "SgdState": lambda: STATE.optimizer_state,
    "Summary": lambda: jaxnet.summary(NETWORK),
    "Sweep": swept,
    "Task": lambda: jaxnet.Task(jnp.array(7, jnp.uint32), jnp.array(3, jnp.int32)),
    "TrainState": lambda: STATE,
}
PUBLIC = helpers.PUBLIC | {
    name: value
    for module in (problems, difference, comparison, conformance)
    for name, value in vars(module).items()
    if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
}
FUNCTIONS = {"Network"}  # a pair of functions, which pickle finds by their names alone


def bits(value):
    """A result as something that can be compared."""
    if isinstance(value, BaseException):
        return type(value), str(value), {name: bits(part) for name, part in vars(value).items()}
    leaves, structure = jax.tree.flatten(value)

    def of(leaf):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
            weak = getattr(leaf, "weak_type", False)
            return type(leaf), weak, leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()
        return type(leaf), repr(leaf)

    return type(value), structure, [of(leaf) for leaf in leaves]


def test_every_type_is_tried():
    types = {name for name, value in PUBLIC.items() if isinstance(value, type)}
    types -= {name for name in types if getattr(PUBLIC[name], "_is_protocol", False)}
    assert types == CASES.keys() | FUNCTIONS


WAYS = {
    **{
        f"pickle {protocol}": lambda value, protocol=protocol: pickle.loads(
            pickle.dumps(value, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("name", CASES)
def test_results_and_errors_can_be_pickled_and_copied(name):
    value = CASES[name]()
    assert type(value) is PUBLIC[name]
    for way in WAYS.values():
        assert bits(way(value)) == bits(value)


def test_notes_of_an_error_come_along():
    error = diverged()
    error.add_note("run 7 of the night")
    for way in WAYS.values():
        assert way(error).__notes__ == ["run 7 of the night"]


def test_a_run_that_diverges_in_another_process_raises_its_error_here(tmp_path):
    """In a pool of processes that are spawned, which goes on with the next run."""
    script = tmp_path / "runs.py"
    script.write_text("""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import jaxnet


def run(rate):
    import jax
    import numpy as np

    x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
    network, options = jaxnet.mlp([1, 1]), {"epochs": 2, "batch_size": 4, "progress": False}
    key, rule = jax.random.key(0), jaxnet.sgd(rate)
    jaxnet.fit(network, jaxnet.squared_error, rule, (x, x), key=key, **options)
    return "finished"


if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(run, rate) for rate in (1e30, 0.01)]
        error = futures[0].exception()
        print(type(error).__name__, error.epoch, error.result.stopped, type(error.failure).__name__)
        print(str(error).startswith("fit: the cost of epoch 1 is "))
        print(futures[1].result())
""")
    command = [sys.executable, str(script)]
    environment = os.environ | {"PYTHONPATH": str(Path(jaxnet.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines == ["NonFiniteError 1 non-finite NonFiniteStep", "True", "finished"]
