"""Which files a configured model consists of, and the hashes that name it; no network is loaded.

Nothing here imports torch: a run that finds all of its results finished needs no more than this.
"""

import json
import os
from pathlib import Path

from mimicmotion.errors import SetupError
from mimicmotion.files import sha256_json, why_no_file
from mimicmotion.places import HOME, find, looked_for
from mimicmotion.weights.embedded import is_default_path, require_embedded_model
from mimicmotion.weights.hub import from_hub, is_hub_id, local_copy
from mimicmotion.weights.lookup import FETCH, broken, find_weights, first_line, is_unet, listing, mentions
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
# The published configuration of Stable Video Diffusion XT, for files that come without one.
SVD_CONFIGS = HOME / "configs" / "svd_xt"
# What the names in the original file begin with that diffusers' files do not have.
ORIGINAL_PARTS = ("first_stage_model.", "conditioner.embedders.")


def weights_fingerprint(config) -> dict[str, str]:
    """SHA-256 of all that determines the model's numbers, for sidecar files and cache keys.

    Returns: "vae", "image_encoder" and either "checkpoint" or "unet" and "pose_net", or the checkpoint with a
    "pose_net" of its own: hashes of the weight files as they are on disk (remembered between runs, see `cached_sha256`;
    read anew where `config.runtime.verify_weights` is set); "configs": a hash of the components' configuration. The LCM
    weights, if any, are not part of it.

    Raises: SetupError as `create_pipeline` when a file is missing or is not what was noted of it.
    """
    verify = getattr(getattr(config, "runtime", None), "verify_weights", False)
    hashes = {name: weights_sha256(path, verify) for name, path in network_files(config).items()}
    checkpoint = checkpoint_path(config)
    base = resolve_base(config.base_model_path, with_unet=checkpoint is None)
    configs = {name: read_json(config_file(base, name)) for name in CONFIGS}
    pose_net = pose_net_config(base, checkpoint, pose_net_path(config))
    if pose_net is not None:
        configs[POSE_NET_CONFIG] = pose_net
    return hashes | {"configs": sha256_json(configs)}


def network_files(config) -> dict[str, Path]:
    """The weight files whose hashes are in `weights_fingerprint`, by their names there. Raises: SetupError."""
    checkpoint, own_pose_net = checkpoint_path(config), pose_net_path(config)
    base = resolve_base(config.base_model_path, with_unet=checkpoint is None)
    files = {part: part_file(base, part) for part in ("vae", "image_encoder")}
    if checkpoint is None:
        files["unet"] = part_file(base, "unet")
    else:
        files["checkpoint"] = checkpoint
    if checkpoint is None or own_pose_net:
        files["pose_net"] = own_pose_net or find_weights(base / "pose_net")
    elif is_unet(checkpoint) and not mentions(checkpoint, "pose_net."):
        raise no_pose_net(checkpoint)
    return files


def no_pose_net(checkpoint: Path) -> SetupError:
    """The error for a checkpoint with a UNet alone."""
    remedy = "where that lies in a file of its own, name it with --pose_net_path (pose_net_path)"
    return SetupError(f"{checkpoint} holds a UNet and no PoseNet (no key that starts with pose_net.); {remedy}")


def vae_sha256(config) -> str:
    """The part "vae" of `weights_fingerprint`, without looking at any other network."""
    return weights_sha256(part_file(resolve_base(config.base_model_path, with_unet=False), "vae"))


def image_encoder_sha256(config) -> str:
    """The part "image_encoder" of `weights_fingerprint`, without looking at any other network."""
    return weights_sha256(part_file(resolve_base(config.base_model_path, with_unet=False), "image_encoder"))


def checkpoint_path(config) -> Path | None:
    """The checkpoint that `config.ckpt_path` names, or None. Raises: SetupError if it is no file of its own."""
    path = getattr(config, "ckpt_path", None)
    if not path:
        return None
    checkpoint, base = _require_file(path, "checkpoint"), find(config.base_model_path)
    if os.path.isfile(base) and os.path.samefile(base, checkpoint):
        raise SetupError(f"base_model_path and ckpt_path are both {path}; ckpt_path is MimicMotion's own weights")
    return checkpoint


def pose_net_path(config) -> Path | None:
    """The file of a PoseNet that lies by itself, which `config.pose_net_path` names, or its folder; or None.

    Raises: SetupError if it is not there.
    """
    path = getattr(config, "pose_net_path", None)
    if path and os.path.isdir(path):
        return find_weights(Path(path))
    return _require_file(path, "PoseNet") if path else None


