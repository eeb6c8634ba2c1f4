"""People who are upside down, lie, turn over or walk are drawn inside the picture; who stands is drawn as ever."""

import functools

import numpy as np
import pytest

from mimicmotion.dwpose import share_outside
from mimicmotion.dwpose.align import ANKLES, ARMS, CONFIDENT, FIT_JOINTS, align_pose, fit_alignment
from mimicmotion.dwpose.keypoints import empty_pose, make_bodies
from mimicmotion.puppets.clips import make_clip, make_still

VIDEO = (96, 64)
SHAPES = {"2:3": (192, 128), "9:16": (1024, 576), "16:9": (576, 1024)}
LEGS = [9, 10, 12, 13]


@functools.cache
def puppet(kind):
    return tuple(make_clip(2_005_000, 13, *VIDEO, kind, whole_body=True).poses[1:])


@functools.cache
def reference(seed, shape="2:3"):
    """A standing puppet in the middle of a picture of this shape."""
    pose, (height, width) = make_still(2_000_000 + seed, *VIDEO).poses[0], SHAPES[shape]
    narrower = (VIDEO[1] / VIDEO[0]) / (width / height)
    return changed(pose, lambda points: (points - 0.5) * (narrower, 1) + 0.5)


def changed(pose, move, hidden=()):
    """The pose with its body moved and some joints unseen."""
    score = pose["bodies"]["score"].copy()
    score[:, list(hidden)] = 0.05
    return pose | {"bodies": make_bodies(move(pose["bodies"]["candidate"].astype(float)), score)}


def turned(pose, degrees, hidden=(), size=VIDEO):
    """Turned about the middle of the frame, clockwise."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    square = np.array([size[1] / size[0], 1])
    return changed(pose, lambda p: ((p - 0.5) * square @ [[cos, sin], [-sin, cos]]) / square + 0.5, hidden)


def shifted(pose, x, scale=1.0):
    return changed(pose, lambda points: (points - 0.5) * scale + 0.5 + (x, 0))


def drawn(ref, poses, shape="2:3"):
    fit = fit_alignment(ref, poses, SHAPES[shape], VIDEO, "robust")
    return [align_pose(pose, fit) for pose in poses], fit


def points(poses):
    return np.stack([pose["bodies"]["candidate"] for pose in poses])


@pytest.mark.parametrize("kind", ["wave", "dance", "crouch", "jump", "walk"])
@pytest.mark.parametrize("shape", SHAPES)
def test_who_stands_is_placed_by_medians_alone(kind, shape):
    ref, poses = reference(1, shape), puppet(kind)
    _, fit = drawn(ref, poses, shape)
    assert not fit.note
    ref_points, scaled = ref["bodies"]["candidate"], points(poses) * (fit.ax, fit.ay)
    seen = np.stack([pose["bodies"]["score"][0] > CONFIDENT for pose in poses]) & (
        ref["bodies"]["score"][0] > CONFIDENT
    )
    sideways = [np.median((ref_points - frame)[FIT_JOINTS][known[FIT_JOINTS], 0])
                for frame, known in zip(scaled, seen, strict=True)]  # fmt: skip
    feet = [max(ref_points[joint, 1] for joint in ANKLES if known[joint])
            - max(frame[joint, 1] for joint in ANKLES if known[joint])
            for frame, known in zip(scaled, seen, strict=True) if known[ANKLES].any()]  # fmt: skip
    assert (fit.bx, fit.by) == (np.median(sideways), np.median(feet))


@pytest.mark.parametrize("kind", ["wave", "dance", "crouch"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("degrees", "most"), [(180, 0.02), (90, 0.04), (-90, 0.04), (150, 0.04)])
def test_whoever_is_upside_down_or_lies_is_inside(kind, shape, degrees, most):
    for seed in range(2):
        moved, _ = drawn(reference(seed, shape), [turned(pose, degrees) for pose in puppet(kind)], shape)
        assert share_outside(moved) <= most


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cartwheel_is_inside(shape):
    poses = [turned(pose, 360 * i / len(puppet("wave"))) for i, pose in enumerate(puppet("wave"))]
    moved, _ = drawn(reference(0, shape), poses, shape)
    assert share_outside(moved) <= 0.1


def test_whoever_is_upside_down_stands_on_the_references_floor():
    ref = reference(0)
    moved, fit = drawn(ref, [turned(pose, 180) for pose in puppet("wave")])
    assert not fit.note
    seen = np.stack([pose["bodies"]["score"][0] > CONFIDENT for pose in moved])
    lowest = np.where(seen, points(moved)[..., 1], 0).max(axis=1)
    assert np.median(lowest) == pytest.approx(ref["bodies"]["candidate"][ANKLES, 1].max(), abs=1e-9)


@pytest.mark.parametrize("degrees", range(0, 360, 45))
def test_a_person_turned_as_the_reference_is_lands_on_it(degrees):
    ref = turned(shifted(reference(0), 0, scale=0.6), degrees, size=SHAPES["2:3"])
    fit = fit_alignment(ref, [ref], SHAPES["2:3"], SHAPES["2:3"], "robust")
    assert (fit.ax, fit.bx, fit.ay, fit.by) == pytest.approx((1, 0, 1, 0), abs=1e-9)


def test_who_lies_is_made_no_smaller_than_a_narrow_picture_needs():
    poses = [turned(pose, 90) for pose in puppet("wave")]
    moved, fit = drawn(reference(0, "9:16"), poses, "9:16")
    assert "of the reference's size" in fit.note
    assert 0.9 < np.ptp(points(moved)[..., 0]) <= 1.0
    assert not drawn(reference(0, "16:9"), poses, "16:9")[1].note


def test_half_a_body_upside_down_is_inside():
    """The clip's frames show no leg, so that only the head says where up is."""
    ref = changed(reference(0), lambda points: (points - 0.5) * 2 + 0.5, hidden=LEGS)
    moved, _ = drawn(ref, [turned(pose, 180, hidden=LEGS) for pose in puppet("wave")])
    assert share_outside(moved) <= 0.06


