"""Which files a configured model consists of, and the hashes that name it; no network is loaded.

Nothing here imports torch: a run that finds all of its results finished needs no more than this.
"""

import json
import os
from pathlib import Path

from mimicmotion.errors import SetupError
from mimicmotion.files import sha256_json, why_no_file
from mimicmotion.places import find, looked_for
from mimicmotion.weights.embedded import is_default_path, require_embedded_model
from mimicmotion.weights.hub import from_hub, is_hub_id, local_copy
from mimicmotion.weights.lookup import FETCH, broken, find_weights, first_line, listing
from mimicmotion.weights.manifest import weights_sha256

CLIP_STEMS = ("model", "pytorch_model")
CONFIGS = (
    "unet/config.json",
    "vae/config.json",
    "image_encoder/config.json",
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
)
POSE_NET_CONFIG = "pose_net/config.json"  # of a base folder that holds MimicMotion's networks itself


def weights_fingerprint(config) -> dict[str, str]:
    """SHA-256 of all that determines the model's numbers, for sidecar files and cache keys.

    Returns: "vae", "image_encoder" and either "checkpoint" or "unet" and "pose_net": hashes of the weight files as
    they are on disk (remembered between runs, see `cached_sha256`; read anew where `config.runtime.verify_weights` is
    set); "configs": a hash of the components' configuration. The LCM weights, if any, are not part of it.

    Raises: SetupError as `create_pipeline` when a file is missing or is not what was noted of it.
    """
    checkpoint = checkpoint_path(config)
    base = resolve_base(config.base_model_path, with_unet=checkpoint is None)
    files = {"vae": find_weights(base / "vae"), "image_encoder": find_weights(base / "image_encoder", CLIP_STEMS)}
    if checkpoint is None:
        files |= {"unet": find_weights(base / "unet"), "pose_net": find_weights(base / "pose_net")}
    else:
        files["checkpoint"] = checkpoint
    verify = getattr(getattr(config, "runtime", None), "verify_weights", False)
    hashes = {name: weights_sha256(path, verify) for name, path in files.items()}
    configs = CONFIGS if checkpoint is not None else (*CONFIGS, POSE_NET_CONFIG)
    return hashes | {"configs": sha256_json({name: read_json(base / name) for name in configs})}


def vae_sha256(config) -> str:
    """The part "vae" of `weights_fingerprint`, without looking at any other network."""
    return weights_sha256(find_weights(resolve_base(config.base_model_path, with_unet=False) / "vae"))


def image_encoder_sha256(config) -> str:
    """The part "image_encoder" of `weights_fingerprint`, without looking at any other network."""
    folder = resolve_base(config.base_model_path, with_unet=False) / "image_encoder"
    return weights_sha256(find_weights(folder, CLIP_STEMS))


def checkpoint_path(config) -> Path | None:
    """The checkpoint that `config.ckpt_path` names, or None. Raises: SetupError if it is not a file."""
    path = getattr(config, "ckpt_path", None)
    if not path:
        return None
    reason = why_no_file(path)
    if reason:
        found = "not found" if reason == "does not exist" else f"cannot be taken, it {reason}"
        raise SetupError(f"checkpoint {found}: {looked_for(path)}; {FETCH}")
    return Path(path)


def resolve_base(name: str | Path, with_unet: bool = True) -> Path:
    """The local folder of a base model: as it is, or from the hub's local cache, or downloaded.

    Args:
        with_unet: whether the base's own UNet weights are needed, not only its configuration.

    Raises: SetupError when it cannot be had or lacks a component.
    """

    if is_default_path(name):
        require_embedded_model(name)
    folder = find(name)
    if not os.path.isdir(folder):
        folder = _base_from_hub(str(name), with_unet)
    absent = [file for file in CONFIGS if not os.path.isfile(folder / file)]
    if absent:
        what = f"is not a whole SVD model in diffusers' layout: no {listing(absent)}"
        raise SetupError(f"{folder} {what}; {FETCH}")
    return folder


def _base_from_hub(name: str, with_unet: bool) -> Path:
    if not is_hub_id(name):
        raise SetupError(f"base model not found: {looked_for(name)} does not exist; {FETCH}")
    local = local_copy(name)
    if local is not None:
        return local
    from huggingface_hub import snapshot_download

    parts = ["vae", "image_encoder"] + (["unet"] if with_unet else [])
    patterns = ["*/*.json"] + [f"{part}/*.safetensors" for part in parts]
    return from_hub(
        name,
        snapshot_download,
        complete=lambda folder: all(any((folder / part).glob("*.safetensors")) for part in parts),
        allow_patterns=patterns,
        ignore_patterns=["*.fp16.*"],
    )


def pose_canvas(config) -> int:
    """Pixels of the canvas, its shorter side, that poses are drawn on for the PoseNet of `config`.

    MimicMotion's checkpoint says nothing about it and has the published 2160.

    Raises: SetupError as `resolve_base`.
    """
    from mimicmotion.dwpose import CANVAS_SIDE

    if checkpoint_path(config) is not None:
        return CANVAS_SIDE
    path = resolve_base(config.base_model_path) / POSE_NET_CONFIG
    return read_json(path).get("canvas_side", CANVAS_SIDE) if path.is_file() else CANVAS_SIDE


def read_json(path: Path) -> dict:
    """A component's configuration. Raises: SetupError when it is absent or not a JSON object."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SetupError(f"{path} does not exist; {FETCH}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise broken(path, f"cannot be read as JSON ({first_line(error)})") from error
    if not isinstance(value, dict):
        raise broken(path, f"holds a {type(value).__name__}, not settings")
    return value
