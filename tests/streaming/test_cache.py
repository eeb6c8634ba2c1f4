"""Laws of the ring: it holds the newest latents, never moves them, and refuses gaps."""

import pytest
import torch

from mimicmotion.streaming.cache import RollingCache, ring_slots
from tests.streaming.micro import make_model


@pytest.mark.parametrize("window, frames", [(6, 3), (4, 3), (5, 2), (3, 3)])
def test_ring_holds_the_newest_latents(window, frames):
    held = {}
    for start in range(0, 60, frames):
        for latent, slot in zip(range(start, start + frames), ring_slots(start, frames, window, 0), strict=True):
            held[slot] = latent
        newest = set(range(max(0, start + frames - window), start + frames))
        assert set(held.values()) == newest


def test_sink_is_never_replaced():
    held = {}
    for start in range(0, 30, 3):
        for latent, slot in zip(range(start, start + 3), ring_slots(start, 3, 6, 2), strict=True):
            held[slot] = latent
    assert sorted(held.values()) == [0, 1, 26, 27, 28, 29]


def test_update_writes_slots_and_returns_those_in_use():
    cache = RollingCache(1, 4, 2, 1, 3, torch.float32, torch.device("cpu"))
    new = torch.arange(12.0).view(1, 2, 2, 1, 3)
    k, v = cache.update(torch.tensor([3, 0]), 4, new, -new)
    assert torch.equal(k[:, [3, 0]], new)
    assert torch.equal(v[:, [3, 0]], -new)
    assert not k[:, 1:3].any()
    k[0, 1, 0, 0, 0] = 5.0
    assert cache.k[0, 1, 0, 0, 0] == 5.0  # shared memory, no copy


def test_gaps_and_lost_latents_are_refused():
    cache = make_model().new_cache(1, 4, 6)
    cache.begin(30, 3)
    assert cache.count == 3
    for start in (27, 29, 34):
        with pytest.raises(ValueError, match="do not follow"):
            cache.begin(start, 3)
    cache.begin(33, 3)
    cache.begin(33, 3)
    assert (cache.first, cache.end, cache.count) == (30, 36, 6)
    with pytest.raises(ValueError, match="do not fit"):
        cache.begin(36, 7)


def test_restore_refuses_another_layout():
    cache = make_model().new_cache(1, 4, 6)
    tensors = {name: tensor.clone() for name, tensor in cache.tensors().items()}
    with pytest.raises(ValueError, match="layers"):
        make_model(num_layers=3).new_cache(1, 4, 6).restore(tensors, 0, 3)
    with pytest.raises(ValueError, match="shape"):
        make_model().new_cache(1, 4, 8).restore(tensors, 0, 3)
