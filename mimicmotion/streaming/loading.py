"""Checkpoint files -> StreamingGenerator. Tiny and published weights take the same path."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from mimicmotion.acceleration import require_attention
from mimicmotion.modules import TAEHV, TinyDecoder
from mimicmotion.streaming.actions import get_mode
from mimicmotion.streaming.generator import StreamingGenerator
from mimicmotion.streaming.model import CausalWanModel, WanParams
from mimicmotion.streaming.world import WorldConfig
from mimicmotion.weights import (
    Tensors,
    assign_weights,
    listing,
    load_tiny_decoder,
    open_tensors,
    require_decoder_fits,
    strip_prefix,
)

logger = logging.getLogger(__name__)

PUBLISHED_WIDTHS = (256, 128, 64, 64)  # of the small decoder for Wan 2.1
WRAPPER_PREFIX = "model."
WAN_VAE_KEY = "conv1.weight"  # only in the layout of Wan2.1_VAE.pth
QK_NORMS = (
    "img_attn_q_norm.weight",
    "img_attn_k_norm.weight",
    "key_attn_q_norm.weight",
    "key_attn_k_norm.weight",
)


def load_generator(
    world: WorldConfig,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    encode_dtype: torch.dtype = torch.float32,
    decode_dtype: torch.dtype = torch.float32,
    attention_backend: str | None = None,
    decoder: Path | None = None,
) -> StreamingGenerator:
    """The generator that `world` describes, with its weights on `device`.

    `dtype` is that of the transformer and the image encoder; the two halves of the VAE have their own. `decoder` is the
    file of a small decoder to be used instead of the VAE's.

    Raises: UsageError for sizes that do not fit, SetupError for missing, damaged or wrong weight files.
    """
    device = torch.device(device)
    get_mode(world.mode)
    require_attention(attention_backend, device, dtype)
    if decoder is not None:
        require_decoder_fits(decoder, *_latents_of(world))
    if world.tiny_seed is not None:
        from mimicmotion.streaming.tiny import ensure_weights

        ensure_weights(world)
    folder = Path(world.weights_folder)
    model = load_model(folder / world.model_file, world.model, device, dtype)
    vae = load_vae(folder / world.vae_file, world.vae, device)
    clip = load_clip(folder / world.clip_file, world.clip, device, dtype)
    tiny = decoder and load_tiny_decoder(decoder, device, decode_dtype)
    return _assemble(world, model, vae, clip, encode_dtype, decode_dtype, attention_backend, tiny)


def random_generator(
    world: WorldConfig,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    encode_dtype: torch.dtype = torch.float32,
    decode_dtype: torch.dtype = torch.float32,
    attention_backend: str | None = None,
    decoder: object = None,
) -> StreamingGenerator:
    """As `load_generator` with weights drawn on `device` and no file read: for timing the published sizes, which a
    small `decoder` that is asked for has as well.
    """
    from diffusers import AutoencoderKLWan
    from transformers import CLIPVisionConfig, CLIPVisionModel

    device = torch.device(device)
    get_mode(world.mode)
    require_attention(attention_backend, device, dtype)
    with torch.device("meta"):
        model = CausalWanModel.from_config(world.model)
        vae = AutoencoderKLWan(**world.vae)
        clip = CLIPVisionModel(CLIPVisionConfig(**world.clip))
        tiny = TinyDecoder(TAEHV, vae.config.z_dim, PUBLISHED_WIDTHS) if decoder is not None else None
    drawn = [(model, dtype), (vae, torch.float32), (clip, dtype)] + ([(tiny, decode_dtype)] if tiny else [])
    for module, module_dtype in drawn:
        module.to(module_dtype).to_empty(device=device)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=1 / max(parameter[0].numel(), 1) ** 0.5)
    _count_positions(clip, device)
    return _assemble(world, model, vae, clip, encode_dtype, decode_dtype, attention_backend, tiny)


def _latents_of(world: WorldConfig) -> tuple[int, int, int]:
    """Channels, pixels along a side and frames of a latent of the world's VAE."""
    from diffusers import AutoencoderKLWan

    from mimicmotion.streaming.vae import FRAMES_PER_LATENT

    with torch.device("meta"):
        config = AutoencoderKLWan(**world.vae).config
    return config.z_dim, 2 ** (len(config.dim_mult) - 1), FRAMES_PER_LATENT


