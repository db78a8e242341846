"""Whether an optimizer follows optax's protocol.

`check_optimizer` tests what research code relies on: that an optimizer can be compiled, scanned and
vectorized, that its state can be donated, sharded and serialized, and that it handles zero and huge
gradients, any pytree and every precision. Each requirement has a name, and the report states the
observation. Given a reference, the report also says whether the update rules agree.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import optax

from jaxnet.core.checks import boolean, door
from jaxnet.testing import state_requirements as state
from jaxnet.testing import update_requirements as updates
from jaxnet.testing.candidates import (
    Optimizer,
    OptimizerFactory,
    describe_error,
    find_factory,
    make_optimizer,
)
from jaxnet.testing.comparison import Comparison, compare_optimizers
from jaxnet.testing.subject import (
    Advice,
    Failed,
    NotApplicable,
    Requirement,
    Subject,
    forget_traces,
)

REQUIREMENTS: dict[str, Requirement] = {
    "state keeps its shapes and dtypes": state.require_type,
    "is compiled once": updates.require_compilations,
    "is pure": updates.require_purity,
    "eager, jit, scan and cond agree": updates.require_control_flow,
    "vmap over learning rates": updates.require_vmap_over_rates,
    "vmap over runs": updates.require_vmap_over_runs,
    "supports jax.eval_shape": updates.require_eval_shape,
    "updates have the parameters' dtype": updates.require_dtypes,
    "updates and state are finite": updates.require_finiteness,
    "accepts any pytree": updates.require_pytrees,
    "independent of the split into leaves": updates.require_splitting,
    "state can be donated": state.require_donation,
    "state is sharded like the parameters": state.require_sharding,
    "state can be serialized": state.require_serialization,
    "step counter does not overflow": state.require_step_counter,
    "decreases a quadratic": updates.require_descent,
    "works with optax.masked": updates.require_mask,
    "accepts the parameters by keyword": updates.require_keyword,
    "ignores extra arguments": updates.require_extra_arguments,
    "accepts a schedule": updates.require_schedule,
}


class Check(NamedTuple):
    """The result of one requirement.

    Attributes:
        name: the requirement.
        passed: whether it holds; None if it is not applicable, or if it is a matter of advice.
        seen: the observation, the advice, or why the requirement is not applicable.
        is_advice: whether the observation is advice: most uses do without the property.
    """

    name: str
    passed: bool | None
    seen: str
    is_advice: bool = False

    def __str__(self) -> str:
        words = {True: "passed", False: "FAILED", None: "advice" if self.is_advice else "-"}
        return words[self.passed]


class Report(NamedTuple):
    """The result of `check_optimizer`; `print` shows it as a table.

    Attributes:
        checks: one for each requirement.
        comparison: the comparison with the reference; None if there is no reference, or if the two
            cannot be compared.
    """

    checks: tuple[Check, ...]
    comparison: Comparison | None

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def raise_if_failed(self, *, allow: Collection[str] = ()) -> None:
        """Raises an `AssertionError` that contains the report if a check failed.

        Args:
            allow: the names of checks that may fail.

        Raises:
            ValueError: a name of no check.
        """
        if isinstance(allow, str):
            raise TypeError(
                f"raise_if_failed: expected a list of names for allow. Received: str {allow!r}"
            )
        unknown = {*allow} - {check.name for check in self.checks}
        if unknown:
            raise ValueError(
                "raise_if_failed: expected names of checks for allow. "
                f"Received: {', '.join(map(repr, sorted(unknown)))}"
            )
        if any(check.passed is False and check.name not in allow for check in self.checks):
            raise AssertionError(f"the optimizer does not conform\n\n{self}")

    def __str__(self) -> str:
        width = max(len(check.name) for check in self.checks)
        lines = [f"{c!s:6}  {c.name:{width}}  {c.seen}" for c in self.checks]
        failed = sum(check.passed is False for check in self.checks)
        total = sum(check.passed is not None for check in self.checks)
        lines += ["", f"{failed} of {total} checks failed" if failed else f"{total} checks passed"]
        if self.comparison and self.comparison.verdict == "different":
            lines += ["", str(self.comparison)]
        return "\n".join(lines)


@door
def check_optimizer(
    optimizer: Optimizer | OptimizerFactory,
    *,
    reference: Optimizer | OptimizerFactory | None = None,
    per_element: bool = False,
) -> Report:
    """Tests the requirements that every optimizer should meet.

    Args:
        optimizer: an optax `GradientTransformation`, a pair of functions `(init, update)`, or a
            function from the learning rate to one of these, such as `adam` or `lambda rate:
            sgd(rate, momentum=0.9)`. `vmap` over learning rates needs such a function; all other
            requirements then use a learning rate of 0.01.
        reference: an optimizer with the expected update rule, in any of these forms.
        per_element: whether the optimizer claims to treat each element independently, so that the
            split of the parameters into leaves makes no difference.

    Returns:
        The report. It has a single check if init and update cannot be called.

    Raises:
        TypeError: the optimizer or the reference has none of these forms.

    >>> import optax
    >>> from jaxnet import gradient_descent
    >>> report = check_optimizer(gradient_descent, reference=optax.sgd, per_element=True)
    >>> report.raise_if_failed()
    >>> print(report.checks[1].seen)
    same shapes, dtypes and weak types; leaves: 1
    """
    boolean("per_element", per_element)
    init, update = map(_wrap, make_optimizer("optimizer", optimizer))
    subject = Subject(init, update, find_factory(optimizer), per_element)
    expected = None if reference is None else make_optimizer("reference", reference)
    results = [_check("init and update can be called", updates.require_call, subject)]
    if not results[0].passed:  # all other requirements would fail for the same reason
        return Report(tuple(results), None)
    with forget_traces(subject):
        results += [_check(name, require, subject) for name, require in REQUIREMENTS.items()]
    if expected is None:
        return Report(tuple(results), None)
    comparison, result = _compare(subject, expected)
    return Report((*results, result), comparison)


def _wrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function in a new object, for which `jax.jit` has no cached trace."""
    return lambda *args, **kwargs: function(*args, **kwargs)


def _check(name: str, require: Requirement, subject: Subject) -> Check:
    try:
        return Check(name, True, require(subject))
    except NotApplicable as reason:
        return Check(name, None, str(reason))
    except Advice as advice:
        return Check(name, None, str(advice), is_advice=True)
    except Failed as failure:
        return Check(name, False, str(failure))
    except Exception as error:  # raised by the optimizer
        return Check(name, False, describe_error(error))


def _compare(
    subject: Subject, reference: optax.GradientTransformation
) -> tuple[Comparison | None, Check]:
    name = "update rule of the reference"
    try:
        comparison = compare_optimizers((subject.init, subject.update), reference)
    except ValueError as error:
        return None, Check(name, False, describe_error(error))
    verdict = str(comparison).splitlines()[0]
    return comparison, Check(name, comparison.verdict != "different", verdict)
