"""What diffusers expects of every scheduler, held for the ones that are written here."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import EDMEulerScheduler, EulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor

from mimicmotion.pipelines.ays_scheduler import AlignYourStepsScheduler
from mimicmotion.pipelines.lcm_scheduler import AnimateLCMSVDStochasticIterativeScheduler as LCMScheduler
from mimicmotion.pipelines.noise import draw_noise
from tests.conftest import SVD_SCHEDULER

EULER_CONFIG = {**SVD_SCHEDULER, "num_train_timesteps": 1000, "_class_name": "EulerDiscreteScheduler"}
SETTINGS = {
    LCMScheduler: [{}, {"num_grid_points": 18, "sigma_max": 80.0, "rho": 5.0, "s_noise": 0.9}],
    AlignYourStepsScheduler: [SVD_SCHEDULER],
}
SCHEDULERS = [(cls, settings) for cls, several in SETTINGS.items() for settings in several]


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trajectory(scheduler, steps=4, shape=(1, 2, 4, 2, 2)):
    """Samples after each step of a run with a made-up model, stacked."""
    scheduler.set_timesteps(steps)
    sample, generator = randn(*shape) * scheduler.init_noise_sigma, torch.Generator().manual_seed(1)
    samples = []
    for timestep in scheduler.timesteps:
        prediction = torch.sin(scheduler.scale_model_input(sample, timestep) + float(timestep))
        sample = scheduler.step(prediction, timestep, sample, generator=generator, return_dict=False)[0]
        samples.append(sample)
    return torch.stack(samples)


@pytest.mark.parametrize(("cls", "settings"), SCHEDULERS)
def test_saving_and_copying_keep_the_trajectory(cls, settings, tmp_path):
    scheduler = cls(**settings)
    expected = trajectory(scheduler)
    scheduler.save_pretrained(tmp_path)
    for copy in (cls.from_pretrained(tmp_path), cls.from_config(scheduler.config), cls(**settings)):
        assert torch.equal(trajectory(copy), expected)


@pytest.mark.parametrize(("cls", "settings"), SCHEDULERS)
def test_the_way_over_another_scheduler_and_back_keeps_the_trajectory(cls, settings):
    scheduler = cls(**settings)
    euler = EulerDiscreteScheduler.from_config(scheduler.config)
    assert torch.equal(trajectory(cls.from_config(euler.config)), trajectory(scheduler))


@pytest.mark.parametrize(("cls", "settings"), SCHEDULERS)
def test_scaling_twice_is_scaling_once(cls, settings):
    scheduler, sample = cls(**settings), randn(1, 2, 4, 2, 2)
    scheduler.set_timesteps(4)
    timestep, before = scheduler.timesteps[0], sample.clone()
    once = scheduler.scale_model_input(sample, timestep)
    assert torch.equal(scheduler.scale_model_input(sample, timestep), once)
    assert (scheduler.step_index, torch.equal(sample, before)) == (0, True)


@pytest.mark.parametrize(("cls", "settings"), SCHEDULERS)
def test_a_step_keeps_shape_type_and_its_inputs(cls, settings):
    scheduler = cls(**settings)
    scheduler.set_timesteps(4)
    prediction, sample = randn(1, 2, 4, 2, 2), randn(1, 2, 4, 2, 2, seed=1)
    kept = prediction.clone(), sample.clone()
    scheduler.scale_model_input(sample, scheduler.timesteps[0])
    output = scheduler.step(prediction, scheduler.timesteps[0], sample)
    assert (output.prev_sample.shape, output.prev_sample.dtype) == (sample.shape, sample.dtype)
    assert torch.equal(prediction, kept[0])
    assert torch.equal(sample, kept[1])


@pytest.mark.parametrize("steps", [1, 4, 8, 40])
@pytest.mark.parametrize(
    "form",
    [
        lambda t: t,
        float,
        lambda t: t.item(),
        lambda t: t.float(),
        lambda t: t.float().item(),
        lambda t: t.half(),
        lambda t: t.bfloat16(),
        lambda t: np.float64(t),
        lambda t: np.float32(t),
    ],
)
def test_a_timestep_is_known_in_every_form(form, steps):
    scheduler = LCMScheduler()
    scheduler.set_timesteps(steps)
    assert [scheduler.index_for_timestep(form(t)) for t in scheduler.timesteps] == list(range(steps))
    scheduler.step(torch.zeros(1), form(scheduler.timesteps[-1]), torch.zeros(1))
    assert scheduler.step_index == steps


def test_a_timestep_may_be_made_from_the_highest_noise_level():
    scheduler = LCMScheduler()
    scheduler.set_timesteps(4)
    scheduler.step(torch.zeros(1), float(scheduler.sigma_to_t(scheduler.config.sigma_max)), torch.zeros(1))
    assert scheduler.step_index == 1


@pytest.mark.parametrize("timestep", [1, np.int64(1), torch.tensor(1)])
def test_indices_are_no_timesteps(timestep):
    with pytest.raises(ValueError, match="not an index"):
        LCMScheduler().index_for_timestep(timestep)


@pytest.mark.parametrize("timestep", [1.0, torch.tensor(1.2, dtype=torch.float64), float("nan")])
def test_a_timestep_of_no_step_is_refused(timestep):
    scheduler = LCMScheduler()
    scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match="is not one of"):
        scheduler.index_for_timestep(timestep)


def test_noise_is_added_for_timesteps_in_single_precision():
    scheduler, clean, noise = LCMScheduler(), randn(3, 2), randn(3, 2, seed=1)
    chosen = scheduler.timesteps[[0, 17, 39]]
    expected = clean + noise * scheduler.sigmas[[0, 17, 39]][:, None]
    assert torch.equal(scheduler.add_noise(clean, noise, chosen.float()), expected)
    assert torch.equal(scheduler.add_noise(clean, noise, chosen), expected)
    with pytest.raises(ValueError, match="is not one of"):
        scheduler.add_noise(clean, noise, torch.full((3,), 5.0))


@pytest.mark.parametrize(
    "config", [EULER_CONFIG, EulerDiscreteScheduler(**SVD_SCHEDULER).config, EulerDiscreteScheduler().config]
)
def test_the_grid_does_not_follow_eulers_training_steps(config):
    scheduler = LCMScheduler.from_config(config)
    assert len(scheduler) == 40
    assert torch.equal(scheduler.sigmas, LCMScheduler().sigmas)


def test_eulers_training_steps_are_kept_for_the_way_back(tmp_path):
    LCMScheduler.from_config({**EULER_CONFIG, "num_train_timesteps": 500}).save_pretrained(tmp_path)
    scheduler = LCMScheduler.from_pretrained(tmp_path)
    assert len(scheduler) == 40
    assert EulerDiscreteScheduler.from_config(scheduler.config).config.num_train_timesteps == 500


@pytest.mark.parametrize("points", [None, 18])
def test_configurations_saved_with_the_published_name_load(points):
    saved = {"_class_name": LCMScheduler.__name__, "sigma_max": 700.0}
    if points is not None:
        saved["num_train_timesteps"] = points
    assert len(LCMScheduler.from_config(saved)) == (points or 40)


def test_the_published_name_of_the_grids_size_is_understood():
    published = LCMScheduler(num_train_timesteps=18)
    assert torch.equal(published.sigmas, LCMScheduler(num_grid_points=18).sigmas)
    assert len(LCMScheduler.from_config(published.config)) == 18
    with pytest.raises(TypeError):
        LCMScheduler(num_training_steps=18)


def test_chosen_noise_levels_are_used_by_align_your_steps():
    scheduler = AlignYourStepsScheduler(**SVD_SCHEDULER)
    scheduler.set_timesteps(sigmas=[700.0, 20.0, 1.0, 0.0])
    assert scheduler.sigmas.tolist() == [700.0, 20.0, 1.0, 0.0]
    assert len(scheduler.timesteps) == 3


@pytest.mark.parametrize("given", [{"num_inference_steps": 4, "sigmas": [700.0, 1.0, 0.0]}, {}])
def test_align_your_steps_takes_one_choice_of_levels(given):
    with pytest.raises(ValueError, match="sigmas"):
        AlignYourStepsScheduler(**SVD_SCHEDULER).set_timesteps(**given)


def test_a_step_with_one_generator_each_equals_single_steps():
    prediction, sample = randn(2, 3, 4), randn(2, 3, 4, seed=1)

    def step(entries, seeds):
        scheduler = LCMScheduler()
        scheduler.set_timesteps(2)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return scheduler.step(prediction[entries], scheduler.timesteps[0], sample[entries], generators).prev_sample

    both = step([0, 1], [3, 4])
    assert torch.equal(both, torch.cat([step([0], [3]), step([1], [4])]))
    with pytest.raises(ValueError, match="3 generators for 2"):
        step([0, 1], [3, 4, 5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seeds", [None, 5, [5, 6]])
def test_noise_is_what_diffusers_draws(seeds, dtype):
    def source():
        if isinstance(seeds, list):
            return [torch.Generator().manual_seed(seed) for seed in seeds]
        return None if seeds is None else torch.Generator().manual_seed(seeds)

    shape, device = (2, 3, 5), torch.device("cpu")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = randn_tensor(shape, generator=source(), device=device, dtype=dtype)
        torch.manual_seed(0)
        assert torch.equal(draw_noise(shape, source(), device, dtype), expected)


def test_edm_euler_and_euler_are_one():
    edm = EDMEulerScheduler(sigma_min=0.002, sigma_max=700.0, sigma_data=1.0, rho=7.0, prediction_type="v_prediction")
    assert torch.allclose(trajectory(edm), trajectory(EulerDiscreteScheduler(**SVD_SCHEDULER)), rtol=1e-3, atol=1e-3)


def test_tiles_and_step_counts_are_known_without_torch():
    code = (
        "from mimicmotion.pipelines import tile_windows, turbo_steps_and_guidance; import sys; "
        "sys.exit(' '.join({'torch', 'diffusers', 'transformers'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
