"""The mapping of MediaPipe's landmarks, on made-up ones; and the true models on pictures without a person."""

import gc
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from mimicmotion.dwpose import mediapipe_pose
from mimicmotion.dwpose.keypoints import num_people
from mimicmotion.dwpose.mediapipe_pose import BODY, FACE, MediaPipeDetector, looks_like_person, pose_from_landmarks
from mimicmotion.errors import SetupError

OPENPOSE = [
    *("NOSE", "NECK", "RIGHT_SHOULDER", "RIGHT_ELBOW", "RIGHT_WRIST", "LEFT_SHOULDER", "LEFT_ELBOW"),
    *("LEFT_WRIST", "RIGHT_HIP", "RIGHT_KNEE", "RIGHT_ANKLE", "LEFT_HIP", "LEFT_KNEE", "LEFT_ANKLE"),
    *("RIGHT_EYE", "LEFT_EYE", "RIGHT_EAR", "LEFT_EAR"),
]
SIZE = 480, 520  # height, width


def landmarks(points, visibility=0.9):
    visibility = np.broadcast_to(visibility, len(points))
    return SimpleNamespace(
        landmark=[
            SimpleNamespace(x=x, y=y, visibility=v) for (x, y), v in zip(points, visibility, strict=True)
        ]
    )


def result(body=None, left=None, right=None, face=None):
    return SimpleNamespace(
        pose_landmarks=body, left_hand_landmarks=left, right_hand_landmarks=right, face_landmarks=face
    )


def standing():
    """33 landmarks of a person who faces us: the person's right side is on the left of the picture."""
    points = np.full((33, 2), 0.5)
    points[:, 0] = np.where(np.arange(33) % 2, 0.6, 0.4)  # odd numbers are left ones
    points[0] = 0.5, 0.1
    points[:11, 1] = 0.1
    for y, numbers in ((0.25, (11, 12)), (0.4, (13, 14)), (0.5, (15, 16)), (0.55, (23, 24)), (0.9, (27, 28))):
        points[list(numbers), 1] = y
    points[[25, 26], 1] = 0.7
    return points


def test_every_body_joint_comes_from_the_landmark_of_its_name():
    from mediapipe.python.solutions.holistic import PoseLandmark

    for joint, name in enumerate(OPENPOSE):
        if name != "NECK":
            assert BODY[joint] == PoseLandmark[name], name


def test_every_face_point_lies_on_the_part_it_stands_for():
    from mediapipe.python.solutions import face_mesh

    def part(name):
        return {vertex for edge in getattr(face_mesh, f"FACEMESH_{name}") for vertex in edge}

    assert len(set(FACE)) == 68
    # iBUG's order starts at the person's right.
    for name, first, last in (
        ("FACE_OVAL", 0, 17),
        ("RIGHT_EYEBROW", 17, 22),
        ("LEFT_EYEBROW", 22, 27),
        ("NOSE", 27, 31),  # 31 and 35 are the wings, beside the mesh's outline of the nose
        ("NOSE", 32, 35),
        ("RIGHT_EYE", 36, 42),
        ("LEFT_EYE", 42, 48),
        ("LIPS", 48, 68),
    ):
        assert set(FACE[first:last]) <= part(name), name


def test_sides_are_the_persons_own_and_the_neck_is_between_the_shoulders():
    visibility = np.full(33, 0.9)
    visibility[11] = 0.6
    pose = pose_from_landmarks(result(landmarks(standing(), visibility)), SIZE)
    joints = dict(zip(OPENPOSE, pose["bodies"]["candidate"], strict=True))
    assert joints["RIGHT_WRIST"].tolist() == [0.4, 0.5] and joints["LEFT_WRIST"].tolist() == [0.6, 0.5]
    np.testing.assert_allclose(joints["NECK"], [0.5, 0.25])
    score = dict(zip(OPENPOSE, pose["bodies"]["score"][0], strict=True))
    assert (score["NECK"], score["LEFT_SHOULDER"], score["NOSE"]) == (0.6, 0.6, 0.9)
    np.testing.assert_array_equal(pose["bodies"]["subset"], [np.arange(18)])


def test_the_left_hand_comes_first_and_an_absent_one_has_no_score():
    left, right = np.full((21, 2), 0.25), np.full((21, 2), 0.75)
    both = pose_from_landmarks(result(landmarks(standing()), landmarks(left), landmarks(right)), SIZE)
    np.testing.assert_array_equal(both["hands"], [left, right])
    assert (both["hands_score"] == 1).all() and (both["faces_score"] == 0).all()
    one = pose_from_landmarks(result(landmarks(standing()), None, landmarks(right)), SIZE)
    np.testing.assert_array_equal(one["hands_score"].sum(axis=1), [0, 21])
    np.testing.assert_array_equal(one["hands"][1], right)


