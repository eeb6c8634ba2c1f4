"""Walking freely, to any place and in any direction. Action f drives the step from frame f to f + 1."""

import itertools

import numpy as np

from mimicmotion.worlds.courtyard import HIGHEST_PITCH, SIDE, WALL_MARGIN, Camera, is_free
from mimicmotion.worlds.walk import Walk

SPEED = 0.12  # a frame: 1.44 in a block of 12, which shifts near things more than turning does
TURN = np.radians(1.5)  # a frame, for a mouse value of MOUSE_STEP
MOUSE_STEP = 0.1
STEPS = tuple(itertools.product((-1, 0, 1), (-1, 0, 1), (-1, 0, 1)))  # forward, right, mouse
# Looking up and down is rare.
HELD = {
    "Q": 8, "W": 16, "S": 12, "A": 14, "D": 14, "J": 10, "L": 10, "WJ": 4, "WL": 4, "AL": 2, "DJ": 2, "I": 2, "K": 2,
}  # fmt: skip


def draw_start(generator: np.random.Generator) -> Camera:
    """A free place and a view straight ahead in any direction."""
    while True:
        x, y = generator.uniform(WALL_MARGIN, SIDE - WALL_MARGIN, 2)
        if is_free(x, y):
            return np.array([x, y, generator.uniform(0, 2 * np.pi), 0.0])


def move(camera: Camera, keyboard: np.ndarray, mouse: np.ndarray) -> Camera:
    """The camera one frame later.

    keyboard: (4,) of 0 and 1 for forward, back, left and right; mouse: (2,) pitch and yaw, MOUSE_STEP up and right,
    as in mode `universal`. Two keys at once are no faster than one; walls let the camera slide along them.
    """
    x, y, yaw, pitch = camera
    forward, right = float(keyboard[0] - keyboard[1]), float(keyboard[3] - keyboard[2])
    speed = SPEED / max(1.0, np.hypot(forward, right))
    step_x = speed * (forward * np.cos(yaw) + right * np.sin(yaw))
    step_y = speed * (forward * np.sin(yaw) - right * np.cos(yaw))
    if is_free(x + step_x, y):
        x += step_x
    if is_free(x, y + step_y):
        y += step_y
    turn = TURN / MOUSE_STEP
    pitch = np.clip(pitch + turn * float(mouse[0]), -HIGHEST_PITCH, HIGHEST_PITCH)
    return np.array([x, y, yaw - turn * float(mouse[1]), pitch])


def follow_actions(start: Camera, keyboard: np.ndarray, mouse: np.ndarray) -> np.ndarray:
    """Cameras (N, 4) of frames 0 .. N - 1 under actions (N, 4) and (N, 2). The last action is not felt any more."""
    cameras = [np.asarray(start, np.float64)]
    for keys, look in zip(keyboard[:-1], mouse[:-1], strict=True):
        cameras.append(move(cameras[-1], keys, look))
    return np.stack(cameras)


def end(camera: Camera, keyboard: np.ndarray, mouse: np.ndarray) -> Camera:
    """Where the camera is when all of these actions are felt."""
    for keys, look in zip(keyboard, mouse, strict=True):
        camera = move(camera, keys, look)
    return camera


def block(camera: Camera, before: tuple, keyboard: np.ndarray, mouse: np.ndarray) -> np.ndarray:
    """Cameras of a block's frames. camera: of the frame before it, whose own action drives the first step."""
    return follow_actions(move(camera, *before), keyboard, mouse)


def reachable(camera: Camera, frames: int) -> np.ndarray:
    """Cameras after `frames` frames of each combination of keys and mouse, and half as far."""
    ends = []
    for forward, right, turn in STEPS:
        keys = np.array([forward > 0, forward < 0, right < 0, right > 0], float)
        there = camera
        for frame in range(frames):
            there = move(there, keys, np.array([0, MOUSE_STEP * turn]))
            if frame == frames // 2 - 1:
                ends.append(there)
        ends.append(there)
    return np.array(ends)


FREE_WALK = Walk(
    "free",
    held=HELD,
    tries=3,
    rest_share=0.0,
    aligned_share=0.7,
    first_frame_decides=False,
    still_error=(0.2, 4.0),
    quarter_turn=5,
    draw_start=draw_start,
    follow_actions=follow_actions,
    end=end,
    block=block,
    reachable=reachable,
    length=lambda frames: SPEED * frames,
)
