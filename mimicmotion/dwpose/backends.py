"""Which pose detector to use, and making it. Saved keypoints (`file`) are read elsewhere."""

import os
from difflib import get_close_matches
from pathlib import Path

from mimicmotion.errors import UsageError

BACKENDS = ("dwpose", "mediapipe", "openpose")


def choose_backend(
    backend: str, model_det: str | Path | None = None, model_pose: str | Path | None = None
) -> tuple[str, str]:
    """The backend's name and the reason for it, in words for the log.

    "auto" is dwpose where both model files exist (whether they are sound is found out when they are opened),
    else mediapipe.
    Raises: UsageError on an unknown name.
    """
    if backend in BACKENDS:
        return backend, "as configured"
    if backend != "auto":
        nearest = get_close_matches(str(backend), ("auto", *BACKENDS), 1)
        hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
        choices = f"auto, {', '.join(BACKENDS)} or file"
        raise UsageError(f"unknown pose backend '{backend}'; choose {choices}{hint}")
    missing = [str(path or "(no path)") for path in (model_det, model_pose) if not _is_file(path)]
    if not missing:
        return "dwpose", "its model files are there"
    return "mediapipe", f"the DWPose model files are not there: {', '.join(missing)}"


def make_detector(
    backend: str,
    *,
    model_det: str | Path | None = None,
    model_pose: str | Path | None = None,
    device: object = "cpu",
):
    """The detector for a backend of `choose_backend`, or for "auto".

    It has `name`, `fingerprint` and `reset()`, and turns a list of uint8 RGB frames into a list of poses.
    model_det, model_pose: the DWPose files; only dwpose looks at them. mediapipe always runs on the CPU.
    Raises: UsageError on an unknown name; SetupError when files or packages are missing.
    """
    backend, _ = choose_backend(backend, model_det, model_pose)
    if backend == "mediapipe":
        from mimicmotion.dwpose.mediapipe_pose import MediaPipeDetector

        return MediaPipeDetector()
    if backend == "openpose":
        from mimicmotion.dwpose.openpose import OpenPoseDetector

        return OpenPoseDetector(device)
    _require_paths(model_det, model_pose)
    from mimicmotion.dwpose.detector import DWPoseDetector

    return DWPoseDetector(model_det, model_pose, device)


def detector_device(backend: str, device: object) -> str:
    """Where the detector of a backend runs that `make_detector` was given `device` for: there, or on the CPU."""
    if backend == "mediapipe":
        return "cpu"
    if backend == "dwpose":
        from mimicmotion.dwpose.onnx_session import can_use_cuda

        return str(device) if can_use_cuda(device) else "cpu"
    return str(device)


def detector_fingerprint(
    backend: str, model_det: str | Path | None = None, model_pose: str | Path | None = None
) -> str:
    """The `fingerprint` of what `make_detector` would make, without opening a model.

    Raises: UsageError and SetupError as `make_detector`, as far as they can be known so.
    """
    backend, _ = choose_backend(backend, model_det, model_pose)
    if backend == "mediapipe":
        from mimicmotion.dwpose.mediapipe_pose import fingerprint

        return fingerprint()
    if backend == "openpose":
        from mimicmotion.dwpose.openpose import fingerprint

        return fingerprint()
    _require_paths(model_det, model_pose)
    from mimicmotion.dwpose.detector import fingerprint

    return fingerprint(model_det, model_pose)


def _require_paths(model_det: str | Path | None, model_pose: str | Path | None) -> None:
    if model_det is None or model_pose is None:
        raise UsageError("the dwpose backend needs two model files: set pose.model_det and pose.model_pose")


def _is_file(path: str | Path | None) -> bool:
    return path is not None and os.path.isfile(path)
