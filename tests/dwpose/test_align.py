import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimicmotion.dwpose.align import FIT_JOINTS, align_pose, fit_alignment
from mimicmotion.dwpose.example_poses import disturb, project, stick_figure
from mimicmotion.dwpose.keypoints import empty_pose, make_bodies, pose_from_arrays
from mimicmotion.errors import UsageError

VIDEO, REF = (480, 520), (1024, 576)
HEIGHT, SCALE = 0.6, 1.25
REFERENCE = project(stick_figure(), HEIGHT * SCALE, (0.55, 0.93), REF)
FRAMES = 60


def clip(rng, jump=0.0, **angles):
    """Arms at random, the given angles swinging up and back, every frame at another height."""
    swing = (1 - np.cos(np.arange(FRAMES) / FRAMES * 4 * np.pi)) / 2
    poses = []
    for s in swing:
        figure = stick_figure(arms=rng.uniform(0, 3, 2), **{name: top * s for name, top in angles.items()})
        poses.append(project(figure, HEIGHT, (0.45, 0.85 + rng.normal(0, jump)), VIDEO))
    return poses


def several(*poses):
    """One frame with all these people."""
    return pose_from_arrays(
        np.concatenate([pose["bodies"]["candidate"][None] for pose in poses]),
        np.concatenate([pose["bodies"]["score"] for pose in poses]),
        *(np.zeros((len(poses), *shape)) for shape in ((2, 21, 2), (2, 21), (68, 2), (68,))),
    )


def with_scores(pose, seen):
    """Only these joints are seen."""
    score = np.full((1, 18), 0.1)
    score[0, seen] = 0.9
    return pose | {"bodies": make_bodies(pose["bodies"]["candidate"], score)}


