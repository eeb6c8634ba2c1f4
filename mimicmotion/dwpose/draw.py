"""Draws a pose as MimicMotion's PoseNet was trained to see it: on a large canvas, shrunk to the picture.

`draw_pose_plain` follows the published steps one by one. `draw_pose` makes the same picture, but works only
on the part of the canvas that something is drawn on. Source: Tencent/MimicMotion, mimicmotion/dwpose/util.py.
"""

import colorsys
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mimicmotion.config import POSE_PARTS
from mimicmotion.dwpose.canvas import CANVAS_SIDE
from mimicmotion.dwpose.keypoints import Pose

LIMBS = np.array(
    [
        *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7)),
        *((1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
        *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
    ]
)
FINGERS = np.array([(0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21)])
# OpenPose's rainbow. The published code exchanges red and blue of the finished picture; `draw_pose` does so
# when it uses a colour.
JOINT_COLOURS = np.round([np.multiply(colorsys.hsv_to_rgb(k / 18, 1, 1), 255) for k in range(18)])
FINGER_COLOURS = np.array([colorsys.hsv_to_rgb(k / 20, 1, 1) for k in range(20)])
LIMB_CONFIDENCE = 0.3
LIMB_BRIGHTNESS = 0.6
LIMB_HALF_WIDTH = 4
JOINT_RADIUS = 4
FACE_RADIUS = 3
FINGER_WIDTH = 2
FAR_AWAY = 1 << 20  # canvas pixels; OpenCV takes 32-bit coordinates


class Shape(NamedTuple):
    """A polygon, a line or a dot on the canvas. `points` int (n, 2); n = 2 is a line, n = 1 a dot."""

    points: np.ndarray
    size: int  # radius or line width, pixels
    colour: tuple[float, float, float]  # red, green, blue


