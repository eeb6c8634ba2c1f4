"""The keypoint estimator of DWPose: RTMPose with SimCC outputs on a crop of every person.

The numbers are those of mimicmotion/dwpose/onnxpose.py of Tencent/MimicMotion: no sub-bin refinement, so a
point lies on half pixels of the crop, and scores are raw SimCC maxima.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mimicmotion.dwpose.onnx_session import require_layout, run_in_batches
from mimicmotion.errors import SetupError

NUM_POINTS = 133  # COCO-WholeBody
PADDING = 1.25  # the crop is this much larger than the box
SPLIT = 2.0  # SimCC bins to a pixel
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def require_estimator(session, path: str | Path) -> None:
    """Raises SetupError unless the session is a whole-body SimCC model with a fixed input size."""
    what = "the DWPose keypoint model (dw-ll_ucoco_384.onnx)"
    require_layout(session, path, [(1, NUM_POINTS, None), (1, NUM_POINTS, None)], what)
    sides = input_size(session)
    bins = [node.shape[2] for node in session.get_outputs()]
    if not all(isinstance(side, int) for side in sides):
        raise SetupError(f"model file {path} is not {what}: its input size is open ({sides})")
    if any(isinstance(have, int) and have != SPLIT * side for have, side in zip(bins, sides, strict=True)):
        raise SetupError(f"model file {path} is not {what}: {bins} bins for an input {sides} wide and high")


def input_size(session) -> tuple[int, int]:
    """Width and height of the model's input, in pixels."""
    height, width = session.get_inputs()[0].shape[2:]
    return width, height


def find_keypoints(
    session, frames: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each uint8 RGB frame and its boxes (P, 4): points (P, 133, 2) in pixels and scores (P, 133).

    A frame without a box is taken as one person that fills it, as published: its P is 1.
    """
    size = input_size(session)
    boxes = [found if len(found) else whole_frame(frame) for frame, found in zip(frames, boxes, strict=True)]
    crops = (
        normalise(crop_person(frame, box, size))
        for frame, found in zip(frames, boxes, strict=True)
        for box in found
    )
    simcc_x, simcc_y = run_in_batches(session, crops)
    points, scores = decode(simcc_x, simcc_y)
    regions = np.array([crop_region(box, size) for found in boxes for box in found])  # (N, centre/scale, 2)
    centre, scale = regions[:, None, 0], regions[:, None, 1]
    points = points / np.array(size) * scale + centre - scale / 2
    ends = np.cumsum([len(found) for found in boxes])[:-1]
    return list(zip(np.split(points, ends), np.split(scores, ends), strict=True))


def whole_frame(frame: np.ndarray) -> np.ndarray:
    """One box (1, 4) around the whole frame."""
    height, width = frame.shape[:2]
    return np.array([[0.0, 0.0, width, height]])


def crop_region(box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Centre and scale (x, y in pixels) of the padded box, widened to the aspect of `size` (w, h)."""
    centre = (box[:2] + box[2:]) * 0.5
    width, height = (box[2:] - box[:2]) * PADDING
    aspect = size[0] / size[1]
    if width > height * aspect:
        return centre, np.array([width, width / aspect])
    return centre, np.array([height * aspect, height])


def crop_person(frame: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The region of the box, scaled to `size` (width, height): uint8 (h, w, 3), black outside the frame."""
    centre, scale = crop_region(box, size)
    # Three corresponding points fix the map: the centre, the point half a width above it, and the corner that
    # makes a right angle there. float32 on the way, since the published matrix is made of rounded points.
    source = _corner_points(centre, scale[0] * 0.5)
    target = _corner_points(np.array([size[0] * 0.5, size[1] * 0.5]), size[0] * 0.5)
    return cv2.warpAffine(frame, cv2.getAffineTransform(source, target), size, flags=cv2.INTER_LINEAR)


def normalise(crop: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) RGB -> float32 (3, h, w) with the training data's mean and deviation taken out."""
    return ((crop - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1).astype(np.float32)


def decode(simcc_x: np.ndarray, simcc_y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 133, 2) in pixels of the crop and scores (N, 133), float32, of the two SimCC outputs.

    A score is the smaller of the two axes' maxima; where it is not positive the point is (-0.5, -0.5).
    """
    scores = np.minimum(simcc_x.max(axis=2), simcc_y.max(axis=2))
    points = np.stack([simcc_x.argmax(axis=2), simcc_y.argmax(axis=2)], axis=-1).astype(np.float32)
    points[scores <= 0] = -1
    return points / np.float32(SPLIT), scores


def _corner_points(centre: np.ndarray, reach: float) -> np.ndarray:
    points = np.zeros((3, 2), np.float32)
    points[0] = centre
    points[1] = centre + np.array([0.0, -reach])
    x, y = points[0] - points[1]
    points[2] = points[1] + np.array([-y, x])
    return points
