"""The published networks on a card that is none, made once."""

import itertools
import types

import pytest
import torch

from tests.conftest import SVD_SCHEDULER
from tests.fake_cuda.card import CUDA, fake_card, placed, require_guard
from tests.fake_cuda.published import networks

HEIGHT, WIDTH = 576, 1024


@pytest.fixture(scope="session")
def guard(tmp_path_factory):
    require_guard(tmp_path_factory.mktemp("guard"))


@pytest.fixture(scope="session")
def published(guard):
    """The published networks on the meta device."""
    return networks()


@pytest.fixture
def micro(guard):
    """Micro networks of the same classes on the meta device."""
    from tests.conftest import make_image_encoder, make_pose_net, make_temporal_vae, make_unet

    with torch.device("meta"):
        return make_unet(), make_temporal_vae(), make_image_encoder(), make_pose_net()


@pytest.fixture
def card(guard, monkeypatch):
    """A fake card, entered."""
    with fake_card(monkeypatch) as card:
        yield card


class Drawn:
    """Drawn poses that are made when they are asked for."""

    def __init__(self, count, height, width):
        self._count, self._size = count, (height, width)

    def __len__(self):
        return self._count

    def __getitem__(self, window):
        return torch.zeros(len(window), 3, *self._size, dtype=torch.uint8)


@pytest.fixture
def make_pipeline(monkeypatch):
    """Makes pipelines of fake half precision weights, placed as asked, the levels of their scheduler set."""
    made = []

    def make(parts, scheduler="AnimateLCM_SVD", steps=1, offload="none"):
        made.append(pipeline_of(parts, scheduler, steps, offload, monkeypatch))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.work_in_pieces(None)
        pipeline.remove_all_hooks()


def pipeline_of(parts, scheduler, steps, offload, monkeypatch):
    from transformers import CLIPImageProcessorPil

    from mimicmotion.pipelines import MimicMotionPipeline, make_scheduler, pipeline_mimicmotion
    from mimicmotion.weights import place_pipeline

    home = CUDA if offload == "none" else torch.device("cpu")
    unet, vae, clip, pose_net = (placed(part, home, torch.float16) for part in parts)
    # Fake tensors have no values: levels are chosen on true ones, and no picture is normalised.
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        scheduler = make_scheduler(scheduler, SVD_SCHEDULER)
        scheduler.set_timesteps(steps)
    scheduler.set_begin_index(0)
    pipeline = MimicMotionPipeline(vae, clip, unet, scheduler, CLIPImageProcessorPil(), pose_net)
    pipeline.set_progress_bar_config(disable=True)
    place_pipeline(pipeline, CUDA, offload)
    timesteps = scheduler.timesteps.to(CUDA)
    monkeypatch.setattr(pipeline_mimicmotion, "set_noise_levels", lambda *_: timesteps)
    pipeline.feature_extractor = lambda images, **_: types.SimpleNamespace(pixel_values=images)
    return pipeline


def call(pipeline, frames, tile, guidance=1.0, size=(HEIGHT, WIDTH), tile_overlap=None, **arguments):
    """Latents of a clip, fake."""
    pipeline.scheduler._step_index = None
    return pipeline(
        torch.zeros(1, 3, *size),
        Drawn(frames, *size),
        height=size[0],
        width=size[1],
        tile_size=tile,
        tile_overlap=tile_overlap or min(6, tile // 2),
        min_guidance_scale=guidance,
        max_guidance_scale=guidance,
        generator=torch.Generator("cpu").manual_seed(1),
        output_type="latent",
        **arguments,
    ).frames


def features(height, width, channels):
    """What image encoder and VAE would make of the reference."""
    latents = torch.zeros(1, 4, height // 8, width // 8, dtype=torch.float16, device=CUDA)
    return {"image_embeddings": torch.zeros(1, 1, channels, dtype=torch.float16, device=CUDA), "image_latents": latents}


def decode(pipeline, latents, chunks=1, **arguments):
    """Decodes the first chunks of a clip; returns how many frames they had."""
    pieces = itertools.islice(pipeline.decode_in_chunks(latents, **arguments), chunks)
    return sum(piece.shape[1] for piece in pieces)
