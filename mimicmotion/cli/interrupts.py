"""Ctrl-C, a polite kill and a lost terminal: one kind of interrupt for the whole product.

A signal that was ignored when the process began stays ignored: `nohup` and a shell's background jobs mean it so.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def interrupts_raised() -> Iterator[None]:
    """Within, the first interrupt raises KeyboardInterrupt. What then ends the work is cut off by a further Ctrl-C
    only: schedulers repeat themselves, and a terminal that goes sends two kinds.
    """
    raised = []

    def interrupt(number, _frame):
        if number == signal.SIGINT or not raised:
            raised.append(number)
            raise KeyboardInterrupt

    with _handled_by(interrupt):
        yield


@contextlib.contextmanager
def interrupts_noted() -> Iterator[list[int]]:
    """Within, interrupts are put into the list and nothing more; a second Ctrl-C raises KeyboardInterrupt."""
    noted = []

    def note(number, _frame):
        if number == signal.SIGINT and number in noted:
            raise KeyboardInterrupt
        noted.append(number)

    with _handled_by(note):
        yield noted


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Within, interrupts wait until the end, so that what belongs together is not cut in two; a second Ctrl-C does
    not wait. Does nothing outside the main thread, to which Python brings no signals.
    """
    noted = []
    try:
        with interrupts_noted() as noted:
            yield
    finally:
        if noted:
            signal.raise_signal(noted[0])


def ignore_interrupts() -> None:
    """Lets the process end with the exit code it has, whatever comes while Python is torn down."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _handled_by(handler: Callable) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: known for number, known in before.items() if known not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)
