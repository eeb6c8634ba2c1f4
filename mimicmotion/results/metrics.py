"""How near a generated clip is to the true one: numbers of pixels, gradients and motion, frame by frame or in a box.

Clips are uint8 (frames, height, width, 3), RGB. A box is (top, bottom, left, right) in pixels, end excluded.
"""

import numpy as np

Box = tuple[int, int, int, int]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
SSIM_SIGMA, SSIM_RADIUS = 1.5, 5  # the 11 x 11 Gaussian window of Wang et al. 2004
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
IDENTICAL_DB = 100.0  # reported for equal pictures, whose PSNR is infinite
BOX_PADDING = 6


def person_box(parts: np.ndarray, padding: int = BOX_PADDING) -> Box:
    """The box around all labelled pixels of a clip, the same for every frame, so that motion within it counts.

    Args:
        parts: integers (frames, height, width), 0 where the person is not.
        padding: pixels added on every side, within the frame.

    Raises: ValueError when nothing is labelled.
    """
    covered = (np.asarray(parts) > 0).any(axis=0)
    if not covered.any():
        raise ValueError("no pixel belongs to the person")
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    height, width = covered.shape
    return (
        max(0, int(rows[0]) - padding),
        min(height, int(rows[-1]) + 1 + padding),
        max(0, int(columns[0]) - padding),
        min(width, int(columns[-1]) + 1 + padding),
    )


def crop(clip: np.ndarray, box: Box | None) -> np.ndarray:
    """The part of (frames, height, width, ...) within the box; all of it for None."""
    if box is None:
        return clip
    top, bottom, left, right = box
    return clip[:, top:bottom, left:right]


def psnr(result: np.ndarray, truth: np.ndarray, box: Box | None = None) -> float:
    """Peak signal-to-noise ratio in dB, from the mean squared error of all frames; 100 for equal clips."""
    return decibels(mean_squared_error(crop(result, box), crop(truth, box)))


def mean_squared_error(result: np.ndarray, truth: np.ndarray) -> float:
    """Of all values of two clips."""
    return float(np.mean((result.astype(np.float32) - truth) ** 2))


def decibels(error: float) -> float:
    """The peak signal-to-noise ratio of a mean squared error."""
    return IDENTICAL_DB if error == 0 else min(IDENTICAL_DB, float(10 * np.log10(255**2 / error)))


def ssim(result: np.ndarray, truth: np.ndarray, box: Box | None = None) -> float:
    """Mean structural similarity of the luma (Wang et al. 2004), Gaussian window of 11 pixels, 1 for equal clips."""
    pairs = zip(luma(crop(result, box)), luma(crop(truth, box)), strict=True)
    return float(np.mean([_ssim_map(one, other).mean() for one, other in pairs]))


def _ssim_map(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    mean_one, mean_other = _window_mean(one), _window_mean(other)
    variance_one = _window_mean(one * one) - mean_one**2
    variance_other = _window_mean(other * other) - mean_other**2
    covariance = _window_mean(one * other) - mean_one * mean_other
    structure = (2 * covariance + SSIM_C2) / (variance_one + variance_other + SSIM_C2)
    return structure * (2 * mean_one * mean_other + SSIM_C1) / (mean_one**2 + mean_other**2 + SSIM_C1)


def _window_mean(picture: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(picture, SSIM_SIGMA, radius=SSIM_RADIUS)


def luma(clip: np.ndarray) -> np.ndarray:
    """Brightness 0..255, float64 (frames, height, width)."""
    return (clip @ LUMA).astype(np.float64)


def gradient_energy(clip: np.ndarray, box: Box | None = None) -> float:
    """Mean squared difference between neighbouring pixels' luma, both directions."""
    brightness = luma(crop(clip, box))
    return float(np.mean(np.diff(brightness, axis=1) ** 2) + np.mean(np.diff(brightness, axis=2) ** 2))


def sharpness(result: np.ndarray, truth: np.ndarray, box: Box | None = None) -> float:
    """Gradient energy of the result over the truth's: below 1 is blurred, above 1 noisy or over-sharpened."""
    return gradient_energy(result, box) / gradient_energy(truth, box)


def temporal_difference_error(result: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute error, in grey levels 0..255, of the change from each frame to the next: flicker and wrong motion.

    Raises: ValueError for a single frame.
    """
    if len(truth) < 2:
        raise ValueError("a temporal difference needs two frames")
    change = np.diff(result.astype(np.float32), axis=0) - np.diff(truth.astype(np.float32), axis=0)
    return float(np.abs(change).mean())
