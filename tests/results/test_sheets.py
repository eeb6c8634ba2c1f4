"""Sheets: every row is there, in order and in colour, and the size stays sane for any input."""

import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mimicmotion.errors import SetupError
from mimicmotion.results.sheets import MAX_HEIGHT, MAX_WIDTH, Row, comparison_frames, contact_sheet, evenly_spaced

RED, GREEN, BLUE = (230, 20, 20), (20, 230, 20), (20, 20, 230)


def solid(colour, height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def bands(sheet: np.ndarray, axis: int) -> list[str]:
    """The colours that appear along an axis (0: top to bottom), without repetition."""
    seen = []
    for line in np.moveaxis(sheet.astype(int), axis, 0):
        for name, colour in (("red", RED), ("green", GREEN), ("blue", BLUE)):
            if (np.abs(line - colour).max(axis=-1) < 20).sum() > 30 and seen[-1:] != [name]:
                seen.append(name)
    return seen


def test_rows_and_columns_in_order(tmp_path):
    path = tmp_path / "sheet.jpg"
    contact_sheet(path, [("a", [solid(RED)] * 3), ("b", [solid(BLUE)]), ("c", [solid(GREEN)] * 2)], title="t")
    with Image.open(path) as image:
        assert image.format == "JPEG"
        assert bands(np.asarray(image), axis=0) == ["red", "blue", "green"]
    contact_sheet(path, [("a", [solid(GREEN), solid(RED), solid(BLUE)])])
    with Image.open(path) as image:
        assert bands(np.asarray(image), axis=1) == ["green", "red", "blue"]
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.jpg"]


def test_labels_are_drawn(tmp_path):
    def sheet(label: str) -> np.ndarray:
        contact_sheet(tmp_path / "sheet.jpg", [(label, [solid(RED)])])
        with Image.open(tmp_path / "sheet.jpg") as image:
            return np.asarray(image)

    plain, labelled = sheet(""), sheet("driving")
    assert plain.shape == labelled.shape
    changed = np.abs(plain.astype(int) - labelled).max(axis=(1, 2)) > 100
    # Letters of a readable height, above the picture.
    assert 10 <= changed.sum() <= 24 and np.flatnonzero(changed).max() < 28


SIZES = [
    [(1, 1)] * 3,
    [(4000, 3000)] * 2,
    [(10, 2000)] * 40,
    [(2000, 10)] * 40,
    [(576, 1024)] * 500,
    [(64, 64), (65, 33), (128, 20)],
]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("num_rows", [1, 20])
def test_size_is_sane(tmp_path, sizes, num_rows):
    frames = {size: solid(RED, *size) for size in sizes}
    rows = [("label " * 100, [frames[size] for size in sizes])] * num_rows
    contact_sheet(tmp_path / "sheet.jpg", rows, tile_width=400)
    with Image.open(tmp_path / "sheet.jpg") as image:
        assert image.width <= MAX_WIDTH and image.height <= MAX_HEIGHT


def test_sheet_without_frames(tmp_path):
    with pytest.raises(ValueError):
        contact_sheet(tmp_path / "sheet.jpg", [("a", [])])
    contact_sheet(tmp_path / "sheet.jpg", [("empty", []), ("b", [solid(BLUE)])])
    with Image.open(tmp_path / "sheet.jpg") as image:
        assert bands(np.asarray(image), axis=0) == ["blue"]


def test_full_disk(tmp_path, monkeypatch):
    def no_space(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(SetupError, match=r"sheet\.jpg: the disk is full"):
        contact_sheet(tmp_path / "sheet.jpg", [("a", [solid(RED)])])
    assert list(tmp_path.iterdir()) == []


@given(st.integers(0, 500), st.integers(1, 40))
def test_evenly_spaced(total, count):
    indices = evenly_spaced(total, count)
    assert len(indices) == min(total, count)
    assert indices == sorted(set(indices)) and all(0 <= index < total for index in indices)
    gaps = np.diff(indices)
    assert len(gaps) == 0 or (gaps.max() - gaps.min() <= 1 and indices[0] == 0 and indices[-1] == total - 1)


def test_comparison_puts_panels_side_by_side():
    left, middle, right = solid(RED, 64, 48), solid(GREEN, 128, 128), solid(BLUE, 32, 64)
    wide = comparison_frames(left, middle, right)
    assert wide.shape == (32, 24 + 32 + 64, 3) and wide.dtype == np.uint8
    assert (wide[:, :24] == RED).all() and (wide[:, 24:56] == GREEN).all() and (wide[:, 56:] == BLUE).all()
    assert comparison_frames(left, right, height=64).shape == (64, 48 + 128, 3)


def test_comparison_of_videos_is_frame_by_frame():
    one = np.stack([solid(RED, 8, 8), solid(GREEN, 8, 8)])
    two = np.stack([solid(BLUE, 16, 8), solid(RED, 16, 8)])
    wide = comparison_frames(one, two)
    assert wide.shape == (2, 8, 12, 3)
    assert np.array_equal(wide[1], comparison_frames(one[1], two[1]))
    with pytest.raises(ValueError, match="side by side"):
        comparison_frames(one, two[:1])
    assert comparison_frames(one[:0], two[:0]).shape == (0, 8, 12, 3)


def test_captions_stand_under_the_tiles_and_a_subtitle_above_all(tmp_path):
    def sheet(*row, **texts) -> np.ndarray:
        contact_sheet(tmp_path / "sheet.jpg", [row, ("next", [solid(BLUE)])], **texts)
        with Image.open(tmp_path / "sheet.jpg") as image:
            return np.asarray(image).astype(int)

    frames = [solid(RED), solid(GREEN)]
    plain, captioned = sheet("row", frames), sheet("row", frames, ["frame 3", ""])
    added = captioned.shape[0] - plain.shape[0]
    red, blue = (np.flatnonzero((np.abs(captioned - colour).max(axis=2) < 20).any(axis=1)) for colour in (RED, BLUE))
    below = captioned[red.max() + 3 : red.max() + 3 + added, :]
    assert 10 < added < 30 and blue.min() > red.max() + added
    assert (below[:, :168] > 100).any() and not (below[:, 168:] > 100).any()  # a tile is 160 pixels wide
    titled = sheet("row", frames, title="a")
    assert sheet("row", frames, title="a", subtitle="4 steps").shape[0] > titled.shape[0]


def test_captions_go_with_their_frames_where_a_row_is_too_long(monkeypatch, tmp_path):
    texts = []
    monkeypatch.setattr("mimicmotion.results.sheets.draw_line", lambda draw, corner, text, *_: texts.append(text))
    contact_sheet(tmp_path / "sheet.jpg", [Row("row", [solid(RED)] * 100, [str(i) for i in range(100)])])
    assert texts == ["row", *map(str, evenly_spaced(100, 12))]


@pytest.mark.parametrize("height", [2, 64, 576, 1023])
def test_a_bar_of_even_height_with_labels_stands_above_panels(height):
    left, right = solid(RED, height, 90), solid(GREEN, height, 60)
    plain, labelled = comparison_frames(left, right), comparison_frames(left, right, labels=("driving video", "result"))
    added = labelled.shape[0] - plain.shape[0]
    assert added % 2 == 0 and added >= 20 and labelled.shape[1] == plain.shape[1]
    assert np.array_equal(labelled[added:], plain)
    assert all((part > 100).any() for part in np.split(labelled[:added], [90], axis=1))
    video = comparison_frames(left[None], right[None], labels=("driving video", "result"))
    assert np.array_equal(video[0], labelled)
