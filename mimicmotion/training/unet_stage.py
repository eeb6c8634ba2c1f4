"""The stage of UNet and PoseNet: v-prediction under SVD's noise, conditioned exactly as the pipeline does.

Noise levels are log-normal (EDM, arXiv 2206.00364), with a share drawn evenly up to the level where sampling starts:
so short a training would never see it otherwise. Hands and faces that are clearly seen weigh more (MimicMotion,
arXiv 2406.19680, section 3.3).
"""

import contextlib
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from mimicmotion.files import write_json
from mimicmotion.modules import PoseInjection, PoseNet
from mimicmotion.results import contact_sheet
from mimicmotion.training.encoder_stage import make_processor
from mimicmotion.training.latent_pool import LatentPool
from mimicmotion.training.networks import build_unet, load_part, prepared, save_half, seeded, spatial_layers_only
from mimicmotion.training.options import Phase, UnetOptions, parse_phases
from mimicmotion.training.pool import FRAMES, HEIGHT, WIDTH
from mimicmotion.training.vae_stage import to_pixels
from mimicmotion.weights import TINY_MARKER, TINY_SCHEDULER, TINY_VERSION

# What the pipeline tells the UNet of published MimicMotion and configs/test.yaml: fps 7 - 1, motion bucket, no
# noise on the reference.
TIME_IDS = (6.0, 127.0, 0.0)
SIGMA_MAX = TINY_SCHEDULER["sigma_max"]
HIGH_SIGMA = 2.0  # where the evenly drawn share starts
# Noise levels whose losses are noted by themselves: lowest, highest, name.
BINS = ((0.0, 0.5, "loss_fine"), (0.5, 5.0, "loss_middle"), (5.0, math.inf, "loss_coarse"))
SHEET_CLIPS = 4
SHEET_STEPS = 8


class Batch(NamedTuple):
    """Clips of a step; B clips of F frames, the reference first unless F is 1.

    latents: (B, F, 4, h, w), scaled; reference: (B, 1, 4, h, w), not scaled; embeddings: (B, 1, channels);
    poses: (B * F, 3, height, width) in -1..1; weights: (B, F, 1, h, w).
    """

    latents: torch.Tensor
    reference: torch.Tensor
    embeddings: torch.Tensor
    poses: torch.Tensor
    weights: torch.Tensor


