"""A stick person in three dimensions that can crouch, bend and turn: poses whose true size is known.

For measuring the alignment and for tests; nothing on the way from a video to a picture uses it.
"""

from collections.abc import Sequence

import numpy as np

from mimicmotion.dwpose.keypoints import Pose, make_bodies

# Lengths in body heights; x to the picture's right, y down, z away from the camera, origin between the feet.
SHIN = THIGH = 0.23
ANKLE_Y = -0.04
HIP_X, SHOULDER_X, UPPER_ARM, FOREARM = 0.07, 0.11, 0.16, 0.14
# Joints that turn with the torso, relative to the middle of the hips.
TORSO = {
    0: (0, -0.40, -0.06),
    1: (0, -0.30, 0),
    2: (-SHOULDER_X, -0.30, 0),
    5: (SHOULDER_X, -0.30, 0),
    14: (-0.018, -0.42, -0.05),
    15: (0.018, -0.42, -0.05),
    16: (-0.04, -0.41, 0),
    17: (0.04, -0.41, 0),
}


def stick_figure(
    crouch: float = 0.0, bend: float = 0.0, turn: float = 0.0, arms: tuple[float, float] = (0.2, 0.2)
) -> np.ndarray:
    """The 18 joints (18, 3) of a person of height 1 with one foot level.

    Radians: crouch turns the thighs forward and the shins back, bend the torso forward, turn the whole person
    about the vertical; arms lifts the right and the left arm sideways.
    """
    joints = np.zeros((18, 3))
    for side, hip in ((-1, 8), (1, 11)):
        joints[hip + 2] = side * HIP_X, ANKLE_Y, 0
        joints[hip + 1] = joints[hip + 2] + (0, -SHIN * np.cos(crouch), -SHIN * np.sin(crouch))
        joints[hip] = joints[hip + 1] + (0, -THIGH * np.cos(crouch), THIGH * np.sin(crouch))
    middle = (joints[8] + joints[11]) / 2
    for joint, (x, y, z) in TORSO.items():
        joints[joint] = middle + _rotated(x, y, z, bend)
    for side, shoulder, lift in ((-1, 2, arms[0]), (1, 5, arms[1])):
        along = np.array([side * np.sin(lift), np.cos(lift), 0])
        joints[shoulder + 1] = joints[shoulder] + UPPER_ARM * along
        joints[shoulder + 2] = joints[shoulder + 1] + FOREARM * along
    cos, sin = np.cos(turn), np.sin(turn)
    x, y, z = joints.T
    return np.stack([x * cos + z * sin, y, z * cos - x * sin], axis=1)


def _rotated(x: float, y: float, z: float, bend: float) -> tuple[float, float, float]:
    """Turned about the hips towards the camera."""
    return x, y * np.cos(bend) - z * np.sin(bend), y * np.sin(bend) + z * np.cos(bend)


def project(
    joints: np.ndarray, height: float, ground: tuple[float, float], size: tuple[int, int], score: float = 0.9
) -> Pose:
    """The pose (without hands and face) of a figure seen from the front, as float64.

    height: the person's, in frame heights. ground: where it stands, x and y in 0..1. size: (height, width) of
    the frame in pixels.
    """
    x = ground[0] + joints[:, 0] * height * size[0] / size[1]
    y = ground[1] + joints[:, 1] * height
    return {
        "bodies": make_bodies(np.stack([x, y], axis=-1), np.full((1, 18), score)),
        "hands": np.zeros((2, 21, 2)),
        "hands_score": np.zeros((2, 21)),
        "faces": np.zeros((1, 68, 2)),
        "faces_score": np.zeros((1, 68)),
    }


def disturb(
    poses: Sequence[Pose],
    rng: np.random.Generator,
    noise: float = 0.004,
    dropouts: float = 0.05,
    outliers: float = 0.03,
) -> list[Pose]:
    """Copies with imperfect body joints.

    noise: standard deviation in 0..1 of every joint. dropouts: share of joints at a random place with score
    0.1. outliers: share of joints that keep their score and lie about a tenth of the frame away.
    """
    disturbed = []
    for pose in poses:
        bodies = pose["bodies"]
        points, score = bodies["candidate"].copy(), bodies["score"].copy()
        points += rng.normal(0, noise, points.shape)
        wrong = rng.random(len(points)) < outliers
        points[wrong] += rng.normal(0, 0.1, (wrong.sum(), 2))
        unseen = rng.random(len(points)) < dropouts
        points[unseen] = rng.random((unseen.sum(), 2))
        score[0, unseen] = 0.1
        disturbed.append(pose | {"bodies": make_bodies(points, score)})
    return disturbed
