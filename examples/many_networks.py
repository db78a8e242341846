"""Find the best learning rate for three widths with 144 networks that are trained together.

    python examples/many_networks.py [--picture many_networks.png] [--folder many_networks]

`jaxnet.sweep` compiles one program per width, for twelve rates with four seeds each. The results
are kept in a folder: after Ctrl-C, the same command makes the runs that are missing. Any number of
processes may run the command at the same time, and share the work; see `launch_processes.sh`,
`launch_slurm.sh` and `launch_joblib.py`.

The picture shows the error on unseen digits for each rate, as mean and standard error over the
seeds.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import pandas
from jaxtyping import Array, Key
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxnet

SEEDS, RATES, WIDTHS = 4, np.logspace(-4, 0, 12), [8, 32, 128]

images, labels = load_digits(return_X_y=True)
split = train_test_split(images / 16, labels, test_size=0.25, random_state=0)
train_images, test_images = (jnp.asarray(part, jnp.float32) for part in split[:2])
train_labels, test_labels = (jnp.asarray(part, jnp.int32) for part in split[2:])


def run(rate: Array, key: Key[Array, ""], width: int) -> Array:
    """Train one network. The width is structural, as it decides the shapes of the weights."""
    network = jaxnet.mlp([64, width, 10], activation=jaxnet.relu)
    state, _ = jaxnet.train(
        network,
        jaxnet.softmax_cross_entropy,
        jaxnet.adam(rate),
        (train_images, train_labels),
        key=key,
        epochs=20,
        batch_size=64,
    )
    outputs = network.apply(state.parameters, test_images)
    return 1 - jaxnet.accuracy(outputs, test_labels).mean()


def train_all(folder: str, part: tuple[int, int] | None = None) -> jaxnet.Sweep:
    """Train all networks, or load what is in the folder and train the others."""
    grid = {"rate": RATES, "key": jax.random.split(jax.random.key(0), SEEDS)}
    return jaxnet.sweep(run, grid, structural={"width": WIDTHS}, folder=folder, part=part)


def draw(scores: pandas.DataFrame, path: str) -> None:
    """Plot the mean and the standard error over the seeds against the rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for width, part in scores.groupby("width"):
        rates = part.index.get_level_values("rate")
        axes.errorbar(rates, part["mean"], part["sem"], marker="o", markersize=4, label=str(width))
    axes.set(xscale="log", yscale="log", xlabel="learning rate of Adam")
    axes.set_ylabel("error on unseen digits")
    axes.set_title(f"Mean and standard error over {SEEDS} seeds")
    axes.legend(title="width")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train all networks, print a table, and draw a picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture", default="many_networks.png")
    parser.add_argument("--folder", default="many_networks")
    parser.add_argument("--part", nargs=2, type=int, metavar=("NUMBER", "PARTS"))
    arguments = parser.parse_args()
    found = train_all(arguments.folder, arguments.part and tuple(arguments.part))
    if not found.done.all():
        print(f"{found.done.sum()} of {found.done.size} networks are trained")
        return
    table = found.table().rename(columns={"result": "error"})
    scores = table.groupby(["width", "rate"])["error"].agg(["mean", "sem"])
    best = scores["mean"].unstack("width").idxmin()
    for width, rate in best.items():
        mean, sem = scores.loc[(width, rate)]
        print(f"width {width:3}: error {mean:.3f} +- {sem:.3f} with the best rate, {rate:.2g}")
    draw(scores, arguments.picture)


if __name__ == "__main__":
    main()
