"""The pipeline against a plain transcription of MimicMotion's loop, and the laws it adds."""

import logging

import numpy as np
import PIL.Image
import pytest
import torch

from mimicmotion.errors import NumericalError
from mimicmotion.pipelines.lcm_scheduler import AnimateLCMSVDStochasticIterativeScheduler
from mimicmotion.pipelines.pipeline_mimicmotion import MimicMotionPipeline
from mimicmotion.pipelines.schedulers import make_scheduler as make_by_name
from tests.conftest import SVD_SCHEDULER, make_pipeline, make_scheduler, make_tiny_vae, make_unet

SIZE = 64
RANGE_TOLERANCE = 1e-4  # of the latents' range; sigma starts at 700


def picture(seed=0, width=SIZE, height=SIZE):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def poses(count, seed=1):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def run(pipeline, frames=10, seed=0, **arguments):
    settings = {
        "tile_size": 6,
        "tile_overlap": 2,
        "num_inference_steps": 3,
        "min_guidance_scale": 1.0,
        "max_guidance_scale": 3.0,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(seed),
    } | arguments
    image = settings.pop("image", picture())
    image_pose = settings.pop("image_pose", poses(frames))
    return pipeline(image, image_pose, SIZE, SIZE, **settings).frames


def assert_close(actual, expected):
    span = expected.max() - expected.min()
    assert (actual - expected).abs().max() <= RANGE_TOLERANCE * span


