"""Items and slots: whom an item goes to, and when a slot's machine is to blame and not its items."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

STRIKES = 3  # items that end the workers of one slot in a row before its machine is taken for broken


class Outcomes(Protocol):
    """What a run has to do: so many, each made when it is asked for, so that of a million few are there at a time."""

    def __len__(self) -> int:
        """How many there are in all."""

    def __iter__(self) -> Iterator[Any]:
        """One after the other, once."""


@dataclass(eq=False, slots=True)
class Item:
    """Something to do. `outcome` is what the user of the room gave.

    Attributes:
        tries: how often it was begun.
        ends: how many workers it ended that count against it, and `ended` the slots of all of them.
        prepared: whether somebody was asked to prepare it.
    """

    outcome: Any
    tries: int = 0
    ends: int = 0
    ended: frozenset["Slot"] = frozenset()
    prepared: bool = False


@dataclass(eq=False)
class Slot:
    """A place for a worker, taken by one after the other.

    Attributes:
        number: from 0 on.
        worker: its actor; None where none is there.
        doing: the call that is under way, "prepare", "load" or "run"; "" for none. `ticket` is that of its answer.
        ready: whether the worker was prepared.
        item: what it does, or loads for.
        since: when the call began, and `begun` when the item did.
        strikes: the items that ended its workers since the last one that it brought to an end.
        failed_starts: workers in a row that ended before they did anything.
        closed: whether it gets nothing any more, and `suspected` whether that is for its strikes.
        facts: who its worker is.
    """

    number: int
    worker: Any = None
    doing: str = ""
    ticket: Any = None
    ready: bool = False
    item: Item | None = None
    since: float = 0.0
    begun: float = 0.0
    strikes: list[Item] = field(default_factory=list)
    failed_starts: int = 0
    closed: bool = False
    suspected: bool = False
    facts: dict = field(default_factory=dict)


class Queue:
    """Items that nobody does, and the slots that take them.

    An item that ended a worker goes to another slot, where there is one: if it ends that one's worker too, the item is
    to blame; if it is only one slot whose workers end, its machine is. Such a slot is closed, unless it is the last
    one, and its items have their attempts back.
    """

    def __init__(self, outcomes: Outcomes, count: int):
        self._items: deque[Item] = deque()  # the next ones: those that came back, and those that somebody looked at
        self._unseen, self._fresh = len(outcomes), map(Item, outcomes)
        self.slots: list[Slot] = []
        self.grow(count)

    def __len__(self) -> int:
        return len(self._items) + self._unseen

    def grow(self, count: int) -> None:
        """Adds slots until there are `count`."""
        self.slots += map(Slot, range(len(self.slots), count))

    def open_slots(self) -> list[Slot]:
        """Those that take items."""
        return [slot for slot in self.slots if not slot.closed]

    def for_slot(self, slot: Slot) -> Item | None:
        """The next item that the slot may take; it stays in the queue."""
        seen = next((item for item in self._items if self._may_take(slot, item)), None)
        return seen or (self._look() if self._unseen else None)

    def upcoming(self, count: int) -> list[Item]:
        """The next items, so many if there are; they stay in the queue."""
        while self._unseen and len(self._items) < count:
            self._look()
        return list(islice(self._items, count))

    def _look(self) -> Item:
        item = next(self._fresh)
        self._unseen -= 1
        self._items.append(item)
        return item

    def _may_take(self, slot: Slot, item: Item) -> bool:
        return slot not in item.ended or all(other in item.ended for other in self.open_slots())

    def take(self, item: Item) -> None:
        """Takes an item out."""
        self._items.remove(item)

    def put_back(self, item: Item) -> None:
        """An item that is the next one to be done."""
        self._items.appendleft(item)

    def succeed(self, slot: Slot) -> None:
        """Notes that a slot's worker brought an item to an end."""
        slot.strikes.clear()
        slot.failed_starts = 0

    def strike(self, slot: Slot, item: Item) -> bool:
        """Notes that an item ended the slot's worker; whether the slot is to be closed for it."""
        item.ends += 1
        item.ended |= {slot}
        if len(item.ended) > 1:
            for other in self.slots:
                if item in other.strikes:
                    other.strikes.remove(item)
            return False
        if item not in slot.strikes:
            slot.strikes.append(item)
        return len(slot.strikes) >= STRIKES and len(self.open_slots()) > 1

    def suspect(self, slot: Slot) -> None:
        """Closes a slot whose machine is taken for broken; what its items did counts no more against them."""
        slot.closed = slot.suspected = True
        for item in slot.strikes:
            item.ends = 0

    def acquit(self) -> list[Slot]:
        """Opens the slots again that were suspected of what their items did elsewhere too."""
        acquitted = [slot for slot in self.slots if slot.suspected and len(slot.strikes) < STRIKES]
        for slot in acquitted:
            slot.closed = slot.suspected = False
        return acquitted
