"""From weight files to a MimicMotionPipeline on a device: published, trained and tiny models take the same path.

Networks are built on the meta device and given their weights once, tensor by tensor: the process owns one copy of them
at most. Pages of a mapped checkpoint that were read may count towards its resident size until the system wants them.
"""

import logging
from collections.abc import Callable, Collection
from pathlib import Path

import torch

from mimicmotion.acceleration import compile_pipeline
from mimicmotion.device import resolve_device, resolve_dtype
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.modules import use_fast_operations
from mimicmotion.weights.layouts import POSE_NET_PREFIXES, plain_name, plainly_named
from mimicmotion.weights.lookup import broken, first_line, is_index, listing
from mimicmotion.weights.model_files import (
    checkpoint_path,
    config_file,
    no_pose_net,
    part_file,
    pose_net_config,
    pose_net_path,
    read_json,
    resolve_base,
    vae_config_file,
    vae_files,
)
from mimicmotion.weights.original_svd import image_encoder_of, is_original_unet, unet_of, vae_of
from mimicmotion.weights.tensors import Tensors, assign_weights, open_tensors, quiet_transformers
from mimicmotion.weights.tiny_decoders import load_tiny_decoder, require_fitting_decoder

log = logging.getLogger(__name__)

SVD_VAES = ("AutoencoderKLTemporalDecoder", "AutoencoderTiny")
OFFLOAD_MODES = ("none", "model", "sequential")
# A checkpoint of MimicMotion may also carry these, which come from the base model.
IGNORED_PARTS = ("vae", "image_encoder", "first_stage_model", "conditioner")
UNET_OF_ORIGINAL = ("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out.")


