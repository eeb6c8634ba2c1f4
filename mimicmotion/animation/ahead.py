"""What the next results need, made ready while one is made: their clips, or latents too. The same, only sooner."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from mimicmotion.errors import InputError, NumericalError, tells_of_memory
from mimicmotion.results import Job
from mimicmotion.video import end_reading_of

LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class _Ready:
    """What was made of a job, or why nothing; `seconds` is how long that took."""

    job: Job
    made: Any
    error: Exception | None
    seconds: float


class Ahead:
    """Prepares jobs in one thread, which all preparing goes through: detectors remember what they saw before.

    Args:
        prepare: makes of a job what its result needs; called in that thread.
        jobs: all jobs of the run in their order.
        is_finished: which of them need nothing; asked there too.
        depth: how many may wait for their turn; may be changed.
        stop: is set when the run ends before its jobs; `prepare` then gives up as soon as it can.
        behind: where `prepare` itself takes from, if that prepares ahead too.
    """

    def __init__(
        self,
        prepare: Callable[[Job], Any],
        jobs: Iterable[Job],
        is_finished: Callable[[Job], bool],
        depth: int,
        stop: threading.Event,
        behind: "Ahead | None" = None,
    ):
        self._prepare, self.depth, self._stop, self._behind = prepare, depth, stop, behind
        self._left = (job for job in jobs if not is_finished(job))
        self._begun: deque[Future[_Ready | None]] = deque()
        self._worker = ThreadPoolExecutor(1, "prepares clips")
        self._thread = self._worker.submit(threading.get_ident).result()

    def take(self, job: Job) -> tuple[Any, float]:
        """What was made of a job and the seconds that it took; the next jobs are begun.

        Jobs are to come in their order; some may be left out.

        Raises: what `prepare` raises. A failure that may come of two results at a time, such as too little memory, is
            none before the job was prepared once more in its turn.
        """
        ready = self._found(job)
        if ready is None or _may_pass(ready.error):
            self._begin(self._make, job)
            ready = self._begun[-1].result()
            self._begun.pop()
        while len(self._begun) < self.depth:
            self._begin(self._next)
        if ready.error:
            raise ready.error
        return ready.made, ready.seconds

    def settle(self) -> None:
        """Waits until nothing is being prepared."""
        wait(self._begun)

    def close(self) -> None:
        """Ends what is begun; no process that reads a video is left."""
        self._stop.set()
        self._worker.shutdown(wait=False, cancel_futures=True)
        while running := [future for future in self._begun if not future.done()]:
            for ahead in filter(None, (self, self._behind)):
                end_reading_of(ahead._thread)
            wait(running, LOOK_SECONDS)
        self._worker.shutdown()
        if self._behind:
            self._behind.close()

    def _found(self, job: Job) -> _Ready | None:
        """What was begun for the job. Clips before it go: somebody else has finished their results meanwhile."""
        if not self._begun:
            self._begin(self._next)
        while self._begun:
            # What is waited for stays among them, for `close` to end it.
            ready = self._begun[0].result()
            self._begun.popleft()
            if ready is not None and ready.job.output == job.output:
                return ready
        return None

    def _begin(self, work: Callable[..., _Ready | None], *given: Job) -> None:
        self._begun.append(self._worker.submit(work, *given))

    def _next(self) -> _Ready | None:
        with contextlib.suppress(Exception):  # what cannot be looked at fails in its turn
            job = None if self._stop.is_set() else next(self._left, None)
            return None if job is None else self._make(job)
        return None

    def _make(self, job: Job) -> _Ready:
        start = time.perf_counter()
        try:
            made, error = self._prepare(job), None
        except Exception as raised:
            made, error = None, raised
        return _Ready(job, made, error, time.perf_counter() - start)


def _may_pass(error: Exception | None) -> bool:
    own = isinstance(error, InputError | NumericalError)  # the job's own, whoever is beside it
    return error is not None and (not own or tells_of_memory(str(error)))
