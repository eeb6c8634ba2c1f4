"""The autoencoder's stage: crops of single frames through AutoencoderTiny and back.

The loss is Charbonnier's plus the difference of gradients, which keeps edges sharp at this size.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mimicmotion.results import contact_sheet
from mimicmotion.training.networks import build_vae, save_half, seeded
from mimicmotion.training.options import VaeOptions
from mimicmotion.training.pool import HEIGHT, LATENT_FACTOR, WIDTH, Pool

GRADIENT_WEIGHT = 0.5
CHARBONNIER = 1e-2
WINDOW = 8
SHEET_FRAMES = 8
SCALE_FRAMES = 256  # frames that the latents' size is measured on


class VaeStage:
    """See `loop.Stage`."""

    def __init__(self, options: VaeOptions, pool: Pool, device: torch.device, settings: dict | None = None):
        self.options, self.pool, self.device = options, pool, device
        with seeded(options.step_seed(-1)):
            vae = build_vae(settings)
        self.networks = nn.ModuleDict({"vae": vae})

    @property
    def vae(self) -> nn.Module:
        """The network that is trained."""
        return self.networks["vae"]

    def loss(self, step: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """Reconstruction loss of random crops; beside it their mean squared error in -1..1."""
        pixels = self._crops(generator).to(self.device)
        latents = self.vae.encode(pixels).latents
        noise = torch.randn(latents.shape, generator=generator).to(latents) * latents.detach().std()
        decoded = self.vae.decode(latents + self.options.latent_noise * noise).sample
        error = decoded - pixels
        loss = (error.square() + CHARBONNIER**2).sqrt().mean() + GRADIENT_WEIGHT * gradient_size(error)
        if self.options.sharpness_weight:
            loss = loss + self.options.sharpness_weight * sharpness_gap(decoded, pixels)
        return loss, {"mse": error.square().mean().item()}

    def _crops(self, generator: torch.Generator) -> torch.Tensor:
        """(batch, 3, crop, crop) in -1..1, every second one centred where hands or face are, or near the middle."""
        size, crops = self.options.crop, []
        for index in range(self.options.batch):
            clip, frame, *place = torch.randint(2**31, (4,), generator=generator).tolist()
            clip, frame = clip % len(self.pool), frame % self.pool.frames.shape[1]
            if index % 2:
                top, left = _near_the_person(self.pool.regions[clip, frame], size, place)
            else:
                top, left = place[0] % (HEIGHT - size + 1), place[1] % (WIDTH - size + 1)
            crops.append(self.pool.frames[clip, frame, top : top + size, left : left + size])
        return to_pixels(np.stack(crops))

    @torch.no_grad()
    def write_sheet(self, path: Path) -> None:
        """The same frames as they are and as they come back, with their PSNR."""
        stride = max(1, len(self.pool) // SHEET_FRAMES)
        pixels = to_pixels(self.pool.frames[::stride, -1][:SHEET_FRAMES]).to(self.device)
        decoded = self.vae.decode(self.vae.encode(pixels).latents).sample.clamp(-1, 1)
        psnr = -10 * ((decoded - pixels).square().mean(dim=(1, 2, 3)) / 4).log10().mean().item()
        rows = [("frames of the pool", to_frames(pixels)), (f"encoded and decoded, {psnr:.2f} dB", to_frames(decoded))]
        contact_sheet(path, rows, title=f"vae, {path.stem}")

    @torch.no_grad()
    def export(self) -> None:
        """Writes the autoencoder with the scaling factor that gives latents unit deviation."""
        stride = max(1, len(self.pool) // SCALE_FRAMES)
        frames = self.pool.frames[::stride, 1][:SCALE_FRAMES]
        latents = torch.cat([self.vae.encode(to_pixels(part).to(self.device)).latents for part in _parts(frames, 16)])
        self.vae.register_to_config(scaling_factor=1 / latents.std().item())
        save_half(self.vae, self.options.out / "vae")


def _near_the_person(region: np.ndarray, size: int, place: list[int]) -> tuple[int, int]:
    """Corner of a crop around a random latent of hands or face; of the middle half where none is marked."""
    rows, columns = np.nonzero(region)
    if len(rows):
        chosen = place[0] % len(rows)
        jitter = (place[1] % size, place[1] // size % size)
        corner = np.array([rows[chosen], columns[chosen]]) * LATENT_FACTOR - jitter
    else:
        room = (HEIGHT - size, WIDTH - size)
        corner = np.array([room[0] // 4 + place[0] % (room[0] // 2 + 1), room[1] // 4 + place[1] % (room[1] // 2 + 1)])
    top, left = corner.clip(0, (HEIGHT - size, WIDTH - size)).tolist()
    return top, left


def gradient_size(picture: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbouring pixels, across plus down."""
    return picture.diff(dim=-1).abs().mean() + picture.diff(dim=-2).abs().mean()


def sharpness_gap(picture: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the gradients' root mean square in windows of WINDOW pixels, half of them shared."""
    return (_window_gradients(picture) - _window_gradients(truth)).abs().mean()


def _window_gradients(picture: torch.Tensor) -> torch.Tensor:
    across = picture.diff(dim=-1).square()[..., 1:, :]
    down = picture.diff(dim=-2).square()[..., :, 1:]
    return (functional.avg_pool2d(across + down, WINDOW, WINDOW // 2) + CHARBONNIER**2).sqrt()


def to_pixels(frames: np.ndarray) -> torch.Tensor:
    """Frames uint8 (n, h, w, 3) as the networks take them, (n, 3, h, w) in -1..1."""
    return torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2) / 127.5 - 1


def to_frames(pixels: torch.Tensor) -> list[np.ndarray]:
    """The inverse of `to_pixels`, clamped and rounded."""
    frames = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return list(frames.permute(0, 2, 3, 1).cpu().numpy())


def _parts(array: np.ndarray, size: int):
    return (array[start : start + size] for start in range(0, len(array), size))
