"""The main job on a card that computes nothing: what it holds, against the plan; what it moves and waits for."""

import pytest
import torch

from mimicmotion.pipelines import PIECE
from mimicmotion.pipelines.vram_plan import GIB, Rung, Shape, peak
from tests.fake_cuda.card import CUDA
from tests.fake_cuda.conftest import HEIGHT, WIDTH, call, decode, features

TOLERANCE = 0.05
SMALL = (64, 64)


def planned(rung, frames, tile, guidance=1.0, chunk=8):
    return peak(Shape(tile, frames, HEIGHT, WIDTH, guidance > 1, chunk), rung)


def found(card):
    """Bytes at the most while sampling and while decoding."""
    return card.peaks["sampling"], card.peaks["decoding"]


def run(card, pipeline, frames, tile, guidance=1.0, size=(HEIGHT, WIDTH), **arguments):
    with card.during("sampling"):
        latents = call(pipeline, frames, tile, guidance, size, **arguments)
    with card.during("decoding"):
        decode(pipeline, latents, decode_chunk_size=8)
    return latents


def is_near(taken, expected):
    return taken == pytest.approx((expected.sampling, expected.decoding), rel=TOLERANCE)


def test_turbo_in_pieces_fits_a_card_of_12_gb_and_offloaded_one_of_8(card, published, make_pipeline):
    pipeline = make_pipeline(published)
    pipeline.work_in_pieces(PIECE)
    run(card, pipeline, 72, 72, **features(HEIGHT, WIDTH, 1024))
    sampling, decoding = found(card)
    assert is_near((sampling, decoding), planned(Rung(False, True, "none"), 72, 72))
    assert max(sampling, decoding) <= 11.0 * GIB
    offloaded = planned(Rung(False, True, "model"), 72, 72)
    assert offloaded.most <= 7.5 * GIB
    unet, vae, clip = (
        sum(parameter.nbytes for parameter in module.parameters())
        for module in (pipeline.unet, pipeline.vae, pipeline.image_encoder)
    )
    assert is_near((sampling - vae - clip, decoding - unet - clip), offloaded)


def test_guidance_in_one_batch_takes_what_the_plan_says(card, published, make_pipeline):
    run(card, make_pipeline(published), 72, 72, 2.0, **features(HEIGHT, WIDTH, 1024))
    assert is_near(found(card), planned(Rung(True, False, "none"), 72, 72, 2.0))
    assert card.copied["cuda to cpu", "sampling"] == 0


@pytest.mark.parametrize(
    ("scheduler", "guidance", "offload", "frames"),
    [
        ("AnimateLCM_SVD", 1.0, "none", 7),
        ("AnimateLCM_SVD", 2.0, "model", 4),
        ("EulerDiscreteScheduler", 2.0, "none", 7),
        ("EulerDiscreteScheduler", 1.0, "sequential", 4),
    ],
)
def test_nothing_mixes_devices_whatever_is_offloaded(card, micro, make_pipeline, scheduler, guidance, offload, frames):
    pipeline = make_pipeline(micro, scheduler, 1, offload)
    latents = run(card, pipeline, frames, 4, guidance, SMALL)
    assert (latents.device, latents.shape) == (CUDA, (1, frames, 4, 8, 8))
    assert card.reads == {"sampling": 3, "decoding": 1}, "embedding, latents of the reference, the step; a chunk"


def test_tiles_are_not_held_until_they_are_fused(card, micro, make_pipeline, monkeypatch):
    pipeline = make_pipeline(micro)
    monkeypatch.setattr(pipeline.unet, "forward", lambda sample, *_, **named: (sample[:, :, :4].clone(),))
    with card.during("sampling"):
        before = card.now
        call(pipeline, 100, 4, 2.0, SMALL, tile_overlap=3, cfg_batch="off", pose_strength=0.0, **features(*SMALL, 16))
    latents = 100 * 4 * 4 * 8 * 8
    assert card.peaks["sampling"] - before < 9 * latents, "97 tiles of two predictions each would be 8 more"


def test_pose_features_are_free_behind_the_first_convolution(card, micro, make_pipeline):
    pipeline, held = make_pipeline(micro), []
    pipeline.unet.down_blocks[0].register_forward_pre_hook(lambda *_: held.append(len(pipeline._injection._held)))
    call(pipeline, 2, 2, size=SMALL, **features(*SMALL, 16))
    assert held == [0]


def test_frames_come_to_the_host_and_a_tile_takes_less_of_the_card(card, micro, make_pipeline):
    pipeline, latents = make_pipeline(micro), torch.zeros(1, 8, 4, 64, 64, device=CUDA)
    taken = {}
    for tile in (None, 128):
        card.peaks.clear()
        with card.during("decoding"):
            frames = next(iter(pipeline.decode_in_chunks(latents, 8, decode_tile=tile)))
        assert (frames.device.type, frames.shape) == ("cpu", (1, 8, 3, 512, 512))
        taken[tile] = card.peaks["decoding"] - card.now
    assert taken[128] < 0.5 * taken[None]
