"""The schedule of a sweep: programs are compiled ahead, and several chunks run at the same time."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxnet.core import compilation
from jaxnet.sweeping.chunks import Chunk, count_cores, count_workers
from jaxnet.sweeping.storage import Results

_PAUSE = 0.1  # seconds between two looks at whether Ctrl-C was pressed


@runtime_checkable
class Claims(Protocol):
    """Decides which runs this process makes, and takes their results."""

    def are_complete(self, runs: range) -> bool:
        """Whether all of these runs are complete."""

    def ranges(self, runs: range, most: int) -> Iterator[range]:
        """Yields the missing ones of some runs that this process is to make, at most so many."""

    def wait(self) -> None:
        """Waits for other processes, which are making all that is missing."""

    def take(self, runs: range, leaves: list[np.ndarray], diverged: np.ndarray) -> None:
        """Takes the results of some runs, and which of them diverged."""


class AllRuns:
    """The claims of a process that makes all runs itself and keeps the results in memory."""

    def __init__(self, results: Results) -> None:
        self.are_complete = results.are_complete
        self.ranges, self.take = results.missing, results.put

    def wait(self) -> None:
        """There are no other processes."""


class Programs:
    """The programs of all combinations of structural values, each compiled when it is needed.

    The next ones are compiled in threads, as many as there are cores, while one is compiled or run.
    """

    def __init__(self, make: Callable[[int], Chunk], number: int) -> None:
        """Takes the function that compiles the program of a combination, and their number."""
        self._make, self._number = make, number
        self._pool = ThreadPoolExecutor(count_cores())
        self._compiling: dict[int, Future[Chunk]] = {}
        # A context manager such as `jax.enable_x64` sets an option for its own thread only.
        self._in_threads = (
            self._pool.submit(compilation.settings).result() == compilation.settings()
        )

    def get(self, number: int, interrupted: Callable[[], Any]) -> Chunk | None:
        """Returns the program of a combination; None if interrupted before it is compiled."""
        if not self._in_threads:
            return self._make(number)
        ahead = range(number, min(number + 1 + count_cores(), self._number))
        before = self._compiling
        self._compiling = {
            n: before[n] if n in before else self._pool.submit(self._make, n) for n in ahead
        }
        while not interrupted():
            if wait([self._compiling[number]], _PAUSE).done:
                return self._compiling[number].result()
        return None

    def close(self) -> None:
        """Stops compiling; a program that is being compiled is finished in its thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def run_chunks(
    programs: Programs,
    groups: Sequence[range],
    results: Results,
    claims: Claims,
    interrupted: Callable[[], Any],
    update: Callable[[int], Any],
) -> None:
    """Runs all chunks, or fewer if interrupted.

    Args:
        programs: the program of each group.
        groups: the runs of each combination of structural values that are to be complete.
        results: what is known of all runs.
        claims: decides which of the missing runs this process makes.
        interrupted: whether to start no more chunks.
        update: is called with the number of complete runs.
    """
    workers = count_workers()
    running: deque[tuple[range, Future[Any]]] = deque()

    def collect() -> None:
        runs, future = running.popleft()
        leaves, is_finite = future.result()
        claims.take(runs, [leaf[: len(runs)] for leaf in leaves], ~is_finite[: len(runs)])
        update(results.count)

    with ThreadPoolExecutor(workers) as pool:
        while not (interrupted() or all(map(claims.are_complete, groups))):
            is_waiting = True
            for number, group in enumerate(groups):
                if interrupted() or claims.are_complete(group):
                    continue
                chunk = programs.get(number, interrupted)
                if chunk is None:
                    break
                for runs in claims.ranges(group, chunk.size):
                    is_waiting = False
                    running.append((runs, pool.submit(chunk.compute, *chunk.arguments_of(runs))))
                    if len(running) == workers:
                        collect()
                    if interrupted():
                        break
            while running:
                collect()
            if is_waiting:
                claims.wait()
