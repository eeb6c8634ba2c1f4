"""The courtyard: where its walls and pillars stand.

A camera is float64 (x, y, yaw, pitch): metres on the floor from the south-west corner, x to the east, and radians,
yaw counted from the east towards the north, pitch upwards.
"""

import numpy as np

SIDE = 8.0
WALL_MARGIN = 1.0  # the camera keeps this far from walls, so that a picture is never one of them alone
PILLAR_MARGIN = 0.4
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
