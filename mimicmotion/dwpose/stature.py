"""How tall a person is, whose trunk or shoulders are seen: what distances between poses are measured by."""

from collections.abc import Sequence

import numpy as np

from mimicmotion.dwpose.keypoints import CONFIDENT, Pose, num_people
from mimicmotion.errors import InputError

NECK, SHOULDERS, HIPS = 1, (2, 5), (8, 11)
TRUNK, WIDTH = 0.29, 0.22  # of the body's height: neck to hips, shoulder to shoulder
UPRIGHT = 90  # percentile of a length through a clip: whoever bends or turns looks shorter


def body_height(poses: Sequence[Pose], aspect: float) -> float:
    """Height of the person in frame heights, from the trunk, or from the shoulders where hips are never seen.

    Raises: InputError where neither is seen.
    """
    trunks, widths = [], []
    for pose in poses:
        if num_people(pose):
            points, seen = pose["bodies"]["candidate"] * (aspect, 1.0), pose["bodies"]["score"][0] > CONFIDENT
            if seen[[NECK, *HIPS]].all():
                trunks.append(np.linalg.norm(points[NECK] - points[list(HIPS)].mean(0)))
            if seen[list(SHOULDERS)].all():
                widths.append(np.linalg.norm(np.subtract(*points[list(SHOULDERS)])))
    for lengths, share in ((trunks, TRUNK), (widths, WIDTH)):
        if lengths and (length := float(np.percentile(lengths, UPRIGHT))) > 0:
            return length / share
    raise InputError("neither hips nor shoulders are seen, so that the body's size is not known")
