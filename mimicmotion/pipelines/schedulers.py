"""Every sampler that can be asked for by name."""

import numpy as np
from diffusers import EDMDPMSolverMultistepScheduler, EulerDiscreteScheduler
from diffusers.schedulers import AysSchedules

from mimicmotion.config import TurboSettings
from mimicmotion.errors import UsageError
from mimicmotion.pipelines.few_steps import MADE_FOR
from mimicmotion.pipelines.lcm_scheduler import AnimateLCMSVDStochasticIterativeScheduler


class AlignYourStepsScheduler(EulerDiscreteScheduler):
    """Euler steps at the noise levels optimised for Stable Video Diffusion (Align Your Steps, arXiv 2404.14507).

    The published list has 10 steps; other counts interpolate it log-linearly, as its authors do.
    """

    def set_timesteps(self, num_inference_steps: int | None = None, device=None, **arguments) -> None:
        """Chooses the noise levels for `num_inference_steps`, from sigma_max to 0."""
        if num_inference_steps is None:
            super().set_timesteps(device=device, **arguments)
            return
        super().set_timesteps(device=device, sigmas=align_your_steps(num_inference_steps).tolist())


def align_your_steps(steps: int) -> np.ndarray:
    """Noise levels of Align Your Steps for SVD, (steps + 1,), ending in 0."""
    published = np.array(AysSchedules["StableDiffusionVideoSigmas"][:-1])
    places = np.linspace(0, 1, steps) if steps > 1 else np.zeros(1)
    sigmas = np.exp(np.interp(places, np.linspace(0, 1, len(published)), np.log(published)))
    return np.append(sigmas, 0.0)


def make_scheduler(name: str, base_config: dict, turbo: TurboSettings | None = None):
    """A new scheduler.

    Args:
        name: one of the choices of `turbo.scheduler`.
        base_config: configuration of the model's own (Euler) scheduler.
        turbo: constants of the AnimateLCM grid.

    Raises:
        UsageError: for an unknown name.
    """
    if name == "AnimateLCM_SVD":
        turbo = turbo or TurboSettings()
        return AnimateLCMSVDStochasticIterativeScheduler(
            num_train_timesteps=turbo.lcm_num_train_timesteps,
            sigma_min=turbo.scheduler_sigma_min,
            sigma_max=turbo.scheduler_sigma_max,
            sigma_data=turbo.scheduler_sigma_data,
            s_noise=turbo.scheduler_s_noise,
            rho=turbo.scheduler_rho,
            clip_denoised=turbo.scheduler_clip_denoised,
        )
    if name == "EulerDiscreteScheduler":
        return EulerDiscreteScheduler.from_config(base_config)
    if name == "AYS":
        return AlignYourStepsScheduler.from_config(base_config)
    if name == "DPMSolver++":
        return EDMDPMSolverMultistepScheduler(
            sigma_min=base_config["sigma_min"],
            sigma_max=base_config["sigma_max"],
            sigma_data=1.0,
            rho=7.0,
            prediction_type="v_prediction",
            solver_order=2,
        )
    raise UsageError(f"scheduler {name!r} is unknown; choose one of {', '.join(MADE_FOR)}")
