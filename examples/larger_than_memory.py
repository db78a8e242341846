"""Train on data larger than memory: a script for arrays in memory, with one line changed.

    python examples/larger_than_memory.py [--rows 20000] [--from memory|file|iterator]

The rows are written to a temporary file first, some at a time. `memory` loads the file; `file`
reads it in blocks of some megabytes, one ahead of the training; `iterator` takes batches from an
iterator that can report and restore its position, as those of grain can. A million rows are
256 MB, and ten million still train in the memory of a few blocks.
"""

import argparse
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np

import jaxnet

FEATURES, BATCH = 64, 128


def write(folder: pathlib.Path, rows: int) -> None:
    """Write random inputs, and labels that a random network gives them."""
    random = np.random.default_rng(0)
    network = jaxnet.mlp([FEATURES, 32, 10])
    teacher = network.init(jax.random.key(1))
    shape = {"inputs": ((rows, FEATURES), np.float32), "labels": ((rows,), np.int32)}
    inputs, labels = (
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, size)
        for name, (size, dtype) in shape.items()
    )
    for start in range(0, rows, 10_000):
        part = random.standard_normal((min(10_000, rows - start), FEATURES), dtype=np.float32)
        inputs[start : start + 10_000] = part
        labels[start : start + 10_000] = np.argmax(jaxnet.predict(network, teacher, part), axis=1)


class Batches:
    """Batches of random rows, in a new order in every epoch.

    A position is the number of batches before it. The iterators of grain report and restore theirs
    by the same methods, so `iter(dataset.shuffle(0).repeat().batch(128))` goes in this place.
    """

    def __init__(self, inputs: Any, labels: Any) -> None:
        self.inputs, self.labels, self.position = inputs, labels, 0

    def __next__(self) -> tuple[Any, Any]:
        epoch, batch = divmod(self.position, -(-len(self.inputs) // BATCH))
        order = np.random.default_rng(epoch).permutation(len(self.inputs))
        rows = order[batch * BATCH : (batch + 1) * BATCH]
        self.position += 1
        return self.inputs[rows], self.labels[rows]

    def get_state(self) -> int:
        return self.position

    def set_state(self, state: int) -> None:
        self.position = state


def open_data(source: str, inputs: pathlib.Path, labels: pathlib.Path) -> Any:
    """Return the data of a run: this is the line that differs."""
    match source:
        case "memory":
            return np.load(inputs), np.load(labels)
        case "file":
            return jaxnet.numpy_stream(inputs, labels)
    batches = Batches(np.load(inputs, mmap_mode="r"), np.load(labels, mmap_mode="r"))
    return jaxnet.BatchStream(batches, -(-len(batches.inputs) // BATCH))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--from", dest="source", default="file", choices=SOURCES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write(folder, arguments.rows)
        data = open_data(arguments.source, folder / "inputs.npy", folder / "labels.npy")
        run = jaxnet.fit(
            jaxnet.mlp([FEATURES, 64, 10]),
            jaxnet.softmax_cross_entropy,
            jaxnet.adam(0.003),
            data,
            key=jax.random.key(0),
            epochs=3,
            batch_size=BATCH,
            metrics={"accuracy": jaxnet.accuracy},
        )
    print(f"{arguments.rows} rows from {arguments.source}")
    print(f"accuracy in the last epoch: {run.history['accuracy'][-1]:.3f}")


SOURCES = ["memory", "file", "iterator"]

if __name__ == "__main__":
    main()
