"""Which device and number format to compute on, chosen in one place and said in the log."""

import contextlib
import ctypes
import logging
import os

import torch

from mimicmotion.errors import SetupError, UsageError

log = logging.getLogger(__name__)

THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The device to compute on; a choice by name and its reason go to the log.

    Args:
        name: "auto" (CUDA, else Apple's MPS, else the CPU), "cuda", "cuda:N", "mps" or "cpu"; or a device, which was
            chosen before.

    Raises: UsageError for another name; SetupError when the machine does not have the device asked for.
    """
    if name == "auto":
        device, reason = _best_device()
    else:
        device, reason = _parse_device(str(name)), "as asked"
        _require_device(device)
    if isinstance(name, str):
        log.info("device: %s (%s%s)", describe_device(device), reason, _thread_limit(device))
    return device


def describe_device(device: torch.device) -> str:
    """The device with the name of its hardware where that is known, for logs and reports."""
    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        count = torch.get_num_threads()
        return f"cpu, {count} thread{'' if count == 1 else 's'}"
    return str(device)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format of weights and activations.

    Args:
        name: "auto" (fp16 on CUDA, fp32 elsewhere), "fp32", "fp16" or "bf16".
        device: where the computation will run.

    Raises: UsageError for another name and for fp16 on a CPU; SetupError for bf16 on a GPU without it.
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise UsageError(f"unknown dtype '{name}'; choose one of auto, {', '.join(DTYPES)}")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("fp16 is slow or missing for parts of the model on a CPU; pass --dtype fp32 (or bf16)")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise SetupError(f"{describe_device(device)} has no bf16; pass --dtype fp16 or fp32")
    return DTYPES[name]


def synchronize(device: torch.device) -> None:
    """Waits until the device has done its queued work; call it before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory(device: torch.device) -> int:
    """Bytes: on CUDA the most that tensors took since the last `torch.cuda.reset_peak_memory_stats`, on MPS what
    the driver holds now, on a CPU the most this process ever had in memory (mapped files included).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def give_back_memory() -> None:
    """Gives the system what is free in this process's memory and would be kept for later, where the C library has a
    call for that (glibc).
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _best_device() -> tuple[torch.device, str]:
    if torch.cuda.is_available():
        return torch.device("cuda"), "CUDA is available"
    if torch.backends.mps.is_available():
        return torch.device("mps"), "no CUDA, but MPS is available"
    return torch.device("cpu"), "neither CUDA nor MPS is available"


def _thread_limit(device: torch.device) -> str:
    """Which variable says how many threads a CPU computes with, if one does."""
    count = str(torch.get_num_threads())
    limits = [name for name in THREAD_LIMITS if device.type == "cpu" and os.environ.get(name) == count]
    return f"; {limits[0]}={count}" if limits else ""


def _parse_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cuda", "mps", "cpu"):
        raise UsageError(f"unknown device '{name}'; choose auto, cuda, cuda:N, mps or cpu")
    return device


def _require_device(device: torch.device) -> None:
    remedy = "pass --device auto or cpu"
    if device.type == "cuda":
        if not torch.cuda.is_available():
            why = "the installed torch is built without CUDA" if torch.version.cuda is None else "no GPU is visible"
            raise SetupError(f"device '{device}' is not available: {why}; {remedy}")
        if device.index is not None and device.index >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise SetupError(f"device '{device}' is not available: {count} GPU(s), numbered from 0; {remedy}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SetupError(f"device 'mps' is not available on this machine; {remedy}")
