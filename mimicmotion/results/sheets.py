"""Pictures to judge a result by: a sheet of labelled rows of frames, and frames side by side."""

import bisect
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mimicmotion.files import write_bytes
from mimicmotion.results.lettering import draw_line, line_length

MAX_COLUMNS = 12
# Sides of the whole sheet that any viewer and the JPEG format can take.
MIN_WIDTH = 480
MAX_WIDTH = 2400
MAX_HEIGHT = 8000
GAP = 4
LABEL_SIZE = 16
TITLE_SIZE = 20
CAPTION_SIZE = 12
BAR_SHARE = 24  # height of a picture over that of the bar above it
MIN_BAR = 20
BACKGROUND = (24, 24, 24)
FOREGROUND = (235, 235, 235)


class Row(NamedTuple):
    """A row of a contact sheet: frames uint8 (h, w, 3) RGB of any size, and what stands under each of them, if
    anything does.
    """

    label: str
    frames: Sequence[np.ndarray]
    captions: Sequence[str] = ()


def evenly_spaced(total: int, count: int) -> list[int]:
    """Up to `count` different indices of 0..total-1, evenly spaced; the first and the last among them."""
    if count == 1:
        return [0] if total else []
    return [round(index) for index in np.linspace(0, total - 1, min(count, total))]


