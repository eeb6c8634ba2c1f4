"""Poses that are seen in a clip against those that were wanted: body, hands and face, left against left.

A point is expected where the wanted pose holds it as seen (confidence above 0.3) and within the picture. It is missing
where the person that is followed through the clip does not show it, or nobody is seen. Distances are means over all
expected points of the clip that are not missing.

A detector that takes a front for a back gives every point to the other side. So that this can be told from a body in
the wrong place, the share of such frames is measured, and the distance of the body with sides exchanged in them.
"""

from collections.abc import Sequence

import numpy as np

from mimicmotion.config import POSE_PARTS
from mimicmotion.dwpose import (
    CONFIDENT,
    Pose,
    arrays_from_pose,
    body_height,
    empty_pose,
    follow_person,
    mirror,
    num_people,
)
from mimicmotion.errors import InputError
from mimicmotion.features import in_single_precision

# As measures call them: as poses call them, and as `pose.draw` does.
PARTS = {"body": ("body", "body"), "hand": ("hands", "hands"), "face": ("faces", "face")}


class PoseMeter:
    """Finds the poses of a clip's frames.

    Args:
        detector: gives a pose for each uint8 (h, w, 3) frame of a list; it is reset first.
    """

    def __init__(self, detector):
        detector.reset()
        self._detector, self._poses = detector, []

    def add(self, frames: np.ndarray) -> list[Pose]:
        """Takes the next frames, uint8 (n, h, w, 3); the poses of all people in them."""
        found = [in_single_precision(pose) for pose in self._detector(list(frames))]
        self._poses += found
        return found

    def followed(self, aspect: float) -> list[Pose]:
        """The clip's one person, frame by frame; nobody where none is seen, since nothing is bridged."""
        try:
            return follow_person(self._poses, aspect=aspect, max_gap=0)[0]
        except InputError:
            return [empty_pose() for _ in self._poses]


def compare_poses(
    found: Sequence[Pose], wanted: Sequence[Pose], size: tuple[int, int], drawn: Sequence[str] = POSE_PARTS
) -> dict[str, float | None]:
    """Distances and shares of missing points.

    Args:
        found, wanted: a pose with one person or none for each frame, in 0..1 of the frame.
        size: height and width of the frames in pixels.
        drawn: the parts that were drawn; of others nothing is wanted.

    Returns: for body, hand and face `_px` in pixels, `_distance` in percent of the wanted person's height as
        `dwpose.body_height` has it, `_missing` as a share; None where nothing is expected, or nothing of it seen, or
        where neither trunk nor shoulders say how tall the person is. `sides_swapped`: share of the frames in which the
        body is nearer with left and right exchanged; `body_either_side`: `body_distance` with the nearer sides.

    Raises: ValueError where they differ in their number of frames.
    """
    stature = _stature(wanted, size[1] / size[0], size[0])
    pairs = list(zip(found, wanted, strict=True))
    numbers: dict[str, float | None] = {}
    for measure, (part, name) in PARTS.items():
        if name not in drawn:
            continue
        near = [_distances(have, want, part, size) for have, want in pairs]
        expected = sum(int(_expected(want, part)[1].sum()) for want in wanted)
        distances = np.concatenate(near) if near else np.zeros(0)
        numbers |= _mean(distances, stature, measure)
        numbers[f"{measure}_missing"] = 1 - len(distances) / expected if expected else None
    return numbers | _either_side(pairs, stature, size) if "body" in drawn else numbers


def _either_side(pairs: list[tuple[Pose, Pose]], stature: float | None, size: tuple[int, int]) -> dict:
    """How often the body is nearer with its sides exchanged, and its distance with the nearer ones."""
    nearer, swapped, compared = [], 0, 0
    for have, want in pairs:
        kept = _distances(have, want, "body", size)
        if not len(kept):
            continue
        other = _distances(mirror(have), want, "body", size)
        exchanged = len(other) > 0 and other.mean() < kept.mean()
        nearer.append(other if exchanged else kept)
        swapped, compared = swapped + exchanged, compared + 1
    share = swapped / compared if compared else None
    distances = np.concatenate(nearer) if nearer else np.zeros(0)
    return {"sides_swapped": share, "body_either_side": _mean(distances, stature, "body")["body_distance"]}


def _mean(distances: np.ndarray, stature: float | None, measure: str) -> dict[str, float | None]:
    pixels = float(distances.mean()) if len(distances) else None
    share = 100 * pixels / stature if pixels is not None and stature else None
    return {f"{measure}_distance": share, f"{measure}_px": pixels}


def _distances(have: Pose, want: Pose, part: str, size: tuple[int, int]) -> np.ndarray:
    """Of all expected points of a frame that are seen, in pixels."""
    points, expected = _expected(want, part)
    there, seen = _points(have, part)
    if not len(points) or not len(there):
        return np.zeros(0)
    both = expected & seen
    return np.linalg.norm((there[both] - points[both]) * (size[1], size[0]), axis=-1)


def _expected(pose: Pose, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) of a part, and which are to be seen within the picture."""
    points, seen = _points(pose, part)
    return points, seen & ((points >= 0) & (points < 1)).all(-1)


def _points(pose: Pose, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) of the first person's part, and which are seen, (n,); of nobody, none."""
    if not num_people(pose):
        return np.zeros((0, 2)), np.zeros(0, bool)
    arrays = arrays_from_pose(pose)
    return arrays[part][0].reshape(-1, 2), arrays[f"{part}_score"][0].reshape(-1) > CONFIDENT


def _stature(poses: Sequence[Pose], aspect: float, height: int) -> float | None:
    """The person's height in pixels."""
    try:
        return body_height(poses, aspect) * height
    except InputError:
        return None
