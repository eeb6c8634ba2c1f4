"""Poses of a person who signs: places are chosen, so that what is right is known."""

import numpy as np

from mimicmotion.dwpose import pose_from_arrays

HEIGHT = 0.8  # of the person, in frame heights
# x in body heights from the middle, y in body heights from the top; as OpenPose counts joints.
BODY = np.array([
    (0, 0.07), (0, 0.18), (-0.11, 0.18), (-0.13, 0.33), (-0.13, 0.47), (0.11, 0.18), (0.13, 0.33), (0.13, 0.47),
    (-0.05, 0.47), (-0.05, 0.72), (-0.05, 0.95), (0.05, 0.47), (0.05, 0.72), (0.05, 0.95),
    (-0.02, 0.06), (0.02, 0.06), (-0.04, 0.07), (0.04, 0.07),
])  # fmt: skip
REST = ((0.13, 0.5), (-0.13, 0.5))  # wrists, left and right
HAND = np.concatenate([np.zeros((1, 2)), np.random.default_rng(0).uniform(-0.04, 0.04, (20, 2))])


def signer(left=REST[0], right=REST[1], turn=0.0, score=0.9, aspect=1.0, hands=(True, True), shift=0.0):
    """A pose with both wrists in body heights, as `BODY`; `turn` turns the hands about them, in radians."""
    body = np.add(BODY, (shift, 0))
    body[7], body[4] = left, right
    turned = HAND @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    hand = np.stack([np.add(left, turned), np.add(right, turned)])
    face = body[0] + np.random.default_rng(1).uniform(-0.03, 0.03, (68, 2))
    arrays = [np.array((0.5, 0.1)) + HEIGHT * points / (aspect, 1) for points in (body, hand, face)]
    hand_score = np.array(hands)[:, None] * np.full((2, 21), score)
    scores = [np.full(18, 0.9), hand_score, np.full(68, 0.9)]
    pairs = [part[None].astype(np.float32) for pair in zip(arrays, scores, strict=True) for part in pair]
    return pose_from_arrays(*pairs)
