"""The way from one word to the next: poses between the last of the one and the first of the other.

Points of the body, wrists among them, go along minimum-jerk paths (quintic, as in Flash and Hogan 1985) that take up
the movement of both words. A hand goes with its wrist while its shape turns and changes into the other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mimicmotion.dwpose import CONFIDENT, Pose, arrays_from_pose, num_people, pose_from_arrays
from mimicmotion.sentences.trim import WRISTS, hand_points

NOSE = 0
PEAK = 1.875  # highest speed of a minimum-jerk movement from rest to rest over its mean
OVERSHOOT = 0.2  # of one frame's movement times the frames of a way: how far that carries beyond it
SWING = 0.03  # body heights that a point may be carried beyond its way; limbs have their length
LONGEST_S = 10.0  # of a transition; whatever is still too fast then is no person


@dataclass(frozen=True)
class Pace:
    """What a way is measured by.

    height: of the body, in frame heights; most: way of a hand from one frame to the next, in frame heights; aspect:
    width / height of the frames; fps: of the result.
    """

    height: float
    most: float
    aspect: float
    fps: float


def transition(before: Sequence[Pose], after: Sequence[Pose], count: int | None, pace: Pace) -> list[Pose]:
    """The poses between two words of one person.

    Args:
        before, after: the words' poses; their last and first two count.
        count: how many; None: as many as a minimum-jerk movement over the hands' way takes, and no wrist and no point
            of a hand moves faster than `pace.most`. Where a word begins or ends without a person there is no way,
            and None gives none.
        pace: words that are faster give their movement up to it.
    """
    start, end = before[-1], after[0]
    if not num_people(start) or not num_people(end):
        return [start if 2 * k < (count or 0) else end for k in range(count or 0)]
    ways = _ways(before, after, pace)
    if count is not None:
        return _between(ways, count, pace)
    fewest = math.ceil(PEAK * fastest([start, end], pace.aspect) / pace.most) - 1
    for needed in range(max(0, fewest), max(fewest, round(LONGEST_S * pace.fps)) + 1):
        between = _between(ways, needed, pace)
        if fastest([start, *between, end], pace.aspect) <= pace.most:
            break
    return between


def fastest(poses: Sequence[Pose], aspect: float) -> float:
    """The longest way of a wrist or of a hand's point from one pose to the next, in frame heights."""
    longest = 0.0
    for before, after in pairwise(poses):
        if num_people(before) and num_people(after):
            (start, start_seen), (end, end_seen) = hand_points(before, aspect), hand_points(after, aspect)
            steps = np.linalg.norm(end - start, axis=-1)[start_seen & end_seen]
            longest = max(longest, float(steps.max(initial=0)))
    return longest


class _Ways(NamedTuple):
    """Both ends as arrays in frame heights, and their movement per frame."""

    start: dict
    end: dict
    leaving: dict
    arriving: dict


def _ways(before: Sequence[Pose], after: Sequence[Pose], pace: Pace) -> _Ways:
    start, end = _arrays(before[-1], pace.aspect), _arrays(after[0], pace.aspect)
    leaving = _movement(before[-2:], start, pace, forward=True)
    arriving = _movement(after[1::-1], end, pace, forward=False)
    return _Ways(start, end, leaving, arriving)


def _arrays(pose: Pose, aspect: float) -> dict[str, np.ndarray]:
    arrays = {name: array[0].astype(np.float64) for name, array in arrays_from_pose(pose).items()}
    return {name: array if name.endswith("_score") else array * (aspect, 1.0) for name, array in arrays.items()}


def _movement(pair: Sequence[Pose], at: dict[str, np.ndarray], pace: Pace, forward: bool) -> dict[str, np.ndarray]:
    """How each point moves at the end of a word, per frame; `pair` is its neighbour and the end itself.

    Points that are not seen in both stand still.
    """
    if len(pair) < 2 or not num_people(pair[0]):
        return {name: np.zeros_like(at[name]) for name in ("body", "hands", "faces")}
    neighbour = _arrays(pair[0], pace.aspect)
    movement = {}
    for name in ("body", "hands", "faces"):
        step = at[name] - neighbour[name] if forward else neighbour[name] - at[name]
        seen = (at[f"{name}_score"] > CONFIDENT) & (neighbour[f"{name}_score"] > CONFIDENT)
        length = np.linalg.norm(step, axis=-1, keepdims=True)
        movement[name] = np.where(seen[..., None], step * np.minimum(1, pace.most / np.maximum(length, 1e-12)), 0)
    return movement


