"""Workloads: what is trained, on what, for how long, and how good the result is.

All of it is NumPy, so that every contender starts from the same arrays and is judged by the same
function, whatever it is made of.
"""

import importlib.util
import itertools
import os
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np

Weights = list[tuple[np.ndarray, np.ndarray]]
"""For each layer: weights [inputs, outputs] and biases [outputs]."""


class Workload(NamedTuple):
    """What is trained; the title says it in words."""

    name: str
    title: str
    data: str  # "teacher", "digits", "random", "memmap" or "regression"
    examples: int
    sizes: tuple[int, ...]
    batch_size: int
    epochs: int
    optimizer: str = "adam"  # or "momentum"
    rate: float = 0.001
    networks: int = 1

    @property
    def classifies(self) -> bool:
        return self.data != "regression"

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.examples // self.batch_size)

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def products(self) -> float:
        """Floating-point operations of the matrix products of a whole run."""
        pairs = list(itertools.pairwise(self.sizes))
        first = pairs[0][0] * pairs[0][1]
        multiplications = 3 * sum(i * o for i, o in pairs) - first  # no gradient of the inputs
        return 2.0 * multiplications * self.batch_size * self.steps * self.networks


class Task(NamedTuple):
    """A workload with its arrays; of every network the starting weights and learning rate."""

    workload: Workload
    inputs: np.ndarray
    targets: np.ndarray
    starts: list[Weights]
    rates: list[float]


def workloads(quick: bool) -> list[Workload]:
    """All workloads; quick ones are smaller."""
    w1 = Workload("W1", "", "teacher", 1024, (10, 16, 16, 3), 32, 10 if quick else 100)
    w2 = Workload("W2", "", "digits", 1797, (64, 128, 64, 10), 64, 10 if quick else 50)
    w3 = Workload(
        "W3", "", "random", 60_000, (784, 512, 512, 10), 128, 2, optimizer="momentum", rate=0.01
    )
    w4 = Workload("W4", "", "regression", 4096, (1024, 2048, 2048, 1024), 1024, 5)
    w5 = Workload("W5 x64", "", "digits", 1797, (64, 32, 10), 64, 10, networks=64)
    if quick:
        w3 = w3._replace(examples=6000, epochs=1)
        w4 = w4._replace(examples=1024, sizes=(512, 1024, 1024, 512), batch_size=256, epochs=2)
        w5 = w5._replace(epochs=1)
    mapped, many = {"name": "W3 memmap", "data": "memmap"}, {"name": "W5 x256", "networks": 256}
    chosen = [w1, w2, w3, w3._replace(**mapped), w4, w5, w5._replace(**many)]
    return [workload._replace(title=_title(workload)) for workload in chosen]


def _title(w: Workload) -> str:
    origin = {
        "teacher": "labels of a random network",
        "digits": "scikit-learn's digits",
        "random": "random numbers and labels",
        "memmap": "random numbers and labels, inputs in a file mapped into memory",
        "regression": "random regression, mean squared error",
    }[w.data]
    net = "-".join(map(str, w.sizes))
    many = f"{w.networks} networks, each with its own seed and rate, " if w.networks > 1 else ""
    return (
        f"{many}{net}, on {w.examples:,} x {w.sizes[0]} ({origin}), batch {w.batch_size:,}, "
        f"{w.optimizer}, {w.epochs} epochs, {w.steps:,} steps"
    )


def prepared(workload: Workload) -> Task:
    """The workload's arrays: the same on every call."""
    inputs, targets = _DATA[workload.data](workload, np.random.default_rng(0))
    starts = [_start(workload.sizes, seed) for seed in range(workload.networks)]
    rates = [workload.rate]
    if workload.networks > 1:
        rates = np.geomspace(0.0005, 0.005, workload.networks).tolist()
    return Task(workload, inputs, targets, starts, rates)


def shuffled(random: np.random.Generator, workload: Workload, epochs: int) -> np.ndarray:
    """Row numbers [epochs * steps, batch]; a last batch that is short ends with the first rows."""
    order = np.arange(workload.examples, dtype=np.int32)
    orders = random.permuted(np.broadcast_to(order, (epochs, workload.examples)), axis=1)
    per_epoch = workload.steps_per_epoch * workload.batch_size
    rows = np.concatenate([orders, orders[:, : per_epoch - workload.examples]], axis=1)
    return rows.reshape(-1, workload.batch_size)


def cost(task: Task, weights: Weights) -> float:
    """The mean loss over all examples, computed a thousand at a time."""
    total = 0.0
    for begin in range(0, task.workload.examples, 1000):
        outputs = task.inputs[begin : begin + 1000]
        for layer, (matrix, biases) in enumerate(weights):
            outputs = (np.maximum(outputs, 0) if layer else outputs) @ matrix + biases
        targets = task.targets[begin : begin + 1000]
        total += _losses(outputs.astype(np.float64), targets).sum()
    return total / task.workload.examples


def _losses(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if targets.ndim == 2:
        return np.square(outputs - targets).mean(axis=1)
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(shifted, targets[:, None], axis=1)[:, 0]
    return np.log(np.exp(shifted).sum(axis=1)) - chosen


def _start(sizes: tuple[int, ...], seed: int) -> Weights:
    """He's normal initialisation."""
    random = np.random.default_rng([1, seed])
    return [
        (
            random.normal(0, np.sqrt(2 / inputs), (inputs, outputs)).astype(np.float32),
            np.zeros(outputs, np.float32),
        )
        for inputs, outputs in itertools.pairwise(sizes)
    ]


def _inputs(w: Workload, random: np.random.Generator) -> np.ndarray:
    return random.standard_normal((w.examples, w.sizes[0]), dtype=np.float32)


def _labels(w: Workload, random: np.random.Generator) -> np.ndarray:
    return random.integers(w.sizes[-1], size=w.examples).astype(np.int32)


def _teacher(w: Workload, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    inputs = _inputs(w, random)
    hidden = np.tanh(inputs @ random.normal(size=(w.sizes[0], 32)))
    scores = hidden @ random.normal(size=(32, w.sizes[-1])) + random.gumbel(
        size=(w.examples, w.sizes[-1])
    )
    return inputs, scores.argmax(axis=1).astype(np.int32)


def _digits(w: Workload, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's file, read without its import, which would take seconds in every process."""
    package = importlib.util.find_spec("sklearn").submodule_search_locations[0]
    path = pathlib.Path(package) / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    return table[:, :-1] / 16, table[:, -1].astype(np.int32)


def _random(w: Workload, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return _inputs(w, random), _labels(w, random)


def _memmap(w: Workload, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As `_random`, written a thousand rows at a time; the file goes when the process ends."""
    shape = (w.examples, w.sizes[0])
    with tempfile.NamedTemporaryFile() as file:
        for begin in range(0, w.examples, 1000):
            part = w._replace(examples=min(1000, w.examples - begin))
            file.write(_inputs(part, random).tobytes())
        file.flush()
        os.fsync(file.fileno())
        inputs = np.memmap(file.name, np.float32, "r", shape=shape)
    return inputs, _labels(w, random)


def _regression(w: Workload, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    inputs = _inputs(w, random)
    mixing = random.normal(0, w.sizes[0] ** -0.5, (w.sizes[0], w.sizes[-1])).astype(np.float32)
    return inputs, np.tanh(inputs @ mixing)


_DATA = {
    "teacher": _teacher,
    "digits": _digits,
    "random": _random,
    "memmap": _memmap,
    "regression": _regression,
}
