"""What decoding does when memory runs out or half precision overflows, and frames decoded in tiles."""

import logging
from itertools import pairwise

import pytest
import torch

from mimicmotion.pipelines import StandaloneVae
from mimicmotion.pipelines.spatial_tiles import in_tiles, starts
from tests.conftest import make_temporal_vae

LATENTS = torch.randn(1, 9, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return StandaloneVae(make_temporal_vae().eval(), torch.device("cpu"))


def decoded(decoder, *arguments):
    return torch.cat(list(decoder.decode_in_chunks(LATENTS, *arguments)), dim=1)


def run_out_of_memory(monkeypatch, decoder, fails):
    """`fails(frames)` says whether a call of the VAE with so many frames finds too little memory."""
    decode = decoder.vae.decode

    def small(latents, num_frames):
        if fails(num_frames):
            raise torch.OutOfMemoryError
        return decode(latents, num_frames=num_frames)

    monkeypatch.setattr(decoder.vae, "decode", small)


def test_smaller_chunks_give_what_they_give_from_the_start(decoder, monkeypatch, caplog):
    expected = decoded(decoder, 2, 1)
    assert decoder.decode_chunks == [(0, 2)]
    run_out_of_memory(monkeypatch, decoder, lambda frames: frames > 2)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(decoded(decoder, 8, 1), expected)
    assert decoder.decode_chunks == [(0, 2)]
    assert "--decode_chunk_size 2" in caplog.text


def test_frames_before_the_memory_ran_out_stay_and_none_is_lost(decoder, monkeypatch):
    whole, calls = decoded(decoder, 4, 2), []
    run_out_of_memory(monkeypatch, decoder, lambda frames: calls.append(frames) or calls == [4, 4])
    frames = decoded(decoder, 4, 2)
    assert frames.shape == whole.shape
    assert torch.equal(frames[:, :2], whole[:, :2])
    assert decoder.decode_chunks == [(0, 4), (2, 2)]


def test_a_single_frame_that_does_not_fit_is_the_error(decoder, monkeypatch):
    run_out_of_memory(monkeypatch, decoder, lambda frames: True)
    with pytest.raises(torch.OutOfMemoryError):
        decoded(decoder, 8)


def test_the_clip_stays_in_single_precision_once_half_overflowed(decoder, monkeypatch):
    decode, seen = decoder.vae.decode, []

    def overflowing(latents, num_frames):
        seen.append(latents.dtype)
        result = decode(latents, num_frames=num_frames)
        if latents.dtype == torch.bfloat16 and len(seen) == 2:
            result.sample.mul_(float("inf"))
        return result

    decoder.vae.to(torch.bfloat16)
    monkeypatch.setattr(decoder.vae, "decode", overflowing)
    decoded(decoder, 3)
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    assert decoder.vae_fallback_count == 2
    assert decoder.vae.dtype == torch.bfloat16


def enlarge(latents):
    """A decoder that looks at nothing but its pixel."""
    return torch.nn.functional.interpolate(latents[:, :3], scale_factor=8.0)


@pytest.mark.parametrize("size", [(8, 8), (9, 24), (17, 5)])
def test_tiles_of_a_local_decoder_are_the_whole(size):
    latents = torch.randn(2, 4, *size)
    assert torch.allclose(in_tiles(enlarge, latents, 8), enlarge(latents), atol=1e-6)


def test_a_frame_that_fits_is_decoded_at_once(decoder):
    assert torch.equal(decoded(decoder, 4, 0, 64), decoded(decoder, 4))
    assert decoded(decoder, 4, 0, 32).shape == decoded(decoder, 4).shape


@pytest.mark.parametrize("length", range(1, 200, 7))
def test_tiles_cover_a_side_and_share_a_quarter(length):
    begin = starts(length, 16)
    assert (begin[0], begin[-1]) == (0, max(length - 16, 0))
    assert all(0 < after - before <= 12 for before, after in pairwise(begin))
