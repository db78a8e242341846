"""What the tests share: sampled inputs, exact values, distances in units in the last place."""

import contextlib
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import mpmath
import numpy as np
import pytest

import jaxnet

PUBLIC = {
    name: value
    for name, value in vars(jaxnet).items()
    if not name.startswith("_") and not isinstance(value, types.ModuleType)
}

ROUNDING = 2.0**-24  # the relative error of one rounding to float32

# Numbers below 1.2e-38 are subnormal in float32, and XLA flushes them to 0, also on the way to a
# result somewhat larger: an error below the floor does not count. Half precision is computed
# in float32.
FLOOR = 1e-36
FLOOR_FLOAT64 = 1e-300


def sampled(dtype: type[np.floating], interval: tuple[float, float]) -> np.ndarray:
    """Numbers of `dtype`, none subnormal: random bits, an interval, other magnitudes, extremes."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**info.bits, 2000, f"uint{info.bits}").view(dtype)
    sizes = 2.0 ** rng.uniform(-14, 7, 1000)
    extremes = [0.0, info.tiny, info.max, info.eps, 1.0, 2 * info.tiny, info.max / 2]
    samples = [bits, np.linspace(*interval, 2001), sizes, -sizes, extremes, np.negative(extremes)]
    points = np.concatenate([np.asarray(part, dtype) for part in samples])
    return points[np.isfinite(points) & ((points == 0) | (np.abs(points) >= info.tiny))]


def exact(function: Callable[[mpmath.mpf], mpmath.mpf], points: np.ndarray) -> np.ndarray:
    """`function` at every point with 60 digits, rounded once, to float64."""
    with mpmath.workdps(60):
        values = [float(function(mpmath.mpf(float(x)))) for x in points.ravel()]
    return np.array(values).reshape(points.shape)


def units(received, exact, *, dtype=np.float32, unit_of=0.0) -> np.ndarray:
    """The distance of `received` from `exact` in units in the last place of `dtype`.

    The unit is the spacing of `dtype` at the exact value, or at `unit_of` if that is larger. Where
    the exact value overflows, the largest finite number takes its place.
    """
    info = jnp.finfo(dtype)
    exact = np.clip(np.asarray(exact, np.float64), -float(info.max), float(info.max))
    error = np.abs(np.asarray(received, np.float64) - exact)
    exponent = np.frexp(np.maximum(np.abs(exact), unit_of))[1] - 1
    unit = np.ldexp(1.0, np.maximum(exponent, info.minexp) - info.nmant)
    floor = FLOOR_FLOAT64 if dtype == np.float64 else FLOOR
    return np.where(error <= floor, 0, error / unit)


def assert_units(received, exact, allowed, *, dtype=np.float32, unit_of=0.0) -> None:
    """Every element is finite and within `allowed` units in the last place of the exact value."""
    distances = units(received, exact, dtype=dtype, unit_of=unit_of)
    wrong = ~(distances <= allowed)  # true for NaN
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{wrong.sum()} of {wrong.size} are too far from the exact value, by up to "
            f"{np.nanmax(distances):.3g} units; the first, at {index}, is "
            f"{np.asarray(received)[index]!r} in place of {np.asarray(exact)[index]!r}"
        )


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Annotations are not checked within the block: they say `int` where NumPy's will do too."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@contextlib.contextmanager
def refused(error: type[Exception], *phrases: str) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """The block raises `error`, which is yielded, with every phrase in its message.

    Annotations are not checked meanwhile, as for users: jaxtyping would be the first to refuse.
    """
    with unchecked(), pytest.raises(error) as caught:
        yield caught
    missing = [phrase for phrase in phrases if phrase not in str(caught.value)]
    assert not missing, f"{missing} not in {caught.value!s}"


def drawn(network: Any, seed: int = 0) -> Any:
    """Parameters of about the size of initial ones, drawn without compiling anything."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(
        lambda a: jnp.asarray(random.normal(size=a.shape) / np.sqrt(a.shape[0]), a.dtype), shapes
    )


def mostly_slow(cases: Any) -> list[Any]:
    """Every third case, and the others as slow ones, which run before a release."""
    parameters = [c if type(c) is tuple else (c,) for c in cases]
    marks = [() if i % 3 == 0 else pytest.mark.slow for i in range(len(parameters))]
    return [pytest.param(*p, marks=m) for p, m in zip(parameters, marks, strict=True)]


HANGS = 3600  # seconds after which a process hangs, however slow the machine is


def run_plainly(script: str, **settings: str) -> str:
    """What the script prints in an interpreter of its own, without any of the tests' settings."""
    command, environment = [sys.executable, "-c", script], os.environ | settings
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def raise_(error: BaseException | type[BaseException]) -> None:
    """Raises, where a statement cannot be."""
    raise error


PRESS_CTRL_C = """
import os, signal, threading
first = threading.Lock()
def press_ctrl_c():
    '''The first time that a compiled program gets here.'''
    if first.acquire(blocking=False):
        os.kill(os.getpid(), signal.SIGINT)
"""

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}
"""In the environment of a program: XLA does not say there that compiling takes long."""
