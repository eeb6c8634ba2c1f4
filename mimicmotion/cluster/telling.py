"""How far a run on workers is: a bar with a line per worker on a terminal, a line in the log every 30 s elsewhere."""

import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from mimicmotion.cluster.queue import Slot
from mimicmotion.files import printable
from mimicmotion.progress import duration

logger = logging.getLogger(__name__)

LOG_EVERY = 30.0
SHOW_EVERY = 1.0
MOST_WORKERS = 12  # with a line each; of the others there is a number


class Telling:
    """Shows the slots and what is left. Use `with`.

    Args:
        total: how many outcomes there are to do.
        stages: gives the last stage of each slot.
        terminal: show a bar instead of writing log lines; None asks stderr.
    """

    def __init__(
        self,
        total: int,
        stages: Callable[[], dict[int, str]],
        terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._stages, self._clock = total, stages, clock
        self._terminal = bool(sys.stderr and sys.stderr.isatty()) if terminal is None else terminal
        self._start = self._last = clock()
        self._bars: list = []

    def __enter__(self) -> "Telling":
        self._cleanup = contextlib.ExitStack()
        if self._terminal:
            from tqdm import tqdm

            bar = tqdm(total=self._total, unit="result", position=0, dynamic_ncols=True, smoothing=0)
            self._bars.append(self._cleanup.enter_context(contextlib.closing(bar)))
            self._cleanup.enter_context(_cleared_for_log(self._bars))
        return self

    def __exit__(self, *_error) -> None:
        # A terminal that is gone ends no run.
        with contextlib.suppress(OSError, ValueError):
            self._cleanup.close()

    def tell(self, slots: Sequence[Slot], left: int) -> None:
        """Shows what is to be shown now; most calls do nothing."""
        now = self._clock()
        every = SHOW_EVERY if self._terminal else LOG_EVERY
        if now - self._last < every and left:
            return
        self._last = now
        # Lines below the edge of a terminal would scroll it.
        most = min(MOST_WORKERS, max(1, shutil.get_terminal_size().lines - 3)) if self._terminal else MOST_WORKERS
        lines = worker_lines(slots, self._stages(), now, most)
        if self._terminal:
            with contextlib.suppress(OSError, ValueError):
                self._show(lines, left)
        elif left:
            logger.info("%s", "; ".join([self.line(left), *lines]))

    def line(self, left: int) -> str:
        """Done, total and the time still needed if the rest goes as fast: "24 of 96 results, 12 min 30 s left"."""
        done = self._total - left
        text = f"{done} of {self._total} results"
        return f"{text}, {duration((self._clock() - self._start) / done * left)} left" if done and left else text

    def _show(self, lines: list[str], left: int) -> None:
        from tqdm import tqdm

        for position in range(len(self._bars), len(lines) + 1):
            line = tqdm(bar_format="{desc}", position=position, leave=False, dynamic_ncols=True)
            self._bars.append(self._cleanup.enter_context(contextlib.closing(line)))
        self._bars[0].n = self._total - left
        self._bars[0].refresh()
        for line, text in zip(self._bars[1:], [*lines, *[""] * len(self._bars)], strict=False):
            line.set_description_str(text)


def worker_lines(slots: Sequence[Slot], stages: dict[int, str], now: float, most: int = MOST_WORKERS) -> list[str]:
    """A line for each worker that does something, "host, GPU 3: clip.mp4, sampling, 34 s", the slowest first; of more
    than `most` the number.
    """
    busy = sorted((slot for slot in slots if slot.doing), key=lambda slot: slot.begun if slot.item else slot.since)
    lines = [_line(slot, stages, now) for slot in busy[:most]]
    more = len(busy) - len(lines)
    return [*lines, f"and {more} more workers"] if more else lines


def _line(slot: Slot, stages: dict[int, str], now: float) -> str:
    host, gpu = slot.facts.get("host", f"worker {slot.number}"), slot.facts.get("gpu")
    where = f"{host}, GPU {gpu}" if gpu else str(host)
    if not slot.item:
        return f"{where}: getting ready, {duration(now - slot.since)}"
    stage = "loading" if slot.doing == "load" else stages.get(slot.number, "")
    words = [printable(slot.item.outcome.job.name), *([stage] if stage else []), duration(now - slot.begun)]
    return f"{where}: {', '.join(words)}"


@contextlib.contextmanager
def _cleared_for_log(bars: list) -> Iterator[None]:
    """Within, the bars leave the terminal before a line of the log is written; they come back when they are shown."""

    def clear(_record: logging.LogRecord) -> bool:
        with contextlib.suppress(OSError, ValueError):
            for bar in reversed(bars):
                bar.clear()
        return True

    handlers = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    for handler in handlers:
        handler.addFilter(clear)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(clear)
