"""Follows one person through a clip and bridges the frames that lack the person.

Detectors answer frame by frame: people change places in their lists, a passer-by is found beside the
performer, and now and then nobody is found. What comes out has one person or none in every frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mimicmotion.dwpose.keypoints import (
    CONFIDENT,
    Pose,
    arrays_from_pose,
    empty_pose,
    num_people,
    pose_from_arrays,
    select_person,
)
from mimicmotion.errors import InputError

MAX_GAP = 8  # frames; about half a second at MimicMotion's 15 frames a second
MIN_JOINTS = 5  # of 18; a portrait shows nose, neck, shoulders, eyes and ears
MIN_SCORE = 0.4  # mean over the seen joints
REACH = 0.5  # body sizes that the joints may move on average between two frames
LOWEST_FADE = 0.5  # share of the confidence that is left in the middle of the longest bridged gap


@dataclass(frozen=True)
class TrackReport:
    """What `follow_person` met and did. All but `rejected` and `restarts` count frames.

    missing = bridged + empty. `restarts` lists the frames where, the person being lost, another was taken up.
    """

    frames: int
    missing: int
    bridged: int
    empty: int
    several: int
    rejected: int
    restarts: tuple[int, ...]

    def __str__(self) -> str:
        parts = [f"person in {self.frames - self.missing} of {self.frames} frames"]
        if self.bridged:
            parts.append(f"{self.bridged} bridged")
        if self.empty:
            parts.append(f"{self.empty} left black")
        if self.several:
            parts.append(f"several people in {self.several}")
        if self.rejected:
            parts.append(f"{self.rejected} uncertain detections ignored")
        if self.restarts:
            parts.append(f"person lost, the largest taken up at frame {', '.join(map(str, self.restarts))}")
        return "; ".join(parts)


def follow_person(
    poses: Sequence[Pose],
    *,
    aspect: float = 1.0,
    max_gap: int = MAX_GAP,
    min_joints: int = MIN_JOINTS,
    min_score: float = MIN_SCORE,
) -> tuple[list[Pose], TrackReport]:
    """One person or none in every frame: the largest confident one of the first frame that has any, followed.

    A detection counts as a person if at least `min_joints` body joints are seen with a mean score of
    `min_score`. The person is followed by the places of all joints, along the last movement. Up to `max_gap`
    frames without the person are bridged: interpolated linearly between the neighbours, or held at the clip's
    ends, with fading confidence. Longer gaps stay empty. A person lost for longer is given up for the largest
    one then in view.

    aspect: width / height of the frames; it makes sideways and vertical distances comparable.
    Raises: InputError when no frame shows a person.
    """
    people = [_people(pose, min_joints, min_score) for pose in poses]
    if not any(people):
        raise InputError(
            f"no person was found in any of {len(poses)} frames; use a clip that shows one person, "
            "upright and large enough, or another pose backend"
        )
    segments = _segments(people, aspect, max_gap)
    followed: list[Pose | None] = [None] * len(poses)
    for segment in segments:
        for frame, pose in segment.items():
            followed[frame] = pose
    missing = followed.count(None)
    bridged = _bridge(followed, segments, max_gap)
    report = TrackReport(
        frames=len(poses),
        missing=missing,
        bridged=missing - bridged.count(None),
        empty=bridged.count(None),
        several=sum(len(candidates) > 1 for candidates in people),
        rejected=sum(map(num_people, poses)) - sum(map(len, people)),
        restarts=tuple(min(segment) for segment in segments[1:]),
    )
    return [pose or empty_pose() for pose in bridged], report


def _people(pose: Pose, min_joints: int, min_score: float) -> list[Pose]:
    """A pose for each detection that is certain enough to be a person."""
    people = []
    for person, score in enumerate(pose["bodies"]["score"]):
        seen = score[score > CONFIDENT]
        if len(seen) >= max(min_joints, 1) and seen.mean() >= min_score:
            people.append(select_person(pose, person))
    return people


@dataclass
class _Sighting:
    """Where the followed person was last seen. Points in frame heights, velocity in frame heights a frame."""

    frame: int
    points: np.ndarray  # (18, 2)
    seen: np.ndarray  # (18,)
    velocity: np.ndarray  # (2,)


def _sight(pose: Pose, frame: int, aspect: float, last: _Sighting | None = None) -> _Sighting:
    points = pose["bodies"]["candidate"] * (aspect, 1.0)
    seen = pose["bodies"]["score"][0] > CONFIDENT
    sighting = _Sighting(frame, points, seen, np.zeros(2))
    if last is not None:
        common = seen & last.seen
        sighting.velocity = np.mean(points[common] - last.points[common], axis=0) / abs(frame - last.frame)
    return sighting


def _segments(people: list[list[Pose]], aspect: float, max_gap: int) -> list[dict[int, Pose]]:
    """Frame -> pose for one person after the other; the next begins when the last is lost for good."""
    segments: list[dict[int, Pose]] = []
    start = 0
    while (start := next((f for f in range(start, len(people)) if people[f]), None)) is not None:
        segment = {start: max(people[start], key=lambda pose: _prominence(pose, aspect))}
        if segments:  # after a cut, the newcomer was in view while the last person was waited for
            _extend(segment, people, start, max(segments[-1]), aspect, max_gap)
        _extend(segment, people, start, len(people), aspect, max_gap)
        segments.append(segment)
        start = max(segment) + max_gap + 2
    return segments


def _extend(
    segment: dict[int, Pose], people: list[list[Pose]], start: int, stop: int, aspect: float, max_gap: int
) -> None:
    """Follows the person at frame `start` towards `stop` until it is missing for more than max_gap frames."""
    last = _sight(segment[start], start, aspect)
    step = 1 if stop > start else -1
    for frame in range(start + step, stop, step):
        elapsed = abs(frame - last.frame)
        if elapsed > max_gap + 1:
            return
        distances = [_distance(last, _sight(pose, frame, aspect)) for pose in people[frame]]
        if distances and min(distances) <= REACH * elapsed**0.5:
            segment[frame] = people[frame][int(np.argmin(distances))]
            last = _sight(segment[frame], frame, aspect, last)


def _distance(last: _Sighting, now: _Sighting) -> float:
    """Mean way of the common joints from where they are expected, in body sizes; growth is way too."""
    common = last.seen & now.seen
    if common.sum() < 3:
        return np.inf
    size = max(_extent(last.points[common]), 1e-6)
    expected = last.points[common] + last.velocity * abs(now.frame - last.frame)
    way = np.linalg.norm(now.points[common] - expected, axis=-1).mean()
    return float(way / size)


def _extent(points: np.ndarray) -> float:
    """The longer side of the box around the points."""
    return float(np.ptp(points, axis=0).max())


def _prominence(pose: Pose, aspect: float) -> float:
    """Extent of the seen joints times their mean score."""
    score = pose["bodies"]["score"][0]
    seen = score > CONFIDENT
    return _extent(pose["bodies"]["candidate"][seen] * (aspect, 1.0)) * float(score[seen].mean())


def _bridge(followed: list[Pose | None], segments: list[dict[int, Pose]], max_gap: int) -> list[Pose | None]:
    """Fills gaps of at most max_gap frames within a segment and at both ends of the clip."""
    bridged = list(followed)
    gaps = [pair for segment in segments for pair in pairwise(sorted(segment))]
    gaps += [(-1, min(segments[0])), (max(segments[-1]), len(followed))]
    for before, after in gaps:
        length = after - before - 1
        if length > max_gap:
            continue
        ends = [frame for frame in (before, after) if 0 <= frame < len(followed)]
        for frame in range(before + 1, after):
            depth = min(abs(frame - end) for end in ends) / ((max_gap + 1) / 2)
            fade = 1 - (1 - LOWEST_FADE) * min(depth, 1)
            share = (frame - before) / (length + 1)
            bridged[frame] = blend_poses(followed[ends[0]], followed[ends[-1]], share, fade)
    return bridged


def blend_poses(before: Pose, after: Pose, share: float, fade: float = 1.0) -> Pose:
    """Between two poses of one person: `share` of the way, confidence times `fade`.

    A point that only one of the two shows stays where that one has it: the other's place means nothing.
    """
    start, end = arrays_from_pose(before), arrays_from_pose(after)
    blended = {}
    for name in ("body", "hands", "faces"):
        start_score, end_score = start[f"{name}_score"], end[f"{name}_score"]
        start_seen, end_seen = start_score > CONFIDENT, end_score > CONFIDENT
        weight = np.where(start_seen == end_seen, share, end_seen)[..., None]
        blended[name] = start[name] * (1 - weight) + end[name] * weight
        blended[f"{name}_score"] = (start_score * (1 - share) + end_score * share) * fade
    return pose_from_arrays(**blended)
