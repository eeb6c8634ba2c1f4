"""Which key was held? The one whose true video is nearest: a judge that blur does not lead astray."""

import numpy as np

from mimicmotion.streaming import encode, get_mode
from mimicmotion.worlds.courtyard import Camera
from mimicmotion.worlds.renderer import render
from mimicmotion.worlds.sessions import MODE, hold, leads_on
from mimicmotion.worlds.walk import BLOCK, Walk

JUDGED_KEYS = ("Q", "W", "S", "A", "D", "J", "L")
ROOM_FRAMES = 20  # that every walking key can go on for, at half its speed at least


def true_videos(
    camera: Camera, frames: int, walk: Walk, keys: tuple[str, ...] = JUDGED_KEYS
) -> dict[str, np.ndarray]:
    """Of each key held from `camera` on: uint8 (frames, H, W, 3), the first one as the camera sees it."""
    return {key: render(hold(camera, key, frames, walk).cameras) for key in keys}


def true_blocks(camera: Camera, before: str, walk: Walk) -> dict[str, np.ndarray]:
    """Cameras (12, 4) of the next block by the key that is held; camera: of the frame before, under key `before`."""
    mode = get_mode(MODE)
    last = encode(mode, before)
    held = {key: encode(mode, key).repeat(BLOCK) for key in JUDGED_KEYS}
    row = (last.keyboard[0], last.mouse[0])
    return {key: walk.block(camera, row, action.keyboard, action.mouse) for key, action in held.items()}


def nearest_key(frames: np.ndarray, videos: dict[str, np.ndarray]) -> str:
    """The key whose video differs least from `frames` uint8 (N, H, W, 3), in mean squared error."""
    return min(videos, key=lambda key: squared_error(frames, videos[key]))


def squared_error(frames: np.ndarray, others: np.ndarray) -> float:
    """Mean squared difference in grey levels."""
    return float(np.square(frames.astype(np.float32) - others).mean())


def open_place(seed: int, walk: Walk) -> Camera:
    """A drawn camera from which every walking key leads somewhere."""
    generator = np.random.default_rng(seed)
    while True:
        camera = walk.draw_start(generator)
        if all(leads_on(walk, camera, key, ROOM_FRAMES) for key in "WSAD"):
            return camera
