"""Sessions through a Wan VAE and back, and how much is lost."""

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from mimicmotion.streaming import new_memory


def encode(vae: AutoencoderKLWan, pixels: torch.Tensor, chunk: int | None = None) -> torch.Tensor:
    """Posterior means (B, 16, F, h, w) of pixels (B, 3, 4 F - 3, H, W) in -1..1, as the VAE itself has them.

    chunk: frames at a time, a multiple of 4; few of them stay in a core's cache, None takes all at once.
    """
    memory = new_memory(vae.encoder)
    parts = (pixels[:, :, :1], *pixels[:, :, 1:].split(chunk or pixels.shape[2], dim=2))
    features = [vae.encoder(part, feat_cache=memory, feat_idx=[0]) for part in parts]
    return vae.quant_conv(torch.cat(features, dim=2)).chunk(2, dim=1)[0]


def decode(vae: AutoencoderKLWan, latents: torch.Tensor, memory: list | None = None) -> torch.Tensor:
    """Pixels (B, 3, 4 F - 3, H, W) of latents (B, 16, F, h, w), not clamped.

    memory: of the decoder, written to; one that has seen latents goes on after them, with 4 F frames.
    """
    memory, z = new_memory(vae.decoder) if memory is None else memory, vae.post_quant_conv(latents)
    if memory[0] is not None:
        return vae.decoder(z, feat_cache=memory, feat_idx=[0])
    first = vae.decoder(z[:, :, :1], feat_cache=memory, feat_idx=[0], first_chunk=True)
    return torch.cat((first, vae.decoder(z[:, :, 1:], feat_cache=memory, feat_idx=[0])), dim=2)


def to_pixels(frames: np.ndarray) -> torch.Tensor:
    """uint8 (B, N, H, W, 3) as the VAE takes it, float32 (B, 3, N, H, W) in -1..1."""
    return torch.from_numpy(np.array(frames)).movedim(-1, 1).float() / 127.5 - 1


def psnr(error: torch.Tensor) -> float:
    """In dB, of differences between pictures in -1..1."""
    return -10 * (error.square().mean() / 4).log10().item()