def draw_pose(
    pose: Pose, H: int, W: int, ref_w: int = CANVAS_SIDE, parts: Sequence[str] = POSE_PARTS
) -> np.ndarray:
    """MimicMotion's picture of a pose (see `keypoints`), any number of people, confidence as brightness.

    Points outside the frame are drawn as far as they reach into it; of the person, those of `parts` that are named.
    Returns uint8 (3, H, W), RGB, black where
    nothing is drawn; a view of an (H, W, 3) array.
    """
    canvas_h, canvas_w = _canvas_size(H, W, ref_w)
    picture = np.zeros((H, W, 3), np.uint8)
    shapes = []
    for part, shapes_of in (("body", _body_shapes), ("hands", _hand_shapes), ("face", _face_shapes)):
        if part in parts:
            shapes += shapes_of(pose, canvas_h, canvas_w)
    if not shapes:
        return picture.transpose(2, 0, 1)
    points = np.concatenate([shape.points for shape in shapes])
    left, right = _touched(*_extent(points[:, 0]), W, canvas_w)
    top, bottom = _touched(*_extent(points[:, 1]), H, canvas_h)
    if left < right and top < bottom:
        corner = (left * canvas_w // W, top * canvas_h // H)
        end = (right * canvas_w // W, bottom * canvas_h // H)
        canvas = np.zeros((end[1] - corner[1], end[0] - corner[0], 3), np.uint8)
        for shape in shapes:
            _draw_shape(canvas, shape, corner)
        picture[top:bottom, left:right] = cv2.resize(canvas, (right - left, bottom - top))
    return picture.transpose(2, 0, 1)


def _canvas_size(H: int, W: int, ref_w: int) -> tuple[int, int]:
    """Height and width of the canvas, truncated as published."""
    side = min(H, W)
    ratio = ref_w / side if side != ref_w else 1
    return int(H * ratio), int(W * ratio)


def _extent(coordinates: np.ndarray) -> tuple[int, int]:
    """First and last canvas pixel of shapes with these points; none reaches further than a joint's dot."""
    return int(coordinates.min()) - JOINT_RADIUS, int(coordinates.max()) + JOINT_RADIUS


def _touched(low: int, high: int, length: int, canvas_length: int) -> tuple[int, int]:
    """The range of picture pixels that canvas pixels low..high can reach by bilinear resizing.

    Both ends lie where a picture pixel starts exactly on a canvas pixel, so that resizing the part alone
    samples the canvas at the same places as resizing all of it.
    """
    scale = canvas_length / length
    step = length // math.gcd(length, canvas_length)
    start = (math.floor((low - 2) / scale) - 1) // step * step
    stop = -(-(math.ceil((high + 3) / scale) + 1) // step) * step
    return max(0, start), min(length, stop)


def _pixels(points: np.ndarray, canvas_h: int, canvas_w: int) -> np.ndarray:
    """Relative coordinates (..., 2) as canvas pixels, truncated towards zero as published."""
    return _scaled(points, canvas_h, canvas_w).astype(np.int64)


def _scaled(points: np.ndarray, canvas_h: int, canvas_w: int) -> np.ndarray:
    return np.clip(points * np.array([canvas_w, canvas_h], points.dtype), -FAR_AWAY, FAR_AWAY)


def _body_shapes(pose: Pose, canvas_h: int, canvas_w: int) -> list[Shape]:
    """Limbs below joints; limb by limb, and person by person within a limb."""
    candidate, subset = pose["bodies"]["candidate"], pose["bodies"]["subset"].astype(int)
    score = pose["bodies"]["score"]
    scaled, pixels = _scaled(candidate, canvas_h, canvas_w), _pixels(candidate, canvas_h, canvas_w)
    shapes = []
    for limb, joints in enumerate(LIMBS):
        for person, index in enumerate(subset[:, joints]):
            confidence = score[person, joints]
            if index.min() >= 0 and not (confidence < LIMB_CONFIDENCE).any():
                colour = _weighted(JOINT_COLOURS[limb], confidence[0] * confidence[1], LIMB_BRIGHTNESS)
                shapes.append(Shape(_limb_polygon(*scaled[index]), 0, colour))
    for joint in range(18):
        for person, index in enumerate(subset[:, joint]):
            if index >= 0:
                colour = _weighted(JOINT_COLOURS[joint], score[person, joint])
                shapes.append(Shape(pixels[[index]], JOINT_RADIUS, colour))
    return shapes


def _limb_polygon(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """An ellipse from joint to joint, int (n, 2)."""
    centre = (start + end) / 2
    across, down = start - end
    length = (across**2 + down**2) ** 0.5
    axes = (int(length / 2), LIMB_HALF_WIDTH)
    angle = int(math.degrees(math.atan2(down, across)))
    return cv2.ellipse2Poly((int(centre[0]), int(centre[1])), axes, angle, 0, 360, 1)


def _weighted(colour: np.ndarray, confidence: float, brightness: float = 1.0) -> tuple[int, ...]:
    """The table's colour times the confidence, cut to 8 bits, then darkened; red and blue exchanged."""
    levels = [min(max(int(level * confidence), 0), 255) for level in colour.astype(confidence.dtype)]
    return tuple(int(level * brightness) for level in reversed(levels))


def _hand_shapes(pose: Pose, canvas_h: int, canvas_w: int) -> list[Shape]:
    """Hand by hand: the finger bones, then the points. A point on the canvas's first row or column, or above
    or left of it, is left out, as published."""
    shapes = []
    for points, scores in zip(_pixels(pose["hands"], canvas_h, canvas_w), pose["hands_score"], strict=True):
        visible = (points > 0).all(axis=1)
        bone_levels = (scores[FINGERS[:, 0]] * scores[FINGERS[:, 1]] * 255).astype(int)
        for bone in np.flatnonzero(visible[FINGERS].all(axis=1)):
            colour = tuple(FINGER_COLOURS[bone, ::-1] * bone_levels[bone])
            shapes.append(Shape(points[FINGERS[bone]], FINGER_WIDTH, colour))
        levels = (scores * 255).astype(int).tolist()
        shapes += [Shape(points[[i]], JOINT_RADIUS, (levels[i], 0, 0)) for i in np.flatnonzero(visible)]
    return shapes


def _face_shapes(pose: Pose, canvas_h: int, canvas_w: int) -> list[Shape]:
    points = _pixels(pose["faces"], canvas_h, canvas_w).reshape(-1, 2)
    levels = (pose["faces_score"].reshape(-1) * 255).astype(int).tolist()
    visible = (points > 0).all(axis=1)
    return [Shape(points[[i]], FACE_RADIUS, (levels[i],) * 3) for i in np.flatnonzero(visible)]


def _draw_shape(canvas: np.ndarray, shape: Shape, corner: tuple[int, int]) -> None:
    points = shape.points - corner
    if len(points) == 1:
        cv2.circle(canvas, points[0].tolist(), shape.size, shape.colour, thickness=-1)
    elif len(points) == 2:
        cv2.line(canvas, points[0].tolist(), points[1].tolist(), shape.colour, thickness=shape.size)
    else:
        cv2.fillConvexPoly(canvas, points.astype(np.int32), shape.colour)


def draw_pose_plain(
    pose: Pose, H: int, W: int, ref_w: int = CANVAS_SIDE, parts: Sequence[str] = POSE_PARTS
) -> np.ndarray:
    """The picture of `draw_pose`, step by step on the whole canvas: the slow reference it is held against."""
    canvas_h, canvas_w = _canvas_size(H, W, ref_w)
    canvas = np.zeros((canvas_h, canvas_w, 3), np.uint8)
    bodies, hands, faces = (part in parts for part in POSE_PARTS)
    if bodies:
        _plain_limbs(canvas, pose["bodies"])
        canvas = (canvas * LIMB_BRIGHTNESS).astype(np.uint8)
        _plain_joints(canvas, pose["bodies"])
    for points, scores in zip(pose["hands"], pose["hands_score"], strict=True) if hands else ():
        _plain_hand(canvas, points, scores)
    for points, scores in zip(pose["faces"], pose["faces_score"], strict=True) if faces else ():
        for (x, y), score in zip(points, scores, strict=True):
            centre, level = (int(x * canvas_w), int(y * canvas_h)), int(score * 255)
            if min(centre) > 0:
                cv2.circle(canvas, centre, FACE_RADIUS, (level, level, level), thickness=-1)
    return cv2.cvtColor(cv2.resize(canvas, (W, H)), cv2.COLOR_BGR2RGB).transpose(2, 0, 1)


def _plain_limbs(canvas: np.ndarray, bodies: dict) -> None:
    height, width = canvas.shape[:2]
    for (a, b), colour in zip(LIMBS, JOINT_COLOURS[:17], strict=True):
        for subset, score in zip(bodies["subset"], bodies["score"], strict=True):
            if min(score[a], score[b]) < LIMB_CONFIDENCE or min(subset[a], subset[b]) < 0:
                continue
            xa, ya = bodies["candidate"][int(subset[a])] * (width, height)
            xb, yb = bodies["candidate"][int(subset[b])] * (width, height)
            half_length = int(((xa - xb) ** 2 + (ya - yb) ** 2) ** 0.5 / 2)
            angle = int(math.degrees(math.atan2(ya - yb, xa - xb)))
            centre = (int((xa + xb) / 2), int((ya + yb) / 2))
            ellipse = cv2.ellipse2Poly(centre, (half_length, LIMB_HALF_WIDTH), angle, 0, 360, 1)
            cv2.fillConvexPoly(canvas, ellipse, [int(level * score[a] * score[b]) for level in colour])


def _plain_joints(canvas: np.ndarray, bodies: dict) -> None:
    height, width = canvas.shape[:2]
    for joint, colour in enumerate(JOINT_COLOURS):
        for subset, score in zip(bodies["subset"], bodies["score"], strict=True):
            if subset[joint] >= 0:
                x, y = bodies["candidate"][int(subset[joint])]
                level = [int(level * score[joint]) for level in colour]
                cv2.circle(canvas, (int(x * width), int(y * height)), JOINT_RADIUS, level, thickness=-1)


def _plain_hand(canvas: np.ndarray, points: np.ndarray, scores: np.ndarray) -> None:
    height, width = canvas.shape[:2]
    pixels = [(int(x * width), int(y * height)) for x, y in points]
    for (a, b), colour in zip(FINGERS, FINGER_COLOURS, strict=True):
        if min(*pixels[a], *pixels[b]) > 0:
            level = int(scores[a] * scores[b] * 255)
            cv2.line(canvas, pixels[a], pixels[b], colour * level, thickness=FINGER_WIDTH)
    for centre, score in zip(pixels, scores, strict=True):
        if min(centre) > 0:
            cv2.circle(canvas, centre, JOINT_RADIUS, (0, 0, int(score * 255)), thickness=-1)
