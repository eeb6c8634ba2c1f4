"""Networks that users bring: a file that runs code is opened by its hash alone; what each is shown and gives."""

import hashlib
import shutil

import numpy as np
import pytest
import torch

from mimicmotion.config import EvaluationSettings
from mimicmotion.errors import NumericalError, SetupError, UsageError
from mimicmotion.evaluation import brought
from mimicmotion.evaluation.frechet import Moments, frechet_distance
from tests.evaluation.conftest import signing_poses


class StandIn(torch.nn.Module):
    """Called as stylegan-v's I3D; its features are the mean colour and the mean change."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        assert rescale and resize and return_features
        change = (x[:, :, 1:] - x[:, :, :-1]).abs().mean([2, 3, 4])
        return torch.cat([x.mean([2, 3, 4]), change], 1)


@pytest.fixture(scope="module")
def i3d(tmp_path_factory):
    """(file, its SHA-256)."""
    path = tmp_path_factory.mktemp("weights") / "i3d.pt"
    torch.jit.script(StandIn()).save(str(path))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def onnx_mean(path, shape, axes):
    """An ONNX file whose output is the mean over some axes of its input."""
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    constant = helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes)
    graph = helper.make_graph(
        [node], "mean", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [constant],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def noise(count=16, seed=0, size=(24, 20)):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def test_a_file_that_runs_code_is_opened_by_its_hash_alone(i3d, monkeypatch):
    path, digest = i3d
    opened = []
    monkeypatch.setattr(torch.jit, "load", lambda *args, **_: opened.append(args))
    for settings, told in (
        (EvaluationSettings(fvd_weights=str(path)), "only with --fvd_sha256"),
        (EvaluationSettings(fvd_weights=str(path), fvd_sha256="0" * 64), f"is {digest}, not that"),
    ):
        with pytest.raises(UsageError, match=told):
            brought.brought_files(settings)
        with pytest.raises(UsageError, match=told):
            brought.open_i3d(settings)
    assert not opened
    good = EvaluationSettings(fvd_weights=str(path), fvd_sha256=digest.upper())
    assert brought.brought_files(good) == {"fvd": digest}


def test_a_file_that_was_swapped_after_it_was_looked_at_is_not_opened(i3d, tmp_path):
    path = shutil.copyfile(i3d[0], tmp_path / "i3d.pt")
    settings = EvaluationSettings(fvd_weights=str(path), fvd_sha256=i3d[1])
    brought.brought_files(settings)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UsageError, match="not opened"):
        brought.open_i3d(settings)


def test_i3d_is_shown_segments_of_sixteen_frames(i3d):
    features = brought.open_i3d(EvaluationSettings(fvd_weights=str(i3d[0]), fvd_sha256=i3d[1]))
    meter, clip = brought.SegmentMeter(features), noise(40)
    for start in range(0, 40, 7):
        meter.add(clip[start : start + 7], 255 - clip[start : start + 7])
    assert len(meter.found["own"]) == len(meter.found["true"]) == 2, "the last 8 frames are left out"
    np.testing.assert_allclose(meter.found["own"][1][:3], clip[16:32].mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(meter.found["true"][0][:3], 255 - clip[:16].mean((0, 1, 2)), rtol=1e-5)


def test_what_is_no_torchscript_is_told(tmp_path):
    path = tmp_path / "i3d.pt"
    path.write_bytes(b"no network")
    digest = hashlib.sha256(b"no network").hexdigest()
    with pytest.raises(SetupError, match="no TorchScript"):
        brought.open_i3d(EvaluationSettings(fvd_weights=str(path), fvd_sha256=digest))


def test_fid_vid_sees_small_frames_in_0_to_1(tmp_path):
    path = onnx_mean(tmp_path / "resnet.onnx", [1, 3, 16, 8, 8], [2, 3, 4])
    features = brought.open_fid_vid(EvaluationSettings(fid_vid_weights=str(path)))
    grey = np.full((16, 24, 20, 3), 51, np.uint8)
    np.testing.assert_allclose(features(grey), [0.2, 0.2, 0.2], rtol=1e-5)
    wrong = onnx_mean(tmp_path / "wrong.onnx", [1, 3, 8, 8], [2, 3])
    with pytest.raises(SetupError, match=r"takes \[1, 3, 8, 8\]"):
        brought.open_fid_vid(EvaluationSettings(fid_vid_weights=str(wrong)))
    (tmp_path / "none.onnx").write_bytes(b"no network")
    with pytest.raises(SetupError, match="does not load as ONNX"):
        brought.open_fid_vid(EvaluationSettings(fid_vid_weights=str(tmp_path / "none.onnx")))


def test_faces_are_turned_to_the_template_and_compared(tmp_path):
    path = onnx_mean(tmp_path / "arcface.onnx", [1, 3, 112, 112], [2])
    features = brought.open_arcface(EvaluationSettings(csim_weights=str(path)))
    pose, frame = face_pose(), noise(1, size=(200, 160))[0]
    face = brought.aligned_face(frame, pose)
    assert face.shape == (112, 112, 3)
    meter = brought.FaceMeter(features, frame, pose)
    meter.add(frame[None], [pose])
    assert meter.numbers()["csim"] == pytest.approx(1)
    other = brought.FaceMeter(features, frame, pose)
    other.add(255 - frame[None], [pose])
    assert other.numbers()["csim"] < 0.5
    unseen = brought.FaceMeter(features, frame, pose)
    unseen.add(frame[None], [pose | {"faces_score": 0 * pose["faces_score"]}])
    assert unseen.numbers()["csim"] is None


def face_pose():
    """A pose whose eyes, nose and mouth lie as in ArcFace's template, turned and twice as large."""
    pose = signing_poses(1)[0]
    points = pose["faces"].copy()
    turned = brought.FACE_TEMPLATE @ np.array([[0, 1.2], [-1.2, 0]]) + np.array([150, 20])
    for group, place in zip(brought.FACE_POINTS, turned, strict=True):
        points[0, list(group)] = place / (160, 200)
    return pose | {"faces": points}


