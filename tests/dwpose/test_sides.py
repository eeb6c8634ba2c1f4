"""A mirrored skeleton is mirrored back; a person who turns is left alone."""

import numpy as np

from mimicmotion.dwpose.keypoints import empty_pose, pose_from_arrays
from mimicmotion.dwpose.sides import PATIENCE, SideKeeper, mirror

SIZE = 100, 100
PAIRS = [(2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13), (14, 15), (16, 17)]


def pose_at(angle=0.0, shift=0.0):
    """A skeleton turned about its vertical axis: 0 faces us, pi shows the back. Hands carry their side."""
    body = np.zeros((1, 18, 2))
    body[0, :, 1] = np.linspace(0.1, 0.9, 18)
    body[..., 0] = 0.5 + shift
    for right, left in PAIRS:
        body[0, [right, left], 1] = body[0, right, 1]
        body[0, right, 0] -= 0.1 * np.cos(angle)
        body[0, left, 0] += 0.1 * np.cos(angle)
    hands = np.zeros((1, 2, 21, 2))
    hands[0, 0], hands[0, 1] = 1, 2
    score = np.linspace(0.4, 0.9, 18)[None]
    return pose_from_arrays(body, score, hands, np.ones((1, 2, 21)), np.zeros((1, 68, 2)), np.ones((1, 68)))


def assert_same(left, right):
    np.testing.assert_array_equal(left["bodies"]["candidate"], right["bodies"]["candidate"])
    np.testing.assert_array_equal(left["bodies"]["score"], right["bodies"]["score"])
    np.testing.assert_array_equal(left["hands"], right["hands"])


def test_mirror_exchanges_every_pair_and_the_hands_and_undoes_itself():
    pose = pose_at()
    other = mirror(pose)
    for right, left in PAIRS:
        np.testing.assert_array_equal(other["bodies"]["candidate"][right], pose["bodies"]["candidate"][left])
        assert other["bodies"]["score"][0, left] == pose["bodies"]["score"][0, right]
    np.testing.assert_array_equal(other["bodies"]["candidate"][:2], pose["bodies"]["candidate"][:2])
    np.testing.assert_array_equal(other["hands"][:, 0, 0], [2, 1])
    assert_same(mirror(other), pose)


def test_some_mirrored_frames_of_a_moving_person_are_mirrored_back():
    true = [pose_at(shift=0.02 * frame) for frame in range(2 * PATIENCE + 4)]
    keep = SideKeeper()
    for frame, pose in enumerate(true):
        assert_same(keep(mirror(pose) if PATIENCE <= frame < 2 * PATIENCE else pose, SIZE), pose)


def test_a_person_who_turns_round_within_a_second_is_left_alone():
    for first in np.linspace(0, 0.5, 7):
        keep = SideKeeper()
        for angle in first + np.linspace(0, 2 * np.pi, 15):
            assert_same(keep(pose_at(angle), SIZE), pose_at(angle))


def test_whoever_insists_is_believed():
    keep = SideKeeper()
    for _ in range(PATIENCE):
        keep(mirror(pose_at()), SIZE)
    kept = [keep(pose_at(), SIZE) for _ in range(PATIENCE + 3)]
    for pose in kept[:PATIENCE]:
        assert_same(pose, mirror(pose_at()))
    for pose in kept[PATIENCE:]:
        assert_same(pose, pose_at())


def test_a_start_that_was_wrong_is_not_held_on_to():
    keep = SideKeeper()
    for _ in range(PATIENCE - 1):
        keep(mirror(pose_at()), SIZE)
    assert_same(keep(pose_at(), SIZE), pose_at())


def test_an_empty_frame_or_a_reset_ends_the_track():
    for end in (lambda keep: keep(empty_pose(), SIZE), lambda keep: keep.reset()):
        keep = SideKeeper()
        for _ in range(PATIENCE):
            keep(pose_at(), SIZE)
        end(keep)
        assert_same(keep(mirror(pose_at()), SIZE), mirror(pose_at()))
