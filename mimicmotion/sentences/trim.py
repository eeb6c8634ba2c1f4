"""Rest pose and stillness at both ends of a word, found by keypoints; nothing in its middle is touched."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mimicmotion.config import SentenceSettings
from mimicmotion.dwpose import CONFIDENT, Pose, body_height, num_people
from mimicmotion.errors import InputError

HIPS = (8, 11)
WRISTS = (7, 4)  # left, right, as hands are ordered


@dataclass(frozen=True)
class Cut:
    """Frames `first` to `stop` (excluded) are kept; the rest counts what was cut at the beginning and at the end."""

    first: int
    stop: int
    rest_before: int = 0
    still_before: int = 0
    still_after: int = 0
    rest_after: int = 0

    def __str__(self) -> str:
        before, after = self.rest_before + self.still_before, self.still_after + self.rest_after
        return (
            f"{before} frames cut at the beginning ({self.rest_before} rest, {self.still_before} still), "
            f"{after} at the end ({self.still_after} still, {self.rest_after} rest), {self.stop - self.first} kept"
        )

    def facts(self) -> dict[str, int]:
        """As plain values."""
        return asdict(self)


def trim(poses: Sequence[Pose], aspect: float, settings: SentenceSettings) -> Cut:
    """What of a word's poses, as detected in its clip, is the word.

    A frame is rest where no hand is both seen and raised: its points' median confidence is `trim_hand_score` or more,
    and their middle lies neither in the lowest `trim_lowest` of the picture nor below the hips. What remains begins
    and ends with its hands in motion: of frames in which all seen points of the hands stay within `trim_still` body
    heights of where they are at that end, the one next to the motion is kept. A word without any motion is kept whole.

    aspect: width / height of the frames.
    Raises: InputError where all of it is rest.
    """
    raised = [frame for frame, pose in enumerate(poses) if _raises_a_hand(pose, settings)]
    if not raised:
        raise InputError(
            f"its {len(poses)} frames are all rest pose: no hand is seen (confidence {settings.trim_hand_score:g}) "
            "above the hips and the picture's lowest part; leave --trim out, or lower sentences.trim_hand_score"
        )
    begin, end = raised[0], raised[-1]
    reach = settings.trim_still * body_height(poses, aspect)
    first = _last_still(poses, range(begin, end + 1), aspect, reach)
    last = _last_still(poses, range(end, begin - 1, -1), aspect, reach)
    if first >= last:
        first, last = begin, end
    return Cut(first, last + 1, begin, first - begin, end - last, len(poses) - 1 - end)


def _raises_a_hand(pose: Pose, settings: SentenceSettings) -> bool:
    if not num_people(pose):
        return False
    seen = pose["bodies"]["score"][0] > CONFIDENT
    hips = pose["bodies"]["candidate"][list(HIPS), 1].mean() if seen[list(HIPS)].all() else np.inf
    lowest = min(1 - settings.trim_lowest, hips)
    return any(
        np.median(score) >= settings.trim_hand_score and hand[:, 1].mean() < lowest
        for hand, score in zip(pose["hands"], pose["hands_score"], strict=True)
    )


def _last_still(poses: Sequence[Pose], frames: range, aspect: float, reach: float) -> int:
    """The last of `frames` up to which the hands stay within `reach` of where they are in the first."""
    last = frames[0]
    for frame in frames:
        if _moved(poses[frames[0]], poses[frame], aspect) > reach:
            break
        last = frame
    return last


def _moved(before: Pose, after: Pose, aspect: float) -> float:
    """The longest way of a hand's point or a wrist, in frame heights; endless where none is seen in both."""
    if not num_people(before) or not num_people(after):
        return np.inf
    (start, start_seen), (end, end_seen) = hand_points(before, aspect), hand_points(after, aspect)
    both = start_seen & end_seen
    return float(np.linalg.norm(end - start, axis=-1)[both].max(initial=0)) if both.any() else np.inf


def hand_points(pose: Pose, aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Both wrists and all points of both hands, (44, 2) in frame heights, and whether each is seen, (44,)."""
    wrists = list(WRISTS)
    points = np.concatenate([pose["bodies"]["candidate"][wrists], pose["hands"].reshape(-1, 2)]) * (aspect, 1.0)
    scores = np.concatenate([pose["bodies"]["score"][0, wrists], pose["hands_score"].reshape(-1)])
    return points, scores > CONFIDENT
