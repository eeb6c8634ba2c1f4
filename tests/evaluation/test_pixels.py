"""The pixel meter gives the numbers of the plain formulas, to the last digit that is written."""

import numpy as np
import pytest

from mimicmotion.evaluation import PixelMeter
from mimicmotion.results import crop, metrics


def clips(count=5, size=(40, 32)):
    draws = np.random.default_rng(0)
    true = draws.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return np.clip(true + draws.normal(0, 20, true.shape), 0, 255).astype(np.uint8), true


@pytest.mark.parametrize("box", [None, (5, 30, 4, 28)])
def test_one_block_gives_what_the_embedded_models_page_was_made_with(box):
    own, true = clips()
    meter = PixelMeter()
    meter.add(crop(own, box), crop(true, box))
    found = {name: round(value, 5) for name, value in meter.numbers().items()}
    assert found["psnr"] == round(metrics.psnr(own, true, box), 5)
    assert found["ssim"] == round(metrics.ssim(own, true, box), 5)
    assert found["sharpness"] == round(metrics.sharpness(own, true, box), 5)
    change = metrics.temporal_difference_error(crop(own, box), crop(true, box))
    assert found["temporal_difference_error"] == round(change, 5)


def test_psnr_of_the_clip_and_of_its_frames_differ_where_errors_do():
    true = np.full((2, 8, 8, 3), 100, np.uint8)
    own = true.copy()
    own[0] += 20
    meter = PixelMeter()
    meter.add(own, true)
    numbers = meter.numbers()
    assert numbers["psnr"] == pytest.approx(metrics.decibels(200))
    assert numbers["psnr_frames"] == pytest.approx((metrics.decibels(400) + 100) / 2)
    with pytest.raises(ValueError, match="cannot be held against"):
        meter.add(own, true[:1])
