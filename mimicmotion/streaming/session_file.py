"""A session's file: its tensors, what they mean, and a checksum over every bit of both.

    <name>.safetensors    cache.*, cond, keyboard, mouse, memory.N; metadata "stream_state", a JSON object with version,
                          fingerprint, seed, start, first, end, memory, repeat_marks and checksum

What a file says is believed only once it was checked: nothing is counted to, allocated or computed on its word alone.
"""

import hashlib
import json
import logging
from pathlib import Path

import torch

from mimicmotion.errors import InputError

logger = logging.getLogger(__name__)

VERSION = 2
UNCHECKED_VERSION = 1  # of files without a checksum
META_KEY = "stream_state"
FIELDS = {
    "version": int,
    "fingerprint": str,
    "seed": int,
    "start": int,
    "first": int | None,
    "end": int | None,
    "memory": int,
    "repeat_marks": list,
}
MAX_SEED = 2**64
MAX_LATENTS = 1_000_000  # more than a day of video without a pause
REMEDY = "use another copy of it, or start a new session"


def describe(tensors: dict[str, torch.Tensor], meta: dict) -> dict[str, str]:
    """The metadata of a session's file, its checksum included."""
    meta = {"version": VERSION, **meta}
    return {META_KEY: json.dumps(meta | {"checksum": checksum(tensors, meta)})}


def checksum(tensors: dict[str, torch.Tensor], meta: dict) -> str:
    """SHA-256 over the names, types, shapes and bytes of all tensors, and over all of `meta` but a checksum."""
    facts = {name: value for name, value in meta.items() if name != "checksum"}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def read_session(path: Path, frames_per_block: int, memory_slots: int) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors, all finite, and the metadata of a saved session, whose values are possible ones.

    Args:
        frames_per_block: latents of a block, whose multiple a position is.
        memory_slots: how many the decoder's memory has.

    Raises: InputError that names the file and what is wrong with it.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"cannot read the saved session {path}: there is no such file")
    try:
        with safe_open(path, framework="pt") as file:
            meta = _read_meta(path, file.metadata() or {})
            _check_position(meta, frames_per_block, memory_slots)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError, TypeError) as error:
        raise InputError(f"cannot read the saved session {path}: {error}; {REMEDY}") from error
    if "checksum" not in meta and meta["version"] == UNCHECKED_VERSION:
        logger.warning("%s was saved by an earlier version, without a checksum: damage to it is not noticed", path)
    elif meta.get("checksum") != checksum(tensors, meta):
        raise InputError(f"the saved session {path} is damaged: its checksum is wrong; {REMEDY}")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise InputError(f"the saved session {path} is damaged: {name} holds no finite numbers; {REMEDY}")
    return tensors, meta


def _read_meta(path: Path, metadata: dict[str, str]) -> dict:
    if META_KEY not in metadata:
        raise InputError(f"{path} is no saved session of this program: it has no {META_KEY!r} in its metadata")
    meta = json.loads(metadata[META_KEY])
    if not isinstance(meta, dict):
        raise ValueError(f"{META_KEY} is a {type(meta).__name__}")
    if meta.get("version") not in (UNCHECKED_VERSION, VERSION):
        known = f"{UNCHECKED_VERSION} and {VERSION}"
        raise InputError(f"{path} has the session version {meta.get('version')!r}; this program reads {known}")
    for name, kind in FIELDS.items():
        if name not in meta or not isinstance(meta[name], kind) or isinstance(meta[name], bool):
            raise ValueError(f"{name!r} is {str(meta.get(name))[:40]!r}, which it cannot be")
    return meta


def _check_position(meta: dict, size: int, slots: int) -> None:
    """Raises: ValueError unless the session can have come to where it says it is."""
    start, first, end = meta["start"], meta["first"], meta["end"]
    if abs(meta["seed"]) > MAX_SEED:
        raise ValueError(f"its seed {meta['seed']} is too large")
    if not 0 <= start <= MAX_LATENTS or start % size:
        raise ValueError(f"its next latent is {start}; blocks of {size} from 0 to {MAX_LATENTS} can be reached")
    begun = first == 0 and end in (start, start + size) and end > 0  # the latter where a block was interrupted
    if not begun and (start, first, end) != (0, None, None):
        raise ValueError(f"its cache holds latents {first} to {end}, but the next one is {start}")
    if meta["memory"] != (slots if start else 0):
        raise ValueError(f"it has {meta['memory']} memory slots, the decoder {slots}; another --decoder made it?")
    marks = meta["repeat_marks"]
    if any(type(mark) is not int or not 0 <= mark < meta["memory"] for mark in marks) or len(set(marks)) < len(marks):
        raise ValueError("its repeat marks are not slots of the decoder's memory")
