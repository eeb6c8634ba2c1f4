"""A folder of true results of the micro model, made once, and a detector that says what a test wants it to see."""

import dataclasses
import shutil

import numpy as np
import pytest

from mimicmotion.config import load_config
from mimicmotion.dwpose import arrays_from_pose, pose_from_arrays
from mimicmotion.features import in_single_precision
from tests.conftest import dancing_poses, write_clip, write_pose_file

SIZE = (64, 64)
WRISTS, NOSE = (7, 4), 0  # left, right


def signing_poses(count):
    """Dancing poses with hands and a face."""
    spread = np.random.default_rng(0).uniform(-0.03, 0.03, (68, 2))
    poses = []
    for pose in dancing_poses(count, SIZE):
        arrays = arrays_from_pose(pose)
        body = arrays["body"][0]
        hands, faces = body[list(WRISTS)][None, :, None] + spread[:21], body[NOSE][None, None] + spread
        scores = {"hands_score": np.full((1, 2, 21), 0.9), "faces_score": np.full((1, 68), 0.9)}
        poses.append(in_single_precision(pose_from_arrays(**arrays | {"hands": hands, "faces": faces} | scores)))
    return poses


class Detector:
    """Sees the poses it is given, one frame after the other."""

    name = "told"

    def __init__(self, poses):
        self.poses, self._at = poses, 0

    def reset(self):
        self._at = 0

    def __call__(self, frames):
        self._at += len(frames)
        return self.poses[self._at - len(frames) : self._at]


@pytest.fixture(scope="session")
def made(tmp_path_factory, micro_model):
    """(settings, folder of two results a and b, with what they were made of beside it)."""
    import PIL.Image

    from mimicmotion.animation import animate_folder

    place = tmp_path_factory.mktemp("evaluated")
    (place / "videos").mkdir()
    for name in ("a", "b"):
        write_clip(place / "videos" / f"{name}.mp4", size=SIZE)
        write_pose_file(place / "poses" / f"{name}.npz", signing_poses(12), SIZE)
    PIL.Image.new("RGB", SIZE, (90, 120, 150)).save(place / "person.png")
    write_pose_file(place / "person.pose.npz", signing_poses(1), SIZE, fps=0.0)
    config = load_config(
        None,
        {
            "base_model_path": str(micro_model),
            "batch.video_folder": str(place / "videos"),
            "test_case[0].ref_image_path": str(place / "person.png"),
            "test_case[0].num_frames": 4,
            "test_case[0].frames_overlap": 2,
            "test_case[0].resolution": 64,
            "test_case[0].sample_stride": 1,
            "turbo.num_inference_steps": 1,
            "turbo.lcm_lora_path": None,
            "pose.backend": "file",
            "pose.folder": str(place / "poses"),
            "output.output_dir": str(place / "results"),
            "output.contact_sheet": False,
            "output.page": False,
            "feature_cache.enabled": False,
            "runtime.device": "cpu",
        },
    )
    assert animate_folder(config) == 0
    return config, place


@pytest.fixture
def results(made, tmp_path):
    """(settings, folder) of a copy of the two results, which a test may change."""
    config, place = made
    folder = shutil.copytree(place / "results", tmp_path / "results")
    evaluation = dataclasses.replace(config.evaluation, results=str(folder))
    return dataclasses.replace(config, evaluation=evaluation), folder


@pytest.fixture
def sees(monkeypatch):
    """Makes every detector see the poses that the test gives."""

    def told(poses):
        detector = Detector(poses)
        monkeypatch.setattr("mimicmotion.animation.models.make_detector", lambda *_, **__: detector)
        monkeypatch.setattr("mimicmotion.animation.models.detector_fingerprint", lambda *_: f"told {id(poses)}")
        return detector

    return told
