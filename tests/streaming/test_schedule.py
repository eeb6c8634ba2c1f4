"""The few-step schedule against the published numbers and a plain loop."""

import pytest
import torch

from mimicmotion.errors import UsageError
from mimicmotion.streaming.schedule import block_generator, denoise, make_scheduler


@pytest.mark.parametrize(
    "steps, timesteps",
    [
        ((1000, 666, 333), [1000.0, 908.8427, 713.9794]),
        ((1000, 750, 500, 250), [1000.0, 937.5, 833.3333, 625.0]),
    ],
)
def test_published_timesteps(steps, timesteps):
    scheduler = make_scheduler(steps)
    torch.testing.assert_close(scheduler.timesteps, torch.tensor(timesteps), rtol=0, atol=1e-3)
    torch.testing.assert_close(scheduler.sigmas, torch.tensor([t / 1000 for t in timesteps] + [0.0]))


def test_timesteps_are_those_of_the_published_table():
    """Step k is entry 1000 - k of the shifted table of 1000."""
    sigmas = torch.linspace(1, 0, 1001, dtype=torch.float64)[:-1]
    table = torch.cat((5 * sigmas / (1 + 4 * sigmas) * 1000, torch.zeros(1)))
    steps = [1000, 900, 666, 333, 7]
    expected = torch.stack([table[1000 - k] for k in steps]).float()
    torch.testing.assert_close(make_scheduler(steps).timesteps, expected)


def test_denoise_is_the_plain_resampling_loop():
    flow = lambda x, t: 0.3 * x.sin() + t / 1000  # noqa: E731
    scheduler = make_scheduler((1000, 666, 333))
    noise = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0))
    found = denoise(flow, scheduler, noise, torch.Generator().manual_seed(1))
    fresh, x = torch.Generator().manual_seed(1), noise
    for index, (t, sigma) in enumerate(zip(scheduler.timesteps, scheduler.sigmas, strict=False)):
        clean = x - sigma * flow(x, t.item())
        eps = torch.randn(x.shape, generator=fresh)
        x = clean if index == 2 else (1 - scheduler.sigmas[index + 1]) * clean + scheduler.sigmas[index + 1] * eps
    torch.testing.assert_close(found, x)


def test_a_perfect_model_gives_the_clean_sample():
    clean, noise = torch.randn(2, 1, 4)
    levels = make_scheduler((1000,))
    torch.testing.assert_close(denoise(lambda x, t: noise - clean, levels, noise), clean)


def test_scheduler_is_shared_by_interleaved_runs():
    scheduler = make_scheduler((1000, 500))
    noise = torch.randn(1, 4)
    seen = []

    def flow(x, t):
        seen.append(t)
        if len(seen) == 1:  # another run starts in the middle of this one
            denoise(lambda x, t: x, scheduler, noise)
        return x

    denoise(flow, scheduler, noise)
    assert seen == [t.item() for t in scheduler.timesteps]


@pytest.mark.parametrize("steps", [(), (0,), (1001,), (500, 500), (333, 666)])
def test_impossible_steps_are_refused(steps):
    with pytest.raises(UsageError, match="fall"):
        make_scheduler(steps)


def test_noise_depends_on_seed_and_block():
    draws = {
        (seed, start): torch.rand(1, generator=block_generator(seed, start)).item()
        for seed in range(4)
        for start in range(0, 12, 3)
    }
    assert len(set(draws.values())) == 16
    assert draws[1, 3] == torch.rand(1, generator=block_generator(1, 3)).item()
