"""Shapes: any that fit together work, and any that do not are refused, by us and at once."""

import functools

import helpers
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

import jaxnet

ADAM = jaxnet.adam(0.01)
KEY = jax.random.key(0)


# For each kind of targets: a loss, a metric, and the targets of so many examples and outputs.
KINDS = {
    "labels": (
        jaxnet.softmax_cross_entropy,
        jaxnet.accuracy,
        lambda random, n, outputs: random.integers(outputs, size=n),
    ),
    "distributions": (
        jaxnet.softmax_cross_entropy,
        jaxnet.accuracy,
        lambda random, n, outputs: random.dirichlet(np.ones(outputs), n),
    ),
    "yes or no": (
        jaxnet.sigmoid_binary_cross_entropy,
        jaxnet.binary_accuracy,
        lambda random, n, outputs: random.integers(2, size=(n, outputs)),
    ),
    "numbers": (
        jaxnet.squared_error,
        jaxnet.mean_absolute_error,
        lambda random, n, outputs: random.normal(size=(n, outputs)),
    ),
}
WEIGHTS = {
    "none": lambda random, n: (),
    "floats": lambda random, n: (random.uniform(0.5, 2, n),),
    "integers": lambda random, n: (random.integers(1, 3, n).tolist(),),
}


COUNTS = strategies.integers(1, 7)
CALLS = strategies.fixed_dictionaries(
    {
        "examples": COUNTS,
        "held_out": strategies.none() | COUNTS,
        "sizes": strategies.tuples(COUNTS, COUNTS, strategies.integers(2, 4)),
        "batches": strategies.none() | COUNTS,
        "epochs": strategies.integers(1, 3),
        "kind": strategies.sampled_from(list(KINDS)),
        "weights": strategies.sampled_from(list(WEIGHTS)),
    }
)


def built(examples, held_out, sizes, batches, epochs, kind, weights):
    """The arguments of a call of `train` or `fit` that is right."""
    random = np.random.default_rng(0)
    loss, metric, targets_of = KINDS[kind]

    def data(n):
        targets = targets_of(random, n, sizes[-1])
        return (random.normal(size=(n, sizes[0])), targets, *WEIGHTS[weights](random, n))

    call = {
        "network": jaxnet.mlp(sizes),
        "loss": loss,
        "data": data(examples),
        "batch_size": batches and min(batches, examples),
        "epochs": epochs,
        "metrics": {"metric": metric},
    }
    return call | ({"validation": data(held_out)} if held_out else {})


def run(function, call):
    """`fit` or `train`, whole."""
    return function(optimizer=ADAM, key=KEY, **call)


def evaluate(call):
    network, data = call["network"], call["data"]
    parameters = [
        (jnp.zeros((layer.in_features, layer.out_features)), jnp.zeros(layer.out_features))
        for layer in network.layers
    ]
    jaxnet.evaluate(network, parameters, data, {"cost": call["loss"]})


@hypothesis.given(CALLS)
@hypothesis.settings(max_examples=15)
def test_any_shapes_that_fit_work(drawn):
    """Traced, not run: what comes out has the shapes that it should."""
    call = built(**drawn)
    network, epochs = call["network"], call["epochs"]
    inputs, targets, *_ = call["data"]
    state, history = jax.eval_shape(lambda key: run(jaxnet.train, call), KEY)
    names = {"cost", "metric"}
    names |= {f"validation_{name}" for name in names} if "validation" in call else set()
    assert set(history) == names
    assert {column.shape for column in history.values()} == {(epochs,)}
    layers = [(layer.in_features, layer.out_features) for layer in network.layers]
    assert [layer.weights.shape for layer in state.parameters] == layers
    outputs = jax.eval_shape(functools.partial(jaxnet.predict, network), state.parameters, inputs)
    assert outputs.shape == (len(inputs), network.out_features)
    losses = jax.eval_shape(call["loss"], outputs, jnp.asarray(targets))
    assert losses.shape == (len(inputs),)