def test_a_turned_face_comes_out_upright():
    pose, frame = face_pose(), np.zeros((200, 160, 3), np.uint8)
    eye = (pose["faces"][0, 36] * (160, 200)).round().astype(int)
    frame[eye[1] - 3 : eye[1] + 4, eye[0] - 3 : eye[0] + 4] = 255
    face = brought.aligned_face(frame, pose)
    y, x = (places.mean() for places in np.nonzero(face[..., 0] > 128))
    np.testing.assert_allclose((x, y), brought.FACE_TEMPLATE[0], atol=1)


def test_features_that_are_not_finite_are_told(tmp_path, monkeypatch):
    path = onnx_mean(tmp_path / "resnet.onnx", [1, 3, 16, 8, 8], [2, 3, 4])
    features = brought.open_fid_vid(EvaluationSettings(fid_vid_weights=str(path)))
    monkeypatch.setattr(np, "stack", lambda frames: np.full((16, 8, 8, 3), np.nan))
    with pytest.raises(NumericalError, match="FID-VID"):
        features(noise())


def moments(*parts):
    found = Moments()
    for part in parts:
        found.add(part)
    return found


def test_the_frechet_distance_of_known_distributions():
    draws = np.random.default_rng(0).normal(size=(400, 3))
    whole, parts = moments(draws), moments(draws[:7], draws[7:100], draws[100:])
    np.testing.assert_allclose(parts.mean(), draws.mean(0))
    np.testing.assert_allclose(parts.covariance(), np.cov(draws.T))
    assert frechet_distance(whole, parts) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(whole, moments(draws + np.array([3, 4, 0]))) == pytest.approx(25)
    # Of covariances C and 4 C it is the trace of C.
    assert frechet_distance(whole, moments(2 * (draws - draws.mean(0)) + draws.mean(0))) == pytest.approx(
        np.trace(np.cov(draws.T))
    )
    assert frechet_distance(whole, moments(draws[:1])) is None


def test_the_frechet_distance_is_that_of_the_matrix_root():
    import scipy.linalg

    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(40, 6)) + 0.3
    root = scipy.linalg.sqrtm(np.cov(one.T) @ np.cov(other.T)).real
    expected = np.square(one.mean(0) - other.mean(0)).sum()
    expected += np.trace(np.cov(one.T) + np.cov(other.T) - 2 * root)
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(expected)
    few = rng.normal(size=(4, 6))  # fewer vectors than channels
    assert frechet_distance(moments(few), moments(few)) == pytest.approx(0, abs=1e-6)
