"""Ctrl-C, a polite kill and a lost terminal: one kind of interrupt for the whole product.

A signal that was ignored when the process began stays ignored: `nohup` and a shell's background jobs mean it so.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class _FirstRaises:
    """A handler that raises KeyboardInterrupt for the first interrupt, and for every Ctrl-C."""

    def __init__(self):
        self.raised = False

    def __call__(self, number, _frame):
        if number == signal.SIGINT or not self.raised:
            self.raised = True
            raise KeyboardInterrupt


@contextlib.contextmanager
def interrupts_raised() -> Iterator[None]:
    """Within, the first interrupt raises KeyboardInterrupt. What then ends the work is cut off by a further Ctrl-C
    only: schedulers repeat themselves, and a terminal that goes sends two kinds. Within `interrupts_of_process` the
    first is that of the process.
    """
    if any(isinstance(signal.getsignal(number), _FirstRaises) for number in SIGNALS):
        yield
        return
    with _handled_by(_FirstRaises()):
        yield


@contextlib.contextmanager
def interrupts_of_process() -> Iterator[None]:
    """As `interrupts_raised`, for all that a process does: afterwards it ends with the exit code it has, whatever
    comes while Python is torn down. No handler is put back, so there is no moment in which a repeat kills it.
    """
    handler = _FirstRaises()
    for number in _heeded():
        signal.signal(number, handler)
    try:
        yield
    finally:
        try:
            handler.raised = True
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)


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


def _heeded() -> dict[int, object]:
    """Handlers by signal, without the signals that are ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    return {number: known for number, known in before.items() if known not in (signal.SIG_IGN, None)}


@contextlib.contextmanager
def _handled_by(handler: Callable) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _heeded()
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)
