"""Held keys and mouse movement as they come, and the actions of a block that follow from them.

Nothing here knows the clock: whoever calls says when it is, in seconds.
"""

from dataclasses import dataclass

import numpy as np

from mimicmotion.streaming import CAMERA_STEP, ActionMode, Actions, encode, join

MOST_TAPS = 64  # between two samples
LARGEST_STEP = 1.0  # of the camera in one frame, in steps: more than this the models never saw
CARRIED_BLOCKS = 1.0  # of movement that did not fit; what is older than that nobody remembers having made


@dataclass(frozen=True)
class Tap:
    """A key that was pressed and let go since the last sample: when, and for how many seconds."""

    key: str
    pressed: float
    seconds: float


class HeldKeys:
    """The keys of one player. A key that is held at a sample is felt for the whole block; one that was tapped before
    it, for as many frames as it was held, one at least.
    """

    def __init__(self, mode: ActionMode) -> None:
        self.mode = mode
        self.seq = 0  # of the newest input
        self._pressed: dict[str, float] = {}  # key -> since when, in the order of pressing
        self._felt: frozenset[str] = frozenset()  # held at the last sample: felt up to its block's end already
        self._taps: list[Tap] = []
        self._look = np.zeros(2)  # pitch and yaw, in steps

    @property
    def keys(self) -> tuple[str, ...]:
        """What is held now."""
        return tuple(self._pressed)

    def change(self, seq: int, keys: frozenset[str], look: tuple[float, float], now: float) -> None:
        """What is held from `now` on, and how far the mouse has moved since the last message."""
        self.seq = max(seq, self.seq)
        for key in set(self._pressed) - keys:
            self._let_go(key, now)
        for key in sorted(keys - set(self._pressed)):
            self._pressed[key] = now
        self._look += look

    def release(self, now: float) -> None:
        """Lets all keys go, as when a player's window or his line is gone."""
        self.change(self.seq, frozenset(), (0, 0), now)

    def forget(self) -> None:
        """What was tapped and moved so far is not felt any more, as after a pause; what is held is."""
        self._taps.clear()
        self._look[:] = 0

    def sample(self, frames: int, fps: float) -> Actions:
        """The actions of the next block of `frames` frames, of which `fps` are shown in a second."""
        rows = [list(self._pressed) for _ in range(frames)]
        first = min((tap.pressed for tap in self._taps), default=0.0)
        for tap in self._taps:
            length = min(max(1, round(tap.seconds * fps)), frames)
            begin = min(round((tap.pressed - first) * fps), frames - length)
            for row in rows[begin : begin + length]:
                row.append(tap.key)
        actions = join(encode(self.mode, "".join(self._compatible(row))) for row in rows)
        self._felt, self._taps = frozenset(self._pressed), []
        return self._with_look(actions)

    def _let_go(self, key: str, now: float) -> None:
        pressed = self._pressed.pop(key)
        if key in self._felt:
            self._felt -= {key}
        elif len(self._taps) < MOST_TAPS:
            self._taps.append(Tap(key, pressed, now - pressed))

    def _compatible(self, keys: list[str]) -> list[str]:
        """Where one key at a time can be held, the one that was pressed last."""
        return keys[-1:] if self.mode.one_hot else keys

    def _with_look(self, actions: Actions) -> Actions:
        if actions.mouse is None:
            self._look[:] = 0
            return actions
        frames = len(actions)
        by_keys = actions.mouse / CAMERA_STEP
        share = np.clip(self._look / frames, -LARGEST_STEP, LARGEST_STEP)
        steps = np.clip(by_keys + share, -LARGEST_STEP, LARGEST_STEP)
        most = CARRIED_BLOCKS * frames * LARGEST_STEP
        self._look = np.clip(self._look - (steps - np.clip(by_keys, -LARGEST_STEP, LARGEST_STEP)).sum(0), -most, most)
        return Actions(actions.keyboard, (steps * CAMERA_STEP).astype(np.float32))
