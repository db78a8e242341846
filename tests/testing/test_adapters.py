"""Adapters: optimizers in other forms apply the rules that optax applies, and mistakes show."""

import functools
import pickle

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimizer_variants
import pytest
from jax.example_libraries import optimizers as classic

import jaxnet
from jaxnet.testing import adapters, comparison, problems

RATE, B1, B2, EPS, DECAY = 0.01, 0.9, 0.999, 1e-8, 0.1
STEPS = 60


@pytest.fixture(autouse=True)
def standard_promotion():
    """Hand-written optimizers add Python numbers to counters, as optax does."""
    with jax.numpy_dtype_promotion("standard"), jax.debug_key_reuse(False):
        yield


WAVES = problems.Problem(
    "waves",
    {"matrix": np.linspace(-1, 1, 6).reshape(2, 3), "scale": np.array(0.5)},
    lambda parameters, step: jax.tree.map(lambda p: p / 9 + jnp.cos(step + 4 * p), parameters),
)


def compare(candidate, reference, monkeypatch, steps=STEPS, problem=WAVES):
    """Compares without the free-running trajectories, on which no verdict depends."""
    nothing = np.zeros(1), np.zeros(1)
    monkeypatch.setattr(comparison, "measure_divergence", lambda *_: nothing)
    return jaxnet.compare_optimizers(candidate, reference, steps=steps, problems=[problem])


# Functions that return new parameters.


def adam_step(params, grads, state, b2=B2):
    """Adam as it is often written, with the step count in the state."""
    t, m, v = state
    t = t + 1
    m = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, m, grads)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, v, grads)

    def change(p, m, v):
        return p - RATE * (m / (1 - B1**t)) / (jnp.sqrt(v / (1 - b2**t)) + EPS)

    return jax.tree.map(change, params, m, v), (t, m, v)


def adam_state(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return jnp.zeros((), jnp.int32), zeros, zeros


def descend(gradients, parameters):
    return jax.tree.map(lambda p, g: p - RATE * (g + DECAY * p), parameters, gradients)


def test_a_function_that_returns_new_parameters(monkeypatch):
    pairs = [
        (adapters.from_step(adam_step, adam_state), optax.adam(RATE)),
        (
            adapters.from_step(
                lambda g, s, p: adam_step(p, g, s),
                adam_state,
                order=("gradients", "state", "parameters"),
            ),
            optax.adam(RATE),
        ),
        (
            adapters.from_step(descend, order=("gradients", "parameters")),
            optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE)),
        ),
    ]
    for candidate, reference in pairs:
        result = compare(candidate, reference, monkeypatch)
        assert result.verdict == "rounding", result

    wrong = adapters.from_step(functools.partial(adam_step, b2=0.99), adam_state)
    result = compare(wrong, optax.adam(RATE), monkeypatch)
    assert result.verdict == "different"
    assert "nu" in result.state

    swapped = adapters.from_step(descend, order=("parameters", "gradients"))
    assert compare(swapped, optax.sgd(RATE), monkeypatch).verdict == "different"


# The form of JAX's example library.


def decaying_triple():
    """Descent with weight decay and averaged gradients, in which the parameters come last."""

    def update(step, gradients, state):
        average = jax.tree.map(lambda a, g: a + (g - a) / (step + 1), state["average"], gradients)
        return {"average": average, "x": descend(average, state["x"])}

    return (
        lambda p: {"average": jax.tree.map(jnp.zeros_like, p), "x": p},
        update,
        lambda state: state["x"],
    )


def averaged_descent():
    def rule(t, g, p, average):
        average = average + (g - average) / t
        return -RATE * (average + DECAY * p), average

    return optimizer_variants.per_leaf(1, rule)


@pytest.mark.parametrize(
    ("triple", "reference"),
    [
        (classic.adam(RATE), optax.adam(RATE)),
        (classic.nesterov(RATE, 0.9), optax.sgd(RATE, momentum=0.9, nesterov=True)),
        (
            classic.sgd(classic.exponential_decay(RATE, 10, 0.9)),
            optax.sgd(optax.exponential_decay(RATE, 10, 0.9)),
        ),
        (decaying_triple(), averaged_descent()),
    ],
    ids=["adam", "nesterov", "schedule", "hand-written"],
)
def test_a_triple(triple, reference, monkeypatch):
    candidate = adapters.from_triple(triple)
    result = compare(candidate, reference, monkeypatch)
    assert result.verdict == "rounding", result


def test_a_triple_uses_the_parameters_that_it_is_given():
    """Its own copy would still be 1, where the decay would be 0.1."""
    candidate = adapters.from_triple(decaying_triple())
    state = candidate.init(jnp.ones(2))
    assert [leaf.shape for leaf in jax.tree.leaves(state)] == [(), (2,)]
    updates, _ = candidate.update(jnp.zeros(2), state, jnp.full(2, 8.0))
    np.testing.assert_allclose(updates, -RATE * DECAY * 8, rtol=1e-4)


