"""How much a join shows: is everything where it should be, does it move as it should, is anything there twice?

Frames that fade one arm into another hardly differ from their neighbours, and show two arms. So frames are not held
against their neighbours: a pose detector reads them, and what it reads is held against the poses that should be there.
An arm that is seen through counts as not found. A way to join that shows fewer frames than the movement takes is
judged as if it showed each longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mimicmotion.animation import Models
from mimicmotion.dwpose import CONFIDENT, Pose, num_people, select_person
from mimicmotion.errors import SetupError
from mimicmotion.files import sha256_file
from mimicmotion.places import find, looked_for
from mimicmotion.weights import read_marker

BESIDE = 2  # frames of both clips that are judged beside what lies between
ARMS = (3, 4, 6, 7)  # elbows and wrists, which a join moves
UNSEEN = 0.15  # body heights by which a joint is wrong that is not found: the length of a forearm
APART = 70  # of 441: distance of two colours from which on they are told apart
MIXED = (0.15, 0.85)  # share of the later colour in one that is a mixture of two
PURE = 0.3  # how far a mixture may lie beside the line between both colours, in shares of its length
EDGE = 256  # pixels of height for which an edge blurs over one more pixel on both of its sides



class Detector(Protocol):
    """As `dwpose.make_detector` gives."""

    name: str

    def reset(self) -> None:
        """Forgets the frames before."""

    def __call__(self, frames: list[np.ndarray]) -> list[Pose]:
        """A pose for each uint8 (h, w, 3) frame."""


@dataclass(frozen=True)
class Visibility:
    """How much a join shows; all in percent.

    place: how far elbows and wrists are from where they should be, of the body's height; change: how far their way
    from frame to frame is from the one they should go, as well; double: share of what changes that shows both clips
    at once, in the frames between them.
    """

    place: float
    change: float
    double: float

    @property
    def total(self) -> float:
        """Both errors together; the way to join that has least shows least."""
        return self.place + self.change


def join_detector(models: Models) -> Detector:
    """What reads results: the pose reader for puppets where the embedded model makes them, else the run's detector.

    Raises: SetupError where its files are missing.
    """
    if read_marker(models.config.base_model_path) is None:
        return models.detector
    from mimicmotion.puppets import PuppetDetector

    return PuppetDetector()


def join_detector_fingerprint(models: Models) -> str:
    """What that detector's readings depend on. Raises: SetupError where its files are missing."""
    if read_marker(models.config.base_model_path) is None:
        return models.detector_fingerprint
    from mimicmotion.puppets import READER_PATH

    path = find(READER_PATH)
    if not path.is_file():
        raise SetupError(f"the pose reader {looked_for(READER_PATH)} is missing; it is part of the repository")
    return f"{path.stem} {sha256_file(path)}"


def judge_join(
    detector: Detector,
    frames: Sequence[np.ndarray],
    wanted: Sequence[Pose],
    beside: tuple[int, int],
    height: float,
    mixed: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
) -> Visibility:
    """Judges the frames of one join.

    Args:
        detector: as `dwpose.make_detector` gives; it is reset.
        frames: uint8 (h, w, 3) RGB, `beside[0]` of the clip before, any number between, `beside[1]` of the next clip;
            one or more of either clip.
        wanted: poses that should be there, in 0..1 of the frame, as many beside and at least as many between.
        height: of the body, in frame heights.
        mixed: of which two frames each one between could be a mixture; by default of the last before and the first
            after them.
    """
    detector.reset()
    aspect, between = frames[0].shape[1] / frames[0].shape[0], frames[beside[0] : len(frames) - beside[1]]
    mixed = mixed or [(frames[beside[0] - 1], frames[-beside[1]])] * len(between)
    doubles = [double_exposure(frame, *pair) for frame, pair in zip(between, mixed, strict=True)]
    doubles = [*[0.0] * beside[0], *doubles, *[0.0] * beside[1]]
    read = detector(list(frames))
    places = shown_at(len(frames), len(wanted), beside)
    found = [nearest_person(read[place], want, aspect) for place, want in zip(places, wanted, strict=True)]
    return compare_poses(found, wanted, aspect, height, [doubles[place] for place in places], beside)


