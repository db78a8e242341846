"""How the cost of a step of `jaxnet.train` grows with each size, the others held.

The exponent is the slope between two neighbours where both axes are logarithmic: 0 is a cost that
does not grow, 1 one that grows in proportion.
"""

import math
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jaxnet


class Sizes(NamedTuple):
    """A network with that many hidden layers of that width, 16 inputs and 10 classes, and Adam."""

    width: int = 64
    depth: int = 2
    batch: int = 64
    rows: int = 8192


VALUES = {
    "width": [16, 32, 64, 128, 256, 512, 1024, 2048],
    "depth": [1, 2, 4, 8],
    "batch": [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096],
    "rows": [1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000],
}
STEPS = 200  # at least, so that a step's time is no matter of one call


def grown(quick: bool, repeats: int) -> dict[str, list[dict[str, float | None]]]:
    """For each axis a row per value: seconds a step, and the exponent since the value before."""
    chosen = {axis: values[::3] if quick else values for axis, values in VALUES.items()}
    result = {}
    total, hidden = sum(map(len, chosen.values())), not sys.stderr.isatty()
    with tqdm(total=total, delay=1, leave=False, disable=hidden) as bar:
        for axis, values in chosen.items():
            rows: list[dict[str, float | None]] = []
            for value in values:
                bar.set_postfix_str(f"{axis} {value}")
                seconds = step_seconds(Sizes()._replace(**{axis: value}), repeats)
                exponent = _exponent(rows[-1], axis, value, seconds) if rows else None
                rows.append({axis: value, "step_seconds": seconds, "exponent": exponent})
                bar.update()
            result[axis] = rows
    return result


def step_seconds(sizes: Sizes, repeats: int) -> float:
    """The median of some whole runs, compiled before, over their number of steps."""
    random = np.random.default_rng(0)
    inputs = jnp.asarray(random.standard_normal((sizes.rows, 16), dtype=np.float32))
    data = inputs, jnp.asarray(random.integers(10, size=sizes.rows), jnp.int32)
    network = jaxnet.mlp([16, *[sizes.width] * sizes.depth, 10])
    steps = -(-sizes.rows // sizes.batch)
    epochs = -(-STEPS // steps)
    options = {"epochs": epochs, "batch_size": sizes.batch}

    @jax.jit
    def run(key, data):
        loss, optimizer = jaxnet.softmax_cross_entropy, jaxnet.adam(0.001)
        return jaxnet.train(network, loss, optimizer, data, key=key, **options)

    times = []
    for seed in range(repeats + 1):
        begin = time.perf_counter()
        jax.block_until_ready(run(jax.random.key(seed), data))
        times.append(time.perf_counter() - begin)
    return float(np.median(times[1:])) / (epochs * steps)


def _exponent(before: dict[str, float | None], axis: str, value: int, seconds: float) -> float:
    ratio = seconds / before["step_seconds"]
    return math.log(ratio) / math.log(value / before[axis])
