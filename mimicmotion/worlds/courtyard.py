"""The courtyard: where its walls and pillars stand, and how a camera moves between them.

A camera is float64 (x, y, yaw, pitch): metres on the floor from the south-west corner, x to the east, and radians,
yaw counted from the east towards the north, pitch upwards. An action belongs to a frame, as in
`mimicmotion.streaming`: action f drives the step from frame f to f + 1.
"""

import numpy as np

SIDE = 8.0
WALL_MARGIN = 1.0  # the camera keeps this far from walls, so that a picture is never one of them alone
PILLAR_MARGIN = 0.4
SPEED = 0.12  # a frame: 1.44 in a block of 12, which shifts near things more than turning does
TURN = np.radians(1.5)  # a frame, for a mouse value of MOUSE_STEP
MOUSE_STEP = 0.1
HIGHEST_PITCH = np.radians(12)

# Pillars: west, south, east and north sides on the floor. The gaps let a camera through.
PILLARS = np.array(
    [[1.6, 1.6, 2.4, 2.4], [5.4, 1.5, 6.2, 2.3], [3.6, 3.8, 4.4, 4.6], [1.6, 5.6, 2.4, 6.4], [5.6, 5.4, 6.4, 6.2]]
)

Camera = np.ndarray


def is_free(x: float, y: float) -> bool:
    """Whether a camera can stand at a place."""
    if not WALL_MARGIN <= min(x, y) <= max(x, y) <= SIDE - WALL_MARGIN:
        return False
    west, south, east, north = (PILLARS + np.array([-1, -1, 1, 1]) * PILLAR_MARGIN).T
    return not np.any((west < x) & (x < east) & (south < y) & (y < north))


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


def walk(start: Camera, keyboard: np.ndarray, mouse: np.ndarray) -> np.ndarray:
    """Cameras (N, 4) of frames 0 .. N - 1 under actions (N, 4) and (N, 2). The last action is not felt any more."""
    cameras = [np.asarray(start, np.float64)]
    for keys, look in zip(keyboard[:-1], mouse[:-1], strict=True):
        cameras.append(move(cameras[-1], keys, look))
    return np.stack(cameras)


def draw_start(generator: np.random.Generator) -> Camera:
    """A free place and a view straight ahead in any direction."""
    while True:
        x, y = generator.uniform(WALL_MARGIN, SIDE - WALL_MARGIN, 2)
        if is_free(x, y):
            return np.array([x, y, generator.uniform(0, 2 * np.pi), 0.0])
