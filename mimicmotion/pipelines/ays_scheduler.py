"""Align Your Steps: Euler sampling at noise levels that were optimised for Stable Video Diffusion."""

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler

# A saved pipeline names this module; diffusers finds out how to load a class by looking here for its base class.
from diffusers.schedulers.scheduling_utils import AysSchedules, SchedulerMixin  # noqa: F401


class AlignYourStepsScheduler(EulerDiscreteScheduler):
    """Euler steps at the noise levels optimised for Stable Video Diffusion (Align Your Steps, arXiv 2404.14507).

    The published list has 10 steps; other counts interpolate it log-linearly, as its authors do.
    """

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: list[float] | None = None,
        sigmas: list[float] | None = None,
    ) -> None:
        """Chooses the noise levels of a run.

        Args:
            num_inference_steps: number of steps at optimised levels, from sigma_max to 0.
            device: where `timesteps` is put; the sigmas stay on the CPU.
            timesteps: as in EulerDiscreteScheduler, which refuses them for SVD's continuous timesteps.
            sigmas: noise levels to use instead, falling, the last one 0.

        Raises:
            ValueError: unless exactly one of steps, timesteps and sigmas is given.
        """
        given = [value for value in (num_inference_steps, timesteps, sigmas) if value is not None]
        if len(given) == 1 and num_inference_steps is not None:
            sigmas, num_inference_steps = align_your_steps(num_inference_steps).tolist(), None
        super().set_timesteps(num_inference_steps, device, timesteps, sigmas)


def align_your_steps(steps: int) -> np.ndarray:
    """Noise levels of Align Your Steps for SVD, (steps + 1,), ending in 0."""
    published = np.array(AysSchedules["StableDiffusionVideoSigmas"][:-1])
    places = np.linspace(0, 1, steps) if steps > 1 else np.zeros(1)
    sigmas = np.exp(np.interp(places, np.linspace(0, 1, len(published)), np.log(published)))
    return np.append(sigmas, 0.0)
