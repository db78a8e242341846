"""Networks, optimizers, results and errors travel to other processes, and can be copied."""

import collections.abc
import copy
import dataclasses
import functools
import inspect
import io
import os
import pickle
import subprocess
import sys
import typing
from pathlib import Path

import helpers
import jax
import jax.numpy as jnp
import joblib
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.nn import losses
from jaxnet.testing import comparison, conformance, difference, problems

NETWORK, SGD = jaxnet.mlp([2, 3, 1]), jaxnet.sgd(0.1, momentum=0.9)
ENSEMBLE = jaxnet.batch_ensemble(NETWORK, 2)
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


def noisy(rate, key, power):
    return {"noise": jax.random.normal(key), "rate": rate**power}


def swept():
    grid = {"rate": [0.1, 0.2], "key": jax.random.split(jax.random.key(0), 2)}
    return jaxnet.sweep(noisy, grid, structural={"power": [1, 2]}, progress=False)


def halved():
    return jaxnet.halve(
        lambda rate: {"key": jax.random.key(3), "n": 0},
        lambda state, rate: (state, rate),
        {"rate": [0.1, 0.2]},
        rungs=(1, 2),
        progress=False,
    )


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


def fade(fraction):
    return 0.5 * (1 - fraction)


def diagnosed():
    return jaxnet.diagnose(NETWORK, jaxnet.squared_error, PARAMETERS, DATA, optimizer=SGD)


def read_rows(start, stop):
    return X[start:stop], X[start:stop, :1]


@dataclasses.dataclass
class Counter:
    """An iterator whose position can be saved."""

    state: int = 0

    def __next__(self):
        self.state += 1
        return DATA

    def get_state(self):
        return self.state

    def set_state(self, state):
        self.state = state


