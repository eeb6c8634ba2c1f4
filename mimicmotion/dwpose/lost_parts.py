"""Gives hands and a face back to frames where the detector gave none, so that they do not flicker.

MediaPipe loses hands and faces of small or fast people in most frames. A part comes from the nearest frames that have
it, laid where the wrist or the head is now; without any such frame it stays lost.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mimicmotion.dwpose.keypoints import CONFIDENT, Pose, num_people

NOSE, NECK, EYES = 0, 1, (14, 15)
LEAST_WIDTH = 0.5  # of the eyes' distance where the face was found; a head that is turned further shows another face


class Part(NamedTuple):
    """A hand or the face: its arrays in a pose, its row there, and the two joints that say where it is."""

    field: str
    row: int
    origin: int
    towards: int


PARTS = (Part("faces", 0, NOSE, NECK), Part("hands", 0, 7, 6), Part("hands", 1, 4, 3))


def restore_parts(poses: Sequence[Pose], aspect: float) -> list[Pose]:
    """The poses of a clip, one person or none in each, with lost hands and faces carried over from other frames.

    A part counts as lost where all its scores are exactly 0, which is how detectors without a result are written down;
    a part that was found with little confidence stays as it is. Between two frames that have it, it is blended.

    Args:
        aspect: width / height of the frames.

    Returns: new poses; those given are not changed.
    """
    restored = [_copied(pose) for pose in poses]
    for part in PARTS:
        single = [frame for frame, pose in enumerate(poses) if num_people(pose) == 1]
        found = [frame for frame in single if _scores(poses[frame], part).mean() > CONFIDENT]
        for frame in single:
            if not _scores(poses[frame], part).any() and _anchored(poses[frame], part):
                _carry(restored[frame], part, _neighbours(frame, found, poses), aspect)
    return restored


def _copied(pose: Pose) -> Pose:
    names = ("hands", "hands_score", "faces", "faces_score")
    return pose | {name: pose[name].copy() for name in names}


def _scores(pose: Pose, part: Part) -> np.ndarray:
    return pose[f"{part.field}_score"][part.row]


def _anchored(pose: Pose, part: Part) -> bool:
    return bool((pose["bodies"]["score"][0][[part.origin, part.towards]] > CONFIDENT).all())


def _neighbours(frame: int, found: list[int], poses: Sequence[Pose]) -> list[tuple[float, Pose]]:
    """The last frame before and the first after that have the part, with their weights."""
    ends = [max((f for f in found if f < frame), default=None), min((f for f in found if f > frame), default=None)]
    ends = [end for end in ends if end is not None]
    if len(ends) < 2:
        return [(1.0, poses[end]) for end in ends]
    before, after = ends
    share = (frame - before) / (after - before)
    return [(1 - share, poses[before]), (share, poses[after])]


def _carry(pose: Pose, part: Part, sources: list[tuple[float, Pose]], aspect: float) -> None:
    """Writes the weighted part of `sources` into `pose`."""
    sources = [(weight, source) for weight, source in sources if part.field != "faces" or _alike(source, pose, aspect)]
    total = sum(weight for weight, _ in sources)
    if total == 0:
        return
    pose[part.field][part.row] = sum(weight * _laid(source, pose, part, aspect) for weight, source in sources) / total
    scores = sum(weight * _scores(source, part) for weight, source in sources) / total
    pose[f"{part.field}_score"][part.row] = scores


def _alike(source: Pose, pose: Pose, aspect: float) -> bool:
    """Whether the head of `pose` is turned to the viewer about as much as that of `source`, by the eyes' distance."""
    then, now = (np.subtract(*_joints(any_pose, EYES, aspect))[0] for any_pose in (source, pose))
    return bool(then * now > 0 and LEAST_WIDTH < now / then < 1 / LEAST_WIDTH)


def _laid(source: Pose, pose: Pose, part: Part, aspect: float) -> np.ndarray:
    """The part of `source` moved and turned as its two joints went from `source` to `pose`, in 0..1 of the frame."""
    joints = (part.origin, part.towards)
    (origin, towards), (new_origin, new_towards) = (_joints(any_pose, joints, aspect) for any_pose in (source, pose))
    turn = _angle(new_towards - new_origin) - _angle(towards - origin)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = source[part.field][part.row] * (aspect, 1.0) - origin
    return (points @ rotation.T + new_origin) / (aspect, 1.0)


def _joints(pose: Pose, joints: tuple[int, int], aspect: float) -> np.ndarray:
    """Two joints in frame heights, (2, 2)."""
    return pose["bodies"]["candidate"][list(joints)] * (aspect, 1.0)


def _angle(vector: np.ndarray) -> float:
    return float(np.arctan2(vector[1], vector[0]))
