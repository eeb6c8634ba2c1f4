"""The person detector of DWPose: YOLOX on a letterboxed frame, as MimicMotion decodes it.

The numbers are those of mimicmotion/dwpose/onnxdet.py of Tencent/MimicMotion, down to the type each step is
rounded in. Frames go in as RGB although YOLOX was trained on BGR: so did the published pose data.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mimicmotion.dwpose.onnx_session import require_layout, run_in_batches

DEFAULT_SIDE = 640  # for a model that leaves its input size open
STRIDES = (8, 16, 32)
PAD_VALUE = 114
PERSON = 0  # COCO class
OVERLAP = 0.45  # boxes that overlap a better one more than this are dropped
CANDIDATE_SCORE = 0.1  # what enters the suppression
PERSON_SCORE = 0.3  # what counts as a person after it


def require_detector(session, path: str | Path) -> None:
    """Raises SetupError unless the session is a YOLOX with output (1, anchors, 5 + classes)."""
    height, width = input_size(session)
    anchors = sum((height // stride) * (width // stride) for stride in STRIDES)
    require_layout(session, path, [(1, anchors, 85)], "the YOLOX person detector of DWPose (yolox_l.onnx)")


def input_size(session) -> tuple[int, int]:
    """Height and width of the model's input, in pixels."""
    height, width = (
        side if isinstance(side, int) else DEFAULT_SIDE for side in session.get_inputs()[0].shape[2:]
    )
    return height, width


def find_people(session, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Boxes of the people in each uint8 RGB frame (H, W, 3): float64 (P, 4) as x0, y0, x1, y1 in pixels.

    P may be 0; the most certain person comes first. Boxes may reach out of the frame.
    """
    size = input_size(session)
    (outputs,) = run_in_batches(session, (letterbox(frame, size)[0] for frame in frames))
    ratios = [fit_ratio(frame.shape, size) for frame in frames]
    return [
        person_boxes(*decode(output, size, ratio)) for output, ratio in zip(outputs, ratios, strict=True)
    ]


def letterbox(frame: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The frame scaled into the top left of a grey picture, float32 (3, h, w), 0-255; and the ratio."""
    ratio = fit_ratio(frame.shape, size)
    height, width = (max(1, int(side * ratio)) for side in frame.shape[:2])
    padded = np.full((*size, 3), PAD_VALUE, np.uint8)
    padded[:height, :width] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(padded.transpose(2, 0, 1), np.float32), ratio


def fit_ratio(shape: tuple[int, ...], size: tuple[int, int]) -> float:
    """The factor that fits a frame of shape (H, W, ...) into `size`."""
    return min(size[0] / shape[0], size[1] / shape[1])


def decode(output: np.ndarray, size: tuple[int, int], ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Corner boxes (A, 4) in pixels of the frame and person scores (A,), float32, of one output (A, 85).

    A row is offset x, y from its grid cell, log width, log height (all in strides), objectness, class scores.
    """
    cells, strides = grid(size)
    # The sums are formed in float64 and rounded to float32 once: the output array is float32.
    centre = ((output[:, :2] + cells) * strides).astype(np.float32)
    extent = (np.exp(output[:, 2:4]) * strides).astype(np.float32)
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
    boxes /= ratio
    return boxes, output[:, 4] * output[:, 5 + PERSON]


def grid(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Cell x, y (A, 2) and stride (A, 1) of every output row: the finest grid first, row by row."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = size[0] // stride, size[1] // stride
        x, y = np.meshgrid(np.arange(columns), np.arange(rows))
        cells.append(np.stack([x, y], axis=2).reshape(-1, 2))
        strides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(cells), np.concatenate(strides)


def person_boxes(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The boxes that survive suppression and are certain enough, float64 (P, 4), best first."""
    candidates = scores > CANDIDATE_SCORE
    boxes, scores = boxes[candidates], scores[candidates]
    keep = suppress(boxes, scores)
    # In float64, where a float32 score of 0.3 lies above 0.3: published scores are compared there.
    certain = scores[keep].astype(np.float64) > PERSON_SCORE
    return boxes[keep][certain].astype(np.float64)


def suppress(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Greedy non-maximum suppression; the indices kept, best first. Areas count both border pixels (+1)."""
    x0, y0, x1, y1 = boxes.T
    areas = (x1 - x0 + 1) * (y1 - y0 + 1)
    order = scores.argsort()[::-1]
    keep = []
    while order.size:
        best, rest = order[0], order[1:]
        keep.append(best)
        width = np.maximum(0.0, np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest]) + 1)
        height = np.maximum(0.0, np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest]) + 1)
        shared = width * height
        order = rest[shared / (areas[best] + areas[rest] - shared) <= OVERLAP]
    return keep