def shown_at(shown: int, wanted: int, beside: tuple[int, int]) -> list[int]:
    """Which of `shown` frames is seen when each of `wanted` poses should be; where fewer frames lie between the clips,
    each of these and both ends stay longer.
    """
    before, after = beside
    between = wanted - before - after
    if shown == wanted:
        return list(range(shown))
    way = np.linspace(before - 1, shown - after, between + 2)[1:-1]
    return [*range(before), *(int(place) for place in np.floor(way + 0.5)), *range(shown - after, shown)]


def nearest_person(pose: Pose, wanted: Pose, aspect: float) -> Pose:
    """The person of a frame whose arms are nearest to the wanted ones; the pose itself where there is nobody."""
    people = [select_person(pose, person) for person in range(num_people(pose))]
    return min(people, key=lambda one: compare_poses([one], [wanted], aspect, 1.0).place, default=pose)


def compare_poses(
    found: Sequence[Pose],
    wanted: Sequence[Pose],
    aspect: float,
    height: float,
    doubles: Sequence[float] | None = None,
    beside: tuple[int, int] = (0, 0),
) -> Visibility:
    """How far found poses and their movement are from wanted ones, as many; see `judge_join`. Joints that the wanted
    poses do not show have no say.

    doubles: of each frame, the share of what changes that is there twice; as much of the arms is not found.
    """
    doubles = np.zeros(len(found)) if doubles is None else np.asarray(doubles)
    (places, seen), (aims, asked) = _arms(found, aspect), _arms(wanted, aspect)
    wrong = np.where(seen, np.linalg.norm(places - aims, axis=-1) / height, UNSEEN)
    wrong += doubles[:, None] * (UNSEEN - wrong).clip(0)
    moved = np.linalg.norm(np.diff(places, axis=0) - np.diff(aims, axis=0), axis=-1) / height
    moved = np.where(seen[1:] & seen[:-1], moved, UNSEEN)
    between = doubles[beside[0] : len(doubles) - beside[1]]
    errors = _mean(wrong, asked), _mean(moved, asked[1:] & asked[:-1]), float(between.mean()) if len(between) else 0.0
    return Visibility(*(round(100 * error, 4) for error in errors))


def _arms(poses: Sequence[Pose], aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Elbows and wrists, (frames, 4, 2) in frame heights, and whether each is seen, (frames, 4)."""
    places, seen = np.zeros((len(poses), len(ARMS), 2)), np.zeros((len(poses), len(ARMS)), bool)
    for frame, pose in enumerate(poses):
        if num_people(pose):
            places[frame] = pose["bodies"]["candidate"][list(ARMS)] * (aspect, 1.0)
            seen[frame] = pose["bodies"]["score"][0, list(ARMS)] > CONFIDENT
    return places, seen


def _mean(values: np.ndarray, counted: np.ndarray) -> float:
    return float(values[counted].mean()) if counted.any() else 0.0


def double_exposure(frame: np.ndarray, first: np.ndarray, last: np.ndarray) -> float:
    """Share of the area in which `first` and `last` differ whose colours in `frame` are a mixture of both, 0..1.

    An arm that moves shows its own colour or that of the wall, and a mixture at its edges alone, which do not count;
    one that fades into another is a mixture all over. Frames are uint8 (h, w, 3) of one size.
    """
    from scipy.ndimage import binary_erosion

    frame, first, last = (picture.astype(np.float32) for picture in (frame, first, last))
    way, gone = last - first, frame - first
    squared = (way**2).sum(-1)
    differ, squared = squared > APART**2, np.maximum(squared, 1)
    share = (gone * way).sum(-1) / squared
    aside = np.linalg.norm(gone - share[..., None] * way, axis=-1) / np.sqrt(squared)
    mixed = differ & (share > MIXED[0]) & (share < MIXED[1]) & (aside < PURE)
    window = np.ones((1 + 2 * max(1, round(len(frame) / EDGE)),) * 2)
    area, double = (np.count_nonzero(binary_erosion(one, window)) for one in (differ, mixed))
    return double / area if area else 0.0
