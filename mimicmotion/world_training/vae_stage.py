"""The VAE's stage: cut-outs of sessions through the Wan VAE and back, chunk by chunk as a session decodes them."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import nn

from mimicmotion.results import contact_sheet
from mimicmotion.streaming import WorldConfig, load_vae, to_uint8
from mimicmotion.training import seeded
from mimicmotion.weights import open_tensors
from mimicmotion.world_training.carrying import carry_colours, carry_differences
from mimicmotion.world_training.coding import decode, encode, psnr, to_pixels
from mimicmotion.world_training.export import write_vae
from mimicmotion.world_training.options import EVALUATION_SEED, VaeOptions
from mimicmotion.world_training.reconstruction import reconstruction_loss
from mimicmotion.world_training.widening import widen
from mimicmotion.worlds import Walk, draw_session, render

LATENT_WEIGHT = 1e-4
SHEET_CLIPS, SHEET_FRAMES = 4, 33
STATISTIC_CLIPS = 32


class VaeStage:
    """See `mimicmotion.training.loop.Stage`. frames: uint8 (81, height, width, 3) of each session."""

    def __init__(
        self, options: VaeOptions, world: WorldConfig, frames: list[np.ndarray], walk: Walk, device: torch.device
    ):
        self.options, self.world, self.frames, self.walk, self.device = options, world, frames, walk, device
        vae = make_vae(world, options.init_from, options.step_seed(-1))
        self.networks = nn.ModuleDict({"vae": vae})

    @property
    def vae(self) -> AutoencoderKLWan:
        """The network that is trained."""
        return self.networks["vae"]

    def loss(self, step: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """Reconstruction loss of random cut-outs; beside it their PSNR in dB."""
        pixels = self._cut_outs(generator).to(self.device)
        latents = encode(self.vae, pixels)
        size = latents.detach().std((0, 2, 3, 4), keepdim=True)
        noise = torch.randn(latents.shape, generator=generator).to(latents) * size
        decoded = decode(self.vae, latents + self.options.latent_noise * noise)
        loss = reconstruction_loss(decoded, pixels).mean() + LATENT_WEIGHT * latents.square().mean()
        return loss, {"psnr": psnr((decoded - pixels).detach())}

    def _cut_outs(self, generator: torch.Generator) -> torch.Tensor:
        """(batch, 3, frames, height, columns) in -1..1."""
        length, width = self.options.frames, self.options.columns
        found = []
        for clip, first, left in torch.randint(2**31, (self.options.batch, 3), generator=generator).tolist():
            frames = self.frames[clip % len(self.frames)]
            first %= frames.shape[0] - length + 1
            left %= frames.shape[2] - width + 1
            found.append(frames[first : first + length, :, left : left + width])
        return to_pixels(np.stack(found))

    def write_sheet(self, path: Path) -> None:
        """Sessions that are never trained on, as they are and as they come back, with their PSNR."""
        write_coding_sheet(path, self.vae, self.walk, self.device)

    def export(self) -> None:
        """Writes the VAE with white latents, see `export.write_vae`."""
        stride = max(1, len(self.frames) // STATISTIC_CLIPS)
        pixels = to_pixels(np.stack([frames[:33] for frames in self.frames[::stride]][:STATISTIC_CLIPS]))
        write_vae(self.vae, pixels.to(self.device), self.options.out, self.world)


def make_vae(world: WorldConfig, init_from: Path | None, seed: int) -> AutoencoderKLWan:
    """The VAE of `world` that carries colours, or with the weights in the folder `init_from`.

    The decoder there may be narrower by a whole factor.

    Raises: SetupError as `load_vae`; UsageError for another width.
    """
    with seeded(seed):
        vae = AutoencoderKLWan(**world.vae)
    if init_from is None:
        carry_colours(vae)
        carry_differences(vae)
        return vae
    path = init_from / world.vae_file
    width = open_tensors(path).shapes["decoder.conv_in.weight"][0] // world.vae["dim_mult"][-1]
    found = load_vae(path, {**world.vae, "decoder_base_dim": width})
    if found.decoder.dim == vae.decoder.dim:
        vae.load_state_dict(found.state_dict())
        return vae
    for name in ("encoder", "quant_conv", "post_quant_conv"):
        getattr(vae, name).load_state_dict(getattr(found, name).state_dict())
    widen(vae.decoder, found.decoder, torch.Generator().manual_seed(seed))
    return vae


@torch.no_grad()
def write_coding_sheet(path: Path, vae: AutoencoderKLWan, walk: Walk, device: torch.device) -> None:
    """Sessions that no stage trains on, as they are and as `vae` brings them back, with their PSNR."""
    pixels = to_pixels(unseen_frames(SHEET_CLIPS, SHEET_FRAMES, walk)).to(device)
    decoded = decode(vae, encode(vae, pixels)).clamp(-1, 1)
    rows = []
    for true, back in zip(pixels, decoded, strict=True):
        rows += [("as it is", to_uint8(true)[::4].numpy())]
        rows += [(f"encoded and decoded, {psnr(back - true):.2f} dB", to_uint8(back)[::4].numpy())]
    contact_sheet(path, rows, title=f"vae, {path.stem}, {psnr(decoded - pixels):.2f} dB")


def unseen_frames(clips: int, frames: int, walk: Walk) -> np.ndarray:
    """uint8 (clips, frames, height, width, 3) of sessions that no stage trains on."""
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + clips)
    return np.stack([render(draw_session(seed, frames, walk).cameras) for seed in seeds])