def create_pipeline(
    config,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    vae_dtype: str | torch.dtype | None = None,
):
    """Builds the pipeline that `config` names.

    Args:
        config: anything with `base_model_path` (a folder in diffusers' layout, a model of the hub, or the one file that
            Stable Video Diffusion was published in) and `ckpt_path`: MimicMotion's checkpoint with its UNet and
            PoseNet, or None when the base folder holds the fine-tuned `unet` and a `pose_net` itself; and, where the
            PoseNet lies in a file of its own, `pose_net_path`.
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
    unet, pose_net = load_networks(base, checkpoint, device, dtype, pose_net_path(config))
    pipeline = MimicMotionPipeline(
        vae=load_vae(base if base.is_file() else base / "vae", device, _dtype(vae_dtype, device)),
        image_encoder=load_image_encoder(base, device, dtype),
        unet=unet,
        scheduler=_load_scheduler(config_file(base, "scheduler/scheduler_config.json")),
        feature_extractor=_load_feature_extractor(config_file(base, "feature_extractor/preprocessor_config.json")),
        pose_net=pose_net,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def empty_unet(config):
    """The UNet of the model that `config` names, without weights: to see what fits it. Raises: SetupError."""
    from accelerate import init_empty_weights

    base = resolve_base(config.base_model_path, with_unet=checkpoint_path(config) is None)
    with init_empty_weights():
        return _empty_unet(base)


def load_decoder(config, device: str | torch.device | None = None, vae_dtype: str | torch.dtype | None = None):
    """What decodes latents for the model that `config` names: its VAE by itself, or the small decoder that
    `config.sampling.decoder` asks for. It has `decode_in_chunks` as a pipeline has it; no other network is loaded.

    Arguments and errors are those of `create_pipeline`.
    """
    from mimicmotion.pipelines import StandaloneVae, TinyClipDecoder

    device = resolve_device("auto" if device is None else device)
    dtype, path = _dtype(vae_dtype, device), require_fitting_decoder(config)
    if path is not None and path.is_file():
        return TinyClipDecoder(load_tiny_decoder(path, device, dtype), device, dtype)
    base = resolve_base(config.base_model_path, with_unet=False)
    place = path or (base if base.is_file() else base / "vae")
    return StandaloneVae(load_vae(place, device, dtype), device)


def check_placement(device: torch.device, offload: str = "none", compile: bool = False) -> None:
    """Finds out before anything is loaded whether `place_pipeline` can do it. Raises: UsageError as that."""
    if offload not in OFFLOAD_MODES:
        raise UsageError(f"unknown offload mode '{offload}'; choose one of {', '.join(OFFLOAD_MODES)}")
    if offload != "none" and device.type == "cpu":
        raise UsageError(f"offload '{offload}' moves weights between CPU and GPU; on a CPU pass --offload none")
    if offload == "sequential" and compile:
        raise UsageError("a compiled UNet cannot be offloaded layer by layer; pass --offload model or drop --compile")


def place_pipeline(pipeline, device: str | torch.device, offload: str = "none", compile: bool = False) -> None:
    """Moves the pipeline to where it computes, in place. Call it after LoRA weights are applied.

    Args:
        offload: "none" keeps all networks on `device`; "model" brings each network there while it works; "sequential"
            brings each layer there, for the least memory and the least speed.
        compile: compile UNet and VAE decoder block by block at their first call; slow once, for faster calls after.

    Raises: UsageError for an unknown mode, for offloading on a CPU and for sequential offload of a compiled UNet.
    """
    device = torch.device(device)
    check_placement(device, offload, compile)
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if compile:
        compile_pipeline(pipeline)


def load_networks(
    base: Path, checkpoint: Path | None, device: torch.device, dtype: torch.dtype, pose_net_file: Path | None = None
):
    """The UNet and the PoseNet, from MimicMotion's checkpoint or, if that is None, from the base folder; the PoseNet
    from a file of its own where that is given.

    Raises: SetupError that lists keys which are missing, mis-shaped or not finite.
    """
    from accelerate import init_empty_weights

    with init_empty_weights():
        unet = _empty_unet(base)
        pose_net = _empty_pose_net(base, checkpoint, pose_net_file, unet)
    if checkpoint is None:
        unet_tensors = plainly_named(open_tensors(part_file(base, "unet")))
        pose_tensors = None if pose_net_file else open_tensors(part_file(base, "pose_net"))
    else:
        unet_tensors, pose_tensors = split_checkpoint(open_tensors(checkpoint), unet.state_dict())
    if pose_net_file:
        pose_tensors = plainly_named(open_tensors(pose_net_file), prefixes=POSE_NET_PREFIXES)
    elif checkpoint is not None and not pose_tensors:
        raise no_pose_net(checkpoint)
    for module, tensors, what in ((unet, unet_tensors, "UNet"), (pose_net, pose_tensors, "PoseNet")):
        assign_weights(module, tensors, device, dtype, what)
        extras = sorted(set(tensors) - set(module.state_dict()))
        if extras:
            log.warning("%s: %s weights that the model does not have: %s", tensors.path, what, listing(extras))
    return use_fast_operations(unet), pose_net


def split_checkpoint(tensors: Tensors, unet_names: Collection[str] = ()) -> tuple[Tensors, Tensors]:
    """The UNet's and the PoseNet's part of a MimicMotion checkpoint, under their names in the networks.

    Keys are `unet.NAME` and `pose_net.NAME`, with or without what training puts around either; or the UNet's bare
    names, which are `unet_names`; or those of the original Stable Video Diffusion. What belongs to the VAE or the image
    encoder, or to nothing known, is reported and left out.

    Raises: SetupError when there is not one such key, or the same weights twice.
    """
    parts: dict[str, list[str]] = {"unet": [], "pose_net": []}
    ignored, unknown = [], []
    original = is_original_unet(tensors)
    for key in tensors:
        part, name = plain_name(key, ()).partition(".")[0], plain_name(key)
        if part in parts:
            parts[part].append(key)
        elif name in unet_names or (original and name.startswith(UNET_OF_ORIGINAL)):
            parts["unet"].append(key)
        else:
            (ignored if part in IGNORED_PARTS else unknown).append(key)
    if not parts["unet"] and not parts["pose_net"]:
        what = f"has no key that starts with unet. or pose_net., and none of a UNet's; it holds {listing(tensors)}"
        raise broken(tensors.path, what)
    if ignored:
        log.warning("%s: ignored, since they come from the base model: %s", tensors.path, listing(ignored))
    if unknown:
        log.warning("%s: ignored, since nothing here is named so: %s", tensors.path, listing(unknown))
    unet = unet_of(tensors, unet_names) if original else plainly_named(tensors, parts["unet"])
    return unet, plainly_named(tensors, parts["pose_net"], POSE_NET_PREFIXES)


def load_vae(place: Path, device: torch.device, dtype: torch.dtype, classes: tuple[str, ...] = SVD_VAES):
    """The VAE of the class that its own config names, which must be one of `classes`.

    place: the folder of the VAE, or the one file of the original Stable Video Diffusion.
    """
    import diffusers

    path = vae_config_file(place)
    config = read_json(path)
    name = config.get("_class_name")
    if name not in classes:
        raise SetupError(f"{path}: cannot use a VAE of class {name}; expected {' or '.join(classes)}")
    cls, tensors = getattr(diffusers, name), open_tensors(vae_files(place)[0])
    if place.is_file() or tensors.scales or is_index(tensors.path):
        rename = vae_of if place.is_file() else _by_the_networks_names
        vae = _assigned(lambda: _from_config(cls, config, path.parent), tensors, rename, device, dtype, "VAE")
    else:
        vae = _from_pretrained(cls, tensors, device, dtype, "VAE", "torch_dtype")
    return use_fast_operations(vae)


def load_image_encoder(base: Path, device: torch.device, dtype: torch.dtype):
    """The CLIP image encoder of a base model: its folder, or the one file of the original Stable Video Diffusion."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    file, path = part_file(base, "image_encoder"), config_file(base, "image_encoder/config.json")
    tensors, what = open_tensors(file), "image encoder"
    with quiet_transformers():
        if base.is_file() or tensors.scales or is_index(file):
            rename = image_encoder_of if base.is_file() else _by_the_networks_names
            config = CLIPVisionConfig.from_dict(read_json(path))
            return _assigned(lambda: CLIPVisionModelWithProjection(config), tensors, rename, device, dtype, what)
        return _from_pretrained(CLIPVisionModelWithProjection, tensors, device, dtype, what, "dtype")


