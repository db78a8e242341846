"""What a long call shows while it runs, and how it is stopped: a progress bar and signals.

All that jaxnet says goes to standard error, and none of it is worth a run: where that is missing,
closed, a broken pipe or on a full disk, nothing is said, and the run goes on.
"""

import contextlib
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any


def tell(message: str) -> None:
    """Prints to standard error, if that can be written."""
    with contextlib.suppress(Exception):
        if sys.stderr is not None:  # `print` would take standard output in its place
            print(message, file=sys.stderr, flush=True)


def warn(warning: str | Warning, stacklevel: int) -> None:
    """Warns, where warnings are shown if that can be done, and as an error where they are errors.

    The stack level is that of `warnings.warn`.
    """
    try:
        warnings.warn(warning, stacklevel=stacklevel + 1)
    except Warning:
        raise
    except Exception:  # `warnings` itself minds a standard error that is closed
        return


def bar_of(total: int, unit: str, progress: bool, done: int = 0) -> Any:
    """A progress bar, shown if that is wanted and standard error is a terminal or a notebook."""
    from tqdm.auto import tqdm

    options = {"total": total, "initial": done, "unit": unit}
    if progress and _is_watched():
        with contextlib.suppress(Exception):
            return tqdm(file=_Forgiving(sys.stderr), **options)
    return tqdm(disable=True, **options)


def _is_watched() -> bool:
    """Whether standard error is a terminal or a notebook."""
    try:
        return "ipykernel" in sys.modules or sys.stderr.isatty()
    except Exception:  # it is None, closed, or a program's own
        return False


class _Forgiving:
    """A stream that is not written to again after an error, and equals that stream, for tqdm."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._works = stream, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __eq__(self, other: object) -> bool:
        return self._stream is getattr(other, "_stream", other)

    def __hash__(self) -> int:
        return hash(self._stream)

    def write(self, text: str) -> None:
        self._try(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._try(lambda: self._stream.flush())

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            if self._works:
                action()
        except Exception:
            self._works = False


@contextlib.contextmanager
def note_interrupts(
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
        tell(f"\n{function}: stopping{again}")

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
