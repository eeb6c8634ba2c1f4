"""Every sampler that can be asked for by name."""

from diffusers import EDMDPMSolverMultistepScheduler, EulerDiscreteScheduler

from mimicmotion.config import TurboSettings
from mimicmotion.errors import UsageError
from mimicmotion.pipelines.ays_scheduler import AlignYourStepsScheduler
from mimicmotion.pipelines.lcm_scheduler import AnimateLCMSVDStochasticIterativeScheduler
from mimicmotion.pipelines.made_for import MADE_FOR


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
            num_grid_points=turbo.lcm_num_train_timesteps,
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
