"""Draws people part by part, from the back to the front, and keeps a map of the parts that are seen.

Pictures are drawn SUPERSAMPLING times larger and averaged down. The map is drawn at the larger size as well; a joint
whose own part is covered there by another one is hidden.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from mimicmotion.puppets.person import Colour, Person
from mimicmotion.puppets.skeleton import HEAD_RADII, Skeleton

SUPERSAMPLING = 3
FRACTION_BITS = 4  # OpenCV draws at sixteenths of a pixel
DEPTH_SHADE = 0.9  # change of brightness per body height of depth
SHADE_LIMITS = (0.78, 1.1)
PARTS = (
    "background",
    *(f"{side}_{part}" for side in ("right", "left") for part in ("thigh", "shin", "foot")),
    *("torso", "neck", "head", "hair", "features"),
    *(f"{side}_{part}" for side in ("right", "left") for part in ("upper_arm", "forearm", "hand")),
)
PART = {name: index for index, name in enumerate(PARTS)}
EYE, EYE_WHITE, LIPS = (24, 20, 28), (240, 238, 232), (164, 62, 66)


class Canvas(NamedTuple):
    """The large picture (H, W, 3) uint8 RGB and the parts drawn on it (H, W) uint8."""

    picture: np.ndarray
    parts: np.ndarray

    def fill(self, points: np.ndarray, colour: Colour, part: str) -> None:
        """A convex polygon over `points` (N, 2) in canvas pixels."""
        hull = cv2.convexHull(_fixed(points))
        cv2.fillConvexPoly(self.picture, hull, colour, cv2.LINE_8, FRACTION_BITS)
        cv2.fillConvexPoly(self.parts, hull, PART[part], cv2.LINE_8, FRACTION_BITS)

    def line(self, points: np.ndarray, width: float, colour: Colour, part: str) -> None:
        """A line with round ends through `points` (N, 2); `width` in canvas pixels."""
        thickness = max(1, round(width))
        for image, value in ((self.picture, colour), (self.parts, PART[part])):
            cv2.polylines(image, [_fixed(points)], False, value, thickness, cv2.LINE_8, FRACTION_BITS)

    def ellipse(self, centre: np.ndarray, axes: np.ndarray, radii, colour: Colour, part: str) -> None:
        """A filled ellipse; the columns of `axes` (2, 2) point along the two `radii` (canvas pixels)."""
        self.fill(centre + _CIRCLE * np.asarray(radii) @ axes.T, colour, part)


_CIRCLE = np.stack([np.cos(np.arange(20) * np.pi / 10), np.sin(np.arange(20) * np.pi / 10)], -1)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(np.asarray(points) * (1 << FRACTION_BITS)).astype(np.int32)


class View(NamedTuple):
    """One frame of a skeleton in canvas pixels; `unit` is a body height in them, depths stay in body heights."""

    body: np.ndarray
    depth: np.ndarray
    hands: np.ndarray
    hand_depth: np.ndarray
    face: np.ndarray
    toes: np.ndarray
    toe_depth: np.ndarray
    head: np.ndarray
    head_depth: float
    head_axes: np.ndarray
    unit: float


def to_picture(person: Person, points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Orthographic view: x, y in 0..1 of the frame for `points` (..., 3) in body heights."""
    scale = person.scale * np.array([height / width, 1.0])
    return np.array([person.centre, person.ground]) + points[..., :2] * scale


