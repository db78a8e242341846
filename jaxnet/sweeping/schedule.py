"""The schedule of a sweep: programs are compiled ahead, and several chunks run at the same time."""

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxnet.core import compilation
from jaxnet.sweeping.chunks import Chunk, count_cores, count_workers
from jaxnet.sweeping.storage import Results

_PAUSE = 0.1  # seconds between two looks at whether Ctrl-C was pressed

Groups = Sequence[range]
"""The runs of each combination of structural values, by its number."""


@runtime_checkable
class Claims(Protocol):
    """Decides which runs this process makes, and takes their results."""

    def are_complete(self, runs: range) -> bool:
        """Whether all of these runs are complete."""

    def choose(self, groups: Groups, among: Collection[int], most: int) -> list[int]:
        """Chooses the group to work on, and the next ones, at most so many; none if there is none.

        Args:
            groups: all groups.
            among: the numbers of those to choose from.
            most: how many to choose.
        """

    def ranges(self, runs: range, most: int) -> Iterator[range]:
        """Yields the missing ones of some runs that this process is to make, at most so many."""

    def wait(self) -> None:
        """Waits for other processes, which are making all that is missing."""

    def take(self, runs: range, leaves: list[np.ndarray], diverged: np.ndarray) -> None:
        """Takes the results of some runs, and which of them diverged."""


class AllRuns:
    """The claims of a process that makes all runs itself and keeps the results in memory."""

    def __init__(self, results: Results) -> None:
        """Takes what is known of all runs."""
        self.results = results

    def are_complete(self, runs: range) -> bool:
        """Whether all of these runs are complete."""
        return self.results.are_complete(runs)

    def choose(self, groups: Groups, among: Collection[int], most: int) -> list[int]:
        """Chooses the first groups."""
        left = (number for number in among if not self.are_complete(groups[number]))
        return list(itertools.islice(left, most))

    def ranges(self, runs: range, most: int) -> Iterator[range]:
        """Yields all that are missing."""
        return self.results.missing(runs, most)

    def wait(self) -> None:
        """There are no other processes."""

    def take(self, runs: range, leaves: list[np.ndarray], diverged: np.ndarray) -> None:
        """Keeps the results."""
        self.results.put(runs, leaves, diverged)


class Programs:
    """The programs of all combinations of structural values, each compiled when it is needed.

    The next ones are compiled in threads while one is compiled or run.
    """

    def __init__(self, make: Callable[[int], Chunk]) -> None:
        """Takes the function that compiles the program of a combination."""
        self._make = make
        self._pool = ThreadPoolExecutor(_count_compilers())
        self._compiling: dict[int, Future[Chunk]] = {}
        # A context manager such as `jax.enable_x64` sets an option for its own thread only.
        in_thread = self._pool.submit(compilation.settings).result()
        self._in_threads = in_thread == compilation.settings()

    def get(self, numbers: list[int], interrupted: Callable[[], Any]) -> Chunk | None:
        """Returns the program of the first combination; None if interrupted before.

        Args:
            numbers: the combination and the next ones, whose programs are compiled meanwhile.
            interrupted: whether to compile no longer.
        """
        if not self._in_threads:
            return self._make(numbers[0])
        before = self._compiling
        self._compiling = {
            n: before[n] if n in before else self._pool.submit(self._make, n) for n in numbers
        }
        while not interrupted():
            if wait([self._compiling[numbers[0]]], _PAUSE).done:
                return self._compiling[numbers[0]].result()
        return None

    def close(self) -> None:
        """Stops compiling; a program that is being compiled is finished in its thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _count_compilers() -> int:
    """The number of programs to compile at the same time; XLA uses two cores for each."""
    return max(count_cores() // 2, 1)


def run_chunks(
    programs: Programs,
    groups: Groups,
    results: Results,
    claims: Claims,
    interrupted: Callable[[], Any],
    update: Callable[[int], Any],
) -> None:
    """Runs all chunks, or fewer if interrupted.

    Args:
        programs: the program of each group.
        groups: the runs that are to be complete.
        results: what is known of all runs.
        claims: decides which of the missing runs this process makes.
        interrupted: whether to start no more chunks.
        update: is called with the number of complete runs.
    """
    workers = count_workers()
    running: deque[tuple[range, Future[Any]]] = deque()
    pool = ThreadPoolExecutor(workers)

    def collect() -> None:
        runs, future = running.popleft()
        leaves, is_finite = future.result()
        claims.take(runs, [leaf[: len(runs)] for leaf in leaves], ~is_finite[: len(runs)])
        update(results.count)

    def submit(chunk: Chunk, runs: range) -> None:
        running.append((runs, pool.submit(chunk.compute, *chunk.arguments_of(runs))))
        if len(running) == workers:
            collect()

    def make_some() -> bool:
        """Visits each group once; returns whether there was anything to make."""
        left, before = list(range(len(groups))), results.count
        while not interrupted() and (chosen := claims.choose(groups, left, 1 + _count_compilers())):
            left.remove(chosen[0])
            if chunk := programs.get(chosen, interrupted):
                for runs in claims.ranges(groups[chosen[0]], chunk.size):
                    submit(chunk, runs)
                    if interrupted():
                        break
        while running:
            collect()
        return results.count > before

    try:
        while not (interrupted() or all(map(claims.are_complete, groups))):
            if not make_some():
                claims.wait()
                update(results.count)
    finally:  # after a second Ctrl-C, without waiting for the chunks that are running
        pool.shutdown(wait=False, cancel_futures=True)
