"""Which backend is chosen and why."""

import pytest

from mimicmotion.dwpose import mediapipe_pose, openpose
from mimicmotion.dwpose.backends import BACKENDS, choose_backend, make_detector
from mimicmotion.errors import SetupError, UsageError
from tests.dwpose.onnx_standins import save_detector, save_estimator


@pytest.fixture
def files(tmp_path):
    paths = tmp_path / "det.onnx", tmp_path / "pose.onnx"
    save_detector(paths[0], 1)
    save_estimator(paths[1], 1)
    return paths


def test_auto_takes_dwpose_only_if_both_files_are_there(files, tmp_path):
    assert choose_backend("auto", *files)[0] == "dwpose"
    name, reason = choose_backend("auto", files[0], tmp_path / "none.onnx")
    assert name == "mediapipe" and "none.onnx" in reason and "det.onnx" not in reason
    name, reason = choose_backend("auto", tmp_path, files[1])  # a folder is no file
    assert name == "mediapipe" and str(tmp_path) in reason
    assert choose_backend("auto")[0] == "mediapipe"


@pytest.mark.parametrize("name", BACKENDS)
def test_a_named_backend_is_taken_as_it_is(name):
    assert choose_backend(name, "none.onnx", None) == (name, "as configured")


@pytest.mark.parametrize("call", [choose_backend, make_detector])
def test_an_unknown_backend_names_the_choices(call):
    choices = "auto, dwpose, mediapipe, openpose or file; did you mean 'mediapipe'"
    with pytest.raises(UsageError, match=choices):
        call("mediapip")
    with pytest.raises(UsageError, match="unknown pose backend 'None'"):
        call(None)


def test_make_detector_hands_files_and_device_on(files, monkeypatch):
    detector = make_detector("auto", model_det=files[0], model_pose=files[1], device="cuda:1")
    assert (detector.name, detector.device) == ("dwpose", "cuda:1")
    assert (detector.model_det, detector.model_pose) == files
    monkeypatch.setattr(openpose, "OpenPoseDetector", lambda device: ("openpose", device))
    assert make_detector("openpose", device="cuda:1") == ("openpose", "cuda:1")
    monkeypatch.setattr(mediapipe_pose, "MediaPipeDetector", lambda: "mediapipe")
    assert make_detector("auto", model_det=files[0], model_pose="none.onnx") == "mediapipe"


def test_dwpose_without_its_files_fails_before_any_work(files):
    with pytest.raises(UsageError, match=r"pose\.model_det"):
        make_detector("dwpose", model_det=files[0])
    with pytest.raises(SetupError, match=r"none\.onnx does not exist"):
        make_detector("dwpose", model_det=files[0], model_pose="none.onnx")
