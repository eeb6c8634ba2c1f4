"""Keyboard and mouse as the models read them: encodings of the three published modes, scripts, bench sequences.

An action belongs to a video frame. Frame f drives the step from f to f + 1, so the last frame of a block is first
felt in the next one. Encodings and bench tables: Matrix-Game-2's conditions and prompts.
"""

import itertools
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mimicmotion.config import MOST_LATENTS, shortened
from mimicmotion.errors import UsageError

CAMERA_STEP = 0.1  # per frame; a maintainer gave 1 degree = 1/15 for the first version, so about 1.5 degrees
BENCH_SEGMENT = 12
SCRIPT_FRAMES = 12
MOST_FRAMES = 4 * MOST_LATENTS

UP, DOWN, LEFT, RIGHT = (CAMERA_STEP, 0.0), (-CAMERA_STEP, 0.0), (0.0, -CAMERA_STEP), (0.0, CAMERA_STEP)


class HeldKeysError(UsageError):
    """Keys that a mode does not take: `keys` are those, `unknown` or more than it takes at once."""

    def __init__(self, message: str, keys: str, unknown: bool):
        super().__init__(message)
        self.keys, self.unknown = keys, unknown


@dataclass(frozen=True)
class ActionMode:
    """One published action set.

    keys: letter -> column of the keyboard vector; camera: letter -> (pitch, yaw); idle: letters for no move.
    one_hot: exactly one column is 1, and `idle_column` is the one for no move.
    """

    name: str
    keyboard_dim: int
    keys: dict[str, int]
    camera: dict[str, tuple[float, float]]
    idle: str
    bench: tuple[str, ...]
    labels: dict[str, str]
    idle_column: int | None = None

    @property
    def one_hot(self) -> bool:
        """Whether keys exclude each other."""
        return self.idle_column is not None

    @property
    def has_mouse(self) -> bool:
        """Whether the model takes mouse movement."""
        return bool(self.camera)

    @property
    def letters(self) -> str:
        """All letters that can be typed."""
        return "".join(self.keys) + "".join(self.camera) + self.idle


@dataclass(frozen=True)
class Actions:
    """Actions of N consecutive frames: keyboard float32 (N, K), mouse float32 (N, 2) or None."""

    keyboard: np.ndarray
    mouse: np.ndarray | None

    def __len__(self) -> int:
        return len(self.keyboard)

    def repeat(self, frames: int) -> "Actions":
        """A single action held for `frames` frames."""
        mouse = None if self.mouse is None else np.repeat(self.mouse, frames, axis=0)
        return Actions(np.repeat(self.keyboard, frames, axis=0), mouse)


def join(actions: Iterable[Actions]) -> Actions:
    """The actions one after the other; at least one."""
    actions = list(actions)
    mouse = None if actions[0].mouse is None else np.concatenate([action.mouse for action in actions])
    return Actions(np.concatenate([action.keyboard for action in actions]), mouse)


_CROSS = tuple(f"{move}{camera}" for move in ("W", "A", "D", "WA", "WD") for camera in "JL")
MODES = {
    mode.name: mode
    for mode in (
        ActionMode(
            "universal",
            keyboard_dim=4,
            keys={"W": 0, "S": 1, "A": 2, "D": 3},
            camera={"I": UP, "K": DOWN, "J": LEFT, "L": RIGHT},
            idle="QU",
            bench=("WA", "WD") * 5 + ("J", "L") * 5 + ("W", "A", "D") * 5 + _CROSS,
            labels={
                "W": "forward", "S": "back", "A": "left", "D": "right", "Q": "no move",
                "I": "look up", "K": "look down", "J": "look left", "L": "look right", "U": "no look",
            },
        ),
        ActionMode(
            "gta_drive",
            keyboard_dim=2,
            keys={"W": 0, "S": 1},
            camera={"A": LEFT, "D": RIGHT},
            idle="Q",
            bench=("A", "D") * 2 + ("W", "S") * 2 + ("WA", "WD", "SA", "SD"),
            labels={"W": "forward", "S": "back", "A": "steer left", "D": "steer right", "Q": "no move"},
        ),
        ActionMode(
            "templerun",
            keyboard_dim=7,
            keys={"W": 1, "S": 2, "Z": 3, "C": 4, "A": 5, "D": 6},
            camera={},
            idle="Q",
            idle_column=0,
            bench=("W", "S", "A", "D", "Z", "C", "Q"),
            labels={
                "W": "jump", "S": "slide", "A": "left side", "D": "right side", "Z": "turn left",
                "C": "turn right", "Q": "no move",
            },
        ),
    )
}  # fmt: skip


def get_mode(name: str) -> ActionMode:
    """The mode called `name`. Raises: UsageError when there is none."""
    if name not in MODES:
        raise UsageError(f"unknown action mode {name!r}; choose one of {', '.join(MODES)}")
    return MODES[name]


