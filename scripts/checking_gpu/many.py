"""Ten thousand small networks in one call of `sweep`.

The child prints the seconds of the first call, which compiles, and of the second one.
"""

import json
import sys
import time
from typing import Any

import numpy as np
from benchmarking.sweep_contenders import BATCH, EPOCHS, jaxnet_grid, jaxnet_run
from benchmarking.workloads import Workload, prepared

from checking_gpu.children import Setting, ask
from checking_gpu.outcome import Outcome

WIDTH = 32
TEXT = (
    "{networks:,} networks 64-{width}-10 on scikit-learn's digits, batch {batch}, Adam, {epochs} "
    "epochs, {rates} learning rates and {seeds} seeds, in one call of `sweep`: {first:.2f} s with "
    "compiling, {again:.2f} s again, {speed:,.0f} networks/s. Peak on the device: {peak}. The "
    "final losses are between {best:.3f} and {worst:.3f}; {lost} are not finite."
)


def measure_sweep(setting: Setting, seconds: float) -> Outcome:
    found = ask(setting, seconds, "many", "quick" if setting.reduced else "full")
    speed = found["networks"] / found["again"]
    peak = "not known" if found["peak"] is None else f"{found['peak'] / 1e6:,.0f} MB"
    sizes = {"width": WIDTH, "batch": BATCH, "epochs": EPOCHS}
    return Outcome(TEXT.format(**found | sizes | {"speed": speed, "peak": peak}))


# The child.


def measure(rates: int, seeds: int) -> dict[str, Any]:
    import jax

    import jaxnet

    task = prepared(Workload("", "", "digits", 1797, (64, WIDTH, 10), BATCH, EPOCHS))
    train = jaxnet_run(task.inputs, task.targets)
    grid = jaxnet_grid(tuple(np.geomspace(0.001, 0.03, rates).tolist()), seeds)
    times, losses = [], np.zeros(0)
    for _ in range(2):
        begin = time.perf_counter()
        losses = jaxnet.sweep(lambda rate, key: train(WIDTH, rate, key)[0], grid).results
        times.append(time.perf_counter() - begin)
    finite = losses[np.isfinite(losses)]
    return {
        "networks": losses.size,
        "rates": rates,
        "seeds": seeds,
        "first": times[0],
        "again": times[1],
        "peak": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
        "best": float(finite.min()),
        "worst": float(finite.max()),
        "lost": losses.size - finite.size,
    }


if __name__ == "__main__":
    print(json.dumps(measure(*((2, 2) if sys.argv[1] == "quick" else (100, 100)))))