def load_clip_encoder(config, device: torch.device, dtype: torch.dtype) -> tuple:
    """The image encoder of the model that `config` names, and what prepares pictures for it; no other network.

    Raises: SetupError as `create_pipeline`.
    """
    base = resolve_base(config.base_model_path, with_unet=False)
    encoder = load_image_encoder(base, device, dtype)
    return encoder, _load_feature_extractor(config_file(base, "feature_extractor/preprocessor_config.json"))


def _by_the_networks_names(tensors: Tensors, _names: Collection[str]) -> Tensors:
    return tensors


def _assigned(
    make: Callable[[], torch.nn.Module],
    tensors: Tensors,
    rename: Callable[[Tensors, Collection[str]], Tensors],
    device: torch.device,
    dtype: torch.dtype,
    what: str,
) -> torch.nn.Module:
    """A network from files that the library's own loader does not know, or reads without their scales."""
    from accelerate import init_empty_weights

    with init_empty_weights():
        module = make()
    assign_weights(module, rename(tensors, module.state_dict()), device, dtype, what)
    return module.to(device)  # what is no weight, such as a count of positions


def _from_pretrained(cls, tensors: Tensors, device: torch.device, dtype: torch.dtype, what: str, dtype_option: str):
    """Through the library's own loader, which knows how keys were named in older files, but strictly."""
    from safetensors import SafetensorError

    path = tensors.path
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


def _empty_unet(base: Path):
    path = config_file(base, "unet/config.json")
    config = read_json(path)
    if config.get("_class_name", "UNetSpatioTemporalConditionModel") != "UNetSpatioTemporalConditionModel":
        what = f"the base model's UNet is a {config['_class_name']}, not UNetSpatioTemporalConditionModel"
        raise SetupError(f"{path}: {what}; base_model_path must be Stable Video Diffusion")
    return _from_config(_unet_class(), config, path.parent)


def _empty_pose_net(base: Path, checkpoint: Path | None, own_file: Path | None, unet):
    from mimicmotion.modules import PoseNet

    config = pose_net_config(base, checkpoint, own_file)
    if config is None:
        return PoseNet(noise_latent_channels=unet.config.block_out_channels[0])
    return _from_config(PoseNet, config, own_file.parent if own_file else base / "pose_net")


def _from_config(cls, config: dict, folder: Path):
    try:
        return cls.from_config(config)
    except (ValueError, TypeError, KeyError) as error:
        raise broken(folder / "config.json", f"does not describe a {cls.__name__} ({first_line(error)})") from error


def _load_scheduler(path: Path):
    from diffusers import EulerDiscreteScheduler

    return _from_config(EulerDiscreteScheduler, read_json(path), path.parent)


def _load_feature_extractor(path: Path):
    # The Pillow version is the same with and without torchvision on the machine.
    from transformers import CLIPImageProcessorPil

    try:
        return CLIPImageProcessorPil.from_pretrained(str(path.parent), local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise broken(path, f"is not usable ({first_line(error)})") from error


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    return dtype if isinstance(dtype, torch.dtype) else resolve_dtype(dtype or "auto", device)
