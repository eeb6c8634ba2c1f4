"""Fixtures: a written micro VAE and the latents of a few sessions."""

import pytest
import torch

from mimicmotion.world_training import frames, latents
from mimicmotion.world_training.vae_stage import VaeStage
from mimicmotion.worlds import draw_session, render

from . import standins


@pytest.fixture(autouse=True)
def few_frames(monkeypatch):
    """Sessions of two blocks, two in a file."""
    for module in (frames, latents):
        monkeypatch.setattr(module, "FRAMES", standins.FRAMES)
        monkeypatch.setattr(module, "CHUNK", standins.CHUNK)


@pytest.fixture(scope="session")
def clips():
    """Four sessions at micro size, one pixel in four of the true ones' rows and columns."""
    size = (standins.HEIGHT, standins.WIDTH)
    return [render(draw_session(seed, standins.FRAMES, standins.WALK).cameras, *size) for seed in range(4)]


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory, clips):
    """A folder with the VAE as it is at the start, exported."""
    folder = tmp_path_factory.mktemp("world")
    options = standins.vae_options(folder, columns=16)
    VaeStage(options, standins.WORLD, clips, standins.WALK, torch.device("cpu")).export()
    return folder / "out"


@pytest.fixture
def pool(vae_folder, tmp_path):
    return latents.open_latents(tmp_path / "latents", standins.encoder_in(vae_folder), 4, None)
