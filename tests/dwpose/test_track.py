import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimicmotion.dwpose.example_poses import project, stick_figure
from mimicmotion.dwpose.keypoints import arrays_from_pose, empty_pose, make_bodies, num_people, pose_from_arrays
from mimicmotion.dwpose.track import MAX_GAP, follow_person
from mimicmotion.errors import InputError

SIZE = (500, 500)
FRAMES = 30


def person(x, height=0.5, score=0.9, floor=0.9, **angles):
    return project(stick_figure(**angles), height, (x, floor), SIZE, score)


def together(rng, *people):
    """One frame with these people in random order."""
    arrays = [arrays_from_pose(people[i]) for i in rng.permutation(len(people))]
    return pose_from_arrays(**{name: np.concatenate([a[name] for a in arrays]) for name in arrays[0]})


def neck_x(poses):
    return np.array([pose["bodies"]["candidate"][1, 0] if num_people(pose) else np.nan for pose in poses])


def with_gap(start, length, frames=FRAMES):
    """One person who walks to the right, without the frames of the gap."""
    walk = [person(0.2 + 0.6 * f / frames) for f in range(frames)]
    return walk, [empty_pose() if start <= f < start + length else pose for f, pose in enumerate(walk)]


def test_one_person_in_every_frame_is_left_alone():
    walk, _ = with_gap(0, 0)
    followed, report = follow_person(walk)
    for before, after in zip(walk, followed, strict=True):
        np.testing.assert_array_equal(before["bodies"]["candidate"], after["bodies"]["candidate"])
    assert (report.missing, report.bridged, report.empty, report.several, report.restarts) == (0, 0, 0, 0, ())
    assert str(report) == "person in 30 of 30 frames"


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_at_the_start_is_kept_when_another_grows(seed):
    rng = np.random.default_rng(seed)
    xs = 0.3 + 0.05 * np.sin(np.arange(FRAMES) / 3)
    growth = np.linspace(0.3, 0.8, FRAMES)
    frames = [together(rng, person(x), person(0.7, height)) for x, height in zip(xs, growth, strict=True)]
    followed, report = follow_person(frames)
    np.testing.assert_allclose(neck_x(followed), xs)
    assert report.several == FRAMES
    assert "several people in 30" in str(report)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [0.013, 0.02, 0.037])
def test_two_alike_who_cross_are_not_exchanged(seed, step):
    rng = np.random.default_rng(seed)
    xs = 0.5 + step * (np.arange(FRAMES) - FRAMES / 2 + 0.3)
    frames = [together(rng, person(x, 0.5), person(1 - x, 0.49)) for x in xs]
    np.testing.assert_allclose(neck_x(follow_person(frames)[0]), xs)


def test_confidence_counts_beside_size():
    frame = together(np.random.default_rng(0), person(0.3, 0.5, score=0.95), person(0.7, 0.6, score=0.45))
    assert neck_x(follow_person([frame])[0])[0] == pytest.approx(0.3)


