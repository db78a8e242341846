"""How long a first result takes: a process that has imported a library, up to its predictions.

    fruit       examples/fruit.csv, 480 rows to train on and 120 to predict
    penguins    275 and 69 rows
    credit      3,563 and 891 rows
    five folds  a cross-validation of the penguins, whose folds differ by a row

Everyone trains the same network, in-32-32-out, with Adam, in batches of 32 and for 50 epochs, on
the same encoded columns. In "jaxnet, cache" another process has made the same call before, with
JAX's cache on disk.
"""

import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from benchmarking import tables

Fold = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # inputs, labels; to predict, true

TASKS = {"fruit": "fruit", "penguins": "penguins", "credit": "credit", "five folds": "penguins"}
HIDDEN, RATE, BATCH, EPOCHS = (32, 32), 0.001, 32, 50


def make_folds(task: str) -> list[Fold]:
    """The encoded columns and labels of a task."""
    features, targets, _ = tables.load(TASKS[task])
    labels = np.unique(targets, return_inverse=True)[1].astype(np.int32)
    splits = list(StratifiedKFold(5, shuffle=True, random_state=0).split(features, labels))
    folds = []
    for train, test in splits if task == "five folds" else splits[:1]:
        encoder = tables.encoder().fit(features.iloc[train])
        inputs, others = (
            encoder.transform(features.iloc[rows]).astype(np.float32) for rows in (train, test)
        )
        folds.append((inputs, labels[train], others, labels[test]))
    return folds


# Contenders: a function that imports a library and returns one from a fold to predicted classes.


def jaxnet_fit() -> Callable[[Fold], np.ndarray]:
    import jax

    import jaxnet

    def predict(fold: Fold) -> np.ndarray:
        inputs, labels, others, _ = fold
        network = jaxnet.mlp([inputs.shape[1], *HIDDEN, int(labels.max()) + 1])
        run = jaxnet.fit(
            network,
            jaxnet.softmax_cross_entropy,
            jaxnet.adam(RATE),
            (inputs, labels),
            key=jax.random.key(0),
            epochs=EPOCHS,
            batch_size=BATCH,
        )
        return np.asarray(jaxnet.predict(network, run.parameters, others)).argmax(1)

    return predict


def scikit_learn() -> Callable[[Fold], np.ndarray]:
    import warnings

    from sklearn.neural_network import MLPClassifier

    def predict(fold: Fold) -> np.ndarray:
        inputs, labels, others, _ = fold
        model = MLPClassifier(
            HIDDEN,
            alpha=0,
            learning_rate_init=RATE,
            batch_size=BATCH,
            max_iter=EPOCHS,
            n_iter_no_change=EPOCHS,
            random_state=0,
        )
        with warnings.catch_warnings(action="ignore"):  # that it has not converged
            return model.fit(inputs, labels).predict(others)

    return predict


def pytorch() -> Callable[[Fold], np.ndarray]:
    import torch
    import torch._dynamo  # which the first optimizer imports

    from benchmarking.peers import torch_network

    def predict(fold: Fold) -> np.ndarray:
        inputs, labels, others, _ = fold
        torch.manual_seed(0)
        network = torch_network((inputs.shape[1], *HIDDEN, int(labels.max()) + 1))
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
        x, y = torch.tensor(inputs), torch.tensor(labels.astype(np.int64))
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
                optimizer.step()
        with torch.no_grad():
            return network(torch.tensor(others)).argmax(1).numpy()

    return predict


def keras() -> Callable[[Fold], np.ndarray]:
    import keras

    def predict(fold: Fold) -> np.ndarray:
        inputs, labels, others, _ = fold
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(size, activation="relu") for size in HIDDEN]
        last = keras.layers.Dense(int(labels.max()) + 1)
        model = keras.Sequential([keras.Input(inputs.shape[1:]), *layers, last])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(RATE), loss)
        model.fit(inputs, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
        return model.predict(others, verbose=0).argmax(1)

    return predict


CONTENDERS = {
    "jaxnet": jaxnet_fit,
    "jaxnet, cache": jaxnet_fit,
    "scikit-learn MLP": scikit_learn,
    "PyTorch": pytorch,
    "Keras": keras,
}


def answer(contender: str, task: str) -> None:
    """Prints the seconds, CPU seconds and accuracy of one contender at one task."""
    folds, predict = make_folds(task), CONTENDERS[contender]()
    start, cpu = time.perf_counter(), time.process_time()
    predicted = [predict(fold) for fold in folds]
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    right = [(mine == fold[-1]).mean() for mine, fold in zip(predicted, folds, strict=True)]
    print(json.dumps({"seconds": seconds, "cpu": cpu, "accuracy": float(np.mean(right))}))


def measure(repeats: int) -> dict[str, dict[str, dict[str, Any]]]:
    """The medians of every contender at every task, or why it failed; contenders take turns."""
    answers: dict[tuple[str, str], list[dict[str, Any]]] = {}
    cells = list(itertools.product(TASKS, range(repeats), CONTENDERS))
    hidden = not sys.stderr.isatty()
    with tempfile.TemporaryDirectory() as folder:
        for task, _, contender in tqdm(cells, delay=1, leave=False, disable=hidden):
            cache = os.path.join(folder, task) if contender == "jaxnet, cache" else None
            if cache and not os.path.exists(cache):
                _ask(contender, task, cache)
            answers.setdefault((contender, task), []).append(_ask(contender, task, cache))
    return {name: {task: _conclude(answers[name, task]) for task in TASKS} for name in CONTENDERS}


def _conclude(answers: list[dict[str, Any]]) -> dict[str, Any]:
    failed = [each for each in answers if "failed" in each]
    if failed:
        return failed[0]
    return {name: statistics.median(each[name] for each in answers) for name in answers[0]}


def _ask(contender: str, task: str, cache: str | None) -> dict[str, Any]:
    settings = {"KERAS_BACKEND": "jax"}
    if cache:
        settings["JAX_COMPILATION_CACHE_DIR"] = cache
        settings["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, "-m", __spec__.name, contender, task]
    folder, environment = pathlib.Path(__file__).parents[1], os.environ | settings
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        return {"failed": (done.stderr.splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout)


if __name__ == "__main__":
    answer(*sys.argv[1:])
