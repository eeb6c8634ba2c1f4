"""The networks of the embedded model: diffusers' own classes at a small size, ready to be trained."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

VAE = {
    "encoder_block_out_channels": (32, 32, 32, 32),
    "decoder_block_out_channels": (32, 32, 32, 32),
    "num_encoder_blocks": (1, 1, 2, 2),
    "num_decoder_blocks": (2, 2, 1, 1),
    "latent_channels": 4,
}
# As wide against the picture as published: 2160 pixels for pictures of 576.
POSE_NET = {"noise_latent_channels": 64, "canvas_side": 480}
RESIDUAL_GAIN = 0.2


def build_vae(settings: dict | None = None) -> nn.Module:
    """An AutoencoderTiny that learns from the first step on.

    PyTorch's own initialisation stalls for thousands of steps here; Kaiming's, with residual branches that start
    small, does not.
    """
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny(**(settings or VAE))
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, module in vae.named_modules():
        if name.endswith(".conv.4"):
            module.weight.data.mul_(RESIDUAL_GAIN)
    return vae


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, the global generator that PyTorch's layers draw their first weights from starts at `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        yield


def save_half(module: nn.Module, folder: Path) -> None:
    """Writes a network in half precision in diffusers' (or transformers') layout; `module` keeps its own."""
    dtype = module.dtype
    floats = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    try:
        module.to(torch.float16).save_pretrained(folder)
    finally:
        module.to(dtype)
        module.load_state_dict(floats)
