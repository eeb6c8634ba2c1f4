"""What page and server say to each other: messages of the page checked, frames packed.

A message of the page is a JSON object of at most `LARGEST_MESSAGE` bytes with a `type`; what else it has is in
`MESSAGES`. The server sends JSON objects, and frames as bytes: four of a length, a JSON header of that length, a JPEG.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mimicmotion.config import LARGEST_SEED, MOST_LATENTS, shortened
from mimicmotion.errors import InputError

LARGEST_MESSAGE = 4096
MOST_KEYS = 16
LARGEST_LOOK = 1000.0  # camera steps in one message
LARGEST_NUMBER = 2**53  # whole numbers are exact in a browser up to here
MOST_NAME = 100
# Why a socket was closed, for the page: it comes back by itself after all others.
TAKEN_OVER = 4001  # the session goes on in another window
ENDED = 4002  # nobody played for too long


@dataclass(frozen=True)
class Message:
    """A checked message: its type and its values by name."""

    type: str
    values: dict[str, Any] = field(default_factory=dict)


def parse(text: str | bytes, letters: str) -> Message:
    """The message in `text`; `letters` are the keys that the world knows.

    Raises: InputError that says what is wrong, in one line.
    """
    if not isinstance(text, str):
        raise InputError("messages are JSON texts, not bytes")
    if len(text.encode(errors="replace")) > LARGEST_MESSAGE:
        raise InputError(f"a message has at most {LARGEST_MESSAGE} bytes")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"a message is no JSON: {shortened(text)}") from error
    kind = found.get("type") if isinstance(found, dict) else None
    if not isinstance(kind, str) or kind not in MESSAGES:
        raise InputError(f"unknown message {shortened(text)}; types are {', '.join(MESSAGES)}")
    wanted = MESSAGES[kind]
    if set(found) != {"type", *wanted}:
        raise InputError(f"a message of the type {kind} has {', '.join(['type', *wanted])}: {shortened(text)}")
    return Message(kind, {name: take(found[name], f"{kind}.{name}", letters) for name, take in wanted.items()})


def frame_message(header: dict, jpeg: bytes) -> bytes:
    """A frame as it is sent."""
    text = json.dumps(header).encode()
    return struct.pack(">I", len(text)) + text + jpeg


def read_frame_message(data: bytes) -> tuple[dict, bytes]:
    """Header and JPEG of `frame_message`."""
    (length,) = struct.unpack_from(">I", data)
    return json.loads(data[4 : 4 + length]), data[4 + length :]


def _whole(most: int) -> Callable:
    def take(value: Any, name: str, _letters: str) -> int:
        if type(value) is not int or not 0 <= value <= most:
            raise InputError(f"{name} must be a whole number from 0 to {most}")
        return value

    return take


def _truth(value: Any, name: str, _letters: str) -> bool:
    if type(value) is not bool:
        raise InputError(f"{name} must be true or false")
    return value


def _keys(value: Any, name: str, letters: str) -> frozenset[str]:
    known = isinstance(value, list) and len(value) <= MOST_KEYS
    if not known or not all(isinstance(key, str) and len(key) == 1 and key in letters for key in value):
        raise InputError(f"{name} must be a list of at most {MOST_KEYS} of the keys {letters}")
    return frozenset(value)


def _look(value: Any, name: str, _letters: str) -> tuple[float, float]:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(number) in (int, float) for number in value)
    # Compared before they become floats: a whole number of 400 digits cannot.
    if not numbers or not all(-LARGEST_LOOK <= number <= LARGEST_LOOK for number in value):
        raise InputError(f"{name} must be two numbers from -{LARGEST_LOOK:g} to {LARGEST_LOOK:g}")
    return float(value[0]), float(value[1])


def _name(value: Any, name: str, _letters: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MOST_NAME:
        raise InputError(f"{name} must be a name")
    return value


# Type -> what a message of it has beside the type.
MESSAGES: dict[str, dict[str, Callable]] = {
    "held": {"seq": _whole(LARGEST_NUMBER), "keys": _keys, "mouse": _look},
    "ready": {},
    "start": {"seed": _whole(min(LARGEST_SEED, LARGEST_NUMBER)), "picture": _name},
    "pause": {"on": _truth},
    "step": {},
    "back": {"block": _whole(MOST_LATENTS)},
    "record": {"on": _truth},
    "play": {},
    "leave": {},
}
