"""Write your own training loop, use optimizers of optax, and make many runs in one program.

    python examples/custom_loop.py

Optimizers of jaxnet and optax have the same interface. The first part puts jaxnet's Adam in an
optax chain, and a Python loop makes each step. The second part gives optax's AdaBelief to
`jaxnet.train`, and one compiled program makes the runs for 3 seeds and 4 learning rates.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxnet

EPOCHS = 20
BATCH_SIZE = 64
NETWORK = jaxnet.mlp([64, 64, 10])
LOSS = jaxnet.softmax_cross_entropy

Split = tuple[jax.Array, jax.Array]  # inputs and labels


def load() -> tuple[Split, Split]:
    """Load handwritten digits for training and others for testing."""
    pixels, digits = load_digits(return_X_y=True)
    inputs, held_out, labels, held_out_labels = (
        jnp.asarray(part)
        for part in train_test_split(
            pixels / 16, digits, test_size=0.25, stratify=digits, random_state=0
        )
    )
    return (inputs, labels), (held_out, held_out_labels)


def batches(data: Split, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the batches of one epoch in random order, without an incomplete last batch."""
    inputs, labels = np.asarray(data[0]), np.asarray(data[1])
    order = np.random.default_rng(seed).permutation(len(inputs))
    for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        yield inputs[rows], labels[rows]


def train_step_by_step(data: Split) -> jaxnet.TrainState:
    """Train with Adam and clipped gradients, and print the cost every 5 epochs."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), jaxnet.adam(0.003))
    step = jax.jit(jaxnet.make_step(NETWORK, LOSS, optimizer))
    state = jaxnet.initial_state(NETWORK, optimizer, key=jax.random.key(0))
    for epoch in range(EPOCHS):
        for batch in batches(data, seed=epoch):
            state, metrics = step(state, batch)
        if epoch % 5 == 4:
            print(f"  epoch {epoch + 1:2}: cost of the last batch {metrics['cost']:.3f}")
    return state


def accuracy(parameters: object, data: Split) -> jax.Array:
    return jaxnet.evaluate(NETWORK, parameters, data, {"accuracy": jaxnet.accuracy})["accuracy"]


def main() -> None:
    data, held_out = load()

    print("jaxnet's Adam after optax's clipping, in a Python loop:")
    state = train_step_by_step(data)
    print(f"  held-out accuracy {accuracy(state.parameters, held_out):.3f}")

    def run(key: jax.Array, rate: jax.Array) -> jax.Array:
        """Train and return the held-out accuracy: a pure function for vmap and jit."""
        optimizer = optax.adabelief(rate)
        state, _ = jaxnet.train(
            NETWORK, LOSS, optimizer, data, key=key, epochs=EPOCHS, batch_size=BATCH_SIZE
        )
        return accuracy(state.parameters, held_out)

    keys = jax.random.split(jax.random.key(1), 3)
    rates = jnp.array([0.0001, 0.001, 0.01, 0.1])
    over_rates = jax.vmap(run, in_axes=(None, 0))
    table = jax.jit(jax.vmap(over_rates, in_axes=(0, None)))(keys, rates)
    print("optax's AdaBelief in jaxnet.train, 12 runs in one program, held-out accuracy:")
    print("  rate  " + "".join(f"{rate:8g}" for rate in rates))
    for seed, row in enumerate(table):
        print(f"  seed {seed}" + "".join(f"{value:8.3f}" for value in row))


if __name__ == "__main__":
    main()