@torch.no_grad()
def plain_mimicmotion(pipe, frames, tile, overlap, steps, first_guidance, last_guidance, strength, seed):
    """The published loop, one UNet call after the other, in order and without any of our helpers."""
    generator = torch.Generator().manual_seed(seed)
    image, image_pose = picture(), poses(frames)
    embeds = torch.cat([torch.zeros(1, 1, 16), pipe.embed_image(image)])
    pixels = pipe.video_processor.preprocess(image, height=SIZE, width=SIZE)
    pixels = pixels + strength * torch.randn(pixels.shape, generator=generator)
    image_latents = pipe.vae.encode(pixels).latent_dist.mode()
    image_latents = torch.cat([torch.zeros_like(image_latents), image_latents])[:, None].repeat(1, frames, 1, 1, 1)
    time_ids = torch.tensor([[6.0, 127.0, strength]] * 2)
    pipe.scheduler.set_timesteps(steps)
    latents = torch.randn(1, tile, 4, SIZE // 8, SIZE // 8, generator=generator) * pipe.scheduler.init_noise_sigma
    latents = latents.repeat(1, frames // tile + 1, 1, 1, 1)[:, :frames]
    guidance = torch.linspace(first_guidance, last_guidance, frames)[None, :, None, None, None]
    tiles = [[0, *range(i + 1, min(i + tile, frames))] for i in range(0, frames - tile + 1, tile - overlap)]
    if tiles[-1][-1] < frames - 1:
        tiles.append([0, *range(frames - tile + 1, frames)])
    weight = (torch.arange(tile) + 0.5) * 2.0 / tile
    weight = torch.minimum(weight, 2 - weight)[:, None, None, None]
    added = {}
    hook = pipe.unet.conv_in.register_forward_hook(lambda _m, _i, out: out + added["pose"] if added else out)
    for t in pipe.scheduler.timesteps:
        scaled = pipe.scheduler.scale_model_input(torch.cat([latents] * 2), t)
        model_input = torch.cat([scaled, image_latents], dim=2)
        total, count = torch.zeros_like(image_latents), torch.zeros(frames)
        for index in tiles:
            for half in (0, 1):
                added.clear()
                if half:
                    added["pose"] = pipe.pose_net(image_pose[index])
                v = pipe.unet(
                    model_input[half : half + 1, index],
                    t,
                    encoder_hidden_states=embeds[half : half + 1],
                    added_time_ids=time_ids[half : half + 1],
                    return_dict=False,
                )[0]
                total[half : half + 1, index] += v * weight
            count[index] += weight.flatten()
        total /= count[:, None, None, None]
        v = total[:1] + guidance * (total[1:] - total[:1])
        latents = pipe.scheduler.step(v, t, latents, generator=generator, return_dict=False)[0]
    hook.remove()
    return latents


@pytest.mark.parametrize(("frames", "tile", "overlap"), [(8, 8, 3), (12, 8, 3), (9, 8, 1), (20, 8, 2), (7, 3, 2)])
@pytest.mark.parametrize("scheduler", ["euler", "lcm"])
def test_latents_equal_the_published_loop(pipeline, frames, tile, overlap, scheduler):
    if scheduler == "lcm":
        pipeline.scheduler = AnimateLCMSVDStochasticIterativeScheduler()
    expected = plain_mimicmotion(pipeline, frames, tile, overlap, 2, 1.0, 3.0, 0.1, seed=5)
    actual = run(
        pipeline, frames, seed=5, tile_size=tile, tile_overlap=overlap, num_inference_steps=2, noise_aug_strength=0.1
    )
    assert_close(actual, expected)


def test_pose_changes_the_result(pipeline):
    assert not torch.allclose(run(pipeline), run(pipeline, image_pose=poses(10, seed=2)), atol=1e-3)


def test_same_seed_same_latents_and_another_seed_others(pipeline):
    assert torch.equal(run(pipeline), run(pipeline))
    assert not torch.allclose(run(pipeline), run(pipeline, seed=1), atol=1e-2)


@pytest.mark.parametrize("guidance", [1.0, 0.5])
def test_without_guidance_there_is_one_pass_with_pose(pipeline, guidance):
    calls = []
    hook = pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    plain = run(pipeline, 6, max_guidance_scale=guidance, min_guidance_scale=guidance)
    hook.remove()
    assert len(calls) == 3
    guided = run(pipeline, 6, min_guidance_scale=1.0, max_guidance_scale=1.0 + 1e-6)
    assert_close(plain, guided)


def test_decreasing_guidance_is_guidance(pipeline):
    ramp = run(pipeline, min_guidance_scale=3.0, max_guidance_scale=1.0)
    assert not torch.allclose(ramp, run(pipeline, max_guidance_scale=1.0), atol=1e-3)


def test_batched_passes_equal_separate_ones(pipeline):
    assert_close(run(pipeline, cfg_batch="on"), run(pipeline, cfg_batch="off"))


def test_batched_passes_split_when_memory_is_short(pipeline, monkeypatch, caplog):
    from mimicmotion.pipelines import pipeline_mimicmotion as module

    expected, forward = run(pipeline, cfg_batch="off"), pipeline.unet.forward

    def small_memory(sample, *arguments, **named):
        if len(sample) > 1:
            raise torch.OutOfMemoryError
        return forward(sample, *arguments, **named)

    init = module.TileGuide.__init__

    def on_gpu(self, *arguments):
        init(self, *arguments)
        self._batched = True

    monkeypatch.setattr(pipeline.unet, "forward", small_memory)
    monkeypatch.setattr(module.TileGuide, "__init__", on_gpu)
    with caplog.at_level(logging.INFO):
        assert torch.equal(run(pipeline, cfg_batch="auto"), expected)
    assert "one after the other" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        run(pipeline, cfg_batch="on")


def test_one_tile_equals_no_tiling(pipeline):
    assert torch.equal(run(pipeline, 6, tile_size=6), run(pipeline, 6, tile_size=6, tile_layout="even"))
    noise = torch.randn(1, 6, 4, 8, 8)
    assert torch.equal(run(pipeline, 6, tile_size=6, latents=noise), run(pipeline, 6, tile_size=50, latents=noise))


def test_even_tiles_differ_but_cover_everything(pipeline):
    even = run(pipeline, 14, tile_size=8, tile_overlap=4, tile_layout="even")
    assert torch.isfinite(even).all()
    assert not torch.equal(even, run(pipeline, 14, tile_size=8, tile_overlap=4))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_clips_shorter_than_a_tile_work(pipeline, frames):
    assert run(pipeline, frames, tile_size=6).shape == (1, frames, 4, 8, 8)


def test_bad_overlap_is_refused_before_any_network_runs(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline, "embed_image", lambda *_: pytest.fail("a network ran"))
    for overlap in (0, 6, 9):
        with pytest.raises(ValueError, match="overlap"):
            run(pipeline, 16, tile_overlap=overlap)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_batch_equals_single_runs(pipeline, guidance):
    images = [picture(0), picture(7)]
    both = run(
        pipeline,
        image=images,
        generator=[torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)],
        max_guidance_scale=guidance,
    )
    for i, image in enumerate(images):
        single = run(pipeline, image=image, generator=[torch.Generator().manual_seed(i)], max_guidance_scale=guidance)
        assert_close(both[i], single[0])


def test_a_batch_takes_poses_of_its_own(pipeline):
    own = torch.stack([poses(10), poses(10, seed=2)])
    noise = torch.randn(2, 6, 4, 8, 8)
    both = run(pipeline, image=[picture()] * 2, image_pose=own, latents=noise, noise_aug_strength=0)
    for i in range(2):
        single = run(pipeline, image_pose=own[i], latents=noise[i : i + 1], noise_aug_strength=0)
        assert_close(both[i], single[0])


def test_poses_may_be_bytes_or_drawn_when_needed(pipeline):
    class Drawn:
        def __init__(self, pictures):
            self.pictures = pictures

        def __len__(self):
            return len(self.pictures)

        def __getitem__(self, indices):
            return self.pictures[indices]

    pictures = ((poses(10) + 1) * 127.5).round().to(torch.uint8)
    expected = run(pipeline, image_pose=pictures / 127.5 - 1)
    assert torch.equal(run(pipeline, image_pose=pictures), expected)
    assert torch.equal(run(pipeline, image_pose=Drawn(pictures)), expected)


def test_computed_conditions_give_the_same_bits(pipeline):
    embeddings = pipeline.embed_image(picture())
    strength, generator = 0.1, torch.Generator().manual_seed(0)
    pixels = pipeline.video_processor.preprocess(picture(), height=SIZE, width=SIZE)
    image_latents = pipeline.encode_image(pixels + strength * torch.randn(pixels.shape, generator=generator))
    expected = run(pipeline, noise_aug_strength=strength)
    given = {"image_embeddings": embeddings, "image_latents": image_latents, "noise_aug_strength": strength}
    assert torch.equal(run(pipeline, **given), expected)
    assert torch.equal(run(pipeline, image=None, **given), expected)
    with pytest.raises(ValueError, match="image_latents"):
        run(pipeline, image=None, image_embeddings=embeddings)


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_output_types(pipeline, kind):
    frames = run(pipeline, 3, num_inference_steps=1, output_type=kind, decode_chunk_size=2)
    if kind == "pil":
        assert [len(frames), len(frames[0])] == [1, 3]
        assert frames[0][0].size == (SIZE, SIZE)
    else:
        assert frames.shape == ((1, 3, SIZE, SIZE, 3) if kind == "np" else (1, 3, 3, SIZE, SIZE))
        assert frames.min() >= 0
        assert frames.max() <= 1


def test_return_dict_off_gives_a_tuple(pipeline):
    assert isinstance(run_tuple(pipeline), tuple)


def run_tuple(pipeline):
    return pipeline(
        picture(), poses(2), SIZE, SIZE, num_inference_steps=1, output_type="latent", return_dict=False,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_type": "gif"}, "output_type"),
        ({"cfg_batch": "yes"}, "cfg_batch"),
        ({"num_frames": 11}, "as many drawn poses"),
        ({"image_only_indicator": True}, "image_only_indicator"),
        ({"image_pose": torch.zeros(10, 3, 32, 32)}, "drawn poses must be"),
    ],
)
def test_wrong_calls_say_what_is_wrong(pipeline, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(pipeline, **arguments)


def test_callback_sees_and_replaces_latents(pipeline):
    seen = []

    def record(pipe, step, timestep, tensors):
        assert pipe is pipeline
        seen.append((step, float(timestep), sorted(tensors)))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

    result = run(pipeline, callback_on_step_end=record, callback_on_step_end_tensor_inputs=["latents", "denoised"])
    assert [entry[0] for entry in seen] == [0, 1, 2]
    assert seen[0][2] == ["denoised", "latents"]
    assert result.abs().max() == 0


def test_denoised_of_the_last_step_is_the_result_of_euler(pipeline):
    kept = {}
    result = run(
        pipeline,
        callback_on_step_end=lambda _p, _i, _t, tensors: kept.update(tensors),
        callback_on_step_end_tensor_inputs=["denoised"],
    )
    assert torch.allclose(kept["denoised"], result, atol=1e-4)


def test_not_finite_latents_name_the_step(pipeline, monkeypatch):
    step = pipeline.scheduler.step

    def broken(*arguments, **named):
        latents = step(*arguments, **named)[0]
        return (latents * float("nan") if pipeline.scheduler.step_index == 2 else latents,)

    monkeypatch.setattr(pipeline.scheduler, "step", broken)
    with pytest.raises(NumericalError, match="step 2 of 3"):
        run(pipeline)


def test_decoding_in_chunks_keeps_order_and_equals_decode_latents(pipeline):
    latents = torch.randn(1, 7, 4, 8, 8)
    pieces = list(pipeline.decode_in_chunks(latents, 3))
    assert [piece.shape[1] for piece in pieces] == [3, 3, 1]
    whole = pipeline.decode_latents(latents, 7, 3)
    assert torch.equal(torch.cat(pieces, dim=1), whole.transpose(1, 2))
    expected = pipeline.vae.decode(latents[0, 3:6] / pipeline.vae.config.scaling_factor, num_frames=3).sample
    assert torch.equal(pieces[1][0], expected)


@pytest.mark.parametrize(("frames", "chunk", "overlap"), [(10, 4, 2), (9, 4, 1), (3, 8, 4), (8, 4, 3), (1, 4, 2)])
def test_overlapping_chunks_keep_the_number_of_frames(pipeline, frames, chunk, overlap):
    pieces = list(pipeline.decode_in_chunks(torch.randn(1, frames, 4, 8, 8), chunk, overlap))
    assert sum(piece.shape[1] for piece in pieces) == frames


def test_overlap_changes_nothing_where_the_vae_does_not_mix_frames():
    pipeline = make_pipeline(make_tiny_vae)
    latents = torch.randn(1, 9, 4, 8, 8)
    blended = torch.cat(list(pipeline.decode_in_chunks(latents, 4, 2)), dim=1)
    assert torch.allclose(blended, torch.cat(list(pipeline.decode_in_chunks(latents, 4)), dim=1), atol=1e-5)


def test_overlap_softens_the_seam(pipeline):
    latents = torch.randn(1, 1, 4, 8, 8).repeat(1, 12, 1, 1, 1)

    def jump(overlap):
        frames = torch.cat(list(pipeline.decode_in_chunks(latents, 6, overlap)), dim=1)[0]
        return (frames[1:] - frames[:-1]).abs().mean(dim=(1, 2, 3)).max()

    assert jump(4) < 0.7 * jump(0)


@pytest.mark.parametrize(("chunk", "overlap"), [(4, 4), (0, 0), (4, -1)])
def test_bad_chunks_are_refused(pipeline, chunk, overlap):
    with pytest.raises(ValueError, match="overlap"):
        list(pipeline.decode_in_chunks(torch.zeros(1, 4, 4, 8, 8), chunk, overlap))


def test_chunks_that_overflow_in_half_precision_are_decoded_again(monkeypatch, caplog):
    pipeline = make_pipeline(make_tiny_vae)
    latents = torch.randn(1, 4, 4, 8, 8)
    expected = pipeline.decode_latents(latents, 4, 2)
    pipeline.vae.to(torch.bfloat16)
    decode = pipeline.vae.decode

    def overflowing(z, *arguments, **named):
        result = decode(z, *arguments, **named)
        if z.dtype == torch.bfloat16:
            result.sample = result.sample * float("inf")
        return result

    monkeypatch.setattr(pipeline.vae, "decode", overflowing)
    with caplog.at_level(logging.WARNING):
        frames = pipeline.decode_latents(latents, 4, 2)
    assert pipeline.vae_fallback_count == 2
    assert "float32" in caplog.text
    assert pipeline.vae.dtype == torch.bfloat16
    assert torch.allclose(frames, expected, atol=0.1)


def test_a_vae_that_fails_in_full_precision_is_an_error(pipeline):
    with pytest.raises(NumericalError, match="frames 0 to 1"):
        list(pipeline.decode_in_chunks(torch.full((1, 2, 4, 8, 8), float("nan")), 2))


def test_the_scale_of_the_tiny_vaes_latents_is_undone_before_decoding():
    pipeline = make_pipeline(make_tiny_vae)
    pipeline.vae.register_to_config(scaling_factor=0.5)
    latents = torch.randn(1, 3, 4, 8, 8)
    with torch.no_grad():
        expected = pipeline.vae.decode(latents[0] / 0.5).sample
    assert_close(torch.cat(list(pipeline.decode_in_chunks(latents, 2)), dim=1)[0], expected)


def test_the_reference_is_encoded_by_the_tiny_vae_without_its_scale():
    pipeline = make_pipeline(make_tiny_vae)
    pixels = torch.rand(1, 3, SIZE, SIZE) * 2 - 1
    expected = pipeline.encode_image(pixels)
    pipeline.vae.register_to_config(scaling_factor=0.5)
    assert torch.equal(pipeline.encode_image(pixels), expected)
    with torch.no_grad():
        assert torch.equal(expected, pipeline.vae.encode(pixels).latents)


def test_offloading_sees_what_the_tiny_vae_is_asked():
    """diffusers moves a network when a hook on it runs; `encode` and `decode` must run it as `forward` does."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Counter(ModelHook):
        calls = 0

        def pre_forward(self, module, *arguments, **named):
            self.calls += 1
            return arguments, named

    pipeline, counter = make_pipeline(make_tiny_vae), Counter()
    add_hook_to_module(pipeline.vae, counter)
    latents = pipeline.encode_image(torch.zeros(1, 3, SIZE, SIZE))
    assert counter.calls == 1
    list(pipeline.decode_in_chunks(latents[None].repeat(1, 4, 1, 1, 1), 2))
    assert counter.calls == 3


def test_autoencoder_tiny_runs_the_whole_way():
    pipeline = make_pipeline(make_tiny_vae)
    frames = run(pipeline, 5, num_inference_steps=1, output_type="pt", decode_chunk_size=2)
    assert frames.shape == (1, 5, 3, SIZE, SIZE)


def test_compiled_unet_gives_the_same_numbers():
    pipeline = make_pipeline()
    pipeline.unet = make_unet(levels=1).eval()
    expected = run(pipeline, 6, tile_size=6, num_inference_steps=1, cfg_batch="off")
    pipeline.unet = torch.compile(pipeline.unet, backend="eager", fullgraph=True)
    assert_close(run(pipeline, 6, tile_size=6, num_inference_steps=1, cfg_batch="off"), expected)


def test_poses_reach_a_unet_set_after_construction():
    pipeline = make_pipeline()
    expected = run(pipeline, num_inference_steps=1)
    first = pipeline.unet
    pipeline.unet = make_pipeline().unet
    assert_close(run(pipeline, num_inference_steps=1), expected)
    assert not first.conv_in._forward_hooks


def test_saving_and_loading_keep_the_numbers(tmp_path):
    pipeline = make_pipeline()
    pipeline.save_pretrained(tmp_path)
    loaded = MimicMotionPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert_close(run(loaded), run(pipeline))


def test_half_precision_stays_near_single(pipeline):
    expected = run(pipeline, num_inference_steps=2)
    half = make_pipeline().to(torch.bfloat16)
    half.scheduler = make_scheduler()
    result = run(half, num_inference_steps=2)
    assert result.dtype == torch.float32
    assert (result - expected).abs().mean() < 0.1 * expected.std()


@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "AYS"])
def test_a_run_goes_on_from_a_later_step(pipeline, scheduler):
    pipeline.scheduler = make_by_name(scheduler, SVD_SCHEDULER)
    seen = []
    whole = run(pipeline, callback_on_step_end=lambda _p, _i, _t, tensors: seen.append(tensors["latents"]) or {})
    steps = []
    rest = run(
        pipeline, latents=seen[0], first_step=1, callback_on_step_end=lambda _p, i, *_: steps.append(i) or {}
    )
    assert steps == [1, 2]
    assert_close(rest, whole)


@pytest.mark.parametrize("scheduler", ["AnimateLCM_SVD", "DPMSolver++"])
def test_other_samplers_start_late_with_finite_latents(pipeline, scheduler):
    pipeline.scheduler = make_by_name(scheduler, SVD_SCHEDULER)
    pipeline.scheduler.set_timesteps(3)
    sigma = pipeline.scheduler.sigmas[1]
    noisy = sigma * torch.randn(1, 10, 4, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(0))
    calls = []
    result = run(pipeline, latents=noisy, first_step=1, callback_on_step_end=lambda *_: calls.append(1) or {})
    assert len(calls) == 2
    assert torch.isfinite(result).all()
    assert result.std() < sigma / 2


@pytest.mark.parametrize(("frames", "first_step"), [(9, 1), (10, 3), (None, 1)])
def test_a_late_start_needs_noisy_latents_of_all_frames(pipeline, frames, first_step):
    latents = None if frames is None else torch.zeros(1, frames, 4, SIZE // 8, SIZE // 8)
    with pytest.raises(ValueError, match="first_step"):
        run(pipeline, latents=latents, first_step=first_step)
