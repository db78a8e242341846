"""A thread that reads one block ahead, while the one before is in use."""

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Place = TypeVar("Place")
Loaded = TypeVar("Loaded")


def read_ahead(
    load: Callable[[Place, threading.Event], Loaded], places: Iterable[Place]
) -> Generator[Loaded, None, None]:
    """Yields what `load(place, stop)` returns for each place, loading one ahead in a thread.

    An error of `load` is raised when its turn comes. When the iterator is closed or garbage, `stop`
    is set, and the thread has ended.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1, "jaxnet-stream") as executor:
        try:
            following = None
            for place in places:
                before, following = following, executor.submit(load, place, stop)
                if before is not None:
                    loaded = before.result()
                    del before  # or two loaded ones would wait here
                    yield loaded
                    del loaded
            if following is not None:
                yield following.result()
        finally:
            stop.set()