def _assemble(
    world: WorldConfig,
    model: CausalWanModel,
    vae: nn.Module,
    clip: nn.Module,
    encode_dtype: torch.dtype,
    decode_dtype: torch.dtype,
    attention_backend: str | None,
    tiny: TinyDecoder | None,
) -> StreamingGenerator:
    from mimicmotion.streaming.clip import ImageEncoder
    from mimicmotion.streaming.vae import StreamingVAE

    model.set_attention_backend(attention_backend)
    return StreamingGenerator(
        model,
        StreamingVAE(vae, encode_dtype, decode_dtype, tiny),
        ImageEncoder(clip),
        get_mode(world.mode),
        height=world.height,
        width=world.width,
        steps=world.denoising_steps,
        shift=world.timestep_shift,
        context_noise=world.context_noise,
        frames_per_block=world.frames_per_block,
    )


def load_model(
    checkpoint: str | Path,
    config: Mapping | str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> CausalWanModel:
    """The transformer with the weights of an official checkpoint, whose keys may start with `model.`.

    Every key of the model must be there. Warns when stored query and key norms of the action modules are not ones:
    the model, as published, leaves them out.

    Raises: SetupError for a missing, damaged or unfitting file; UsageError as WanParams.from_config.
    """
    with torch.device("meta"):
        model = CausalWanModel(WanParams.from_config(config))
    tensors = open_tensors(checkpoint)
    tensors = tensors.renamed({strip_prefix(name, WRAPPER_PREFIX): name for name in tensors})
    _fill(model, tensors, device, dtype, "streaming model")
    parameters = model.named_parameters()
    unusual = [name for name, value in parameters if name.endswith(QK_NORMS) and not torch.all(value == 1)]
    if unusual:
        logger.warning(
            "%s: action query/key norms are not 1: %s. As in the published forward pass they are ignored; the "
            "checkpoint may have been trained with other code",
            checkpoint,
            listing(unusual),
        )
    return model


def load_vae(checkpoint: str | Path, config: Mapping, device: str | torch.device = "cpu") -> nn.Module:
    """AutoencoderKLWan in fp32 from Wan2.1_VAE.pth or a file with diffusers' names. Raises: SetupError."""
    from diffusers import AutoencoderKLWan
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    tensors = open_tensors(checkpoint)
    if WAN_VAE_KEY in tensors:
        tensors = tensors.renamed(convert_wan_vae_to_diffusers({name: name for name in tensors}))
    with torch.device("meta"):
        vae = AutoencoderKLWan(**config)
    return _fill(vae, tensors, device, torch.float32, "Wan VAE")


def load_clip(
    checkpoint: str | Path,
    config: Mapping,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """The CLIP vision tower from the open-CLIP checkpoint or a file with transformers' names. Raises: SetupError."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from mimicmotion.streaming.clip import OPEN_CLIP_PREFIX, from_open_clip

    tensors = open_tensors(checkpoint)
    visual = [name for name in tensors if name.startswith(OPEN_CLIP_PREFIX)]
    if visual:
        state = from_open_clip({name: tensors[name] for name in visual})
        tensors = Tensors(tensors.path, {name: value.shape for name, value in state.items()}, state.__getitem__)
    with torch.device("meta"):
        model = CLIPVisionModel(CLIPVisionConfig(**config))
    _count_positions(model, device)
    return _fill(model, tensors, device, dtype, "CLIP vision tower")


def _count_positions(clip: nn.Module, device: str | torch.device) -> None:
    """Positions are in no checkpoint: a plain count, which the meta device could not make."""
    count = clip.embeddings.position_ids.shape[1]
    clip.embeddings.position_ids = torch.arange(count, device=device).unsqueeze(0)


def _fill(module: nn.Module, tensors: Tensors, device: str | torch.device, dtype: torch.dtype, what: str) -> nn.Module:
    """Gives `module` its weights; names that it does not have are reported."""
    extra = sorted(set(tensors) - set(module.state_dict()))
    if extra:
        logger.warning("%s: not used: %s", tensors.path, listing(extra))
    # Copied even where nothing changes: memory-mapped weights are aligned otherwise, the kernels then round
    # otherwise, and frames would depend on the format of the file.
    copies = Tensors(tensors.path, tensors.shapes, lambda name: tensors[name].clone())
    assign_weights(module, copies, torch.device(device), dtype, what)
    return module
