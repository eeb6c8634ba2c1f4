"""Who is here, who plays, who waits for the turn, whose session has ended. Whoever calls says when it is, in seconds.

One visitor plays and all others watch him. The turn passes when he gives it up or is gone, and, where somebody waits
for it, when he does nothing or has had it for long enough.
"""

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mimicmotion.errors import InputError
from mimicmotion.serving.held import HeldKeys
from mimicmotion.streaming import ActionMode

if TYPE_CHECKING:
    from mimicmotion.serving.connection import Connection
    from mimicmotion.serving.session import Session
    from mimicmotion.serving.tape import Tape

GRACE = 4.0  # seconds for a window that lost its line to come back before the turn goes on to another one
QUIET = 30.0  # seconds without a key after which the turn goes on to one who waits
MOST_VISITORS = 64
MOST_SESSIONS = 8  # that are kept, each with a cache of the model's


@dataclass(eq=False)
class Visitor:
    """One window of a browser, through all its reconnections; `sid` is his secret, `number` what others may see."""

    sid: str
    number: int
    held: HeldKeys
    last_input: float
    connection: "Connection | None" = None
    gone_since: float = 0.0  # where he is not here
    session: "Session | None" = None
    picture: np.ndarray | None = None  # that he uploaded
    tape: "Tape | None" = None  # that is being recorded
    videos: tuple = ()  # paths of the newest finished recording, clean and with keys
    paused: bool = False
    steps: int = 0  # blocks that are to be made although it is paused
    epoch: int = 0  # what was made in an earlier one is not shown any more
    told: tuple = field(default=())  # the role that he knows of

    @property
    def is_here(self) -> bool:
        """Whether a window of his is connected."""
        return self.connection is not None

    def say(self, type: str, **values) -> None:
        """Sends him a message, if he is here."""
        if self.connection:
            self.connection.say({"type": type, **values})


class Visitors:
    """idle_timeout: seconds without any input after which a session ends; turn_seconds: of a turn while others wait."""

    def __init__(self, mode: ActionMode, idle_timeout: float, turn_seconds: float) -> None:
        self.mode, self.idle_timeout, self.turn_seconds = mode, idle_timeout, turn_seconds
        self.all: dict[str, Visitor] = {}
        self.player: Visitor | None = None
        self.waiting: list[Visitor] = []
        self._turn_since = 0.0
        self._count = 0

    def find(self, sid: str | None) -> Visitor | None:
        """Who has this secret; None where nobody has, or not any more."""
        return self.all.get(sid or "")

    def join(self, sid: str | None, connection: "Connection", now: float) -> Visitor:
        """Who comes, or comes back, through `connection`; he plays if nobody else does.

        Raises: InputError where there are too many.
        """
        visitor = self.find(sid) or self._welcome(now)
        visitor.held.release(now)  # of another window that he had
        visitor.connection, visitor.last_input = connection, now
        if self.player is None:
            self._pass_to(visitor, now)
        return visitor

    def part(self, visitor: Visitor, connection: "Connection", now: float) -> None:
        """`connection` is lost; his keys are let go. One that was replaced by a newer one takes nobody away."""
        if visitor.connection is connection:
            visitor.connection, visitor.gone_since = None, now
            visitor.held.release(now)

    def ask(self, visitor: Visitor, now: float) -> None:
        """He wants the turn."""
        if self.player is None:
            self._pass_to(visitor, now)
        elif visitor is not self.player and visitor not in self.waiting:
            self.waiting.append(visitor)

    def leave(self, visitor: Visitor, now: float) -> None:
        """He gives the turn up, or waits no longer."""
        if visitor in self.waiting:
            self.waiting.remove(visitor)
        if visitor is self.player:
            self._pass_to(self._next(), now)

    def tick(self, now: float) -> list[Visitor]:
        """Lets time do its work; whose sessions have ended. They are no visitors any more."""
        ended = [visitor for visitor in self.all.values() if self._is_over(visitor, now)]
        for visitor in ended:
            self.remove(visitor, now)
        player, following = self.player, self._next()
        if player and not player.is_here and now - player.gone_since > GRACE:
            following = following or next((visitor for visitor in self.all.values() if visitor.is_here), None)
            if following:
                self._pass_to(following, now)
        elif player and player.is_here and following and self._is_done(player, now):
            self._pass_to(following, now)
        return ended

    def remove(self, visitor: Visitor, now: float) -> None:
        """He is no visitor any more; whoever waits for his turn has it."""
        self.all.pop(visitor.sid, None)
        self.leave(visitor, now)

    def role(self, visitor: Visitor) -> tuple[str, int]:
        """player or watcher, and the place among those who wait: 0 for none."""
        place = self.waiting.index(visitor) + 1 if visitor in self.waiting else 0
        return ("player" if visitor is self.player else "watcher"), place

    def surplus(self) -> list[Visitor]:
        """Whose sessions are more than are kept: those longest without input first, never the player's."""
        idle = [visitor for visitor in self.all.values() if visitor.session and visitor is not self.player]
        idle.sort(key=lambda visitor: (visitor.is_here, visitor.last_input))
        return idle[: max(0, len(idle) + 1 - MOST_SESSIONS)]

    def _welcome(self, now: float) -> Visitor:
        if len(self.all) >= MOST_VISITORS:
            kept = {self.player, *(visitor for visitor in self.all.values() if visitor.is_here or visitor.tape)}
            gone = set(self.all.values()) - kept
            if not gone:
                raise InputError("too many visitors are here; try again later")
            self.remove(min(gone, key=lambda visitor: (visitor.session is not None, visitor.last_input)), now)
        self._count += 1
        visitor = Visitor(secrets.token_urlsafe(18), self._count, HeldKeys(self.mode), now)
        self.all[visitor.sid] = visitor
        return visitor

    def _is_over(self, visitor: Visitor, now: float) -> bool:
        if visitor.is_here and visitor is not self.player and visitor.session is None:
            return False  # who only watches takes nothing
        return not visitor.held.keys and now - visitor.last_input > self.idle_timeout

    def _is_done(self, player: Visitor, now: float) -> bool:
        quiet = not player.held.keys and now - player.last_input > QUIET
        return quiet or now - self._turn_since > self.turn_seconds

    def _next(self) -> Visitor | None:
        return next((visitor for visitor in self.waiting if visitor.is_here), None)

    def _pass_to(self, visitor: Visitor | None, now: float) -> None:
        if self.player:
            self.player.held.release(now)
            self.player.held.forget()
        if visitor in self.waiting:
            self.waiting.remove(visitor)
        self.player, self._turn_since = visitor, now
        if visitor:
            visitor.last_input = now