def published_fit(ref, poses, ref_size, video_size):
    """Least squares over all single-person frames, written as normal equations."""
    published = (0, 1, 2, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
    joints = [joint for joint in published if ref["bodies"]["score"][0, joint] > 0.3]
    pairs = [
        (ref["bodies"]["candidate"][j], pose["bodies"]["candidate"][j])
        for pose in poses
        if len(pose["bodies"]["candidate"]) == 18
        for j in joints
    ]
    ref_points, points = map(np.array, zip(*pairs, strict=True))
    normal = np.stack([points[:, 1], np.ones(len(points))], axis=1)
    ay, by = np.linalg.solve(normal.T @ normal, normal.T @ ref_points[:, 1])
    ax = ay / (video_size[0] / video_size[1] / ref_size[0] * ref_size[1])
    return ax, (ref_points[:, 0] - points[:, 0] * ax).mean(), ay, by


@pytest.mark.parametrize("seed", range(4))
def test_linear_is_the_published_fit(seed):
    rng = np.random.default_rng(seed)
    poses = disturb(clip(rng, jump=0.1), rng)
    poses[3], poses[7] = empty_pose(), several(poses[6], poses[8])
    ref = with_scores(REFERENCE, [0, 1, 2, 3, 4, 5, 8, 9, 11, 12])
    fit = fit_alignment(ref, poses, REF, VIDEO, "linear")
    expected = published_fit(ref, poses, REF, VIDEO)
    np.testing.assert_allclose((fit.ax, fit.bx, fit.ay, fit.by), expected, rtol=1e-9)
    assert not fit.note


def test_linear_shrinks_a_jumping_skeleton():
    """The defect that the robust fit is for; factor var(body) / (var(body) + var(motion))."""
    poses = clip(np.random.default_rng(0), jump=0.2)
    assert fit_alignment(REFERENCE, poses, REF, VIDEO, "linear").ay < 0.7 * SCALE


@pytest.mark.parametrize("jump", [0, 0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_robust_keeps_the_scale_of_a_jumping_skeleton(jump, seed):
    rng = np.random.default_rng(seed)
    poses = disturb(clip(rng, jump), rng, noise=0.004, dropouts=0.05, outliers=0.03)
    fit = fit_alignment(REFERENCE, poses, REF, VIDEO, "robust")
    assert fit.ay == pytest.approx(SCALE, rel=0.02)
    assert fit.ax == pytest.approx(fit.ay * (520 / 480) / (576 / 1024), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_robust_heeds_confidence(seed):
    """Half of the joints lie anywhere, with a low score."""
    rng = np.random.default_rng(seed)
    poses = disturb(clip(rng, jump=0.1), rng, noise=0, dropouts=0.5, outliers=0)
    assert fit_alignment(REFERENCE, poses, REF, VIDEO, "robust").ay == pytest.approx(SCALE, rel=1e-9)


@pytest.mark.parametrize(
    ("angles", "error"),
    [({"crouch": 1.3}, 0.02), ({"turn": 3.1}, 0.03), ({"bend": 0.7}, 0.03), ({"bend": 1.3}, 0.07)],
)
@pytest.mark.parametrize("seed", range(3))
def test_robust_keeps_the_scale_when_bones_turn_away(angles, error, seed):
    rng = np.random.default_rng(seed)
    fit = fit_alignment(REFERENCE, disturb(clip(rng, **angles), rng), REF, VIDEO, "robust")
    assert fit.ay == pytest.approx(SCALE, rel=error)


def test_robust_puts_the_feet_on_the_floor():
    """A performer who crouches and hops now and then stands where the reference stands."""
    rng = np.random.default_rng(0)
    poses = clip(rng, crouch=1.3)
    for frame in range(0, FRAMES, 4):
        poses[frame]["bodies"]["candidate"][:, 1] -= 0.3
    fit = fit_alignment(REFERENCE, poses, REF, VIDEO, "robust")
    feet = align_pose(poses[1], fit)["bodies"]["candidate"][[10, 13]]
    np.testing.assert_allclose(feet, REFERENCE["bodies"]["candidate"][[10, 13]], atol=1e-6)


@pytest.mark.parametrize("method", ["linear", "robust"])
def test_the_same_skeleton_lands_on_the_reference(method):
    pose = project(stick_figure(), HEIGHT, (0.45, 0.85), VIDEO)
    moved = align_pose(pose, fit_alignment(REFERENCE, [pose], REF, VIDEO, method))
    np.testing.assert_allclose(moved["bodies"]["candidate"], REFERENCE["bodies"]["candidate"], atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.3, 3), x=st.floats(-0.5, 0.5), y=st.floats(-0.5, 0.5), seed=st.integers(0, 99))
def test_robust_undoes_any_scale_and_shift(scale, x, y, seed):
    poses = clip(np.random.default_rng(seed), jump=0.1, crouch=0.5)
    fit = fit_alignment(REFERENCE, poses, REF, VIDEO, "robust")
    for pose in poses:
        pose["bodies"]["candidate"] *= scale
        pose["bodies"]["candidate"] += (x, y)
    again = fit_alignment(REFERENCE, poses, REF, VIDEO, "robust")
    assert again.ay == pytest.approx(fit.ay / scale)
    assert again.by == pytest.approx(fit.by - again.ay * y)
    assert again.bx == pytest.approx(fit.bx - again.ax * x)


def test_align_moves_body_hands_and_faces():
    rng = np.random.default_rng(0)
    shapes = ((18, 2), (18,), (2, 21, 2), (2, 21), (68, 2), (68,))
    pose = pose_from_arrays(*(rng.random((1, *shape)) for shape in shapes))
    fit = fit_alignment(REFERENCE, clip(rng), REF, VIDEO, "robust")
    moved = align_pose(pose, fit)
    for before, after in (
        (pose["bodies"]["candidate"], moved["bodies"]["candidate"]),
        (pose["hands"], moved["hands"]),
        (pose["faces"], moved["faces"]),
    ):
        np.testing.assert_allclose(after, before * (fit.ax, fit.ay) + (fit.bx, fit.by))
    assert moved["faces_score"] is pose["faces_score"]
    np.testing.assert_array_equal(moved["bodies"]["subset"], pose["bodies"]["subset"])


NAN_POSE = REFERENCE | {"bodies": make_bodies(np.full((18, 2), np.nan), np.full((1, 18), 0.9))}
STANDING = project(stick_figure(), HEIGHT, (0.45, 0.85), VIDEO)


@pytest.mark.parametrize("method", ["linear", "robust"])
@pytest.mark.parametrize(
    ("ref", "poses"),
    [
        (empty_pose(), [STANDING]),
        (with_scores(REFERENCE, []), [STANDING]),
        (with_scores(REFERENCE, [3, 4]), [STANDING]),
        (REFERENCE, []),
        (REFERENCE, [empty_pose()] * 3),
        (REFERENCE, [several(STANDING, STANDING)]),
        (REFERENCE, [NAN_POSE]),
    ],
)
def test_nothing_to_fit_keeps_the_height_and_says_so(method, ref, poses):
    fit = fit_alignment(ref, poses, REF, VIDEO, method)
    assert "not aligned" in fit.note
    assert (fit.ay, fit.by) == (1, 0)
    assert fit.ax * 576 / 1024 == pytest.approx(520 / 480)  # a circle stays a circle
    assert fit.ax * 0.5 + fit.bx == pytest.approx(0.5)


@pytest.mark.parametrize("joint", FIT_JOINTS)
def test_one_common_joint_is_laid_on_its_counterpart(joint):
    fit = fit_alignment(with_scores(REFERENCE, [joint]), [STANDING], REF, VIDEO, "robust")
    assert "not scaled" in fit.note
    moved = align_pose(STANDING, fit)["bodies"]["candidate"][joint]
    np.testing.assert_allclose(moved, REFERENCE["bodies"]["candidate"][joint])


def test_robust_ignores_broken_frames():
    poses = clip(np.random.default_rng(0))
    fit = fit_alignment(REFERENCE, poses, REF, VIDEO, "robust")
    assert fit == fit_alignment(REFERENCE, [*poses, NAN_POSE, empty_pose()], REF, VIDEO, "robust")


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), frames=st.integers(0, 4))
def test_robust_is_finite_for_arbitrary_keypoints(seed, frames):
    rng = np.random.default_rng(seed)

    def chaos():
        points, scores = rng.choice([0.0, 0.5, 0.5, 1e6, np.nan, rng.random()], (18, 2)), rng.random((1, 18))
        return REFERENCE | {"bodies": make_bodies(points, scores)}

    fit = fit_alignment(chaos(), [chaos() for _ in range(frames)], REF, VIDEO, "robust")
    assert np.isfinite([fit.ax, fit.bx, fit.ay, fit.by]).all()
    assert fit.ay > 0


def test_unknown_method():
    with pytest.raises(UsageError, match="linear, robust"):
        fit_alignment(REFERENCE, [STANDING], REF, VIDEO, "best")