class UnetStage:
    """See `loop.Stage`."""

    def __init__(self, options: UnetOptions, data: LatentPool, device: torch.device, settings: dict | None = None):
        self.options, self.data, self.device = options, data, device
        self.phases = parse_phases(options.phases)
        with seeded(options.step_seed(-1)):
            self.networks = load_networks(options.init_from) if options.init_from else build_unet(settings)
        self.injection = PoseInjection(self.networks["unet"])

    def loss(self, step: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """Weighted squared error of v; beside it the unweighted one by bins of the noise level."""
        phase = phase_of(self.phases, step / self.options.steps)
        batch = draw_batch(self.data, phase, self.options.region_weight, generator, self.device)
        clips = len(batch.latents)
        sigma = self._noise_levels(clips, generator).reshape(-1, 1, 1, 1, 1).to(self.device)
        kept = (torch.rand(clips, generator=generator) >= self.options.drop).float().reshape(sigma.shape)
        noise = torch.randn(batch.latents.shape, generator=generator).to(self.device)
        noisy = batch.latents + sigma * noise
        v = predict(self.networks, self.injection, noisy, sigma, batch, kept.to(self.device))
        error = (v - (noise - sigma * batch.latents) / (sigma**2 + 1).sqrt()).square()
        return (error * batch.weights).mean(), binned(sigma.flatten(), error.detach().mean(dim=(1, 2, 3, 4)))

    def _noise_levels(self, count: int, generator: torch.Generator) -> torch.Tensor:
        options = self.options
        logs = options.sigma_mean + options.sigma_deviation * torch.randn(count, generator=generator)
        low, high = math.log(HIGH_SIGMA), math.log(SIGMA_MAX)
        even = low + (high - low) * torch.rand(count, generator=generator)
        return torch.where(torch.rand(count, generator=generator) < options.high_share, even, logs).exp()

    def write_sheet(self, path: Path) -> None:
        """For clips that are never trained on: the truth, the drawn poses, and a few Euler steps of the pipeline."""
        sample_sheet(path, make_pipeline(self.networks, self.data), SHEET_STEPS)

    def export(self) -> None:
        """Writes UNet, PoseNet, the published scheduler's settings and the mark that the model is a trained one."""
        from diffusers import EulerDiscreteScheduler

        for name, network in self.networks.items():
            save_half(network, self.options.out / name)
        EulerDiscreteScheduler(**TINY_SCHEDULER).save_pretrained(self.options.out / "scheduler")
        marker = {"trained": True, "seed": self.options.seed, "version": TINY_VERSION}
        write_json(self.options.out / TINY_MARKER, marker)


def load_networks(folder: Path) -> nn.ModuleDict:
    """UNet and PoseNet of the model in `folder`, in fp32, to be trained further. Raises: SetupError."""
    from diffusers import UNetSpatioTemporalConditionModel

    parts = {"unet": UNetSpatioTemporalConditionModel, "pose_net": PoseNet}
    networks = {name: load_part(kind, folder / name, "unet") for name, kind in parts.items()}
    return prepared(nn.ModuleDict(networks)).train().requires_grad_(True)


def phase_of(phases: tuple[Phase, ...], progress: float) -> Phase:
    """The phase at `progress` (0..1) of the training."""
    end = 0.0
    for phase in phases:
        end += phase.share
        if progress < end:
            return phase
    return phases[-1]


def draw_batch(
    data: LatentPool, phase: Phase, region_weight: float, generator: torch.Generator, device: torch.device
) -> Batch:
    """Random clips with their reference and random or consecutive frames."""
    clips = torch.randint(len(data.pool), (phase.clips,), generator=generator).numpy()
    frames = np.stack([_draw_frames(phase, generator) for _ in clips])
    rows = clips[:, None]
    references = torch.from_numpy(data.latents[clips, :1].astype(np.float32)).to(device)
    latents = torch.from_numpy(data.latents[rows, frames].astype(np.float32)).to(device)
    poses = to_pixels(data.pool.poses[rows, frames].reshape(-1, *data.pool.poses.shape[2:])).to(device)
    covered = torch.from_numpy(data.pool.regions[rows, frames]).to(device)[:, :, None] / 255
    embeddings = torch.from_numpy(data.embeddings[clips].astype(np.float32)).to(device)[:, None]
    weights = 1 + (region_weight - 1) * covered
    return Batch(latents * data.scale, references, embeddings, poses, weights)


def _draw_frames(phase: Phase, generator: torch.Generator) -> np.ndarray:
    """Indices of a clip's frames, 0 first; in order, so that time runs forwards. A single one is any but 0."""
    if phase.frames == 1:
        return 1 + torch.randint(FRAMES - 1, (1,), generator=generator).numpy()
    others = phase.frames - 1
    if phase.consecutive:
        first = 1 + int(torch.randint(FRAMES - others, (1,), generator=generator))
        return np.r_[0, first : first + others]
    return np.r_[0, 1 + torch.randperm(FRAMES - 1, generator=generator)[:others].sort().values.numpy()]


def predict(
    networks: nn.ModuleDict,
    injection: PoseInjection,
    noisy: torch.Tensor,
    sigma: torch.Tensor,
    batch: Batch,
    kept: torch.Tensor,
) -> torch.Tensor:
    """The UNet's v of noisy latents (B, F, 4, h, w), as the pipeline calls it.

    sigma: (B, 1, 1, 1, 1); kept: likewise, 0 where a clip goes without conditioning, that is without reference,
    embedding and pose. Single pictures (F = 1) go through the spatial layers only.
    """
    frames = noisy.shape[1]
    scaled = noisy / (sigma**2 + 1).sqrt()
    reference = (batch.reference * kept).expand(-1, frames, -1, -1, -1)
    pose = networks["pose_net"](batch.poses) * kept.expand(-1, frames, -1, -1, -1).reshape(-1, 1, 1, 1)
    time_ids = torch.tensor([TIME_IDS], device=noisy.device).expand(len(noisy), -1)
    single = spatial_layers_only(networks["unet"]) if frames == 1 else contextlib.nullcontext()
    with injection.features(pose), single:
        v = networks["unet"](
            torch.cat([scaled, reference], dim=2),
            0.25 * sigma.flatten().log(),
            encoder_hidden_states=batch.embeddings * kept[:, 0, 0],
            added_time_ids=time_ids,
            return_dict=False,
        )[0]
    return v.float()


def binned(sigma: torch.Tensor, losses: torch.Tensor) -> dict[str, float]:
    """The mean loss of the clips in each bin of the noise level that has any."""
    members = {name: losses[(sigma >= low) & (sigma < high)] for low, high, name in BINS}
    return {name: found.mean().item() for name, found in members.items() if len(found)}


def make_pipeline(networks: nn.ModuleDict, data: LatentPool):
    """The real pipeline over these networks, with the published scheduler."""
    from diffusers import EulerDiscreteScheduler

    from mimicmotion.pipelines import MimicMotionPipeline

    pipeline = MimicMotionPipeline(
        vae=data.vae,
        image_encoder=data.image_encoder,
        unet=networks["unet"],
        scheduler=EulerDiscreteScheduler(**TINY_SCHEDULER),
        feature_extractor=make_processor(),
        pose_net=networks["pose_net"],
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@functools.lru_cache(maxsize=1)
def sheet_clips(make_clip: Callable | None = None) -> list[dict[str, np.ndarray]]:
    """Drawn clips of the reserved seeds."""
    from mimicmotion.puppets import VALIDATION_SEEDS
    from mimicmotion.puppets import make_clip as make_puppet_clip
    from mimicmotion.training.pool import draw_clip

    return [draw_clip(seed, make_clip or make_puppet_clip) for seed in VALIDATION_SEEDS[:SHEET_CLIPS]]


def sample_sheet(path: Path, pipeline, steps: int, guidance: float = 1.0) -> None:
    """Writes a sheet of three rows a clip: truth, drawn poses, samples."""
    from PIL import Image

    rows = []
    for number, clip in enumerate(sheet_clips()):
        result = pipeline(
            Image.fromarray(clip["frames"][0]),
            torch.from_numpy(np.ascontiguousarray(clip["poses"].transpose(0, 3, 1, 2))),
            height=HEIGHT,
            width=WIDTH,
            num_inference_steps=steps,
            min_guidance_scale=guidance,
            max_guidance_scale=guidance,
            noise_aug_strength=0.0,
            generator=torch.Generator().manual_seed(number),
            output_type="np",
        ).frames[0]
        rows += [("truth", list(clip["frames"])), ("pose", list(clip["poses"]))]
        rows.append((f"{steps} steps, guidance {guidance:g}", list((result * 255).round().astype(np.uint8))))
    contact_sheet(path, rows, title=path.stem, tile_width=96)
