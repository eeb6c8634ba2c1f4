"""How near results are to the costliest one of their clip, and to the truth where there is one.

Frames are those of the written mp4s, so that what its compression costs is part of every number.
"""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from mimicmotion.errors import InputError
from mimicmotion.progress import Progress
from mimicmotion.results import decibels, gradient_energy, mean_squared_error, ssim, temporal_difference_error
from mimicmotion.sweep.tables import MEASURES, Row
from mimicmotion.video import VideoSource, open_video, video_stem

logger = logging.getLogger(__name__)

BLOCK = 16  # frames that are held at once
SAME_SHAPE = 0.02  # a true video of another size is scaled where its aspect differs by less


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
    frames, changes, sums = 0, 0, dict.fromkeys(("error", "ssim", "change", "own", "true"), 0.0)
    last: list[np.ndarray] = []
    while block := list(islice(zip(result, truth, strict=True), BLOCK)):
        own, true = (np.stack(side) for side in zip(*block, strict=True))
        count = len(own)
        sums["error"] += count * mean_squared_error(own, true)
        sums["ssim"] += count * ssim(own, true)
        sums["own"] += count * gradient_energy(own)
        sums["true"] += count * gradient_energy(true)
        if last:  # the change from the block before
            own, true = (np.concatenate(pair) for pair in zip(last, (own, true), strict=True))
        if len(own) > 1:
            sums["change"] += (len(own) - 1) * temporal_difference_error(own, true)
            changes += len(own) - 1
        last, frames = [own[-1:], true[-1:]], frames + count
    values = (
        decibels(sums["error"] / frames),
        sums["ssim"] / frames,
        sums["change"] / changes if changes else None,
        sums["own"] / sums["true"] if sums["true"] else None,
    )
    return {name: value if value is None else round(value, 4) for name, value in zip(MEASURES, values, strict=True)}


def _held_against(row: Row, path: Path) -> dict[str, float | None]:
    """The measures of a result against a true video; empty, with the reason in the log, where they do not fit."""
    try:
        return measure(_frames(open_video(row.job.output)), true_frames(row.facts, open_video(path)))
    except InputError as error:
        logger.warning("%s is not held against the truth: %s", row.job.output, error)
        return {}


def true_frames(facts: dict, video: VideoSource) -> Iterator[np.ndarray]:
    """The frames of a true video that belong to those of a result, and of its size.

    A true video has a frame for each frame of the result, or for each of the driving video. Raises: InputError for one
    that has neither, or another aspect.
    """
    count, height, width = (facts[name] for name in ("frames", "height", "width"))
    stride = facts["sampled_frames"]["stride"]
    if video.num_frames != count and video.num_frames < (count - 1) * stride + 1:
        wanted = f"{count}, or every frame of the driving video"
        raise InputError(f"{video.path} has {video.num_frames} frames; the result has {wanted}")
    if abs(video.width / video.height * height / width - 1) > SAME_SHAPE:
        raise InputError(f"{video.path} is {video.width}x{video.height}; the result is {width}x{height}")
    frames = video.frames(1 if video.num_frames == count else stride, max_frames=count)
    return (_at_size(frame, height, width) for _, frame in frames)


def _at_size(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))


def _frames(video: VideoSource) -> Iterator[np.ndarray]:
    return (frame for _, frame in video.frames())
