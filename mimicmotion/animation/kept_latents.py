"""Sampled latents, kept beside a result until it is whole, so that nothing sampled is lost when decoding fails.

The file <result>.safetensors carries a hash of all that the latents depend on. A later run of the same settings, or of
others that differ in decoding and writing only, decodes what it finds there instead of sampling again.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mimicmotion.errors import SetupError
from mimicmotion.files import sha256_json, write_tensors
from mimicmotion.results import Job

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
# What latents do not depend on: how they are decoded and written, and where networks lie, which changes their rounding.
OF_DECODING = {
    "sampling": {"decode_chunk_size", "decode_overlap", "decode_tile", "decoder", "cfg_batch"},
    "runtime": {"offload"},
    "test_case": {"fps"},
    "output": None,
}


def sampling_sha256(made_from: dict) -> str:
    """A hash of what the latents of a result depend on, of all that the result does."""
    settings = {}
    for name, section in made_from["settings"].items():
        left_out = OF_DECODING.get(name, set())
        if left_out is not None:
            settings[name] = {key: value for key, value in section.items() if key not in left_out}
    return sha256_json(made_from | {"settings": settings})


def keep_latents(job: Job, made_from: dict, latents: "torch.Tensor") -> None:
    """Writes latents beside the result to come. Where the disk will not take them a warning says so."""
    named = {"sampling_sha256": sampling_sha256(made_from), "latents_sha256": _sha256(latents)}
    try:
        write_tensors(_path(job), {"latents": latents.cpu().contiguous()}, named)
    except SetupError as error:
        logger.warning("The sampled latents are not kept: %s", error)


def kept_latents(job: Job, made_from: Callable[[], dict]) -> "torch.Tensor | None":
    """Latents that an earlier run sampled and did not bring to an end; None where there are none, or others.

    made_from: gives what the result is made from, which may wait for weights to be hashed.
    """
    from safetensors import SafetensorError, safe_open

    path = _path(job)
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            named = file.metadata() or {}
            latents = file.get_tensor("latents") if "latents" in file.keys() else None  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        logger.warning("%s cannot be read (%s); the clip is sampled again", path, error)
        return None
    if named.get("sampling_sha256") != sampling_sha256(made_from()):
        return None
    if latents is None or named.get("latents_sha256") != _sha256(latents):
        logger.warning("%s is damaged; the clip is sampled again", path)
        return None
    logger.info("%s: sampled before and not brought to an end; its latents are decoded", path)
    return latents


def forget_latents(job: Job) -> None:
    """Removes what was kept: the result is whole."""
    _path(job).unlink(missing_ok=True)


def _path(job: Job) -> Path:
    return job.beside(SUFFIX)


def _sha256(latents: "torch.Tensor") -> str:
    import hashlib

    return hashlib.sha256(latents.cpu().contiguous().numpy().tobytes()).hexdigest()
