"""ONNX models: files are checked, sessions opened on a provider that is really there, inputs batched."""

import logging
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from mimicmotion.errors import SetupError

log = logging.getLogger(__name__)

MAX_BATCH = 8  # images of one run; the detector's take 5 MB each before they meet the network
REMEDY = "run scripts/download_weights.py to fetch it again"


def check_model_file(path: str | Path) -> Path:
    """Tells a missing file, a Git LFS pointer and a saved web page from a model, without loading anything.

    Raises: SetupError naming the file and the remedy.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise SetupError(f"model file {path} does not exist; run scripts/download_weights.py")
    with open(path, "rb") as file:
        head = file.read(256)
    if not head:
        raise SetupError(f"model file {path} is empty; {REMEDY}")
    if head.startswith(b"version https://git-lfs"):
        raise SetupError(f"model file {path} is a Git LFS pointer, not the model itself; {REMEDY}")
    if head.lstrip().startswith(b"<"):
        raise SetupError(f"model file {path} is a web page, not a model (a download that failed); {REMEDY}")
    return path


def open_session(path: str | Path, device: object = "cpu"):
    """An onnxruntime session for the model on `device`: "cpu", "cuda" or "cuda:1" (a text or a torch.device).

    Where CUDA is asked for but cannot be had, the session runs on the CPU and a warning says so; any other
    device means the CPU.

    Raises: SetupError when onnxruntime is missing or the file does not load.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise SetupError(
            "the dwpose backend needs onnxruntime: pip install onnxruntime-gpu, or pass --pose_backend mediapipe"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=_providers(device))
    except Exception as error:  # onnxruntime's exceptions have no base class of their own
        raise SetupError(f"model file {path} does not load ({_first_line(error)}); {REMEDY}") from error


def runs_on_cuda(session) -> bool:
    """Whether the session really got the CUDA provider: asking for it is no proof."""
    return "CUDAExecutionProvider" in session.get_providers()


def cuda_index(device: object) -> int | None:
    """The index of a CUDA device, or None for any other device."""
    kind, _, index = str(device).partition(":")
    return int(index or 0) if kind == "cuda" else None


def run_in_batches(session, inputs: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Runs float32 images (C, H, W) through a model with one input; its outputs, N rows each.

    A model with a dynamic batch dimension gets up to MAX_BATCH images at a time, one exported for a fixed
    batch of 1 gets them one by one. `inputs` is drawn from as needed and must not be empty.
    """
    name = session.get_inputs()[0].name
    size = 1 if isinstance(session.get_inputs()[0].shape[0], int) else MAX_BATCH
    options = _run_options(session)
    outputs = [session.run(None, {name: np.stack(batch)}, options) for batch in _batches(inputs, size)]
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def _run_options(session):
    """What gives a GPU's memory back after every run but for the weights, since sampling needs it; else None."""
    if not runs_on_cuda(session):
        return None
    import onnxruntime

    options = onnxruntime.RunOptions()
    index = session.get_provider_options()["CUDAExecutionProvider"].get("device_id", "0")
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", f"gpu:{index}")
    return options


def require_layout(session, path: str | Path, outputs: list[tuple[object, ...]], what: str) -> None:
    """Checks one image input (1 or dynamic, 3, H, W) of float32, and the outputs' shapes.

    outputs: one shape for each, None where any size will do. Dimensions that the file leaves open pass.
    Raises: SetupError naming the file, what was expected and what was found.
    """
    images = [node for node in session.get_inputs() if node.type == "tensor(float)"]
    found = [node.shape for node in session.get_outputs()]
    good = (
        len(session.get_inputs()) == len(images) == 1
        and _fits(images[0].shape, (1, 3, None, None))
        and len(found) == len(outputs)
        and all(map(_fits, found, outputs))
    )
    if not good:
        inputs = [node.shape for node in session.get_inputs()]
        raise SetupError(
            f"model file {path} is not {what}: inputs {inputs}, outputs {found}; "
            "check that the detector and the pose file are not exchanged, or run scripts/download_weights.py"
        )


def can_use_cuda(device: object) -> bool:
    """Whether a session for `device` is opened on CUDA. Opens nothing; False where onnxruntime is missing."""
    import torch  # first: its CUDA libraries are then those that onnxruntime finds

    if cuda_index(device) is None or not torch.cuda.is_available():
        return False
    try:
        import onnxruntime
    except ImportError:
        return False
    # What the package was built with, not what the machine has.
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _providers(device: object) -> list:
    if not can_use_cuda(device):
        return ["CPUExecutionProvider"]
    index = cuda_index(device)
    # TF32 rounds to 10 bits and would move scores away from the published CPU numbers.
    options = {
        "device_id": index,
        "use_tf32": 0,
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",  # the other doubles what it holds
    }
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def _batches(items: Iterable, size: int) -> Iterator[list]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _fits(shape: list, expected: tuple) -> bool:
    return len(shape) == len(expected) and all(
        want is None or not isinstance(have, int) or have == want
        for have, want in zip(shape, expected, strict=True)
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
