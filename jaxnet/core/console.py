"""The console of a long call: a progress bar, messages, Ctrl-C and SIGTERM.

All messages go to standard error. None of them may end a run: if standard error is missing, closed,
a broken pipe or on a full disk, the message is dropped and the run continues.
"""

import contextlib
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any


def tell(message: str) -> None:
    """Prints a message to standard error, if that is possible."""
    with contextlib.suppress(Exception):
        if sys.stderr is not None:  # `print` would use standard output instead
            print(message, file=sys.stderr, flush=True)


def warn(warning: str | Warning, stacklevel: int) -> None:
    """Issues a warning like `warnings.warn`, but ignores a standard error that is closed.

    The warning is raised if the filters turn warnings into errors.
    """
    try:
        warnings.warn(warning, stacklevel=stacklevel + 1)
    except Warning:
        raise
    except Exception:  # standard error is closed
        return


def progress_bar(total: int, unit: str, progress: bool, done: int = 0) -> Any:
    """Returns a tqdm bar, shown if `progress` and standard error is a terminal or a notebook."""
    from tqdm.auto import tqdm

    options = {"total": total, "initial": done, "unit": unit}
    if progress and _is_interactive():
        with contextlib.suppress(Exception):
            return tqdm(file=_ForgivingStream(sys.stderr), **options)
    return tqdm(disable=True, **options)


def _is_interactive() -> bool:
    """Whether standard error is a terminal or a notebook."""
    try:
        return "ipykernel" in sys.modules or sys.stderr.isatty()
    except Exception:  # it is None, closed, or an object of the program's
        return False


class _ForgivingStream:
    """A stream that drops all text after its first error; equal to the original, as tqdm needs."""

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
def note_interrupts(name: str, *, termination: bool = False) -> Iterator[Callable[[], int | None]]:
    """Notes the first Ctrl-C in a block instead of raising KeyboardInterrupt.

    A second Ctrl-C raises. If the program has its own handler for a signal, that handler stays.

    Args:
        name: the running function, for the message that it is stopping.
        termination: whether to note SIGTERM too; a second one raises SystemExit.

    Yields:
        A function that returns the number of the signal, or None if there was none.
    """
    received: list[int] = []

    def note(number: int, _: Any) -> None:
        if received:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        received.append(number)
        again = "; press again to interrupt at once" if number == signal.SIGINT else ""
        tell(f"\n{name}: stopping{again}")

    defaults: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler}
    if termination:
        defaults[signal.SIGTERM] = signal.SIG_DFL
    in_main_thread = threading.current_thread() is threading.main_thread()
    replaced = [
        n for n, handler in defaults.items() if in_main_thread and signal.getsignal(n) is handler
    ]
    for number in replaced:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number in replaced:
            signal.signal(number, defaults[number])