@pytest.mark.parametrize("length", [1, 4, MAX_GAP])
def test_short_gaps_are_interpolated_and_fade(length):
    walk, gappy = with_gap(10, length)
    followed, report = follow_person(gappy)
    np.testing.assert_allclose(neck_x(followed), neck_x(walk))
    scores = np.array([pose["bodies"]["score"].mean() for pose in followed])
    gap = slice(10, 10 + length)
    assert (scores[gap] < 0.9).all()
    assert 0.45 <= scores[gap].min() <= 0.9 * (1 - 0.1 * ((length + 1) // 2))
    np.testing.assert_allclose(scores[gap], scores[gap][::-1])
    assert (report.missing, report.bridged, report.empty) == (length, length, 0)


def test_longer_gaps_stay_empty():
    _, gappy = with_gap(10, MAX_GAP + 1)
    followed, report = follow_person(gappy)
    assert [num_people(pose) for pose in followed] == [num_people(pose) for pose in gappy]
    assert (report.missing, report.bridged, report.empty) == (MAX_GAP + 1, 0, MAX_GAP + 1)


@pytest.mark.parametrize("start", [0, FRAMES - 3])
def test_gaps_at_the_ends_are_held(start):
    walk, gappy = with_gap(start, 3)
    followed, report = follow_person(gappy)
    held = neck_x(followed)[start : start + 3]
    np.testing.assert_allclose(held, neck_x(walk)[3 if start == 0 else start - 1])
    scores = np.array([pose["bodies"]["score"].mean() for pose in followed[start : start + 3]])
    away = scores[::-1] if start == 0 else scores
    assert (np.diff(away) <= 0).all()
    assert away[0] < 0.9
    assert (report.bridged, report.empty) == (3, 0)


@settings(max_examples=60, deadline=None)
@given(present=st.lists(st.booleans(), min_size=1, max_size=40).filter(any), max_gap=st.integers(0, 10))
def test_every_frame_is_seen_bridged_or_empty(present, max_gap):
    frames = [person(0.5) if here else empty_pose() for here in present]
    followed, report = follow_person(frames, max_gap=max_gap)
    assert len(followed) == report.frames == len(present)
    assert report.missing == present.count(False) == report.bridged + report.empty
    assert [num_people(pose) for pose in followed].count(0) == report.empty
    runs = "".join("x" if here else "." for here in present).split("x")
    assert report.bridged == sum(len(run) for run in runs if len(run) <= max_gap)


def test_points_seen_on_one_side_of_a_gap_do_not_wander():
    before, after = person(0.3), person(0.4)
    for pose, place, score in ((before, 0.0, 0.0), (after, 0.6, 0.8)):
        pose["hands"] = np.full((2, 21, 2), place)
        pose["hands_score"] = np.full((2, 21), score)
    middle = follow_person([before, empty_pose(), after])[0][1]
    np.testing.assert_allclose(middle["hands"], 0.6)
    assert 0.2 < middle["hands_score"].min() < 0.4
    assert middle["bodies"]["candidate"][1, 0] == pytest.approx(0.35)


def test_faded_joints_below_the_threshold_are_unseen():
    _, gappy = with_gap(10, MAX_GAP)
    for pose in gappy:
        pose["bodies"]["score"] *= 0.5 / 0.9
    middle = follow_person(gappy)[0][10 + MAX_GAP // 2]
    assert middle["bodies"]["score"].max() < 0.3
    assert (middle["bodies"]["subset"] == -1).all()


def test_a_cut_to_another_place_is_taken_up_without_sliding():
    frames = [person(0.2, 0.3)] * 15 + [person(0.8, 0.8)] * 15
    followed, report = follow_person(frames)
    np.testing.assert_allclose(neck_x(followed), [0.2] * 15 + [0.8] * 15)
    assert report.restarts == (15,)
    assert report.missing == 0
    assert "taken up at frame 15" in str(report)


def test_a_short_absence_is_not_filled_with_a_bystander():
    rng = np.random.default_rng(0)
    frames = [together(rng, person(0.2), person(0.8, 0.4)) for _ in range(20)]
    frames[8:12] = [person(0.8, 0.4)] * 4
    followed, report = follow_person(frames)
    np.testing.assert_allclose(neck_x(followed), 0.2)
    assert (report.bridged, report.several) == (4, 16)


def weak(pose, joints, score):
    """Only this many joints are seen, with this score."""
    scores = np.full((1, 18), 0.05)
    scores[0, :joints] = score
    return pose | {"bodies": make_bodies(pose["bodies"]["candidate"], scores)}


@pytest.mark.parametrize("false_positive", [weak(person(0.5), 3, 0.9), weak(person(0.5), 18, 0.35)])
def test_uncertain_detections_are_no_person(false_positive):
    with pytest.raises(InputError, match="no person was found in any of 5 frames"):
        follow_person([false_positive] * 5)
    followed, report = follow_person([person(0.5), *[false_positive] * 20])
    assert (report.rejected, report.missing) == (20, 20)
    assert [num_people(pose) for pose in followed] == [1] + [0] * 20


def test_aspect_decides_who_is_larger():
    """Lying across the frame, 0.4 of a wide frame is longer than 0.5 of its height."""
    lying = person(0.5, 0.4)
    lying["bodies"]["candidate"] = lying["bodies"]["candidate"][:, ::-1].copy()
    frame = together(np.random.default_rng(0), lying, person(0.2, 0.5))
    assert neck_x(follow_person([frame], aspect=1.0)[0])[0] == pytest.approx(0.2)
    assert neck_x(follow_person([frame], aspect=16 / 9)[0])[0] != pytest.approx(0.2)


@pytest.mark.parametrize("poses", [[], [empty_pose()] * 4])
def test_nobody_at_all(poses):
    with pytest.raises(InputError, match="no person"):
        follow_person(poses)