def test_face_points_are_chosen_from_the_mesh():
    mesh = np.stack([np.arange(468) / 1000, np.full(468, 0.5)], axis=1)
    pose = pose_from_landmarks(result(landmarks(standing()), face=landmarks(mesh)), SIZE)
    np.testing.assert_array_equal(pose["faces"][0, :, 0], np.array(FACE) / 1000)
    assert (pose["faces_score"] == 1).all()


def test_what_lies_outside_the_frame_has_no_score():
    points, hand = standing(), np.full((21, 2), 0.5)
    points[28], hand[3], hand[4] = (0.4, 1.02), (-0.01, 0.5), (0.5, 1.3)
    pose = pose_from_landmarks(result(landmarks(points), landmarks(hand)), SIZE)
    ankle = OPENPOSE.index("RIGHT_ANKLE")
    assert pose["bodies"]["score"][0, ankle] == 0 and pose["bodies"]["subset"][0, ankle] == -1
    assert np.count_nonzero(pose["bodies"]["score"]) == 17
    np.testing.assert_array_equal(np.flatnonzero(pose["hands_score"][0] == 0), [3, 4])


def seen_in_a_talking_head():
    """Head and shoulders; the rest lies below the frame."""
    points = standing() * [1, 2.5] + [0, 0.2]
    return points, np.where(points[:, 1] > 1, 0.01, 0.99)


def folded():
    """Hips in the place of the shoulders."""
    points = standing()
    points[[23, 24]] = points[[11, 12]]
    return points


@pytest.mark.parametrize(
    ("points", "visibility", "person"),
    [
        (standing(), 0.9, True),
        (*seen_in_a_talking_head(), True),
        (standing() * [1, 0.2] + [0, 0.4], 0.9, True),  # far away
        (standing(), 0.4, False),  # nothing visible
        (standing() * 0.05 + 0.5, 0.9, False),  # a dot
        (folded(), 0.9, False),
        (standing() + np.array([0, 0.95]), 0.9, False),  # below the frame
    ],
)
def test_who_is_taken_for_a_person(points, visibility, person):
    pose = pose_from_landmarks(result(landmarks(points, visibility)), SIZE)
    assert num_people(pose) == person


def test_the_size_of_a_person_is_judged_in_pixels():
    body, score = standing()[BODY] * [1, 0.05] + [0, 0.5], np.ones(18)
    score[[8, 11]] = 0  # without hips there is no trunk to judge
    assert looks_like_person(body, score, (100, 100)) and not looks_like_person(body, score, (1000, 100))


def test_no_landmarks_no_person():
    assert num_people(pose_from_landmarks(result(), SIZE)) == 0


def test_true_models_are_quiet_repeatable_and_find_nobody_in_grey(capfd):
    grey = np.full((96, 64, 3), 128, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (2, 96, 64, 3), np.uint8)
    detector = MediaPipeDetector()
    assert [num_people(pose) for pose in detector([grey, *noise])] == [0, 0, 0]
    detector.reset()
    assert num_people(detector(grey)) == 0
    assert detector([]) == []
    detector.close()
    assert capfd.readouterr() == ("", "")
    assert "0.10.14" in detector.fingerprint and "smooth_landmarks=False" in detector.fingerprint


def test_a_dropped_detector_frees_its_models():
    detector = MediaPipeDetector()
    graph = weakref.ref(detector._solution)
    del detector
    gc.collect()
    assert graph() is None


def test_a_detector_may_be_closed_twice():
    detector = MediaPipeDetector()
    detector.close()
    detector.close()


def test_stderr_is_given_back_after_a_failure(capfd):
    with pytest.raises(KeyError), mediapipe_pose._captured_stderr():
        raise KeyError
    print("heard", file=sys.stderr, flush=True)
    assert capfd.readouterr().err == "heard\n"


def test_a_missing_mediapipe_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(SetupError, match=r"not installed.*mediapipe==0\.10\.14"):
        MediaPipeDetector()


def test_a_broken_mediapipe_shows_its_own_message(monkeypatch):
    def fail(**settings):
        import os

        os.write(2, b"noise\nF0000 calculator graph is broken\n")
        raise TypeError("Failed to parse: node {")

    holistic = SimpleNamespace(Holistic=fail)
    broken = SimpleNamespace(solutions=SimpleNamespace(holistic=holistic), __version__="0")
    monkeypatch.setitem(sys.modules, "mediapipe", broken)
    with pytest.raises(SetupError, match=r"Failed to parse.*graph is broken.*protobuf>=4\.25\.3,<5"):
        MediaPipeDetector()
