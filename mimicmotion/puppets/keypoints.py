"""What a whole-body pose detector would ideally say about a rendered frame: places, and confidences.

A joint that is hidden behind another part of the body, outside the picture or on the far side of the head gets a low
confidence, as detectors give it.
"""

import numpy as np

from mimicmotion.dwpose import Pose, pose_from_arrays
from mimicmotion.puppets.person import Person
from mimicmotion.puppets.render import PART, to_picture
from mimicmotion.puppets.skeleton import Skeleton

SEEN, HIDDEN, OUTSIDE = (0.82, 0.98), (0.08, 0.26), (0.01, 0.06)
HEAD = ("head", "hair", "features")


def _limb(side: str, *parts: str) -> tuple[str, ...]:
    return tuple(f"{side}_{part}" for part in parts)


# The parts on which each of the 18 joints lies.
JOINT_PARTS = (
    HEAD,
    ("torso", "neck", *HEAD),
    *(
        parts
        for side in ("right", "left")
        for parts in (
            (*_limb(side, "upper_arm"), "torso"),
            _limb(side, "upper_arm", "forearm"),
            _limb(side, "forearm", "hand"),
        )
    ),
    *(
        parts
        for side in ("right", "left")
        for parts in (
            (*_limb(side, "thigh"), "torso"),
            _limb(side, "thigh", "shin"),
            _limb(side, "shin", "foot"),
        )
    ),
    *(HEAD,) * 4,
)
HAND_PARTS = tuple(_limb(side, "hand", "forearm") for side in ("left", "right"))


def read_keypoints(person: Person, skeleton: Skeleton, parts: np.ndarray, height: int, width: int, rng) -> list[Pose]:
    """The pose of every frame.

    Args:
        parts: the large maps that `render` returns, (T, h, w) uint8.
        height, width: of the frames, pixels.
        rng: numpy generator of the confidences within their ranges.
    """
    body = to_picture(person, skeleton.body, height, width)
    hands = to_picture(person, skeleton.hands, height, width)
    face = to_picture(person, skeleton.face, height, width)
    body_seen = _on_parts(parts, body, JOINT_PARTS)
    body_seen[:, [0, 14, 15, 16, 17]] &= _turned_to_viewer(skeleton)
    hands_seen = np.stack([_on_parts(parts, hands[:, i], (HAND_PARTS[i],) * 21) for i in range(2)], 1)
    outward = (skeleton.face - skeleton.head_centre[:, None])[..., 2] > -0.01
    face_seen = _on_parts(parts, face, ((*HEAD, "neck"),) * 68) & outward
    scores = [
        _confidences(seen, points, rng) for seen, points in ((body_seen, body), (hands_seen, hands), (face_seen, face))
    ]
    points = [array.astype(np.float32) for array in (body, hands, face)]
    return [
        pose_from_arrays(*(array[frame : frame + 1] for pair in zip(points, scores, strict=True) for array in pair))
        for frame in range(len(body))
    ]


def _turned_to_viewer(skeleton: Skeleton) -> np.ndarray:
    """(T, 5) for nose, eyes and ears: whether they are on the near side of the head."""
    near = skeleton.body[:, [0, 14, 15, 16, 17], 2] - skeleton.head_centre[:, None, 2]
    return near > np.array([0, 0, 0, -0.035, -0.035])


def _on_parts(parts: np.ndarray, points: np.ndarray, allowed: tuple) -> np.ndarray:
    """Whether the part at each of `points` (T, N, 2) in 0..1 is among those that are `allowed` for it (N tuples)."""
    frames, h, w = parts.shape
    x = np.clip((points[..., 0] * w).astype(int), 0, w - 1)
    y = np.clip((points[..., 1] * h).astype(int), 0, h - 1)
    table = np.zeros((len(allowed), len(PART)), bool)
    for row, names in zip(table, allowed, strict=True):
        row[[PART[name] for name in names]] = True
    return table[np.arange(len(allowed)), parts[np.arange(frames)[:, None], y, x]]


def _confidences(seen: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    outside = ((points < 0) | (points > 1)).any(-1)
    spread = rng.random(seen.shape)
    low, high = (np.choose(np.where(outside, 2, ~seen), limits) for limits in zip(SEEN, HIDDEN, OUTSIDE, strict=True))
    return (low + (high - low) * spread).astype(np.float32)
