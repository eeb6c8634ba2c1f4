"""The stage of the few-step LoRA: consistency distillation as AnimateLCM-SVD's (arXiv 2402.00769).

At a random level of a Karras grid the frozen UNet, its guidance baked in, takes one Euler step down; the UNet with
the LoRA shall predict the same clean latents before that step as a slow copy of it does after the step. By default
the levels are every fifth of the grid, the ones that samplers of 1, 2, 4 and 8 steps visit: over AnimateLCM's single
points, what is learnt at low noise would need hundreds of thousands of steps to arrive at high noise.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from mimicmotion.files import write_tensors
from mimicmotion.modules import PoseInjection
from mimicmotion.pipelines import AnimateLCMSVDStochasticIterativeScheduler
from mimicmotion.training.latent_pool import LatentPool
from mimicmotion.training.networks import seeded
from mimicmotion.training.options import LcmOptions, parse_phases
from mimicmotion.training.unet_stage import (
    binned,
    draw_batch,
    load_networks,
    make_pipeline,
    phase_of,
    predict,
    sample_sheet,
)
from mimicmotion.weights import ADAPTER, LORA_FILE

# Attention, feed-forward and the convolutions of residual blocks.
TARGETS = (
    r".*\.(to_[qkv]|to_out\.0|proj_in|proj_out|(ff|ff_in)\.net\.0\.proj|(ff|ff_in)\.net\.2|conv1|conv2|conv_shortcut)"
)
LORA_FOLDER = "lcm_lora"
SHEET_STEPS = 4


class LcmStage:
    """See `loop.Stage`. The teacher, the student and its slow copy are one UNet with its LoRA off, on or exchanged."""

    def __init__(self, options: LcmOptions, data: LatentPool, device: torch.device):
        self.options, self.data, self.device = options, data, device
        self.phases = parse_phases(options.phases)
        networks = load_networks(options.out).requires_grad_(False)
        with seeded(options.step_seed(-1)):
            config = LoraConfig(r=options.rank, lora_alpha=options.rank, target_modules=TARGETS)
            inject_adapter_in_model(config, networks["unet"], adapter_name=ADAPTER)
        self.layers = [module for module in networks.modules() if isinstance(module, LoraLayer)]
        # A ParameterList, so that checkpoints hold the slow copy as well.
        slow = nn.ParameterList(p.detach().clone() for p in networks.parameters() if p.requires_grad)
        self.networks = nn.ModuleDict({**networks, "slow": slow.requires_grad_(False)})
        self.injection = PoseInjection(networks["unet"])
        self.scheduler = AnimateLCMSVDStochasticIterativeScheduler()
        self.grid = torch.from_numpy(self.scheduler.grid()).float()

    def loss(self, step: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """Pseudo-Huber distance of the student's clean latents to the slow copy's; beside it by bins."""
        options = self.options
        batch = draw_batch(
            self.data, phase_of(self.phases, step / options.steps), options.region_weight, generator, self.device
        )
        clips = len(batch.latents)
        level = options.skip * torch.randint((len(self.grid) - 1) // options.skip, (clips,), generator=generator)
        levels = (level, level + options.skip)
        sigma, lower = (self.grid[index].reshape(-1, 1, 1, 1, 1).to(self.device) for index in levels)
        noisy = batch.latents + sigma * torch.randn(batch.latents.shape, generator=generator).to(self.device)
        self._follow(step)
        with torch.no_grad():
            fewer = noisy + (lower - sigma) / sigma * (noisy - self._teacher(noisy, sigma, batch))
            with self._slow():
                target = self._clean(fewer, lower, batch)
        error = self._clean(noisy, sigma, batch) - target
        distance = (error.square() + options.huber**2).sqrt() - options.huber
        level_weight = (sigma - lower) ** -options.level_power
        numbers = binned(sigma.flatten(), distance.detach().mean(dim=(1, 2, 3, 4)))
        return (distance * level_weight * batch.weights).mean(), numbers

    def _clean(self, noisy, sigma, batch, kept: float = 1.0) -> torch.Tensor:
        """The clean latents that the UNet as it is predicts."""
        kept = torch.full_like(sigma, kept)
        skip, out = self.scheduler.scalings(sigma)
        return skip * noisy + out * predict(self.networks, self.injection, noisy, sigma, batch, kept)

    def _teacher(self, noisy, sigma, batch) -> torch.Tensor:
        """The clean latents that the UNet without the LoRA predicts under guidance."""
        for layer in self.layers:
            layer.enable_adapters(False)
        try:
            without, conditioned = (self._clean(noisy, sigma, batch, kept) for kept in (0.0, 1.0))
        finally:
            for layer in self.layers:
                layer.enable_adapters(True)
        return without + self.options.guidance * (conditioned - without)

    def _adapters(self) -> list[nn.Parameter]:
        return [p for name, p in self.networks["unet"].named_parameters() if f".{ADAPTER}." in name]

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Moves the slow copy towards the LoRA as the step before left it."""
        decay = self.options.slow_decay if step else 0.0
        torch._foreach_lerp_([p.data for p in self.networks["slow"]], self._adapters(), 1 - decay)

    @contextlib.contextmanager
    def _slow(self) -> Iterator[None]:
        """Within, the LoRA is the slow copy."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for fast, slow in zip(self._adapters(), self.networks["slow"], strict=True):
            fast.data, slow.data = slow.data, fast.data

    def write_sheet(self, path: Path) -> None:
        """As the UNet's sheet, in 4 steps of the few-step scheduler."""
        pipeline = make_pipeline(self.networks, self.data)
        pipeline.scheduler = AnimateLCMSVDStochasticIterativeScheduler()
        sample_sheet(path, pipeline, SHEET_STEPS)

    def export(self) -> None:
        """Writes the LoRA in fp16 with PEFT's names, its alpha equal to its rank."""
        tensors = {
            f"unet.{name.replace(f'.{ADAPTER}.', '.')}": parameter.detach().half().cpu().contiguous()
            for name, parameter in self.networks["unet"].named_parameters()
            if f".{ADAPTER}." in name
        }
        write_tensors(self.options.out / LORA_FOLDER / LORA_FILE, tensors, {"format": "pt"})
