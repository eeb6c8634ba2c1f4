"""What users of diffusers do with any pipeline, done with this one; and wrong calls, refused before a network runs."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableVideoDiffusionPipeline,
    UniPCMultistepScheduler,
)
from diffusers.callbacks import PipelineCallback

from mimicmotion.pipelines.ays_scheduler import AlignYourStepsScheduler, align_your_steps
from mimicmotion.pipelines.lcm_scheduler import AnimateLCMSVDStochasticIterativeScheduler
from mimicmotion.pipelines.pipeline_mimicmotion import MimicMotionPipeline
from tests.conftest import SVD_SCHEDULER, make_pipeline, make_scheduler, make_tiny_vae
from tests.pipelines.test_pipeline import SIZE, assert_close, picture, poses, run

SVD_PARTS = ("vae", "image_encoder", "unet", "scheduler", "feature_extractor")
FRAMES = 4


@pytest.fixture(scope="module")
def small():
    """The micro pipeline with the tiny VAE, which loads and decodes quickly."""
    return make_pipeline(make_tiny_vae)


@pytest.fixture
def pipe(small):
    small.scheduler = make_scheduler()
    return small


@pytest.fixture(scope="module")
def svd_folder(small, tmp_path_factory):
    """A saved StableVideoDiffusionPipeline: the same networks without PoseNet."""
    folder = tmp_path_factory.mktemp("svd")
    small.scheduler = make_scheduler()
    as_svd(small).save_pretrained(folder)
    return folder


def as_svd(pipe):
    return StableVideoDiffusionPipeline(**{name: getattr(pipe, name) for name in SVD_PARTS})


def quick(pipe, **arguments):
    return run(pipe, **{"frames": FRAMES, "num_inference_steps": 2, "max_guidance_scale": 1.0} | arguments)


def load(folder, **arguments):
    loaded = MimicMotionPipeline.from_pretrained(folder, **arguments)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_from_pipe_takes_the_networks_of_stable_video_diffusion(pipe):
    made = MimicMotionPipeline.from_pipe(as_svd(pipe), pose_net=pipe.pose_net)
    made.set_progress_bar_config(disable=True)
    assert made.unet is pipe.unet
    assert torch.equal(quick(made), quick(pipe))


def test_stable_video_diffusion_runs_as_before_beside_it(pipe):
    def frames(svd):
        svd.set_progress_bar_config(disable=True)
        return svd(
            picture(), SIZE, SIZE, num_frames=2, num_inference_steps=1, output_type="latent",
            generator=torch.Generator().manual_seed(0), decode_chunk_size=2,
        ).frames  # fmt: skip

    pipeline = make_pipeline()
    before = as_svd(pipeline)
    expected = frames(before)
    made = MimicMotionPipeline.from_pipe(before, pose_net=pipeline.pose_net)
    quick(made)
    assert torch.equal(frames(before), expected)
    assert torch.equal(frames(StableVideoDiffusionPipeline.from_pipe(made)), expected)


def test_components_make_the_same_pipeline(pipe):
    made = MimicMotionPipeline(**pipe.components)
    made.set_progress_bar_config(disable=True)
    assert torch.equal(quick(made), quick(pipe))


@pytest.mark.parametrize(
    ("cls", "saved_in"),
    [
        (AlignYourStepsScheduler, "mimicmotion.pipelines.ays_scheduler"),
        (AlignYourStepsScheduler, "mimicmotion.schedulers"),
        (AnimateLCMSVDStochasticIterativeScheduler, "mimicmotion.pipelines.lcm_scheduler"),
        (AnimateLCMSVDStochasticIterativeScheduler, "mimicmotion.lcm_scheduler"),
    ],
)
def test_a_pipeline_saved_with_one_of_our_schedulers_loads(pipe, cls, saved_in, tmp_path):
    pipe.scheduler = cls.from_config(pipe.scheduler.config)
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    if saved_in.startswith("mimicmotion.pipelines."):
        assert index["scheduler"] == [saved_in, cls.__name__]
    else:
        (tmp_path / "model_index.json").write_text(json.dumps(index | {"scheduler": [saved_in, cls.__name__]}))
    loaded = load(tmp_path)
    assert type(loaded.scheduler) is cls
    assert_close(quick(loaded, num_inference_steps=3), quick(pipe, num_inference_steps=3))


def test_a_half_precision_variant_is_saved_and_loaded(tmp_path):
    pipe = make_pipeline(make_tiny_vae).to(torch.float16)
    pipe.save_pretrained(tmp_path, variant="fp16")
    weights = [path.name for path in tmp_path.rglob("*") if path.suffix in (".safetensors", ".bin")]
    assert len(weights) == 4
    assert all(name.endswith(".fp16.safetensors") for name in weights)
    loaded = load(tmp_path, variant="fp16", dtype=torch.float16)
    for name in ("vae", "image_encoder", "unet", "pose_net"):
        state = getattr(pipe, name).state_dict()
        for key, value in getattr(loaded, name).state_dict().items():
            assert value.dtype == torch.float16
            assert torch.equal(value, state[key]), f"{name}.{key}"


def test_a_type_reaches_every_network():
    pipe = make_pipeline(make_tiny_vae).to(torch.bfloat16)
    assert {getattr(pipe, name).dtype for name in ("vae", "image_encoder", "unet", "pose_net")} == {torch.bfloat16}


def test_a_pose_net_in_single_precision_joins_networks_in_half(pipe, svd_folder):
    half = load(svd_folder, pose_net=pipe.pose_net, dtype=torch.float16)
    assert (half.unet.dtype, half.pose_net.dtype) == (torch.float16, torch.float32)
    expected, result = quick(pipe), quick(half)
    assert (result - expected).abs().mean() < 0.05 * expected.std()


@pytest.mark.parametrize("videos", [1, 2])
@pytest.mark.parametrize("images", [1, 2])
def test_every_picture_has_its_number_of_videos(pipe, images, videos):
    frames = quick(pipe, image=[picture(i) for i in range(images)], num_videos_per_prompt=videos)
    assert frames.shape == (images * videos, FRAMES, 4, SIZE // 8, SIZE // 8)


def test_videos_of_several_pictures_equal_those_of_each_picture(pipe):
    images = [picture(0), picture(7)]
    settings = {"num_videos_per_prompt": 2, "noise_aug_strength": 0.1}
    together = quick(pipe, image=images, generator=generators(0, 1, 2, 3), **settings)
    for i, image in enumerate(images):
        alone = quick(pipe, image=image, generator=generators(2 * i, 2 * i + 1), **settings)
        assert_close(together[2 * i : 2 * i + 2], alone)


def test_poses_of_each_picture_serve_all_its_videos(pipe):
    own = torch.stack([poses(FRAMES), poses(FRAMES, seed=2)])
    noise = torch.randn(4, 6, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    settings = {"image": [picture()] * 2, "num_videos_per_prompt": 2, "latents": noise, "noise_aug_strength": 0}
    expected = quick(pipe, image_pose=own.repeat_interleave(2, dim=0), **settings)
    assert torch.equal(quick(pipe, image_pose=own, **settings), expected)
    last = quick(pipe, image_pose=own[1], latents=noise[3:], noise_aug_strength=0)
    assert_close(expected[3], last[0])


def test_poses_with_a_batch_of_one_serve_everybody(pipe):
    shared = quick(pipe, image=[picture()] * 2)
    assert torch.equal(quick(pipe, image=[picture()] * 2, image_pose=poses(FRAMES)[None]), shared)


@pytest.fixture
def no_network(pipe, monkeypatch):
    """The pipeline, where a network that runs fails the test."""
    for name in ("embed_image", "encode_reference", "_denoise"):
        monkeypatch.setattr(pipe, name, lambda *_: pytest.fail("a network ran"))
    return pipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"generator": generators(0)}, "1 generators for 2"),
        ({"generator": generators(0, 1, 2)}, "3 generators for 2"),
        ({"generator": generators(0, 1), "num_videos_per_prompt": 2}, "2 generators for 4"),
        ({"image_pose": torch.zeros(3, FRAMES, 3, SIZE, SIZE)}, "poses of 3 clips for 2 pictures"),
        ({"image_pose": torch.zeros(3, SIZE, SIZE)}, "drawn poses must be"),
        ({"image_pose": torch.zeros(FRAMES, 3, SIZE, SIZE, dtype=torch.int64)}, "uint8"),
        ({"latents": torch.zeros(1, 6, 4, 8, 8)}, r"latents must be \(2, frames, 4, 8, 8\)"),
        ({"latents": torch.zeros(2, 6, 4, 4, 8)}, "latents must be"),
        ({"latents": torch.zeros(2, 4, 8, 8)}, "latents must be"),
        ({"image": []}, "zero"),
        ({"image": torch.zeros(3, SIZE, SIZE)}, "4 dimensions"),
        ({"image_embeddings": torch.zeros(1, 1, 16)}, "2 in image, 1 in image_embeddings"),
        ({"image": None, "image_latents": torch.zeros(2, 4, 8, 8)}, "image_embeddings"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt"),
        ({"callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}, "not prompt_embeds"),
        ({"sigmas": [700.0, 0.0], "timesteps": [0, 20]}, "not both"),
        ({"sigmas": [700.0, 800.0, 0.0]}, "falling"),
        ({"sigmas": [700.0]}, "falling"),
        ({"sigmas": [700.0, float("nan"), 0.0]}, "falling"),
        ({"sigmas": [700.0, -1.0]}, "falling"),
        ({"timesteps": [900, 500]}, "timesteps"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_network_runs(no_network, arguments, message):
    with pytest.raises(ValueError, match=message):
        quick(no_network, **{"image": [picture(), picture(7)]} | arguments)


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler,
        DDPMScheduler,
        PNDMScheduler,
        HeunDiscreteScheduler,
        EulerAncestralDiscreteScheduler,
        UniPCMultistepScheduler,
        EDMEulerScheduler,
        lambda **settings: EulerDiscreteScheduler(**settings | {"timestep_type": "discrete"}),
        lambda **settings: EulerDiscreteScheduler(**settings | {"prediction_type": "epsilon"}),
    ],
)
def test_schedulers_that_the_unet_cannot_work_with_are_refused(no_network, scheduler):
    known = {name: SVD_SCHEDULER[name] for name in ("beta_schedule", "beta_start", "beta_end", "prediction_type")}
    if scheduler is EDMEulerScheduler:
        no_network.scheduler = EDMEulerScheduler()
    elif isinstance(scheduler, type):
        no_network.scheduler = scheduler(**known)
    else:
        no_network.scheduler = scheduler(**SVD_SCHEDULER)
    with pytest.raises(ValueError, match=r"EulerDiscreteScheduler \(as Stable Video Diffusion configures it\)"):
        quick(no_network)


@pytest.mark.parametrize("cls", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_edm_schedulers_work_with_svds_constants(pipe, cls):
    expected = quick(pipe, num_inference_steps=1)
    pipe.scheduler = cls(sigma_min=0.002, sigma_max=700.0, sigma_data=1.0, prediction_type="v_prediction")
    # One step from sigma 700 to 0 in single precision, which keeps 6e-5 of 700 at best.
    assert torch.allclose(quick(pipe, num_inference_steps=1), expected, atol=2e-3)


def test_noise_levels_may_be_chosen(pipe):
    chosen = quick(pipe, sigmas=align_your_steps(3).tolist())
    pipe.scheduler = AlignYourStepsScheduler(**SVD_SCHEDULER)
    assert torch.equal(chosen, quick(pipe, num_inference_steps=3))


def test_places_of_the_animate_lcm_grid_may_be_chosen(pipe):
    pipe.scheduler = AnimateLCMSVDStochasticIterativeScheduler()
    assert torch.equal(quick(pipe, timesteps=[0, 20]), quick(pipe, num_inference_steps=2))
    with pytest.raises(ValueError, match="takes no sigmas"):
        quick(pipe, sigmas=[700.0, 0.0])


def test_an_interrupted_run_gives_what_it_has(pipe):
    kept = []

    def stop(pipeline, step, _timestep, tensors):
        kept.append(tensors["latents"])
        pipeline._interrupt = step == 1
        return {}

    stopped = quick(pipe, num_inference_steps=4, callback_on_step_end=stop)
    assert len(kept) == 2
    assert torch.equal(stopped, kept[-1])
    assert pipe.interrupt
    quick(pipe, num_inference_steps=1)
    assert not pipe.interrupt


class Halve(PipelineCallback):
    """A callback in diffusers' form, which names the tensors it wants itself."""

    tensor_inputs = ("latents", "noise_pred")

    def callback_fn(self, pipeline, step_index, timesteps, callback_kwargs):
        assert sorted(callback_kwargs) == ["latents", "noise_pred"]
        return {"latents": callback_kwargs["latents"] / 2}


def test_callbacks_in_diffusers_form_are_asked_for_their_tensors(pipe):
    plain = quick(pipe, num_inference_steps=1)
    assert torch.equal(quick(pipe, num_inference_steps=1, callback_on_step_end=Halve()), plain / 2)


def test_the_snippet_of_the_page_runs_as_it_is(pipe, svd_folder, tmp_path):
    page = (Path(__file__).resolve().parents[2] / "doc" / "diffusers.md").read_text()
    snippet = page.split("```python\n")[1].split("```")[0]
    # The page's reader has SVD's own VAE; from_pipe hands over the tiny one of these tests as well.
    pipe.pose_net.save_pretrained(tmp_path)
    names = {"SVD_FOLDER": svd_folder, "POSE_NET_FOLDER": tmp_path, "image": picture(), "image_pose": poses(FRAMES)}
    exec(snippet, names)
    assert names["frames"].shape == (1, FRAMES, 3, SIZE, SIZE)
