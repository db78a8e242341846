"""The runs of one contender on one task: random trials, then the best of them with fresh seeds.

All runs are calls of `sweep` with one compiled program: hyperparameters and keys are its arguments,
and so are the data and the schedule, which the program captures. So the runs with fresh seeds
compile nothing, nor does the same optimizer with another schedule.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from jaxnet.core import checks
from jaxnet.core.programs import fingerprint
from jaxnet.nn.losses import weighted_mean
from jaxnet.ranking.contenders import Contender, draw_trials, evaluate_schedule
from jaxnet.ranking.tasks import Task
from jaxnet.sweeping.sweep import sweep
from jaxnet.training.data import Data
from jaxnet.training.train import train

GROUPS = 4
"""The trials are dealt into groups. Each is a tuning of its own, with fewer trials."""


class Outcome(NamedTuple):
    """What is measured of one contender on one task. A diverged run has the loss infinity.

    Attributes:
        hyperparameters: of each trial, by name.
        validation: the lowest validation loss of each trial.
        best: the number of the best trial by validation, the first of equal ones.
        winners: the numbers of the best trials of the groups; one of them is `best`.
        test: the test losses of the winners' runs with fresh seeds, at the epoch with the lowest
            validation loss. Infinite if the trial diverged.
        history: the validation loss after each epoch of the best trial's runs with fresh seeds.
        seconds: the time of a step of one run, where all runs of a sweep share the processor.
            Another call measures another number.
    """

    hyperparameters: dict[str, Float[np.ndarray, " trials"]]
    validation: Float[np.ndarray, " trials"]
    best: int
    winners: tuple[int, ...]
    test: Float[np.ndarray, "groups seeds"]
    history: Float[np.ndarray, "seeds epochs"]
    seconds: float

    @property
    def losses(self) -> Float[np.ndarray, " seeds"]:
        """The test losses of the best trial's runs with fresh seeds."""
        return self.test[self.winners.index(self.best)]


def make_outcome(
    contender: Contender, task: Task, key: Key[Array, ""], trials: int, seeds: int
) -> Outcome:
    """Makes all runs of a contender on a task.

    The initial parameters and the batches of a trial or seed are the same for all contenders.
    """
    draw, try_, seed = jax.random.split(jax.random.clone(key), 3)
    values = draw_trials(contender, draw, trials)
    run = _make_run(contender, task)
    validation, _ = _sweep(run, jax.random.split(try_, trials), values)
    scores = validation.min(axis=1)
    groups = np.array_split(np.arange(trials), GROUPS)
    winners = tuple(int(group[scores[group].argmin()]) for group in groups)
    best = int(scores.argmin())

    # As many runs at a time as there are trials, so that they share the compiled program.
    rows = np.repeat(winners, seeds)
    keys = jnp.tile(jax.random.split(seed, seeds), GROUPS)
    history: list[Any] = []
    test: list[Any] = []
    start = time.perf_counter()
    for i in range(0, len(rows), trials):
        part = np.minimum(np.arange(i, i + trials), len(rows) - 1)
        again = {name: value[rows[part]] for name, value in values.items()}
        for whole, some in zip((history, test), _sweep(run, keys[part], again), strict=True):
            whole.extend(some)
    seconds = (time.perf_counter() - start) / (len(history) * task.steps)

    shape = GROUPS, seeds
    losses = np.array(test[: len(rows)]).reshape(shape)
    losses[np.isinf(scores[list(winners)])] = np.inf
    lowest = min(scores.min(), losses.min())
    if lowest < 0:
        raise checks.InvalidValue(
            f"expected losses of at least 0 on task {task.name!r}, since ratios of them are "
            f"compared. Received: {lowest:.6g}"
        )
    place = winners.index(best) * seeds
    curves = np.array(history[place : place + seeds])
    return Outcome(values, scores, best, winners, losses, curves, seconds)


def hash_run(contender: Contender, task: Task) -> str:
    """The digest of the program of a run: of the network, the loss, the optimizer and the data."""
    run = _make_run(contender, task)
    values = dict.fromkeys(contender.space, np.float32(0.5))
    found = fingerprint(lambda key, values: run(key, **values), jax.random.key(0), values)
    assert found is not None
    return found.digest


def _make_run(contender: Contender, task: Task) -> Any:
    """Makes `run(key, **hyperparameters) -> (validation losses, test loss)`."""
    factors = jnp.asarray(evaluate_schedule(contender, task.steps))

    def run(key: Key[Array, ""], **hyperparameters: Array) -> tuple[Array, Array]:
        optimizer = optax.chain(
            contender.make(**hyperparameters),
            optax.scale_by_schedule(lambda step: factors[step]),
        )
        state, history = train(
            task.network,
            task.loss,
            optimizer,
            task.train,
            key=key,
            epochs=task.epochs,
            batch_size=task.batch_size,
            validation=task.validation,
        )
        assert state.best is not None
        test = Data(*task.test)
        losses = task.loss(task.network.apply(state.best.parameters, test.inputs), test.targets)
        return history["validation_cost"], weighted_mean(losses, test.weights)

    return run


def _sweep(
    run: Any, keys: Key[Array, " runs"], values: dict[str, Float[np.ndarray, " runs"]]
) -> tuple[Float[np.ndarray, "runs epochs"], Float[np.ndarray, " runs"]]:
    """Makes runs side by side. All losses of a diverged run are infinite."""
    found = sweep(run, {"key": keys, **values}, zipped=True, progress=False)
    if not found.done.all():
        raise KeyboardInterrupt
    history, test = (np.array(part, np.float64) for part in found.results)
    history[found.diverged] = test[found.diverged] = np.inf
    return history, test
