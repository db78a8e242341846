"""Training: right beside others' backpropagation, every example once, the same bits again."""

import functools

import chex
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
import sklearn.datasets
import sklearn.neural_network

import jaxnet

LOSS = jaxnet.softmax_cross_entropy
DIGITS = sklearn.datasets.load_digits()


def key(seed=0):
    return jax.random.key(seed)


def problem(examples=50, features=3, classes=4, dtype=np.float32):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(examples, features)).astype(dtype)
    return jnp.asarray(inputs), jnp.asarray(random.integers(classes, size=examples), jnp.int32)


def run(key, *, network=None, rate=0.01, data=None, **options):
    options = {"epochs": 3, "batch_size": 16, "metrics": {"accuracy": jaxnet.accuracy}} | options
    network = jaxnet.mlp([3, 8, 4]) if network is None else network
    data = problem() if data is None else data
    loss, optimizer = jaxnet.softmax_cross_entropy, jaxnet.adam(rate)
    return jaxnet.train(network, loss, optimizer, data, key=key, **options)


# Is it right?


def backpropagate(weights, biases, inputs, labels):
    """Cost and gradients of a tanh network with softmax output: the chain rule, written out."""
    (w1, w2), (b1, b2), n = weights, biases, len(inputs)
    hidden = np.tanh(inputs @ w1 + b1)
    logits = hidden @ w2 + b2
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    one_hot = np.eye(logits.shape[1])[labels]
    cost = -np.log((probabilities * one_hot).sum(1)).mean()
    d_logits = (probabilities - one_hot) / n
    d_hidden = d_logits @ w2.T
    d_sums = d_hidden * (1 - hidden**2)
    gradients = (inputs.T @ d_sums, d_sums.sum(0)), (hidden.T @ d_logits, d_logits.sum(0))
    return cost, gradients


def test_a_step_equals_backpropagation_written_out():
    with jax.enable_x64(True):
        network = jaxnet.mlp([3, 5, 4], activation=jaxnet.tanh)
        start = jax.tree.map(lambda a: a.astype(jnp.float64), network.init(key()))
        inputs, labels = problem(dtype=np.float64)
        optimizer = jaxnet.gradient_descent(1.0)
        step = jaxnet.make_step(network, jaxnet.softmax_cross_entropy, optimizer)
        state = jaxnet.TrainState(start, optimizer.init(start), jnp.array(0))
        state, metrics = step(state, (inputs, labels))
        weights, biases = zip(*jax.tree.map(np.asarray, start), strict=True)
        cost, gradients = backpropagate(weights, biases, np.asarray(inputs), np.asarray(labels))
        np.testing.assert_allclose(metrics["cost"], cost, rtol=1e-14)
        moved = jax.tree.map(lambda before, after: before - after, start, state.parameters)
        # 50 terms, each rounded to 2**-53, and the subtraction of parameters below 2.
        for ours, theirs in zip(moved, gradients, strict=True):
            chex.assert_trees_all_close(tuple(ours), theirs, atol=50 * 2**-52)


def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        network = jaxnet.serial(
            jaxnet.dense(3, 6, jaxnet.gelu),
            jaxnet.layer_norm(6),
            jaxnet.residual(jaxnet.dense(6, 6, jaxnet.silu)),
            jaxnet.dense(6, 4),
        )
        parameters = jax.tree.map(lambda a: a.astype(jnp.float64), network.init(key()))
        inputs, labels = problem(8, dtype=np.float64)

        @jax.jit
        def cost(parameters):
            outputs = network.apply(parameters, inputs)
            return jaxnet.weighted_mean(jaxnet.softmax_cross_entropy(outputs, labels))

        # Central differences over 1e-5 err by 1e-10 times the third derivative, and 1e-11.
        jax.test_util.check_grads(cost, (parameters,), order=2, modes=["rev"], rtol=1e-6, eps=1e-5)


