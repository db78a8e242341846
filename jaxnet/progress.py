"""What a long call shows while it runs, and how it is stopped: a progress bar and Ctrl-C."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any


def bar_of(total: int, unit: str, progress: bool) -> Any:
    """A progress bar, shown if that is wanted and standard error is a terminal or a notebook."""
    from tqdm.auto import tqdm

    seen = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(total=total, unit=unit, disable=not (progress and seen))


@contextlib.contextmanager
def noted_interrupts(function: str) -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C is only noted; what is yielded says whether there was one."""
    pressed: list[bool] = []

    def note(*_: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)
        print(f"\n{function}: stopping; press again to interrupt at once", file=sys.stderr)

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
