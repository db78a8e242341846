"""The identity of a run: another program or value is another run, and other words are not."""

import functools
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import types

import flax.linen
import flax.nnx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest
import sklearn.preprocessing

import jaxnet
from jaxnet.fitting import run_identity
from jaxnet.fitting.run_data import RunData
from jaxnet.fitting.trainer import Plan, Trainer
from jaxnet.training.batches import check_steps
from jaxnet.training.objective import make_objective
from jaxnet.training.state import EarlyStopping

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
Y = X[:, :1] ** 2
KEY = jax.random.key(0)


def identify(network=None, loss=jaxnet.squared_error, optimizer=None, **options):
    network = network or jaxnet.mlp([3, 1])
    optimizer = optimizer or jaxnet.adam(0.01)
    data = jaxnet.Data(*map(jnp.asarray, options.get("data", (X, Y))))
    validation = options.get("validation")
    validation = validation and jaxnet.Data(*map(jnp.asarray, validation))
    objective = make_objective(network, loss, options.get("metrics"))
    stopping = EarlyStopping(options.get("patience"))
    _, size = check_steps(1, options.get("batch_size", 4), data)
    plan = Plan(objective, optimizer, size, stopping, validation is not None)
    arrays = RunData(data, validation, options.get("key", KEY))
    found = run_identity.identify(Trainer(plan, arrays, options.get("state"), arrays, None))
    return json.loads(json.dumps(found))  # as it comes out of a file


def differ(first, second):
    return run_identity.differ(identify(**first), identify(**second))


# Other runs.


def loss_times(factor):
    return lambda outputs, targets: factor * jaxnet.squared_error(outputs, targets)


def loss_holding(value, read):
    return lambda outputs, targets: read(value) * jaxnet.squared_error(outputs, targets)


def loss_of_class(factor):
    """A class that differs in its code alone."""
    code = f"class L:\n  def __call__(self, o, t): return {factor} * squared_error(o, t)"
    names = {"squared_error": jaxnet.squared_error}
    exec(code, names)
    return names["L"]()


def loss_of_attribute(factor):
    loss = type("Loss", (), {"factor": factor, "__call__": lambda self, o, t: times(self, o, t)})

    def times(self, outputs, targets):
        return self.factor * jaxnet.squared_error(outputs, targets)

    return loss()


def loss_of_module(factor):
    module = types.ModuleType("helpers")
    module.factor = factor
    return loss_holding(module, lambda module: module.factor)


def loss_of_helper(factor):
    """A helper in an imported module, which differs in its code."""
    module = types.ModuleType("helpers")
    exec(f"def scale(x): return {factor} * x", vars(module))
    return lambda outputs, targets: module.scale(jaxnet.squared_error(outputs, targets))


def decorated(factor):
    def times(function):
        return functools.wraps(function)(lambda o, t: factor * function(o, t))

    return times(jaxnet.squared_error)


def loss_with_jvp(factor):
    @jax.custom_jvp
    def same(x):
        return x

    same.defjvp(lambda primals, tangents: (*primals, factor * tangents[0]))
    return lambda outputs, targets: same(jaxnet.squared_error(outputs, targets))


def loss_with_vjp(factor):
    @jax.custom_vjp
    def same(x):
        return x

    same.defvjp(lambda x: (x, None), lambda _, g: (factor * g,))
    return lambda outputs, targets: same(jaxnet.squared_error(outputs, targets))


def loss_calling_back(factor):
    def loss(outputs, targets):
        shape = jax.ShapeDtypeStruct(targets.shape[:1], jnp.float32)
        weights = jax.pure_callback(lambda t: np.full(len(t), factor, np.float32), shape, targets)
        return weights * jaxnet.squared_error(outputs, targets)

    return loss


def loss_calling(function):
    def loss(outputs, targets):
        shape = jax.ShapeDtypeStruct(targets.shape[:1], jnp.float32)
        weights = jax.pure_callback(function, shape, targets)
        return weights * jaxnet.squared_error(outputs, targets)

    return loss