class FromTheseWeights(sklearn.neural_network.MLPClassifier):
    """scikit-learn's network, started from given weights."""

    def _initialize(self, *arguments):
        super()._initialize(*arguments)
        self.coefs_ = [np.array(layer.weights) for layer in self.start]
        self.intercepts_ = [np.array(layer.biases) for layer in self.start]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_losses_equal_scikit_learns_over_100_epochs(momentum):
    inputs, labels = DIGITS.data[:500] / 16, DIGITS.target[:500]
    theirs = FromTheseWeights(
        hidden_layer_sizes=(16,),
        solver="sgd",
        learning_rate_init=0.5,
        momentum=momentum,
        nesterovs_momentum=momentum > 0,
        alpha=0,
        batch_size=len(inputs),
        shuffle=False,
        max_iter=100,
        tol=0,
        n_iter_no_change=1000,
    )
    with jax.enable_x64(True):
        network = jaxnet.mlp([64, 16, 10])
        start = jax.tree.map(lambda a: a.astype(jnp.float64), network.init(key()))
        theirs.start = start
        theirs.fit(inputs, labels)
        optimizer = jaxnet.sgd(0.5, momentum=momentum, nesterov=momentum > 0)
        state = jaxnet.TrainState(start, optimizer.init(start), jnp.array(0))
        arguments = (network, jaxnet.softmax_cross_entropy, optimizer)
        _, history = jaxnet.train(
            *arguments,
            (jnp.asarray(inputs), jnp.asarray(labels)),
            key=key(1),
            epochs=100,
            batch_size=None,
            state=state,
        )
        costs = np.asarray(history["cost"])
    # Both in float64; in 100 steps of gradient descent at this rate, roundings grow to below 1e-9.
    np.testing.assert_allclose(costs, theirs.loss_curve_, rtol=1e-9)
    assert costs[-1] < 0.2 * costs[0]


def test_hypergradient_equals_finite_differences():
    """The derivative of the final validation cost with respect to the learning rate."""
    with jax.enable_x64(True):
        network = jaxnet.mlp([3, 5, 4], activation=jaxnet.tanh)
        start = jax.tree.map(lambda a: a.astype(jnp.float64), network.init(key()))
        data = problem(40, dtype=np.float64)

        def final_cost(rate):
            optimizer = jaxnet.adam(rate, eps_root=1e-8)
            state = jaxnet.TrainState(start, optimizer.init(start), jnp.array(0))
            _, history = jaxnet.train(
                network,
                jaxnet.softmax_cross_entropy,
                optimizer,
                data,
                key=key(1),
                epochs=3,
                batch_size=16,
                validation=data,
                state=state,
            )
            return history["validation_cost"][-1]

        cost_and_slope, rate, h = jax.jit(jax.value_and_grad(final_cost)), 0.01, 1e-5
        above, below = (cost_and_slope(r)[0] for r in (rate + h, rate - h))
        # The central difference errs by h**2 times the third derivative, and 1e-16 / h.
        difference = (above - below) / (2 * h)
        np.testing.assert_allclose(cost_and_slope(rate)[1], difference, rtol=1e-5)


def test_digits_are_learnt():
    data = jnp.asarray(DIGITS.data / 16, jnp.float32), jnp.asarray(DIGITS.target, jnp.int32)
    network = jaxnet.mlp([64, 32, 10])
    training = jax.jit(functools.partial(run, network=network, data=data, epochs=20, rate=0.003))
    assert training(key())[1]["accuracy"][-1] > 0.98


# Does every example count exactly once?

N = 10
LOOKUP = jaxnet.Network(
    init=lambda key: jnp.zeros(N), apply=lambda table, inputs, *, key=None: table[inputs[:, 0]]
)
"""A network whose parameter i is its output for example i, and for no other."""


def output_itself(outputs, targets):
    return outputs + 0 * targets


