"""Fits a driving clip's skeleton to the reference picture: one scale and one offset for the whole clip.

`linear` is the published fit: a regression of the reference's joint heights on the clip's. A performer who
jumps adds height variance that the regression takes for noise, so it shrinks the skeleton. `robust` measures
the scale by bone lengths, which moving does not stretch, and then places the skeleton by medians.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mimicmotion.dwpose.keypoints import CONFIDENT, Pose, num_people
from mimicmotion.errors import UsageError

METHODS = ("linear", "robust")
# Elbows and wrists move most and are left out, as published.
FIT_JOINTS = np.array([0, 1, 2, 5, *range(8, 18)])
ANKLES = np.array([10, 13])
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
    if method == "linear":
        seen = ref_pose["bodies"]["subset"][0] >= 0
        return _fit_linear(ref, seen, body, aspect)
    return _fit_robust(ref, ref_score, body, score, video_size[1] / video_size[0], aspect)


def align_pose(pose: Pose, alignment: Alignment) -> Pose:
    """A copy of the pose moved to the reference: body, hands and faces. Scores and subset are kept."""
    scale, offset = np.array([alignment.ax, alignment.ay]), np.array([alignment.bx, alignment.by])
    bodies = pose["bodies"] | {"candidate": pose["bodies"]["candidate"] * scale + offset}
    moved = {name: pose[name] * scale + offset for name in ("hands", "faces")}
    return pose | {"bodies": bodies} | moved


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
    seen = (score > CONFIDENT) & np.isfinite(body).all(axis=-1) & ref_seen  # (F, 18)
    if not seen[:, FIT_JOINTS].any():
        return _unfitted(aspect, "reference and clip have no confident joint in common")
    # Lengths need one unit on both axes: the height of the frame.
    scale = _bone_scale(ref * (video_aspect / aspect, 1.0), body * (video_aspect, 1.0), seen)
    note = ""
    if scale is None:
        scale, note = 1.0, "reference and clip have no bone in common: the pose is moved, not scaled"
    offset = _median_offset(ref, body * (scale * aspect, scale), seen)
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


def _median_offset(ref: np.ndarray, scaled: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What to add to the scaled clip (F, 18, 2): the median over frames of each frame's median over joints.

    Vertically the lower ankle alone decides where most frames show one: crouching and jumping move everything
    else, and feet that miss the floor are what the eye sees first.
    """
    fit_seen = np.zeros_like(seen)
    fit_seen[:, FIT_JOINTS] = seen[:, FIT_JOINTS]
    frames = fit_seen.any(axis=1)
    difference = np.where(fit_seen[..., None], ref - scaled, np.nan)[frames]  # (F, 18, 2)
    offset = np.median(np.nanmedian(difference, axis=1), axis=0)
    standing = seen[:, ANKLES].any(axis=1)
    if standing.sum() * 2 >= frames.sum():
        ankles = seen[standing][:, ANKLES]
        floor = np.where(ankles, scaled[standing][:, ANKLES, 1], -np.inf).max(axis=1)
        ref_floor = np.where(ankles, ref[ANKLES, 1], -np.inf).max(axis=1)
        offset[1] = np.median(ref_floor - floor)
    return offset


def _unfitted(aspect: float, reason: str) -> Alignment:
    """The clip's frame at the reference's full height, centred sideways."""
    note = f"{reason}: the pose is not aligned, only fitted to the height of the picture"
    return Alignment(aspect, (1 - aspect) / 2, 1.0, 0.0, note)
