"""Tile windows and fusion against the published vectors, and their laws."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimicmotion.pipelines.tile_fusion import TileSum, tile_weights
from mimicmotion.pipelines.tiling import LAYOUTS, tile_windows


def fuse_tiles(predictions, windows, num_frames):
    fused = TileSum(num_frames)
    for prediction, window in zip(predictions, windows, strict=True):
        fused.add(prediction, window)
    return fused.mean()


def spans(num_frames, tile_size, tile_overlap):
    return [(window[1], window[-1]) for window in tile_windows(num_frames, tile_size, tile_overlap)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((120, 72, 6), [(1, 71), (49, 119)]),
        ((180, 72, 6), [(1, 71), (67, 137), (109, 179)]),
        ((139, 72, 6), [(1, 71), (67, 137), (68, 138)]),
        ((73, 72, 6), [(1, 71), (2, 72)]),
        ((40, 16, 6), [(1, 15), (11, 25), (21, 35), (25, 39)]),
    ],
)
def test_windows_match_the_published_ones(arguments, expected):
    assert spans(*arguments) == expected


def test_weights_match_the_published_ones():
    assert tile_weights(8).tolist() == [0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125]
    w = tile_weights(72)
    assert w[[0, 1, 35, 36]].tolist() == pytest.approx([0.0138889, 0.0416667, 0.9861111, 0.9861111], abs=1e-6)


def test_fusion_matches_the_published_vector():
    windows = tile_windows(12, 8, 3)
    assert windows == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 5, 6, 7, 8, 9, 10, 11]]
    fused = fuse_tiles([torch.full((1, 8), 10.0), torch.full((1, 8), 20.0)], windows, 12)
    expected = [15, 10, 10, 10, 10, 13.75, 16.25, 18.75, 20, 20, 20, 20]
    assert fused[0].tolist() == pytest.approx(expected)


tiles = st.integers(2, 30).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size - 1)))


@given(st.integers(1, 200), tiles, st.sampled_from(LAYOUTS))
def test_windows_cover_every_frame_and_have_the_tile_size(num_frames, tile, layout):
    windows = tile_windows(num_frames, *tile, layout)
    assert set().union(*windows) == set(range(num_frames))
    for window in windows:
        assert len(window) == min(tile[0], num_frames)
        assert window[0] == 0
        assert window == sorted(set(window))


@given(st.integers(1, 200), tiles)
def test_even_layout_costs_the_same_number_of_tiles(num_frames, tile):
    assert len(tile_windows(num_frames, *tile, "even")) == len(tile_windows(num_frames, *tile, "upstream"))


@given(st.integers(1, 60), tiles, st.sampled_from(LAYOUTS))
def test_fusing_what_agrees_changes_nothing(num_frames, tile, layout):
    windows = tile_windows(num_frames, *tile, layout)
    whole = torch.arange(num_frames, dtype=torch.float32)[None]
    assert torch.allclose(fuse_tiles([whole[:, w] for w in windows], windows, num_frames), whole, rtol=1e-5)


def test_a_short_clip_is_one_tile():
    assert tile_windows(5, 16, 6) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    "arguments", [(48, 16, 0), (48, 16, 16), (48, 16, 20), (48, 16, -1), (5, 16, 16), (0, 16, 6), (9, 1, 0)]
)
def test_sizes_that_leave_frames_out_are_refused(arguments):
    with pytest.raises(ValueError, match=r"overlap|at least 1 frame"):
        tile_windows(*arguments)


def test_unknown_layouts_are_refused():
    with pytest.raises(ValueError, match="even"):
        tile_windows(48, 16, 6, "evn")
