"""The world model that is part of the repository."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mimicmotion.evaluation import colour_shift
from mimicmotion.streaming import encode, load_generator, read_world, to_uint8
from mimicmotion.world_training.coding import decode, psnr, to_pixels
from mimicmotion.world_training.coding import encode as encode_pixels
from mimicmotion.world_training.evaluation import gradient_energy, judged_blocks, play
from mimicmotion.world_training.vae_stage import unseen_frames
from mimicmotion.worlds import get_walk

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 15 * 2**20


@pytest.fixture(scope="module")
def generator():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return load_generator(read_world("configs/streaming/world.yaml"))


def test_it_is_small():
    files = list((ROOT / "assets/models/world").iterdir())
    assert {file.suffix for file in files} == {".safetensors"}
    assert sum(file.stat().st_size for file in files) <= LARGEST


def test_its_vae_brings_unseen_frames_back(generator):
    pixels = to_pixels(unseen_frames(4, 17, get_walk()))
    with torch.no_grad():
        latents = encode_pixels(generator.vae.vae, pixels)
        decoded = decode(generator.vae.vae, latents).clamp(-1, 1)
    assert psnr(decoded - pixels) > 25
    assert gradient_energy(to_uint8(decoded)[0].numpy()) > 0.4 * gradient_energy(to_uint8(pixels)[0].numpy())


def test_its_keys_are_obeyed(generator):
    """Two sessions of its own: every block is nearest to the true video of the key that was held."""
    judged = []
    for seed in (7_000_000, 7_000_001):
        judged += judged_blocks(play(generator, get_walk(), seed, 5))
    assert np.mean([entry["told"] == entry["key"] for entry in judged]) >= 0.75
    assert np.mean([entry["still"] == entry["key"] for entry in judged]) < 0.5


def test_it_stands_while_nothing_is_held(generator):
    image = unseen_frames(3, 1, get_walk())[2, 0]
    frames = generator.generate(image, [encode(generator.mode, "Q")] * 8)
    assert colour_shift(frames[-12:], image) < 8
    assert psnr(torch.from_numpy((frames[-1].astype(float) - image) / 127.5)) > 20


def test_it_plays(generator):
    image = unseen_frames(1, 1, get_walk())[0, 0]
    frames = generator.generate(image, [encode(generator.mode, "W")] * 2)
    assert frames.shape == (21, 64, 112, 3)
    # The first frame is the picture that the session began with, as far as the VAE can show it.
    error = (frames[0].astype(float) - image) / 127.5
    assert psnr(torch.from_numpy(error)) > 15