def test_adapted_optimizers_conform_to_the_protocol():
    report = jaxnet.check_optimizer(
        lambda rate: adapters.from_triple(classic.momentum(rate, 0.9)), per_element=True
    )
    report.raise_if_failed()


def test_adapted_optimizers_can_be_pickled():
    recorded, _ = adapters.replay([np.ones(2)], [np.ones(2), np.zeros(2)])
    for optimizer in (adapters.from_step(adam_step, adam_state), recorded):
        copied = pickle.loads(pickle.dumps(optimizer))
        state = optimizer.init(jnp.ones(2))
        expected = optimizer.update(jnp.ones(2), state, jnp.ones(2))
        received = copied.update(jnp.ones(2), state, jnp.ones(2))
        jax.tree.map(np.testing.assert_array_equal, received, expected)


# Recordings.


def record(rate=RATE, steps=80, dtype=np.float64):
    """AdamW on random gradients, in NumPy."""
    random = np.random.default_rng(0)
    w, m, v = random.normal(size=(3, 2)).astype(dtype), 0.0, 0.0
    gradients, parameters = [], [{"w": w}]
    for t in range(1, steps + 1):
        g = random.normal(size=w.shape).astype(dtype)
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
        w = w - rate * (m / (1 - B1**t) / (np.sqrt(v / (1 - B2**t)) + EPS) + DECAY * w)
        gradients.append({"w": g})
        parameters.append({"w": w})
    return gradients, parameters


def test_a_recording(monkeypatch):
    optimizer, problem = adapters.replay(*record())
    reference = optax.adamw(RATE, weight_decay=DECAY)
    result = compare(optimizer, reference, monkeypatch, steps=200, problem=problem)
    assert result.verdict == "rounding", result
    assert result.problems[0].steps == 80

    tiny, problem = adapters.replay(*record(1e-9))  # less than the float32 spacing of parameters
    reference = optax.adamw(1e-9, weight_decay=DECAY)
    result = compare(tiny, reference, monkeypatch, problem=problem)
    assert result.verdict == "rounding"
    assert max(result.problems[0].units.values()) <= 2


def test_a_recording_of_another_rule(monkeypatch):
    reference = optax.adamw(RATE, weight_decay=DECAY)
    doubled, problem = adapters.replay(*record(2 * RATE))
    result = compare(doubled, reference, monkeypatch, steps=200, problem=problem)
    assert result.verdict == "different"
    assert (result.first.dtype, result.first.step) == ("float64", 1)

    optimizer, problem = adapters.replay(*record())
    result = compare(optimizer, optax.adam(RATE), monkeypatch, steps=200, problem=problem)
    assert result.verdict == "different"
    assert (result.first.dtype, result.first.step) == ("float64", 1)


def test_a_recording_in_float32(monkeypatch):
    """It is as exact as the parameters. A decay of 3e-4 moves them by up to 60 units."""
    optimizer, problem = adapters.replay(*record(dtype=np.float32))
    same, other, third = (
        compare(optimizer, reference, monkeypatch, steps=200, problem=problem)
        for reference in (
            optax.adamw(RATE, weight_decay=DECAY),
            optax.adamw(RATE, weight_decay=DECAY + 3e-4),
            optax.adam(RATE),
        )
    )
    assert same.verdict == "rounding", same
    assert other.verdict == third.verdict == "different"
    assert other.first.dtype == "float32"
    assert other.problems[0].units["float32"] < 64
    assert np.isnan(other.problems[0].units["float64"])


