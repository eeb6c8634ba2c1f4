"""Perceptual distances: known values, and which way they move."""

import numpy as np
import pytest

from mimicmotion.errors import SetupError
from mimicmotion.evaluation import perceptual, perceptual_weights
from mimicmotion.results import metrics
from tests.training.test_metrics import blurred, person


class TestGradientHistograms:
    def test_equal_clips_have_none(self):
        assert perceptual.gradient_histogram_distance(person(), person()) == 0

    def test_a_small_shift_is_nearer_than_blur(self):
        truth = person()
        shift = perceptual.gradient_histogram_distance(person(shift=1), truth)
        weak, strong = (perceptual.gradient_histogram_distance(blurred(truth, sigma), truth) for sigma in (2, 4))
        assert 0 < shift < weak < strong

    def test_pixels_alone_prefer_blur_to_a_shift_of_two_pixels(self):
        truth, shifted = person(), person(shift=2)
        soft = blurred(truth, 2)
        assert metrics.psnr(shifted, truth) < metrics.psnr(soft, truth)
        distance = perceptual.gradient_histogram_distance
        assert distance(shifted, truth) < distance(soft, truth)

    def test_colours_count(self):
        assert perceptual.gradient_histogram_distance(person()[..., ::-1].copy(), person()) > 0.05


class TestStLpips:
    @pytest.fixture(scope="class")
    def measure(self):
        try:
            return perceptual.StLpips()
        except SetupError as error:
            pytest.skip(str(error))

    def test_the_number_is_the_packages_own(self, measure):
        # 0.7304416 by stlpips_pytorch 0.0.2 with net="alex", variant="shift_tolerant", for this pair.
        x, y = np.meshgrid(np.arange(96), np.arange(128))
        one = np.stack([2 * x, y, (x * y // 8) % 256], -1).astype(np.uint8)[None]
        other = np.roll((255 - one) // 2, 5, axis=1)
        assert measure.distance(other, one) == pytest.approx(0.7304416, abs=1e-5)
        assert measure.distance(one, one) == 0

    def test_kept_features_of_the_truth_give_the_same(self, measure):
        one, other = person(2), blurred(person(2), 1)
        assert measure.distance(other, measure.features(one)) == measure.distance(other, one)


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(perceptual_weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match="pip install --no-deps stlpips-pytorch"):
        perceptual_weights.find_st_lpips()
