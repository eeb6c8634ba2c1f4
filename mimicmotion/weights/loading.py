"""From weight files to a MimicMotionPipeline on a device: published, trained and tiny models take the same path.

Networks are built on the meta device and given their weights once, tensor by tensor: the process owns one copy of them
at most. Pages of a mapped checkpoint that were read may count towards its resident size until the system wants them.
"""

import logging
import os
from pathlib import Path

import torch

from mimicmotion.device import resolve_device, resolve_dtype
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.weights.lookup import broken, find_weights, first_line, listing
from mimicmotion.weights.model_files import CLIP_STEMS, POSE_NET_CONFIG, checkpoint_path, read_json, resolve_base
from mimicmotion.weights.tensors import Tensors, assign_weights, open_tensors, quiet_transformers

log = logging.getLogger(__name__)

SVD_VAES = ("AutoencoderKLTemporalDecoder", "AutoencoderTiny")
OFFLOAD_MODES = ("none", "model", "sequential")
# A checkpoint of MimicMotion may also carry these, which come from the base model.
IGNORED_PARTS = ("vae", "image_encoder")


def create_pipeline(
    config,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    vae_dtype: str | torch.dtype | None = None,
):
    """Builds the pipeline that `config` names.

    Args:
        config: anything with `base_model_path` (a folder in diffusers' layout, or a model of the hub) and `ckpt_path`:
            MimicMotion's checkpoint with its UNet and PoseNet, or None when the base folder holds the fine-tuned
            `unet` and a `pose_net` itself.
        device: where the weights go, a name for `resolve_device`; None is "auto". For offloading pass "cpu" and call
            `place_pipeline` later.
        dtype: format of UNet, PoseNet and image encoder, a name for `resolve_dtype` or a torch dtype, which is
            taken as it is; None is "auto".
        vae_dtype: the same for the VAE; None is "auto".

    Raises: SetupError for absent, gated, damaged or unfitting weights; UsageError for a wrong device or dtype.
    """
    from mimicmotion.pipelines import MimicMotionPipeline

    device = resolve_device("auto" if device is None else device)
    dtype = _dtype(dtype, device)
    checkpoint = checkpoint_path(config)
    base = resolve_base(config.base_model_path, with_unet=checkpoint is None)
    unet, pose_net = load_networks(base, checkpoint, device, dtype)
    pipeline = MimicMotionPipeline(
        vae=load_vae(base / "vae", device, _dtype(vae_dtype, device)),
        image_encoder=load_image_encoder(base / "image_encoder", device, dtype),
        unet=unet,
        scheduler=_load_scheduler(base / "scheduler"),
        feature_extractor=_load_feature_extractor(base / "feature_extractor"),
        pose_net=pose_net,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def empty_unet(config):
    """The UNet of the model that `config` names, without weights: to see what fits it. Raises: SetupError."""
    from accelerate import init_empty_weights

    folder = resolve_base(config.base_model_path, with_unet=checkpoint_path(config) is None) / "unet"
    with init_empty_weights():
        return _from_config(_unet_class(), _unet_config(folder), folder)


def load_decoder(config, device: str | torch.device | None = None, vae_dtype: str | torch.dtype | None = None):
    """The VAE of the model that `config` names, by itself, as a StandaloneVae; no other network is loaded.

    Arguments and errors are those of `create_pipeline`.
    """
    from mimicmotion.pipelines import StandaloneVae

    device = resolve_device("auto" if device is None else device)
    base = resolve_base(config.base_model_path, with_unet=False)
    return StandaloneVae(load_vae(base / "vae", device, _dtype(vae_dtype, device)), device)


def place_pipeline(pipeline, device: str | torch.device, offload: str = "none", compile: bool = False) -> None:
    """Moves the pipeline to where it computes, in place. Call it after LoRA weights are applied.

    Args:
        offload: "none" keeps all networks on `device`; "model" brings each network there while it works; "sequential"
            brings each layer there, for the least memory and the least speed.
        compile: compile the UNet at its first call; costs minutes once, for faster calls afterwards.

    Raises: UsageError for an unknown mode, for offloading on a CPU and for sequential offload of a compiled UNet.
    """
    device = torch.device(device)
    if offload not in OFFLOAD_MODES:
        raise UsageError(f"unknown offload mode '{offload}'; choose one of {', '.join(OFFLOAD_MODES)}")
    if offload != "none" and device.type == "cpu":
        raise UsageError(f"offload '{offload}' moves weights between CPU and GPU; on a CPU pass --offload none")
    if offload == "sequential" and compile:
        raise UsageError("a compiled UNet cannot be offloaded layer by layer; pass --offload model or drop --compile")
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if compile:
        pipeline.unet.compile()


def load_networks(base: Path, checkpoint: Path | None, device: torch.device, dtype: torch.dtype):
    """The UNet and the PoseNet, from MimicMotion's checkpoint or, if that is None, from the base folder.

    Raises: SetupError that lists keys which are missing, mis-shaped or not finite.
    """
    from accelerate import init_empty_weights

    unet_config = _unet_config(base / "unet")
    with init_empty_weights():
        unet = _from_config(_unet_class(), unet_config, base / "unet")
        pose_net = _empty_pose_net(base, checkpoint, unet)
    if checkpoint is None:
        unet_tensors, pose_tensors = (open_tensors(find_weights(base / part)) for part in ("unet", "pose_net"))
    else:
        unet_tensors, pose_tensors = split_checkpoint(open_tensors(checkpoint))
    for module, tensors, what in ((unet, unet_tensors, "UNet"), (pose_net, pose_tensors, "PoseNet")):
        assign_weights(module, tensors, device, dtype, what)
        extras = sorted(set(tensors) - set(module.state_dict()))
        if extras:
            log.warning("%s: %s weights that the model does not have: %s", tensors.path, what, listing(extras))
    return unet, pose_net


def split_checkpoint(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """The UNet's and the PoseNet's part of a MimicMotion checkpoint, under their names in the networks.

    Keys are `unet.NAME` and `pose_net.NAME`, with or without the `module.` that data-parallel training puts before
    either. What belongs to the VAE or the image encoder, or to nothing known, is reported and left out.

    Raises: SetupError when there is not one such key.
    """
    parts: dict[str, dict[str, str]] = {"unet": {}, "pose_net": {}}
    ignored, unknown = [], []
    for key in tensors:
        part, _, name = key.removeprefix("module.").partition(".")
        if part in parts:
            parts[part][name.removeprefix("module.")] = key
        else:
            (ignored if part in IGNORED_PARTS else unknown).append(key)
    if not parts["unet"] and not parts["pose_net"]:
        what = f"has no key that starts with unet. or pose_net.; it holds {listing(tensors)}"
        raise broken(tensors.path, what)
    if ignored:
        log.warning("%s: ignored, since they come from the base model: %s", tensors.path, listing(ignored))
    if unknown:
        log.warning("%s: ignored, since nothing here is named so: %s", tensors.path, listing(unknown))
    return tensors.renamed(parts["unet"]), tensors.renamed(parts["pose_net"])


def load_vae(folder: Path, device: torch.device, dtype: torch.dtype, classes: tuple[str, ...] = SVD_VAES):
    """The VAE of the class that its own config names, which must be one of `classes`."""
    import diffusers

    name = read_json(folder / "config.json").get("_class_name")
    if name not in classes:
        raise SetupError(f"{folder / 'config.json'}: cannot use a VAE of class {name}; expected {' or '.join(classes)}")
    path = find_weights(folder)
    return _from_pretrained(getattr(diffusers, name), path, device, dtype, "VAE", "torch_dtype")


def load_image_encoder(folder: Path, device: torch.device, dtype: torch.dtype):
    """The CLIP image encoder."""
    from transformers import CLIPVisionModelWithProjection

    path = find_weights(folder, CLIP_STEMS)
    with quiet_transformers():
        return _from_pretrained(CLIPVisionModelWithProjection, path, device, dtype, "image encoder", "dtype")


def load_clip_encoder(config, device: torch.device, dtype: torch.dtype) -> tuple:
    """The image encoder of the model that `config` names, and what prepares pictures for it; no other network.

    Raises: SetupError as `create_pipeline`.
    """
    base = resolve_base(config.base_model_path, with_unet=False)
    encoder = load_image_encoder(base / "image_encoder", device, dtype)
    return encoder, _load_feature_extractor(base / "feature_extractor")


def _from_pretrained(cls, path: Path, device: torch.device, dtype: torch.dtype, what: str, dtype_option: str):
    """Through the library's own loader, which knows how keys were named in older files, but strictly."""
    from safetensors import SafetensorError

    tensors = open_tensors(path)  # also for its errors, which name the file and the remedy
    if tensors.scales:
        raise broken(path, f"holds the {what} in scaled 8-bit floats, which are read of a UNet or a LoRA only")
    if tensors.kind == "safetensors" and path.suffix != ".safetensors":
        raise broken(path, f"is a safetensors file under another's name; rename it to {path.stem}.safetensors")
    options = {
        "variant": "fp16" if ".fp16." in path.name else None,
        "use_safetensors": path.suffix == ".safetensors",
        "local_files_only": True,
        "output_loading_info": True,
        dtype_option: dtype,
    }
    try:
        module, info = cls.from_pretrained(str(path.parent), **options)
    except (OSError, ValueError, RuntimeError, TypeError, LookupError, SafetensorError) as error:
        raise broken(path, f"does not fit the {what} of its config.json ({first_line(error)})") from error
    for problem in ("missing_keys", "mismatched_keys"):
        if info.get(problem):
            names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info[problem])
            raise broken(path, f"has {problem.replace('_', ' ')} of the {what}: {listing(names)}")
    return module.to(device).eval().requires_grad_(False)


def _unet_class():
    from diffusers import UNetSpatioTemporalConditionModel

    return UNetSpatioTemporalConditionModel


def _unet_config(folder: Path) -> dict:
    config = read_json(folder / "config.json")
    if config.get("_class_name", "UNetSpatioTemporalConditionModel") != "UNetSpatioTemporalConditionModel":
        what = f"the base model's UNet is a {config['_class_name']}, not UNetSpatioTemporalConditionModel"
        raise SetupError(f"{folder / 'config.json'}: {what}; base_model_path must be Stable Video Diffusion")
    return config


def _empty_pose_net(base: Path, checkpoint: Path | None, unet):
    from mimicmotion.modules import PoseNet

    config = base / POSE_NET_CONFIG
    if checkpoint is not None:
        return PoseNet(noise_latent_channels=unet.config.block_out_channels[0])
    if not os.path.isfile(config):
        remedy = "set ckpt_path to MimicMotion's checkpoint, for example models/MimicMotion_1-1.pth"
        raise SetupError(f"{base} has no pose_net folder and ckpt_path is not set; {remedy}")
    return _from_config(PoseNet, read_json(config), base / "pose_net")


def _from_config(cls, config: dict, folder: Path):
    try:
        return cls.from_config(config)
    except (ValueError, TypeError, KeyError) as error:
        raise broken(folder / "config.json", f"does not describe a {cls.__name__} ({first_line(error)})") from error


def _load_scheduler(folder: Path):
    from diffusers import EulerDiscreteScheduler

    return _from_config(EulerDiscreteScheduler, read_json(folder / "scheduler_config.json"), folder)


def _load_feature_extractor(folder: Path):
    # The Pillow version is the same with and without torchvision on the machine.
    from transformers import CLIPImageProcessorPil

    try:
        return CLIPImageProcessorPil.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise broken(folder / "preprocessor_config.json", f"is not usable ({first_line(error)})") from error


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    return dtype if isinstance(dtype, torch.dtype) else resolve_dtype(dtype or "auto", device)
