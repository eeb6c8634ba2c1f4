"""The driver's loop: slots get workers, workers get items, and what becomes of both. Ray is elsewhere."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mimicmotion.cli import command_line
from mimicmotion.cluster.performer import Answer, Work
from mimicmotion.cluster.preparers import Preparers
from mimicmotion.cluster.queue import Item, Outcomes, Queue, Slot
from mimicmotion.config import ClusterSettings
from mimicmotion.errors import INTERRUPTED, SetupError

logger = logging.getLogger(__name__)

STARTS = 3  # workers of one slot that end in a row before they did anything, before it is given up
PATIENCE = 0.5  # seconds between two looks at the clock
GROW_EVERY = 30.0  # seconds between two looks for machines that came

Ahead = tuple[Callable[..., Work], tuple, int]


class WorkerLost(Exception):
    """A worker's process has ended, or nobody can say; the message tells why in words."""


class Actors(Protocol):
    """Workers on whatever machines; each does one call at a time."""

    def start(self, slot: int) -> Any:
        """A worker, which may have to wait for a free place before it answers."""

    def start_preparer(self, number: int) -> Any:
        """As `start`, on processors only."""

    def ask(self, worker: Any, method: str, *arguments: Any) -> Any:
        """Calls a method of Performer; the ticket of its answer."""

    def wait(self, tickets: Sequence[Any], seconds: float) -> list[Any]:
        """Those that have an answer, after `seconds` at most if there is none."""

    def answer(self, ticket: Any) -> Answer:
        """Raises: WorkerLost."""

    def end(self, worker: Any) -> None:
        """Ends a worker's process at once, whatever it does."""

    def room(self) -> int:
        """How many workers the machines have room for that are there now."""


