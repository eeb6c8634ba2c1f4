"""The latents of one clip in a file: what the VAE would have decoded, and how it was made.

    <video stem>.pt           latents float16 (batch, frames, channels, height / 8, width / 8); metadata, plain values
    <video stem>.poses.npz    the poses they were sampled with, fitted to the reference; frame 0 is the reference's

Frame 0 of the latents belongs to the reference.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from mimicmotion.errors import InputError, NumericalError
from mimicmotion.feature_cache import load_pt, save_pt
from mimicmotion.files import sha256_json
from mimicmotion.results import differences

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
CHANNELS = 4
VAE_FACTOR = 8
MAX_FRAMES = 100_000
MAX_SIDE = 1024  # of latents: 8192 pixels
PIECE = 64  # frames looked at together
METADATA = {
    "format_version": int,
    "video_name": str,
    "num_frames": int,
    "height": int,
    "width": int,
    "fps": float,
    "seed": int,
    "dtype": str,
}
# What every clip of one mp4 must share, and what may differ with a word of warning.
MUST_AGREE = ("height", "width", "fps", "model_hash")
SHOULD_AGREE = ("seed", "reference_hash", "settings_hash")


@dataclass(frozen=True)
class ClipLatents:
    """One clip from its file. `latents` float16 (1, frames, 4, height / 8, width / 8), `metadata` as in the file."""

    path: Path
    latents: torch.Tensor
    metadata: dict

    @property
    def name(self) -> str:
        """Stem of the video."""
        return self.path.stem

    @property
    def poses_path(self) -> Path:
        """Where the poses of the clip lie."""
        return poses_path(self.path)


def entry_path(cache_dir: str | Path, stem: str) -> Path:
    """Where the latents of the video `stem` lie."""
    return Path(cache_dir) / f"{stem}.pt"


def poses_path(entry: Path) -> Path:
    """Where the poses of an entry lie."""
    return entry.with_name(f"{entry.stem}.poses.npz")


def save_latents(path: str | Path, latents: torch.Tensor, metadata: dict) -> None:
    """Writes latents (1, frames, 4, h, w) of any precision as float16 with `metadata` (plain values).

    `num_frames`, `height`, `width` (of the frames, in pixels), `dtype` and `format_version` are filled in.

    Raises: NumericalError when a value is not finite in float16; SetupError when the file cannot be written.
    """
    stored = latents.detach().cpu().to(torch.float16)
    if not torch.isfinite(stored).all():
        raise NumericalError(f"{path}: the latents hold NaN, infinity or values beyond float16; nothing was written")
    _, frames, _, height, width = stored.shape
    facts = {
        "format_version": FORMAT_VERSION,
        "num_frames": frames,
        "height": height * VAE_FACTOR,
        "width": width * VAE_FACTOR,
        "dtype": "float16",
    }
    save_pt(path, {"latents": stored, "metadata": {**metadata, **facts}})


def load_latents(path: str | Path) -> ClipLatents:
    """Reads and checks an entry. The numbers stay in the file until they are used.

    Raises: InputError that names the file and what is wrong with it.
    """
    path = Path(path)
    content = load_pt(path, mapped=True)
    if set(content) != {"latents", "metadata"}:
        raise InputError(f"{path} holds {', '.join(sorted(content)) or 'nothing'}; expected latents and metadata")
    latents, metadata = content["latents"], content["metadata"]
    _check_metadata(path, metadata)
    _check_latents(path, latents, metadata)
    return ClipLatents(path, latents, metadata)


def _check_metadata(path: Path, metadata: object) -> None:
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: metadata is a {type(metadata).__name__}, not a dictionary")
    if metadata.get("format_version") != FORMAT_VERSION:
        found = metadata.get("format_version")
        raise InputError(f"{path} has the format version {found}; this program reads {FORMAT_VERSION}: encode it again")
    for name, kind in METADATA.items():
        if type(metadata.get(name)) is not kind:
            raise InputError(f"{path}: metadata '{name}' is {metadata.get(name)!r}, expected a {kind.__name__}")
    if not 0 < metadata["fps"] <= 1000:
        raise InputError(f"{path}: metadata 'fps' is {metadata['fps']}, expected 0 to 1000")


def _check_latents(path: Path, latents: object, metadata: dict) -> None:
    if not isinstance(latents, torch.Tensor):
        raise InputError(f"{path}: latents are a {type(latents).__name__}, not a tensor")
    if latents.dtype != torch.float16:
        raise InputError(f"{path}: latents are {str(latents.dtype).removeprefix('torch.')}, expected float16")
    shape = tuple(latents.shape)
    expected = (1, metadata["num_frames"], CHANNELS, metadata["height"] // VAE_FACTOR, metadata["width"] // VAE_FACTOR)
    if shape != expected:
        raise InputError(f"{path}: latents have the shape {shape}, expected {expected}")
    if not 1 <= shape[1] <= MAX_FRAMES or not all(1 <= side <= MAX_SIDE for side in shape[3:]):
        raise InputError(f"{path}: latents of the shape {shape} are empty or too large")
    for start in range(0, shape[1], PIECE):
        finite = torch.isfinite(latents[0, start : start + PIECE]).flatten(1).all(dim=1)
        if not finite.all():
            raise InputError(f"{path}: the latents of frame {start + int((~finite).nonzero()[0])} are not finite")


def require_fitting(clips: list[ClipLatents]) -> None:
    """Raises: InputError naming two entries that cannot be in one video: other size, frame rate or model.

    What only makes the join more visible (seed, reference, settings) is named in the log.
    """
    first = clips[0]
    for other in clips[1:]:
        for name in MUST_AGREE:
            if first.metadata.get(name) != other.metadata.get(name):
                raise InputError(
                    f"{other.path} does not fit {first.path}: {name} {_shown(other, name)} and {_shown(first, name)}; "
                    "encode them with the same settings"
                )
        differing = [name for name in SHOULD_AGREE if first.metadata.get(name) != other.metadata.get(name)]
        if differing:
            what = ", ".join(f"{name} {_shown(other, name)} and {_shown(first, name)}" for name in differing)
            changes = differences(first.metadata.get("recipe"), other.metadata.get("recipe"))
            logger.warning(
                "%s and %s were made differently: %s%s; the join will show it",
                other.path, first.path, what, f" ({'; '.join(changes)})" if changes else "",
            )  # fmt: skip


def _shown(clip: ClipLatents, name: str) -> str:
    value = clip.metadata.get(name)
    return value[:12] if isinstance(value, str) else str(value)


def settings_of(recipe: dict) -> dict:
    """The part of a result's recipe (see `sidecar.recipe`) that its latents depend on, as plain values."""
    settings = {name: dict(section) for name, section in recipe["settings"].items() if name != "output"}
    for name in ("decode_chunk_size", "decode_overlap", "decoder"):
        settings["sampling"].pop(name, None)
    return {**recipe, "settings": settings}


def describe(recipe: dict, case, video: Path, total_frames: int) -> dict:
    """Metadata of a clip, without what `save_latents` fills in.

    Args:
        recipe: of `settings_of`.
        case: the test case that was sampled.
        video: the driving video.
        total_frames: frames of the whole clip, the reference included, before any were cut off.
    """
    return {
        "video_name": video.name,
        "video_path": os.path.realpath(video),
        "fps": float(case.fps),
        "seed": case.seed,
        "total_frames": total_frames,
        "settings_hash": sha256_json(recipe["settings"]),
        "model_hash": sha256_json(recipe["weights"]),
        "reference_hash": recipe["inputs"]["reference"],
        "video_hash": recipe["inputs"]["video"],
        "recipe": recipe,
    }


def stale_because(metadata: dict, recipe: dict, max_frames: int) -> list[str]:
    """In words, what was different when an entry was made; empty when it would be made the same way again."""
    changes = differences(metadata.get("recipe"), recipe)
    total = metadata.get("total_frames")
    if isinstance(total, int) and metadata["num_frames"] != min(total, max_frames):
        changes.append(f"max_pose_frames: {metadata['num_frames']} of {total} frames are kept, {max_frames} are wanted")
    return changes
