"""The noise levels of a run: asking a scheduler for them, and refusing schedulers that are not made for this UNet."""

import inspect
from collections.abc import Sequence

import torch

WORKING = (
    "EulerDiscreteScheduler (as Stable Video Diffusion configures it), EDMEulerScheduler and "
    "EDMDPMSolverMultistepScheduler (with sigma_data=1, prediction_type='v_prediction'), AlignYourStepsScheduler, "
    "AnimateLCMSVDStochasticIterativeScheduler"
)


def set_noise_levels(
    scheduler,
    num_inference_steps: int,
    device: torch.device,
    timesteps: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
) -> torch.Tensor:
    """The timesteps of a run, (steps,), on `device`.

    Args:
        scheduler: where they are set; it keeps them.
        num_inference_steps: steps at levels of the scheduler's choice, where the next two are None.
        timesteps: what the scheduler takes by that name; AnimateLCM takes indices of its grid.
        sigmas: noise levels, falling, one more than steps; the last one is left in the result and usually 0.

    Raises:
        ValueError: for levels that the scheduler does not take or that do not fall, and for a scheduler whose
            timesteps are not those of Stable Video Diffusion; names those that work.
    """
    _require_kind(scheduler)
    own = {name: value for name, value in (("timesteps", timesteps), ("sigmas", sigmas)) if value is not None}
    if len(own) == 2:
        raise ValueError("give either timesteps or sigmas, not both")
    for name in own:
        if name not in inspect.signature(scheduler.set_timesteps).parameters:
            raise ValueError(f"{type(scheduler).__name__} chooses its own noise levels and takes no {name}")
    if sigmas is not None:
        _require_falling(sigmas)
    scheduler.set_timesteps(device=device, **(own or {"num_inference_steps": num_inference_steps}))
    _require_svd_timesteps(scheduler)
    return scheduler.timesteps


def _require_kind(scheduler) -> None:
    predicts = getattr(scheduler.config, "prediction_type", "v_prediction")
    if predicts != "v_prediction":
        raise ValueError(f"{_name(scheduler)} is set to predict {predicts!r}, not 'v_prediction'; {WORKING} work")
    if not hasattr(scheduler, "sigmas") or not hasattr(scheduler, "step_index"):
        raise ValueError(f"{_name(scheduler)} works without noise levels (sigmas); {WORKING} work")


def _require_falling(sigmas: Sequence[float]) -> None:
    levels = torch.as_tensor(sigmas, dtype=torch.float64)
    good = levels.ndim == 1 and len(levels) > 1 and torch.isfinite(levels).all() and (levels.diff() < 0).all()
    if not good or levels[-1] < 0:
        raise ValueError(f"sigmas must be two or more falling numbers down to 0, not {sigmas}")


def _require_svd_timesteps(scheduler) -> None:
    # The UNet is told 0.25 ln(sigma); a scheduler that counts 999, 899, ... would sample noise without any error.
    timesteps = scheduler.timesteps.cpu().double()
    expected = 0.25 * scheduler.sigmas[: len(timesteps)].cpu().double().log()
    if timesteps.shape != expected.shape or not torch.allclose(timesteps, expected, atol=1e-2):
        raise ValueError(
            f"the timesteps of {_name(scheduler)} are not 0.25 ln(sigma), as the UNet knows them; {WORKING} work"
        )


def _name(scheduler) -> str:
    return f"scheduler {type(scheduler).__name__}"
