"""Memory of a clip hardly grows with its length: what stays of each frame is a few latents.

Bytes of torch's tensors are counted while they live, so that neither an allocator nor a neighbour has a say.
"""

import functools
import weakref
from collections import defaultdict

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mimicmotion.animation import decode_frames
from mimicmotion.config import SamplingSettings
from mimicmotion.features import DrawnPoses
from mimicmotion.modules import PoseFeatures
from mimicmotion.pipelines import pipeline_mimicmotion
from mimicmotion.pipelines.chunked_vae import ChunkedVae
from mimicmotion.pipelines.tile_fusion import TileSum
from tests.conftest import dancing_poses

SIDE, TILE, OVERLAP = 64, 16, 4
LATENTS = 4 * (SIDE // 8) ** 2 * 4  # bytes of a frame's
# 4.01 while sampling: the latents, what the UNet is shown of them, the sums of both passes' predictions.
MOST_SAMPLING, MOST_DECODING = 4.5, 1.5
FRAMES = (28, 52)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that come into being within and are alive; `peak` is the most."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._alive = defaultdict(int)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage):
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key):
        self.now -= self._alive.pop(key, 0)


@pytest.fixture
def peak(pipeline, monkeypatch):
    """A function that gives the peaks of sampling, one step with guidance, and decoding a clip of so many frames."""
    tile_bytes = TILE * 32 * (SIDE // 8) ** 2 * 4
    bounded = functools.partial(PoseFeatures, budget=2 * tile_bytes)
    monkeypatch.setattr(pipeline_mimicmotion, "PoseFeatures", bounded)

    def measure(frames):
        poses = DrawnPoses(dancing_poses(frames), SIDE, SIDE, budget=TILE * 3 * SIDE**2)
        known = {"image_embeddings": torch.zeros(1, 1, 16), "image_latents": torch.zeros(1, 4, SIDE // 8, SIDE // 8)}
        with torch.no_grad(), LiveBytes() as live:
            latents = pipeline(
                None, poses, SIDE, SIDE, tile_size=TILE, tile_overlap=OVERLAP, num_inference_steps=1,
                min_guidance_scale=2.0, max_guidance_scale=2.0, generator=torch.Generator().manual_seed(0),
                output_type="latent", **known,
            ).frames  # fmt: skip
            sampling, live.peak = live.peak, live.now
            for _ in decode_frames(pipeline, latents, SamplingSettings(decode_chunk_size=4, decode_overlap=1)):
                pass
        return torch.tensor([sampling, live.peak])

    return measure


def growth(peak):
    """Bytes of each further frame while sampling and while decoding, in those of its latents."""
    few, many = (peak(frames) for frames in FRAMES)
    return ((many - few) / (FRAMES[1] - FRAMES[0]) / LATENTS).tolist()


def test_a_longer_clip_costs_its_latents(peak):
    sampling, decoding = growth(peak)
    assert 1 <= sampling <= MOST_SAMPLING
    assert 1 <= decoding <= MOST_DECODING


def keep_predictions(monkeypatch):
    kept, add = [], TileSum.add
    monkeypatch.setattr(TileSum, "add", lambda self, tile, at: kept.append(tile) or add(self, tile, at))


def keep_features(monkeypatch):
    monkeypatch.setattr(pipeline_mimicmotion, "PoseFeatures", PoseFeatures)


def keep_pictures(monkeypatch):
    kept, draw = [], DrawnPoses.__getitem__

    def drawn(self, places):
        kept.append(draw(self, places))
        return kept[-1]

    monkeypatch.setattr(DrawnPoses, "__getitem__", drawn)


def keep_frames(monkeypatch):
    kept, decode = [], ChunkedVae._decode_chunk

    def decoded(self, *given):
        kept.append(decode(self, *given))
        return kept[-1]

    monkeypatch.setattr(ChunkedVae, "_decode_chunk", decoded)


@pytest.mark.parametrize("keep", [keep_predictions, keep_features, keep_pictures, keep_frames])
def test_what_is_kept_of_each_tile_or_chunk_would_show(peak, monkeypatch, keep):
    keep(monkeypatch)
    sampling, decoding = growth(peak)
    assert sampling > MOST_SAMPLING or decoding > MOST_DECODING
