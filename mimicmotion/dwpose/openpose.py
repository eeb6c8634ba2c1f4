"""The OpenPose backend, through controlnet_aux (which needs torchvision: requirements-gpu.txt)."""

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from mimicmotion.dwpose.keypoints import Pose, empty_pose, pose_from_arrays
from mimicmotion.errors import SetupError
from mimicmotion.files import sha256_file

MODELS = "lllyasviel/Annotators"  # hub id, or a folder with the three files
MODEL_FILES = ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth")
REMEDY = "pip install -r requirements-gpu.txt, or use the dwpose or mediapipe backend"
HAND_POINTS, FACE_POINTS = 21, 68
FACE_PEAKS = 71  # 68 points, two pupils and the background


class OpenPoseDetector:
    """Poses of uint8 RGB frames by OpenPose's body, hand and face networks.

    device: as torch takes it. models: a hub id, or a folder that holds MODEL_FILES.
    controlnet_aux drops the scores, so every point that was found has score 1.

    Raises: SetupError when controlnet_aux is missing or broken, or the models cannot be had.
    """

    name = "openpose"

    def __init__(self, device: object = "cpu", models: str | Path = MODELS) -> None:
        self.models = str(models)
        if Path(models).is_dir():
            missing = [name for name in MODEL_FILES if not (Path(models) / name).is_file()]
            if missing:
                raise SetupError(f"{models} lacks {', '.join(missing)}: the OpenPose models of {MODELS}")
        self._detector = _load_controlnet_aux(self.models).to(device)

    def __call__(self, frames: Sequence[np.ndarray] | np.ndarray) -> list[Pose] | Pose:
        """One pose dictionary for each frame (H, W, 3); for a single frame its pose."""
        if isinstance(frames, np.ndarray) and frames.ndim == 3:
            return self([frames])[0]
        return [
            pose_from_results(self._detector.detect_poses(frame, include_hand=True, include_face=True))
            for frame in frames
        ]

    def reset(self) -> None:
        """Nothing to forget: every frame stands for itself."""

    @cached_property
    def fingerprint(self) -> str:
        """What the poses depend on: the package and the models (their content where they lie in a folder)."""
        return fingerprint(self.models)


def fingerprint(models: str | Path = MODELS) -> str:
    """As the detector's, without opening it. Raises: SetupError when controlnet_aux is not installed."""
    try:
        installed = version("controlnet_aux")
    except PackageNotFoundError as error:
        raise SetupError(f"the openpose backend needs controlnet_aux: {REMEDY}") from error
    if Path(models).is_dir():
        models = " ".join(sha256_file(Path(models) / name) for name in MODEL_FILES)
    return f"openpose controlnet_aux={installed} models={models}"


def pose_from_results(results: Sequence) -> Pose:
    """The pose dictionary of controlnet_aux's PoseResults, one for each person, with coordinates in 0..1."""
    if not results:
        return empty_pose()
    people = [_person(result) for result in results]
    names = ("body", "body_score", "hands", "hands_score", "faces", "faces_score")
    return pose_from_arrays(**{name: np.stack([person[name] for person in people]) for name in names})


def _person(result) -> dict[str, np.ndarray]:
    body, body_score = _points(result.body.keypoints)
    left, left_score = _points(result.left_hand or [None] * HAND_POINTS)
    right, right_score = _points(result.right_hand or [None] * HAND_POINTS)
    # Peaks that were not found are left out of the list, so only a full one tells which point is which.
    face = result.face if result.face and len(result.face) == FACE_PEAKS else [None] * FACE_POINTS
    points, score = _points(face[:FACE_POINTS])
    return {
        "body": body,
        "body_score": body_score,
        "hands": np.stack([left, right]),
        "hands_score": np.stack([left_score, right_score]),
        "faces": points,
        "faces_score": score,
    }


def _points(keypoints: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 2) and scores (N,): 1 for a point in the frame (a missing one is None or negative)."""
    points = np.array([(0, 0) if point is None else (point.x, point.y) for point in keypoints], np.float64)
    found = np.array([point is not None for point in keypoints])
    return points, (found & ((points >= 0) & (points <= 1)).all(axis=1)).astype(np.float64)


def _load_controlnet_aux(models: str):
    try:
        from controlnet_aux import OpenposeDetector
    except (ImportError, RuntimeError, AttributeError) as error:  # the last two: a broken torchvision
        raise SetupError(
            f"the openpose backend needs controlnet_aux with a torchvision that fits torch ({error}): {REMEDY}"
        ) from error
    try:
        return OpenposeDetector.from_pretrained(models)
    except Exception as error:  # the hub's and torch's errors, without a base class in common
        raise SetupError(
            f"the OpenPose models {models} cannot be loaded ({type(error).__name__}: {error}); "
            f"put {', '.join(MODEL_FILES)} into a folder and name it"
        ) from error
