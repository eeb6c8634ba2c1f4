"""Measures of a result against the truth: known values, and which way they move."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mimicmotion.results import metrics


def person(count=3, height=64, width=48, shift=0):
    """A clip with shapes that have edges in several directions, moving by two pixels a frame."""
    y, x = np.mgrid[:height, :width]
    clip = np.full((count, height, width, 3), (40, 90, 160), np.uint8)
    for i in range(count):
        at = x - shift - 2 * i
        clip[i][((at - 20) / 8) ** 2 + ((y - 18) / 10) ** 2 < 1] = (230, 180, 150)
        clip[i][(abs(at - 20) < 10) & (abs(y - 42) < 16)] = (200, 30, 60)
        clip[i][(abs(at - 20) < 10) & (y % 8 < 2) & (abs(y - 42) < 16)] = (240, 240, 30)
    return clip


def blurred(clip, sigma):
    return gaussian_filter(clip.astype(float), (0, sigma, sigma, 0)).round().astype(np.uint8)


def noisy(clip, size):
    return np.clip(clip + np.random.default_rng(0).normal(0, size, clip.shape), 0, 255).round().astype(np.uint8)


def test_psnr_of_a_known_error():
    truth = np.full((2, 8, 8, 3), 100, np.uint8)
    assert metrics.psnr(truth + 10, truth) == pytest.approx(20 * math.log10(25.5))
    assert metrics.psnr(truth, truth) == 100


def test_psnr_within_a_box_sees_nothing_outside():
    truth = np.full((2, 16, 16, 3), 100, np.uint8)
    result = truth.copy()
    result[:, 12:] = 0
    result[:, 2:4, 2:4] = 101
    assert metrics.psnr(result, truth, (2, 4, 2, 4)) == pytest.approx(20 * math.log10(255))
    assert metrics.psnr(result, truth) < 20


def test_psnr_does_not_wrap_around():
    dark, bright = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 255, np.uint8)
    assert metrics.psnr(dark, bright) == metrics.psnr(bright, dark) == 0


def test_ssim_of_flat_pictures_is_its_luminance_term():
    dark, bright = np.full((1, 16, 16, 3), 100, np.uint8), np.full((1, 16, 16, 3), 150, np.uint8)
    c1 = 2.55**2
    assert metrics.ssim(dark, bright) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), abs=1e-5)
    assert metrics.ssim(dark, dark) == pytest.approx(1)


def test_ssim_equals_its_definition_at_a_pixel():
    one, other = metrics.luma(person()[0]), metrics.luma(noisy(person(), 20)[0])
    row, column, reach = 30, 22, 5
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / 1.5) ** 2)
    weights = np.outer(line, line) / line.sum() ** 2
    a, b = (p[row - reach : row + reach + 1, column - reach : column + reach + 1] for p in (one, other))
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    spread = (weights * (a - mean_a) ** 2).sum() + (weights * (b - mean_b) ** 2).sum()
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (spread + c2))
    assert metrics._ssim_map(one, other)[row, column] == pytest.approx(expected)


def test_gradient_energy_of_a_known_edge():
    clip = np.zeros((1, 10, 11, 3), np.uint8)
    clip[:, :, 6:] = 50
    # One of ten columns of differences is 50; no row differs from the next.
    assert metrics.gradient_energy(clip) == pytest.approx(50**2 / 10)


def test_sharpness_tells_blur_from_noise():
    truth = person()
    assert metrics.sharpness(truth, truth) == 1
    assert metrics.sharpness(blurred(truth, 2), truth) < metrics.sharpness(blurred(truth, 1), truth) < 0.6
    assert metrics.sharpness(noisy(truth, 20), truth) > 1.2


def test_a_still_result_misses_all_of_the_change():
    truth = person()
    change = np.abs(np.diff(truth.astype(float), axis=0)).mean()
    assert metrics.temporal_difference_error(truth[:1].repeat(3, 0), truth) == pytest.approx(change)
    assert metrics.temporal_difference_error(truth, truth) == 0
    # Errors that stay do not flicker.
    assert metrics.temporal_difference_error(np.minimum(truth, 250) + 5, truth) < 0.2 * change
    with pytest.raises(ValueError, match="two frames"):
        metrics.temporal_difference_error(truth[:1], truth[:1])


def test_the_box_holds_the_person_in_every_frame():
    parts = np.zeros((2, 40, 30), np.uint8)
    parts[0, 10, 8] = 3
    parts[1, 38, 20] = 1
    assert metrics.person_box(parts, padding=4) == (6, 40, 4, 25)
    with pytest.raises(ValueError, match="no pixel"):
        metrics.person_box(np.zeros((2, 4, 4), np.uint8))
