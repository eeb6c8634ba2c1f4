"""Pixels of a clip against those of the true one, block by block; which frames of a true video belong to a result."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from mimicmotion.errors import InputError
from mimicmotion.results import decibels, gradient_energy, mean_squared_error, ssim, temporal_difference_error
from mimicmotion.video import VideoSource

SAME_SHAPE = 0.02  # a true video of another size is scaled where its aspect differs by less


class PixelMeter:
    """Adds up what blocks of frames, uint8 (n, h, w, 3) each, are against the true ones."""

    def __init__(self):
        self._frames, self._changes = 0, 0
        self._sums = dict.fromkeys(("error", "decibels", "ssim", "change", "own", "true"), 0.0)
        self._last: list[np.ndarray] = []

    def add(self, own: np.ndarray, true: np.ndarray) -> None:
        """Takes the next frames of both. Raises: ValueError for another shape."""
        if own.shape != true.shape:
            raise ValueError(f"frames of {own.shape} cannot be held against {true.shape}")
        count, sums = len(own), self._sums
        sums["error"] += count * mean_squared_error(own, true)
        sums["decibels"] += sum(decibels(mean_squared_error(*pair)) for pair in zip(own, true, strict=True))
        sums["ssim"] += count * ssim(own, true)
        sums["own"] += count * gradient_energy(own)
        sums["true"] += count * gradient_energy(true)
        self._frames += count
        if self._last:  # the change from the block before
            own, true = (np.concatenate(pair) for pair in zip(self._last, (own, true), strict=True))
        if len(own) > 1:
            sums["change"] += (len(own) - 1) * temporal_difference_error(own, true)
            self._changes += len(own) - 1
        self._last = [own[-1:], true[-1:]]

    def numbers(self) -> dict[str, float | None]:
        """The measures of all frames; None for what does not exist: a change in one frame, sharpness over that of a
        flat picture.
        """
        sums, frames = self._sums, self._frames
        return {
            "psnr": decibels(sums["error"] / frames),
            "psnr_frames": sums["decibels"] / frames,
            "ssim": sums["ssim"] / frames,
            "temporal_difference_error": sums["change"] / self._changes if self._changes else None,
            "sharpness": sums["own"] / sums["true"] if sums["true"] else None,
        }


def true_frames(frames: int, size: tuple[int, int], stride: int, video: VideoSource) -> Iterator[np.ndarray]:
    """The frames of a true video that belong to those of a result, and of its size.

    A true video has a frame for each frame of the result, or for each of the driving video.

    Args:
        frames: how many the result has.
        size: height and width of the result.
        stride: every how many frames the driving video was sampled.

    Raises: InputError for one that has neither, or another aspect.
    """
    height, width = size
    if video.num_frames != frames and video.num_frames < (frames - 1) * stride + 1:
        wanted = f"{frames}, or every frame of the driving video"
        raise InputError(f"{video.path} has {video.num_frames} frames; the result has {wanted}")
    if abs(video.width / video.height * height / width - 1) > SAME_SHAPE:
        raise InputError(f"{video.path} is {video.width}x{video.height}; the result is {width}x{height}")
    chosen = video.frames(1 if video.num_frames == frames else stride, max_frames=frames)
    return (_at_size(frame, height, width) for _, frame in chosen)


def _at_size(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
