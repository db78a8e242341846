"""What a long call shows while it runs, and how it is stopped: a progress bar and signals."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any


def bar_of(total: int, unit: str, progress: bool, done: int = 0) -> Any:
    """A progress bar, shown if that is wanted and standard error is a terminal or a notebook."""
    from tqdm.auto import tqdm

    seen = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(total=total, initial=done, unit=unit, disable=not (progress and seen))


@contextlib.contextmanager
def noted_interrupts(
    function: str, *, termination: bool = False
) -> Iterator[Callable[[], int | None]]:
    """Within, the first Ctrl-C is only noted; what is yielded says which signal there was, if any.

    With `termination` so is SIGTERM. A signal for which the program has a handler of its own is
    left to that.
    """
    received: list[int] = []

    def note(number: int, _: Any) -> None:
        if received:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        received.append(number)
        again = "; press again to interrupt at once" if number == signal.SIGINT else ""
        print(f"\n{function}: stopping{again}", file=sys.stderr)

    usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler}
    if termination:
        usual[signal.SIGTERM] = signal.SIG_DFL
    in_main_thread = threading.current_thread() is threading.main_thread()
    replaced = [
        n for n, handler in usual.items() if in_main_thread and signal.getsignal(n) is handler
    ]
    for number in replaced:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number in replaced:
            signal.signal(number, usual[number])