def lookup_epochs(key, epochs, batch_size, optimizer, examples=N, **options):
    """The table after some epochs on the loss `outputs`, of gradient 1 / (size of the batch)."""
    data = jnp.arange(examples)[:, None], jnp.zeros(examples), *options.pop("weights", ())
    arguments = (LOOKUP, output_itself, optimizer, data)
    return jaxnet.train(*arguments, key=key, epochs=epochs, batch_size=batch_size, **options)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 9, 10, None])
def test_every_example_counts_exactly_once_an_epoch(batch_size):
    state, _ = lookup_epochs(key(), 1, batch_size, jaxnet.gradient_descent(1.0))
    size = batch_size or N
    full, rest = N // size * size, N % size
    expected = [1 / size] * full + [1 / rest if rest else 0] * rest
    # Each parameter moves once, by the inverse of the number of real examples in its batch.
    np.testing.assert_allclose(np.sort(-state.parameters), np.sort(expected), rtol=1e-6)


def test_cost_of_an_epoch_is_the_mean_over_its_examples():
    data = problem(50)
    frozen = jaxnet.gradient_descent(0.0)
    network = jaxnet.mlp([3, 8, 4])
    state = jaxnet.initial_state(network, frozen, key=key())
    arguments = (network, jaxnet.softmax_cross_entropy, frozen, data)
    _, history = jaxnet.train(*arguments, key=key(1), epochs=1, batch_size=16, state=state)
    losses = jaxnet.softmax_cross_entropy(network.apply(state.parameters, data[0]), data[1])
    np.testing.assert_allclose(history["cost"][0], np.asarray(losses, np.float64).mean(), rtol=1e-6)


def orders(epochs, seed=0):
    """At which step of its epoch each example was seen, [epochs, N]."""
    clock = jaxnet.gradient_descent(lambda step: (step % N).astype(jnp.float32))

    def positions(table, seed):
        state = jaxnet.TrainState(jnp.zeros(N), clock.init(jnp.zeros(N)), seed * N)
        return lookup_epochs(key(1), 1, 1, clock, state=state)[0].parameters

    return -np.asarray(jax.vmap(lambda e: positions(None, e))(jnp.arange(epochs) + seed))


def test_shuffle_is_uniform():
    epochs = 5_000
    seen = orders(epochs).astype(int)
    np.testing.assert_array_equal(np.sort(seen, 1), np.tile(np.arange(N), (epochs, 1)))
    table = np.stack([np.bincount(column, minlength=N) for column in seen.T])
    # Rows and columns both sum to `epochs`, which leaves (N - 1)**2 degrees of freedom. The scale
    # (N - 1) / N makes the sum chi-squared, since the cells of one epoch exclude each other.
    statistic = (N - 1) / N * ((table - epochs / N) ** 2 / (epochs / N)).sum()
    assert 0.001 < scipy.stats.chi2.sf(statistic, (N - 1) ** 2) < 0.999
    # And no position follows from the one in the epoch before.
    correlation = np.corrcoef(seen[:-1].ravel(), seen[1:].ravel())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(epochs * N)


def test_weights_are_multiplicities():
    inputs, labels = problem(20)
    multiplicity = np.arange(20) % 3
    repeated = inputs.repeat(multiplicity, 0), labels.repeat(multiplicity, 0)
    weighted = inputs, labels, jnp.asarray(multiplicity, jnp.float32)
    results = [run(key(), data=data, batch_size=None) for data in (weighted, repeated)]
    # Sums of 20 terms in different orders, through three steps of Adam.
    chex.assert_trees_all_close(results[0][1], results[1][1], rtol=1e-4)
    chex.assert_trees_all_close(
        results[0][0].parameters, results[1][0].parameters, rtol=1e-3, atol=1e-5
    )


# Is it the same again?


