"""Does an optimizer keep what optax's protocol promises?

`check_optimizer` puts it through what research code does to optimizers: it compiles, scans and
vectorises it, donates, shards and stores its state, and feeds it zeros, enormous numbers, odd trees
and every precision. Each property has a name, and the report says what was seen. With a reference,
it says as well whether this is the rule that it claims to be.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from jaxnet.core import checks
from jaxnet.testing.comparison import Comparison, Optimizer, as_optimizer, compare_optimizers
from jaxnet.testing.requirements import (
    PROPERTIES,
    Failed,
    NotAsked,
    Subject,
    first_line,
    runs,
    untraced,
)


class Check(NamedTuple):
    """A property, whether it holds (`None` where the question does not arise) and what was seen."""

    name: str
    passed: bool | None
    seen: str


class Report(NamedTuple):
    """What `check_optimizer` found; `print` it.

    Attributes:
        checks: one for every property.
        comparison: with the reference, where one was given and the two could be compared.
    """

    checks: tuple[Check, ...]
    comparison: Comparison | None

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def raise_if_failed(self) -> None:
        """Raises an `AssertionError` with the whole report, unless every check passed."""
        if not self.passed:
            raise AssertionError(f"the optimizer does not conform\n\n{self}")

    def __str__(self) -> str:
        width = max(len(check.name) for check in self.checks)
        words = {True: "passed", False: "FAILED", None: "-"}
        lines = [f"{words[c.passed]:6}  {c.name:{width}}  {c.seen}" for c in self.checks]
        failed = sum(check.passed is False for check in self.checks)
        asked = sum(check.passed is not None for check in self.checks)
        lines += ["", f"{failed} of {asked} checks failed" if failed else f"{asked} checks passed"]
        if self.comparison and self.comparison.verdict == "different":
            lines += ["", str(self.comparison)]
        return "\n".join(lines)


@checks.door
def check_optimizer(
    optimizer: Optimizer | Callable[[Any], Optimizer],
    *,
    reference: Optimizer | Callable[[Any], Optimizer] | None = None,
    per_element: bool = False,
) -> Report:
    """Checks the properties that every optimizer must have, each by name.

    Args:
        optimizer: an optax `GradientTransformation`, a bare pair `(init, update)`, or a function
            from the learning rate to one of these, such as `adam` or `lambda rate: sgd(rate,
            momentum=0.9)`. Only with such a function can rates be vectorised over; all else is
            then checked at a rate of 0.01.
        reference: the rule that it should be, in any of these forms.
        per_element: whether it claims to treat each element by itself, so that it cannot matter
            how parameters are split into leaves.

    Raises:
        TypeError: no optimizer in any of these forms.

    >>> from jaxnet import gradient_descent
    >>> report = check_optimizer(gradient_descent, reference=optax.sgd, per_element=True)
    >>> report.raise_if_failed()
    >>> print(report.checks[1].seen)
    shapes, dtypes and weak types of 1 leaves
    """
    checks.boolean("per_element", per_element)
    init, update = map(_as_it_is_now, _built("optimizer", optimizer))
    subject = Subject(init, update, _function(optimizer), per_element)
    expected = None if reference is None else _built("reference", reference)
    results = [_tried("runs", runs, subject)]
    if not results[0].passed:  # then all else would say the same
        return Report(tuple(results), None)
    with untraced(subject):
        results += [_tried(name, property, subject) for name, property in PROPERTIES.items()]
    if expected is None:
        return Report(tuple(results), None)
    comparison, result = _compared(subject, expected)
    return Report((*results, result), comparison)


_RATE = 0.01


def _function(optimizer: Any) -> Callable[[Any], Any] | None:
    """What is given, if it is a function from the learning rate to an optimizer."""
    return optimizer if callable(optimizer) and not hasattr(optimizer, "update") else None


def _built(role: str, optimizer: Any) -> optax.GradientTransformation:
    make = _function(optimizer)
    try:
        built = make(_RATE) if make else optimizer
    except Exception as error:
        raise checks.InvalidType(
            f"expected the {role} as a function of the learning rate. Received: {first_line(error)}"
        ) from error
    return as_optimizer(role, built)


def _as_it_is_now(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that `jax.jit` has not seen, in place of one that may have changed since."""
    return lambda *args, **kwargs: function(*args, **kwargs)


def _tried(name: str, property: Callable[[Subject], str], subject: Subject) -> Check:
    try:
        return Check(name, True, property(subject))
    except NotAsked as reason:
        return Check(name, None, str(reason))
    except Failed as failure:
        return Check(name, False, str(failure))
    except Exception as error:  # whatever the optimizer raises is what was seen
        return Check(name, False, first_line(error))


def _compared(
    subject: Subject, reference: optax.GradientTransformation
) -> tuple[Comparison | None, Check]:
    name = "is the reference's rule"
    try:
        comparison = compare_optimizers((subject.init, subject.update), reference)
    except ValueError as error:
        return None, Check(name, False, first_line(error))
    verdict = str(comparison).splitlines()[0]
    return comparison, Check(name, comparison.verdict != "different", verdict)
