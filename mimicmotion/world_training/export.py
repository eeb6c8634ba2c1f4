"""Finished parts of the world model as files that `mimicmotion.streaming` loads like published ones."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import nn

from mimicmotion.files import write_tensors
from mimicmotion.streaming import WorldConfig
from mimicmotion.world_training.coding import decode, encode

PROBE = 0.1  # size of the latents' disturbance that its effect on pixels is measured with


def write_part(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Writes tensors in half precision. Raises: SetupError when the disk is full."""
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    write_tensors(path, half)


@torch.no_grad()
def write_vae(vae: AutoencoderKLWan, pixels: torch.Tensor, folder: Path, world: WorldConfig) -> None:
    """Writes `vae` with white latents: mean 0, unit deviation, uncorrelated, the channel that matters most first.

    The change of basis goes into the two 1 x 1 x 1 convolutions beside the latents, so that frames come back as
    before, and the published latents_mean and latents_std hold for this VAE too.

    Args:
        pixels: (B, 3, N, H, W) in -1..1 of sessions, to measure the latents on.
    """
    half = len(vae.config.latents_mean)
    latents = torch.cat([encode(vae, part) for part in pixels.split(4)])
    rows = latents.movedim(1, -1).reshape(-1, half).double()
    mean = rows.mean(0)
    variances, axes = torch.linalg.eigh(torch.cov(rows.T))
    whiten = (axes / variances.clamp_min(1e-12).sqrt()).T  # (new, old)
    sensitivity = pixel_metric(vae, latents[:2], torch.linalg.inv(whiten).float())
    _, turn = torch.linalg.eigh(sensitivity.double())
    whiten = turn.flip(1).T @ whiten
    shift, scale = (torch.tensor(v, dtype=torch.float64) for v in (vae.config.latents_mean, vae.config.latents_std))
    write_part(rebased(vae, mean, whiten, shift, scale), folder / world.vae_file)


@torch.no_grad()
def pixel_metric(vae: AutoencoderKLWan, latents: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """How errors in the latents add up in the pixels: (n, n), for `directions` (16, n) of the latents' channels.

    Entry (i, i) is the mean squared error of pixels for noise of unit variance along direction i.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((latents.shape[0], 1, *latents.shape[2:]), generator=generator).to(latents)
    plain = decode(vae, latents)
    effects = []
    for direction in directions.T:
        step = PROBE * direction.view(1, -1, 1, 1, 1).to(latents) * noise
        effects.append((decode(vae, latents + step) - plain).flatten() / PROBE)
    effects = torch.stack(effects)
    return effects @ effects.T / effects.shape[1]


def rebased(
    vae: nn.Module, mean: torch.Tensor, whiten: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The weights of `vae` with latents z' = shift + scale * whiten (z - mean) instead of z; float64 vectors of 16."""
    state = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    half = len(mean)
    weight, bias = state["quant_conv.weight"].double(), state["quant_conv.bias"].double()
    forward = scale[:, None] * whiten
    weight[:half] = torch.einsum("ij,j...->i...", forward, weight[:half])
    bias[:half] = forward @ (bias[:half] - mean) + shift
    state |= {"quant_conv.weight": weight, "quant_conv.bias": bias}
    back = torch.linalg.inv(forward)
    weight, bias = state["post_quant_conv.weight"].double(), state["post_quant_conv.bias"].double()
    bias = bias + weight.flatten(1) @ (mean - back @ shift)
    weight = torch.einsum("oj...,ji->oi...", weight, back)
    return state | {"post_quant_conv.weight": weight, "post_quant_conv.bias": bias}
