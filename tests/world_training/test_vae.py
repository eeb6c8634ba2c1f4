"""The VAE's start, its coding, and what export does to it."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLWan

from mimicmotion.errors import UsageError
from mimicmotion.streaming import load_vae, new_memory
from mimicmotion.world_training.carrying import carry_colours, carry_differences
from mimicmotion.world_training.coding import decode, encode, psnr, to_pixels
from mimicmotion.world_training.vae_stage import VaeStage, unseen_frames
from mimicmotion.worlds import get_walk

from .standins import WALK, WORLD, vae_options


def make_vae():
    torch.manual_seed(0)
    return AutoencoderKLWan(**WORLD.vae).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pixels():
    return to_pixels(unseen_frames(1, 9, get_walk("free")))


def test_coding_is_that_of_the_vae(pixels):
    vae, pixels = make_vae(), pixels[..., :32, :48]
    latents = vae.encode(pixels).latent_dist.mean
    assert torch.allclose(encode(vae, pixels), latents, atol=1e-5)
    assert torch.allclose(encode(vae, pixels, chunk=4), latents, atol=1e-5)
    assert torch.allclose(decode(vae, latents).clamp(-1, 1), vae.decode(latents).sample, atol=1e-5)
    memory = new_memory(vae.decoder)
    parts = [decode(vae, part, memory) for part in (latents[:, :, :2], latents[:, :, 2:])]
    assert torch.allclose(torch.cat(parts, dim=2), decode(vae, latents), atol=1e-5)


def test_the_start_carries_mean_colours(pixels):
    vae = make_vae()
    random = psnr(decode(vae, encode(vae, pixels)) - pixels)
    carry_colours(vae)
    latents = encode(vae, pixels)
    assert psnr(decode(vae, latents) - pixels) > max(19, random + 8)
    means = pixels[:, :, 5:].unflatten(2, (1, 4)).unflatten(4, (-1, 8)).unflatten(6, (-1, 8)).mean((3, 5, 7))
    correlation = torch.corrcoef(torch.stack((latents[0, :3, 2:].flatten(), means[0].flatten())))[0, 1]
    assert correlation > 0.97


def test_differences_are_told_by_nine_more_latents():
    vae, pixels = make_vae(), to_pixels(unseen_frames(8, 9, WALK))
    carry_colours(vae)
    carry_differences(vae)
    halves = pixels[:, :, 5:].unflatten(2, (1, 4)).unflatten(4, (-1, 8)).unflatten(6, (-1, 2, 4)).mean((3, 5, 8))
    across, told = halves[..., 1] - halves[..., 0], encode(vae, pixels)[:, 3:6, 2:]
    for colour in range(3):
        pair = torch.stack((told[:, colour].flatten(), across[:, colour].flatten()))
        assert torch.corrcoef(pair)[0, 1] > 0.9
    assert psnr(decode(vae, encode(vae, pixels)) - pixels) > 18


def test_a_wider_decoder_begins_as_the_narrower_one_and_learns_otherwise_in_each_copy(tmp_path, clips, pixels):
    stage = VaeStage(vae_options(tmp_path, columns=16), WORLD, clips, WALK, torch.device("cpu"))
    stage.export()
    wider = replace(WORLD, vae={**WORLD.vae, "decoder_base_dim": 2 * WORLD.vae["base_dim"]})
    options = vae_options(tmp_path, columns=16, init_from=tmp_path / "out")
    narrow = load_vae(tmp_path / "out" / "vae.safetensors", WORLD.vae)
    vae = VaeStage(options, wider, clips, WALK, torch.device("cpu")).vae.requires_grad_(False)
    latents = encode(narrow, pixels)
    assert torch.equal(encode(vae, pixels), latents)
    assert torch.allclose(decode(vae, latents), decode(narrow, latents), atol=0.02)  # attention is a little sharper
    one, other = vae.decoder.conv_out.weight.chunk(2, dim=1)
    assert not torch.allclose(one, other, atol=1e-3)
    uneven = replace(WORLD, vae={**WORLD.vae, "decoder_base_dim": WORLD.vae["base_dim"] + 2})
    with pytest.raises(UsageError, match="take a multiple"):
        VaeStage(options, uneven, clips, WALK, torch.device("cpu"))


def test_export_leaves_frames_as_they_were_and_makes_latents_white(tmp_path, clips):
    stage = VaeStage(vae_options(tmp_path, columns=16), WORLD, clips, WALK, torch.device("cpu"))
    stage.export()
    exported = load_vae(tmp_path / "out" / "vae.safetensors", WORLD.vae)
    pixels = torch.cat([to_pixels(clip[None]) for clip in clips])
    with torch.no_grad():
        before = decode(stage.vae, encode(stage.vae, pixels))
        latents = encode(exported, pixels)
        # Half precision of the weights is what may differ.
        assert (decode(exported, latents) - before).square().mean() < 1e-4
    mean, std = (torch.tensor(exported.config[name]) for name in ("latents_mean", "latents_std"))
    rows = ((latents.movedim(1, -1) - mean) / std).reshape(-1, 16)
    assert rows.mean(0).abs().max() < 0.2
    assert (torch.cov(rows.T) - torch.eye(16)).abs().max() < 0.3


def test_another_run_can_start_from_an_exported_vae(tmp_path, clips, vae_folder):
    options = vae_options(tmp_path, columns=16, init_from=vae_folder)
    stage = VaeStage(options, WORLD, clips, WALK, torch.device("cpu"))
    exported = load_vae(vae_folder / "vae.safetensors", WORLD.vae).state_dict()
    assert all(torch.equal(value, exported[name]) for name, value in stage.vae.state_dict().items())
