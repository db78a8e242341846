"""How much successive halving saves: against the whole sweep, and against scikit-learn's search.

The sweep: 1,024 random rates, decays and seeds of AdamW for a task of `jaxnet.ranking`. All are
trained to the end by `sweep`, or in 5 rungs of 1, 3, 9, 27 and 81 parts by `halve`. The best of
each is trained again with 16 other seeds, on the same data, and its cost on the test data measured.

The search: rate, decay, width (16 or 128) and depth (1 to 3) of a network for a table, a fifth of
whose rows is held out. `halve` and scikit-learn's HalvingRandomSearchCV train the same number of
configurations in rungs of 3, 12, 48 and 192 epochs, of which a quarter goes on, in batches of 200
with Adam. Both choose by one validation set, a fifth of the other rows, and train the best
configuration on all of these rows in the end. scikit-learn starts each rung anew. Of jaxnet, the
mean prediction of all finalists is measured too. The error is the RMSE over the deviation, or the
log loss.

Everything is measured once, in a process of its own, with everything that is compiled. CPU seconds
count, since both contenders of a pair do about the same on more cores.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

TASKS = {"digits": 1, "fruit": 3, "diabetes": 6}  # epochs in one of 81 parts
PARTS, MEMBERS, SEEDS = (1, 3, 9, 27, 81), 1024, 16
TABLES, CONFIGURATIONS = ("concrete", "hpc"), (256, 1000)
EPOCHS, FACTOR, BATCH, SHARE = (3, 12, 48, 192), 4, 200, 0.2
WIDTHS, DEPTHS = (16, 128), (1, 2, 3)


def measure(quick: bool) -> dict[str, Any]:
    """All results, by what was compared with what."""
    tasks = list(TASKS)[:1] if quick else list(TASKS)
    searches = [(t, n) for n in CONFIGURATIONS for t in TABLES]
    searches = searches[:1] if quick else searches
    hidden, found = not sys.stderr.isatty(), {"sweep": {}, "search": {}}
    with tqdm(total=2 * len(tasks) + 2 * len(searches), leave=False, disable=hidden) as bar:
        for task in tasks:
            halved, swept = (_ask(bar, name, task) for name in ("halve", "sweep"))
            again = _ask(None, "retrain", task, halved["best"], swept["best"])
            found["sweep"][task] = {"halve": halved, "sweep": swept, "again": again}
        for table, number in searches:
            results = {name: _ask(bar, name, table, number) for name in ("jaxnet", "scikit-learn")}
            found["search"][f"{table}, {number:,}"] = results
    return found


def _ask(bar: tqdm | None, *words: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    folder = pathlib.Path(__file__).parents[1]
    done = subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.PIPE, check=True)
    if bar is not None:
        bar.update()
    return json.loads(done.stdout)


def _timed(function: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    start, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}


# The sweep.


def _draw(number: int, seed: int) -> dict[str, Any]:
    """Random hyperparameters, uniform in their logarithms."""
    random = np.random.default_rng(seed)
    return {
        "rate": np.exp(random.uniform(np.log(1e-4), np.log(0.1), number)),
        "decay": np.exp(random.uniform(np.log(1e-4), np.log(1.0), number)),
    }


def _task(name: str) -> Any:
    from jaxnet.ranking.tasks import standard_tasks

    return next(task for task in standard_tasks() if task.name == name)


def _train(task: Any, rate: Any, decay: Any, key: Any, held_out: Any, **options: Any) -> Any:
    import jaxnet

    return jaxnet.train(
        task.network,
        task.loss,
        jaxnet.adamw(rate, weight_decay=decay),
        task.train,
        key=key,
        batch_size=task.batch_size,
        validation=held_out,
        **options,
    )


def _members() -> dict[str, Any]:
    import jax

    return {**_draw(MEMBERS, 0), "key": jax.random.split(jax.random.key(0), MEMBERS)}


def sweep(name: str) -> dict[str, Any]:
    import jaxnet

    task, epochs = _task(name), TASKS[name] * PARTS[-1]

    def run(rate, decay, key):
        _, history = _train(task, rate, decay, key, task.validation, epochs=epochs)
        return history["validation_cost"][-1]

    found, times = _timed(lambda: jaxnet.sweep(run, _members(), zipped=True))
    best = found.best(found.results)
    return {**times, "best": best.place[0], "score": float(best.results)}


def halve(name: str) -> dict[str, Any]:
    import jaxnet

    task = _task(name)

    def start(rate, decay, key):
        optimizer = jaxnet.adamw(rate, weight_decay=decay)
        return jaxnet.initial_state(task.network, optimizer, key=key)

    def run(state, rate, decay, key):
        state, _ = _train(task, rate, decay, key, None, epochs=TASKS[name], state=state)
        outputs = task.network.apply(state.parameters, task.validation.inputs)
        return state, task.loss(outputs, task.validation.targets).mean()

    found, times = _timed(lambda: jaxnet.halve(start, run, _members(), rungs=PARTS, zipped=True))
    return {**times, "best": found.best.place[0], "score": found.best.score}


def retrain(name: str, *numbers: str) -> dict[str, Any]:
    """The mean and deviation over seeds of the test costs of some members."""
    import jax

    import jaxnet

    task, members, epochs = _task(name), _members(), TASKS[name] * PARTS[-1]
    chosen = np.repeat([int(number) for number in numbers], SEEDS)
    keys = jax.random.split(jax.random.key(1), SEEDS)[np.tile(np.arange(SEEDS), len(numbers))]

    def run(rate, decay, key):
        _, history = _train(task, rate, decay, key, task.test, epochs=epochs)
        return history["validation_cost"][-1]

    grid = {"rate": members["rate"][chosen], "decay": members["decay"][chosen], "key": keys}
    costs = jaxnet.sweep(run, grid, zipped=True).results.reshape(len(numbers), SEEDS)
    return {"mean": costs.mean(1).tolist(), "deviation": costs.std(1, ddof=1).tolist()}


# The search.


def _table(name: str) -> tuple[Any, ...]:
    """Inputs and targets to search with, the same held out, and the number of classes or None."""
    from benchmarking import tables

    features, targets, kind = tables.load(name)
    features, others, targets, true = tables.divide(features, targets, kind, 0)
    encoder = tables.encoder().fit(features)
    features, others = (encoder.transform(x).astype(np.float32) for x in (features, others))
    if kind == "regression":
        mean, deviation = targets.mean(), targets.std()
        targets, true = (np.float32((y - mean) / deviation) for y in (targets, true))
        return features, targets, others, true, None
    classes, targets = np.unique(targets, return_inverse=True)
    true = np.searchsorted(classes, true)
    return features, targets.astype(np.int32), others, true, len(classes)


def _split() -> Any:
    from sklearn.model_selection import ShuffleSplit

    return ShuffleSplit(1, test_size=SHARE, random_state=0)


def _error(predicted: np.ndarray, true: np.ndarray, classes: int | None) -> float:
    if classes is None:
        return float(np.sqrt(np.mean((predicted - true) ** 2)))
    return float(-np.mean(np.log(np.maximum(predicted[np.arange(len(true)), true], 1e-7))))


def jaxnet_search(name: str, configurations: str) -> dict[str, Any]:
    import jax
    from jax.scipy.special import logsumexp

    import jaxnet

    features, targets, others, true, classes = _table(name)
    train, held_out = next(_split().split(features))
    targets = targets[:, None] if classes is None else targets
    rows = jax.tree.map(jax.numpy.asarray, (features, targets))
    data, validation = (
        jax.tree.map(lambda a, some=some: a[some], rows) for some in (train, held_out)
    )
    loss = jaxnet.squared_error if classes is None else jaxnet.softmax_cross_entropy

    def make(width, depth, rate, decay):
        network = jaxnet.mlp([features.shape[1], *[width] * depth, classes or 1])
        return network, jaxnet.adamw(rate, weight_decay=decay)

    def advance(data, epochs, state, key, **choices):
        network, optimizer = make(**choices)
        options = {"epochs": epochs, "batch_size": BATCH, "state": state}
        return jaxnet.train(network, loss, optimizer, data, key=key, **options)[0]

    def start(key, **choices):
        return jaxnet.initial_state(*make(**choices), key=key)

    def run(state, key, **choices):
        state = advance(data, 1, state, key, **choices)
        outputs = make(**choices)[0].apply(state.parameters, validation[0])
        return state, loss(outputs, validation[1]).mean()

    def predict(state, key, **choices):
        outputs = make(**choices)[0].apply(state.parameters, jax.numpy.asarray(others))
        if classes is None:
            return np.asarray(outputs)[:, 0]
        return np.exp(np.asarray(outputs - logsumexp(outputs, -1, keepdims=True)))

    def search():
        number = -(-int(configurations) // (len(WIDTHS) * len(DEPTHS)))
        keys = jax.random.split(jax.random.key(0), number)
        grid, structural = {**_draw(number, 0), "key": keys}, {"width": WIDTHS, "depth": DEPTHS}
        options = {"rungs": EPOCHS, "factor": FACTOR, "structural": structural, "zipped": True}
        found = jaxnet.halve(start, run, grid, **options)
        best = dict(found.best.hyperparameters)
        shape = {name: best.pop(name) for name in structural}
        again = jax.jit(functools.partial(advance, rows, EPOCHS[-1], None, **shape))(**best)
        finalists = [predict(member.state, **member.hyperparameters) for member in found.finalists]
        return predict(again, **shape, **best), np.mean(finalists, 0)

    (again, mean), times = _timed(search)
    errors = {
        "error": _error(again, true, classes),
        "error of the mean": _error(mean, true, classes),
    }
    return {**times, **errors}


def scikit_learn_search(name: str, configurations: str) -> dict[str, Any]:
    import warnings

    from scipy.stats import loguniform
    from sklearn.experimental import enable_halving_search_cv
    from sklearn.model_selection import HalvingRandomSearchCV
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    assert enable_halving_search_cv
    features, targets, others, true, classes = _table(name)
    model = MLPRegressor if classes is None else MLPClassifier
    scoring = "neg_mean_squared_error" if classes is None else "neg_log_loss"
    space = {
        "hidden_layer_sizes": [(width,) * depth for width in WIDTHS for depth in DEPTHS],
        "learning_rate_init": loguniform(1e-4, 0.1),
        "alpha": loguniform(1e-6, 1.0),
    }
    search = HalvingRandomSearchCV(
        model(batch_size=BATCH, n_iter_no_change=EPOCHS[-1], random_state=0),
        space,
        n_candidates=int(configurations),
        factor=FACTOR,
        resource="max_iter",
        min_resources=EPOCHS[0],
        max_resources=EPOCHS[-1],
        cv=_split(),
        scoring=scoring,
        random_state=0,
    )

    def fit():
        with warnings.catch_warnings(action="ignore"):  # that it has not converged, or diverged
            search.fit(features, targets)
        return search.predict(others) if classes is None else search.predict_proba(others)

    predicted, times = _timed(fit)
    return {**times, "error": _error(predicted, true, classes)}


ANSWERS = {
    "sweep": sweep,
    "halve": halve,
    "retrain": retrain,
    "jaxnet": jaxnet_search,
    "scikit-learn": scikit_learn_search,
}

if __name__ == "__main__":
    print(json.dumps(ANSWERS[sys.argv[1]](*sys.argv[2:])))