def test_the_legs_that_the_reference_does_not_show_stay_outside():
    ref = changed(reference(0), lambda points: (points - (0.5, 0.45)) * 2 + 0.5)
    assert ref["bodies"]["candidate"][LEGS, 1].min() > 1
    moved, fit = drawn(ref, puppet("wave"))
    assert not fit.note
    assert 0.2 < share_outside(moved) < 0.3
    assert (points(moved)[:, [0, 1, 2, 5], 1] < 1).all()


def test_who_crosses_the_picture_is_kept_inside_where_there_is_room():
    across = [shifted(pose, x, 0.5) for pose, x in zip(puppet("wave"), np.linspace(-0.35, 0.35, 12), strict=True)]
    moved, _ = drawn(shifted(reference(0), -0.2, 0.5), across)
    assert np.ptp(points(moved)[:, 1, 0]) > 0.6, "half of the way would leave the picture at the reference's place"
    assert share_outside(moved) <= 0.03


def test_who_crosses_a_picture_too_narrow_passes_the_references_place_half_way():
    across = [shifted(pose, x) for pose, x in zip(puppet("wave"), np.linspace(-1, 1, 12), strict=True)]
    moved, _ = drawn(reference(0), across)
    assert share_outside(moved) > 0.2
    middle = np.median(points(moved)[..., FIT_JOINTS, 0], axis=1)
    assert np.median(middle) == pytest.approx(np.median(reference(0)["bodies"]["candidate"][FIT_JOINTS, 0]), abs=0.1)


def test_lifted_arms_do_not_lift_the_feet_off_the_floor():
    low = changed(reference(0), lambda points: (points - 0.5) * 1.35 + (0.5, 0.46))  # little room above the head
    up = [changed(p, lambda points: np.where(np.isin(np.arange(18), ARMS)[:, None], points - (0, 0.45), points))
          for p in puppet("wave")]  # fmt: skip
    moved, fit = drawn(low, up)
    assert (points(moved)[:, [4, 7], 1] < 0).any()
    floor = np.median(points(moved)[:, ANKLES, 1].max(axis=1))
    assert not fit.note
    assert floor == pytest.approx(low["bodies"]["candidate"][ANKLES, 1].max(), abs=0.02)


def test_the_published_fit_says_so_when_the_size_is_wrong():
    def note(poses):
        return fit_alignment(reference(0), poses, SHAPES["2:3"], VIDEO, "linear").note

    places = enumerate(puppet("wave"))
    hopping = [changed(pose, lambda points, up=i % 2: points - np.array([0, up])) for i, pose in places]
    assert "--align robust" in note(hopping)
    assert "--align robust" in note([turned(pose, 75) for pose in puppet("wave")])
    assert not note(puppet("wave"))


def test_the_share_outside_counts_seen_joints():
    pose = reference(0)
    assert share_outside([pose]) == 0
    assert share_outside([empty_pose()]) == share_outside([]) == 0
    above = changed(pose, lambda points: points - (0, 2))
    seen = (pose["bodies"]["score"] > CONFIDENT).sum()
    assert share_outside([above]) == 1
    assert share_outside([pose, above, empty_pose()]) == 0.5
    one = changed(pose, lambda points: np.where(np.arange(18)[:, None] == 1, 1.01, points))
    assert share_outside([one]) == 1 / seen