@pytest.mark.parametrize("batch_size", [16, 25, None])
def test_same_key_same_bits_and_other_key_other_bits(batch_size):
    network = jaxnet.serial(
        jaxnet.dense(3, 8, jaxnet.relu), jaxnet.dropout(0.3), jaxnet.dense(8, 4)
    )
    training = jax.jit(functools.partial(run, network=network, batch_size=batch_size))
    first, again, other = training(key(0)), training(key(0)), training(key(1))
    chex.assert_trees_all_equal(first, again)
    assert (first[1]["cost"] != other[1]["cost"]).all()


def test_resumed_run_equals_the_uninterrupted_one():
    """Under both rules, one for the weights and one for the biases."""
    network = jaxnet.serial(
        jaxnet.dense(3, 8, jaxnet.relu), jaxnet.dropout(0.3), jaxnet.dense(8, 4)
    )
    schedule = optax.cosine_decay_schedule(0.1, 20)
    rules = {"weights": jaxnet.sgd(schedule, momentum=0.9), "biases": jaxnet.adam(schedule)}
    rule = optax.partition(
        rules, lambda tree: jax.tree.map_with_path(lambda path, _: path[-1].name, tree)
    )
    data = problem()

    @functools.partial(jax.jit, static_argnums=0)
    def training(epochs, key, state=None):
        arguments = (network, jaxnet.softmax_cross_entropy, rule, data)
        options = {"epochs": epochs, "batch_size": 16, "validation": data}
        return jaxnet.train(*arguments, key=key, state=state, **options)

    with jax.numpy_dtype_promotion("standard"):  # for optax's schedule
        whole_state, whole = training(5, key())
        state, first = training(2, key())
        state, second = training(3, key(), state)
    chex.assert_trees_all_equal(state, whole_state)
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    chex.assert_trees_all_equal(joined, whole)


def test_noise_differs_from_step_to_step():
    network = jaxnet.Network(
        init=lambda key: jnp.zeros(1),
        apply=lambda p, x, *, key=None: p + jax.random.normal(key, x.shape[:1]),
    )
    optimizer = jaxnet.gradient_descent(0.0)
    step = jaxnet.make_step(network, output_itself, optimizer)
    state = jaxnet.initial_state(network, optimizer, key=key())
    costs = []
    for _ in range(3):
        state, metrics = step(state, (jnp.ones((1, 1)), jnp.zeros(1)), key(1))
        costs.append(float(metrics["cost"]))
    assert len(set(costs)) == 3


# Can I run a thousand of them?


def test_vmap_over_keys_and_rates_equals_one_by_one():
    with jax.enable_x64(True):
        network = jaxnet.mlp([3, 8, 4])
        data = problem(dtype=np.float64)

        def training(key, rate):
            start = jax.tree.map(lambda a: a.astype(jnp.float64), network.init(key))
            optimizer = jaxnet.adam(rate)
            state = jaxnet.TrainState(start, optimizer.init(start), jnp.array(0))
            return run(key, network=network, rate=rate, data=data, state=state, epochs=5)[1]["cost"]

        keys, rates = jax.random.split(key(), 6), jnp.logspace(-3, -1, 6)
        with jax.debug_key_reuse(False):  # the key of a member serves its start and its run
            together = jax.jit(jax.vmap(training))(keys, rates)
            one = jax.jit(training)
            alone = jnp.stack([one(k, r) for k, r in zip(keys, rates, strict=True)])
    # Batched products sum in another order; 20 steps of Adam make less than 1e-6 of 1e-16.
    np.testing.assert_allclose(together, alone, rtol=1e-8)


def test_one_trace_per_run():
    chex.clear_trace_counter()
    training = jax.jit(chex.assert_max_traces(lambda key, rate: run(key, rate=rate)[1], n=1))
    for seed, rate in enumerate([0.1, 0.2]):
        training(key(seed), rate)


