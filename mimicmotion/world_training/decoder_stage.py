"""The decoder's stage: blocks of latents toward the true frames, while encoder and transformer stay as they are.

Half of the latents are those that the transformer plays. They are off in its own ways, and where they still tell what
should be seen, the decoder learns to show it.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import nn

from mimicmotion.streaming import WorldConfig, new_memory
from mimicmotion.world_training.coding import decode, psnr, to_pixels
from mimicmotion.world_training.export import write_part
from mimicmotion.world_training.latents import LatentPool
from mimicmotion.world_training.options import DecoderOptions
from mimicmotion.world_training.reconstruction import reconstruction_loss
from mimicmotion.world_training.vae_stage import write_coding_sheet
from mimicmotion.worlds import Walk, block_slice

PIXELS = 8  # of a latent, along each side
LOST = 0.25  # error of played latents, of variance 1, whose blocks count half


class DecoderStage:
    """See `mimicmotion.training.loop.Stage`.

    vae: whose decoder learns; frames: uint8 (81, height, width, 3) of each session of `pool`; played (n, 16, L, h, w):
    the same sessions as the transformer plays them, but for their last block, which is the true one.
    """

    def __init__(
        self,
        options: DecoderOptions,
        world: WorldConfig,
        vae: AutoencoderKLWan,
        frames: list[np.ndarray],
        pool: LatentPool,
        played: torch.Tensor,
        walk: Walk,
        device: torch.device,
    ):
        self.options, self.world, self.frames, self.walk, self.device = options, world, frames, walk, device
        self.pool, self.played = pool, played
        self.size = world.frames_per_block
        vae.requires_grad_(False)
        vae.decoder.requires_grad_(True)
        vae.post_quant_conv.requires_grad_(True)
        self.networks = nn.ModuleDict({"vae": vae})
        self.mean, self.std = (
            torch.tensor(values, device=device).view(1, -1, 1, 1, 1)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )

    @property
    def vae(self) -> AutoencoderKLWan:
        """The network whose decoder is trained."""
        return self.networks["vae"]

    def loss(self, step: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """Reconstruction loss of one block of some sessions; beside it their PSNR in dB."""
        options = self.options
        rows = torch.randint(len(self.pool), (options.batch,), generator=generator)
        own = bool(torch.rand((), generator=generator) < options.played_share)
        blocks = self.pool.latents.shape[2] // self.size
        block = int(torch.randint(blocks - own, (), generator=generator))
        left = int(torch.randint((self.frames[0].shape[2] - options.columns) // PIXELS + 1, (), generator=generator))
        part = slice(self.size * max(0, block - 1), self.size * (block + 1))
        columns = slice(left, left + options.columns // PIXELS)
        true = self.pool.latents[rows, :, part, :, columns].float()
        if own:
            given = self.played[rows, :, part, :, columns].float()
            trust = 1 / (1 + (given - true)[:, :, -self.size :].square().mean((1, 2, 3, 4)) / LOST)
        else:
            given = true + options.latent_noise * torch.randn(true.shape, generator=generator)
            trust = torch.ones(len(rows))
        decoded = self._decode_last(given.to(self.device))
        pixels = self._pixels(rows.tolist(), block, PIXELS * left).to(self.device)
        losses = reconstruction_loss(decoded, pixels, options.sharpness)
        name = "psnr_played" if own else "psnr"
        return (losses * trust.to(losses)).mean(), {name: psnr((decoded - pixels).detach())}

    def _decode_last(self, latents: torch.Tensor) -> torch.Tensor:
        """Frames (B, 3, N, H, W) of the last block of (B, 16, L, h, w), which begins a session or has one before it."""
        memory = new_memory(self.vae.decoder)
        before, last = (latents * self.std + self.mean).tensor_split([-self.size], dim=2)
        if before.shape[2]:
            with torch.no_grad():
                decode(self.vae, before, memory)
        return decode(self.vae, last, memory)

    def _pixels(self, rows: list[int], block: int, left: int) -> torch.Tensor:
        """The true frames of a block."""
        right = left + self.options.columns
        return to_pixels(np.stack([self.frames[row][block_slice(block), :, left:right] for row in rows]))

    def write_sheet(self, path: Path) -> None:
        """Sessions that are never trained on, as they are and as they come back."""
        write_coding_sheet(path, self.vae, self.walk, self.device)

    def export(self) -> None:
        """Writes the VAE, with the latents that it had."""
        write_part(self.vae.state_dict(), self.options.out / self.world.vae_file)
