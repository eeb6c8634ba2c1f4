"""How near results are to the costliest one of their clip, and to the truth where there is one.

Frames are those of the written mp4s, so that what its compression costs is part of every number.
"""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from mimicmotion.errors import InputError
from mimicmotion.evaluation import PixelMeter, true_frames
from mimicmotion.progress import Progress
from mimicmotion.sweep.tables import MEASURES, Row
from mimicmotion.video import VideoSource, open_video, video_stem

logger = logging.getLogger(__name__)

BLOCK = 16  # frames that are held at once


def measure_rows(rows: list[Row], truth: str | Path | None) -> None:
    """Fills in the measures of all results that are there.

    Args:
        truth: folder of true videos, `<video stem>.mp4`; results without one there are not held against any.
    """
    done = [row for row in rows if row.facts]
    with Progress("measuring", len(done), "result") as bar:
        for row in done:
            best = costliest(row, done)
            if best is not row:
                row.against = best.cell.name
                row.measures = measure(_frames(open_video(row.job.output)), _frames(open_video(best.job.output)))
            path = Path(truth or "") / f"{video_stem(row.job.video)}.mp4"
            if truth and path.is_file():
                row.truth_measures = _held_against(row, path)
            bar.update()


def costliest(row: Row, rows: Iterable[Row]) -> Row:
    """Of the results that can be compared with this one, itself among them, the one with the most UNet passes; the
    first of several. They have the same clip, seed, reference, frames and size.
    """
    return max((other for other in rows if _alike(other) == _alike(row)), key=lambda other: other.passes)


def _alike(row: Row) -> tuple:
    facts = row.facts
    shape = (facts["frames"], facts["height"], facts["width"], facts["sampled_frames"]["stride"])
    return (row.clip, facts["seed"], facts["inputs"]["reference"], *shape)


def measure(result: Iterator[np.ndarray], truth: Iterator[np.ndarray]) -> dict[str, float | None]:
    """PSNR in dB, SSIM, temporal difference error in grey levels and sharpness of uint8 (h, w, 3) frames against
    others; None for what does not exist: a change in one frame, sharpness over that of a flat picture.
    """
    meter = PixelMeter()
    while block := list(islice(zip(result, truth, strict=True), BLOCK)):
        meter.add(*(np.stack(side) for side in zip(*block, strict=True)))
    numbers = meter.numbers()
    return {name: None if numbers[name] is None else round(numbers[name], 4) for name in MEASURES}


def _held_against(row: Row, path: Path) -> dict[str, float | None]:
    """The measures of a result against a true video; empty, with the reason in the log, where they do not fit."""
    try:
        facts = row.facts
        size, stride = (facts["height"], facts["width"]), facts["sampled_frames"]["stride"]
        truth = true_frames(facts["frames"], size, stride, open_video(path))
        return measure(_frames(open_video(row.job.output)), truth)
    except InputError as error:
        logger.warning("%s is not held against the truth: %s", row.job.output, error)
        return {}


def _frames(video: VideoSource) -> Iterator[np.ndarray]:
    return (frame for _, frame in video.frames())
