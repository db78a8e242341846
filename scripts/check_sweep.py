"""Kills processes that share a sweep's folder, and damages its files: no result is lost or wrong.

    python scripts/check_sweep.py [--kills 200] [--flips 300]

Three processes complete the same sweep of 2 x 600 networks in one folder. Every now and then one of
them is killed with SIGKILL at a random moment, and another one is started. After every kill, each
file of results that was there must still be there, unchanged, and no two files may have the same
run, since no finished run is made twice. A process that finishes must return the bits of a sweep
without a folder; then a new folder is begun. Afterwards single bits of the files in a folder are
flipped. A sweep must then return the same bits, or refuse the folder. The exit status is 1 if
anything else happened.
"""

import argparse
import hashlib
import itertools
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

import jaxnet
from jaxnet.sweeping import folder as sweep_folder

PROCESSES, SEEDS, RATES = 3, 60, 10


def make_sweep(folder: pathlib.Path | None) -> str:
    """Makes or completes the sweep, and returns the digest of its results."""
    inputs = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]

    def run(key: Any, rate: Any, width: int) -> dict[str, Any]:
        network, sizes = jaxnet.mlp([1, width, 1]), {"epochs": 100, "batch_size": 8}
        optimizer, data = jaxnet.adam(rate), (inputs, inputs**2)
        state, history = jaxnet.train(
            network, jaxnet.squared_error, optimizer, data, key=key, **sizes
        )
        return {"cost": history["cost"], "biases": state.parameters[1].biases}

    grid = {
        "key": jax.random.split(jax.random.key(0), SEEDS),
        "rate": np.geomspace(1e-4, 1e-1, RATES, dtype=np.float32),
    }
    found = jaxnet.sweep(
        run, grid, structural={"width": [8, 16]}, folder=folder, memory=2e5, progress=False
    )
    digest = hashlib.sha256(b"%d" % found.done.sum())
    for leaf in jax.tree.leaves(found.results):
        digest.update(leaf.tobytes())
    return digest.hexdigest()


def start(folder: pathlib.Path | None, result: pathlib.Path) -> int:
    """Starts a process that writes the digest; JAX is imported there, but has computed nothing."""
    child = os.fork()
    if child == 0:
        try:
            sweep_folder._SECONDS = 0.1  # of work in a file, so that there are many
            result.write_text(make_sweep(folder))
        except BaseException as error:
            print(f"\na process ended with {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def list_files(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    """The files of results, with the numbers that change when a file is written again."""
    states = {file.name: file.stat() for file in folder.glob("runs-*")}
    return {name: (state.st_ino, state.st_mtime_ns) for name, state in states.items()}


def compare(folder: pathlib.Path, before: dict[str, tuple[int, int]]) -> list[str]:
    """Returns what is lost, changed or made twice."""
    files = list_files(folder)
    wrong = [f"{name} is lost" for name in before.keys() - files.keys()]
    changed = [name for name in before.keys() & files.keys() if before[name] != files[name]]
    wrong += [f"{name} changed" for name in changed]
    ranges = sorted((int(name[5:15]), int(name[16:26])) for name in files)
    for (_, stop), (following, _) in itertools.pairwise(ranges):
        wrong += [f"run {following} is in two files"] * (following < stop)
    before.update(files)
    return wrong


def kill_often(kills: int, folder: pathlib.Path, expected: str) -> list[str]:
    """Returns what went wrong."""
    wrong: list[str] = []
    children: dict[int, pathlib.Path] = {}
    before: dict[str, tuple[int, int]] = {}
    finished = unfinished = 0
    folder.mkdir()
    with tqdm(total=kills, desc="kills") as bar:
        while bar.n < kills:
            while len(children) < PROCESSES:
                result = folder.with_name(f"result-{time.monotonic_ns()}")
                children[start(folder, result)] = result
            time.sleep(random.choice([random.uniform(0, 4), random.uniform(0, 0.5)]))
            ended = [child for child in children if os.waitpid(child, os.WNOHANG) != (0, 0)]
            if not ended:
                child = random.choice(list(children))
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                del children[child]
                bar.update()
                unfinished += any(folder.glob(".*.unfinished"))
            wrong += compare(folder, before)
            if ended:  # the folder is complete, so the others finish too
                for child in children.keys() - set(ended):
                    os.waitpid(child, 0)
                for result in children.values():
                    digest = result.read_text() if result.exists() else "nothing"
                    wrong += [f"a process returned {digest}"] * (digest != expected)
                finished += len(children)
                wrong += compare(folder, before)
                shutil.rmtree(folder)
                folder.mkdir()
                children, before = {}, {}
            bar.set_postfix_str(f"{finished} finished, {len(wrong)} wrong")
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    print(
        f"{kills} kills, {unfinished} of them while a file was written, {finished} processes "
        f"finished: {len(wrong)} wrong"
    )
    return wrong


def flip_bits(flips: int, whole: pathlib.Path, expected: str) -> list[str]:
    """Returns the flipped bits after which a sweep returned other results."""
    wrong, refused, again = [], 0, 0
    files = sorted(whole.glob("*.safetensors"))
    copy = whole.with_name("copy")
    for _ in tqdm(range(flips), desc="flips"):
        shutil.copytree(whole, copy)
        file = copy / random.choice(files).name
        data = bytearray(file.read_bytes())
        bit = random.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                wrong += [f"bit {bit} of {file.name}"] * (make_sweep(copy) != expected)
            again += len(caught) > 0
        except ValueError:
            refused += 1
        shutil.rmtree(copy)
    print(f"{flips} bits flipped: {again} files made again, {refused} refused, {len(wrong)} wrong")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--flips", type=int, default=300)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*fork.*")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        os.waitpid(start(None, folder / "expected"), 0)
        expected = (folder / "expected").read_text()
        os.waitpid(start(folder / "whole", folder / "result"), 0)
        wrong = kill_often(arguments.kills, folder / "sweep", expected)
        wrong += flip_bits(arguments.flips, folder / "whole", expected)
    print("\n".join(wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
