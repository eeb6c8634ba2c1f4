"""Which key was held? The one whose true video is nearest: a judge that blur does not lead astray."""

import numpy as np

from mimicmotion.worlds.courtyard import SPEED, Camera, draw_start
from mimicmotion.worlds.renderer import render
from mimicmotion.worlds.sessions import hold

JUDGED_KEYS = ("Q", "W", "S", "A", "D", "J", "L")
ROOM_FRAMES = 20  # that every walking key can go on for, at half its speed at least


def true_videos(camera: Camera, frames: int, keys: tuple[str, ...] = JUDGED_KEYS) -> dict[str, np.ndarray]:
    """Of each key held from `camera` on: uint8 (frames, H, W, 3), the first one as the camera sees it."""
    return {key: render(hold(camera, key, frames).cameras) for key in keys}


def nearest_key(frames: np.ndarray, videos: dict[str, np.ndarray]) -> str:
    """The key whose video differs least from `frames` uint8 (N, H, W, 3), in mean squared error."""
    return min(videos, key=lambda key: squared_error(frames, videos[key]))


def squared_error(frames: np.ndarray, others: np.ndarray) -> float:
    """Mean squared difference in grey levels."""
    return float(np.square(frames.astype(np.float32) - others).mean())


def open_place(seed: int) -> Camera:
    """A drawn camera from which every walking key leads somewhere."""
    generator = np.random.default_rng(seed)
    while True:
        camera = draw_start(generator)
        ends = [hold(camera, key, ROOM_FRAMES + 1).cameras[-1] for key in "WSAD"]
        if min(np.hypot(*(end - camera)[:2]) for end in ends) > ROOM_FRAMES * SPEED / 2:
            return camera
