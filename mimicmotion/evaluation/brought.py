"""Networks that the user brings as a file, and the meters that use them.

FVD      I3D as TorchScript, as stylegan-v has it: called with (frames, rescale=True, resize=True, return_features=True)
FID-VID  a 3D ResNet-50 of Kinetics as ONNX: frames in 0..1 -> features; a normalisation is part of the file
CSIM     ArcFace as ONNX: aligned faces of 112 x 112 in -1..1 -> vectors

A TorchScript file runs code of its own. It is opened only where its SHA-256 is the one that the user names. An ONNX
file is a graph of known operations and runs none.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mimicmotion.config import EvaluationSettings
from mimicmotion.dwpose import CONFIDENT, Pose, num_people
from mimicmotion.errors import InputError, NumericalError, SetupError, UsageError
from mimicmotion.files import cached_sha256, why_no_file

SEGMENT = 16  # frames of FVD and FID-VID, one behind the other; a rest is left out
FACE_SIDE = 112
# Where ArcFace wants the eyes, the nose and the corners of the mouth (insightface), pixels of FACE_SIDE.
FACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
FACE_POINTS = (range(36, 42), range(42, 48), (30,), (48,), (54,))  # of the 68; the means of each group
FLAGS = {"fvd": "--fvd_weights", "fid_vid": "--fid_vid_weights", "csim": "--csim_weights"}

Features = Callable[[np.ndarray], np.ndarray]


def brought_files(settings: EvaluationSettings) -> dict[str, str]:
    """SHA-256 of the files that the settings name, by measure; none is opened.

    Raises: UsageError for a file that is not there, and for I3D without the right SHA-256.
    """
    paths = {"fvd": settings.fvd_weights, "fid_vid": settings.fid_vid_weights, "csim": settings.csim_weights}
    hashes = {}
    for measure, path in paths.items():
        if path is None:
            continue
        if reason := why_no_file(path):
            raise UsageError(f"{FLAGS[measure]}: {path} {reason}")
        hashes[measure] = cached_sha256(path)
    if settings.fvd_sha256 and not settings.fvd_weights:
        raise UsageError("--fvd_sha256 belongs to --fvd_weights, which is not given")
    if "fvd" in hashes:
        _require_hash(settings, hashes["fvd"])
    return hashes


def _require_hash(settings: EvaluationSettings, found: str) -> None:
    what = f"--fvd_weights: {settings.fvd_weights} is TorchScript, which runs code of its own"
    if not settings.fvd_sha256:
        raise UsageError(f"{what}; it is opened only with --fvd_sha256, the SHA-256 that its publisher names for it")
    if found != settings.fvd_sha256.lower():
        raise UsageError(f"{what}; its SHA-256 is {found}, not that of --fvd_sha256, so it is not opened")


def open_i3d(settings: EvaluationSettings, device: str = "cpu") -> Features:
    """I3D: uint8 (16, h, w, 3) -> (channels,). Raises: as `brought_files`; SetupError where it cannot be opened."""
    import torch

    # The bytes that were hashed are those that are run, whatever happens to the file meanwhile.
    data = Path(settings.fvd_weights).read_bytes()
    _require_hash(settings, hashlib.sha256(data).hexdigest())
    try:
        network = torch.jit.load(io.BytesIO(data), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise SetupError(f"--fvd_weights: {settings.fvd_weights} is no TorchScript ({_first_line(error)})") from error

    @torch.no_grad()
    def features(frames: np.ndarray) -> np.ndarray:
        video = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None].float().to(device)
        try:
            found = network(video, rescale=True, resize=True, return_features=True)  # (1, 3, 16, h, w) -> (1, channels)
        except (RuntimeError, TypeError) as error:
            what = f"--fvd_weights: {settings.fvd_weights} is not called as stylegan-v's I3D is"
            raise SetupError(f"{what} ({_first_line(error)})") from error
        return _finite(found.reshape(-1).double().cpu().numpy(), "FVD")

    return features


def open_fid_vid(settings: EvaluationSettings) -> Features:
    """The 3D ResNet-50: uint8 (16, h, w, 3) -> (channels,). Raises: SetupError where it is no such network."""
    import cv2

    path = settings.fid_vid_weights
    session = _open_onnx(path, FLAGS["fid_vid"])
    node = session.get_inputs()[0]
    sides = tuple(node.shape[3:])
    fits = len(node.shape) == 5 and node.shape[1] == 3 and all(isinstance(side, int) for side in sides)
    if not fits or (isinstance(node.shape[2], int) and node.shape[2] != SEGMENT):
        wanted = f"(batch, 3, {SEGMENT}, height, width) of a fixed size"
        raise SetupError(f"{FLAGS['fid_vid']}: {path} takes {node.shape}, not {wanted}")

    def features(frames: np.ndarray) -> np.ndarray:
        small = [cv2.resize(frame, sides[::-1], interpolation=cv2.INTER_AREA) for frame in frames]
        video = np.stack(small).transpose(3, 0, 1, 2)[None].astype(np.float32) / 255  # (1, 3, 16, h, w)
        return _finite(session.run(None, {node.name: video})[0].reshape(-1).astype(np.float64), "FID-VID")

    return features


def open_arcface(settings: EvaluationSettings) -> Features:
    """ArcFace: an aligned face, uint8 (112, 112, 3) -> a unit vector. Raises: SetupError for another network."""
    path = settings.csim_weights
    session = _open_onnx(path, FLAGS["csim"])
    node = session.get_inputs()[0]
    if list(node.shape[1:]) != [3, FACE_SIDE, FACE_SIDE]:
        wanted = f"(batch, 3, {FACE_SIDE}, {FACE_SIDE})"
        raise SetupError(f"{FLAGS['csim']}: {path} takes {node.shape}; ArcFace takes {wanted}")

    def features(face: np.ndarray) -> np.ndarray:
        values = (face.transpose(2, 0, 1)[None].astype(np.float32) - 127.5) / 127.5
        vector = _finite(session.run(None, {node.name: values})[0].reshape(-1).astype(np.float64), "CSIM")
        return vector / max(np.linalg.norm(vector), 1e-12)

    return features


class SegmentMeter:
    """Features of every 16 frames of a clip and of the true one."""

    def __init__(self, features: Features):
        self._features, self._own, self._true = features, [], []
        self.found: dict[str, list[list[float]]] = {"own": [], "true": []}

    def add(self, own: np.ndarray, true: np.ndarray) -> None:
        """Takes the next frames of both."""
        self._own += list(own)
        self._true += list(true)
        while len(self._own) >= SEGMENT:
            for name, frames in (("own", self._own), ("true", self._true)):
                self.found[name].append(self._features(np.stack(frames[:SEGMENT])).tolist())
                del frames[:SEGMENT]


class FaceMeter:
    """Cosines of the faces in a clip's frames with that of the reference."""

    def __init__(self, features: Features, reference: np.ndarray, reference_pose: Pose):
        self._features, self._values = features, []
        face = aligned_face(reference, reference_pose)
        if face is None:
            raise InputError("its reference shows no face, so there is no CSIM; leave --csim_weights out")
        self._reference = features(face)

    def add(self, frames: np.ndarray, poses: list[Pose]) -> None:
        """Takes the next frames and the poses in them."""
        for frame, pose in zip(frames, poses, strict=True):
            face = aligned_face(frame, pose)
            if face is not None:
                self._values.append(float(self._features(face) @ self._reference))

    def numbers(self) -> dict[str, float | None]:
        """The mean over the frames that show a face; None where none does."""
        return {"csim": float(np.mean(self._values)) if self._values else None}


