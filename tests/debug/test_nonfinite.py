"""The first value that is not finite: planted at one place after the other, and found there."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet

MAX = float(jnp.finfo(jnp.float32).max)


def key(seed=0):
    return jax.random.key(seed)


def state_of(parameters, optimizer, step=0):
    return jaxnet.TrainState(parameters, optimizer.init(parameters), jnp.array(step))


RULE = jaxnet.gradient_descent(0.1)


def locate(network, parameters, batch, *, loss=jaxnet.absolute_error, optimizer=RULE, key=None):
    state = state_of(parameters, optimizer)
    return jaxnet.find_nonfinite(network, loss, optimizer, state, batch, key)


def batch_of(features, outputs, examples=8):
    random = np.random.default_rng(0)
    return jnp.float32(random.normal(size=(examples, features))), jnp.ones((examples, outputs))


def found(origin):
    return origin.quantity, origin.layer, origin.rows, str(origin.value)


# Planted, in the order of computation.

MLP = jaxnet.mlp([3, 4, 2])
PARAMETERS = helpers.drawn(MLP)


@pytest.mark.parametrize(
    ("part", "name"), [(0, "inputs"), (1, "targets"), (2, "weights")], ids=lambda p: str(p)
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_in_the_batch(part, name, value):
    batch = [*batch_of(3, 2), jnp.ones(8)]
    batch[part] = batch[part].at[5].set(value)
    assert found(locate(MLP, PARAMETERS, tuple(batch))) == (name, "", (5,), str(value))


def test_in_the_parameters():
    first, second = PARAMETERS
    broken = second._replace(biases=jnp.array([0.0, jnp.nan]))
    origin = locate(MLP, (first, broken), (*batch_of(3, 2), jnp.ones(8)))
    assert found(origin) == ("parameters", "1 dense(4, 2, identity)", (), "nan")


def exponential(x):
    return jnp.exp(x)


def logarithm(x):
    return jnp.log(x - 1)  # that of the exponential itself, XLA would simplify to nothing


CHAIN = jaxnet.serial(
    jaxnet.dense(1, 1),
    jaxnet.residual(jaxnet.dense(1, 1)),
    jaxnet.dense(1, 1, exponential),
    logarithm,
    jaxnet.dense(1, 1),
)


def chain(first, block, last):
    """Parameters with these weights, all else as it is: the others' are 1."""
    weights = [first, block, 1.0, None, last]
    layers = [() if w is None else (jnp.array([[w]]), jnp.zeros(1)) for w in weights]
    return [jaxnet.DenseParameters(*layer) if layer else () for layer in layers]


