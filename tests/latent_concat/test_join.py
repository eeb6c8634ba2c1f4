"""Joining latents: counts, positions, what is dropped, and interpolation between frames."""

import pytest
import torch

from mimicmotion.errors import InputError
from mimicmotion.latent_concat.join import LatentSequence, decode_groups, join_clips, joins, overlap, slerp, transition


def clip(frames, seed):
    return torch.randn(1, frames, 4, 3, 2, generator=torch.Generator().manual_seed(seed)).half()


CLIPS = [clip(6, 0), clip(7, 1), clip(5, 2)]
NAMES = ["a", "b", "c"]


def shown(parts):
    return torch.cat([part.latents[:, part.hidden :].float() for part in parts], dim=1)


def test_one_clip_is_itself_without_its_reference():
    parts = join_clips(CLIPS[:1], NAMES[:1], interp_frames=5)
    assert len(parts) == 1
    assert parts[0].latents is CLIPS[0]
    assert parts[0].hidden == 1


@pytest.mark.parametrize("isolate", [False, True])
def test_a_cut_shows_the_clips_and_no_reference(isolate):
    parts = join_clips(CLIPS, NAMES, isolate=isolate)
    assert torch.equal(shown(parts), torch.cat([c[:, 1:] for c in CLIPS], dim=1).float())
    assert [part.hidden for part in parts] == ([1, 1, 1] if isolate else [1, 0, 0])


@pytest.mark.parametrize(("drop_first", "frames"), [("each", 15), ("first", 17), ("none", 18)])
def test_dropped_references(drop_first, frames):
    parts = join_clips(CLIPS, NAMES, drop_first=drop_first)
    assert shown(parts).shape[1] == frames
    assert sum(part.shown for part in parts) == frames
    if drop_first == "first":
        assert torch.equal(shown(parts)[:, 5], CLIPS[1][:, 0].float())


@pytest.mark.parametrize("mode", ["linear", "slerp"])
@pytest.mark.parametrize("count", [1, 4])
def test_n_frames_between_k_clips_add_n_times_k_minus_1(mode, count):
    parts = join_clips(CLIPS, NAMES, interp_frames=count, interp_mode=mode)
    assert shown(parts).shape[1] == 15 + 2 * count
    assert joins(parts) == [("a > b", 5, count), ("b > c", 11 + count, count)]
    assert torch.equal(shown(parts)[:, :5], CLIPS[0][:, 1:].float())


def test_an_overlap_shortens_and_leaves_the_rest_alone():
    parts = join_clips(CLIPS, NAMES, interp_frames=2, interp_mode="smooth")
    joined = shown(parts)
    assert joined.shape[1] == 15 - 2 * 2
    assert torch.equal(joined[:, :3], CLIPS[0][:, 1:4].float())
    assert torch.equal(joined[:, 5:7], CLIPS[1][:, 3:5].float())
    assert torch.equal(joined[:, 9:], CLIPS[2][:, 3:].float())
    assert joins(parts) == [("a > b", 3, 2), ("b > c", 7, 2)]


def test_cuts_are_found_where_the_next_clip_begins():
    assert joins(join_clips(CLIPS, NAMES)) == [("a > b", 5, 0), ("b > c", 11, 0)]
    assert joins(join_clips(CLIPS[:1], NAMES[:1])) == []


def test_what_is_given_goes_between():
    filling = [clip(3, 8).float(), clip(3, 9).float()]
    joined = shown(join_clips(CLIPS, NAMES, between=lambda i: filling[i]))
    assert torch.equal(joined[:, 5:8], filling[0])
    assert torch.equal(joined[:, 14:17], filling[1])


def test_clips_too_short_are_refused_by_name():
    with pytest.raises(InputError, match="clip b"):
        join_clips([clip(6, 0), clip(1, 1)], ["a", "b"])
    short = [CLIPS[0], clip(5, 1), CLIPS[2]]
    with pytest.raises(InputError, match=r"clip b .* 4, 4 of which"):
        join_clips(short, NAMES, interp_frames=2, interp_mode="smooth")
    assert len(join_clips(short[:2], NAMES[:2], interp_frames=2, interp_mode="smooth")) == 3


def test_linear_steps_are_even_and_repeat_no_end():
    frames = transition(torch.zeros(1, 1, 4, 1, 1), torch.ones(1, 1, 4, 1, 1), 3)
    assert frames[0, :, 0, 0, 0].tolist() == pytest.approx([0.25, 0.5, 0.75])


def test_slerp_keeps_the_size_that_linear_loses():
    start, end = clip(1, 0).float(), clip(1, 1).float()
    middle = {mode: transition(start, end, 1, mode).norm() for mode in ("linear", "slerp")}
    mean = (start.norm() + end.norm()) / 2
    assert middle["slerp"] == pytest.approx(mean.item(), rel=1e-5)
    assert middle["linear"] < 0.85 * mean


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_slerp_of_equal_scaled_and_zero_vectors_is_linear(share):
    vector, share = clip(1, 0).float(), torch.tensor(share)
    for end in (vector, 2 * vector, torch.zeros_like(vector), -vector):
        assert torch.allclose(slerp(vector, end, share), torch.lerp(vector, end, share), atol=1e-5)
        assert torch.isfinite(slerp(torch.zeros_like(vector), end, share)).all()


def test_slerp_turns_evenly():
    start, end = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    assert slerp(start, end, torch.tensor(1 / 3)).flatten().tolist() == pytest.approx([0.75**0.5, 0.5])


def test_an_overlap_of_equal_frames_is_these_frames():
    frames = clip(4, 0).float()
    assert torch.allclose(overlap(frames, frames), frames, atol=1e-5)


def test_any_slice_of_a_sequence_is_that_of_the_whole():
    parts = join_clips(CLIPS, NAMES, interp_frames=2)
    sequence = LatentSequence(parts)
    whole = torch.cat([part.latents.float() for part in parts], dim=1)
    assert sequence.shape == tuple(whole.shape)
    for start in range(whole.shape[1]):
        for stop in range(start + 1, whole.shape[1] + 3):
            assert torch.equal(sequence[:, start:stop], whole[:, start:stop])


def test_isolated_clips_are_groups_of_their_own():
    parts = join_clips(CLIPS, NAMES, interp_frames=2, isolate=True)
    groups = [(latents.shape[1], hidden) for latents, hidden in decode_groups(parts, isolate=True)]
    assert groups == [(6, 1), (2, 0), (7, 1), (2, 0), (5, 1)]
    assert [(latents.shape[1], hidden) for latents, hidden in decode_groups(parts)] == [(22, 1)]
