"""Workers on processors that prepare what comes next. What they do is of use and never needed: nothing waits for them.

They take no place that a worker wants: none begins while one looks for a place, and one that looks for long finds them
gone.
"""

import logging
from collections.abc import Callable
from typing import Any

from mimicmotion.cluster.performer import Answer
from mimicmotion.cluster.queue import Item, Queue, Slot

logger = logging.getLogger(__name__)

STARTS = 3  # ends in a row, of one that did nothing in between, before it is given up
MAKE_ROOM_AFTER = 30.0  # seconds that a worker has looked for a place
COME_BACK_AFTER = 90.0  # when it was not they who had it


class Preparers:
    """Gives the next items of a queue to workers of their own, each once.

    Args:
        actors: as of the pool.
        order: what `Performer.prepare` gets; the work that it makes prepares an item where others would do it.
        fingerprint: what they must agree in with the machine that this runs on.
        depth: how many of the next items for each of them; 0: there are none.
        limit: seconds for one item; None for no limit.
    """

    def __init__(
        self,
        actors: Any,
        order: tuple,
        fingerprint: dict[str, str],
        depth: int,
        limit: float | None,
        clock: Callable[[], float],
    ):
        self._actors, self._order, self._fingerprint = actors, order, fingerprint
        self._depth, self._limit, self._clock = depth, limit, clock
        self._slots: list[Slot] = []

    @property
    def tickets(self) -> list[Any]:
        """Of the answers that are awaited."""
        return [slot.ticket for slot in self._slots if slot.doing]

    def begin(self, queue: Queue) -> None:
        """Has the next items prepared, by as many as there are workers."""
        if not self._depth:
            return
        self._expire()
        now, count = self._clock(), len(queue.open_slots())
        looking = [now - slot.since for slot in queue.slots if slot.doing == "prepare"]
        if looking and MAKE_ROOM_AFTER <= max(looking) < COME_BACK_AFTER:
            self.end()
            return
        may_start = not looking or max(looking) >= COME_BACK_AFTER
        self._slots += map(Slot, range(len(self._slots), count))
        left = [item for item in queue.upcoming(self._depth * count) if not item.prepared]
        for slot in self._slots[:count]:
            if left and not slot.doing and not slot.closed:
                self._begin(slot, left, may_start)
        if not queue:
            self.end()

    def _begin(self, slot: Slot, left: list[Item], may_start: bool) -> None:
        if slot.ready:
            slot.item = left.pop(0)
            slot.item.prepared = True
            self._ask(slot, "run", slot.item.outcome, True)
        elif may_start:
            slot.worker = self._actors.start_preparer(slot.number)
            self._ask(slot, "prepare", *self._order)

    def _ask(self, slot: Slot, method: str, *arguments: Any) -> None:
        slot.doing, slot.since = method, self._clock()
        slot.ticket = self._actors.ask(slot.worker, method, *arguments)

    def settle(self, ticket: Any) -> None:
        """Takes an answer, or the end of one of them."""
        (slot,) = (slot for slot in self._slots if slot.doing and slot.ticket == ticket)
        try:
            answer = self._actors.answer(ticket)
        # Whatever it was: the item is done without.
        except Exception as error:
            return self._lose(slot, str(error))
        slot.facts, method, slot.doing = answer.facts, slot.doing, ""
        # Whoever makes the result says it once more.
        for _, line in answer.log:
            logger.info("%s, ahead: %s", slot.facts.get("host"), line)
        if answer.kind not in ("ready", "ended"):
            return self._lose(slot, answer.message)
        if method == "prepare":
            return self._welcome(slot, answer)
        slot.failed_starts = 0
        return None

    def _welcome(self, slot: Slot, answer: Answer) -> None:
        slot.ready = answer.fingerprint == self._fingerprint
        if not slot.ready:
            self._lose(slot, "it differs from the machine of the run")

    def _lose(self, slot: Slot, why: str) -> None:
        self._end(slot)
        slot.failed_starts += 1
        slot.closed = slot.failed_starts >= STARTS
        logger.info("What prepares the next items ended, and they go without: %s", why)

    def _expire(self) -> None:
        now = self._clock()
        for slot in self._slots:
            if slot.doing == "run" and self._limit is not None and now - slot.since > self._limit:
                self._lose(slot, f"it took more than {self._limit:g} s")

    def _end(self, slot: Slot) -> None:
        if slot.worker is not None:
            self._actors.end(slot.worker)
        slot.worker, slot.ready, slot.doing = None, False, ""

    def end(self) -> None:
        """Ends all of them."""
        for slot in self._slots:
            self._end(slot)