def test_steps_are_traced_once_however_many_there_are():
    traced = []

    def loss(outputs, labels):
        traced.append(outputs.shape)
        return jaxnet.softmax_cross_entropy(outputs, labels)

    def trained(epochs, batch_size):
        traced.clear()
        arguments = (jaxnet.mlp([3, 4]), loss, jaxnet.adam(0.1), problem())
        jaxnet.train(*arguments, key=key(), epochs=epochs, batch_size=batch_size)
        return len(traced)

    assert trained(2, 10) == trained(20, 2)


def test_lowers_for_cuda_without_a_gpu():
    training = jax.jit(lambda key, rate: run(key, rate=rate, validation=problem()))
    program = training.trace(key(), 0.1).lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("stablehlo.while") >= 2  # steps within epochs


# Validation.


def test_best_is_the_epoch_of_lowest_validation_cost():
    data, validation = problem(20), problem(30, classes=4)
    options = {"data": data, "validation": validation, "rate": 0.5, "epochs": 8}
    state, history = jax.jit(functools.partial(run, **options))(key())
    best = int(np.argmin(history["validation_cost"]))
    assert 0 < best < 7  # neither the first nor the last, or this proves nothing
    assert state.best.epoch == best + 1
    assert state.best.value == history["validation_cost"][best]
    until, _ = jax.jit(functools.partial(run, **options | {"epochs": best + 1}))(key())
    chex.assert_trees_all_equal(state.best.parameters, until.parameters)


def test_any_finite_cost_is_better_than_none():
    """The largest of float32 too; an infinite one or NaN never is."""
    costs = jnp.array([jnp.nan, jnp.inf, jnp.finfo(jnp.float32).max, jnp.inf])

    def loss(outputs, targets):
        return jnp.broadcast_to(
            costs[jnp.round(outputs[:, 0]).astype(jnp.int32)], outputs.shape[:1]
        )

    network = jaxnet.Network(lambda key: jnp.zeros(()), lambda p, x, *, key=None: x * 0 + p)
    counting = optax.GradientTransformation(lambda p: (), lambda g, s, p=None: (jnp.ones(()), s))
    data = jnp.ones((1, 1)), jnp.ones(1)
    options = {"key": key(), "batch_size": None, "validation": data}
    for epochs, best in ((1, 0), (2, 2), (3, 2)):
        state, history = jaxnet.train(network, loss, counting, data, epochs=epochs, **options)
        np.testing.assert_array_equal(history["validation_cost"], costs[1 : epochs + 1])
        assert state.best.epoch == best
        assert state.best.value == jnp.finfo(jnp.float32).max
        assert state.best.parameters == best


WEIGHTS = {
    "large": (1e38, np.float32),
    "small": (1e-38, np.float32),
    "subnormal": (2.0**-149, np.float32),
    "integers": (10**8, np.int32),
    "half precision": (8192, np.float16),
}


@pytest.mark.parametrize(
    ("kind", "batch_size"),
    [
        *[("large", 16), ("large", None), ("small", 25), ("subnormal", None)],
        *[("subnormal", 16), ("integers", 25), ("half precision", 16)],
    ],
)
def test_only_the_proportions_of_weights_count(kind, batch_size):
    """Weights of 1, 2 and 3 times any number give what 1, 2 and 3 give: bits, where it is a power
    of two, else the same but for the rounding of the weights."""
    size, dtype = WEIGHTS[kind]
    inputs, labels = map(jnp.asarray, problem())
    proportions = np.arange(50) % 3 + 1
    results = []
    for weights in (proportions.astype(np.float32), (proportions * size).astype(dtype)):
        data = inputs, labels, jnp.asarray(weights)
        state, history = run(key(), data=data, validation=data, batch_size=batch_size)
        held_out = jaxnet.evaluate(
            jaxnet.mlp([3, 8, 4]), state.parameters, data, {"l": LOSS}, batch_size=7
        )
        results.append((state.parameters, history, held_out))
    chex.assert_tree_all_finite(results)
    chex.assert_trees_all_close(*results, rtol=2e-5, atol=1e-6)
    if np.frexp(size)[0] == 0.5:
        chex.assert_trees_all_equal(*results)


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["plain", "jit"])
@pytest.mark.parametrize("size", [1e38, 2.0**-149])
def test_a_step_goes_by_the_proportions_of_weights(size, mode):
    inputs, labels = problem()
    network, rule = jaxnet.mlp([3, 8, 4]), jaxnet.sgd(0.1)
    step = mode(jaxnet.make_step(network, LOSS, rule))
    state = jaxnet.initial_state(network, rule, key=key())
    proportions = np.arange(50) % 3 + 1
    weights = (jnp.asarray(np.float32(proportions * factor)) for factor in (1, size))
    expected, received = (step(state, (inputs, labels, w)) for w in weights)
    chex.assert_trees_all_close(received, expected, rtol=1e-5, atol=1e-7)
    assert (received[0].parameters[0].weights != state.parameters[0].weights).any()


