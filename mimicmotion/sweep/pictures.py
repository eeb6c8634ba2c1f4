"""All results of a clip at one look: a grid of frames, and a video in which they play side by side in step."""

import contextlib
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from mimicmotion.results import caption, contact_sheet, evenly_spaced
from mimicmotion.sweep.tables import Row
from mimicmotion.video import VideoWriter, open_video

GRID_COLUMNS = 8
PER_PAGE = 24  # results in one picture, and in one video
MAX_WIDTH, MAX_HEIGHT = 1920, 1080  # of the video
MIN_PANEL = 144  # pixels, so that a caption has room
LETTER = 8  # pixels that a letter of a caption takes
GAP = 4
CRF = 18
BACKGROUND = 24


@dataclass
class Panel:
    """A result as it is shown: its picks for the grid, all of its frames shrunk, (frames, height, width, 3)."""

    row: Row
    picks: list[np.ndarray]
    frames: np.ndarray

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return len(self.frames) / self.row.job.case.fps

    def at(self, seconds: float) -> np.ndarray:
        """The frame that is shown at a time; the last one stays."""
        # Times are sums of rounded frame lengths: what misses a frame's start by a hair shows that frame.
        return self.frames[min(len(self.frames) - 1, int(seconds * self.row.job.case.fps + 1e-6))]


def compare_clips(folder: Path, rows: list[Row]) -> Iterator[Path]:
    """Writes <folder>/compared/<clip>_grid.jpg and <clip>_side_by_side.mp4 for every clip that has a result, in pages
    of 24 results; yields their paths. Raises: SetupError when they cannot be written.
    """
    for clip in dict.fromkeys(row.clip for row in rows):
        of_clip = [row for row in rows if row.clip == clip]
        if not any(row.facts for row in of_clip):
            continue
        for page in count(1):
            stem = f"{clip}{f'-{page}' if page > 1 else ''}"
            grid, video = (folder / "compared" / f"{stem}_{name}" for name in ("grid.jpg", "side_by_side.mp4"))
            shown = of_clip[(page - 1) * PER_PAGE : page * PER_PAGE]
            if not shown:
                # Of a larger sweep before.
                grid.unlink(missing_ok=True)
                video.unlink(missing_ok=True)
                break
            with opened(shown) as panels:
                if panels:
                    draw_grid(grid, clip, shown, panels)
                    write_side_by_side(video, panels)
                    yield from (grid, video)


@contextlib.contextmanager
def opened(rows: Sequence[Row]) -> Iterator[list[Panel]]:
    """The panels of all rows that have a result. Their frames lie in a file, since all of them may exceed memory."""
    done = [row for row in rows if row.facts]
    sizes = [(row.facts["height"], row.facts["width"]) for row in done]
    with contextlib.ExitStack() as stack:
        panels = []
        if done:
            height, width = (max(side) for side in zip(*sizes, strict=True))
            scale = layout(len(done), height, width, lines=_lines(done))[1]
            for row, size in zip(done, sizes, strict=True):
                place = stack.enter_context(tempfile.TemporaryFile())
                panels.append(_panel(row, [max(1, round(side * scale)) for side in size], place))
        yield panels


def _panel(row: Row, size: Sequence[int], place) -> Panel:
    video = open_video(row.job.output)
    frames = np.memmap(place, np.uint8, "w+", shape=(video.num_frames, *size, 3))
    wanted, picks = set(evenly_spaced(video.num_frames, GRID_COLUMNS)), []
    for index, frame in video.frames():
        if index in wanted:
            picks.append(frame)
        frames[index] = Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BOX)
    return Panel(row, picks, frames)


def draw_grid(path: Path, clip: str, rows: Sequence[Row], panels: Sequence[Panel]) -> None:
    """Writes a row of frames per result; of one that failed the reason."""
    picks = {id(panel.row): panel.picks for panel in panels}
    labelled = [(_label(row, any(r.against == row.cell.name for r in rows)), picks.get(id(row), [])) for row in rows]
    totals = {row.facts["frames"] for row in rows if row.facts}
    frames = ""
    if len(totals) == 1:
        total = totals.pop()
        frames = f": frames {', '.join(map(str, evenly_spaced(total, GRID_COLUMNS)))} of {total}"
    contact_sheet(path, labelled, title=f"{clip}{frames}")


def _label(row: Row, costliest: bool) -> str:
    if not row.facts:
        return f"{row.cell.title}: {row.status}{f', {row.message}' if row.message else ''}"
    parts = [row.cell.title, f"{row.passes} UNet pass{'' if row.passes == 1 else 'es'}"]
    if row.measures:
        parts.append(f"{row.measures['psnr']:.1f} dB against {row.against}")
    if costliest:
        parts.append("what others are held against")
    if row.truth_measures:
        parts.append(f"{row.truth_measures['psnr']:.1f} dB against the truth")
    return "; ".join(parts)


def write_side_by_side(path: Path, panels: Sequence[Panel]) -> None:
    """Writes all panels in one video, each with its settings above it, in step by time."""
    fps = max(panel.row.job.case.fps for panel in panels)
    lines = _lines([panel.row for panel in panels])
    height, width = (max(panel.frames.shape[side] for panel in panels) for side in (1, 2))
    width = max(width, MIN_PANEL)
    columns = layout(len(panels), height, width, lines=lines)[0]
    above = [caption(text + [""] * (lines - len(text)), width) for text in (_caption(p.row, width) for p in panels)]
    top = above[0].shape[0]
    tall, wide = top + height + GAP, width + GAP
    canvas = np.full((-(-len(panels) // columns) * tall, columns * wide, 3), BACKGROUND, np.uint8)
    places = [(number // columns * tall, number % columns * wide) for number in range(len(panels))]
    for (y, x), text in zip(places, above, strict=True):
        canvas[y : y + top, x : x + width] = text
    with VideoWriter(path, fps, crf=CRF) as writer:
        for number in range(round(max(panel.seconds for panel in panels) * fps)):
            for (y, x), panel in zip(places, panels, strict=True):
                frame = panel.at(number / fps)
                left = x + (width - frame.shape[1]) // 2
                canvas[y + top : y + top + frame.shape[0], left : left + frame.shape[1]] = frame
            writer.write(canvas)


def layout(panels: int, height: int, width: int, lines: int) -> tuple[int, float]:
    """(columns, scale) at which so many panels are largest within 1920x1080, and of equal ones the widest screen.

    Args:
        height, width: of a panel at scale 1, which is the largest.
        lines: of text above each.
    """
    width, text = max(width, MIN_PANEL), caption([""] * lines, MIN_PANEL).shape[0] + GAP

    def fit(columns: int) -> tuple[float, float]:
        rows = -(-panels // columns)
        scale = min(1, (MAX_WIDTH / columns - GAP) / width, (MAX_HEIGHT / rows - text) / height)
        aspect = columns * (width * scale + GAP) / (rows * (height * scale + text))
        return scale, -abs(np.log(max(aspect, 1e-6) * MAX_HEIGHT / MAX_WIDTH))

    columns = max(range(1, panels + 1), key=fit)
    return columns, max(fit(columns)[0], 1 / max(height, width))


def _caption(row: Row, width: int) -> list[str]:
    # A label stays with its value.
    words = row.cell.title.replace(", ", "\n").replace(" ", "\u00a0").replace("\n", ", ")
    return [line.replace("\u00a0", " ") for line in textwrap.wrap(words, max(8, width // LETTER))]


def _lines(rows: Sequence[Row]) -> int:
    return max(len(_caption(row, MIN_PANEL)) for row in rows)
