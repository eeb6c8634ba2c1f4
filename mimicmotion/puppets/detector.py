"""The pose reader as a pose detector, for pictures that show puppets, or the embedded model's people."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mimicmotion.dwpose import Pose, pose_from_arrays
from mimicmotion.places import find

READER_PATH = Path("assets/models/puppet_pose_reader.safetensors")
HANDS_AND_FACE = ((2, 21), (68,))  # not read


class PuppetDetector:
    """Poses of uint8 RGB frames: one person each, the first 14 joints of the body.

    A joint's score is the share of its heat around the place that is given, 0..1: a joint that is there twice has
    half of it. Raises: SetupError where the reader's weights are missing, InputError where they are damaged.
    """

    name = "puppets"

    def __init__(self, path: Path | None = None):
        from mimicmotion.puppets.pose_reader import load_reader

        self._reader = load_reader(path or find(READER_PATH))

    def reset(self) -> None:
        """Nothing is remembered from frame to frame."""

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Pose]:
        """A pose for each uint8 (h, w, 3) frame."""
        from mimicmotion.puppets.pose_reader import read_confidently

        height, width = self._reader.config.height, self._reader.config.width
        fitted = [_fit(frame, height, width) for frame in frames]
        joints, scores = read_confidently(self._reader, np.stack([picture for picture, _ in fitted]))
        return [
            _pose((places - 0.5 * np.subtract((width, height), size)) / size, score)
            for places, score, (_, size) in zip(joints, scores, fitted, strict=True)
        ]


def _fit(frame: np.ndarray, height: int, width: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The frame scaled into the middle of (height, width, 3), its edges drawn out around it, and its (width, height)
    there.
    """
    scale = min(height / frame.shape[0], width / frame.shape[1])
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    if frame.shape[:2] != (size[1], size[0]):
        frame = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    rows, columns = height - size[1], width - size[0]
    around = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.pad(frame, around, mode="edge"), size


def _pose(places: np.ndarray, score: np.ndarray) -> Pose:
    body, body_score = np.zeros((1, 18, 2), np.float32), np.zeros((1, 18), np.float32)
    body[0, : len(places)], body_score[0, : len(score)] = places, score
    hands, face = (np.zeros((1, *shape), np.float32) for shape in HANDS_AND_FACE)
    return pose_from_arrays(
        body, body_score, np.zeros((*hands.shape, 2), np.float32), hands, np.zeros((*face.shape, 2), np.float32), face
    )