def render(person: Person, skeleton: Skeleton, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (T, height, width, 3) uint8 RGB of every frame, and the large maps of parts
    (T, SUPERSAMPLING * height, SUPERSAMPLING * width) uint8 with indices into PARTS."""
    h, w = height * SUPERSAMPLING, width * SUPERSAMPLING
    backdrop = draw_backdrop(person, h, w)
    frames = len(skeleton.body)
    pictures = np.empty((frames, height, width, 3), np.uint8)
    parts = np.zeros((frames, h, w), np.uint8)
    for index in range(frames):
        canvas = Canvas(backdrop.copy(), parts[index])
        for draw in _back_to_front(person, _view(person, skeleton, index, h, w)):
            draw(canvas)
        pictures[index] = cv2.resize(canvas.picture, (width, height), interpolation=cv2.INTER_AREA)
    return pictures, parts


def draw_backdrop(person: Person, h: int, w: int) -> np.ndarray:
    """Wall and floor, (h, w, 3) uint8."""
    down = np.linspace(0, 1, h)[:, None, None]
    wall = np.asarray(person.wall_top) * (1 - down) + np.asarray(person.wall_bottom) * down
    picture = np.broadcast_to(np.round(wall).astype(np.uint8), (h, w, 3)).copy()
    edge, unit = round(person.horizon * h), h // 12
    mark = person.wall_mark
    if person.wall == "stripes":
        for left in range(unit // 2, w, 2 * unit):
            picture[:edge, left : left + unit] = mark
    elif person.wall == "tiles":
        for step in range(unit, h, 2 * unit):
            picture[step : step + SUPERSAMPLING] = mark
            picture[:edge, step : step + SUPERSAMPLING] = mark
    elif person.wall == "window":
        cv2.rectangle(picture, (w // 14, h // 12), (w // 3, h // 3), mark, -1)
    picture[edge:] = person.floor
    return picture


def _view(person: Person, skeleton: Skeleton, index: int, h: int, w: int) -> View:
    def project(points):
        return to_picture(person, points[index], h, w) * (w, h)

    return View(
        body=project(skeleton.body),
        depth=skeleton.body[index, :, 2],
        hands=project(skeleton.hands),
        hand_depth=skeleton.hands[index, ..., 2].mean(-1),
        face=project(skeleton.face),
        toes=project(skeleton.toes),
        toe_depth=skeleton.toes[index, :, 2],
        head=project(skeleton.head_centre),
        head_depth=float(skeleton.head_centre[index, 2]),
        head_axes=skeleton.head_axes[index],
        unit=person.scale * h,
    )


def _back_to_front(person: Person, view: View) -> list[Callable[[Canvas], None]]:
    layers: list[tuple[float, Callable]] = [
        (view.depth[1] * 0.5, lambda canvas: _draw_torso(canvas, person, view)),
        (_hair_depth(view), lambda canvas: _draw_hair_behind(canvas, person, view)),
        (view.head_depth, lambda canvas: _draw_head(canvas, person, view)),
    ]
    for index, side in enumerate(("right", "left")):
        layers += _arm_layers(person, view, index, side) + _leg_layers(person, view, index, side)
    return [draw for _, draw in sorted(layers, key=lambda layer: layer[0])]


def _hair_depth(view: View) -> float:
    """Long hair hangs behind the shoulders of a person who faces the viewer."""
    away = view.head_axes[2, 2] < 0
    return view.head_depth + 0.01 if away else min(view.depth[1] * 0.5, view.head_depth) - 0.01


def shade(colour: Colour, depth: float) -> Colour:
    """Parts that are further away are darker, which keeps an arm apart from a shirt of its colour."""
    factor = float(np.clip(1 + DEPTH_SHADE * depth, *SHADE_LIMITS))
    return tuple(min(255, round(channel * factor)) for channel in colour)


def _arm_layers(person: Person, view: View, index: int, side: str) -> list:
    shoulder, elbow, wrist = (view.body[k + 3 * index] for k in (2, 3, 4))
    depths = [view.depth[k + 3 * index] for k in (2, 3, 4)]
    unit = view.unit * person.girth
    sleeved = person.shirt if person.sleeves != "none" else person.skin
    covered = person.shirt if person.sleeves == "long" else person.skin
    upper, lower = (depths[0] + depths[1]) / 2 + 0.02, (depths[1] + depths[2]) / 2 + 0.04
    hand, hand_depth = view.hands[1 - index], view.hand_depth[1 - index]

    def draw_upper(canvas: Canvas) -> None:
        canvas.line([shoulder, elbow], 0.05 * unit, shade(sleeved, upper - 0.02), f"{side}_upper_arm")

    def draw_lower(canvas: Canvas) -> None:
        canvas.line([elbow, wrist], 0.04 * unit, shade(covered, lower - 0.02), f"{side}_forearm")

    def draw_hand(canvas: Canvas) -> None:
        colour, part = shade(person.skin, hand_depth), f"{side}_hand"
        for finger in range(5):
            canvas.line(hand[1 + 4 * finger : 5 + 4 * finger], 0.014 * unit, colour, part)
        canvas.fill(hand[[0, 1, 5, 9, 13, 17]], colour, part)
        canvas.line(hand[[0, 9]], 0.03 * unit, colour, part)

    return [(upper, draw_upper), (lower, draw_lower), (max(hand_depth, lower) + 0.001, draw_hand)]


def _leg_layers(person: Person, view: View, index: int, side: str) -> list:
    hip, knee, ankle = (view.body[k + 3 * index] for k in (8, 9, 10))
    depths = [view.depth[k + 3 * index] for k in (8, 9, 10)]
    unit = view.unit * person.girth
    covered = person.legs if person.legwear == "trousers" else person.skin
    upper, lower = (depths[0] + depths[1]) / 2 - 0.02, (depths[1] + depths[2]) / 2 - 0.03
    foot_depth = view.toe_depth[index] - 0.02
    # Under a skirt the thigh's upper half is cloth as wide as the hips; the torso carries the rest of it.
    width = 0.095 if person.legwear == "skirt" else 0.078

    def draw_upper(canvas: Canvas) -> None:
        colour = shade(person.legs, upper + 0.02)
        if person.legwear == "trousers":
            canvas.line([hip, knee], width * unit, colour, f"{side}_thigh")
            return
        canvas.line([hip, knee], 0.066 * unit, shade(person.skin, upper + 0.02), f"{side}_thigh")
        canvas.line([hip, hip + 0.62 * (knee - hip)], width * unit, colour, f"{side}_thigh")

    def draw_lower(canvas: Canvas) -> None:
        canvas.line([knee, ankle], 0.055 * unit, shade(covered, lower + 0.03), f"{side}_shin")

    def draw_foot(canvas: Canvas) -> None:
        colour = shade(person.shoes, foot_depth)
        canvas.line([ankle, view.toes[index]], 0.046 * unit, colour, f"{side}_foot")

    return [(upper, draw_upper), (lower, draw_lower), (min(foot_depth, lower - 0.001), draw_foot)]


def _draw_torso(canvas: Canvas, person: Person, view: View) -> None:
    unit = view.unit * person.girth
    shoulders, hips, neck = view.body[[2, 5]], view.body[[8, 11]], view.body[1]
    pelvis = hips.mean(0)
    canvas.fill(_discs([*hips, pelvis + 0.15 * (neck - pelvis)], 0.04 * unit), shade(person.legs, 0), "torso")
    chest = [*shoulders, *(hips + 0.14 * (neck - pelvis))]
    canvas.fill(_discs(chest, 0.036 * unit), shade(person.shirt, 0), "torso")
    if person.band != person.shirt:
        down, across = pelvis - neck, 0.92 * (shoulders - shoulders.mean(0))
        canvas.line(shoulders.mean(0) + 0.38 * down + across, 0.05 * unit, person.band, "torso")
    canvas.line([neck + 0.1 * (view.head - neck), view.head], 0.045 * unit, shade(person.skin, -0.08), "neck")


def _discs(centres, radius: float) -> np.ndarray:
    return (np.asarray(centres)[:, None] + radius * _CIRCLE).reshape(-1, 2)


def _head_frame(person: Person, view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In-picture axes (2, 2) of the head, its radii in canvas pixels, and where its front is, (2,) in radii."""
    up = view.head_axes[:2, 1]
    down = up / max(np.linalg.norm(up), 1e-6)
    across = np.array([down[1], -down[0]])
    radii = HEAD_RADII * person.head * view.unit
    turned = abs(view.head_axes[0, 2])
    wide = radii[0] + (radii[2] - radii[0]) * turned
    front = np.array([across, down]) @ view.head_axes[:2, 2]
    return np.stack([across, down], -1), np.array([wide, radii[1]]), front


def _draw_hair_behind(canvas: Canvas, person: Person, view: View) -> None:
    axes, radii, front = _head_frame(person, view)
    if person.hair_length > 0.45:
        length = 0.75 + 0.8 * person.hair_length
        centre = view.head + axes @ (radii * (np.array([0, 0.35]) - 0.3 * front))
        canvas.ellipse(centre, axes, radii * np.array([1.12, length]), shade(person.hair, -0.1), "hair")


def _draw_head(canvas: Canvas, person: Person, view: View) -> None:
    axes, radii, front = _head_frame(person, view)
    canvas.ellipse(view.head + axes @ (radii * (-0.12 * front - (0, 0.08))), axes, 1.1 * radii, person.hair, "hair")
    for joint in (16, 17):
        seen_from = (view.body[joint] - view.head) @ axes[:, 0] / radii[0]
        if abs(seen_from) > 0.5:
            canvas.ellipse(view.body[joint], axes, radii * (0.15, 0.2), shade(person.skin, -0.1), "head")
    face = view.head + axes @ (radii * (0.14 * front + (0, 0.1)))
    canvas.ellipse(face, axes, radii * (0.9, 0.94), person.skin, "head")
    fringe = view.head + axes @ (radii * (0.05 * front - (0, 0.72)))
    canvas.ellipse(fringe, axes, radii * (0.86, 0.34), person.hair, "hair")
    if view.head_axes[2, 2] > 0.1:
        _draw_features(canvas, person, view)


def _draw_features(canvas: Canvas, person: Person, view: View) -> None:
    face, unit = view.face, view.unit * person.head
    for eye, side in ((slice(36, 42), -1), (slice(42, 48), 1)):
        if _faces_viewer(view.head_axes, side * 0.4):
            canvas.fill(_discs(face[eye], 0.003 * unit), EYE_WHITE, "features")
            canvas.fill(_discs([face[eye].mean(0)], 0.0065 * unit), EYE, "features")
    for brow, side in ((slice(17, 22), -1), (slice(22, 27), 1)):
        if _faces_viewer(view.head_axes, side * 0.4):
            canvas.line(face[brow], 0.008 * unit, shade(person.hair, -0.1), "features")
    canvas.line(face[[29, 33]], 0.009 * unit, shade(person.skin, -0.2), "head")
    canvas.fill(_discs(face[48:60], 0.002 * unit), LIPS, "features")


def _faces_viewer(head_axes: np.ndarray, x: float) -> bool:
    """Whether the surface of the head at `x` (in radii) of its front is turned to the viewer."""
    return bool(head_axes[2, 0] * x + head_axes[2, 2] * np.sqrt(1 - x * x) > 0.1)
