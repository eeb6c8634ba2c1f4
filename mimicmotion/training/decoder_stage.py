"""The stage of the autoencoder's decoder alone: pictures as sharp as the true ones from latents that stay as they are.

A decoder that learns from errors of pixels draws an edge whose place it does not know exactly as a soft one. Here it
also answers for how strong the gradients are in every small window, so that it draws a sharp one.
"""

import torch
from torch import nn

from mimicmotion.training.networks import load_part, prepared, save_half
from mimicmotion.training.options import DecoderOptions
from mimicmotion.training.pool import Pool
from mimicmotion.training.vae_stage import VaeStage


class DecoderStage(VaeStage):
    """See `loop.Stage`. The encoder is frozen: whatever was trained on its latents stays valid."""

    def __init__(self, options: DecoderOptions, pool: Pool, device: torch.device):
        from diffusers import AutoencoderTiny

        self.options, self.pool, self.device = options, pool, device
        vae = prepared(load_part(AutoencoderTiny, options.out / "vae", "vae")).train()
        vae.decoder.requires_grad_(True)
        self.networks = nn.ModuleDict({"vae": vae})

    def export(self) -> None:
        """Writes the autoencoder; its encoder and scaling factor are what they were."""
        save_half(self.vae, self.options.out / "vae")
