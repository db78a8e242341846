"""Let Optuna choose learning rate and momentum, 16 trials at a time.

    python examples/search_optuna.py

Optuna proposes a batch of trials, one zipped sweep makes them side by side, and Optuna is told
their scores. All sweeps have the same size, so they share one compiled program.
"""

import jax
import jax.numpy as jnp
import optuna
from jaxtyping import Array, Key
from optuna.distributions import BaseDistribution, FloatDistribution
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxnet

BATCHES, TRIALS = 6, 16
SPACE: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "momentum": FloatDistribution(0.0, 0.99),
}

images, labels = load_digits(return_X_y=True)
split = train_test_split(images / 16, labels, test_size=0.25, random_state=0)
train_images, test_images = (jnp.asarray(part, jnp.float32) for part in split[:2])
train_labels, test_labels = (jnp.asarray(part, jnp.int32) for part in split[2:])
network = jaxnet.mlp([64, 32, 10], activation=jaxnet.relu)


def run(rate: Array, momentum: Array, key: Key[Array, ""]) -> Array:
    """Train one network, and return its loss on the held-out digits."""
    _, history = jaxnet.train(
        network,
        jaxnet.softmax_cross_entropy,
        jaxnet.sgd(rate, momentum=momentum),
        (train_images, train_labels),
        key=key,
        epochs=10,
        batch_size=64,
        validation=(test_images, test_labels),
    )
    return history["validation_cost"][-1]


def main() -> None:
    """Make all trials, and print the best one."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    for batch_key in jax.random.split(jax.random.key(0), BATCHES):
        trials = [study.ask(SPACE) for _ in range(TRIALS)]
        grid = {name: [trial.params[name] for trial in trials] for name in SPACE}
        keys = jax.random.split(batch_key, TRIALS)
        found = jaxnet.sweep(run, {**grid, "key": keys}, zipped=True)
        for trial, loss, diverged in zip(trials, found.results, found.diverged, strict=True):
            if diverged:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, float(loss))
    print(f"{len(study.trials)} trials; the lowest loss is {study.best_value:.3f} with")
    for name, value in study.best_params.items():
        print(f"{name:10} {value:.3g}")


if __name__ == "__main__":
    main()
