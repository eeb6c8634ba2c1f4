"""How many steps and how much guidance each scheduler is made for; nothing here needs torch or diffusers."""

from mimicmotion.config import Config, TestCase, TurboSettings
from mimicmotion.errors import UsageError

# Steps and guidance that a scheduler is made for; None takes the test case's own.
MADE_FOR = {
    "AnimateLCM_SVD": (4, 1.0),
    "AYS": (10, None),
    "DPMSolver++": (12, None),
    "EulerDiscreteScheduler": (None, None),
}
# Below it, fewer whole steps are better and as fast (doc/performance.md).
FEWEST_CACHED_STEPS = 6


def turbo_steps_and_guidance(turbo: TurboSettings, case: TestCase) -> tuple[int, float]:
    """(denoising steps, guidance scale) of a turbo run: its own, else the scheduler's, else the test case's."""
    name = "EulerDiscreteScheduler" if turbo.skip_lcm_scheduler else turbo.scheduler
    made_for_steps, made_for_guidance = MADE_FOR[name]
    steps = _first(turbo.num_inference_steps, made_for_steps, case.num_inference_steps)
    guidance = _first(turbo.guidance_scale, made_for_guidance, case.guidance_scale)
    return int(steps), float(guidance)


def check_steps(config: Config) -> None:
    """Raises: UsageError for more steps than the scheduler has noise levels for, or fewer than a step cache needs."""
    turbo = config.turbo
    _check_step_cache(config)
    if turbo.skip_lcm_scheduler or turbo.scheduler != "AnimateLCM_SVD":
        return
    steps, points = turbo_steps_and_guidance(turbo, config.test_case[0])[0], turbo.lcm_num_train_timesteps
    if steps > points:
        raise UsageError(
            f"{steps} steps (--num_inference_steps) are more than the AnimateLCM grid has: {points} "
            "(--lcm_num_train_timesteps); use 1, 2, 4 or 8, or another --scheduler"
        )


def _check_step_cache(config: Config) -> None:
    interval = config.speed.step_cache
    if interval == 1:
        return
    asked = f"--step_cache {interval} (speed.step_cache)"
    if config.turbo.scheduler == "AnimateLCM_SVD" and not config.turbo.skip_lcm_scheduler:
        raise UsageError(
            f"{asked} does not fit AnimateLCM_SVD: each of its few steps begins with new noise, so features of "
            "the last one say little; take --scheduler AYS, or fewer --num_inference_steps"
        )
    steps = min(turbo_steps_and_guidance(config.turbo, case)[0] for case in config.test_case)
    if steps < FEWEST_CACHED_STEPS:
        raise UsageError(
            f"{asked} is for {FEWEST_CACHED_STEPS} steps or more: in {steps} the latents change too much from one to "
            f"the next, and {-(-steps // interval)} whole steps cost as much; take fewer --num_inference_steps, or "
            "--scheduler AYS"
        )
    if interval >= steps:
        raise UsageError(f"{asked} of {steps} steps leaves one whole; it must be below the steps")


def _first(*values):
    return next(value for value in values if value is not None)
