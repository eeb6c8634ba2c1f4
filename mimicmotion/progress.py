"""How far a long stage is: a bar on a terminal, a line in the log every ten seconds elsewhere."""

import contextlib
import contextvars
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

logger = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
# A terminal that is gone ends no stage.
_QUIETLY = contextlib.suppress(OSError, ValueError)

Item = TypeVar("Item")
_hearing: contextvars.ContextVar[Callable[[str], None] | None] = contextvars.ContextVar("hearing", default=None)


class Progress:
    """Counts the done units of a stage and shows them while the block runs: `with Progress(...) as progress`.

    Args:
        about: what is done, one word such as "decoding".
        total: units in all.
        unit: name of one.
        initial: units that were done before; the time left is judged by those that came since.
        terminal: show a bar instead of writing log lines; None asks stderr.
        clock: seconds, ever growing.
        wait: waits for that many seconds at most and says whether the stage has ended; None does so truly.
    """

    def __init__(
        self,
        about: str,
        total: int,
        unit: str = "it",
        *,
        initial: int = 0,
        terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ):
        self.about, self.total, self.unit = about, total, unit
        self.initial = self.done = initial
        self.note = ""
        self._on_terminal = bool(sys.stderr and sys.stderr.isatty()) if terminal is None else terminal
        self._clock = clock
        self._start = clock()
        self._ended = threading.Event()
        self._wait = wait or self._ended.wait
        self._bar = self._teller = None

    def __enter__(self) -> "Progress":
        hear = _hearing.get()
        if hear:
            hear(self.about)
        if self._on_terminal:
            from tqdm import tqdm

            with _QUIETLY:
                self._bar = tqdm(total=self.total, initial=self.done, desc=self.about, unit=self.unit, leave=False)
        else:
            # A thread, since a single unit may take minutes.
            self._teller = threading.Thread(target=self._tell, name=f"progress of {self.about}", daemon=True)
            self._teller.start()
        return self

    def __exit__(self, *_error) -> None:
        self._ended.set()
        if self._bar is not None:
            with _QUIETLY:
                self._bar.close()
        if self._teller is not None:
            self._teller.join()

    def update(self, count: int = 1, note: str = "") -> None:
        """Notes that `count` more units are done; `note`, such as "loss 0.31", ends the line from now on."""
        self.done += count
        self.note = note
        if self._bar is not None:
            with _QUIETLY:
                self._bar.set_postfix_str(note, refresh=False)
                self._bar.update(count)

    def line(self) -> str:
        """Done, total and the time still needed if the rest goes as fast: "decoding: 24 of 96 frames, 30 s left"."""
        text = f"{self.about}: {self.done} of {self.total} {self.unit}s"
        if self.done == self.initial:
            return text
        each = (self._clock() - self._start) / (self.done - self.initial)
        left = duration(each * max(self.total - self.done, 0))
        return ", ".join(part for part in (text, f"{left} left", self.note) if part)

    def _tell(self) -> None:
        while not self._wait(EVERY_SECONDS):
            logger.info("%s", self.line())


@contextlib.contextmanager
def stages_told(hear: Callable[[str], None]) -> Iterator[None]:
    """Within, `hear` is told what each stage that begins is about."""
    token = _hearing.set(hear)
    try:
        yield
    finally:
        _hearing.reset(token)


def one_bar() -> bool | None:
    """Progress's `terminal` for what may go on beside the main thread: of two bars on one terminal none can be read."""
    return None if threading.current_thread() is threading.main_thread() else False


def track(items: Iterable[Item], about: str, total: int, unit: str = "it", **options) -> Iterator[Item]:
    """The items one by one, each counted when the next one is asked for; `options` are those of `Progress`."""
    with Progress(about, total, unit, **options) as progress:
        for item in items:
            yield item
            progress.update()


def duration(seconds: float) -> str:
    """Seconds in words: "2 min 05 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_of_hour:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
