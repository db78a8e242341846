"""Compares jaxnet's optimizers with optax's: their updates and their speed.

For each pair of optimizers the table shows
- the verdict of `jaxnet.compare_optimizers`;
- the largest distance of two updates in units in the last place (ULPs), in float32 and float64;
- the largest distance of free-running trajectories, next to the chaos floor, which is the distance
  that a change of the starting point by one ULP causes;
- the time of an update with jaxnet divided by that with optax, for about 500 parameters in 6 leaves
  (small) and for about 7 million in 6 leaves (large). Times are medians of alternating updates;
  ratios between 0.9 and 1.1 are within noise.

It uses JAX's default device; JAX_PLATFORMS=cpu selects the CPU.
"""

import argparse
import json
import sys
import time

import jax
import numpy as np
import optax
from tqdm import tqdm

import jaxnet

SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 0.01, 100, 1000)
SMALL, LARGE = [8, 16, 16, 4], [1024, 2048, 2048, 512]

PAIRS = {
    "gradient_descent": (jaxnet.gradient_descent(0.01), optax.sgd(0.01)),
    "gradient_descent, schedule": (jaxnet.gradient_descent(SCHEDULE), optax.sgd(SCHEDULE)),
    "sgd, momentum": (jaxnet.sgd(0.01, momentum=0.9), optax.sgd(0.01, momentum=0.9)),
    "sgd, Nesterov": (
        jaxnet.sgd(0.01, momentum=0.9, nesterov=True),
        optax.sgd(0.01, momentum=0.9, nesterov=True),
    ),
    "adam": (jaxnet.adam(0.01), optax.adam(0.01)),
    "adam, schedule": (jaxnet.adam(SCHEDULE), optax.adam(SCHEDULE)),
    "adamw": (jaxnet.adamw(0.01, weight_decay=0.1), optax.adamw(0.01, weight_decay=0.1)),
}


def seconds(optimizers, sizes: list[int], updates: int) -> list[float]:
    """Returns the median time of an update for each optimizer; their updates alternate."""
    network = jaxnet.mlp(sizes)
    parameters = network.init(jax.random.key(0))
    steps, states = [], []
    for optimizer in optimizers:
        steps.append(jax.jit(optimizer.update, donate_argnums=1))
        states.append(optimizer.init(parameters))
    times = []
    for _ in range(updates + 3):
        row = []
        for i, step in enumerate(steps):
            begin = time.perf_counter()
            updated, states[i] = jax.block_until_ready(step(parameters, states[i], parameters))
            row.append(time.perf_counter() - begin)
            del updated
        times.append(row)
    return np.median(times[3:], axis=0).tolist()


def measure(pair, steps: int) -> dict:
    """Computes one row of the table."""
    comparison = jaxnet.compare_optimizers(*pair, steps=steps)
    apart = max(problem.distance.max() for problem in comparison.problems)
    floor = max(problem.chaos_floor.max() for problem in comparison.problems)
    small, large = seconds(pair, SMALL, 500), seconds(pair, LARGE, 30)
    return {
        "verdict": comparison.verdict,
        "units_float32": max(problem.units["float32"] for problem in comparison.problems),
        "units_float64": max(problem.units["float64"] for problem in comparison.problems),
        "apart": float(apart),
        "chaos_floor": float(floor),
        "small_seconds": small,
        "large_seconds": large,
        "small_ratio": small[0] / small[1],
        "large_ratio": large[0] / large[1],
    }


def format_row(name: str, result: dict) -> str:
    return (
        f"{name:27} {result['verdict']:10} {result['units_float32']:8.3g} "
        f"{result['units_float64']:8.3g} {result['apart']:9.2g} {result['chaos_floor']:11.2g} "
        f"{result['small_ratio']:7.2f} {result['large_ratio']:7.2f}"
    )


HEADER = f"""\
{"jaxnet and optax":27} {"":10} {"max. ULPs apart":^17} {"max. distance":^21} {"time ratio":^15}
{"":27} {"verdict":10} {"float32":>8} {"float64":>8} {"candidate":>9} {"chaos floor":>11} \
{"small":>7} {"large":>7}"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {'; '.join(PAIRS)}")
    parser.add_argument(
        "--steps", type=int, default=1000, help="steps on each problem (default 1000)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error("expected --steps of at least 1")

    unknown = [name for name in arguments.names if name not in PAIRS]
    if unknown:
        parser.error(f"unknown name: {'; '.join(unknown)}")
    names = arguments.names or list(PAIRS)
    if not arguments.json:
        print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].device_kind}\n")
        print(HEADER)
    results = {}
    for name in tqdm(names, delay=1, leave=False, disable=not sys.stderr.isatty()):
        results[name] = measure(PAIRS[name], arguments.steps)
        if not arguments.json:
            tqdm.write(format_row(name, results[name]))
    if arguments.json:
        versions = {"jax": jax.__version__, "optax": optax.__version__}
        device = jax.devices()[0].device_kind
        print(json.dumps({"versions": versions, "device": device, "results": results}, indent=2))
    sys.exit(any(result["verdict"] == "different" for result in results.values()))


if __name__ == "__main__":
    main()