def _between(ways: _Ways, count: int, pace: Pace) -> list[Pose]:
    return [_pose_at(ways, step, count + 1, pace) for step in range(1, count + 1)]


def _pose_at(ways: _Ways, step: int, steps: int, pace: Pace) -> Pose:
    start, end, leaving, arriving = ways
    share, swing = step / steps, SWING * pace.height
    found = {
        f"{name}_score": start[f"{name}_score"] * (1 - share) + end[f"{name}_score"] * share
        for name in ("body", "hands", "faces")
    }
    body = _body_at(ways, share, steps, swing)
    found |= {"body": body, "hands": np.empty_like(start["hands"]), "faces": np.empty_like(start["faces"])}
    places = [("faces", slice(None), NOSE), *(("hands", side, wrist) for side, wrist in enumerate(WRISTS))]
    for name, row, joint in places:
        seen = [np.median(one[f"{name}_score"][row]) > CONFIDENT for one in (start, end)]
        if seen[0] == seen[1]:
            parts = [one[name][row] for one in (start, end, leaving, arriving)]
            # A hand is held at its first point, the wrist, a face in its middle.
            origins = [part[:1] if name == "hands" else part.mean(0, keepdims=True) for part in parts]
            shape = blended_shape(parts[0] - origins[0], parts[1] - origins[1], _smooth(share))
            found[name][row] = minimum_jerk(*origins, share, steps, swing) + shape
        else:
            # What only one word shows has no other shape to change into; it goes where its joint goes.
            one = start if seen[0] else end
            found[name][row] = one[name][row] + body[joint] - one["body"][joint]
    for name in ("body", "hands", "faces"):
        found[name] = found[name] / (pace.aspect, 1.0)
    return pose_from_arrays(**{name: array[None].astype(np.float32) for name, array in found.items()})


def _body_at(ways: _Ways, share: float, steps: int, swing: float) -> np.ndarray:
    """The joints; one that only one of the words shows stays where that one has it."""
    start, end, leaving, arriving = ways
    seen = [one["body_score"] > CONFIDENT for one in (start, end)]
    only = (seen[0] ^ seen[1])[:, None]
    first = np.where(only & seen[1][:, None], end["body"], start["body"])
    last = np.where(only & seen[0][:, None], start["body"], end["body"])
    moves = (np.where(only, 0, move["body"]) for move in (leaving, arriving))
    return minimum_jerk(first, last, *moves, share, steps, swing)


def blended_shape(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """Between two shapes (points, 2) about their origin: turned from the one to the other while it changes.

    Changed alone, a hand that turns round would shrink to a point on its way.
    """
    cross = float((start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0]).sum())
    angle = np.arctan2(cross, float((start * end).sum()))
    return _turned(start, share * angle) * (1 - share) + _turned(end, (share - 1) * angle) * share


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def _smooth(share: float) -> float:
    return share**3 * (10 - 15 * share + 6 * share**2)


def minimum_jerk(
    first: np.ndarray,
    last: np.ndarray,
    leaving: np.ndarray,
    arriving: np.ndarray,
    share: float,
    steps: int,
    swing: float,
) -> np.ndarray:
    """Where points are after `share` of a way of `steps` frames, without acceleration at its ends: (points, 2).

    Args:
        first, last: places at the ends.
        leaving, arriving: velocities there, per frame; less of them where they would carry a point farther than
            `swing` beyond its way.
    """
    onward = share - share**3 * (6 - 8 * share + 3 * share**2)
    inward = share**3 * (-4 + 7 * share - 3 * share**2)
    leaving, arriving = (_held(move, last - first, steps, swing) for move in (leaving, arriving))
    return first + (last - first) * _smooth(share) + steps * (leaving * onward + arriving * inward)


def _held(move: np.ndarray, way: np.ndarray, steps: int, swing: float) -> np.ndarray:
    """`move`, no faster than fits the way and the swing beyond it."""
    speed = np.maximum(np.linalg.norm(move, axis=-1, keepdims=True), 1e-12)
    along = np.maximum((way * move).sum(-1, keepdims=True) / speed, 0)
    return move * np.minimum(1, (swing / OVERSHOOT + PEAK * along) / steps / speed)
