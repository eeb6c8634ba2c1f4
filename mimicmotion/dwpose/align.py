"""Fits a driving clip's skeleton to the reference picture: one scale and one offset for the whole clip.

`linear` is the published fit: a regression of the reference's joint heights on the clip's. A performer who
jumps adds height variance that the regression takes for noise, so it shrinks the skeleton. `robust` measures
the scale by bone lengths, which moving does not stretch, and then places the skeleton by medians. Whom that would
leave outside the picture (upside down, lying, far from where the reference stands) it moves, or makes smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mimicmotion.dwpose.keypoints import CONFIDENT, Pose, num_people
from mimicmotion.errors import UsageError

METHODS = ("linear", "robust")
# Elbows and wrists move most and are left out, as published.
FIT_JOINTS = np.array([0, 1, 2, 5, *range(8, 18)])
ARMS = np.array([3, 4, 6, 7])
ANKLES = np.array([10, 13])
# Head, shoulders, hips, ankles: what comes later is below what comes before in an upright person.
UPRIGHT_ORDER = ([0, 14, 15, 16, 17], [1, 2, 5], [8, 11], [10, 13])
# Distances that moving changes least: torso and its diagonals, shoulders, hips, thighs, shins, head.
BONES = np.array(
    [
        *((1, 8), (1, 11), (2, 8), (5, 11), (2, 11), (5, 8), (2, 5), (8, 11)),
        *((8, 9), (9, 10), (11, 12), (12, 13), (0, 1), (16, 17)),
    ]
)
# With less, long phases of foreshortening are ignored better, but what varies to both sides (shoulders rise
# with the arms, a person comes nearer) is averaged worse. doc/pose.md has the figures.
DENSE_SHARE = 0.7
SHORTEST_BONE = 1e-3  # frame heights; shorter ones have no measurable length
WRONG_SIZE = 2  # times the true size, or one part in so many of it: from there on a fit is told
MARGIN = 0.01  # of the picture, left free where a person is moved or made smaller to be inside
STRAY = 0.02  # share of the joints at either end of the clip's range that does not count: wrong, or a moment's reach
LARGEST = 0.9  # quantile over the frames of how large the person is


@dataclass(frozen=True)
class Alignment:
    """x_new = ax * x + bx, y_new = ay * y + by, from clip to reference, both in 0..1 of width and height.

    `note` is empty when the fit succeeded, else one sentence for the user on what was done instead.
    """

    ax: float
    bx: float
    ay: float
    by: float
    note: str = ""


def fit_alignment(
    ref_pose: Pose,
    poses: Sequence[Pose],
    ref_size: tuple[int, int],
    video_size: tuple[int, int],
    method: str = "robust",
) -> Alignment:
    """Fits all poses of a clip to the first person of the reference pose.

    ref_size, video_size: (height, width) in pixels of the pictures that the poses were detected in. There is
    one scale: ax differs from ay by the two aspect ratios only. Frames with no or several people are ignored.
    `robust` keeps inside the picture what the reference shows of a body, where one scale and one offset can.
    Never fails on poses: where nothing can be fitted, the clip's frame is laid on the reference at full
    height (with a single common joint: so that it meets its counterpart), and `note` says so.

    Raises: UsageError for an unknown method.
    """
    if method not in METHODS:
        raise UsageError(f"pose alignment '{method}' is unknown; choose one of: {', '.join(METHODS)}")
    aspect = video_size[1] / video_size[0] * ref_size[0] / ref_size[1]
    if num_people(ref_pose) == 0:
        return _unfitted(aspect, "the reference picture shows no person")
    single = [pose for pose in poses if num_people(pose) == 1]
    if not single:
        return _unfitted(aspect, "no frame of the clip shows exactly one person")
    ref, ref_score = ref_pose["bodies"]["candidate"][:18], ref_pose["bodies"]["score"][0]
    body = np.stack([pose["bodies"]["candidate"] for pose in single])
    score = np.stack([pose["bodies"]["score"][0] for pose in single])
    video_aspect = video_size[1] / video_size[0]
    if method == "linear":
        seen = ref_pose["bodies"]["subset"][0] >= 0
        fit = _fit_linear(ref, seen, body, aspect)
        return fit if fit.note else replace(fit, note=_size_note(fit, ref, ref_score, body, score, video_aspect))
    return _fit_robust(ref, ref_score, body, score, video_aspect, aspect)


def align_pose(pose: Pose, alignment: Alignment) -> Pose:
    """A copy of the pose moved to the reference: body, hands and faces. Scores and subset are kept."""
    scale, offset = np.array([alignment.ax, alignment.ay]), np.array([alignment.bx, alignment.by])
    bodies = pose["bodies"] | {"candidate": pose["bodies"]["candidate"] * scale + offset}
    moved = {name: pose[name] * scale + offset for name in ("hands", "faces")}
    return pose | {"bodies": bodies} | moved


def share_outside(poses: Sequence[Pose]) -> float:
    """Share of the seen body joints of all people that lies outside the picture, 0..1; 0 where nothing is seen."""
    outside, seen = 0, 0
    for pose in poses:
        points = pose["bodies"]["candidate"][pose["bodies"]["score"].reshape(-1) > CONFIDENT]
        outside += int((~_inside(points)).sum())
        seen += len(points)
    return outside / seen if seen else 0.0


def _fit_linear(ref: np.ndarray, seen: np.ndarray, body: np.ndarray, aspect: float) -> Alignment:
    """The published fit; the clip's scores are ignored. ref (18, 2), seen (18,), body (F, 18, 2)."""
    joints = FIT_JOINTS[seen[FIT_JOINTS]]
    if len(joints) < 2:
        return _unfitted(aspect, "the reference picture shows fewer than two of the joints used")
    x, y = body[:, joints, 0], body[:, joints, 1]
    ref_x, ref_y = np.tile(ref[joints], (len(body), 1)).T
    if not np.isfinite(body[:, joints]).all() or np.ptp(y) == 0:
        return _unfitted(aspect, "the clip's joints all lie at one height or are not numbers")
    ay, by = np.polyfit(y.flatten(), ref_y, 1)
    if ay <= 0:
        return _unfitted(aspect, f"the linear fit would turn the skeleton over (scale {ay:.3g})")
    ax = ay * aspect
    return Alignment(float(ax), float(np.mean(ref_x - x.flatten() * ax)), float(ay), float(by))


