"""Hints: each pattern in the updates gives its hint, and no other pattern does."""

import numpy as np
import pytest

from jaxnet.testing.hints import Table, find_hints

STEPS, ELEMENTS = 30, 12
RANDOM = np.random.default_rng(0)
REFERENCE = RANDOM.standard_normal((STEPS, ELEMENTS))
GRADIENTS = RANDOM.standard_normal((STEPS, ELEMENTS)) * np.logspace(-9, 9, ELEMENTS)
GRADIENTS[4:8, 3] = 0
PARAMETERS = RANDOM.standard_normal((STEPS, ELEMENTS))
LEAVES = {"w": slice(0, 8), "b": slice(8, 12)}
T = np.arange(STEPS)[:, None]
NO_MOMENTS = ({}, {})


def hints_for(candidate, moments=NO_MOMENTS):
    with np.errstate(invalid="ignore"):
        apart = np.abs(candidate - REFERENCE) / np.spacing(np.abs(REFERENCE))
    units = np.where(np.isfinite(apart), apart, np.inf)
    table = Table(candidate, REFERENCE, GRADIENTS, PARAMETERS, units, 100.0, LEAVES, moments)
    return find_hints({"here": table})


def scale_reference(where, factor=1.5):
    candidate = REFERENCE.copy()
    candidate[where] *= factor
    return candidate


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (-REFERENCE, "every update is -1 times the reference: wrong sign"),
        (0.1 * REFERENCE, "every update is 0.1 times the reference: a factor"),
        (REFERENCE * (2 - T / STEPS), "a schedule, a bias correction or clipping"),
        (np.roll(REFERENCE, 1, axis=0), "that of the reference one step earlier"),
        (np.roll(REFERENCE, -1, axis=0), "that of the reference one step later"),
        (scale_reference(np.s_[1:]), "the first step agrees"),
        (scale_reference(np.s_[5:]), "the first 5 steps agree"),
        (scale_reference(np.s_[:1]), "only step 1 differs"),
        (scale_reference(np.s_[:7]), "only the first 7 steps differ"),
        (scale_reference(np.s_[:, 8:]), "some leaves agree: w"),
        (scale_reference(GRADIENTS == 0), "only updates with a zero gradient differ"),
        (
            scale_reference(GRADIENTS == 0, np.nan),
            "non-finite where the gradient is zero: a division of 0 by 0",
        ),
        (scale_reference(np.s_[3, 2], np.inf), "some updates are non-finite"),
        (REFERENCE - 0.01 * PARAMETERS, "differ by -0.01 times the parameters: weight decay"),
    ],
)
def test_patterns_give_hints(candidate, words):
    assert any(words in hint for hint in hints_for(candidate)), hints_for(candidate)


def test_eps_is_named_only_if_the_moments_agree():
    candidate = REFERENCE * (1 + 1e-9 / np.abs(GRADIENTS).max(0))
    squares = {"nu": np.concatenate([np.zeros((1, ELEMENTS)), (GRADIENTS**2).cumsum(axis=0)])}
    for others, is_named in ((squares, True), ({"nu": squares["nu"] + 1}, False), ({}, False)):
        hints = hints_for(candidate, (others, squares))
        assert any("the smaller the gradients" in hint for hint in hints) == is_named, hints
    assert any(
        "nu starts at 1; reference: 0" in hint
        for hint in hints_for(candidate, ({"nu": squares["nu"] + 1}, squares))
    )


def test_random_updates_give_no_hint():
    assert hints_for(RANDOM.standard_normal((STEPS, ELEMENTS))) == ()


def test_a_pattern_on_few_problems_gives_no_hint():
    def table(candidate):
        units = np.abs(candidate - REFERENCE) / np.spacing(np.abs(REFERENCE))
        return Table(candidate, REFERENCE, GRADIENTS, PARAMETERS, units, 100.0, LEAVES, NO_MOMENTS)

    others = [RANDOM.standard_normal((STEPS, ELEMENTS)) for _ in range(2)]
    tables = {str(i): table(c) for i, c in enumerate([-REFERENCE, *others])}
    assert find_hints(tables) == ()
    both = {"a": table(-REFERENCE), "b": table(-REFERENCE), "c": table(others[0])}
    assert find_hints(both) == ("every update is -1 times the reference: wrong sign (on a, b)",)