def _require_file(path: str | Path, what: str) -> Path:
    reason = why_no_file(path)
    if reason:
        found = "not found" if reason == "does not exist" else f"cannot be taken, it {reason}"
        raise SetupError(f"{what} {found}: {looked_for(path)}; {FETCH}")
    return Path(path)


def pose_net_config(base: Path, checkpoint: Path | None, own_file: Path | None) -> dict | None:
    """How the PoseNet is built: what lies beside its own file, or in the base folder; None: as it was published.

    Raises: SetupError where the base folder should have one and has none.
    """
    if own_file is not None:
        path = own_file.with_name("config.json")
        config = read_json(path) if path.is_file() else {}
        return config if config.get("_class_name") == "PoseNet" else None
    if checkpoint is not None:
        return None
    if not os.path.isfile(base / POSE_NET_CONFIG):
        remedy = "set ckpt_path to MimicMotion's checkpoint, for example models/MimicMotion_1-1.pth"
        raise SetupError(f"{base} has no pose_net folder and ckpt_path is not set; {remedy}")
    return read_json(base / POSE_NET_CONFIG)


def part_file(base: Path, part: str) -> Path:
    """The weight file of one part of a base model: "unet", "vae" or "image_encoder". Raises: SetupError."""
    if base.is_file():
        return base
    return find_weights(base / part, CLIP_STEMS if part == "image_encoder" else ("diffusion_pytorch_model",))


def vae_files(place: Path) -> tuple[Path, Path]:
    """The weight file and the configuration of a VAE: of its folder, or of the original file. Raises: SetupError."""
    return place if place.is_file() else find_weights(place), vae_config_file(place)


def vae_config_file(place: Path) -> Path:
    """The configuration among `vae_files`, whether there are weights or not."""
    return config_file(place, "vae/config.json") if place.is_file() else place / "config.json"


def config_file(base: Path, name: str) -> Path:
    """The file with the configuration `name` ("unet/config.json") of a base model. That of Stable Video Diffusion
    stands in where there can be none: for the original file, and for a folder without a UNet.
    """
    part = name.partition("/")[0]
    ours = base.is_file() or (part == "unet" and not os.path.lexists(base / part))
    return (SVD_CONFIGS if ours else base) / name


def resolve_base(name: str | Path, with_unet: bool = True) -> Path:
    """The local folder of a base model: as it is, or from the hub's local cache, or downloaded; or the one file that
    Stable Video Diffusion was published in at first.

    Args:
        with_unet: whether the base's own UNet weights are needed, not only its configuration. They are MimicMotion's
            then, which that file never holds.

    Raises: SetupError when it cannot be had or lacks a component.
    """

    if is_default_path(name):
        require_embedded_model(name)
    folder = find(name)
    if os.path.isfile(folder):
        return _original_file(folder, with_unet)
    if not os.path.isdir(folder):
        folder = _base_from_hub(str(name), with_unet)
    if with_unet and not os.path.lexists(folder / "unet"):
        remedy = "set ckpt_path to MimicMotion's own weights, or correct the path"
        raise SetupError(f"{folder} is not a whole SVD model in diffusers' layout: no unet folder; {remedy}")
    absent = [file for file in CONFIGS if not os.path.isfile(config_file(folder, file))]
    if absent:
        what = f"is not a whole SVD model in diffusers' layout: no {listing(absent)}"
        raise SetupError(f"{folder} {what}; {FETCH}")
    return folder


def _original_file(path: Path, with_unet: bool) -> Path:
    if not all(mentions(path, part) for part in ORIGINAL_PARTS):
        what = f"is not Stable Video Diffusion as published in one file: no keys like {' and '.join(ORIGINAL_PARTS)}"
        remedy = "base_model_path is that file or a folder in diffusers' layout; MimicMotion's weights are ckpt_path"
        raise SetupError(f"{path} {what}; {remedy}")
    if with_unet:
        raise SetupError(f"{path} is Stable Video Diffusion itself; set ckpt_path to MimicMotion's own weights")
    return path


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

    checkpoint, own_file = checkpoint_path(config), pose_net_path(config)
    if own_file is not None:
        return (pose_net_config(Path(), checkpoint, own_file) or {}).get("canvas_side", CANVAS_SIDE)
    if checkpoint is not None:
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