def encode(mode: ActionMode, letters: str) -> Actions:
    """One frame with all `letters` held, in any case; spaces and "+" may separate them, none is no move.

    Opposite directions of the mouse cancel; keyboard columns are set one by one.

    Raises: HeldKeysError for a letter that the mode does not know, or several where only one can be held.
    """
    held = set(re.sub(r"[\s+]", "", letters).upper())
    unknown = held - set(mode.letters)
    if unknown:
        keys = ", ".join(sorted(unknown))
        raise HeldKeysError(f"{mode.name} has no key {keys}; its keys are {help_line(mode)}", keys, unknown=True)
    columns = [mode.keys[letter] for letter in held if letter in mode.keys]
    if mode.one_hot:
        columns = columns or [mode.idle_column]
        if len(columns) > 1 or len(held) > 1:
            keys = "+".join(sorted(held))
            raise HeldKeysError(f"{mode.name} takes one key at a time, got {keys}", keys, unknown=False)
    keyboard = np.zeros((1, mode.keyboard_dim), np.float32)
    keyboard[0, columns] = 1
    moves = [mode.camera[letter] for letter in held if letter in mode.camera]
    mouse = np.array([moves or [(0, 0)]], np.float32).sum(1) if mode.has_mouse else None
    return Actions(keyboard, mouse)


def idle(mode: ActionMode) -> Actions:
    """One frame without any move. In a one-hot mode this is not the zero vector."""
    return encode(mode, "")


def help_line(mode: ActionMode, translated: Mapping[str, str] | None = None) -> str:
    """The keys of a mode with their meaning, for prompts and messages; `translated`: label -> another language's."""
    labels = {letter: (translated or {}).get(label, label) for letter, label in mode.labels.items()}
    return ", ".join(f"{letter}: {labels[letter]}" for letter in mode.letters)


class EntryError(UsageError):
    """An entry of a script that cannot be read: `entry`, shortened. For wrong keys it comes from HeldKeysError."""

    def __init__(self, entry: str, why: str):
        super().__init__(f"action script: {shortened(entry)!r}{why}")
        self.entry = shortened(entry)


def parse_script(mode: ActionMode, text: str) -> Actions:
    """Actions of a script such as "W*12 W+L*24 Q" or "w-12,wl-24,q": keys held together, then for how many frames.

    That is 12 where it is not said. Whitespace or commas separate entries; everything from "#" to the end of a line is
    a comment. Frame 0 is the first.

    Raises: UsageError that names the entry, for a malformed one, an unknown key or an empty script.
    """
    entries = [(keys, frames or SCRIPT_FRAMES) for keys, frames in script_entries(mode, text)]
    if not entries:
        raise UsageError("the action script is empty; write for example W*12 W+L*24")
    return join(encode(mode, keys).repeat(frames) for keys, frames in entries)


def script_entries(mode: ActionMode, text: str) -> list[tuple[str, int | None]]:
    """The entries of a script: keys that `mode` has, and for how many frames; None where that is not said.

    Raises: EntryError; UsageError for more frames than can be meant.
    """
    text = re.sub(r"#.*", "", text).strip().removesuffix(",").rstrip()
    entries = [_parse_entry(mode, entry) for entry in re.split(r"\s*,\s*|\s+", text)] if text else []
    total = sum(frames or SCRIPT_FRAMES for _, frames in entries)
    if total > MOST_FRAMES:
        raise UsageError(f"the action script is {total} frames long; at most {MOST_FRAMES} can be meant")
    return entries


def _parse_entry(mode: ActionMode, entry: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"([A-Za-z](?:\+?[A-Za-z])*)(?:[*-]([0-9]{1,12}))?", entry)
    frames = int(found[2]) if found and found[2] else None
    if not found or frames == 0:
        raise EntryError(entry, " is not KEYS*FRAMES or KEYS-FRAMES, for example W+L*24 or wl-24")
    try:
        encode(mode, found[1])
    except HeldKeysError as error:
        raise EntryError(entry, f": {error}") from error
    return found[1], frames


def bench_actions(mode: ActionMode, seed: int) -> Iterator[Actions]:
    """The published bench sequence without end, one frame at a time: frame 0, then segments of 12 frames.

    The draws are those of the published scripts after `random.seed(seed)`, the idle draw of the segment length
    included, so equal seeds give equal actions.
    """
    draw = random.Random(seed)
    for segment in itertools.count():
        draw.randint(0, 0)
        action = encode(mode, mode.bench[draw.randint(0, len(mode.bench) - 1)])
        yield from itertools.repeat(action, 1 if segment == 0 else BENCH_SEGMENT)


def frames_of(actions: Actions) -> Iterator[Actions]:
    """The frames of `actions` one by one."""
    for index in range(len(actions)):
        mouse = None if actions.mouse is None else actions.mouse[index : index + 1]
        yield Actions(actions.keyboard[index : index + 1], mouse)


def block_size(start: int, latents: int) -> int:
    """Video frames of a block of `latents` latents that begins at latent `start`: the first latent of all is one."""
    return 4 * latents - (0 if start else 3)


def by_block(frames: Iterable[Actions], mode: ActionMode, latents: int = 3, start: int = 0) -> Iterator[Actions]:
    """Groups single frames into blocks of `latents` from latent `start` on: 9 frames first, then 12.

    The last block is filled up with no move.
    """
    frames = iter(frames)
    size = block_size(start, latents)
    while group := list(itertools.islice(frames, size)):
        yield join(group + [idle(mode)] * (size - len(group)))
        size = 4 * latents