def aligned_face(frame: np.ndarray, pose: Pose) -> np.ndarray | None:
    """The first person's face turned, moved and scaled to ArcFace's template, uint8 (112, 112, 3); None where eyes,
    nose or mouth are not seen.
    """
    import cv2

    if not num_people(pose):
        return None
    points, seen = pose["faces"][0] * frame.shape[1::-1], pose["faces_score"][0] > CONFIDENT
    if not all(seen[list(group)].all() for group in FACE_POINTS):
        return None
    here = np.array([points[list(group)].mean(0) for group in FACE_POINTS]) @ (1, 1j)
    there = FACE_TEMPLATE @ (1, 1j)
    centred = here - here.mean()
    spread = np.square(np.abs(centred)).sum()
    if spread < 1e-6:
        return None
    # The least-squares turn and scale of points in the plane is one complex factor.
    turn = (np.conj(centred) * (there - there.mean())).sum() / spread
    shift = there.mean() - turn * here.mean()
    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    return cv2.warpAffine(frame, matrix, (FACE_SIDE, FACE_SIDE), flags=cv2.INTER_LINEAR)


def _open_onnx(path: str, flag: str):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no base class of their own
        raise SetupError(f"{flag}: {path} does not load as ONNX ({_first_line(error)})") from error


def _finite(values: np.ndarray, measure: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise NumericalError(f"the network for {measure} gives features that are not finite for this clip")
    return values


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