def contact_sheet(
    path: str | Path,
    rows: Sequence[Row | tuple[str, Sequence[np.ndarray]]],
    title: str | None = None,
    tile_width: int = 160,
    subtitle: str | None = None,
    comment: str | None = None,
) -> None:
    """Writes a .jpg with one row of pictures per (label, frames) or (label, frames, captions), see `Row`.

    comment: a text that the file carries and nobody sees.

    Rows of more than 12 frames show 12, evenly spaced; tiles shrink where the sheet would exceed 2400x8000.

    Raises: ValueError without any frame; SetupError when the file cannot be written.
    """
    rows = [_chosen(Row(*row)) for row in rows]
    columns = max((len(row.frames) for row in rows), default=0)
    if columns == 0:
        raise ValueError("a contact sheet needs at least one frame")
    top = TITLE_SIZE + 3 * GAP if title else GAP
    subtitle_top = top - GAP
    top += LABEL_SIZE + GAP if subtitle else 0
    tile_width = _fitting_width(rows, columns, tile_width, MAX_HEIGHT - top)
    heights = [_row_height(row.frames, tile_width) for row in rows]
    # A sheet of one column still has room for its labels.
    width = max(MIN_WIDTH, columns * (tile_width + GAP) + GAP)
    size = (width, top + sum(height + _around(row) for row, height in zip(rows, heights, strict=True)))
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    if title:
        _text(draw, (GAP, GAP), title, TITLE_SIZE, size[0] - 2 * GAP)
    if subtitle:
        _text(draw, (GAP, subtitle_top), subtitle, LABEL_SIZE, size[0] - 2 * GAP)
    for row, height in zip(rows, heights, strict=True):
        _text(draw, (GAP, top), row.label, LABEL_SIZE, size[0] - 2 * GAP)
        pictures_top = top + LABEL_SIZE + 2 * GAP
        for column, frame in enumerate(row.frames):
            tile = _shrunk(frame, tile_width, height)
            sheet.paste(tile, (GAP + column * (tile_width + GAP), pictures_top))
        for column, caption in enumerate(row.captions):
            corner = (GAP + column * (tile_width + GAP), pictures_top + height + GAP // 2)
            _text(draw, corner, caption, CAPTION_SIZE, tile_width)
        top += height + _around(row)
    encoded = io.BytesIO()
    sheet.save(encoded, "JPEG", quality=90, **({"comment": comment} if comment else {}))
    write_bytes(path, encoded.getvalue())


def comparison_frames(
    *panels: np.ndarray, height: int | None = None, labels: Sequence[str] | None = None
) -> np.ndarray:
    """Puts videos side by side: panels uint8 (F, H, W, 3), or (H, W, 3), RGB -> one wide video of that kind.

    All come to `height` pixels, by default the lowest panel's, and keep their aspect. With `labels`, one for each
    panel, a bar of an even height stands above. Raises: ValueError when they differ in their number of frames.
    """
    if panels[0].ndim == 3:
        return comparison_frames(*(panel[None] for panel in panels), height=height, labels=labels)[0]
    if len({len(panel) for panel in panels}) != 1:
        raise ValueError(f"panels of {[len(panel) for panel in panels]} frames cannot be put side by side")
    height = height or min(panel.shape[1] for panel in panels)
    shown = [_at_height(panel, height) for panel in panels]
    wide = np.concatenate(shown, axis=2)
    if labels is None:
        return wide
    bar = _bar(tuple(labels), tuple(panel.shape[2] for panel in shown), height)
    return np.concatenate([np.broadcast_to(bar, (len(wide), *bar.shape)), wide], axis=1)


@functools.lru_cache(maxsize=16)
def _bar(labels: tuple[str, ...], widths: tuple[int, ...], height: int) -> np.ndarray:
    """The bar above pictures of that height, uint8 (h, sum of widths, 3); h is even, as video coders want it."""
    bar_height = max(MIN_BAR, height // BAR_SHARE // 2 * 2)
    bar = Image.new("RGB", (sum(widths), bar_height), BACKGROUND)
    draw, left = ImageDraw.Draw(bar), 0
    for label, width in zip(labels, widths, strict=True):
        _text(draw, (left + GAP, GAP // 2), label, bar_height - 2 * GAP, width - 2 * GAP)
        left += width
    return np.asarray(bar)


def caption(lines: Sequence[str], width: int) -> np.ndarray:
    """Lines of text to be put above a picture, uint8 (height, width, 3); each is shortened to the width."""
    picture = Image.new("RGB", (width, GAP + len(lines) * (LABEL_SIZE + GAP)), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        _text(draw, (GAP, number * (LABEL_SIZE + GAP)), line, LABEL_SIZE, width - 2 * GAP)
    return np.asarray(picture)


def _at_height(panel: np.ndarray, height: int) -> np.ndarray:
    if panel.shape[1] == height:
        return panel
    width = max(1, round(panel.shape[2] * height / panel.shape[1]))
    resized = [np.asarray(Image.fromarray(frame).resize((width, height))) for frame in panel]
    return np.stack(resized) if resized else np.empty((0, height, width, 3), np.uint8)


def _chosen(row: Row) -> Row:
    """The row with as many frames as are shown, and their captions."""
    shown = evenly_spaced(len(row.frames), MAX_COLUMNS)
    captions = [row.captions[i] for i in shown] if row.captions else ()
    return Row(row.label, [row.frames[i] for i in shown], captions)


def _fitting_width(rows: list[Row], columns: int, tile_width: int, room: int) -> int:
    """`tile_width`, or the largest smaller one at which the sheet keeps to its limits."""
    tile_width = max(1, min(tile_width, (MAX_WIDTH - GAP) // columns - GAP))
    while tile_width > 1 and sum(_row_height(row.frames, tile_width) + _around(row) for row in rows) > room:
        tile_width = tile_width * 9 // 10
    return tile_width


def _row_height(frames: Sequence[np.ndarray], tile_width: int) -> int:
    """Height of the tallest frame at `tile_width`; frames narrower than 1:2 are made to fit."""
    tallest = max((frame.shape[0] / frame.shape[1] for frame in frames), default=0)
    return max(1, round(tile_width * min(tallest, 2)))


def _around(row: Row) -> int:
    """What a row takes beside the height of its pictures: its label, the gaps, its captions."""
    return LABEL_SIZE + 3 * GAP + (CAPTION_SIZE + 2 * GAP if row.captions else 0)


def _shrunk(frame: np.ndarray, width: int, height: int) -> Image.Image:
    scale = min(width / frame.shape[1], height / frame.shape[0])
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    # reducing_gap: large frames are averaged down first, which takes a fraction of the time.
    return Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _text(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, size: int, room: int) -> None:
    """Writes one line, shortened to `room` pixels."""
    text = " ".join(text.split())
    if line_length(text, size) > room:
        shortened = [text[:length] + "..." for length in range(len(text))]
        fitting = bisect.bisect_right(shortened, room, key=lambda short: line_length(short, size))
        text = shortened[max(0, fitting - 1)]
    draw_line(draw, corner, text, size, FOREGROUND)
