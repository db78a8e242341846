"""Comparing optimizers: correct ones are never called different, and incorrect ones always are."""

import re
import zlib

import check_gallery
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimizer_variants
import pytest

import jaxnet
from jaxnet.testing import comparison, problems
from jaxnet.testing.ulps import ulp_distance

STEPS = 200
WRONG = optimizer_variants.WRONG | {
    row.seen: (row.candidate, row.reference, row.hint, "every update is 0.1 times")
    for row in check_gallery.GALLERY
}
CAUSES = re.compile(  # what a hint says about causes, all else is a fact about the updates
    "reference|wrong sign|a factor in|decay|corrected|\\beps|clip|divided|before the step|Nesterov"
    "|starts|never|rounded|root|division"
)


@pytest.fixture(autouse=True)
def default_settings():
    """Hand-written optimizers add Python numbers to counters, as optax does; no keys are used."""
    with jax.numpy_dtype_promotion("standard"), jax.debug_key_reuse(False):
        yield


@pytest.fixture
def lockstep_only(monkeypatch):
    """Skips the free-running trajectories, on which no verdict depends, to save time."""
    monkeypatch.setattr(comparison, "measure_divergence", lambda *_: (np.zeros(1), np.zeros(1)))


def compare(name, candidate, reference):
    """Compares on one of three sets of problems."""
    seed = zlib.crc32(name.encode()) % 3
    return jaxnet.compare_optimizers(
        candidate, reference, problems=problems.standard_problems(seed), steps=STEPS
    )


@pytest.mark.parametrize("name", helpers.mostly_slow(optimizer_variants.CORRECT))
def test_no_false_positives(name, lockstep_only):
    result = compare(name, *optimizer_variants.CORRECT[name])
    assert result.verdict in ("identical", "rounding"), result
    assert (result.first is None) == (result.verdict == "identical")
    assert not result.hints


@pytest.mark.parametrize("name", helpers.mostly_slow(optimizer_variants.ROUNDED))
def test_hyperparameters_in_float32_are_rounding(name, lockstep_only):
    result = compare(name, *optimizer_variants.ROUNDED[name])
    assert result.verdict == "rounding", result
    assert "the distances are those of hyperparameters in float32" in result.hints[0]


@pytest.mark.parametrize("name", helpers.mostly_slow(WRONG))
def test_no_false_negatives_and_no_wrong_hints(name, lockstep_only):
    candidate, reference, cause, *others = WRONG[name]
    result = compare(name, candidate, reference)
    assert result.verdict == "different", result
    if cause is not None:
        assert any(cause in hint for hint in result.hints), result
    known = [text for text in (cause, *others) if text is not None]
    for hint in result.hints:
        assert not CAUSES.search(hint) or any(text in hint for text in known), hint


def test_there_are_enough_variants_and_most_causes_are_named():
    assert len(optimizer_variants.CORRECT | optimizer_variants.ROUNDED | WRONG) > 90
    named = [cause for _, _, cause, *_ in WRONG.values() if cause is not None]
    assert len(named) >= 0.8 * len(WRONG)


BOWL = problems.Problem("bowl", np.array([3.0, 4.0]), lambda parameters, step: parameters)


def test_free_running_trajectories_follow_the_closed_form():
    """Gradient descent with learning rate r on p**2 / 2 gives p * (1 - r)**t."""
    result = jaxnet.compare_optimizers(optax.sgd(0.2), optax.sgd(0.1), problems=[BOWL], steps=20)
    steps = np.arange(1, 21)
    expected = 5 * (0.9**steps - 0.8**steps)
    np.testing.assert_allclose(result.problems[0].distance, expected, rtol=1e-5)
    unit = np.spacing(np.float32(3)) * np.sqrt(1 + 2**2)  # the ULP of 4 is twice that of 3
    floor = result.problems[0].chaos_floor
    np.testing.assert_allclose(floor[0], 0.9 * unit, atol=unit)
    assert (floor <= 3 * unit).all()


