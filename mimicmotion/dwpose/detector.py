"""DWPose as MimicMotion uses it: people by YOLOX, 133 points of each by RTMPose, in OpenPose's order.

`DWPoseDetector` equals the published detector's numbers for the same two ONNX files.
"""

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from mimicmotion.dwpose import onnxdet, onnxpose
from mimicmotion.dwpose.keypoints import CONFIDENT, Pose, pose_from_arrays
from mimicmotion.dwpose.onnx_session import check_model_file, cuda_index, log, open_session, runs_on_cuda
from mimicmotion.files import cached_sha256

LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6  # of the 133 points
NECK = onnxpose.NUM_POINTS  # appended as point 134
BODY = [0, NECK, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]  # OpenPose's 18 among the 134
FACE = slice(23, 91)
LEFT_HAND = slice(91, 112)
RIGHT_HAND = slice(112, 133)


class DWPoseDetector:
    """Poses of uint8 RGB frames by the two ONNX models of DWPose.

    model_det, model_pose: paths of yolox_l.onnx and dw-ll_ucoco_384.onnx.
    device: "cpu", "cuda" or "cuda:1", as a text or a torch.device.

    The files are looked at here and loaded at the first call; the sessions are then kept.
    Raises: SetupError when a file is missing or is no such model.
    """

    name = "dwpose"

    def __init__(self, model_det: str | Path, model_pose: str | Path, device: object = "cpu") -> None:
        self.model_det = check_model_file(model_det)
        self.model_pose = check_model_file(model_pose)
        self.device = device
        self._lock = threading.Lock()
        self._sessions = None

    def __call__(self, frames: Sequence[np.ndarray] | np.ndarray) -> list[Pose] | Pose:
        """One pose dictionary for each uint8 RGB frame (H, W, 3); for a single frame its pose.

        A frame without a detected person yields the one that the estimator sees in the whole frame, as
        published. A few dozen frames to a call are plenty: all of them are in memory.
        """
        if isinstance(frames, np.ndarray) and frames.ndim == 3:
            return self([frames])[0]
        if not len(frames):
            return []
        for frame in frames:
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                raise ValueError(f"a frame must be uint8 (H, W, 3), not {frame.dtype} {frame.shape}")
        session_det, session_pose = self.open()
        boxes = onnxdet.find_people(session_det, frames)
        found = onnxpose.find_keypoints(session_pose, frames, boxes)
        return [
            pose_of_people(points, scores, frame.shape[:2])
            for frame, (points, scores) in zip(frames, found, strict=True)
        ]

    def open(self) -> tuple:
        """Loads the two models if that has not happened yet; the sessions.

        Raises: SetupError when a file does not load or is another model.
        """
        with self._lock:
            if self._sessions is None:
                session_det = open_session(self.model_det, self.device)
                onnxdet.require_detector(session_det, self.model_det)
                session_pose = open_session(self.model_pose, self.device)
                onnxpose.require_estimator(session_pose, self.model_pose)
                if cuda_index(self.device) is not None and not runs_on_cuda(session_det):
                    log.warning("pose detection on %s is not possible here, it runs on the CPU", self.device)
                self._sessions = session_det, session_pose
            return self._sessions

    def reset(self) -> None:
        """Nothing to forget: every frame stands for itself."""

    @cached_property
    def fingerprint(self) -> str:
        """What the poses depend on: the content of both model files."""
        return fingerprint(self.model_det, self.model_pose)


def fingerprint(model_det: str | Path, model_pose: str | Path) -> str:
    """What the poses depend on: the content of both model files. Raises: SetupError when one is missing or none."""
    det, pose = (cached_sha256(check_model_file(path)) for path in (model_det, model_pose))
    return f"dwpose det={det} pose={pose}"


def pose_of_people(points: np.ndarray, scores: np.ndarray, size: tuple[int, int]) -> Pose:
    """The pose dictionary, float64. points (P, 133, 2) in pixels, scores (P, 133), frame of `size` (H, W)."""
    points, scores = append_neck(points, scores.astype(np.float64))
    points = points / [float(size[1]), float(size[0])]
    return pose_from_arrays(
        body=points[:, BODY],
        body_score=scores[:, BODY],
        hands=np.stack([points[:, LEFT_HAND], points[:, RIGHT_HAND]], axis=1),
        hands_score=np.stack([scores[:, LEFT_HAND], scores[:, RIGHT_HAND]], axis=1),
        faces=points[:, FACE],
        faces_score=scores[:, FACE],
    )


def append_neck(points: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 134, 2) and scores (P, 134): the neck is the mean of the shoulders, its score 0 or 1."""
    shoulders = [LEFT_SHOULDER, RIGHT_SHOULDER]
    neck = points[:, shoulders].mean(axis=1, keepdims=True)
    neck_score = (scores[:, shoulders] > CONFIDENT).all(axis=1, keepdims=True)
    return np.concatenate([points, neck], axis=1), np.concatenate([scores, neck_score], axis=1)
