"""What runs in a worker's process; nothing here knows of Ray."""

import logging
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from mimicmotion.cli import setup_logging, started_as
from mimicmotion.errors import MimicMotionError, SetupError, explain, is_lasting, machine_message
from mimicmotion.progress import stages_told

logger = logging.getLogger(__name__)

MOST_LINES = 50  # of the log that one answer brings


class Work(Protocol):
    """What a run does with its items, on whichever machine. An item has `status`, `message` and `seconds`."""

    def fingerprint(self) -> dict[str, str]:
        """What all workers must agree in, by name. Raises: SetupError."""

    def is_ready(self, item: Any) -> bool:
        """Whether `do` would have nothing to load."""

    def load(self, item: Any) -> None:
        """Loads what the item needs. Raises: SetupError."""

    def device(self) -> str:
        """What it computes on, "cpu..." for a processor; asked after `load`."""

    def do(self, item: Any) -> None:
        """Does the item and notes in it how it ended."""


@dataclass(frozen=True)
class Answer:
    """What a worker says.

    Attributes:
        kind: "ready" for the next; "load" where the item needs what is not loaded; "ended" when an item ended by
            itself, well or badly; "setup" when this machine lacks something; "broken" after errors after which nothing
            is sure.
        message: why, for the last two.
        facts: who answers: host, process, gpu, and of `load` the device.
        fingerprint: of `prepare`.
        item: of "ended", as it is now.
        log: warnings meanwhile, as (level, text).
    """

    kind: str
    message: str = ""
    facts: dict = field(default_factory=dict)
    fingerprint: dict = field(default_factory=dict)
    item: Any = None
    log: tuple[tuple[int, str], ...] = ()


class Performer:
    """Does items one at a time. It raises nothing: every call returns an Answer.

    Args:
        tell: hears the name of each stage that begins.
        gpus: the numbers of those that this process was given; where it got none, it sees none.
    """

    def __init__(self, tell: Callable[[str], None] = lambda stage: None, gpus: Sequence[str] = ()):
        self._tell, self._gpus = tell, tuple(gpus)
        self._work: Work | None = None

    def prepare(
        self, make: Callable[..., Work], arguments: tuple, folder: str, level: int, command: Sequence[str] = ()
    ) -> Answer:
        """Makes the work in `folder`, with what all workers must agree in; nothing is loaded.

        Args:
            level: of the log.
            command: what was typed to start the run, for its records.
        """
        setup_logging(logging.getLevelName(level))
        self._command = command

        def step() -> Answer:
            # Ray hides no GPU from a process that asked for none, and torch would take the first.
            if not self._gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = ""
            _enter(folder)
            self._work = make(*arguments)
            return Answer("ready", fingerprint=self._work.fingerprint())

        return self._guarded(step)

    def load(self, item: Any) -> Answer:
        """Loads what the item needs; a call of its own, since no time limit of items counts here."""

        def step() -> Answer:
            self._tell("loading")
            self._work.load(item)
            device = self._work.device()
            if self._gpus and device.startswith("cpu"):
                return Answer("setup", f"Ray gave GPU {', '.join(self._gpus)} to this worker, but torch finds none")
            return Answer("ready", facts={"device": device})

        return self._guarded(step)

    def run(self, item: Any, loaded: bool = False) -> Answer:
        """Does one item; `loaded`: `load` was called for it."""
        return self._guarded(lambda: self._run(item, loaded))

    def _run(self, item: Any, loaded: bool) -> Answer:
        if not loaded and not self._work.is_ready(item):
            return Answer("load")
        start = time.perf_counter()
        try:
            with stages_told(self._tell), started_as(self._command):
                self._work.do(item)
        except Exception as error:
            if is_lasting(error) or not isinstance(error, MimicMotionError):
                raise
            item.status, item.message = "failed", explain(error)
        item.seconds = time.perf_counter() - start
        return Answer("ended", item=item)

    def _facts(self) -> dict:
        gpu = {"gpu": ", ".join(self._gpus)} if self._gpus else {}
        return {"host": socket.gethostname(), "process": os.getpid(), **gpu}

    def _guarded(self, step: Callable[[], Answer]) -> Answer:
        with kept_log() as lines:
            try:
                answer = step()
            # A library that ends the process by itself must not take the worker along.
            except (Exception, SystemExit) as error:
                answer = _of_error(error)
        return Answer(**vars(answer) | {"log": tuple(lines), "facts": self._facts() | answer.facts})


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise SetupError(f"{folder}: {error.strerror}; all machines must see the same files") from error


def _of_error(error: BaseException) -> Answer:
    if is_lasting(error) or isinstance(error, MimicMotionError):
        return Answer("setup", explain(error))
    if machine_message(error) is None:
        logger.error("%s", "".join(traceback.format_exception(error)).rstrip())
    return Answer("broken", explain(error))


@contextmanager
def kept_log() -> Iterator[list[tuple[int, str]]]:
    """Within, warnings and errors of the log are put into the list, for whoever started this process."""
    lines: list[tuple[int, str]] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(lines) < MOST_LINES:
                lines.append((record.levelno, record.getMessage()))

    keeper = Keeper(logging.WARNING)
    logging.getLogger().addHandler(keeper)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(keeper)
