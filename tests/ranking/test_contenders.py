"""Spaces, schedules and the standard contenders."""

import math

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jaxnet.ranking import (
    Choice,
    LogUniform,
    Uniform,
    constant,
    cosine,
    standard_contenders,
    trapezoid,
    warm_restarts,
)
from jaxnet.ranking.contenders import check_contender, draw_trials
from jaxnet.ranking.spaces import fold_name

KEY = jax.random.key(3)
PARAMETERS = {"weights": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "biases": jnp.ones(3)}
CONTENDERS = {contender.name: contender for contender in standard_contenders()}


def test_values_have_the_distribution_of_the_space():
    """By Kolmogorov and Smirnov, which would reject the right one once in 10,000 keys."""
    uniform = Uniform(-2.0, 3.0).sample(KEY, 5000)
    assert stats.kstest(uniform, stats.uniform(-2, 5).cdf).pvalue > 1e-4
    rates = LogUniform(1e-4, 10.0).sample(jax.random.key(4), 5000)
    assert stats.kstest(rates, stats.loguniform(1e-4, 10.0).cdf).pvalue > 1e-4
    _, counts = np.unique(Choice((0.0, 0.5, 0.9)).sample(jax.random.key(5), 5000), return_counts=1)
    assert stats.chisquare(counts).pvalue > 1e-4
    assert uniform.dtype == rates.dtype == np.float32


def test_the_values_of_a_contender_depend_on_its_name_and_the_key_alone():
    adam, nadam = CONTENDERS["Adam"], CONTENDERS["NAdam"]
    first = draw_trials(adam, KEY, 8)
    with jax.debug_key_reuse(False):
        again = draw_trials(adam._replace(schedule=cosine), KEY, 8)
        other = draw_trials(nadam, KEY, 8)
    np.testing.assert_equal(first, again)
    assert first.keys() == other.keys()
    assert not any((first[name] == other[name]).any() for name in first)
    assert len({tuple(value) for value in first.values()}) == len(first)  # nor are two equal


def test_a_name_folds_like_its_checksum():
    expected = jax.random.fold_in(jax.random.key(0), 0x414FA339)  # CRC-32 of this sentence
    folded = fold_name(jax.random.key(0), "The quick brown fox jumps over the lazy dog")
    assert (jax.random.key_data(folded) == jax.random.key_data(expected)).all()


def test_schedules():
    fractions, steps = np.arange(70) / 70, jnp.arange(70.0)
    assert (constant(fractions) == 1).all()
    expected = optax.cosine_decay_schedule(1.0, 70)(steps)
    np.testing.assert_allclose(cosine(fractions), expected, atol=1e-6)
    parts = [optax.cosine_decay_schedule(1.0, length) for length in (10, 20, 40)]
    expected = optax.join_schedules(parts, [10, 30])(steps)
    np.testing.assert_allclose(warm_restarts(fractions), expected, atol=1e-6)
    corners = trapezoid(np.array([0, 0.1, 0.9, 0.95]))
    np.testing.assert_allclose(corners, [0, 1, 1, 0.5], atol=1e-12)


def test_there_are_all_of_jaxnet_and_fifteen_of_optax():
    assert len(CONTENDERS) == 19
    assert {"gradient descent", "SGD", "Adam", "AdamW"} < CONTENDERS.keys()
    cosines = [contender.name for contender in standard_contenders(cosine)]
    assert cosines == [f"{name}, cosine" for name in CONTENDERS]


@pytest.mark.parametrize("name", CONTENDERS)
def test_a_standard_contender_descends_with_traced_values_from_its_space(name):
    """In the trace of a program, as in a sweep; which the interpreter runs without compiling."""
    contender = CONTENDERS[name]
    check_contender(contender)
    values = {n: float(v[0]) for n, v in draw_trials(contender, jax.random.key(0), 1).items()}
    assert "learning_rate" in values

    def step(values, gradients):
        optimizer = contender.make(**values)
        updates, _ = optimizer.update(gradients, optimizer.init(PARAMETERS), PARAMETERS)
        return updates

    with jax.numpy_dtype_promotion("standard"):  # optax needs it
        types = jax.eval_shape(step, values, PARAMETERS)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), types) == jax.tree.map(
        lambda a: (a.shape, a.dtype), PARAMETERS
    )


def test_a_name_that_starts_with_one_minus_is_the_complement():
    received = []

    def make(**values):
        received.append(values)
        return optax.identity()

    standard = CONTENDERS["Adam"].make.func
    standard(make, learning_rate=0.1, one_minus_b1=0.25, eps=0.5)
    assert received == [{"learning_rate": 0.1, "b1": 0.75, "eps": 0.5}]


WRONG = {
    "no contender": (
        lambda c: None,
        "expected each contender of type Contender. Received: NoneType None",
    ),
    "no name": (
        lambda c: c._replace(name=""),
        "expected a contender with a name. Received: str ''",
    ),
    "an optimizer": (
        lambda c: c._replace(make=optax.adam(0.1)),
        "contender 'Adam': expected a function for make. Received: GradientTransformation",
    ),
    "other names": (
        lambda c: c._replace(make=lambda rate: optax.adam(rate)),
        "contender 'Adam': expected a function make of learning_rate, one_minus_b1, ",
    ),
    "no optimizer": (
        lambda c: c._replace(make=lambda **values: 3),
        "contender 'Adam': expected the result of make as a pair of pure functions",
    ),
    "values that it refuses": (
        lambda c: c._replace(make=optax.sgd, space={"momentum": 3}),
        "contender 'Adam': expected a Uniform, LogUniform or Choice for 'momentum'. Received: int",
    ),
    "no space": (
        lambda c: c._replace(space={}),
        "contender 'Adam': expected a space of at least one hyperparameter, none of which is ",
    ),
    "a key": (
        lambda c: c._replace(space={"key": Uniform(0, 1)}),
        "contender 'Adam': expected a space of at least one hyperparameter, none of which is ",
    ),
    "turned": (
        lambda c: c._replace(space={"learning_rate": Uniform(2, 1)}),
        "expected a finite upper limit for 'learning_rate' of at least 2. Received: 1",
    ),
    "negative": (
        lambda c: c._replace(space={"learning_rate": LogUniform(0.0, 1.0)}),
        "expected a finite lower limit for 'learning_rate' of at least 1.17549e-38. Received: 0.0",
    ),
    "infinite": (
        lambda c: c._replace(space={"learning_rate": Uniform(0.0, math.inf)}),
        "expected a finite upper limit for 'learning_rate' of at least 0. Received: inf",
    ),
    "nothing to choose": (
        lambda c: c._replace(space={"learning_rate": Choice(())}),
        "expected a Choice of at least one number for 'learning_rate'. Received: tuple ()",
    ),
    "a word to choose": (
        lambda c: c._replace(space={"learning_rate": Choice(("low", "high"))}),
        "expected a number for value in the Choice for 'learning_rate'. Received: str 'low'",
    ),
    "a number for a schedule": (
        lambda c: c._replace(schedule=0.5),
        "contender 'Adam': expected a function for schedule. Received: float 0.5",
    ),
    "one factor": (
        lambda c: c._replace(schedule=np.mean),
        "contender 'Adam': expected a schedule that returns a finite number for each step, [2]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_contender_is_refused(name):
    change, said = WRONG[name]
    with helpers.refused((TypeError, ValueError), said):
        check_contender(change(CONTENDERS["Adam"]))


def test_a_schedule_must_be_a_function():
    with helpers.refused(TypeError, "standard_contenders: expected a function for schedule."):
        standard_contenders("cosine")
