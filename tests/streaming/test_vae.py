"""Streamed decoding and encoding equal diffusers' whole-clip paths, with the published frame counts."""

import pytest
import torch

from mimicmotion.streaming.vae import StreamingVAE, frame_count, to_uint8
from tests.streaming.micro import make_vae

H, W = 2, 3


@pytest.fixture(scope="module")
def vae():
    return StreamingVAE(make_vae())


def decode_blocks(vae, latents, block=3):
    memory, frames = None, []
    for start in range(0, latents.shape[2], block):
        part, memory = vae.decode(latents[:, :, start : start + block], memory)
        frames.append(part)
    return frames


def whole(vae, latents):
    return vae.vae.decode(latents * vae.std + vae.mean).sample


def random_latents(count, batch=1):
    return torch.randn(batch, 16, count, H, W, generator=torch.Generator().manual_seed(0))


def test_blocks_have_9_then_12_frames(vae):
    counts = [part.shape[2] for part in decode_blocks(vae, random_latents(12))]
    assert counts == [9, 12, 12, 12]
    assert sum(counts) == frame_count(12) == 45


def test_150_latents_are_597_frames(vae):
    assert sum(part.shape[2] for part in decode_blocks(vae, random_latents(150))) == frame_count(150) == 597


def test_one_latent_is_one_frame_then_four(vae):
    counts = [part.shape[2] for part in decode_blocks(vae, random_latents(5), block=1)]
    assert counts == [1, 4, 4, 4, 4]


@pytest.mark.parametrize("block", [1, 2, 3])
def test_streamed_decoding_equals_the_whole(vae, block):
    latents = random_latents(6, batch=2)
    streamed = torch.cat(decode_blocks(vae, latents, block), dim=2)
    torch.testing.assert_close(streamed, whole(vae, latents), rtol=0, atol=1e-5)


def test_two_sessions_do_not_touch_each_other(vae):
    one = random_latents(6)
    alone, other = decode_blocks(vae, one), decode_blocks(vae, -one)
    a0, memory_a = vae.decode(one[:, :, :3])
    b0, memory_b = vae.decode(-one[:, :, :3])
    a1, _ = vae.decode(one[:, :, 3:], memory_a)
    b1, _ = vae.decode(-one[:, :, 3:], memory_b)
    assert all(torch.equal(x, y) for x, y in zip((a0, a1, b0, b1), alone + other, strict=True))


def test_a_call_leaves_the_memory_it_was_given(vae):
    latents = random_latents(6)
    _, memory = vae.decode(latents[:, :, :3])
    kept = [item.clone() if isinstance(item, torch.Tensor) else item for item in memory]
    first, _ = vae.decode(latents[:, :, 3:], memory)
    again, _ = vae.decode(latents[:, :, 3:], memory)
    assert torch.equal(first, again)
    for before, after in zip(kept, memory, strict=True):
        assert torch.equal(before, after) if isinstance(before, torch.Tensor) else before is after


def test_streamed_encoding_equals_the_whole(vae):
    image = torch.rand(2, 3, 8 * H, 8 * W) * 2 - 1
    clip = torch.cat((image[:, :, None], torch.zeros(2, 3, 16, 8 * H, 8 * W)), dim=2)
    expected = (vae.vae.encode(clip).latent_dist.mode() - vae.mean) / vae.std
    torch.testing.assert_close(vae.encode_condition(image, 5), expected, rtol=1e-4, atol=1e-5)


def test_condition_tail_is_constant_and_does_not_know_the_image(vae):
    one, other = torch.rand(2, 1, 3, 8 * H, 8 * W) * 2 - 1
    a, b = vae.encode_condition(one, 34), vae.encode_condition(other, 34)
    assert torch.equal(a[:, :, 29:], b[:, :, 29:])
    assert torch.equal(a[:, :, 29:30].expand(-1, -1, 5, -1, -1), a[:, :, 29:])
    assert not torch.allclose(a[:, :, 0], b[:, :, 0])
    assert a[:, :, 29].abs().max() > 0.1  # and it is not zero
    assert torch.equal(vae.encode_condition(one), a[:, :, :30])


def test_both_halves_have_their_own_precision():
    vae = StreamingVAE(make_vae(), encode_dtype=torch.float32, decode_dtype=torch.bfloat16)
    exact = StreamingVAE(make_vae())
    image = torch.rand(1, 3, 8 * H, 8 * W) * 2 - 1
    assert torch.equal(vae.encode_condition(image, 2), exact.encode_condition(image, 2))
    frames, memory = vae.decode(random_latents(3))
    assert frames.dtype == torch.bfloat16
    assert {item.dtype for item in memory if isinstance(item, torch.Tensor)} == {torch.bfloat16}
    torch.testing.assert_close(frames.float(), exact.decode(random_latents(3))[0], rtol=0, atol=0.1)


def test_uint8_rounds_and_puts_channels_last():
    levels = torch.tensor([-1.5, -1.0, -0.999, 0.0, 0.999, 1.5]).view(1, 6, 1, 1).expand(3, 6, 1, 1)
    found = to_uint8(levels)
    assert found.shape == (6, 1, 1, 3)
    assert found[:, 0, 0, 0].tolist() == [0, 0, 0, 128, 255, 255]