def test_chaos_floor_separates_correct_from_incorrect_optimizers():
    valley = [p for p in problems.standard_problems() if p.name == "rosenbrock"]
    correct, _ = optimizer_variants.CORRECT["PyTorch's order"]
    incorrect, *_ = optimizer_variants.WRONG["betas swapped"]
    for candidate, above in ((correct, False), (incorrect, True)):
        result = jaxnet.compare_optimizers(
            candidate, optimizer_variants.ADAM, problems=valley, steps=500
        )
        distance, floor = result.problems[0].distance.max(), result.problems[0].chaos_floor.max()
        assert (distance > 10 * floor) == above
    assert floor > 1e-4  # from one ULP, 1e-7


def test_first_difference_is_located():
    """One element of one leaf differs, in one step."""
    parameters = {"a": np.ones((2, 3)), "b": [np.ones(4), np.ones(())]}
    problem = problems.Problem("ones", parameters, lambda parameters, step: parameters)

    def rule(t, g, p):
        update = -0.1 * g
        if g.shape == (2, 3):
            update = update.at[1, 2].multiply(jnp.where(t == 7, 1.001, 1.0))
        return (update,)

    result = jaxnet.compare_optimizers(
        optimizer_variants.per_leaf(0, rule), optax.sgd(0.1), problems=[problem], steps=20
    )
    first = result.first
    assert (first.problem, first.dtype, first.step, first.leaf) == ("ones", "float64", 7, "a[1, 2]")
    np.testing.assert_allclose(first.reference, -0.1 * 0.9**6, rtol=1e-12)
    np.testing.assert_allclose(first.candidate, 1.001 * first.reference, rtol=1e-12)
    np.testing.assert_allclose(first.units, 0.001 * 0.0531441 / 2**-57, rtol=1e-3)
    assert "step 7, a[1, 2]: -0.0531972441 instead of -0.0531441" in str(result)
    assert "hint:  some leaves agree: b/0, b/1 (on ones)" in str(result)
    assert "hint:  the first 6 steps agree" in str(result)


def test_an_overflow_in_float32_alone_is_a_difference():
    def rule(t, g, p):
        large = jnp.where(t == 3, 1e30, 1.0).astype(g.dtype)
        return (-0.1 * g * (large * large) / (large * large),)

    result = jaxnet.compare_optimizers(
        optimizer_variants.per_leaf(0, rule), optax.sgd(0.1), problems=[BOWL], steps=9
    )
    assert result.verdict == "different"
    assert (result.first.dtype, result.first.step) == ("float32", 3)
    assert result.problems[0].units["float32"] == np.inf
    assert result.problems[0].units["float64"] < 10


def test_comparison_ends_where_the_reference_is_non_finite():
    """A learning rate of 1e3 multiplies by -999 per step, which overflows float32 after 12."""
    result = jaxnet.compare_optimizers(
        jaxnet.gradient_descent(1e3), optax.sgd(1e3), problems=[BOWL], steps=50
    )
    assert result.verdict == "identical"
    assert 11 <= result.problems[0].steps <= 13

    with helpers.refused(ValueError, "finite at its first step", "problem 'bowl' in float32"):
        never = optimizer_variants.descent(lambda t, g, p: g * jnp.nan)
        jaxnet.compare_optimizers(jaxnet.gradient_descent(0.1), never, problems=[BOWL], steps=5)


SCHEDULE = optax.cosine_decay_schedule(0.1, 50)


@pytest.mark.parametrize(
    "pair",
    [
        (jaxnet.adamw(SCHEDULE, weight_decay=0.1), optax.adamw(SCHEDULE, weight_decay=0.1)),
        (
            optax.inject_hyperparams(jaxnet.adam)(learning_rate=SCHEDULE),
            optax.inject_hyperparams(optax.adam)(learning_rate=SCHEDULE),
        ),
        (
            optax.MultiSteps(jaxnet.adam(0.1), 3).gradient_transformation(),
            optax.MultiSteps(optax.adam(0.1), 3).gradient_transformation(),
        ),
        (tuple(jaxnet.adam(0.1)), tuple(optax.adam(0.1))),
    ],
    ids=["schedule", "injected", "accumulated", "bare pairs"],
)
def test_equal_rules_are_identical(pair):
    result = jaxnet.compare_optimizers(*pair, steps=60)
    assert result.verdict == "identical", result
    assert {p.verdict for p in result.problems} == {"identical"}
    assert all((p.distance == 0).all() for p in result.problems)


