"""`runs.jsonl`, the history of an output folder: nothing in it is ever replaced.

    {"kind": "run", "run": ID, "time": ..., ...}      when a run begins, with its command and settings
    {"kind": "item", "run": ID, "time": ..., ...}     as each of its results ends
    {"kind": "skipped", "run": ID, "time": ..., "count": ...}   of very many, how many were finished and have no line
    {"kind": "end", "run": ID, "time": ..., "exit_code": ...}

A run that was killed has no end. Many processes may write at the same time: a line is appended in one piece under a
lock of the kernel, which a dead process cannot hold. What a broken machine left of a line stays where it is; the next
line begins a new one, and readers pass over the rest.
"""

import contextlib
import fcntl
import json
import logging
import os
import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from mimicmotion.config import Config
from mimicmotion.errors import INTERRUPTED, MimicMotionError
from mimicmotion.results.circumstances import now, provenance
from mimicmotion.results.sidecar import versions

logger = logging.getLogger(__name__)

LOG_NAME = "runs.jsonl"
LONGEST_LINE = 2**20


class RunLog:
    """One run's lines in the history of `folder`. A line that cannot be written is a message in the log and nothing
    worse: results count more than their history.

    Whoever runs sets `exit_code`; an error that ends the run sets it too.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder) / LOG_NAME
        self.run = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        self.exit_code = 0
        self._broken = False

    def item(self, **facts: object) -> None:
        """One of its results has ended; `facts` are plain values, among them its `status`."""
        self.write("item", facts)

    def skipped(self, count: int) -> None:
        """So many of its results were finished before and have no line."""
        self.write("skipped", {"count": count})

    def write(self, kind: str, facts: dict) -> None:
        """A line of `kind` "run", "item", "skipped" or "end"."""
        try:
            append_line(self.path, {"kind": kind, "run": self.run, "time": now()} | facts)
        except OSError as error:
            if not self._broken:
                logger.error("the history %s cannot be written: %s", self.path, error.strerror)
            self._broken = True


@contextlib.contextmanager
def recorded(folder: str | Path, config: Config, planned: int = 1, **facts: object) -> Iterator[RunLog]:
    """A run of `config` whose beginning and end are written into the history of `folder`; `planned`: its results,
    `facts`: plain values that its first line says as well.
    """
    log, start = RunLog(folder), time.perf_counter()
    log.write("run", {"planned": planned, **facts, "versions": versions()} | provenance(config))
    try:
        yield log
    except KeyboardInterrupt:
        log.exit_code = INTERRUPTED
        raise
    except Exception as error:
        log.exit_code = error.exit_code if isinstance(error, MimicMotionError) else 1
        raise
    finally:
        log.write("end", {"exit_code": log.exit_code, "seconds": round(time.perf_counter() - start, 3)})


def append_line(path: Path, record: dict) -> None:
    """Appends `record` as one line of JSON, whole or not at all. Raises: OSError."""
    append_lines(path, json.dumps(record).encode() + b"\n")


def append_lines(path: Path, lines: bytes) -> None:
    """Appends whole lines, all or none, however many processes do so at the same time. Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        # Not every network drive has locks; one write in append mode is then the best there is.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        try:
            _write_all(descriptor, lines)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def read_lines(path: Path) -> Iterator[dict | None]:
    """Every record of a history, oldest first; None for each line that is none. Raises: OSError."""
    with open(path, "rb") as file:
        while line := file.readline(LONGEST_LINE):
            yield _record(line)


def _record(line: bytes) -> dict | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, dict) and all(isinstance(record.get(key), str) for key in ("kind", "run", "time")):
        return record
    return None