def test_a_recording_of_stacked_arrays_in_float32():
    """The updates of descent by 0.5 are exact in float32."""
    gradients = np.full((4, 3), 0.25, np.float32)
    parameters = 1 - 0.125 * np.arange(5, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    optimizer, problem = adapters.replay(gradients, parameters)
    result = jaxnet.compare_optimizers(optimizer, optax.sgd(0.5), problems=[problem])
    assert result.verdict == "identical"
    assert result.problems[0].steps == 4


# Errors of a candidate name the line.


def raising(gradients, state, parameters):
    return jax.tree.map(lambda g: jnp.dot(g, jnp.ones(99)), gradients), state


def line_of(function):
    return f"{__file__}:{function.__code__.co_firstlineno + 1}"


def branching(parameters, gradients):
    if gradients["scale"] > 0:
        return parameters
    return gradients


def refusing(rate):
    raise ValueError(f"not {rate}")


def test_errors_name_the_file_and_the_line(monkeypatch):
    for candidate, culprit in (
        ((lambda p: 0, raising), raising),
        (adapters.from_step(branching), branching),
    ):
        with helpers.refused(ValueError, "can be traced", f"({line_of(culprit)})") as caught:
            jaxnet.compare_optimizers(candidate, optax.sgd(0.1))
        assert len(str(caught.value).splitlines()) <= 3
        report = jaxnet.check_optimizer(candidate)
        assert report.checks[-1].seen.endswith(f"({line_of(culprit)})")
    with helpers.refused(TypeError, f"ValueError: not 0.01 ({line_of(refusing)})"):
        jaxnet.check_optimizer(refusing)
    with helpers.refused(ValueError, "takes 2 positional arguments but 3 were given"):
        jaxnet.compare_optimizers((lambda p: 0, lambda g, s: (g, s)), optax.sgd(0.1))


# Keras and PyTorch.


def test_optimizers_of_keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    make = functools.partial(keras.optimizers.SGD, RATE, momentum=0.9, nesterov=True)
    reference = optax.sgd(RATE, momentum=0.9, nesterov=True)
    result = compare(adapters.from_keras(make), reference, monkeypatch)
    assert result.verdict == "rounding", result
    assert keras.config.floatx() == "float32"

    def eps_before_the_correction(m, v, t, g, p):
        return -RATE * m / (1 - B1**t) * jnp.sqrt(1 - B2**t) / (jnp.sqrt(v) + 1e-7)

    adam = adapters.from_keras(lambda: keras.optimizers.Adam(RATE))
    reference = optimizer_variants.adam(finish=eps_before_the_correction)
    assert compare(adam, reference, monkeypatch).verdict == "rounding"
    assert compare(adam, optax.adam(RATE), monkeypatch).verdict == "different"


class HandWritten:
    """Momentum that keeps its velocities in a list, and counts steps in a Python number."""

    def __init__(self, tensors):
        self.tensors, self.t = tensors, 0
        self.velocities = [0 * tensor.detach() for tensor in tensors]

    def step(self):
        self.t += 1
        for i, tensor in enumerate(self.tensors):
            self.velocities[i] = 0.9 * self.velocities[i] + tensor.grad
            tensor.data -= RATE / self.t * self.velocities[i]


class Hiding(HandWritten):
    """The number of steps is in an object."""

    def __init__(self, tensors):
        super().__init__(tensors)
        self.counter = iter(range(99))

    def step(self):
        self.t = next(self.counter)
        super().step()


def hand_written_momentum():
    def rule(t, g, p, velocity):
        velocity = 0.9 * velocity + g
        return -RATE / t * velocity, velocity

    return optimizer_variants.per_leaf(1, rule)


def test_optimizers_of_pytorch(monkeypatch):
    torch = pytest.importorskip("torch")
    pairs = [
        (lambda tensors: torch.optim.Adam(tensors, lr=RATE), optax.adam(RATE)),
        (
            lambda tensors: torch.optim.AdamW(tensors, lr=RATE, weight_decay=DECAY),
            optax.adamw(RATE, weight_decay=DECAY),
        ),
        (
            lambda tensors: torch.optim.SGD(tensors, lr=RATE, momentum=0.9, nesterov=True),
            optax.sgd(RATE, momentum=0.9, nesterov=True),
        ),
        (HandWritten, hand_written_momentum()),
    ]
    for make, reference in pairs:
        result = compare(adapters.from_torch(make), reference, monkeypatch, steps=20)
        assert result.verdict == "rounding", result

    damped = adapters.from_torch(
        lambda tensors: torch.optim.SGD(tensors, lr=RATE, momentum=0.9, dampening=0.9)
    )
    result = compare(damped, optax.sgd(RATE, momentum=0.9), monkeypatch, steps=20)
    assert result.verdict == "different"


def test_a_program_that_calls_pytorch_in_another_thread_keeps_float64():
    """With two devices at the same time, and enough numbers that JAX starts a thread."""
    torch = pytest.importorskip("torch")
    enabled = set()

    def make(tensors):
        enabled.add(jax.config.jax_enable_x64)
        return torch.optim.Adam(tensors, lr=RATE)

    optimizer, reference = adapters.from_torch(make), optax.adam(RATE)

    @functools.partial(jax.jit, static_argnums=0)
    def run(update, start, state):
        def step(carry, _):
            parameters, state = carry
            updates, state = update(jnp.sin(parameters), state, parameters)
            return (parameters + updates, state), None

        return jax.lax.scan(step, (start, state), length=10)[0][0]

    with jax.enable_x64(True):
        starts = [jax.device_put(jnp.linspace(1, 2, 10**5), d) for d in jax.devices()[:2]]
        received = [run(optimizer.update, p, optimizer.init(p)) for p in starts]
        expected = [run(reference.update, p, reference.init(p)) for p in starts]
        for ours, theirs in zip(received, expected, strict=True):
            assert ours.dtype == np.float64
            np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    assert False in enabled  # in another thread, where the context does not hold


def test_optimizers_of_pytorch_that_are_no_pure_function_are_refused():
    torch = pytest.importorskip("torch")
    parameters = jnp.ones(3)
    for make, error, words in (
        (Hiding, ValueError, "Received: Hiding, which continues differently"),
        (lambda tensors: tensors, TypeError, "from_torch: expected make as a function from a list"),
        (lambda tensors: torch.optim.LBFGS(tensors), TypeError, "closure"),
    ):
        with pytest.raises(error, match=words):
            adapters.from_torch(make).init(parameters)