class Pool:
    """Does all outcomes of a run on workers.

    Args:
        make, arguments: what makes the Work, in each worker.
        fingerprint: what workers must agree in with the machine that this runs on.
        ahead: what makes the work of those that prepare the next outcomes, its arguments, and how many for each
            worker; None where there are none.
        settled: told of each outcome that has ended, once.
        tell: shown the slots and how many outcomes are left, each time around.
    """

    def __init__(
        self,
        actors: Actors,
        settings: ClusterSettings,
        outcomes: Outcomes,
        make: Callable[..., Work],
        arguments: tuple,
        fingerprint: dict[str, str],
        settled: Callable[[Any], None] = lambda outcome: None,
        tell: Callable[[list[Slot], int], None] = lambda slots, left: None,
        clock: Callable[[], float] = time.monotonic,
        ahead: Ahead | None = None,
    ):
        self._actors, self._settings, self._clock = actors, settings, clock
        surroundings = (os.getcwd(), logger.getEffectiveLevel(), command_line())
        self._order = (make, arguments, *surroundings)
        *preparing, depth = ahead or (make, arguments, 0)
        order = (*preparing, *surroundings)
        self._preparers = Preparers(actors, order, fingerprint, depth, settings.item_timeout, clock)
        self._fingerprint, self._settled, self._tell = fingerprint, settled, tell
        self._room = actors.room() if settings.workers == "auto" else int(settings.workers)
        self._grown = clock()
        self._complaint = ""
        self.queue = Queue(outcomes, self._room)

    def run(self) -> int:
        """Does everything; 0 where each outcome has ended, well or badly, 3 without workers left, 130 interrupted."""
        try:
            while self.queue or any(slot.item for slot in self.queue.slots):
                self._dispatch()
                tickets = {slot.ticket: slot for slot in self.queue.slots if slot.doing}
                if not tickets:
                    logger.error("No worker is left: %s", self._complaint)
                    return SetupError.exit_code
                self._preparers.begin(self.queue)
                for ticket in self._actors.wait([*tickets, *self._preparers.tickets], PATIENCE):
                    if ticket in tickets:
                        self._settle(tickets[ticket])
                    else:
                        self._preparers.settle(ticket)
                self._expire()
                self._grow()
                self._tell(self.queue.slots, len(self.queue) + sum(slot.item is not None for slot in self.queue.slots))
        except KeyboardInterrupt:
            for slot in self.queue.slots:
                if slot.item:
                    self._finish(slot, "interrupted", "run the same command again to go on")
            return INTERRUPTED
        finally:
            self._preparers.end()
        return 0

    def _dispatch(self) -> None:
        """Gives what can be done to who can do it."""
        getting_ready = sum(slot.doing == "prepare" for slot in self.queue.slots)
        for slot in self.queue.open_slots():
            if slot.doing:
                continue
            item = self.queue.for_slot(slot)
            if slot.ready and item:
                self.queue.take(item)
                self._begin(slot, item)
            elif item and getting_ready < len(self.queue):
                getting_ready += 1
                slot.worker, slot.facts = slot.worker or self._actors.start(slot.number), {}
                self._ask(slot, "prepare", *self._order)
            elif slot.worker and not self.queue:
                self._end(slot)  # its GPU is free for others at once

    def _begin(self, slot: Slot, item: Item) -> None:
        item.tries += 1
        slot.item, slot.begun = item, self._clock()
        self._ask(slot, "run", item.outcome)

    def _ask(self, slot: Slot, method: str, *arguments: Any) -> None:
        slot.doing, slot.since = method, self._clock()
        slot.ticket = self._actors.ask(slot.worker, method, *arguments)

    def _end(self, slot: Slot) -> None:
        if slot.worker:
            self._actors.end(slot.worker)
        slot.worker, slot.ready, slot.doing = None, False, ""

    def _settle(self, slot: Slot) -> None:
        """Takes the answer of a worker, or its end."""
        try:
            answer = self._actors.answer(slot.ticket)
        except WorkerLost as lost:
            return self._replace(slot, str(lost))
        method, slot.doing = slot.doing, ""
        slot.facts |= answer.facts
        for level, line in answer.log:
            logger.log(level, "%s: %s", slot.facts.get("host", f"worker {slot.number}"), line)
        if answer.kind == "broken":
            slot.doing = method
            return self._replace(slot, answer.message)
        if answer.kind == "setup":
            return self._dismiss(slot, answer.message)
        if answer.kind == "load":
            return self._ask(slot, "load", slot.item.outcome)
        if answer.kind == "ended":
            return self._take_result(slot, answer.item)
        if method == "load":
            slot.failed_starts = 0
            slot.begun = self._clock()
            return self._ask(slot, "run", slot.item.outcome, True)
        return self._welcome(slot, answer)

    def _welcome(self, slot: Slot, answer: Answer) -> None:
        """Lets a worker begin, unless its results would be others than those of this machine."""
        mine, theirs = self._fingerprint, answer.fingerprint
        names = sorted(name for name in mine | theirs if mine.get(name) != theirs.get(name))
        if names:
            differing = "; ".join(f"{name}: here {mine.get(name)}, there {theirs.get(name)}" for name in names)
            return self._dismiss(slot, f"it differs from this machine in {differing}")
        logger.info("Worker %d: %s", slot.number, place_of(slot))
        slot.ready = True
        return None

    def _take_result(self, slot: Slot, came_back: Any) -> None:
        vars(slot.item.outcome).update(vars(came_back))
        self.queue.succeed(slot)
        self._note(slot)

    def _finish(self, slot: Slot, status: str, message: str) -> None:
        """Notes how an outcome ended whose worker cannot say it."""
        outcome = slot.item.outcome
        outcome.status, outcome.message, outcome.seconds = status, message, self._clock() - slot.begun
        self._note(slot)

    def _note(self, slot: Slot) -> None:
        item, slot.item = slot.item, None
        item.outcome.where = {**slot.facts, "attempt": item.tries}
        self._settled(item.outcome)

    def _replace(self, slot: Slot, why: str) -> None:
        """Ends a worker that cannot go on. Its item is tried again, or given up."""
        item, method = slot.item, slot.doing
        self._end(slot)
        self._complaint = f"{place_of(slot)}: {why}"
        if method != "run":
            logger.warning("A worker did not get ready; %s", self._complaint)
            self._return_item(slot)
            slot.failed_starts += 1
            if slot.failed_starts >= STARTS:
                slot.closed = True
                logger.error("A worker is given up after %d starts: %s", STARTS, self._complaint)
            return
        logger.warning("%s; %s", item.outcome.job.name, self._complaint)
        broken = self.queue.strike(slot, item)
        if item.ends < self._settings.attempts:
            self._return_item(slot)
        else:
            times = f", {item.ends} times" if item.ends > 1 else ""
            self._finish(slot, "failed", f"{why}{times}")
        if broken:
            self._suspect(slot)
        for acquitted in self.queue.acquit():
            logger.warning("Worker %d is not to blame and goes on", acquitted.number)

    def _suspect(self, slot: Slot) -> None:
        self.queue.suspect(slot)
        # Its place stays taken: whoever came next would be sent to the broken GPU, which is free.
        slot.worker = self._actors.start(slot.number)
        names = ", ".join(item.outcome.job.name for item in slot.strikes)
        logger.error("A worker is given up, since items ended it in a row (%s): %s", names, self._complaint)

    def _dismiss(self, slot: Slot, why: str) -> None:
        """Closes a slot whose machine will not do; its item is for the others."""
        self._complaint = f"{place_of(slot)}: {why}"
        logger.error("A worker is given up: %s", self._complaint)
        slot.closed = True
        if slot.item:
            slot.item.outcome.message = why
        self._return_item(slot)

    def _return_item(self, slot: Slot) -> None:
        if slot.item:
            self.queue.put_back(slot.item)
            slot.item = None

    def _expire(self) -> None:
        """Ends workers that are over their time."""
        settings, now = self._settings, self._clock()
        for slot in self.queue.slots:
            running = slot.doing == "run"
            limit = settings.item_timeout if running else settings.start_timeout
            if slot.doing and limit is not None and now - slot.since > limit:
                what = "--item_timeout" if running else "--start_timeout"
                hint = "; is no GPU free?" if slot.doing == "prepare" else ""
                self._replace(slot, f"took more than {limit:g} s ({what}){hint}")

    def _grow(self) -> None:
        """Looks for machines that came meanwhile."""
        now = self._clock()
        if self._settings.workers == "auto" and now - self._grown >= GROW_EVERY:
            self._grown = now
            self.queue.grow(self._actors.room())


def place_of(slot: Slot) -> str:
    """Who a slot's worker is, in words."""
    facts = slot.facts
    if not facts:
        return f"worker {slot.number}, which has no place yet"
    gpu = f", GPU {facts['gpu']}" if "gpu" in facts else ""
    return f"{facts['host']}{gpu}, process {facts['process']}"
