"""The AnimateLCM-SVD scheduler against its published tables and a plain loop."""

import math

import pytest
import torch

from mimicmotion.pipelines.lcm_scheduler import AnimateLCMSVDStochasticIterativeScheduler as LCMScheduler

# specs of AnimateLCM-SVD: grid indices 0, 10, 20, 30 and so on of the 40-point Karras grid, and their scalings.
SIGMAS = {
    1: [700.0, 0.0],
    2: [700.0, 13.6784441, 0.0],
    4: [700.0, 128.563697, 13.6784441, 0.49687842, 0.0],
    8: [700.0, 315.737397, 128.563697, 45.8507238, 13.6784441, 3.16661079, 0.49687842, 0.0397536912, 0.0],
}
TIMESTEPS = {
    1: [1.63777008],
    2: [1.63777008, 0.653955293],
    4: [1.63777008, 1.21410612, 0.653955293, -0.174852477],
}
INDICES = {3: [0, 13, 26], 5: [0, 8, 16, 24, 32], 6: [0, 6, 12, 18, 24, 30], 7: [0, 5, 10, 15, 20, 25, 30]}


def scheduler_at(steps, **settings):
    scheduler = LCMScheduler(**settings)
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("steps", SIGMAS)
def test_sigmas_match_the_published_table(steps):
    assert scheduler_at(steps).sigmas.tolist() == pytest.approx(SIGMAS[steps], rel=1e-6)


@pytest.mark.parametrize("steps", TIMESTEPS)
def test_timesteps_match_the_published_table(steps):
    assert scheduler_at(steps).timesteps.tolist() == pytest.approx(TIMESTEPS[steps], rel=1e-7)


@pytest.mark.parametrize("steps", INDICES)
def test_other_small_counts_follow_the_published_stride(steps):
    scheduler = scheduler_at(steps)
    assert scheduler.sigmas[:-1].tolist() == pytest.approx(list(scheduler.grid()[INDICES[steps]]), rel=1e-6)


def test_scalings_match_the_published_table():
    scheduler = scheduler_at(4)
    c_skip, c_out = scheduler.scalings(scheduler.sigmas[:-1].double())
    assert c_skip.tolist() == pytest.approx([2.04081216e-06, 6.0497443e-05, 0.00531632582, 0.801996545], rel=1e-6)
    assert c_out.tolist() == pytest.approx([-0.99999898, -0.999969751, -0.997338295, -0.444975791], rel=1e-6)


def test_model_input_is_scaled_by_c_in():
    scheduler = scheduler_at(4)
    scaled = [scheduler.scale_model_input(torch.ones(1), scheduler.timesteps[0]).item()]
    for timestep in scheduler.timesteps[:-1]:
        scheduler.step(torch.zeros(1), timestep, torch.zeros(1))
        scaled.append(scheduler.scale_model_input(torch.ones(1), timestep).item())
    assert scaled == pytest.approx([0.00142856997, 0.00777801022, 0.0729131388, 0.895542598], rel=1e-6)


@pytest.mark.parametrize("steps", [14, 21, 25, 30, 39])
def test_counts_that_the_stride_would_cut_are_spread_to_the_end(steps):
    scheduler = scheduler_at(steps)
    assert len(scheduler.timesteps) == steps
    assert scheduler.sigmas[-2] < 0.1
    assert (scheduler.sigmas.diff() < 0).all()


@pytest.mark.parametrize("steps", [0, -1, 41, 100])
def test_counts_outside_the_grid_are_refused(steps):
    with pytest.raises(ValueError, match="40 points"):
        scheduler_at(steps)


@pytest.mark.parametrize("indices", [[], [5, 10], [0, 10, 10], [0, 40], [10, 0]])
def test_bad_grid_indices_are_refused(indices):
    with pytest.raises(ValueError, match="grid indices"):
        LCMScheduler().set_timesteps(timesteps=indices)


def test_custom_grid_indices_set_the_step_count():
    scheduler = LCMScheduler()
    scheduler.set_timesteps(timesteps=[0, 20])
    assert scheduler.num_inference_steps == 2
    assert scheduler.sigmas.tolist() == pytest.approx(SIGMAS[2], rel=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_sampling_equals_a_plain_loop(steps):
    scheduler = scheduler_at(steps)
    x = torch.randn(1, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    velocity = [torch.randn(x.shape, generator=torch.Generator().manual_seed(10 + i)) for i in range(steps)]
    noise = torch.Generator().manual_seed(5)
    expected = x.double()
    for i, v in enumerate(velocity):
        sigma, following = SIGMAS[steps][i], SIGMAS[steps][i + 1]
        x0 = expected / (sigma**2 + 1) - v.double() * sigma / math.sqrt(sigma**2 + 1)
        z = torch.randn(x.shape, generator=noise).double() if steps > 1 else 0
        expected = x0 + following * z

    generator = torch.Generator().manual_seed(5)
    for v, timestep in zip(velocity, scheduler.timesteps, strict=True):
        scheduler.scale_model_input(x, timestep)
        x = scheduler.step(v, timestep, x, generator=generator, return_dict=False)[0]
    assert torch.allclose(x.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_perfect_model_gives_the_clean_sample():
    scheduler = scheduler_at(4)
    clean = torch.randn(1, 2, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    x = clean + scheduler.init_noise_sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    for i, timestep in enumerate(scheduler.timesteps):
        c_skip, c_out = scheduler.scalings(scheduler.sigmas[i].double())
        v = ((clean.double() - c_skip * x.double()) / c_out).float()
        output = scheduler.step(v, timestep, x, generator=torch.Generator().manual_seed(i))
        x = output.prev_sample
    # float32 keeps about 1e-4 of a noise of size 700.
    assert torch.allclose(x, clean, atol=1e-3)


def test_clipping_and_noise_factor_are_used():
    quiet, clipped = scheduler_at(2, s_noise=0.0), scheduler_at(2, s_noise=0.0, clip_denoised=True)
    v, x = torch.full((1,), -5.0), torch.zeros(1)
    assert quiet.step(v, quiet.timesteps[0], x).prev_sample.item() == pytest.approx(5.0, rel=1e-5)
    assert clipped.step(v, clipped.timesteps[0], x).prev_sample.item() == 1.0


def test_integer_timesteps_are_refused():
    with pytest.raises(ValueError, match="not an index"):
        scheduler_at(2).step(torch.zeros(1), 0, torch.zeros(1))


def test_begin_index_starts_in_the_middle():
    scheduler = scheduler_at(4)
    scheduler.set_begin_index(2)
    scheduler.step(torch.zeros(1), scheduler.timesteps[2], torch.ones(1))
    assert scheduler.step_index == 3


def test_add_noise_uses_the_level_of_each_timestep():
    scheduler = scheduler_at(4)
    noisy = scheduler.add_noise(torch.zeros(2, 3), torch.ones(2, 3), scheduler.timesteps[[3, 1]])
    assert noisy[:, 0].tolist() == pytest.approx([SIGMAS[4][3], SIGMAS[4][1]], rel=1e-6)


def test_settings_survive_saving(tmp_path):
    LCMScheduler(rho=5.0, sigma_max=80.0).save_pretrained(tmp_path)
    assert LCMScheduler.from_pretrained(tmp_path).config.sigma_max == 80.0
