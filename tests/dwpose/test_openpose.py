"""The conversion of controlnet_aux's results, on tuples of its shape; the package itself is not needed."""

import sys
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from mimicmotion.dwpose.keypoints import num_people
from mimicmotion.dwpose.openpose import MODEL_FILES, OpenPoseDetector, pose_from_results
from mimicmotion.errors import SetupError


class Keypoint(NamedTuple):
    x: float
    y: float
    score: float = 1.0
    id: int = -1


def person(offset=0.0, left=True, face=71, lost=()):
    body = [None if joint in lost else Keypoint(joint / 100 + offset, 0.5) for joint in range(18)]
    return SimpleNamespace(
        body=SimpleNamespace(keypoints=body),
        left_hand=[Keypoint(0.1 + offset, n / 100) for n in range(21)] if left else None,
        right_hand=[Keypoint(0.2 + offset, n / 100 - 0.02) for n in range(21)],
        face=[Keypoint(0.3 + offset, n / 100) for n in range(face)] or None,
    )


def test_two_people_give_left_hands_then_right_hands():
    pose = pose_from_results([person(), person(0.4)])
    assert num_people(pose) == 2
    np.testing.assert_allclose(pose["bodies"]["candidate"][[3, 18 + 3]], [[0.03, 0.5], [0.43, 0.5]])
    np.testing.assert_allclose(pose["hands"][:, 0, 0], [0.1, 0.5, 0.2, 0.6])
    np.testing.assert_allclose(pose["faces"][1, :, 1], np.arange(68) / 100)
    np.testing.assert_array_equal(pose["bodies"]["subset"], np.arange(36).reshape(2, 18))
    # Points that were not found lie at minus one pixel.
    np.testing.assert_array_equal(pose["hands_score"][2:, :4], [[0, 0, 1, 1]] * 2)


def test_missing_parts_have_no_score():
    pose = pose_from_results([person(left=False, face=70, lost=(4, 17))])
    np.testing.assert_array_equal(np.flatnonzero(pose["bodies"]["subset"][0] == -1), [4, 17])
    assert not pose["hands_score"][0].any() and pose["hands_score"][1].any()
    assert not pose["faces_score"].any()  # 70 of 71 peaks: nobody knows which one is missing
    assert not pose_from_results([person(face=0)])["faces_score"].any()


def test_nobody_is_the_empty_pose():
    assert num_people(pose_from_results([])) == 0


@pytest.fixture
def controlnet_aux(monkeypatch):
    """A package with controlnet_aux's constructor and detect_poses, which records its calls."""
    calls = []

    class OpenposeDetector:
        @classmethod
        def from_pretrained(cls, models):
            calls.append(("load", models))
            if models == "unknown/hub":
                raise OSError("no route to host")
            return cls()

        def to(self, device):
            calls.append(("to", device))
            return self

        def detect_poses(self, frame, include_hand=False, include_face=False):
            calls.append(("detect", frame.shape, include_hand, include_face))
            return [person()] * int(frame[0, 0, 0])

    module = ModuleType("controlnet_aux")
    module.OpenposeDetector = OpenposeDetector
    monkeypatch.setitem(sys.modules, "controlnet_aux", module)
    return calls


def test_frames_go_through_with_hands_and_face(controlnet_aux):
    detector = OpenPoseDetector("cuda:1", models="some/hub")
    detector.reset()
    frames = [np.full((4, 6, 3), people, np.uint8) for people in (0, 1, 2)]
    assert [num_people(pose) for pose in detector(frames)] == [0, 1, 2]
    assert num_people(detector(frames[1])) == 1
    assert controlnet_aux[:3] == [("load", "some/hub"), ("to", "cuda:1"), ("detect", (4, 6, 3), True, True)]


def test_models_that_cannot_be_had_are_a_clear_error(controlnet_aux, tmp_path):
    with pytest.raises(SetupError, match=r"unknown/hub cannot be loaded.*no route to host"):
        OpenPoseDetector(models="unknown/hub")
    (tmp_path / MODEL_FILES[0]).write_bytes(b"x")
    with pytest.raises(SetupError, match=f"lacks {MODEL_FILES[1]}, {MODEL_FILES[2]}"):
        OpenPoseDetector(models=tmp_path)


def test_fingerprint_of_a_folder_follows_its_files(controlnet_aux, tmp_path, monkeypatch):
    monkeypatch.setattr("mimicmotion.dwpose.openpose.version", lambda name: "0.0.10")
    for name in MODEL_FILES:
        (tmp_path / name).write_bytes(b"x")
    before = OpenPoseDetector(models=tmp_path).fingerprint
    (tmp_path / MODEL_FILES[2]).write_bytes(b"y")
    after = OpenPoseDetector(models=tmp_path).fingerprint
    assert before != after and "controlnet_aux=0.0.10" in after
    assert "models=some/hub" in OpenPoseDetector(models="some/hub").fingerprint


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "controlnet_aux", None)
    with pytest.raises(SetupError, match=r"requirements-gpu\.txt"):
        OpenPoseDetector()
