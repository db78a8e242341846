"""Search spaces: the distributions from which random search draws hyperparameters.

A space is part of the contender that is ranked: the same optimizer with a wider space is another
contender. Values are float32, since all trials of a contender run in one compiled program.

Reference: Bergstra and Bengio, Random search for hyper-parameter optimization, 2012.
"""

import zlib
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from jaxnet.core import checks


class Uniform(NamedTuple):
    """Numbers from `low` to `high`, all equally likely.

    >>> Uniform(0.5, 1.0).sample(jax.random.key(0), 3)
    array([0.9738, 0.9893, 0.6661], dtype=float32)
    """

    low: float
    high: float

    def sample(self, key: Key[Array, ""], count: int) -> Float[np.ndarray, " count"]:
        """Draws `count` values."""
        return (self.low + (self.high - self.low) * _unit(key, count)).astype(np.float32)

    def check(self, name: str) -> None:
        """Checks that the limits are in order."""
        _check_limits(name, self.low, self.high, -np.inf)


class LogUniform(NamedTuple):
    """Numbers from `low` to `high`, whose logarithms are equally likely, such as learning rates.

    >>> LogUniform(1e-4, 1.0).sample(jax.random.key(0), 3)
    array([0.6175, 0.821 , 0.0021], dtype=float32)
    """

    low: float
    high: float

    def sample(self, key: Key[Array, ""], count: int) -> Float[np.ndarray, " count"]:
        """Draws `count` values."""
        low, high = np.log(self.low), np.log(self.high)
        return np.exp(low + (high - low) * _unit(key, count)).astype(np.float32)

    def check(self, name: str) -> None:
        """Checks that the limits are positive and in order."""
        _check_limits(name, self.low, self.high, float(np.finfo(np.float32).tiny))


class Choice(NamedTuple):
    """One of some numbers, all equally likely.

    >>> Choice((0.0, 0.9, 0.99)).sample(jax.random.key(0), 3)
    array([0.99, 0.99, 0.  ], dtype=float32)
    """

    values: tuple[float, ...]

    def sample(self, key: Key[Array, ""], count: int) -> Float[np.ndarray, " count"]:
        """Draws `count` values."""
        places = np.floor(_unit(key, count) * len(self.values)).astype(int)
        return np.asarray(self.values, np.float32)[places]

    def check(self, name: str) -> None:
        """Checks that there are numbers to choose from."""
        if not isinstance(self.values, (tuple, list)) or not self.values:
            raise checks.InvalidValue(
                f"expected a Choice of at least one number for {name!r}. "
                f"Received: {checks.describe(self.values)}"
            )
        for value in self.values:
            checks.number(f"value in the Choice for {name!r}", value)


Space = Uniform | LogUniform | Choice


def _unit(key: Key[Array, ""], count: int) -> Float[np.ndarray, " count"]:
    """Numbers from 0 to below 1, in float64: the rest is computed on the host."""
    return np.asarray(jax.random.uniform(key, (count,), np.float32), np.float64)


def _check_limits(name: str, low: float, high: float, least: float) -> None:
    checks.number(f"lower limit for {name!r}", low, least)
    checks.number(f"upper limit for {name!r}", high, low)


def fold_name(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """A key for a name, which does not depend on what else has one."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
