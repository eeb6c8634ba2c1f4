"""Few-step flow matching: x_sigma = (1 - sigma) * clean + sigma * noise, and the model predicts noise - clean.

Each step goes to the clean estimate and back to the next noise level with fresh noise (a resample, not an ODE
step). Levels come from diffusers' FlowMatchLCMScheduler with the shift sigma' = shift * s / (1 + (shift - 1) * s).
"""

import copy
import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from diffusers import FlowMatchLCMScheduler

from mimicmotion.errors import UsageError

TRAIN_STEPS = 1000


def make_scheduler(steps: Sequence[int], shift: float = 5.0) -> FlowMatchLCMScheduler:
    """The scheduler for `steps`, the published denoising_step_list: falling numbers in 1..1000 before the shift.

    With shift 5, 1000, 666, 333 become timesteps 1000, 908.84, 713.98 (sigma times 1000), and then clean.

    Raises: UsageError when `steps` are empty, out of range or do not fall.
    """
    falling = all(a > b for a, b in pairwise(steps))
    if not (steps and falling and all(1 <= step <= TRAIN_STEPS for step in steps)):
        raise UsageError(f"denoising steps must fall from at most {TRAIN_STEPS} to at least 1, got {list(steps)}")
    scheduler = FlowMatchLCMScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=[step / TRAIN_STEPS for step in steps])
    return scheduler


def denoise(
    predict_flow: Callable[[torch.Tensor, float], torch.Tensor],
    scheduler: FlowMatchLCMScheduler,
    noise: torch.Tensor,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Clean latents from `noise` by all levels of `scheduler`; `predict_flow(x, timestep)` has the shape of x.

    `scheduler` is not changed, so sessions can share it. `generator` gives the noise between levels.
    """
    scheduler = copy.copy(scheduler)
    scheduler.set_begin_index(0)
    x = noise
    for timestep in scheduler.timesteps:
        flow = predict_flow(x, timestep.item())
        x = scheduler.step(flow, timestep, x, generator=generator).prev_sample
    return x


def block_generator(seed: int, start: int) -> torch.Generator:
    """A CPU generator for the block that starts at latent `start`, the same on any device."""
    digest = hashlib.sha256(f"{seed}:{start}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "little"))
