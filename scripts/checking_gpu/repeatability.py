"""Whether a run has the same bits again: in another process, and after an interruption.

The child trains two networks with `fit`, dropout and validation, with a checkpoint of every epoch,
and prints the digests of the states that they end with, and the epochs that were made before.
"""

import hashlib
import json
import pathlib
import sys
import tempfile
import time
from typing import Any, NamedTuple

import numpy as np

from checking_gpu.children import DETERMINISTIC, Setting, ask, with_flag
from checking_gpu.outcome import Outcome


class Run(NamedTuple):
    """What is trained: the sizes of an mlp, and how many examples, epochs and rows in a batch."""

    sizes: tuple[int, ...]
    examples: int
    epochs: int
    batch_size: int


RUNS = {
    "small": Run((64, 128, 64, 10), 2000, 20, 64),
    "large": Run((784, 512, 512, 10), 20000, 6, 500),
}
REDUCED = {"small": Run((8, 3), 80, 4, 16)}

TEXT = (
    "With `{flag}`, SHA-256 of the final state of `fit` with dropout, Adam and validation, for "
    "{runs}: {verdicts}."
)


def check(setting: Setting, seconds: float) -> Outcome:
    """Compares two processes with each other, and with a run that two more processes share."""
    runs, end = REDUCED if setting.reduced else RUNS, time.monotonic() + seconds

    def train(folder: pathlib.Path, part: str = "whole", flag: str = DETERMINISTIC) -> Any:
        environment = {"XLA_FLAGS": with_flag(flag)}
        if setting.reduced:  # a GPU compiles anew, since it may choose other kernels then
            environment["JAX_COMPILATION_CACHE_DIR"] = str(folder.parent / "programs")
            environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        arguments = "reduced" if setting.reduced else "full", part, folder
        return ask(setting, end - time.monotonic(), "repeatability", *arguments, **environment)

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        whole, again = (train(folder / part) for part in ("first", "second"))
        train(folder / "halves", "half")
        resumed = train(folder / "halves")
        loose = [] if setting.reduced else [train(folder / part, flag="") for part in ("a", "b")]
    verdicts, passed = [], True
    for run in runs:
        equal = whole["digests"][run] == again["digests"][run]
        exact = whole["digests"][run] == resumed["digests"][run]
        halfway = resumed["done"][run] == runs[run].epochs // 2
        passed &= equal and exact and halfway
        verdicts.append(f"{run} network, {_equal(equal)} in another process")
        verdicts.append(f"{_equal(exact)} when resumed after {resumed['done'][run]} epochs")
    shapes = "; ".join(f"{run}, {'-'.join(map(str, runs[run].sizes))}" for run in runs)
    text = TEXT.format(flag=DETERMINISTIC, runs=shapes, verdicts="; ".join(verdicts))
    if loose:
        same = loose[0]["digests"] == loose[1]["digests"]
        text += f" Without the flag, a run in another process has {_equal(same)}."
    return Outcome(text, passed)


def _equal(same: bool) -> str:
    return "the same bits" if same else "OTHER BITS"


# The child.


def train(run: Run, epochs: int, folder: pathlib.Path) -> tuple[str, int]:
    """Trains up to an epoch, and returns the digest and the epochs that were made before."""
    import jax

    import jaxnet

    random = np.random.default_rng(0)
    inputs = random.normal(size=(run.examples, run.sizes[0])).astype(np.float32)
    labels = random.integers(run.sizes[-1], size=run.examples)
    held_out = run.examples // 5
    layers = [jaxnet.dropout(0.1), jaxnet.mlp(list(run.sizes))]
    made: list[int] = []
    fitted = jaxnet.fit(
        jaxnet.serial(*layers),
        jaxnet.softmax_cross_entropy,
        jaxnet.adam(0.001),
        (inputs[held_out:], labels[held_out:]),
        key=jax.random.key(0),
        epochs=epochs,
        batch_size=run.batch_size,
        validation=(inputs[:held_out], labels[:held_out]),
        on_epoch=lambda epoch, *_: made.append(epoch),
        progress=False,
        checkpoints=jaxnet.Checkpoints(folder, every=1),
    )
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((fitted.state, fitted.history)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest(), epochs - len(made)


def main(size: str, part: str, folder: str) -> None:
    found: dict[str, dict[str, Any]] = {"digests": {}, "done": {}}
    for name, run in (REDUCED if size == "reduced" else RUNS).items():
        epochs = run.epochs if part == "whole" else run.epochs // 2
        path = pathlib.Path(folder, name)
        path.parent.mkdir(exist_ok=True)
        found["digests"][name], found["done"][name] = train(run, epochs, path)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
