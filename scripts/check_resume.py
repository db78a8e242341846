"""Kills a training run again and again, and damages its files: nothing may be lost or different.

    python scripts/check_resume.py [--kills 200] [--flips 1000] [--truncations 200]

A run of `jaxnet.fit` with dropout, a schedule, batches that do not divide the data, validation and
early stopping saves every epoch. It is killed with SIGKILL at random moments, most of them while a
checkpoint is being written, and started again, until it has been killed that often. After every
kill each file in its folder must be, byte for byte, the one that an undisturbed run wrote for that
epoch, and none may have gone that should be there. Then single bits of a checkpoint are flipped,
and it is cut off; it must never load. The exit status is 1 if anything was lost or different.
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings

import jax
import numpy as np
import optax
from safetensors.numpy import load_file
from tqdm import tqdm

import jaxnet

EPOCHS, KEEP = 40, 3


def train(folder: pathlib.Path, keep: int) -> None:
    """The run, up to its end."""
    generator = np.random.default_rng(0)
    inputs, labels = generator.normal(size=(500, 20)), generator.integers(4, size=500)
    layers = jaxnet.dense(20, 300, jaxnet.relu), jaxnet.dropout(0.2), jaxnet.dense(300, 4)
    schedule = optax.cosine_decay_schedule(0.003, 600)
    jaxnet.fit(
        jaxnet.serial(*layers),
        jaxnet.softmax_cross_entropy,
        jaxnet.adam(schedule),
        (inputs[:400], labels[:400]),
        key=jax.random.key(0),
        epochs=EPOCHS,
        batch_size=64,
        validation=(inputs[400:], labels[400:]),
        patience=EPOCHS,
        progress=False,
        checkpoints=jaxnet.Checkpoints(folder, keep=keep, every=1),
    )


def forked(folder: pathlib.Path, keep: int) -> int:
    """A process that trains; JAX has been imported by then, but not begun to compute."""
    child = os.fork()
    if child == 0:
        try:
            train(folder, keep)
        except BaseException as error:
            print(f"\nthe run ended with {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def differing(folder: pathlib.Path, whole: pathlib.Path) -> list[str]:
    """Files that are not those of the undisturbed run; NumPy compares, since JAX must not begin."""
    wrong = [
        file.name
        for file in folder.glob("epoch-*.safetensors")
        if file.read_bytes() != (whole / file.name).read_bytes()
    ]
    best = folder / "best.safetensors"
    if best.exists():
        epoch = jaxnet.load_metadata(best)["epoch"]
        then = load_file(whole / f"epoch-{epoch:08}.safetensors")
        for name, array in load_file(best).items():
            if array.tobytes() != then[f"0/best/parameters/{name}"].tobytes():
                wrong.append(f"{best.name} {name}")
    return wrong


def newest(folder: pathlib.Path) -> int:
    """The last epoch saved, or -1."""
    return max((int(f.name[6:14]) for f in folder.glob("epoch-*.safetensors")), default=-1)


def killed(folder: pathlib.Path) -> bool:
    """Whether the run was killed, at a random moment, and not finished before."""
    child, before = forked(folder, KEEP), newest(folder)
    if random.random() < 0.9:  # else while it starts or compiles
        while newest(folder) == before and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.2))
    else:
        time.sleep(random.uniform(0, 3))
    try:
        os.kill(child, signal.SIGKILL)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    except (ProcessLookupError, ChildProcessError):
        return False


def kill_often(kills: int, folder: pathlib.Path, whole: pathlib.Path) -> list[str]:
    """What went wrong."""
    wrong, last, unfinished = [], -1, 0
    with tqdm(total=kills, desc="kills") as bar:
        while bar.n < kills:
            bar.update(killed(folder))
            unfinished += any(folder.glob(".*.unfinished"))
            wrong += [f"{name} differs" for name in differing(folder, whole)]
            if newest(folder) < last:
                wrong.append(f"epoch {last} was lost")
            last = newest(folder)
            bar.set_postfix_str(f"epoch {last}, {unfinished} in mid-save, {len(wrong)} wrong")
            if last == EPOCHS:
                shutil.rmtree(folder)
                last = -1
    print(f"{kills} kills, {unfinished} of them while a file was written: {len(wrong)} wrong")
    return wrong


def damage(file: pathlib.Path, flips: int, truncations: int) -> list[str]:
    contents, wrong = file.read_bytes(), []
    changed = file.with_name("changed")
    for _ in tqdm(range(flips), desc="flips"):
        position = random.randrange(8 * len(contents))
        damaged = bytearray(contents)
        damaged[position // 8] ^= 1 << position % 8
        wrong += [f"bit {position}"] * _loads(changed, damaged)
    for _ in tqdm(range(truncations), desc="truncations"):
        length = random.randrange(len(contents))
        wrong += [f"{length} bytes"] * _loads(changed, contents[:length])
    print(f"{flips} bits flipped, {truncations} times cut off: {len(wrong)} loaded")
    return wrong


def _loads(file: pathlib.Path, contents: bytes) -> bool:
    file.write_bytes(contents)
    try:
        jaxnet.load(file)
    except jaxnet.CorruptFileError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--truncations", type=int, default=200)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*fork.*")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        whole, run = folder / "whole", folder / "run"
        os.waitpid(forked(whole, EPOCHS + 1), 0)
        wrong = kill_often(arguments.kills, run, whole)
        last = whole / f"epoch-{EPOCHS:08}.safetensors"
        wrong += damage(last, arguments.flips, arguments.truncations)
    print("\n".join(wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
