"""Keeps a person's left and right apart through time.

MediaPipe now and then takes a front for a back: for some frames the skeleton is mirrored, and a video made
from it turns the person round. A real turn passes through a profile, where left and right meet; a mirrored
skeleton jumps. Only shoulders and hips are asked: feet and hands change places in every stride.
"""

import numpy as np

from mimicmotion.dwpose.keypoints import Pose, arrays_from_pose, num_people, pose_from_arrays

# OpenPose joints, each right one with its left one.
RIGHT = [2, 3, 4, 8, 9, 10, 14, 16]
LEFT = [5, 6, 7, 11, 12, 13, 15, 17]
TRUNK = [2, 5, 8, 11]
OTHER_SIDE = [1, 0, 3, 2]
JUMP = 0.35  # of the trunk's length: how far its four joints must have moved (0.64 for a mirrored front)
BACK = 0.5  # mirrored back, they must lie at less than this part of that distance from where they were
# Frames. Sides must have stayed for so long before a jump is doubted, and a detector that insists longer
# is believed: it may have been wrong before.
PATIENCE = 8


class SideKeeper:
    """Mirrors back the skeletons that changed sides in one jump, in successive poses of one person."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Starts a new clip."""
        self._trunk = None  # (4, 2) of the last frame, in frame heights
        self._agreed = 0  # frames with the sides as they are, as the detector sees them
        self._mirrored = 0  # frames in a row in which it sees them otherwise

    def __call__(self, pose: Pose, size: tuple[int, int]) -> Pose:
        """The pose of the next frame (H, W), sides as before. No person or several end the track."""
        if num_people(pose) != 1:
            self.reset()
            return pose
        trunk = pose["bodies"]["candidate"][TRUNK] * [size[1] / size[0], 1]
        jumped = self._jumped(trunk)
        if jumped and self._agreed >= PATIENCE and self._mirrored < PATIENCE:
            self._mirrored += 1
            pose, trunk = mirror(pose), trunk[OTHER_SIDE]
        else:
            self._mirrored = 0
            self._agreed = 1 if jumped else self._agreed + 1
        self._trunk = trunk
        return pose

    def _jumped(self, trunk: np.ndarray) -> bool:
        if self._trunk is None:
            return False
        kept = np.linalg.norm(trunk - self._trunk, axis=1).mean()
        mirrored = np.linalg.norm(trunk[OTHER_SIDE] - self._trunk, axis=1).mean()
        length = np.linalg.norm(self._trunk[:2].mean(axis=0) - self._trunk[2:].mean(axis=0))
        return bool(kept > JUMP * length and mirrored < BACK * kept)


def mirror(pose: Pose) -> Pose:
    """The same points with right and left joints, and the two hands, exchanged; the face stays."""
    arrays = arrays_from_pose(pose)
    order = np.arange(18)
    order[RIGHT + LEFT] = LEFT + RIGHT
    for name in ("body", "body_score"):
        arrays[name] = arrays[name][:, order]
    for name in ("hands", "hands_score"):
        arrays[name] = arrays[name][:, ::-1]
    return pose_from_arrays(**arrays)
