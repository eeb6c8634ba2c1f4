"""How weights lie in memory: layouts that kernels prefer, fewer and larger products, fewer bytes."""

import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from mimicmotion.acceleration.attention import require_attention, set_attention
from mimicmotion.acceleration.chosen import Acceleration
from mimicmotion.errors import SetupError


def require_acceleration(chosen: Acceleration, device: torch.device, dtype: torch.dtype) -> None:
    """Whether this machine can do what `chosen` asks for, before a model is loaded.

    Raises: SetupError and UsageError as `require_attention`, SetupError where there are no 8-bit floats.
    """
    require_attention(chosen.attention, device, dtype)
    if chosen.fp8 and device.type == "mps":
        raise SetupError("--fp8: Apple's GPUs have no 8-bit floats; drop it")


def arrange_weights(pipeline, chosen: Acceleration) -> None:
    """Does to the networks of a MimicMotionPipeline what `chosen` asks for, compilation aside, in place.

    Call it after LoRA weights are applied and before the networks are moved to where they compute.
    """
    set_attention(pipeline.unet, chosen.attention)
    if chosen.channels_last:
        channels_last(pipeline.unet)
        channels_last(pipeline.vae)
    if chosen.fuse_qkv:
        fuse_qkv(pipeline.unet)
    if chosen.fp8:
        store_in_fp8(pipeline.unet)


def channels_last(network: nn.Module) -> None:
    """Puts channels innermost in the weights of all 2D convolutions; activations follow them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)


@torch.no_grad()
def fuse_qkv(network: nn.Module) -> None:
    """One product for query, key and value of every self-attention; what it replaces is given up."""
    for module in network.modules():
        if isinstance(module, Attention) and not module.is_cross_attention:
            module.fuse_projections()
            module.to_q = module.to_k = module.to_v = None


def store_in_fp8(unet: nn.Module) -> None:
    """Keeps weights of linear layers and convolutions in 8-bit floats (e4m3), each widened while it computes.

    Norms stay as they are. What a weight loses is its rounding to 4 significant bits.
    """
    unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=unet.dtype)
