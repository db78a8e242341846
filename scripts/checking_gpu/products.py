"""How near a training comes to the chip's rate: W4 against one large matrix product.

The child prints operations per second, in bfloat16 and in float32 (TF32 on a GPU).
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from benchmarking.report import table
from benchmarking.workloads import prepared, workloads

from checking_gpu.children import Setting, ask
from checking_gpu.outcome import Outcome

DTYPES = ("bfloat16", "float32")
REPEATS, PRODUCTS = 5, 20
TEXT = (
    "TFLOP/s of a chain of {products} products of two matrices {size:,} x {size:,}, and of the "
    "matrix products in {steps:,} steps of W4 with `train`, of which the time contains everything. "
    "float32 is TF32, JAX's default on a GPU."
)


def compare(setting: Setting, seconds: float) -> Outcome:
    found = ask(setting, seconds, "products", "quick" if setting.reduced else "full")
    rows = []
    for dtype in DTYPES:
        product, training = found["product"][dtype] / 1e12, found["training"][dtype] / 1e12
        rows.append([dtype, f"{product:#.3g}", f"{training:#.3g}", f"{training / product:.2f}"])
    text = TEXT.format(products=PRODUCTS, size=found["size"], steps=found["steps"])
    return Outcome(f"{text}\n\n{table(['', 'large product', 'W4', 'fraction'], rows)}")


# The child.


def measure(quick: bool) -> dict[str, Any]:
    size, epochs = (128, 2) if quick else (8192, 100)
    (workload,) = (w for w in workloads(quick) if w.name == "W4")
    workload = workload._replace(epochs=epochs)
    return {
        "size": size,
        "steps": workload.steps,
        "product": {dtype: rate_of_products(size, dtype) for dtype in DTYPES},
        "training": {dtype: rate_of_training(workload, dtype) for dtype in DTYPES},
    }


def rate_of_products(size: int, dtype: str) -> float:
    import jax
    import jax.numpy as jnp

    @jax.jit
    def chain(start: Any, factor: Any) -> Any:
        return jax.lax.fori_loop(0, PRODUCTS, lambda _, product: product @ factor, start)

    random = np.random.default_rng(0).normal(size=(2, size, size)) / size**0.5  # keeps the norm
    matrices = [jnp.asarray(matrix, dtype) for matrix in random.astype(np.float32)]
    return PRODUCTS * 2 * size**3 / median_seconds(lambda: chain(*matrices))


def rate_of_training(workload: Any, dtype: str) -> float:
    import jax
    import jax.numpy as jnp
    from benchmarking.contenders import jaxnet_train

    task = prepared(workload)
    train = jax.jit(jaxnet_train(workload, None if dtype == "float32" else dtype))
    arguments = jax.tree.map(jnp.asarray, (task.starts[0], task.rates[0]))
    data, key = (jnp.asarray(task.inputs), jnp.asarray(task.targets)), jax.random.key(0)
    return workload.products / median_seconds(lambda: train(*arguments, key, data))


def median_seconds(function: Callable[[], Any]) -> float:
    """The median time of several calls, after one that compiles."""
    import jax

    times = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1] == "quick")))
