"""The pictures of a clip on the page: some of its frames with what was seen drawn over what was wanted, and the true
frames below them where there are any.
"""

import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from mimicmotion.dwpose import CONFIDENT, Pose, num_people
from mimicmotion.results import evenly_spaced

COLUMNS = 6
TILE_HEIGHT = 160
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
)  # fmt: skip
WANTED, SEEN = (70, 200, 90), (235, 80, 60)
GAP = 2


class Strip:
    """Keeps the evenly spaced frames of a clip of `frames` frames while they pass."""

    def __init__(self, frames: int):
        self._places, self._at = evenly_spaced(frames, COLUMNS), 0
        self._own: list[np.ndarray] = []
        self._true: list[np.ndarray] = []
        self._drawn: list[np.ndarray] = []

    def add(self, own: np.ndarray, true: np.ndarray | None) -> None:
        """Takes the next frames of the clip, and the true ones."""
        for number, frame in enumerate(own):
            if self._at + number in self._places:
                self._own.append(_tile(frame))
                if true is not None:
                    self._true.append(_tile(true[number]))
        self._at += len(own)

    def draw(self, seen: Sequence[Pose], wanted: Sequence[Pose]) -> None:
        """Draws what was wanted, green, and what was seen, red, on a row of its own."""
        for place, tile in zip(self._places, self._own, strict=True):
            picture = np.ascontiguousarray(tile // 2)
            _stick(picture, wanted[place], WANTED, 2)
            _stick(picture, seen[place], SEEN, 1)
            self._drawn.append(picture)

    def jpeg(self) -> bytes:
        """All rows as one picture."""
        rows = [_row(tiles) for tiles in (self._own, self._drawn, self._true) if tiles]
        sheet = np.concatenate([part for row in rows for part in (row, np.zeros_like(row[:GAP]))][:-1])
        encoded = io.BytesIO()
        Image.fromarray(sheet).save(encoded, "JPEG", quality=80)
        return encoded.getvalue()


def _tile(frame: np.ndarray) -> np.ndarray:
    width = max(1, round(TILE_HEIGHT * frame.shape[1] / frame.shape[0]))
    way = cv2.INTER_AREA if frame.shape[0] > TILE_HEIGHT else cv2.INTER_LINEAR
    return cv2.resize(frame, (width, TILE_HEIGHT), interpolation=way)


def _row(tiles: list[np.ndarray]) -> np.ndarray:
    gap = np.zeros((TILE_HEIGHT, GAP, 3), np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)


def _stick(picture: np.ndarray, pose: Pose, colour: tuple[int, int, int], thickness: int) -> None:
    if not num_people(pose):
        return
    height, width = picture.shape[:2]
    points, seen = pose["bodies"]["candidate"][:18] * (width, height), pose["bodies"]["score"][0] > CONFIDENT
    places = [tuple(int(value) for value in point.round().clip(-1000, 1000)) for point in points]
    for start, end in LIMBS:
        if seen[start] and seen[end]:
            cv2.line(picture, places[start], places[end], colour, thickness, cv2.LINE_AA)
    for hand, score in zip(pose["hands"], pose["hands_score"], strict=True):
        for point in (hand * (width, height))[score > CONFIDENT]:
            cv2.circle(picture, tuple(int(value) for value in point.round().clip(-1000, 1000)), 1, colour, -1)
