"""Sessions in the courtyard: actions as a player would give them, and the camera's path that follows from them."""

from dataclasses import dataclass

import numpy as np

from mimicmotion.streaming import Actions, encode, get_mode, join
from mimicmotion.worlds.courtyard import SPEED, Camera, draw_start, move, walk

MODE = "universal"
# Letters held together and how often they are drawn. Looking up and down is rare.
HELD = {
    "Q": 8, "W": 16, "S": 12, "A": 14, "D": 14, "J": 10, "L": 10, "WJ": 4, "WL": 4, "AL": 2, "DJ": 2, "I": 2, "K": 2,
}  # fmt: skip
TURNING = {"Q": 1, "J": 2, "L": 2}
FIRST_BLOCK, BLOCK = 9, 12  # frames
ALIGNED_SHARE = 0.7  # of sessions whose actions change with the blocks, as they do when played
LENGTHS = (4, 8, 12, 12, 24)  # frames of one action in the others
TRIES = 3  # actions that a wall makes void are drawn again so often


@dataclass(frozen=True)
class Session:
    """Actions and cameras of N frames: keyboard (N, 4), mouse (N, 2), cameras (N, 4)."""

    keyboard: np.ndarray
    mouse: np.ndarray
    cameras: np.ndarray


def draw_session(seed: int, frames: int, held: dict[str, float] = HELD) -> Session:
    """The session of a seed, on any machine the same. held: letters held together and how often."""
    generator = np.random.default_rng(seed)
    start = draw_start(generator)
    aligned = generator.random() < ALIGNED_SHARE
    letters, weights = list(held), np.array(list(held.values()), float)
    parts, camera, done = [], start, 0
    while done < frames:
        length = (BLOCK if done else FIRST_BLOCK) if aligned else int(generator.choice(LENGTHS))
        for _ in range(TRIES):
            keys = letters[generator.choice(len(letters), p=weights / weights.sum())]
            action = encode(get_mode(MODE), keys).repeat(length)
            end = _end(camera, action)
            moved = np.hypot(*(end - camera)[:2])
            if not set(keys) & set("WSAD") or moved > 0.5 * SPEED * length:
                break
        parts.append(action)
        camera, done = end, done + length
    actions = join(parts)
    keyboard, mouse = actions.keyboard[:frames], actions.mouse[:frames]
    return Session(keyboard, mouse, walk(start, keyboard, mouse))


def hold(start: Camera, letters: str, frames: int) -> Session:
    """A session that holds the same keys through `frames` frames."""
    actions = encode(get_mode(MODE), letters).repeat(frames)
    return Session(actions.keyboard, actions.mouse, walk(start, actions.keyboard, actions.mouse))


def _end(camera: Camera, actions: Actions) -> Camera:
    for keyboard, mouse in zip(actions.keyboard, actions.mouse, strict=True):
        camera = move(camera, keyboard, mouse)
    return camera
