"""Sampled latents, kept beside a result until it is whole, so that nothing sampled is lost when decoding fails.

The file <result>.safetensors carries a hash of all that the latents depend on. A later run of the same settings, or of
others that differ in decoding and writing only, decodes what it finds there instead of sampling again.
"""

import logging
from collections.abc import Callable, Mapping
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


def sampling_sha256(made_from: dict, of_decoding: dict[str, set[str] | None] = OF_DECODING) -> str:
    """A hash of what the latents of a result depend on, of all that the result does."""
    settings = {}
    for name, section in made_from["settings"].items():
        left_out = of_decoding.get(name, set())
        if left_out is not None:
            settings[name] = {key: value for key, value in section.items() if key not in left_out}
    return sha256_json(made_from | {"settings": settings})


def keep_latents(job: Job, made_from: dict, latents: "torch.Tensor") -> None:
    """Writes latents beside the result to come. Where the disk will not take them a warning says so."""
    keep_tensors(job, sampling_sha256(made_from), {"latents": latents})


def kept_latents(job: Job, made_from: Callable[[], dict]) -> "torch.Tensor | None":
    """Latents that an earlier run sampled and did not bring to an end; None where there are none, or others.

    made_from: gives what the result is made from, which may wait for weights to be hashed.
    """
    kept = kept_tensors(job, lambda: sampling_sha256(made_from()))
    return kept[0].get("latents") if kept else None


def keep_tensors(job: Job, identity: str, tensors: Mapping[str, "torch.Tensor"], facts: str = "") -> None:
    """As `keep_latents`, of several tensors that are those of `identity`, with `facts` about them."""
    named = {"sampling_sha256": identity, "latents_sha256": _sha256(tensors, facts), "facts": facts}
    try:
        write_tensors(_path(job), {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, named)
    except SetupError as error:
        logger.warning("The sampled latents are not kept: %s", error)


def kept_tensors(job: Job, identity: Callable[[], str]) -> "tuple[dict[str, torch.Tensor], str] | None":
    """What `keep_tensors` wrote, with its facts; None where there is nothing, or of another identity."""
    from safetensors import SafetensorError, safe_open

    path = _path(job)
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            named = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        logger.warning("%s cannot be read (%s); the clip is sampled again", path, error)
        return None
    if named.get("sampling_sha256") != identity():
        return None
    facts = named.get("facts", "")
    if not tensors or named.get("latents_sha256") != _sha256(tensors, facts):
        logger.warning("%s is damaged; the clip is sampled again", path)
        return None
    logger.info("%s: sampled before and not brought to an end; its latents are decoded", path)
    return tensors, facts


def forget_latents(job: Job) -> None:
    """Removes what was kept: the result is whole."""
    _path(job).unlink(missing_ok=True)


def _path(job: Job) -> Path:
    return job.beside(SUFFIX)


def _sha256(tensors: Mapping[str, "torch.Tensor"], facts: str) -> str:
    import hashlib

    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} ".encode())
        digest.update(tensors[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
