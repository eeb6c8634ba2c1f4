"""The embedded pose backend: MediaPipe Holistic, its models inside the wheel, mapped to DWPose's points.

It follows one person. Body joints carry MediaPipe's visibility as their score; hands and face have no
confidence of their own and get 1 where they were found. Scores are 0 where a point lies outside the frame.
"""

import contextlib
import os
import sys
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from mimicmotion.dwpose.keypoints import Pose, empty_pose, pose_from_arrays
from mimicmotion.dwpose.sides import BACK, JUMP, PATIENCE, SideKeeper
from mimicmotion.errors import SetupError

# Smoothing is off: on jumping jacks sampled at 15 frames per second it drags the wrists 6 pixels of 480
# behind (median; 24 at the 95th percentile), jitters no less, and carries old visibilities along.
SETTINGS = {
    "static_image_mode": False,
    "model_complexity": 1,  # the only one inside the wheel
    "smooth_landmarks": False,
    "min_detection_confidence": 0.5,
    "min_tracking_confidence": 0.5,
}
REMEDY = "pip install 'mediapipe==0.10.14' 'protobuf>=4.25.3,<5', or use the dwpose backend"
PRIMING_SIDE = 64  # pixels of the grey picture that opens the graph

# MediaPipe's 33 body landmarks for OpenPose's 18 joints; the neck (joint 1) is put between the shoulders.
# Left and right are the person's own in both.
SHOULDERS = [12, 11]
BODY = [0, 12, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7]
NECK = 1
# MediaPipe's 468 mesh vertices for the 68 face points: jaw 17, brows 5 + 5, nose 9, eyes 6 + 6, lips 12 + 8.
FACE = [
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
]
HAND_POINTS = 21

# What a person must show; MediaPipe sees people in car bonnets. Mean visibility cannot tell (0.89 there, 0.45
# in a talking head), so a skeleton must have joints, a size, and a trunk that is not folded into a point.
VISIBLE = 0.5
MIN_VISIBLE_JOINTS = 5
MIN_SIZE = 0.1  # diagonal of the visible joints' box over the frame's height
MIN_TRUNK = 0.1  # mid-shoulder to mid-hip over that diagonal
RIGHT_SHOULDER, LEFT_SHOULDER, RIGHT_HIP, LEFT_HIP = 2, 5, 8, 11  # OpenPose joints


class MediaPipeDetector:
    """Poses of uint8 RGB frames by MediaPipe Holistic; a frame has at most one person.

    Frames are taken as successive ones of a clip: the person found in one is looked for nearby in the next.
    `reset` starts a new clip; equal clips give equal poses after it. One thread at a time.

    Raises: SetupError when mediapipe is missing or cannot run.
    """

    name = "mediapipe"

    def __init__(self) -> None:
        self._solution = _open_holistic()
        # MediaPipe's graph and its Python callback hold each other where Python's collector cannot see it: a
        # solution that nobody closes keeps its 140 MB until the process ends.
        self._free = weakref.finalize(self, self._solution.close)
        self._free.atexit = False
        self._sides = SideKeeper()
        self.fingerprint = fingerprint()

    def __call__(self, frames: Sequence[np.ndarray] | np.ndarray) -> list[Pose] | Pose:
        """One pose for each frame (H, W, 3), empty where nobody is seen; for a single frame its pose."""
        if isinstance(frames, np.ndarray) and frames.ndim == 3:
            return self([frames])[0]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="SymbolDatabase.GetPrototype", category=UserWarning)
            return [self._detect(np.ascontiguousarray(frame)) for frame in frames]

    def reset(self) -> None:
        """Forgets the person followed so far."""
        self._sides.reset()
        with _captured_stderr():
            self._solution.reset()
            _prime(self._solution)

    def _detect(self, frame: np.ndarray) -> Pose:
        size = frame.shape[:2]
        return self._sides(pose_from_landmarks(self._solution.process(frame), size), size)

    def close(self) -> None:
        """Frees the models, as dropping the last reference does; the detector cannot be used after it."""
        self._free()


def fingerprint() -> str:
    """What the poses depend on, without opening anything. Raises: SetupError when mediapipe is not installed."""
    try:
        installed = version("mediapipe")
    except PackageNotFoundError as error:
        raise SetupError(f"the mediapipe pose backend is not installed: {REMEDY}") from error
    settings = " ".join(f"{key}={value}" for key, value in sorted(SETTINGS.items()))
    gate = f"visible={VISIBLE} joints={MIN_VISIBLE_JOINTS} size={MIN_SIZE} trunk={MIN_TRUNK}"
    return f"mediapipe {installed} {settings} {gate} sides={JUMP},{BACK},{PATIENCE}"