def test_validation_does_not_touch_the_training():
    with_it, _ = run(key(), validation=problem(30))
    without, _ = run(key())
    chex.assert_trees_all_equal(with_it.parameters, without.parameters)


# What is refused.

WRONG = {
    "epochs 0": (lambda: run(key(), epochs=0), ValueError, "epochs of at least 1. Received: 0"),
    "half an epoch": (lambda: run(key(), epochs=1.5), TypeError, "an integer for epochs"),
    "batch 0": (lambda: run(key(), batch_size=0), ValueError, "batch_size of at least 1"),
    "batch": (lambda: run(key(), batch_size=0), ValueError, "at least 1. Received: 0"),
    "raw key": (lambda: run(jnp.zeros(2, jnp.uint32)), TypeError, "jax.random.key(seed)"),
    "keys": (lambda: run(jax.random.split(key(), 2)), TypeError, "one key"),
    "only inputs": (lambda: run(key(), data=problem()[0]), TypeError, "data as a tuple"),
    "no examples": (
        lambda: run(key(), data=(jnp.ones((0, 3)), jnp.ones(0, jnp.int32))),
        ValueError,
        "at least one example. Received: [0, 3]",
    ),
    "rank": (lambda: run(key(), data=(jnp.ones(5), jnp.ones(5))), ValueError, "[5]"),
    "lengths": (
        lambda: run(key(), data=(jnp.ones((5, 3)), jnp.ones(4, jnp.int32))),
        ValueError,
        "targets of data for 5 examples, as many as there are inputs. Received: [4]",
    ),
    "weights": (
        lambda: run(key(), data=(*problem(50), jnp.ones(49))),
        ValueError,
        "weights of data of shape [50]. Received: [49]",
    ),
    "validation": (
        lambda: run(key(), validation=(jnp.ones((5, 3)), jnp.ones(4, jnp.int32))),
        ValueError,
        "targets of validation",
    ),
    "features": (
        lambda: run(key(), network=jaxnet.mlp([2, 4])),
        ValueError,
        "dense(2, 4, identity): expected inputs with 2 features",
    ),
    "labels": (
        lambda: run(key(), network=jaxnet.mlp([3, 2])),
        ValueError,
        "train: data: softmax_cross_entropy: expected labels from 0 to 1",
    ),
    "loss": (
        lambda: jaxnet.train(
            jaxnet.mlp([3, 4]),
            lambda outputs, targets: jnp.mean(outputs),
            jaxnet.adam(0.1),
            problem(),
            key=key(),
            epochs=1,
            batch_size=10,
        ),
        ValueError,
        "cost: expected one value per example, [50]. Received: []",
    ),
    "metric called cost": (
        lambda: run(key(), metrics={"cost": jaxnet.accuracy}),
        ValueError,
        "Received: 'cost'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_before_compiling(name, monkeypatch):
    make, error, words = WRONG[name]
    monkeypatch.setattr(jax.lax, "scan", lambda *_, **__: pytest.fail("went on to train"))
    with helpers.refused(error, words):
        make()