CASES = {
    "AdagradState": lambda: jaxnet.adagrad(0.1).init(PARAMETERS),
    "AdamState": lambda: jaxnet.adam(0.1).init(PARAMETERS),
    "AmsgradState": lambda: jaxnet.amsgrad(0.1).init(PARAMETERS),
    "BatchStream": lambda: jaxnet.BatchStream(Counter(), 3),
    "BatchEnsembleParameters": lambda: ENSEMBLE.init(jax.random.key(0))[0],
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
    "Finalist": lambda: halved().best,
    "FitResult": fitted,
    "GradientDescentState": lambda: jaxnet.gradient_descent(0.1).init(PARAMETERS),
    "Halving": halved,
    "Hardware": jaxnet.Hardware,
    "LionState": lambda: jaxnet.lion(0.1).init(PARAMETERS),
    "LayerDiagnosis": lambda: diagnosed().layers[0],
    "LayerNormParameters": lambda: jaxnet.layer_norm(3).init(jax.random.key(0)),
    "LayerSummary": lambda: jaxnet.summary(NETWORK).total,
    "SweepRun": lambda: swept().at(1, 0, 1),
    "NonFiniteError": diverged,
    "NonFinite": origin,
    "PeriodicParameters": lambda: jaxnet.periodic(3).init(jax.random.key(0)),
    "Problem": lambda: problems.standard_problems()[0],
    "ProblemComparison": lambda: compared().problems[0],
    "ReadError": lambda: jaxnet.ReadError("could not read rows 0 to 3"),
    "Report": lambda: conformance.Report((conformance.Check("runs", False, "no"),), compared()),
    "RmspropState": lambda: jaxnet.rmsprop(0.1).init(PARAMETERS),
    "SgdState": lambda: STATE.optimizer_state,
    "SpeedupEstimate": lambda: jaxnet.estimate_speedup(NETWORK, 64, 8),
    "Stream": lambda: jaxnet.Stream(6, read_rows, [__file__]),
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
MADE_OF_FUNCTIONS = {"Network"}  # see MAKERS


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
    assert types == CASES.keys() | MADE_OF_FUNCTIONS


def by_joblib(value):
    file = io.BytesIO()
    joblib.dump(value, file)
    return joblib.load(file)


WAYS = {
    **{
        f"pickle {protocol}": lambda value, protocol=protocol: pickle.loads(
            pickle.dumps(value, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "joblib": by_joblib,
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


def not_the_biases(parameters):
    return tuple(jaxnet.DenseParameters(True, False) for _ in parameters)


MAKERS = {
    "dense": [
        lambda: jaxnet.dense(2, 3),
        lambda: jaxnet.dense(2, 3, jaxnet.selu, initializer=jax.nn.initializers.ones),
        lambda: jaxnet.dense(2, 3, functools.partial(jaxnet.leaky_relu, negative_slope=0.2)),
    ],
    "batch_ensemble": [
        lambda: ENSEMBLE,
        lambda: jaxnet.batch_ensemble(jaxnet.serial(*NETWORK.layers, compute_dtype="bfloat16"), 2),
    ],
    "dropout": [lambda: jaxnet.dropout(0.5), lambda: jaxnet.dropout(fade).at(0.5)],
    "layer_norm": [lambda: jaxnet.layer_norm(2, epsilon=0.1)],
    "mlp": [
        lambda: jaxnet.mlp([2, 3, 1]),
        lambda: jaxnet.mlp([2, 3, 1], compute_dtype=jnp.bfloat16),
        lambda: jaxnet.mlp([2, 3, 1], activation=jaxnet.straight_through(jaxnet.binary_step)),
    ],
    "periodic": [lambda: jaxnet.periodic(2, 3, waves=5)],
    "piecewise_linear": [lambda: jaxnet.piecewise_linear([[-1, 0, 0.5, 1], [-1, 1]])],
    "residual": [
        lambda: jaxnet.residual(jaxnet.dense(2, 2)),
        lambda: jaxnet.serial(jaxnet.residual(jaxnet.residual(jaxnet.dense(2, 2)))),
    ],
    "serial": [
        lambda: jaxnet.serial(jaxnet.dense(2, 3), jaxnet.tanh, jaxnet.dropout(0.2)),
        lambda: jaxnet.serial(jaxnet.layer_norm(2), jaxnet.mlp([2, 2]), compute_dtype="float16"),
    ],
    "adam": [lambda: jaxnet.adam(0.1, b1=0.8), lambda: jaxnet.adam(jnp.array(0.1))],
    "adamw": [lambda: jaxnet.adamw(0.1), lambda: jaxnet.adamw(0.1, mask=not_the_biases)],
    "adagrad": [lambda: jaxnet.adagrad(0.1)],
    "amsgrad": [lambda: jaxnet.amsgrad(0.1)],
    "lion": [lambda: jaxnet.lion(0.1, mask=not_the_biases)],
    "nadam": [lambda: jaxnet.nadam(0.1, mu_dtype=jnp.bfloat16)],
    "rmsprop": [lambda: jaxnet.rmsprop(0.1, centered=True, momentum=0.9)],
    "gradient_descent": [lambda: jaxnet.gradient_descent(0.1)],
    "sgd": [lambda: SGD, lambda: jaxnet.sgd(0.1, momentum=0.9, nesterov=True)],
    "make_step": [
        lambda: jaxnet.make_step(NETWORK, jaxnet.huber, SGD, {"error": jaxnet.absolute_error})
    ],
    "member_mean": [lambda: jaxnet.member_mean(jaxnet.huber)],
    "straight_through": [
        lambda: jaxnet.straight_through(jaxnet.binary_step),
        lambda: jaxnet.straight_through(jaxnet.binary_step, jaxnet.tanh),
    ],
}


def makes_functions(function):
    returned = inspect.signature(function).return_annotation
    return returned in (
        jaxnet.Network,
        losses.Loss,
        optax.GradientTransformation,
        inspect.signature(jaxnet.make_step).return_annotation,
    ) or (typing.get_origin(returned) is collections.abc.Callable)


def test_every_function_that_makes_functions_is_tried():
    functions = {name: f for name, f in PUBLIC.items() if not isinstance(f, type)}
    assert {name for name, f in functions.items() if makes_functions(f)} == MAKERS.keys()


def computed(name, made):
    """What a network, an optimizer, a step or an activation computes."""
    if isinstance(made, jaxnet.Network):
        parameters, inputs = made.init(jax.random.key(1)), jnp.asarray(X)
        noisy = made.apply(parameters, inputs, key=jax.random.key(2))
        values = jaxnet.intermediates(made, parameters, inputs)
        gradients = jax.grad(lambda x: made.apply(parameters, x).sum())(inputs)
        return parameters, noisy, values, gradients, made.name, made.in_features, made.out_features
    if isinstance(made, optax.GradientTransformation):
        state, updates = made.init(PARAMETERS), PARAMETERS
        for _ in range(3):
            updates, state = made.update(updates, state, PARAMETERS)
        return updates, state
    if name == "make_step":
        return made(STATE, tuple(map(jnp.asarray, DATA)), jax.random.key(1))
    if name == "member_mean":
        return made(jnp.asarray(X)[:, :, None], jnp.asarray(DATA[1]))
    return made(jnp.asarray(X)), jax.grad(lambda x: made(x).sum())(jnp.asarray(X)), made.__name__


@pytest.mark.parametrize("name", MAKERS)
def test_functions_that_are_made_compute_the_same_after_pickling_and_copying(name):
    for make in MAKERS[name]:
        made = make()
        expected = bits(computed(name, made))
        for way in WAYS.values():
            assert bits(computed(name, way(made))) == expected


def test_public_functions_are_found_by_their_names():
    for function in PUBLIC.values():
        assert pickle.loads(pickle.dumps(function)) is function


def test_an_unpickled_network_has_the_same_error_messages():
    network, sgd = pickle.loads(pickle.dumps((NETWORK, SGD)))
    calls = {
        "serial(dense(2, 3, relu), dense(3, 1, identity)): expected one key": (network.init, 0),
        "dense(2, 3, relu): expected inputs with 2 features": (network.apply, PARAMETERS, X[:, :1]),
        "sgd: expected state of type SgdState": (sgd.update, PARAMETERS, ()),
    }
    for words, (function, *arguments) in calls.items():
        with helpers.refused((TypeError, ValueError), words):
            function(*arguments)


def test_a_function_that_pickle_does_not_find_is_named():
    for made in (jaxnet.dense(2, 3, lambda x: x), jaxnet.adam(lambda step: 0.1)):
        with pytest.raises((AttributeError, pickle.PicklingError), match="<lambda>"):
            pickle.dumps(made)


def run_as_file(script, folder):
    """What a script prints that other processes import."""
    file = folder / "runs.py"
    file.write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(jaxnet.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        timeout=helpers.HANGS,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_network_trains_to_the_same_bits_in_a_process_that_is_spawned(tmp_path):
    """And its copy is trained here by the program of the original."""
    script = """
import copy
import dataclasses
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import jax
import numpy as np

import jaxnet


def run(network, optimizer):
    x = np.linspace(-1, 1, 16, dtype=np.float32).reshape(8, 2)
    options = {"key": jax.random.key(0), "epochs": 2, "batch_size": 4, "progress": False}
    parameters = jaxnet.fit(network, jaxnet.squared_error, optimizer, (x, x), **options).parameters
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(parameters)]


if __name__ == "__main__":
    step = jaxnet.straight_through(jaxnet.binary_step, jaxnet.sigmoid)
    block = jaxnet.residual(jaxnet.mlp([3, 4, 3], activation=step))
    network = jaxnet.serial(jaxnet.dense(2, 3), block, jaxnet.dropout(0.1), jaxnet.dense(3, 2))
    made = network, jaxnet.adamw(0.1)
    here, compiled = run(*made), []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **_: compiled.append(event) if "backend_compile" in event else None
    )
    copies = pickle.loads(pickle.dumps(made)), copy.deepcopy(made)
    print([run(*each) == here for each in copies], len(compiled))
    run(network, jaxnet.adamw(0.2))
    print(len(compiled) > 0)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        print(pool.submit(run, *made).result() == here)
"""
    assert run_as_file(script, tmp_path) == ["[True, True] 0", "True", "True"]


def test_a_run_that_diverges_in_another_process_raises_its_error_here(tmp_path):
    """In a pool of processes that are spawned, which goes on with the next run."""
    script = """
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
"""
    lines = run_as_file(script, tmp_path)
    assert lines == ["NonFiniteError 1 non-finite NonFiniteStep", "True", "finished"]
