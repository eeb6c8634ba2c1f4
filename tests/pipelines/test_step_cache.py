"""Deep features used again: what is computed when, that stores do not mix, and where it is refused."""

import pytest
import torch

from mimicmotion.config import TestCase, load_config
from mimicmotion.errors import UsageError
from mimicmotion.pipelines import check_steps
from mimicmotion.pipelines.step_cache import StepCache
from tests.conftest import make_unet
from tests.pipelines import test_pipeline


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return make_unet().eval().requires_grad_(False)


def run(pipeline, **arguments):
    """Latents of 4 frames in two tiles of 3."""
    settings = {"frames": 4, "tile_size": 3, "tile_overlap": 2, "num_inference_steps": 3} | arguments
    return test_pipeline.run(pipeline, **settings)


def inputs(seed, height=8, width=8):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(1, 3, 8, height, width, generator=generator)
    return sample, torch.tensor(0.5), torch.randn(1, 1, 16, generator=generator), torch.tensor([[6.0, 127.0, 0.0]])


@torch.no_grad()
def predict(unet, arguments):
    return unet(*arguments, return_dict=False)[0]


def calls_of(module):
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("size", [(8, 8), (7, 9)], ids=["even", "odd"])
def test_the_same_input_gives_the_same_output_without_the_inner_blocks(unet, size):
    arguments = inputs(0, *size)
    expected = predict(unet, arguments)
    resnets = [unet.mid_block.resnets[0], unet.down_blocks[1].resnets[0], unet.up_blocks[0].resnets[0]]
    inner, outer = [calls_of(module) for module in resnets], calls_of(unet.up_blocks[1].resnets[0])
    cache = StepCache(unet, 3)
    for number in range(1, 8):
        with cache.step("tile"):
            assert torch.equal(predict(unet, arguments), expected)
        assert [len(calls) for calls in inner] == [-(-number // 3)] * 3
        assert len(outer) == number
    assert torch.equal(predict(unet, arguments), expected)


def test_a_step_that_uses_features_again_has_its_own_outer_ones(unet):
    cache, first, second = StepCache(unet, 2), inputs(0), inputs(1)
    whole = predict(unet, second)
    with cache.step("tile"):
        before = predict(unet, first)
    with cache.step("tile"):
        after = predict(unet, second)
    assert not torch.allclose(after, before, atol=1e-2) and not torch.equal(after, whole)


def test_stores_of_two_tiles_do_not_mix(unet):
    tiles = {"a": inputs(0), "b": inputs(1)}
    alone = {}
    for name, arguments in tiles.items():
        cache = StepCache(unet, 2)
        for _ in range(2):
            with cache.step(name):
                alone[name] = predict(unet, arguments)
    cache = StepCache(unet, 2)
    for _ in range(2):
        for name, arguments in tiles.items():
            with cache.step(name):
                found = predict(unet, arguments)
            assert torch.equal(found, alone[name])


def test_a_call_that_fails_leaves_the_unet_as_it_was_and_stores_nothing(unet):
    cache, arguments = StepCache(unet, 2), inputs(0)
    expected, names = predict(unet, arguments), [set(module.__dict__) for module in unet.modules()]
    for _ in range(3):
        with pytest.raises(RuntimeError, match="cut off"), cache.step("tile"):
            raise RuntimeError("cut off")
    calls = calls_of(unet.mid_block)
    with cache.step("tile"):
        assert torch.equal(predict(unet, arguments), expected)
    assert calls
    with pytest.raises(RuntimeError, match="cut off"), cache.step("tile"):
        raise RuntimeError("cut off")
    assert [set(module.__dict__) for module in unet.modules()] == names


def test_an_interval_of_one_is_the_plain_run_bit_for_bit(pipeline):
    plain = run(pipeline)
    assert torch.equal(run(pipeline, step_cache=1), plain)
    assert not torch.equal(run(pipeline, step_cache=2), plain)


def test_every_tile_and_half_has_its_store(pipeline):
    calls, inner = calls_of(pipeline.unet.conv_in), calls_of(pipeline.unet.mid_block.resnets[0])
    found = []
    for choice, passes in (("off", 4), ("on", 2)):
        calls.clear(), inner.clear()
        found.append(run(pipeline, cfg_batch=choice, step_cache=2))
        # Of 3 steps the first and the third are whole.
        assert len(calls) == 3 * passes and len(inner) == 2 * passes
    assert (found[0] - found[1]).abs().max() <= 1e-4 * (found[1].max() - found[1].min())


def test_features_from_steps_with_poses_are_not_used_in_steps_without(pipeline):
    inner = calls_of(pipeline.unet.mid_block.resnets[0])
    arguments = {"step_cache": 3, "cfg_batch": "on", "frames": 3}
    run(pipeline, **arguments)
    assert len(inner) == 1
    run(pipeline, **arguments, pose_end=0.5)
    assert len(inner) == 1 + 2


def test_a_unet_compiled_as_a_whole_is_refused(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline, "unet", torch.compile(pipeline.unet, backend="eager"))
    with pytest.raises(ValueError, match="compile its blocks"):
        run(pipeline, step_cache=2)
    with pytest.raises(ValueError, match="step_cache is 0"):
        run(pipeline, step_cache=0)


def settings(interval, scheduler, steps=None, **more):
    given = {"speed.step_cache": interval, "turbo.scheduler": scheduler, "turbo.num_inference_steps": steps}
    return load_config(given=given | more)


@pytest.mark.parametrize(
    ("interval", "scheduler", "steps", "reason"),
    [
        (2, "AYS", 5, "6 steps or more: in 5"),
        (2, "AnimateLCM_SVD", None, "AnimateLCM_SVD"),
        (2, "AnimateLCM_SVD", 8, "AnimateLCM_SVD"),
        (7, "AYS", 7, "leaves one whole"),
    ],
)
def test_where_it_is_no_win_it_is_refused(interval, scheduler, steps, reason):
    with pytest.raises(UsageError, match=f"--step_cache {interval}.*{reason}"):
        check_steps(settings(interval, scheduler, steps))


def test_where_it_is_made_for_it_passes():
    check_steps(settings(5, "AYS"))
    check_steps(settings(2, "EulerDiscreteScheduler", 6))
    check_steps(settings(1, "AnimateLCM_SVD"))


def test_the_case_with_the_fewest_steps_decides():
    config = settings(2, "EulerDiscreteScheduler")
    config.test_case = [TestCase(num_inference_steps=25), TestCase(num_inference_steps=4)]
    with pytest.raises(UsageError, match="in 4"):
        check_steps(config)
