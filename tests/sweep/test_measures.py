"""Measures taken piece by piece are those of the whole; what is held against what."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mimicmotion.errors import InputError
from mimicmotion.evaluation import true_frames
from mimicmotion.results import metrics
from mimicmotion.sweep.measures import costliest, measure
from mimicmotion.sweep.plot import axis_of, seconds_per_frame
from mimicmotion.video import VideoSource


def noise(count, seed=0, size=(16, 12)):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 2, 16, 17, 33])
def test_pieces_give_the_measures_of_the_whole(count):
    own, true = noise(count), noise(count, 1)
    change = metrics.temporal_difference_error(own, true) if count > 1 else None
    expected = [metrics.psnr(own, true), metrics.ssim(own, true), change, metrics.sharpness(own, true)]
    assert list(measure(iter(own), iter(true)).values()) == [
        v if v is None else pytest.approx(v, abs=1e-3) for v in expected
    ]


def test_equal_clips_and_flat_ones():
    same = measure(iter(noise(3)), iter(noise(3)))
    assert same == {"psnr": 100, "ssim": 1, "temporal_difference_error": 0, "sharpness": 1}
    flat = np.zeros((2, 16, 12, 3), np.uint8)
    assert measure(iter(noise(2)), iter(flat))["sharpness"] is None


def test_another_number_of_frames_is_no_measure():
    with pytest.raises(ValueError, match="shorter"):
        measure(iter(noise(3)), iter(noise(2)))


def source(frames):
    return VideoSource(
        Path("true.mp4"),
        Fraction(30),
        *frames.shape[1:3],
        len(frames),
        None,
        False,
        lambda places: (frames[i] for i in places),
    )


def test_true_videos_have_a_frame_for_each_of_the_result_or_of_the_driving_video():
    true = noise(11)
    facts = (6, (16, 12), 2)
    assert np.array_equal(list(true_frames(*facts, source(true))), true[::2])
    assert np.array_equal(list(true_frames(*facts, source(true[:6]))), true[:6])
    with pytest.raises(InputError, match="10 frames"):
        true_frames(*facts, source(true[:10]))
    with pytest.raises(InputError, match="12x8"):
        true_frames(*facts, source(true[:, :8]))
    larger = np.full((6, 32, 24, 3), 70, np.uint8)
    assert np.array_equal(list(true_frames(*facts, source(larger))), larger[:, :16, :12])


def row(name, passes=4, clip="v/a", seed=1, reference="r", frames=6, loading=0.0, sampling=6.0):
    facts = {"seed": seed, "inputs": {"reference": reference}, "frames": frames, "height": 8, "width": 8}
    seconds = {"loading": loading, "sampling": sampling, "decoding": 0.0}
    return SimpleNamespace(
        name=name, clip=clip, passes=passes, facts=facts | {"sampled_frames": {"stride": 1}}, seconds=seconds
    )


def test_the_costliest_of_the_same_clip_seed_reference_and_shape():
    rows = [row("cheap", 1), row("best", 9), row("best again", 9)]
    others = [
        row("clip", 99, clip="v/b"),
        row("seed", 99, seed=2),
        row("ref", 99, reference="s"),
        row("long", 99, frames=7),
    ]
    assert [costliest(one, [*rows, *others]).name for one in rows] == ["best"] * 3
    assert [costliest(one, [*rows, *others]) for one in others] == others


def test_seconds_of_results_that_loaded_networks_are_left_out_where_there_are_others():
    assert seconds_per_frame([row("first", loading=3.0, sampling=60.0), row("later")]) == [1.0]
    assert seconds_per_frame([row("only", loading=3.0)]) == [1.0]


def test_the_swept_number_with_the_most_values_runs_along_the_lines():
    steps = [
        {"turbo.num_inference_steps": n, "turbo.lcm_lora_scale": n % 2, "test_case[*].seed": n, "x": True}
        for n in (1, 2, 4)
    ]
    assert axis_of(steps) == "turbo.num_inference_steps"
    assert axis_of([{"turbo.scheduler": "AYS"}]) is None