def test_the_table_is_readable():
    result = jaxnet.compare_optimizers(
        jaxnet.adam(0.01, b1=0.8), optax.adam(0.01), problems=[BOWL], steps=5
    )
    lines = str(result).splitlines()
    assert lines[0] == "different: the update rules differ"
    assert lines[3].split()[:3] == ["problem", "verdict", "steps"]
    assert lines[4].split()[:3] == ["bowl", "different", "5"]
    assert lines[6].startswith("first: on 'bowl' in float64, step 2, ")
    assert lines[7].startswith("state: '0/mu' differs first, at step 1")
    assert max(map(len, lines)) <= 160


def test_ulp_distance():
    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        a = (random.standard_normal(500) * 10.0 ** random.uniform(-20, 20, 500)).astype(dtype)
        b = a.copy()
        for _ in range(3):
            b = np.nextafter(b, dtype(np.inf))
        apart = ulp_distance(a, b, dtype.__name__)
        assert ((apart == 3) | (apart == 1.5) | (apart == 2) | (apart == 2.5)).all()  # powers of 2
        assert (apart == 3).mean() > 0.9
    np.testing.assert_array_equal(
        ulp_distance(np.array([np.inf, np.inf, 1.0]), np.array([np.inf, 1.0, np.nan]), "float32"),
        [0, np.inf, np.inf],
    )


class Torch:
    """An object with the methods of a PyTorch optimizer."""

    def step(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"candidate": Torch()}, TypeError, ["the candidate", "a stateful optimizer"]),
        ({"candidate": optax.adam}, TypeError, ["a factory: call it with a learning rate first"]),
        ({"reference": None}, TypeError, ["the reference", "NoneType"]),
        ({"candidate": tuple(optax.adam(0.1)) * 2}, TypeError, ["(init, update)"]),
        ({"steps": 0}, ValueError, ["steps of at least 1", "Received: 0"]),
        ({"steps": 1.0}, TypeError, ["an integer for steps"]),
        ({"problems": []}, ValueError, ["at least one problem"]),
        ({"problems": [lambda p: p]}, TypeError, ["of type Problem", "function"]),
        ({"problems": [BOWL._replace(parameters={})]}, ValueError, ["'bowl'", "an empty tree"]),
        ({"problems": [BOWL._replace(parameters=[np.ones(2, int)])]}, TypeError, ["at '0'", "int"]),
        (
            {"problems": [BOWL._replace(gradients=lambda p, step: p[:1])]},
            ValueError,
            ["'bowl'", "expected gradients that match the parameters", "float32[1]"],
        ),
        ({"candidate": optax.lbfgs(0.1)}, ValueError, ["can be traced", "value_fn"]),
        (
            {"candidate": (lambda p: 0, lambda g, s, p: (g[:1], s))},
            ValueError,
            ["updates of the candidate", "Received: (1,)"],
        ),
        (
            {"candidate": (lambda p: p, lambda g, s, p: (g, s.astype(jnp.bfloat16)))},
            ValueError,
            ["states of the candidate", "bfloat16[2] instead of float32[2]"],
        ),
        ({"candidate": (lambda p: 0, lambda g, s: (g, s))}, ValueError, ["can be traced"]),
    ],
)
def test_invalid_arguments_raise(arguments, error, words):
    call = {"candidate": jaxnet.adam(0.1), "reference": optax.adam(0.1), "problems": [BOWL]}
    call.update(arguments)
    with helpers.refused(error, "compare_optimizers", *words):
        jaxnet.compare_optimizers(call.pop("candidate"), call.pop("reference"), **call)