# exp(88.7) = 3.3e38 and exp(88.8) = 3.7e38, on either side of the largest float32.
CHAINS = {
    "first sum": (chain(-1e30, 1.0, 1.0), [1.0, 1e9, -1e10], "weighted sum", "0 dense", (1, 2)),
    "second sum": (chain(1.0, 1e30, 1.0), [1.0, 2.0, 1e9], "weighted sum", "1 residual/0", (2,)),
    "block": (chain(1.0, 1.0, 1.0), [2e38, 1.0, 1.0], "output", "1 residual", (0,)),
    "activation": (chain(1.0, 0.0, 1.0), [1.0, 88.7, 88.8], "activation", "2 dense", (2,)),
    "logarithm": (chain(1.0, 0.0, 1.0), [1.0, 0.0, 1.0], "output", "3 logarithm", (1,)),
    "last sum": (chain(1.0, 0.0, 1e38), [1.0, 3.0, 4.0], "weighted sum", "4 dense", (2,)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_in_the_layers(name):
    parameters, inputs, quantity, layer, rows = CHAINS[name]
    origin = locate(CHAIN, parameters, (jnp.array(inputs)[:, None], jnp.ones((3, 1))))
    assert (origin.quantity, origin.rows) == (quantity, rows)
    assert origin.layer.startswith(layer)
    assert np.isinf(origin.value)


def test_overflow_in_half_precision():
    network = jaxnet.mlp([1, 1], compute_dtype=jnp.float16)
    parameters = [(jnp.array([[1e3]]), jnp.zeros(1))]
    origin = locate(network, parameters, (jnp.array([[1.0], [99.0]]), jnp.ones((2, 1))))
    assert found(origin) == ("weighted sum", "0 dense(1, 1, identity)", (1,), "inf")
    assert "float16's 6.6e+04" in origin.cause


LINE = jaxnet.mlp([1, 1])


def line(weight, bias):
    return [jaxnet.DenseParameters(jnp.array([[weight]]), jnp.array([bias]))]


def column(*values):
    return jnp.array(values)[:, None]


def negative_log(probabilities, targets):
    del targets
    return -jnp.log(probabilities[:, 0])


def test_logarithm_of_0_in_the_loss():
    batch = column(1.0, 0.5, 0.0, 0.2), jnp.ones((4, 1))
    origin = locate(LINE, line(1.0, 0.0), batch, loss=negative_log)
    assert found(origin) == ("loss", "", (2,), "inf")
    assert "logarithm" in origin.cause


def test_the_loss_of_an_example_of_weight_0_does_not_count_but_its_gradient_does():
    batch = column(1.0, 0.5, 0.0, 0.2), jnp.ones((4, 1)), jnp.array([1.0, 1.0, 0.0, 1.0])
    origin = locate(LINE, line(1.0, 0.0), batch, loss=negative_log)
    # 0 times the derivative of the logarithm at 0, which is infinite.
    assert found(origin) == ("gradient", "0 dense(1, 1, identity)", (2,), "nan")


def root(x):
    return jnp.where(x < 0, 0, jnp.sqrt(jnp.abs(x)))


def test_a_derivative_at_one_point():
    network = jaxnet.serial(jaxnet.dense(1, 1), jaxnet.dense(1, 1, root), jaxnet.dense(1, 1))
    batch = column(1.0, 0.3, 0.0, 0.7), jnp.ones((4, 1))
    value, slope = jax.value_and_grad(root)(0.0)
    assert value == 0 and not jnp.isfinite(slope)
    origin = locate(network, line(1.0, 0.0) * 3, batch)
    # Backwards the last layer comes first, and its gradient is finite.
    assert found(origin)[:3] == ("gradient", "1 dense(1, 1, root)", (2,))


HIGH = jaxnet.gradient_descent(1e38)  # the slope of the absolute error is 1 or -1

LINES = {
    "losses whose sum overflows": (
        line(1.0, 0.0),
        (3e38, 2e38),
        (0.0, 0.0),
        ("cost", "", (), "inf"),
    ),
    "rate": (line(1.0, 0.0), (9.0, 9.0), (0.0, 0.0), ("update", LINE.layers[0].name, (), "-inf")),
    "parameters": (
        line(1.0, 3e38),
        (0.0, 0.0),
        (3.2e38, 3.1e38),
        ("new parameters", LINE.layers[0].name, (), "inf"),
    ),
    "nothing": (line(1.0, 0.0), (1.0, 1.0), (0.0, 0.0), None),
}


@pytest.mark.parametrize("name", LINES)
def test_after_the_loss(name):
    parameters, inputs, targets, expected = LINES[name]
    origin = locate(LINE, parameters, (column(*inputs), column(*targets)), optimizer=HIGH)
    if expected is None:
        assert origin is None
    else:
        quantity, layer, rows, value = expected
        assert found(origin) == (quantity, layer and f"0 {layer}", rows, value)


def test_the_state_of_the_optimizer():
    batch = column(1e22), column(0.0)
    origin = locate(LINE, line(1.0, 0.0), batch, optimizer=jaxnet.adam(0.1))
    # The gradient is 1e22, and Adam keeps a thousandth of its square.
    assert found(origin) == ("optimizer state", "nu/0/weights", (), "inf")


def test_an_infinity_that_an_optimizer_starts_with_is_none_of_a_step():
    def init(parameters):
        return optax.EmptyState(), {"lowest": jnp.array(jnp.inf)}

    def update(gradients, state, parameters=None):
        return jax.tree.map(lambda g: -0.1 * g, gradients), state

    rule = optax.GradientTransformation(init, update)
    assert locate(LINE, line(1.0, 0.0), (column(1.0), column(0.0)), optimizer=rule) is None


# In training.


@pytest.mark.parametrize("sizes", [[3, 1], [3, 4, 1]])
def test_a_rate_that_diverges(sizes):
    """No step is blamed before the one that breaks, and its origin is what float64 says."""
    network, rule = jaxnet.mlp(sizes, activation=jaxnet.identity), jaxnet.gradient_descent(3.0)
    state, batch = state_of(helpers.drawn(network), rule), batch_of(3, 1, 16)
    step = jax.jit(jaxnet.make_step(network, jaxnet.squared_error, rule))
    arguments = network, jaxnet.squared_error, rule
    for _ in range(100):
        after, metrics = step(state, batch)
        if not jnp.isfinite(metrics["cost"]):
            break
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
        assert jaxnet.find_nonfinite(*arguments, state, batch) is None
        state = after
    values = np.asarray(batch[0], np.float64)
    exact = []
    for i, (weights, biases) in enumerate(jax.tree.map(np.float64, state.parameters)):
        values = values @ weights + biases
        exact.append(("weighted sum", network.layers[i].name, values))
    exact.append(("loss", "", np.square(values - 1)))
    quantity, layer, values = next(e for e in exact if (abs(e[2]) > MAX).any())
    origin = jaxnet.find_nonfinite(*arguments, state, batch)
    assert (origin.quantity, origin.layer[2:]) == (quantity, layer)
    assert origin.rows == tuple(np.flatnonzero((abs(values) > MAX).any(1 if layer else ())))


def reciprocal(x):
    return 1 / x


def test_noise_is_that_of_the_step():
    """Where dropout drops, the next layer divides by 0."""
    network, inputs = jaxnet.serial(jaxnet.dropout(0.5), reciprocal), jnp.ones((16, 1))
    for step in (0, 7):
        arguments = network, jaxnet.absolute_error, RULE, state_of(((), ()), RULE, step)
        origin = jaxnet.find_nonfinite(*arguments, (inputs, inputs), key(3))
        outputs = network.apply(((), ()), inputs, key=jax.random.fold_in(key(3), step))
        rows = tuple(np.flatnonzero(outputs == jnp.inf))
        assert 0 < len(rows) < 16
        assert found(origin) == ("output", "1 reciprocal", rows, "inf")
    assert jaxnet.find_nonfinite(*arguments, (inputs, inputs)) is None


def test_healthy_steps_have_none():
    network = jaxnet.serial(
        jaxnet.residual(jaxnet.dense(4, 4, jaxnet.relu)), jaxnet.dropout(0.2), jaxnet.dense(4, 3)
    )
    rule, batch = jaxnet.adam(0.01), (*batch_of(4, 3), jnp.arange(8.0))
    state = state_of(helpers.drawn(network), rule)
    for step in range(3):
        state = state._replace(step=jnp.array(step))
        origin = jaxnet.find_nonfinite(network, jaxnet.squared_error, rule, state, batch, key(2))
        assert origin is None


def test_a_network_without_layers_is_told_by_its_leaves():
    network = jaxnet.Network(
        lambda key: {"matrix": jnp.eye(2)}, lambda p, x, *, key=None: x @ p["matrix"]
    )
    batch = jnp.ones((4, 2)), jnp.zeros((4, 2))
    origin = locate(network, {"matrix": jnp.full((2, 2), 3e38)}, batch)
    assert found(origin) == ("output", "network", (0, 1, 2, 3), "inf")
    origin = locate(network, {"matrix": jnp.full((2, 2), -jnp.inf)}, batch)
    assert found(origin) == ("parameters", "matrix", (), "-inf")


def test_an_origin_prints_as_a_sentence():
    rows = tuple(range(9))
    origin = jaxnet.NonFinite(
        "weighted sum", "0 dense(1, 1, relu)", rows, float("inf"), "too large"
    )
    assert str(origin) == (
        "weighted sum of layer 0 dense(1, 1, relu): inf, in rows 0, 1, 2, 3, 4, ... "
        "of the batch (9 in all); too large"
    )


# Refusals.


def misfit(**changes):
    given = {"batch": batch_of(3, 2), "loss": jaxnet.squared_error, "key": None} | changes
    return locate(MLP, PARAMETERS, **given)


WRONG = {
    "batch": (lambda: misfit(batch=jnp.ones(3)), TypeError, "batch as a tuple"),
    "rows": (lambda: misfit(batch=(jnp.ones((4, 3)), jnp.ones((5, 2)))), ValueError, "4 examples"),
    "features": (lambda: misfit(batch=batch_of(4, 2)), ValueError, "with 3 features"),
    "targets": (lambda: misfit(batch=batch_of(3, 1)), ValueError, "batch: squared_error"),
    "seed": (lambda: misfit(key=0), TypeError, "find_nonfinite: expected one key"),
    "loss": (lambda: misfit(loss=lambda o, t: o.sum()), ValueError, "one value per example"),
    "state": (
        lambda: jaxnet.find_nonfinite(
            MLP, jaxnet.squared_error, jaxnet.adam(0.1), (), batch_of(3, 2)
        ),
        TypeError,
        "expected state of type TrainState. Received: tuple ()",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name):
    make, error, words = WRONG[name]
    with helpers.refused(error, words):
        make()