def pose_from_landmarks(results, size: tuple[int, int]) -> Pose:
    """The pose dictionary of one Holistic result for a frame of `size` (H, W); empty if it is no person.

    results: has pose_landmarks, left_hand_landmarks, right_hand_landmarks, face_landmarks, each None or
    with a list `landmark` of x, y in 0..1 (and, for the pose, visibility).
    """
    if results.pose_landmarks is None:
        return empty_pose()
    body, body_score = _body(results.pose_landmarks.landmark)
    if not looks_like_person(body, body_score, size):
        return empty_pose()
    hands = [
        _part(landmarks, range(HAND_POINTS))
        for landmarks in (results.left_hand_landmarks, results.right_hand_landmarks)
    ]
    face, face_score = _part(results.face_landmarks, FACE)
    return pose_from_arrays(
        body=body[None],
        body_score=body_score[None],
        hands=np.stack([points for points, _ in hands])[None],
        hands_score=np.stack([score for _, score in hands])[None],
        faces=face[None],
        faces_score=face_score[None],
    )


def looks_like_person(body: np.ndarray, score: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether joints (18, 2) in 0..1 with scores (18,) can be a person in a frame of `size` (H, W)."""
    height, width = size
    pixels = body * [width, height]
    visible = score > VISIBLE
    if visible.sum() < MIN_VISIBLE_JOINTS:
        return False
    diagonal = np.linalg.norm(np.ptp(pixels[visible], axis=0))
    if diagonal < MIN_SIZE * height:
        return False
    trunk = [RIGHT_SHOULDER, LEFT_SHOULDER, RIGHT_HIP, LEFT_HIP]
    if not visible[trunk].all():
        return True
    shoulders, hips = pixels[trunk[:2]].mean(axis=0), pixels[trunk[2:]].mean(axis=0)
    return bool(np.linalg.norm(shoulders - hips) >= MIN_TRUNK * diagonal)


def _body(landmarks) -> tuple[np.ndarray, np.ndarray]:
    """Joints (18, 2) and scores (18,) of MediaPipe's 33 landmarks."""
    points = np.array([[landmark.x, landmark.y] for landmark in landmarks])
    visibility = np.array([landmark.visibility for landmark in landmarks])
    body, score = points[BODY], visibility[BODY]
    body[NECK] = points[SHOULDERS].mean(axis=0)
    score[NECK] = visibility[SHOULDERS].min()
    return body, score * inside(body)


def _part(landmarks, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The chosen landmarks of a hand or a face: points (N, 2), scores (N,); zeros where there is none."""
    if landmarks is None:
        return np.zeros((len(indices), 2)), np.zeros(len(indices))
    points = np.array([[landmarks.landmark[index].x, landmarks.landmark[index].y] for index in indices])
    return points, inside(points).astype(np.float64)


def inside(points: np.ndarray) -> np.ndarray:
    """Which points (..., 2) in 0..1 lie in the frame: bool (...)."""
    return ((points >= 0) & (points <= 1)).all(axis=-1)


def _open_holistic():
    """A primed Holistic graph. Raises: SetupError."""
    try:
        with _captured_stderr() as messages:
            import mediapipe

            solution = mediapipe.solutions.holistic.Holistic(**SETTINGS)
            _prime(solution)
    except ImportError as error:
        raise SetupError(f"the mediapipe pose backend is not installed ({error}): {REMEDY}") from error
    except Exception as error:  # a wrong protobuf fails in as many ways as there are versions
        detail = f"{type(error).__name__}: {error}; {messages()}".strip("; ")
        raise SetupError(f"mediapipe cannot run here ({detail}): {REMEDY}") from error
    return solution


def _prime(solution) -> None:
    """Opens the graph's models now: they print to stderr when they meet their first frame."""
    solution.process(np.full((PRIMING_SIDE, PRIMING_SIDE, 3), 128, np.uint8))


@contextlib.contextmanager
def _captured_stderr() -> Iterator:
    """Keeps native code's messages (descriptor 2) off the terminal; yields a function that tells the last."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        last = ""
        try:
            yield lambda: last
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines = file.read().decode(errors="replace").strip().splitlines()
            last = lines[-1] if lines else ""
