"""How strongly the pose and the reference's embedding act, and in which steps; the laws that these settings keep."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimicmotion.pipelines.pipeline_mimicmotion import posed_steps
from mimicmotion.pipelines.schedulers import make_scheduler as make_by_name
from tests.conftest import make_scheduler
from tests.pipelines.test_pipeline import picture, poses, run

SCHEDULERS = ["EulerDiscreteScheduler", "AnimateLCM_SVD", "AYS", "DPMSolver++"]
FRAMES, TILE = 4, 3


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


EMBEDDINGS, IMAGE_LATENTS = random(1, 1, 16), random(1, 4, 8, 8)


@pytest.fixture
def sample(pipeline):
    """Samples two tiles of a picture that is encoded already; `scale` is a factor on PoseNet's own one."""

    def sample(scheduler="EulerDiscreteScheduler", guidance=1.0, cfg_batch="on", scale=1.0, steps=2, **arguments):
        pipeline.scheduler = make_by_name(scheduler, make_scheduler().config)
        own = pipeline.pose_net.scale.data.clone()
        encoded = {"image": None, "image_embeddings": EMBEDDINGS, "image_latents": IMAGE_LATENTS}
        try:
            pipeline.pose_net.scale.data *= scale
            return run(
                pipeline, FRAMES, tile_size=TILE, tile_overlap=1, num_inference_steps=steps, cfg_batch=cfg_batch,
                min_guidance_scale=guidance, max_guidance_scale=guidance, **encoded | arguments,
            )  # fmt: skip
        finally:
            pipeline.pose_net.scale.data = own

    return sample


def per_step(sample, **arguments):
    """The latents after every step."""
    seen = []
    sample(callback_on_step_end=lambda _p, _i, _t, tensors: seen.append(tensors["latents"].clone()) or {}, **arguments)
    return seen


@pytest.mark.parametrize(
    ("scheduler", "guidance", "cfg_batch"),
    [*((scheduler, 2.0, "on") for scheduler in SCHEDULERS), ("AnimateLCM_SVD", 1.0, "on"), ("AYS", 2.0, "off")],
)
def test_strength_0_is_a_silent_pose_net(sample, pipeline, monkeypatch, scheduler, guidance, cfg_batch):
    way = {"scheduler": scheduler, "guidance": guidance, "cfg_batch": cfg_batch}
    silent = sample(**way, scale=0.0)
    assert not torch.equal(silent, sample(**way))
    monkeypatch.setattr(pipeline.pose_net, "forward", lambda _: pytest.fail("PoseNet ran"))
    assert torch.equal(sample(**way, pose_strength=0.0), silent)
    assert torch.equal(sample(**way, pose_start=0.5, pose_end=0.5), silent)


@pytest.mark.parametrize(("scheduler", "strength"), [("EulerDiscreteScheduler", 0.5), ("AnimateLCM_SVD", 2.0)])
def test_the_strength_is_a_factor_on_the_features(sample, scheduler, strength):
    """By powers of two, so that no bit is rounded."""
    way = {"scheduler": scheduler, "guidance": 2.0}
    assert torch.equal(sample(**way, pose_strength=strength), sample(**way, scale=strength))


def test_from_the_same_to_the_same_is_never(sample):
    never = sample(pose_strength=0.0)
    assert all(torch.equal(sample(pose_start=place, pose_end=place), never) for place in (0.0, 0.5, 1.0))


@pytest.mark.parametrize("scheduler", ["AnimateLCM_SVD", "DPMSolver++"])
def test_before_the_start_there_is_no_pose_and_up_to_the_end_there_is(sample, scheduler):
    way = {"scheduler": scheduler, "steps": 4}
    without, always = per_step(sample, **way, pose_strength=0.0), per_step(sample, **way)
    late, early = per_step(sample, **way, pose_start=0.5), per_step(sample, **way, pose_end=0.5)
    for step in range(4):
        assert torch.equal(late[step], without[step]) == (step < 2)
        assert torch.equal(early[step], always[step]) == (step < 2)


def test_a_late_first_step_counts_from_the_whole_run(sample):
    """A bridge begins at a later step; its steps keep their places."""
    way = {"steps": 4, "first_step": 2, "latents": random(1, FRAMES, 4, 8, 8)}
    assert torch.equal(sample(**way, pose_end=0.5), sample(**way, pose_strength=0.0))
    assert torch.equal(sample(**way, pose_start=0.5), sample(**way))


@given(st.integers(1, 60), st.lists(st.floats(0, 1), min_size=4, max_size=4).map(sorted))
def test_wider_ranges_hold_more_steps_and_neighbours_share_none(steps, shares):
    lowest, low, high, highest = shares
    assert posed_steps(steps, low, high) <= posed_steps(steps, lowest, highest) <= set(range(steps))
    assert posed_steps(steps, 0, 1) == set(range(steps))
    assert posed_steps(steps, low, low) == set()
    halves = posed_steps(steps, 0, low), posed_steps(steps, low, 1)
    assert halves[0] | halves[1] == set(range(steps)) and not halves[0] & halves[1]


@pytest.mark.parametrize(("start", "end", "steps"), [(0.3, 0.7, 10), (0.29, 0.58, 100), (0.1, 0.9, 10)])
def test_shares_as_people_write_them_meet_their_steps(start, end, steps):
    assert posed_steps(steps, start, end) == set(range(round(start * steps), round(end * steps)))


@pytest.mark.parametrize(("strength", "guidance"), [(0.0, 2.0), (0.5, 1.0), (1.0, 2.0), (3.0, 2.0)])
def test_the_embeddings_strength_is_a_factor_on_it(sample, strength, guidance):
    scaled = sample(guidance=guidance, image_embeddings=EMBEDDINGS * strength)
    assert torch.equal(sample(guidance=guidance, image_embed_strength=strength), scaled)
    assert torch.equal(scaled, sample(guidance=guidance)) == (strength == 1)


def test_an_embedding_that_is_computed_here_is_scaled_like_a_given_one(sample, pipeline):
    embeddings = pipeline.embed_image(picture())
    given = sample(image=picture(), image_embeddings=embeddings, image_embed_strength=0.5)
    assert torch.equal(sample(image=picture(), image_embeddings=None, image_embed_strength=0.5), given)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"pose_strength": -0.1}, "pose_strength"),
        ({"pose_strength": 10.5}, "pose_strength"),
        ({"pose_strength": float("nan")}, "pose_strength"),
        ({"image_embed_strength": -1}, "image_embed_strength"),
        ({"image_embed_strength": float("inf")}, "image_embed_strength"),
        ({"pose_start": -0.1}, "pose_start"),
        ({"pose_end": 1.1}, "pose_end"),
        ({"pose_start": 0.6, "pose_end": 0.5}, "start <= end"),
        ({"pose_start": float("nan")}, "pose_start"),
    ],
)
def test_values_out_of_range_are_refused_before_any_network_runs(pipeline, monkeypatch, arguments, word):
    monkeypatch.setattr(pipeline, "embed_image", lambda *_: pytest.fail("a network ran"))
    with pytest.raises(ValueError, match=word):
        run(pipeline, image_pose=poses(2), frames=2, **arguments)
