"""Find the best learning rate with 48 networks that are trained at the same time.

    python examples/many_networks.py [picture.png]

`jaxnet.sweep` compiles one program for twelve rates with four seeds each. The picture shows the
error on unseen digits for each rate, as mean and standard deviation over the seeds.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxnet

SEEDS, RATES = 4, np.logspace(-4, 0, 12)

images, labels = load_digits(return_X_y=True)
split = train_test_split(images / 16, labels, test_size=0.25, random_state=0)
train_images, test_images = (jnp.asarray(part, jnp.float32) for part in split[:2])
train_labels, test_labels = (jnp.asarray(part, jnp.int32) for part in split[2:])
network = jaxnet.mlp([64, 32, 10], activation=jaxnet.relu)


def run(rate: Array, key: Key[Array, ""]) -> dict[str, Array]:
    """Train one network. Everything here may depend on the rate and the key."""
    state, history = jaxnet.train(
        network,
        jaxnet.softmax_cross_entropy,
        jaxnet.adam(rate),
        (train_images, train_labels),
        key=key,
        epochs=20,
        batch_size=64,
    )
    outputs = network.apply(state.parameters, test_images)
    error = 1 - jaxnet.accuracy(outputs, test_labels).mean()
    return {"cost": history["cost"][-1], "error": error}


def draw(errors: np.ndarray, path: str) -> None:
    """Plot the mean and the spread over the seeds against the rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    mean, spread = errors.mean(axis=1), errors.std(axis=1, ddof=1)
    axes.fill_between(RATES, mean - spread, mean + spread, alpha=0.25, linewidth=0)
    axes.loglog(RATES, mean, marker="o", markersize=4)
    axes.set_xlabel("learning rate of Adam")
    axes.set_ylabel("error on unseen digits")
    axes.set_title(f"Mean and standard deviation over {errors.shape[1]} seeds")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train all networks, print a table, and draw a picture if there is a path for it."""
    keys = jax.random.split(jax.random.key(0), SEEDS)
    found = jaxnet.sweep(run, {"rate": RATES, "key": keys})
    errors = found.results["error"]
    print("learning rate   error, mean and standard deviation over the seeds")
    for rate, row in zip(RATES, errors, strict=True):
        print(f"{rate:13.4g}   {row.mean():.3f} +- {row.std(ddof=1):.3f}")
    best = RATES[errors.mean(axis=1).argmin()]
    print(f"best on average: {best:.2g}")
    if len(sys.argv) > 1:
        draw(errors, sys.argv[1])


if __name__ == "__main__":
    main()
