"""Starting the processes that read video, and hearing from them and from encoders: one that falls silent is ended."""

import contextlib
import fcntl
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from mimicmotion.errors import InputError, SetupError, machine_message, tells_of_memory
from mimicmotion.video.ffmpeg import complaint

# A process that gives no sign of life for so long hangs and is ended.
STALL_SECONDS = 60.0
PIPE_BYTES = 1 << 20
PACKAGE_ROOT = Path(__file__).parents[2]


def worker_command(path: Path) -> list[str]:
    """The command of the worker that reads this file.

    Raises: SetupError where its library is missing.
    """
    if _is_webp(path):
        return _python("mimicmotion.video.webp_worker")
    if importlib.util.find_spec("av") is None:
        raise SetupError("PyAV, which reads video, is not installed; pip install av==18.1.0")
    return _python("mimicmotion.video.pyav_worker")


def _python(module: str) -> list[str]:
    # -P keeps the current folder, whose file names may be anything, out of the import path.
    return [sys.executable, "-P", "-m", module]


def _is_webp(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


# The process that reads for a thread, while there is one.
_reading: dict[int, subprocess.Popen] = {}


def end_reading_of(thread: int) -> None:
    """Kills the process that reads a video for the thread of that number, if there is one: its reader then fails."""
    if process := _reading.get(thread):
        end(process)


@contextlib.contextmanager
def started(command: list[str], request: dict | None = None) -> Iterator[tuple[subprocess.Popen, Callable[[], str]]]:
    """A running process and what it last said on standard error; it is gone at the end of the block.

    Its standard input stays open for as long as this process lives: by its end a worker knows that nobody listens.

    Raises: SetupError when it cannot be started.
    """
    with contextlib.ExitStack() as stack:
        try:
            errors = stack.enter_context(tempfile.TemporaryFile())
            process = _popen(command, errors)
        except OSError as error:
            reason = machine_message(error) or str(error)
            raise SetupError(f"cannot start the program that reads video: {reason}") from error
        _widen(process.stdout)

        def last_words() -> str:
            errors.seek(0)
            return complaint(errors.read().decode(errors="replace"))

        try:
            if request is not None:
                # Where it has ended already, its last words tell why.
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(json.dumps(request).encode() + b"\n")
                    process.stdin.flush()
            _reading[threading.get_ident()] = process
            yield process, last_words
        finally:
            _reading.pop(threading.get_ident(), None)
            process.kill()
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()


def _popen(command: list[str], errors: IO[bytes]) -> subprocess.Popen:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
    # A session of its own: Ctrl-C reaches this process alone, which decides what becomes of the frames.
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=PIPE_BYTES, env=environment,
        start_new_session=True,
    )  # fmt: skip


def _widen(pipe) -> None:
    """A frame is some megabytes, a pipe 64 KiB: with a larger one both sides wait less. Linux only."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


@contextlib.contextmanager
def watched(process: subprocess.Popen, patience: int = 1) -> Iterator[threading.Event]:
    """Ends the process when the block takes longer than `patience` * STALL_SECONDS; the event tells that it was so."""
    stalled = threading.Event()
    watchdog = threading.Timer(patience * STALL_SECONDS, _end, (process, stalled))
    watchdog.start()
    try:
        yield stalled
    finally:
        watchdog.cancel()


def _end(process: subprocess.Popen, stalled: threading.Event) -> None:
    stalled.set()
    end(process)


def end(process: subprocess.Popen) -> None:
    """Kills a process; one that leads a group with all of it, since a child would keep the pipe open."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def ends_by_itself(process: subprocess.Popen, sign: Callable[[], object]) -> bool:
    """Waits for a process; False where it was ended since `sign` of its work stayed the same for STALL_SECONDS."""
    before = sign()
    while True:
        try:
            process.wait(STALL_SECONDS)
            return True
        except subprocess.TimeoutExpired:
            now = sign()
            if now == before:
                end(process)
                return False
            before = now


def ask(path: Path, task: str, limits: dict) -> dict:
    """The facts that a worker finds about a file.

    Raises: InputError that says what is wrong with the file, also when reading it crashes, hangs or takes too much
    memory; SetupError where the reader's library is missing.
    """
    request = {"task": task, "path": str(path.absolute()), **limits}
    with started(worker_command(path), request) as (process, last_words):
        while True:
            with watched(process) as stalled:
                line = process.stdout.readline()
            if not line.endswith(b"\n"):
                break
            answer = json.loads(line)
            if "facts" in answer:
                return answer["facts"]
            if "refused" in answer:
                raise InputError(f"{path} {answer['refused']}")
        if stalled.is_set():
            raise InputError(f"{path}: reading it hangs (no sign of life for {STALL_SECONDS:g} s); re-encode it")
        reason = last_words() or f"exit status {process.wait()}"
        if tells_of_memory(reason):
            raise InputError(f"{path}: reading it fails ({reason}); free some memory or raise its limit (ulimit -v)")
        raise InputError(f"{path}: reading it fails ({reason}); re-encode it with ffmpeg")


def pipe_frames(
    command: list[str],
    request: dict | None,
    shape: tuple[int, int, int],
    count: int,
    report: Callable[[str], object],
    patience: int = 1,
) -> Iterator[np.ndarray]:
    """Up to `count` frames uint8 of `shape` that `command` writes to its standard output; fewer when it fails or hangs.

    What it last said on standard error then goes to `report`. `patience` is for work that takes long before each frame.
    """
    if count == 0:
        return
    with started(command, request) as (process, last_words):
        for _ in range(count):
            frame = np.empty(shape, np.uint8)
            with watched(process, patience):
                whole = process.stdout.readinto(frame.data.cast("B")) == frame.nbytes
            if not whole:
                report(last_words())
                return
            yield frame
