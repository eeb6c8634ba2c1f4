"""Sessions in the courtyard: actions as a player would give them, and the camera's path that follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mimicmotion.streaming import Actions, encode, get_mode, join
from mimicmotion.worlds.courtyard import Camera
from mimicmotion.worlds.walk import BLOCK, FIRST_BLOCK, Walk

MODE = "universal"
TURNING = {"Q": 1, "J": 2, "L": 2}
REST = {"Q": 1}
LENGTHS = (4, 8, 12, 12, 24)  # frames of one action where they do not change with the blocks
LATE_SHARE = 0.1  # of the blocks whose actions change within, where the first frame decides
GENTLE_SHARE = 0.2  # of them whose mouse moves less than a whole step
LEAST_MOUSE = 0.35


@dataclass(frozen=True)
class Session:
    """Actions and cameras of N frames: keyboard (N, 4), mouse (N, 2), cameras (N, 4)."""

    keyboard: np.ndarray
    mouse: np.ndarray
    cameras: np.ndarray


def draw_session(seed: int, frames: int, walk: Walk, held: Mapping[str, float] | None = None) -> Session:
    """The session of a seed, on any machine the same. held: letters held together and how often, else the walk's."""
    generator = np.random.default_rng(seed)
    start = walk.draw_start(generator)
    aligned = generator.random() < walk.aligned_share
    held = walk.held if held is None else held
    rests = walk.rest_share and generator.random() < walk.rest_share
    resting = generator.integers(frames) if rests else frames
    parts, camera, done = [], start, 0
    while done < frames:
        length = (BLOCK if done else FIRST_BLOCK) if aligned else int(generator.choice(LENGTHS))
        action, camera = _draw_part(generator, walk, held if done < resting else REST, camera, length)
        parts.append(action)
        done += length
    actions = join(parts)
    keyboard, mouse = actions.keyboard[:frames], actions.mouse[:frames]
    if walk.first_frame_decides:
        keyboard, mouse = _vary(generator, keyboard, mouse, held)
    return Session(keyboard, mouse, walk.follow_actions(start, keyboard, mouse))


def hold(start: Camera, letters: str, frames: int, walk: Walk) -> Session:
    """A session that holds the same keys through `frames` frames."""
    actions = encode(get_mode(MODE), letters).repeat(frames)
    return Session(actions.keyboard, actions.mouse, walk.follow_actions(start, actions.keyboard, actions.mouse))


def leads_on(walk: Walk, camera: Camera, letters: str, frames: int) -> bool:
    """Whether keys lead at least half as far as in the open; those that do not walk always do."""
    if not set(letters) & set("WSAD"):
        return True
    action = encode(get_mode(MODE), letters).repeat(frames)
    moved = np.hypot(*(walk.end(camera, action.keyboard, action.mouse) - camera)[:2])
    return bool(moved > 0.5 * walk.length(frames))


def _draw_part(generator, walk: Walk, held, camera: Camera, length: int) -> tuple[Actions, Camera]:
    """One action of a session and where it leads."""
    letters, weights = list(held), np.array(list(held.values()), float)
    for _ in range(walk.tries):
        keys = letters[generator.choice(len(letters), p=weights / weights.sum())]
        if leads_on(walk, camera, keys, length):
            break
    action = encode(get_mode(MODE), keys).repeat(length)
    return action, walk.end(camera, action.keyboard, action.mouse)


def _vary(generator, keyboard: np.ndarray, mouse: np.ndarray, held) -> tuple[np.ndarray, np.ndarray]:
    """The same session with other actions after the first frame of some blocks, and gentler moves of the mouse."""
    keyboard, mouse, letters = keyboard.copy(), mouse.copy(), list(held)
    for first in (0, *range(FIRST_BLOCK, len(keyboard), BLOCK)):
        stop = first + (BLOCK if first else FIRST_BLOCK)
        if generator.random() < GENTLE_SHARE:
            mouse[first:stop] *= generator.uniform(LEAST_MOUSE, 1)
        if generator.random() < LATE_SHARE:
            late = encode(get_mode(MODE), letters[generator.integers(len(letters))])
            since = first + int(generator.integers(1, BLOCK))
            keyboard[since:stop], mouse[since:stop] = late.keyboard, late.mouse
    return keyboard, mouse