def _size_note(
    fit: Alignment, ref: np.ndarray, ref_score: np.ndarray, body: np.ndarray, score: np.ndarray, video_aspect: float
) -> str:
    """A word on a fit that makes a person much smaller or larger than the bones are in the reference, else nothing."""
    seen = (np.minimum(ref_score, score) > CONFIDENT) & np.isfinite(body).all(axis=-1)
    scale = _bone_scale(ref * (video_aspect * fit.ay / fit.ax, 1.0), body * (video_aspect, 1.0), seen)
    if scale is None or 1 / WRONG_SIZE < fit.ay / scale < WRONG_SIZE:
        return ""
    size = f"{fit.ay / scale:.0%}"
    return f"the linear fit draws the person at {size} of the reference's size; --align robust goes by bones"


def _fit_robust(
    ref: np.ndarray,
    ref_score: np.ndarray,
    body: np.ndarray,
    score: np.ndarray,
    video_aspect: float,
    aspect: float,
) -> Alignment:
    """ref (18, 2), ref_score (18,), body (F, 18, 2), score (F, 18). aspect: video / reference."""
    ref_seen = (ref_score > CONFIDENT) & np.isfinite(ref).all(axis=-1)
    clip_seen = (score > CONFIDENT) & np.isfinite(body).all(axis=-1)  # (F, 18)
    seen = clip_seen & ref_seen
    if not seen[:, FIT_JOINTS].any():
        return _unfitted(aspect, "reference and clip have no confident joint in common")
    # Lengths and angles need one unit on both axes: the height of the frame.
    ref_square, square = ref * (video_aspect / aspect, 1.0), body * (video_aspect, 1.0)
    scale = _bone_scale(ref_square, square, seen)
    note = ""
    if scale is None:
        scale, note = 1.0, "reference and clip have no bone in common: the pose is moved, not scaled"
    upright, ref_upright = _upright(square, clip_seen), bool(_upright(ref_square[None], ref_seen[None])[0])
    mostly_upright = bool(upright.mean() > 0.5)
    counted = seen & _inside(ref)  # what the reference shows is to be inside
    if mostly_upright:
        # Arms lifted out of the picture stay outside: better than feet that leave the floor.
        counted[:, ARMS] = False
    shrink = _shrink(body * (scale * aspect, scale), counted)
    if shrink < 1:
        note = f"the person is drawn at {shrink:.0%} of the reference's size: larger, it would not fit the picture"
    scale = scale * shrink
    scaled = body * (scale * aspect, scale)
    floors = _floor(ref, ref_seen, seen, ref_upright), _floor(scaled, clip_seen, seen, upright)
    offset = _median_offset(ref - scaled, seen, *floors)
    offset = offset + _shift(scaled + offset, counted, mostly_upright)
    return Alignment(float(scale * aspect), float(offset[0]), float(scale), float(offset[1]), note)


def _bone_scale(ref: np.ndarray, body: np.ndarray, seen: np.ndarray) -> float | None:
    """Reference bone lengths over the clip's, or None if no bone is seen in both. seen (F, 18): in both.

    A bone that turns away from the picture plane looks shorter, so its ratio wanders upwards and back, while
    the ratios of bones in the plane crowd at the true scale. The densest part of all ratios is averaged.
    """
    ref_length = np.linalg.norm(ref[BONES[:, 0]] - ref[BONES[:, 1]], axis=-1)  # (B,)
    length = np.linalg.norm(body[:, BONES[:, 0]] - body[:, BONES[:, 1]], axis=-1)  # (F, B)
    measured = seen[:, BONES].all(axis=-1) & (ref_length > SHORTEST_BONE) & (length > SHORTEST_BONE)
    if not measured.any():
        return None
    weight = np.broadcast_to(ref_length, length.shape)[measured]  # short bones are noisier
    return float(np.exp(_densest_mean(np.log(weight / length[measured]), weight)))


