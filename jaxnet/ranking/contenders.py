"""Contenders: optimizers with the spaces in which their hyperparameters are searched.

An optimizer without its search space cannot be ranked: a narrow space around good values looks
better after few trials than a wide one (Sivaprasad et al., 2020). The standard spaces are wide.
Those of the decay rates are log-uniform in one minus the rate, as AlgoPerf's are: the step from 0.9
to 0.99 is as large as that from 0.99 to 0.999.

Reference: Schmidt et al., Descending through a crowded valley, 2021; Sivaprasad et al., Optimizer
benchmarking needs to account for hyperparameter tuning, 2020; Dahl et al., Benchmarking neural
network training algorithms (AlgoPerf), 2023.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import optax.contrib
from jaxtyping import Array, Float, Key

from jaxnet.core import checks
from jaxnet.optimizers.adagrad import adagrad
from jaxnet.optimizers.adam import adam, adamw, nadam
from jaxnet.optimizers.amsgrad import amsgrad
from jaxnet.optimizers.descent import gradient_descent, sgd
from jaxnet.optimizers.lion import lion
from jaxnet.optimizers.rmsprop import rmsprop
from jaxnet.ranking.spaces import Choice, LogUniform, Space, fold_name

Fractions = Float[np.ndarray, " steps"]
Schedule = Callable[[Fractions], Fractions]


def constant(fraction: Fractions) -> Fractions:
    """The schedule that changes nothing: 1 from the start to the end.

    >>> constant(np.array([0.0, 0.5]))
    array([1., 1.])
    """
    return np.ones_like(fraction)


def cosine(fraction: Fractions) -> Fractions:
    """From 1 to 0 along half a cosine, `(1 + cos(pi * fraction)) / 2`.

    Reference: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, 2016.

    >>> cosine(np.array([0.0, 0.5, 1.0]))
    array([1. , 0.5, 0. ])
    """
    return (1 + np.cos(np.pi * fraction)) / 2


def warm_restarts(fraction: Fractions) -> Fractions:
    """Three times `cosine`, each twice as long as the one before.

    Reference: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, 2016.

    >>> warm_restarts(np.array([0.0, 1 / 14, 1 / 7, 3 / 7]))
    array([1. , 0.5, 1. , 1. ])
    """
    start = np.select([fraction < 1 / 7, fraction < 3 / 7], [0, 1 / 7], 3 / 7)
    length = np.select([fraction < 1 / 7, fraction < 3 / 7], [1 / 7, 2 / 7], 4 / 7)
    return cosine((fraction - start) / length)


def trapezoid(fraction: Fractions) -> Fractions:
    """Rises during the first tenth of the training, and falls to 0 during the last.

    Reference: Xing et al., A walk with SGD, 2018.

    >>> trapezoid(np.array([0.0, 0.05, 0.5, 0.95]))
    array([0. , 0.5, 1. , 0.5])
    """
    return np.minimum(1, np.minimum(fraction, 1 - fraction) * 10)


class Contender(NamedTuple):
    """An optimizer, and how it is tuned.

    Attributes:
        name: in tables and figures. The random values of the trials depend on it, so that two
            contenders are tuned independently, also if they are the same optimizer.
        make: makes the optimizer from hyperparameters by name, which are traced scalars. It must
            not branch on them.
        space: the space of each hyperparameter. One that is called "learning_rate" appears in the
            results about the sensitivity to it.
        schedule: the factor by which the updates are multiplied, from the fractions of the training
            that are done before each step, as a NumPy array from 0 to below 1. Contenders that
            differ in the schedule alone share a compiled program if they follow each other.

    >>> from jaxnet import sgd
    >>> Contender("SGD", sgd, {"learning_rate": LogUniform(1e-3, 1.0)}, cosine).name
    'SGD'
    """

    name: str
    make: Callable[..., optax.GradientTransformation]
    space: Mapping[str, Space]
    schedule: Schedule = constant


def check_contender(contender: Any) -> None:
    """Checks the fields of a contender, and makes its optimizer once, from values in its space."""
    checks.instance("each contender", contender, Contender)
    if not isinstance(contender.name, str) or not contender.name:
        raise checks.InvalidValue(
            f"expected a contender with a name. Received: {checks.describe(contender.name)}"
        )
    with checks.about(f"contender {contender.name!r}"):
        checks.function("make", contender.make)
        checks.function("schedule", contender.schedule)
        space = contender.space
        if not isinstance(space, Mapping) or not space or "key" in space:
            raise checks.InvalidValue(
                "expected a space of at least one hyperparameter, none of which is called 'key'. "
                f"Received: {checks.describe(space)}"
            )
        for name, each in space.items():
            if not isinstance(each, Space):
                raise checks.InvalidType(
                    f"expected a Uniform, LogUniform or Choice for {name!r}. "
                    f"Received: {checks.describe(each)}"
                )
            each.check(name)
        _check_make(contender)
        evaluate_schedule(contender, 2)


def _check_make(contender: Contender) -> None:
    values = {
        name: space.values[0] if isinstance(space, Choice) else space.low
        for name, space in contender.space.items()
    }
    try:
        optimizer = contender.make(**values)
    except TypeError as error:
        raise checks.InvalidType(
            f"expected a function make of {', '.join(values)}. Received: {error}"
        ) from error
    except ValueError as error:
        raise checks.InvalidValue(
            f"expected a function make that takes all values in the space. Received: {error}"
        ) from error
    checks.optimizer("result of make", optimizer)


def evaluate_schedule(contender: Contender, steps: int) -> Float[np.ndarray, " steps"]:
    """The factors of all steps of a run."""
    factors = np.asarray(contender.schedule(np.arange(steps) / steps), np.float32)
    if factors.shape != (steps,) or not np.isfinite(factors).all():
        raise checks.InvalidValue(
            f"expected a schedule that returns a finite number for each step, [{steps}]. "
            f"Received: {checks.describe(factors)}"
        )
    return factors


def draw_trials(
    contender: Contender, key: Key[Array, ""], trials: int
) -> dict[str, Float[np.ndarray, " trials"]]:
    """The hyperparameters of all trials, by the name of the contender."""
    keys = jax.random.split(fold_name(key, contender.name), len(contender.space))
    pairs = zip(contender.space.items(), keys, strict=True)
    return {name: space.sample(one, trials) for (name, space), one in pairs}


# The standard contenders.

_RATE, _LARGE_RATE = LogUniform(1e-5, 1e-1), LogUniform(1e-4, 1e1)
_B1: dict[str, Space] = {"one_minus_b1": LogUniform(0.01, 0.5)}
_B2: dict[str, Space] = {"one_minus_b2": LogUniform(1e-4, 0.2)}
_EPS: dict[str, Space] = {"eps": LogUniform(1e-10, 1e-3)}
_DECAY: dict[str, Space] = {"weight_decay": LogUniform(1e-5, 1.0)}
_MOMENTUM: dict[str, Space] = {"one_minus_momentum": LogUniform(0.01, 1.0)}

_SPACES: dict[str, tuple[Callable[..., Any], dict[str, Space]]] = {
    "gradient descent": (gradient_descent, {"learning_rate": _LARGE_RATE}),
    "SGD": (sgd, {"learning_rate": _LARGE_RATE, **_MOMENTUM}),
    "Adam": (adam, {"learning_rate": _RATE, **_B1, **_B2, **_EPS}),
    "AdamW": (adamw, {"learning_rate": _RATE, **_B1, **_B2, **_DECAY}),
    "AdaBelief": (optax.adabelief, {"learning_rate": _RATE, **_B1, **_B2}),
    "Adadelta": (
        optax.adadelta,
        {"learning_rate": _LARGE_RATE, "one_minus_rho": LogUniform(1e-3, 0.5), **_EPS},
    ),
    "Adagrad": (
        adagrad,
        {
            "learning_rate": LogUniform(1e-4, 1.0),
            "initial_accumulator_value": LogUniform(1e-6, 1.0),
        },
    ),
    "AdaMax": (optax.adamax, {"learning_rate": _RATE, **_B1, **_B2}),
    "Adan": (
        optax.adan,
        {"learning_rate": _RATE, **_B1, **_B2, "one_minus_b3": LogUniform(1e-3, 0.5), **_DECAY},
    ),
    "AMSGrad": (amsgrad, {"learning_rate": _RATE, **_B1, **_B2, **_EPS}),
    "LAMB": (
        optax.lamb,
        {"learning_rate": LogUniform(1e-4, 1.0), **_B1, **_B2, **_DECAY},
    ),
    "LARS": (optax.lars, {"learning_rate": LogUniform(1e-2, 1e3), **_MOMENTUM, **_DECAY}),
    "Lion": (
        lion,
        {
            "learning_rate": LogUniform(1e-6, 1e-2),
            "one_minus_b2": LogUniform(1e-3, 0.2),
            **_B1,
            **_DECAY,
        },
    ),
    "Muon": (
        optax.contrib.muon,
        {"learning_rate": LogUniform(1e-4, 1.0), "one_minus_beta": LogUniform(0.01, 0.5), **_DECAY},
    ),
    "NAdam": (nadam, {"learning_rate": _RATE, **_B1, **_B2, **_EPS}),
    "NovoGrad": (
        optax.novograd,
        {
            "learning_rate": LogUniform(1e-4, 1.0),
            "one_minus_b2": LogUniform(1e-3, 0.8),
            **_B1,
            **_DECAY,
        },
    ),
    "RAdam": (optax.radam, {"learning_rate": _RATE, **_B1, **_B2, **_EPS}),
    "RMSProp": (
        rmsprop,
        {"learning_rate": _RATE, "one_minus_decay": LogUniform(1e-3, 0.5), **_MOMENTUM, **_EPS},
    ),
    "Yogi": (optax.yogi, {"learning_rate": _RATE, **_B1, **_B2, "eps": LogUniform(1e-6, 1e-2)}),
}


@checks.door
def standard_contenders(schedule: Schedule = constant) -> tuple[Contender, ...]:
    """The nine optimizers of jaxnet and ten more of optax, with their search spaces.

    A hyperparameter `one_minus_b1` is `1 - b1`. All other hyperparameters have optax's defaults.

    Args:
        schedule: of all of them; `constant`, `cosine`, `warm_restarts`, `trapezoid` or your own. If
            it is not `constant`, its name is added to those of the contenders.

    Raises:
        TypeError: the schedule is not a function.

    >>> [contender.name for contender in standard_contenders()][:3]
    ['gradient descent', 'SGD', 'Adam']
    >>> standard_contenders(cosine)[2].name
    'Adam, cosine'
    """
    checks.function("schedule", schedule)
    suffix = "" if schedule is constant else f", {schedule.__name__.replace('_', ' ')}"
    return tuple(
        Contender(name + suffix, functools.partial(_make, make), space, schedule)
        for name, (make, space) in _SPACES.items()
    )


def _make(make: Callable[..., Any], /, **hyperparameters: Any) -> optax.GradientTransformation:
    """Calls `make` with `x = 1 - one_minus_x`."""
    prefix = "one_minus_"
    return make(
        **{
            name.removeprefix(prefix): 1 - value if name.startswith(prefix) else value
            for name, value in hyperparameters.items()
        }
    )
