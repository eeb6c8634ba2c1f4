"""One socket's way out: frames by credit, so that a slow window drops some instead of falling behind.

A frame goes out when the window has a credit left, which it gives back when it has drawn one. Until then the newest
frame waits and replaces the one before it, so the last one of all always arrives.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from mimicmotion.serving.protocol import frame_message

CREDITS = 2
MOST_TEXTS = 100  # that wait for a window which takes nothing


class Line(Protocol):
    """What a connection needs of a web socket."""

    send_json: Callable[[dict], Awaitable[None]]
    send_bytes: Callable[[bytes], Awaitable[None]]
    close: Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Frame:
    """A JPEG with what its header says, and when it was to be seen (seconds of time.monotonic)."""

    header: dict
    jpeg: bytes
    due: float


class Connection:
    """Made in the event loop; `run` sends until it is cancelled or the line is gone."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._credits, self._dropped = CREDITS, 0
        self._frame: Frame | None = None
        self._texts: deque[dict] = deque()
        self._news = asyncio.Event()
        self._ending: tuple[int, str] | None = None

    def say(self, message: dict) -> None:
        """Sends a message; of statuses the newest only."""
        if message["type"] == "status":
            self._texts = deque(text for text in self._texts if text["type"] != "status")
        self._texts.append(message)
        if len(self._texts) > MOST_TEXTS:
            self.end(1008, "the window takes no messages")
        self._news.set()

    def show(self, frame: Frame) -> None:
        """Sends a frame as soon as there is a credit; one that still waited is dropped."""
        self._dropped += self._frame is not None
        self._frame = frame
        self._news.set()

    def ready(self) -> None:
        """The window has drawn a frame."""
        self._credits = min(CREDITS, self._credits + 1)
        self._news.set()

    def end(self, code: int, reason: str) -> None:
        """Closes the line, after what was said before."""
        self._ending = self._ending or (code, reason)
        self._news.set()

    async def run(self) -> None:
        """Sends. Returns when the connection was ended from here."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._texts:
                await self._line.send_json(self._texts.popleft())
            if self._ending:
                await self._line.close(*self._ending)
                return
            if self._frame and self._credits:
                frame, self._frame = self._frame, None
                self._credits -= 1
                told = {"dropped": self._dropped, "age_ms": round(1000 * (time.monotonic() - frame.due), 1)}
                await self._line.send_bytes(frame_message(frame.header | told, frame.jpeg))
                self._news.set()
