"""Pictures to judge a result by: a sheet of labelled rows of frames, and frames side by side."""

import bisect
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mimicmotion.files import write_bytes

MAX_COLUMNS = 12
# Sides of the whole sheet that any viewer and the JPEG format can take.
MIN_WIDTH = 480
MAX_WIDTH = 2400
MAX_HEIGHT = 8000
GAP = 4
LABEL_SIZE = 16
TITLE_SIZE = 20
BACKGROUND = (24, 24, 24)
FOREGROUND = (235, 235, 235)


def evenly_spaced(total: int, count: int) -> list[int]:
    """Up to `count` different indices of 0..total-1, evenly spaced; the first and the last among them."""
    if count == 1:
        return [0] if total else []
    return [round(index) for index in np.linspace(0, total - 1, min(count, total))]


def contact_sheet(
    path: str | Path,
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    title: str | None = None,
    tile_width: int = 160,
) -> None:
    """Writes a .jpg with one row of pictures per (label, frames); frames are uint8 (h, w, 3) RGB of any size.

    Rows of more than 12 frames show 12, evenly spaced; tiles shrink where the sheet would exceed 2400x8000.

    Raises: ValueError without any frame; SetupError when the file cannot be written.
    """
    rows = [(label, [frames[i] for i in evenly_spaced(len(frames), MAX_COLUMNS)]) for label, frames in rows]
    columns = max((len(frames) for _, frames in rows), default=0)
    if columns == 0:
        raise ValueError("a contact sheet needs at least one frame")
    top = TITLE_SIZE + 3 * GAP if title else GAP
    tile_width = _fitting_width(rows, columns, tile_width, MAX_HEIGHT - top)
    heights = [_row_height(frames, tile_width) for _, frames in rows]
    # A sheet of one column still has room for its labels.
    width = max(MIN_WIDTH, columns * (tile_width + GAP) + GAP)
    size = (width, top + sum(height + _caption() for height in heights))
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    if title:
        _text(draw, (GAP, GAP), title, TITLE_SIZE, size[0] - 2 * GAP)
    for (label, frames), height in zip(rows, heights, strict=True):
        _text(draw, (GAP, top), label, LABEL_SIZE, size[0] - 2 * GAP)
        for column, frame in enumerate(frames):
            tile = _shrunk(frame, tile_width, height)
            sheet.paste(tile, (GAP + column * (tile_width + GAP), top + _caption() - GAP))
        top += height + _caption()
    encoded = io.BytesIO()
    sheet.save(encoded, "JPEG", quality=90)
    write_bytes(path, encoded.getvalue())


def comparison_frames(*panels: np.ndarray, height: int | None = None) -> np.ndarray:
    """Puts videos side by side: panels uint8 (F, H, W, 3), or (H, W, 3), RGB -> one wide video of that kind.

    All come to `height` pixels, by default the lowest panel's, and keep their aspect. Raises: ValueError when
    they differ in their number of frames.
    """
    if panels[0].ndim == 3:
        return comparison_frames(*(panel[None] for panel in panels), height=height)[0]
    if len({len(panel) for panel in panels}) != 1:
        raise ValueError(f"panels of {[len(panel) for panel in panels]} frames cannot be put side by side")
    height = height or min(panel.shape[1] for panel in panels)
    return np.concatenate([_at_height(panel, height) for panel in panels], axis=2)


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


def _fitting_width(rows: list, columns: int, tile_width: int, room: int) -> int:
    """`tile_width`, or the largest smaller one at which the sheet keeps to its limits."""
    tile_width = max(1, min(tile_width, (MAX_WIDTH - GAP) // columns - GAP))
    while tile_width > 1 and sum(_row_height(frames, tile_width) + _caption() for _, frames in rows) > room:
        tile_width = tile_width * 9 // 10
    return tile_width


def _row_height(frames: list[np.ndarray], tile_width: int) -> int:
    """Height of the tallest frame at `tile_width`; frames narrower than 1:2 are made to fit."""
    tallest = max((frame.shape[0] / frame.shape[1] for frame in frames), default=0)
    return max(1, round(tile_width * min(tallest, 2)))


def _caption() -> int:
    return LABEL_SIZE + 3 * GAP


def _shrunk(frame: np.ndarray, width: int, height: int) -> Image.Image:
    scale = min(width / frame.shape[1], height / frame.shape[0])
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    # reducing_gap: large frames are averaged down first, which takes a fraction of the time.
    return Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _text(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, size: int, room: int) -> None:
    """Writes one line, shortened to `room` pixels."""
    font = ImageFont.load_default(size)
    text = " ".join(text.split())
    if draw.textlength(text, font) > room:
        shortened = [text[:length] + "..." for length in range(len(text))]
        fitting = bisect.bisect_right(shortened, room, key=lambda short: draw.textlength(short, font))
        text = shortened[max(0, fitting - 1)]
    draw.text(corner, text, FOREGROUND, font)
