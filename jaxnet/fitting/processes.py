"""A run in several processes: all of them do the same, at the same epoch.

The processes call the compiled program together, so they must agree on the number of epochs of each
call, and on when to stop and to save. Process 0 alone reads and writes the directory of the run.
Every function here is called by all processes in the same order.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from jaxnet.core import checks, trees
from jaxnet.core.sharding import fetch, remove_placement
from jaxnet.fitting.run_directory import Checkpoints, NoDirectory, RunDirectory, Saved
from jaxnet.fitting.run_identity import Identity

Result = TypeVar("Result")


class Processes(NamedTuple):
    """The processes that make a run.

    Attributes:
        are_many: whether the arrays of the run are on devices of several processes; if not, each
            process makes a run of its own.
    """

    are_many: bool

    @property
    def is_first(self) -> bool:
        """Whether this process decides, writes the checkpoints and shows the progress."""
        return not self.are_many or jax.process_index() == 0

    def agree(self, *numbers: int) -> list[int]:
        """The largest of each number in all processes."""
        if not self.are_many:
            return list(numbers)
        gathered = multihost_utils.process_allgather(np.array(numbers, np.int32))
        return [int(number) for number in gathered.max(axis=0)]

    def lead(self, function: Callable[[], Result]) -> Result | None:
        """Calls a function in process 0; an error there is one in all processes.

        Returns:
            What the function returned, or None in the other processes.
        """
        result, error = None, None
        try:
            result = function() if self.is_first else None
        except Exception as raised:
            error = raised
        (has_failed,) = self.agree(error is not None)
        if error is not None:
            raise error
        if has_failed:
            raise RuntimeError("fit: process 0 of this run has raised an error; see its output")
        return result

    def check_same(self, identity: Identity | None, epochs: int) -> None:
        """Checks that all processes make the same run."""
        if not self.are_many or identity is None:
            return
        parts = {**identity["values"], "functions": identity["programs"], "epochs": epochs}
        texts = [json.dumps(parts[name]).encode() for name in sorted(parts)]
        digests = np.array([list(hashlib.sha256(text).digest()) for text in texts], np.uint8)
        gathered = multihost_utils.process_allgather(digests)
        for name, digest in zip(sorted(parts), gathered.swapaxes(0, 1), strict=True):
            different = np.flatnonzero((digest != digest[0]).any(axis=1))
            if len(different):
                raise checks.InvalidValue(
                    f"expected the same {name} in every process. Received: other {name} in process "
                    f"{different[0]} than in process 0"
                )


class SharedDirectory(NoDirectory):
    """The directory of a run in several processes, which process 0 reads and writes."""

    is_saved = True

    def __init__(self, processes: Processes, make: Callable[[], RunDirectory]) -> None:
        """Creates and locks the directory, in process 0."""
        self._processes = processes
        self._directory = processes.lead(make) or NoDirectory()

    def __enter__(self) -> "SharedDirectory":
        self._directory.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._directory.__exit__(*error)

    @property
    def failure(self) -> OSError | None:  # type: ignore[override]
        """The error of the last attempt to write a checkpoint, in process 0."""
        return self._directory.failure

    def newest(self, like: Callable[[int], PyTree]) -> Saved | None:
        """Loads the last checkpoint in process 0, which sends it to the others."""

        def load() -> Saved | None:
            return self._directory.newest(lambda epoch: remove_placement(like(epoch)))

        saved = self._processes.lead(load)
        reasons = ["", "patience", "on_epoch"]
        epoch, reason = self._processes.agree(
            *((saved.epoch, reasons.index(saved.stopped)) if saved else (-1, 0))
        )
        if epoch < 0:
            return None
        tree = (saved.state, saved.history) if saved else like(epoch)
        leaves = [
            np.asarray(leaf) if saved else np.zeros(leaf.shape, leaf.dtype)
            for leaf in trees.plain_leaves(tree)
        ]
        sent = multihost_utils.broadcast_one_to_all(leaves)
        restored = map(trees.restore_key, sent, jax.tree.leaves(tree))
        state, history = jax.tree.unflatten(jax.tree.structure(tree), restored)
        place = self._send(saved.place if saved else None)
        return Saved(state, history, epoch, reasons[reason], place)

    def _send(self, value: Any) -> Any:
        """Sends something that JSON can represent from process 0 to the others."""
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        (length,) = self._processes.agree(len(text) if self._processes.is_first else 0)
        sent = multihost_utils.broadcast_one_to_all(np.resize(text, length))
        return json.loads(np.asarray(sent, np.uint8).tobytes())

    def is_due(self, epoch: int) -> bool:
        """Whether to save at the end of an epoch; False except in process 0."""
        return self._directory.is_due(epoch)

    def limit(self, epoch: int) -> int:
        """That epoch, or an earlier one at which the run is to be saved; 0 except in process 0."""
        return self._directory.limit(epoch) if self._processes.is_first else 0

    def check_writable(self) -> None:
        """Raises an error in all processes if the directory cannot be written."""
        self._processes.lead(self._directory.check_writable)

    def begin(self, saved: Saved) -> None:
        """Writes the start of a run, or raises an error in all processes."""
        saved = fetch(saved)
        self._processes.lead(lambda: self._directory.begin(saved))

    def save(self, saved: Saved, *, wait: bool = False) -> None:
        """Writes a checkpoint in process 0."""
        self._directory.save(fetch(saved), wait=wait)

    def save_before_failure(self, state: PyTree) -> str:
        """Writes the state before a step that failed, in process 0."""
        return self._directory.save_before_failure(fetch(state))


Directory = RunDirectory | NoDirectory


def open_directory(
    checkpoints: Checkpoints | None, identity: Identity | None, processes: Processes
) -> Directory:
    """The directory of a run, to be entered."""
    if checkpoints is None or identity is None:
        return NoDirectory()
    make = functools.partial(RunDirectory, checkpoints, identity)
    return SharedDirectory(processes, make) if processes.are_many else make()