def _densest_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """The weighted mean over the shortest interval that holds DENSE_SHARE of the weight."""
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    before = np.concatenate([[0.0], np.cumsum(weights)])
    end = np.searchsorted(before, before[:-1] + before[-1] * DENSE_SHARE)  # of the interval [start, end)
    starts = np.flatnonzero(end <= len(values))
    start = starts[np.argmin(values[end[starts] - 1] - values[starts])]
    return float(np.average(values[start : end[start]], weights=weights[start : end[start]]))


def _median_offset(difference: np.ndarray, seen: np.ndarray, ref_floor: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """What to add to the scaled clip: the median over frames of each frame's median over joints.

    Vertically the floor alone decides where most frames show an ankle: crouching and jumping move everything else, and
    feet that miss the floor are what the eye sees first.

    difference: (F, 18, 2), reference - clip; seen (F, 18): in both; ref_floor, floor: (F,).
    """
    fit_seen = np.zeros_like(seen)
    fit_seen[:, FIT_JOINTS] = seen[:, FIT_JOINTS]
    frames = fit_seen.any(axis=1)
    difference = np.where(fit_seen[..., None], difference, np.nan)[frames]
    offset = np.median(np.nanmedian(difference, axis=1), axis=0)
    standing = seen[:, ANKLES].any(axis=1)
    if standing.sum() * 2 >= frames.sum():
        offset[1] = np.median(ref_floor[standing] - floor[standing])
    return offset


def _floor(body: np.ndarray, seen: np.ndarray, common: np.ndarray, upright: np.ndarray | bool) -> np.ndarray:
    """Height of what stands on the floor in each frame, (F,): the lower ankle of those in `common` (F, 18), or of who
    is upside down or lies the lowest of all joints `seen`. body (F, 18, 2) or (18, 2), seen accordingly.
    """
    height = np.broadcast_to(body[..., 1], common.shape)
    ankle = np.where(common[:, ANKLES], height[:, ANKLES], -np.inf).max(axis=1)
    return np.where(upright, ankle, np.where(seen, height, -np.inf).max(axis=1))


def _upright(square: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Whether the ankles (else hips, else shoulders) are below what is above them in a standing person, rather than
    beside or above it, (F,); where that cannot be told, they are. square (F, 18, 2) in frame heights, seen (F, 18).
    """
    upright = np.ones(len(square), bool)
    for frame, (points, known) in enumerate(zip(square, seen, strict=True)):
        parts = [points[part][known[part]] for part in UPRIGHT_ORDER if known[part].any()]
        if len(parts) > 1:
            low = parts[-1][np.argmax(parts[-1][:, 1])]
            across, down = low - np.median(np.concatenate(parts[:-1]), axis=0)
            upright[frame] = down > abs(across)
    return upright


def _inside(points: np.ndarray) -> np.ndarray:
    """Which of the points (..., 2) are in the picture."""
    return ((points >= 0) & (points <= 1)).all(axis=-1)


def _boxes(points: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest x, y of the counted joints, (F', 2) each, of the F' frames that have any."""
    masked = np.where(counted[..., None], points, np.nan)[counted.any(axis=1)]
    return np.nanmin(masked, axis=1), np.nanmax(masked, axis=1)


def _shrink(scaled: np.ndarray, counted: np.ndarray) -> float:
    """The factor, 1 at most, at which the person (not its way through the picture) fits into the picture."""
    if not counted.any():
        return 1.0
    low, high = _boxes(scaled, counted)
    size = np.quantile(high - low, LARGEST, axis=0).max()
    return float((1 - 2 * MARGIN) / size) if size > 1 else 1.0


def _shift(placed: np.ndarray, counted: np.ndarray, upright: bool) -> np.ndarray:
    """The smallest (x, y) that brings the clip into the picture or, on an axis where its way is longer than that, its
    usual place. Someone `upright` is moved sideways only, and not where the way is too long: who jumps or walks out of
    the picture does so.
    """
    if not counted.any():
        return np.zeros(2)
    whole = np.quantile(placed[counted], (STRAY, 1 - STRAY), axis=0)
    if upright:
        return np.array([_into_picture(*whole[:, 0]) if np.ptp(whole[:, 0]) <= 1 else 0.0, 0.0])
    usual = np.median(_boxes(placed, counted), axis=1)
    return np.array([_into_picture(*ends) for ends in np.where(np.ptp(whole, axis=0) <= 1, whole, usual).T])


def _into_picture(low: float, high: float) -> float:
    """The smallest shift that brings low..high inside, with a margin where there is room; else the middle to 0.5."""
    if low >= 0 and high <= 1:
        return 0.0
    margin = min(MARGIN, (1 - (high - low)) / 2)
    return float(np.clip(0, margin - low, 1 - margin - high))


def _unfitted(aspect: float, reason: str) -> Alignment:
    """The clip's frame at the reference's full height, centred sideways."""
    note = f"{reason}: the pose is not aligned, only fitted to the height of the picture"
    return Alignment(aspect, (1 - aspect) / 2, 1.0, 0.0, note)