def linen_network(bias):
    module = flax.linen.Dense(1, use_bias=bias)
    return jaxnet.Network(
        lambda key: module.init(key, jnp.ones((1, 3))),
        lambda parameters, x, *, key=None: module.apply(parameters, x),
    )


def linen_class(power):
    class Module(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            return flax.linen.Dense(1)(x**power)

    module = Module()
    return jaxnet.Network(
        lambda key: module.init(key, jnp.ones((1, 3))),
        lambda parameters, x, *, key=None: module.apply(parameters, x),
    )


def nnx_network(power):
    graph, state = flax.nnx.split(flax.nnx.Linear(3, 1, rngs=flax.nnx.Rngs(0)))
    return jaxnet.Network(
        lambda key: state, lambda state, x, *, key=None: flax.nnx.merge(graph, state)(x**power)
    )


def network_at(precision):
    def apply(parameters, x, *, key=None):
        return jnp.dot(x, parameters, precision=precision)

    return jaxnet.Network(lambda key: jnp.ones((3, 1)), apply)


def scaler(offset):
    return sklearn.preprocessing.StandardScaler().fit(X + offset)


def network_of_scaler(offset):
    fitted = scaler(offset)

    def apply(parameters, x, *, key=None):
        return (x - jnp.asarray(fitted.mean_, jnp.float32)[None].repeat(len(x), 0)) @ parameters

    return jaxnet.Network(lambda key: jnp.ones((3, 1)), apply)


PAIRS = {
    "learning_rate was 0.01 and is 0.5": [{"optimizer": jaxnet.adam(rate)} for rate in (0.01, 0.5)],
    "MultiSteps": [
        {"optimizer": optax.MultiSteps(optax.adam(rate), 2).gradient_transformation()}
        for rate in (0.01, 0.5)
    ],
    "inject_hyperparams": [
        {"optimizer": optax.inject_hyperparams(optax.adam)(rate)} for rate in (0.01, 0.5)
    ],
    "schedule": [
        {"optimizer": jaxnet.sgd(optax.linear_schedule(0.1, 0.0, steps))} for steps in (10, 11)
    ],
    "schedule of one's own": [
        {"optimizer": jaxnet.sgd(lambda t, rate=rate: rate / (1 + t))} for rate in (0.1, 0.2)
    ],
    "accumulator": [
        {"optimizer": optax.adagrad(0.1, initial_accumulator_value=value)} for value in (0.1, 0.2)
    ],
    "sizes": [{"network": jaxnet.mlp([3, hidden, 1])} for hidden in (4, 5)],
    "activation": [
        {"network": jaxnet.mlp([3, 4, 1], activation=each)} for each in (jaxnet.relu, jaxnet.tanh)
    ],
    "initializer": [
        {"network": jaxnet.dense(3, 1, initializer=each)}
        for each in (jax.nn.initializers.zeros, jax.nn.initializers.ones)
    ],
    "dropout": [
        {"network": jaxnet.serial(jaxnet.dropout(rate), jaxnet.dense(3, 1))} for rate in (0.1, 0.2)
    ],
    "Flax module": [{"network": linen_network(bias)} for bias in (True, False)],
    "Flax class": [{"network": linen_class(power)} for power in (1, 2)],
    "NNX": [{"network": nnx_network(power)} for power in (1, 2)],
    "precision": [{"network": network_at(each)} for each in (jax.lax.Precision.DEFAULT, "highest")],
    "fitted scaler": [{"network": network_of_scaler(offset)} for offset in (0, 1)],
    "loss": [{"loss": each} for each in (jaxnet.squared_error, jaxnet.absolute_error)],
    "closure": [{"loss": loss_times(factor)} for factor in (2.0, 3.0)],
    "partial": [{"loss": functools.partial(jaxnet.huber, delta=delta)} for delta in (1.0, 0.5)],
    "code of a class": [{"loss": loss_of_class(factor)} for factor in (2.0, 3.0)],
    "attribute of a class": [{"loss": loss_of_attribute(factor)} for factor in (2.0, 3.0)],
    "attribute of a module": [{"loss": loss_of_module(factor)} for factor in (2.0, 3.0)],
    "helper in a module": [{"loss": loss_of_helper(factor)} for factor in (2.0, 3.0)],
    "decorator": [{"loss": decorated(factor)} for factor in (2.0, 3.0)],
    "custom_jvp": [{"loss": loss_with_jvp(factor)} for factor in (2.0, 3.0)],
    "custom_vjp": [{"loss": loss_with_vjp(factor)} for factor in (2.0, 3.0)],
    "callback": [{"loss": loss_calling_back(factor)} for factor in (2.0, 3.0)],
    "code of a callback": [
        {"loss": loss_calling(function)}
        for function in (
            lambda t: np.full(len(t), 2, np.float32),
            lambda t: np.full(len(t), 3, np.float32),
        )
    ],
    "namespace": [
        {"loss": loss_holding(types.SimpleNamespace(f=factor), lambda v: v.f)}
        for factor in (2.0, 3.0)
    ],
    "set": [{"loss": loss_holding(each, sum)} for each in ({1, 2}, {1, 3})],
    "range": [{"loss": loss_holding(range(n), sum)} for n in (3, 4)],
    "slice": [
        {"loss": loss_holding(slice(n), lambda v: float(np.arange(9)[v].sum()))} for n in (3, 4)
    ],
    "pandas": [
        {"loss": loss_holding(pandas.Series([1.0, last]), lambda v: float(v.sum()))}
        for last in (2.0, 3.0)
    ],
    "metrics": [{"metrics": metrics} for metrics in (None, {"error": jaxnet.absolute_error})],
    "a metric": [{"metrics": {"m": loss_times(factor)}} for factor in (2.0, 3.0)],
    "name of a metric": [{"metrics": {name: jaxnet.absolute_error}} for name in "ab"],
    "batch_size was 4 and is 2": [{"batch_size": size} for size in (4, 2)],
    "patience": [{"patience": patience, "validation": (X, Y)} for patience in (3, 4)],
    "data/inputs": [{"data": (inputs, Y)} for inputs in (X, X + 1)],
    "data/targets": [{"data": (X, targets)} for targets in (Y, Y[::-1])],
    "data/weights": [{"data": (X, Y, np.full(8, w, np.float32))} for w in (1, 2)],
    "validation": [{"validation": each} for each in (None, (X, Y))],
    "validation/targets": [{"validation": (X, targets)} for targets in (Y, Y + 1)],
    "key": [{"key": jax.random.key(seed)} for seed in (0, 1)],
    "implementation of the key": [
        {"key": jax.random.key(0, impl=each)} for each in ("threefry2x32", "rbg")
    ],
    "state": [
        {"state": jaxnet.initial_state(jaxnet.mlp([3, 1]), jaxnet.adam(0.01), key=key)}
        for key in jax.random.split(KEY)
    ],
}
NAMED = ("learning_rate", "batch_size", "patience", "data/", "validation", "key", "state")


@pytest.mark.parametrize("name", PAIRS)
def test_another_run_is_told_apart_and_the_same_is_not(name):
    with jax.numpy_dtype_promotion("standard"):
        first, second = (identify(**options) for options in PAIRS[name])
        assert run_identity.differ(first, identify(**PAIRS[name][0])) is None
    found = run_identity.differ(first, second)
    assert found
    if name.startswith(NAMED):
        assert name in found


SETTINGS = {
    "jax_enable_x64": lambda: jax.enable_x64(True),
    "jax_default_matmul_precision": lambda: jax.default_matmul_precision("highest"),
    "jax_threefry_partitionable": lambda: jax.threefry_partitionable(
        not jax.config.jax_threefry_partitionable
    ),
    "jax_default_prng_impl": lambda: jax.default_prng_impl("rbg"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_changes_numbers_is_another_run(name):
    before = identify()
    with SETTINGS[name]():
        assert f"settings/{name} was" in run_identity.differ(before, identify())


# Other words for the same run.


def written_otherwise(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Docstring."""
    factor = 2.0  # comment
    errors = jaxnet.squared_error(outputs, targets)
    return factor * errors


CLASSES = np.array(["cat", "dog"], dtype=object)

SAME = {
    "names, docstring, annotations": {"loss": written_otherwise},
    "lambda": {"loss": lambda o, t: 2.0 * jaxnet.squared_error(o, t)},
    "class": {"loss": loss_of_class(2.0)},
    "helper": {"loss": loss_of_helper(2.0)},
    "object array": {"loss": lambda o, t: len(CLASSES) * 1.0 * jaxnet.squared_error(o, t)},
    "all examples by their number": {"loss": loss_times(2.0), "batch_size": 8},
}


@pytest.mark.parametrize("name", SAME)
def test_what_computes_the_same_is_the_same_run(name):
    before = {"loss": loss_times(2.0), "batch_size": None if "number" in name else 4}
    assert differ(before, SAME[name]) is None


def test_optimizers_built_otherwise_are_the_same_run():
    rates = 0.01, np.float64(0.01), lambda step: 0.01
    for first, second in itertools.combinations([jaxnet.sgd(rate) for rate in rates[:2]], 2):
        assert differ({"optimizer": first}, {"optimizer": second}) is None


# A training script, and edits of it.


def script(names, numbers, form, documented, moved):
    """A loss, a network and an optimizer: `numbers` are what they compute, the rest is words."""
    loss, helper, factor = names
    power, scale, rate, slope = numbers
    docs = f'    """{loss} returns the loss."""\n' if documented else ""
    helpers = f"def {helper}(x):\n{docs}    return jnp.abs(x) ** {power}\n"
    if form == "function":
        body = (
            f"def {loss}(outputs, targets):\n{docs}    {factor} = {scale}\n"
            f"    return {factor} * {helper}(outputs - targets).sum(-1)\n"
        )
    elif form == "lambda":
        body = f"{factor} = {scale}\n{loss} = lambda o, t: {factor} * {helper}(o - t).sum(-1)\n"
    else:
        body = (
            f"class {loss.title()}:\n{docs}    {factor} = {scale}\n"
            f"    def __call__(self, outputs, targets):\n"
            f"        return self.{factor} * {helper}(outputs - targets).sum(-1)\n"
            f"{loss} = {loss.title()}()\n"
        )
    network = (
        "network = jaxnet.Network(\n"
        "    lambda key: jnp.ones((3, 1)),\n"
        f"    lambda parameters, x, *, key=None: jnp.maximum({slope} * (x @ parameters), 0.0),\n)\n"
    )
    optimizer = f"optimizer = optax.sgd({rate})\n"
    imports = "import jax.numpy as jnp, jaxnet, optax\n"
    parts = [body, network, optimizer]
    if moved:  # another order, and the helper in a module of its own
        parts = [f"from helpers_of_script import {helper}\n", optimizer, network, body]
    else:
        parts.insert(0, helpers)
    return imports + "".join(parts) + f"loss = {loss}\n", imports + helpers


def run_of(texts):
    main, helpers = texts
    module = types.ModuleType("helpers_of_script")
    exec(helpers, vars(module))
    sys.modules["helpers_of_script"] = module
    names = {"__name__": "__main__"}
    exec(main, names)
    del sys.modules["helpers_of_script"]
    return {name: names[name] for name in ("network", "loss", "optimizer")}


def compiled_text(run):
    """What XLA is given for a step, without the names of functions: an oracle that is JAX's own."""
    step = jaxnet.make_step(**run)
    state = jaxnet.initial_state(run["network"], run["optimizer"], key=KEY)
    text = jax.jit(lambda *args: step(*args)).lower(state, (X[:4], Y[:4])).as_text()
    return re.sub(r"@\w+|module .*", "", text)


NAMES = st.tuples(*[st.sampled_from([f"{kind}_{i}" for i in "xyz"]) for kind in "abc"])
NUMBERS = st.tuples(
    st.sampled_from([2, 3]), st.sampled_from([1.0, 0.5]), st.sampled_from([0.1, 0.2]),
    st.sampled_from([1.0, 2.0]),
)  # fmt: skip
WORDS = st.tuples(
    NAMES, st.sampled_from(["function", "lambda", "class"]), st.booleans(), st.booleans()
)


@hypothesis.given(
    words=st.tuples(WORDS, WORDS), numbers=st.tuples(NUMBERS, NUMBERS), same=st.booleans()
)
@hypothesis.settings(max_examples=40, derandomize=True)
def test_the_verdict_is_that_of_the_traced_program(words, numbers, same):
    numbers = (numbers[0], numbers[0]) if same else numbers
    runs = [
        run_of(script(names, number, *rest))
        for (names, *rest), number in zip(words, numbers, strict=True)
    ]
    verdict = differ(*runs) is None
    texts = list(map(compiled_text, runs))
    assert verdict == (texts[0] == texts[1])
    assert verdict == (numbers[0] == numbers[1])


# Other processes.

SCRIPT = """
import sys, numpy as np, jax, jax.numpy as jnp, jaxnet
FACTOR = 2.0
CLASSES = np.array(["cat", "dog"], dtype=object)
def helper(x):
    \"\"\"Docstring.\"\"\"
    assert x.ndim == 1
    return FACTOR * x / len(CLASSES)
def loss(outputs, targets):
    return helper(jaxnet.squared_error(outputs, targets))
def train(folder, epochs):
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
    run = jaxnet.fit(
        jaxnet.mlp([3, 4, 1]), loss, jaxnet.adam(0.01), (x, x[:, :1]), key=jax.random.key(0),
        epochs=int(epochs), batch_size=4, checkpoints=folder, progress=False,
    )
    return len(run.history["cost"])
if __name__ == "__main__":
    print(train(sys.argv[-2], int(sys.argv[-1])))
"""

TRAIN = "train(sys.argv[-2], int(sys.argv[-1]))"
SPAWN = """
import multiprocessing, sys, a_script
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(a_script.train, (sys.argv[-2], int(sys.argv[-1])))
"""
PARALLEL = "import joblib; joblib.Parallel(2)([joblib.delayed(train)(*sys.argv[-2:])])"
WAYS = {
    "optimized": ["-OO", "a_script.py"],
    "a command": ["-c", SCRIPT],
    "imported": ["-c", f"import sys, a_script; a_script.{TRAIN}"],
    "a spawned process": ["-c", SPAWN],
    "a joblib worker": ["-c", SCRIPT.replace(f"print({TRAIN})", PARALLEL)],
}


def start(folder, command, epochs):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()])}
    call = [sys.executable, *command, str(folder / "run"), str(epochs)]
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The folder of a script and of its run of two epochs."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "a_script.py").write_text(SCRIPT)
    assert start(folder, ["a_script.py"], 2).stdout == "2\n"
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_any_way_to_start_a_script_resumes_its_run_and_refuses_another(way, begun, tmp_path):
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    resumed = start(tmp_path, WAYS[way], 3)
    assert resumed.returncode == 0, resumed.stderr
    assert jaxnet.load_metadata(tmp_path / "run" / "epoch-00000003.safetensors")["epoch"] == 3
    (tmp_path / "a_script.py").write_text(SCRIPT.replace("FACTOR = 2.0", "FACTOR = 3.0"))
    command = [part.replace("FACTOR = 2.0", "FACTOR = 3.0") for part in WAYS[way]]
    refused = start(tmp_path, command, 4)
    assert refused.returncode != 0
    assert "another run: loss/helper/FACTOR was 2.0 and is 3.0" in refused.stderr
