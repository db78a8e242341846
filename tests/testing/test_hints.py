"""Patterns: each is told of numbers that show it, and of no others."""

import numpy as np
import pytest

from jaxnet.testing.hints import Table, found

STEPS, ELEMENTS = 30, 12
RANDOM = np.random.default_rng(0)
REFERENCE = RANDOM.standard_normal((STEPS, ELEMENTS))
GRADIENTS = RANDOM.standard_normal((STEPS, ELEMENTS)) * np.logspace(-9, 9, ELEMENTS)
GRADIENTS[4:8, 3] = 0
PARAMETERS = RANDOM.standard_normal((STEPS, ELEMENTS))
LEAVES = {"w": slice(0, 8), "b": slice(8, 12)}
T = np.arange(STEPS)[:, None]


def hints(candidate):
    with np.errstate(invalid="ignore"):
        apart = np.abs(candidate - REFERENCE) / np.spacing(np.abs(REFERENCE))
    units = np.where(np.isfinite(apart), apart, np.inf)
    table = Table(candidate, REFERENCE, GRADIENTS, PARAMETERS, units, 100.0, LEAVES)
    return found({"here": table})


def changed(where, factor=1.5):
    candidate = REFERENCE.copy()
    candidate[where] *= factor
    return candidate


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (-REFERENCE, "every update is -1 times the reference: the sign"),
        (0.1 * REFERENCE, "every update is 0.1 times the reference: a factor"),
        (REFERENCE * (2 - T / STEPS), "a schedule or a bias correction"),
        (np.roll(REFERENCE, 1, axis=0), "the reference's of one step earlier"),
        (np.roll(REFERENCE, -1, axis=0), "the reference's of one step later"),
        (changed(np.s_[1:]), "the first step agrees"),
        (changed(np.s_[5:]), "the first 5 steps agree"),
        (changed(np.s_[:1]), "only step 1 differs"),
        (changed(np.s_[:7]), "only the first 7 steps differ"),
        (changed(np.s_[:, 8:]), "some leaves agree: w"),
        (changed(GRADIENTS == 0), "only updates at a gradient of zero differ"),
        (changed(GRADIENTS == 0, np.nan), "NaN where the gradient is zero: a division of 0 by 0"),
        (changed(np.s_[3, 2], np.inf), "updates are infinite or NaN in places"),
        (REFERENCE * (1 + 1e-9 / np.abs(GRADIENTS).max(0)), "the smaller the gradients"),
        (REFERENCE - 0.01 * PARAMETERS, "differ by -0.01 times the parameters: weight decay"),
    ],
)
def test_told(candidate, words):
    assert any(words in hint for hint in hints(candidate)), hints(candidate)


def test_nothing_is_told_of_chance():
    assert hints(RANDOM.standard_normal((STEPS, ELEMENTS))) == ()


def test_what_few_problems_show_is_not_told():
    def table(candidate):
        units = np.abs(candidate - REFERENCE) / np.spacing(np.abs(REFERENCE))
        return Table(candidate, REFERENCE, GRADIENTS, PARAMETERS, units, 100.0, LEAVES)

    others = [RANDOM.standard_normal((STEPS, ELEMENTS)) for _ in range(2)]
    tables = {str(i): table(c) for i, c in enumerate([-REFERENCE, *others])}
    assert found(tables) == ()
    both = {"a": table(-REFERENCE), "b": table(-REFERENCE), "c": table(others[0])}
    assert found(both) == ("every update is -1 times the reference: the sign (on a, b)",)
