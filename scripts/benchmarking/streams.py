"""Training on a file larger than memory: 4 GB of rows, under a limit of 1 GB.

Everyone trains W3's network, 784-512-512-10, in batches of 128 with momentum. Everyone has a
process of its own, whose data may not exceed the limit (RLIMIT_DATA, which does not count the pages
of mapped files). The file is read once before, so that as much of it as fits is in the system's
cache.

    jaxnet train  on the first 60,000 rows, in memory: what a stream is compared with
    jaxnet fit    on a Stream of the whole file, three epochs
    PyTorch       a Dataset over the mapped file, for 60,000 random rows of it: a DataLoader with
                  the given number of worker processes, of single rows or of whole batches, as
                  `__getitems__` returns them
"""

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

SIZES, BATCH, RATE, CLASSES = (784, 512, 512, 10), 128, 0.01, 10
ROWS, LIMIT, EPOCHS = 1_280_000, 2**30, 3
PART = 60_000  # rows, in memory and of PyTorch


def write(folder: pathlib.Path, rows: int) -> None:
    """Writes random rows and labels, some at a time, and reads them once."""
    random = np.random.default_rng(0)
    shape = rows, SIZES[0]
    inputs = np.lib.format.open_memmap(folder / "inputs.npy", "w+", np.float32, shape)
    for start in range(0, rows, 10_000):
        part = inputs[start : start + 10_000]
        part[:] = random.standard_normal(part.shape, dtype=np.float32)
    inputs.flush()
    del inputs
    np.save(folder / "labels.npy", random.integers(CLASSES, size=rows).astype(np.int32))
    with open(folder / "inputs.npy", "rb") as file:
        while file.read(2**24):
            pass


def anonymous_megabytes() -> float:
    """The memory of this process that is no page of a file."""
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.partition("RssAnon:")[2].split()[0]) / 1024


# Contenders: each returns the seconds of every pass, its number of examples, and the memory after.

Result = dict[str, Any]


def jaxnet_train(folder: pathlib.Path) -> Result:
    import jax

    import jaxnet

    data = [jax.numpy.asarray(np.load(folder / f"{n}.npy", mmap_mode="r")[:PART]) for n in NAMES]
    network, optimizer = jaxnet.mlp(SIZES), jaxnet.sgd(RATE, momentum=0.9)

    @jax.jit
    def run(key, data):
        loss, options = jaxnet.softmax_cross_entropy, {"epochs": 1, "batch_size": BATCH}
        return jaxnet.train(network, loss, optimizer, data, key=key, **options)

    def train(seed: int) -> None:
        jax.block_until_ready(run(jax.random.key(seed), tuple(data)))

    return _time(train, len(data[0]), 1 + EPOCHS)


def jaxnet_fit(folder: pathlib.Path) -> Result:
    import jax

    import jaxnet

    stream = jaxnet.numpy_stream(*(folder / f"{name}.npy" for name in NAMES))
    network, optimizer = jaxnet.mlp(SIZES), jaxnet.sgd(RATE, momentum=0.9)
    times, megabytes = [time.perf_counter()], []

    def note(*_: Any) -> None:
        times.append(time.perf_counter())
        megabytes.append(anonymous_megabytes())

    options = {"epochs": EPOCHS, "batch_size": BATCH, "on_epoch": note, "progress": False}
    loss, key = jaxnet.softmax_cross_entropy, jax.random.key(0)
    jaxnet.fit(network, loss, optimizer, stream, key=key, **options)
    return {
        "seconds": np.diff(times).tolist(),
        "examples": stream.rows,
        "megabytes": megabytes,
    }


def pytorch(workers: int, batches: bool, folder: pathlib.Path) -> Result:
    import torch

    from benchmarking.peers import torch_network

    inputs, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES)

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return len(inputs)

        def __getitem__(self, i):
            return torch.tensor(inputs[i]), int(labels[i])

    class Batches(Rows):
        def __getitems__(self, rows):
            rows = np.sort(rows)  # which reads the file better
            return torch.from_numpy(inputs[rows]), torch.from_numpy(labels[rows]).long()

    torch.manual_seed(0)
    network = torch_network(SIZES)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, fused=True)
    dataset = Batches() if batches else Rows()
    sampler = torch.utils.data.RandomSampler(dataset, num_samples=PART)
    collate = (lambda batch: batch) if batches else None
    loader = torch.utils.data.DataLoader(
        dataset, BATCH, sampler=sampler, num_workers=workers, collate_fn=collate
    )

    def train(_: int) -> None:
        for x, y in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()

    return _time(train, PART, 2)


def _time(train: Callable[[int], None], examples: int, passes: int) -> Result:
    seconds, megabytes = [], []
    for number in range(passes):
        begin = time.perf_counter()
        train(number)
        seconds.append(time.perf_counter() - begin)
        megabytes.append(anonymous_megabytes())
    return {"seconds": seconds, "examples": examples, "megabytes": megabytes}


NAMES = ("inputs", "labels")
CONTENDERS: dict[str, Callable[[pathlib.Path], Result]] = {
    "jaxnet train, in memory": jaxnet_train,
    "jaxnet fit, Stream": jaxnet_fit,
    **{
        f"PyTorch DataLoader, {kind}, {workers} workers": lambda folder, w=workers, b=batches: (
            pytorch(w, b, folder)
        )
        for kind, batches in (("rows", False), ("batches", True))
        for workers in (0, 2)
    },
}


def measure(quick: bool, repeats: int) -> dict[str, Result]:
    """Of every contender the examples per second and the memory, or why it failed."""
    answers: dict[str, list[Result]] = {name: [] for name in CONTENDERS}
    cells = [name for _ in range(1 if quick else min(repeats, 3)) for name in CONTENDERS]
    with tempfile.TemporaryDirectory() as folder:
        write(pathlib.Path(folder), PART if quick else ROWS)
        for name in tqdm(cells, delay=1, leave=False, disable=not sys.stderr.isatty()):
            answers[name].append(_ask(name, folder))
    return {name: _conclude(found) for name, found in answers.items()}


def _conclude(answers: list[Result]) -> Result:
    """The median rate of all passes after the first, which compiles, and the memory after each."""
    failed = [each for each in answers if "failed" in each]
    if failed:
        return failed[0]
    rates = [each["examples"] / seconds for each in answers for seconds in each["seconds"][1:]]
    return {"rate": statistics.median(rates), "megabytes": answers[-1]["megabytes"]}


def _ask(contender: str, folder: str) -> Result:
    command = [sys.executable, "-m", __spec__.name, contender, folder]
    scripts = pathlib.Path(__file__).parents[1]
    done = subprocess.run(command, cwd=scripts, env=os.environ, capture_output=True, text=True)
    if done.returncode:
        return {"failed": (done.stderr.splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    print(json.dumps(CONTENDERS[sys.argv[1]](pathlib.Path(sys.argv[2]))))