@hypothesis.given(CALLS)
@hypothesis.settings(max_examples=3)
def test_any_shapes_that_fit_train(drawn):
    history = run(functools.partial(jaxnet.fit, progress=False), built(**drawn)).history
    assert all(np.isfinite(column).all() for column in history.values())


def with_data(call, inputs=None, targets=None, weights=None):
    """The call with some of its data changed."""
    old_inputs, old_targets, *old_weights = call["data"]
    inputs, targets = inputs or (lambda x: x), targets or (lambda x: x)
    kept = old_weights if weights is None else [weights]
    return call | {"data": (inputs(old_inputs), targets(np.asarray(old_targets)), *kept)}


def with_one(value):
    """Changes the last number of an array."""

    def changed(array):
        array = np.array(array)
        array[(-1,) * array.ndim] = value
        return array

    return changed


def too_high(call):
    """A label too high, or a column too many."""
    if np.ndim(call["data"][1]) == 1:
        return with_data(call, targets=with_one(call["network"].out_features))
    return with_data(call, targets=lambda y: np.concatenate([y, y[:, :1]], 1))


def other_form(call):
    """One-hot integers for labels, and labels as floats for anything else."""
    if np.ndim(call["data"][1]) == 1:
        return with_data(call, targets=lambda y: np.eye(call["network"].out_features, dtype=int)[y])
    return with_data(call, targets=lambda y: y.argmax(1).astype(float))


def examples(call):
    return len(call["data"][0])


SPOILED = {
    "an input too many": lambda call: with_data(call, inputs=lambda x: np.concatenate([x, x[:1]])),
    "a target too few": lambda call: with_data(call, targets=lambda y: y[:-1]),
    "a weight too many": lambda call: with_data(call, weights=np.ones(examples(call) + 1)),
    "weights of two axes": lambda call: with_data(call, weights=np.ones((examples(call), 1))),
    "a feature too many": lambda call: with_data(call, inputs=lambda x: np.hstack([x, x[:, :1]])),
    "inputs of one axis": lambda call: with_data(call, inputs=lambda x: x[:, 0]),
    "inputs of text": lambda call: with_data(call, inputs=lambda x: x.astype(str)),
    "complex inputs": lambda call: with_data(call, inputs=lambda x: x + 1j),
    "targets of an axis more": lambda call: with_data(call, targets=lambda y: y[..., None]),
    "targets of text": lambda call: with_data(call, targets=lambda y: y.astype(str)),
    "no examples": lambda call: with_data(call, inputs=lambda x: x[:0], targets=lambda y: y[:0]),
    "a label or a column too many": too_high,
    "targets in another form": other_form,
}
SPOILED_RUNS = SPOILED | {
    "a batch of nothing": lambda call: call | {"batch_size": 0},
    "no epochs": lambda call: call | {"epochs": 0},
    "spoiled validation": lambda call: (
        call | {"validation": with_data(call, inputs=lambda x: np.hstack([x, x]))["data"]}
    ),
}
SPOILED_FITS = SPOILED_RUNS | {
    "an input that is no number": lambda call: with_data(call, inputs=with_one(np.nan)),
    "an input beyond float32": lambda call: with_data(call, inputs=with_one(1e300)),
    "a negative weight": lambda call: with_data(call, weights=-np.ones(examples(call))),
}
FUNCTIONS = {
    "fit": (functools.partial(run, jaxnet.fit), SPOILED_FITS),
    "train": (functools.partial(run, jaxnet.train), SPOILED_RUNS),
    "evaluate": (evaluate, SPOILED),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@hypothesis.given(CALLS, strategies.data())
@hypothesis.settings(max_examples=25)
def test_any_that_do_not_fit_are_refused(name, drawn, data):
    function, spoiled = FUNCTIONS[name]
    spoil = spoiled[data.draw(strategies.sampled_from(list(spoiled)))]
    spoiled_call = spoil(built(**drawn))
    with helpers.refused((TypeError, ValueError), "expected", "Received: ") as caught:
        function(spoiled_call)
    assert str(caught.value).startswith(f"{name}: ")
