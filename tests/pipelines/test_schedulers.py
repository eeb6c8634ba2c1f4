"""Schedulers by name: their noise levels, and that each one really samples."""

import math

import numpy as np
import pytest
import torch

from mimicmotion.config import TestCase, TurboSettings, describe_setting
from mimicmotion.errors import UsageError
from mimicmotion.pipelines.ays_scheduler import align_your_steps
from mimicmotion.pipelines.made_for import MADE_FOR, turbo_steps_and_guidance
from mimicmotion.pipelines.schedulers import make_scheduler
from tests.conftest import SVD_SCHEDULER

AYS = [700, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0]
EULER = {
    4: [700, 70.54084, 2.26912, 0.002, 0],
    8: [700, 286.53885, 102.90337, 30.99361, 7.27616, 1.16757, 0.09739, 0.002, 0],
}


def test_every_choice_of_the_configuration_can_be_made():
    assert set(MADE_FOR) == set(describe_setting("turbo.scheduler").metadata["choices"])
    for name in MADE_FOR:
        scheduler = make_scheduler(name, SVD_SCHEDULER)
        scheduler.set_timesteps(4)
        assert float(scheduler.init_noise_sigma) == pytest.approx(math.sqrt(700**2 + 1))


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="AYS"):
        make_scheduler("AYSS", SVD_SCHEDULER)


def test_align_your_steps_has_the_published_levels():
    scheduler = make_scheduler("AYS", SVD_SCHEDULER)
    scheduler.set_timesteps(10)
    assert scheduler.sigmas.tolist() == pytest.approx(AYS)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 25])
def test_align_your_steps_keeps_its_ends_at_any_count(steps):
    sigmas = align_your_steps(steps)
    assert len(sigmas) == steps + 1
    assert sigmas[0] == pytest.approx(700)
    assert sigmas[-1] == 0
    assert steps == 1 or sigmas[-2] == pytest.approx(0.034)
    assert (np.diff(sigmas) < 0).all()


@pytest.mark.parametrize("steps", EULER)
def test_euler_has_svds_levels(steps):
    scheduler = make_scheduler("EulerDiscreteScheduler", SVD_SCHEDULER)
    scheduler.set_timesteps(steps)
    assert scheduler.sigmas.tolist() == pytest.approx(EULER[steps], rel=1e-4)


def test_lcm_constants_reach_the_scheduler():
    turbo = TurboSettings(scheduler_sigma_max=80.0, lcm_num_train_timesteps=18, scheduler_clip_denoised=True)
    config = make_scheduler("AnimateLCM_SVD", SVD_SCHEDULER, turbo).config
    assert (config.sigma_max, config.num_grid_points, config.clip_denoised) == (80.0, 18, True)


def sample_gaussian(name, steps, mean=0.3, deviation=0.25):
    """Endpoint of sampling with the exact denoiser of a Gaussian, from one fixed noise."""
    scheduler = make_scheduler(name, SVD_SCHEDULER)
    scheduler.set_timesteps(steps)
    x = torch.full((1,), 3.4) * scheduler.init_noise_sigma
    for i, timestep in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(x, timestep)
        sigma = float(scheduler.sigmas[i])
        x0 = (deviation**2 * x + sigma**2 * mean) / (deviation**2 + sigma**2)
        v = (x / (sigma**2 + 1) - x0) * math.sqrt(sigma**2 + 1) / sigma
        generator = torch.Generator().manual_seed(i)
        x = scheduler.step(v, timestep, x, generator=generator, return_dict=False)[0]
    return x.item()


def test_solvers_come_near_the_exact_endpoint():
    exact = 0.3 + 0.25 * (3.4 * math.sqrt(700**2 + 1) - 0.3) / math.sqrt(0.25**2 + 700**2)

    def error(name, steps):
        return abs(sample_gaussian(name, steps) - exact)

    euler = error("EulerDiscreteScheduler", 25)
    assert euler < 0.2 < error("EulerDiscreteScheduler", 8)
    assert error("AYS", 10) < error("EulerDiscreteScheduler", 10)
    assert error("DPMSolver++", 8) < error("DPMSolver++", 4) / 4
    assert error("DPMSolver++", 12) < euler


def test_turbo_prefers_its_own_steps_then_the_schedulers_then_the_cases():
    case = TestCase(num_inference_steps=25, guidance_scale=2.0)
    assert turbo_steps_and_guidance(TurboSettings(), case) == (4, 1.0)
    assert turbo_steps_and_guidance(TurboSettings(scheduler="AYS"), case) == (10, 2.0)
    assert turbo_steps_and_guidance(TurboSettings(num_inference_steps=8, guidance_scale=1.2), case) == (8, 1.2)
    assert turbo_steps_and_guidance(TurboSettings(skip_lcm_scheduler=True), case) == (25, 2.0)
