"""Latents of clips in files: round trip, and every kind of unusable entry is refused with its name."""

import logging

import pytest
import torch

from mimicmotion.errors import InputError, NumericalError
from mimicmotion.feature_cache.safe_pt import load_pt
from mimicmotion.latent_concat.entries import differences, load_latents, require_fitting, save_latents, stale_because

FACTS = {"video_name": "a.mp4", "fps": 15.0, "seed": 3, "model_hash": "m", "reference_hash": "r", "settings_hash": "s"}


def latents(frames=3, height=4, width=2):
    return torch.randn(1, frames, 4, height, width, generator=torch.Generator().manual_seed(0))


def entry(folder, name="a", frames=3, height=4, **facts):
    save_latents(folder / f"{name}.pt", latents(frames, height), FACTS | facts)
    return folder / f"{name}.pt"


def changed(path, latents=None, **metadata):
    content = load_pt(path)
    content["latents"] = content["latents"] if latents is None else latents
    content["metadata"] |= metadata
    torch.save(content, path)
    return path


def test_latents_come_back_in_half_precision(tmp_path):
    clip = load_latents(entry(tmp_path))
    assert torch.equal(clip.latents, latents().half())
    assert clip.metadata == FACTS | {
        "format_version": 1, "num_frames": 3, "height": 32, "width": 16, "dtype": "float16",
    }  # fmt: skip
    assert clip.name == "a"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 70000.0])
def test_what_is_not_finite_in_half_precision_is_not_written(tmp_path, value):
    broken = latents()
    broken[0, 1, 0, 0, 0] = value
    with pytest.raises(NumericalError, match=r"a\.pt"):
        save_latents(tmp_path / "a.pt", broken, FACTS)
    assert list(tmp_path.iterdir()) == []


def nan_latents():
    broken = latents(100).half()
    broken[0, 70] = float("nan")
    return broken


REPEATED = torch.zeros(1, dtype=torch.float16).as_strided((1, 3, 4, 4, 2), (0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("tensor", "metadata", "words"),
    [
        (nan_latents(), {"num_frames": 100}, "frame 70 are not finite"),
        (latents(), {}, "float32"),
        (latents()[0].half(), {}, "shape"),
        (torch.zeros(2, 3, 4, 4, 2, dtype=torch.float16), {}, "shape"),
        (torch.zeros(1, 3, 3, 4, 2, dtype=torch.float16), {}, "shape"),
        (torch.zeros(1, 0, 4, 4, 2, dtype=torch.float16), {"num_frames": 0}, "empty"),
        (REPEATED, {}, "claims the shape"),
        ([1, 2], {}, "list"),
        (None, {"num_frames": 4}, "shape"),
        (None, {"height": 64}, "shape"),
        (None, {"fps": 0.0}, "fps"),
        (None, {"fps": float("nan")}, "fps"),
        (None, {"seed": "3"}, "seed"),
        (None, {"format_version": 99}, "format version 99"),
    ],
)
def test_unusable_entries_are_refused(tmp_path, tensor, metadata, words):
    path = changed(entry(tmp_path), tensor, **metadata)
    with pytest.raises(InputError, match=words) as caught:
        load_latents(path)
    assert str(path) in str(caught.value)


def test_truncated_and_foreign_entries_are_refused(tmp_path):
    path = entry(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"a\.pt"):
        load_latents(path)
    torch.save({"clip_tokens": latents()}, path)
    with pytest.raises(InputError, match="expected latents and metadata"):
        load_latents(path)


@pytest.mark.parametrize(
    ("facts", "words"),
    [({"height": 8}, "height 64 and 32"), ({"fps": 12.0}, "fps 12.0 and 15.0"), ({"model_hash": "n"}, "model_hash n")],
)
def test_entries_that_cannot_share_a_video_are_refused(tmp_path, facts, words):
    first, other = entry(tmp_path, "a"), entry(tmp_path, "b", **facts)
    with pytest.raises(InputError, match=words) as caught:
        require_fitting([load_latents(first), load_latents(other)])
    assert str(first) in str(caught.value)
    assert str(other) in str(caught.value)


def test_another_seed_is_named_in_the_log(tmp_path, caplog):
    clips = [load_latents(entry(tmp_path, "a")), load_latents(entry(tmp_path, "b", seed=4))]
    with caplog.at_level(logging.WARNING):
        require_fitting(clips)
    assert "seed 4 and 3" in caplog.text
    assert "b.pt" in caplog.text


def test_differences_name_every_leaf():
    old = {"settings": {"turbo": {"scheduler": "AYS", "rho": 7}}, "weights": {"vae": "a" * 64}}
    new = {"settings": {"turbo": {"scheduler": "LCM", "rho": 7}}, "weights": {"vae": "b" * 64, "lcm": "c"}}
    lines = differences(old, new)
    assert lines[0] == "turbo.scheduler: 'AYS', now 'LCM'"
    assert lines[1].startswith("weights.vae: ")
    assert lines[2] == "weights.lcm: None, now 'c'"
    assert differences(old, old) == []


@pytest.mark.parametrize(("kept", "total", "wanted", "stale"), [(9, 9, 20, 0), (9, 30, 9, 0), (9, 30, 12, 1)])
def test_another_length_is_stale_only_if_it_would_change_the_clip(kept, total, wanted, stale):
    metadata = {"recipe": {}, "num_frames": kept, "total_frames": total}
    assert len(stale_because(metadata, {}, wanted)) == stale
