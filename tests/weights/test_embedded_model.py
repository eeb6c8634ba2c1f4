"""The embedded model as it is shipped: whole, and as good in a few steps as it was measured to be.

One validation clip is sampled in turbo. Its numbers lie within bounds that random weights, and the same model without
its LoRA, miss.
"""

from pathlib import Path

import pytest
from safetensors import safe_open

from mimicmotion.training.evaluation_options import READER_PATH, EvaluateOptions
from mimicmotion.weights import embedded

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / embedded.TINY_PATH
# Of the clip below in 4 turbo steps; doc/embedded_model.md has the means over all clips.
SEED = 1_000_007
LARGEST_DISTANCE = 0.21  # of gradient histograms; 0.174 was measured
SHARPNESS = (0.8, 1.2)  # 0.938; the plain model has 0.616
LARGEST_POSE_ERROR = 2.0  # % of body height; 1.32

pytestmark = pytest.mark.skipif(
    not (embedded.read_marker(MODEL) or {}).get("trained"), reason="assets/models/tiny is not the trained model"
)


@pytest.fixture(scope="module")
def options():
    return EvaluateOptions(
        model=MODEL, reader=ROOT / READER_PATH, inference_config=ROOT / "configs" / "test.yaml", device="cpu"
    )


@pytest.fixture(scope="module")
def sampler(options):
    """Samples in 4 turbo steps with the LoRA."""
    from mimicmotion.training.evaluation import WAYS, Sampler

    return Sampler(WAYS["turbo4"], options)


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder", "pose_net"])
def test_no_key_is_missing_and_none_is_left_over(sampler, options, part):
    # The LoRA is fused: the UNet's keys are those it was loaded with.
    (path,) = (MODEL / part).glob("*.safetensors")
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(getattr(sampler.animator.models.pipeline, part).state_dict())


def test_it_is_within_its_size():
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()) < 40e6


def test_turbo_is_good_and_neither_chance_nor_the_plain_model_is(sampler, options):
    from mimicmotion.training.evaluation import WAYS, Sampler, make_target

    target = make_target(SEED, options.frames)
    assert misses(sampler.frames(target), target, options) == []
    plain = Sampler(WAYS["turbo4_plain"], options)
    assert "sharpness" in misses(plain.frames(target), target, options)
    embedded.draw_weights(plain.animator.models.pipeline.unet, "random/unet", embedded.GAINS["unet"])
    assert misses(plain.frames(target), target, options) == ["distance", "sharpness", "pose"]


def misses(frames, target, options) -> list[str]:
    """Which of the bounds do not hold."""
    from mimicmotion.evaluation import gradient_histogram_distance
    from mimicmotion.puppets import load_reader, pose_error
    from mimicmotion.results import sharpness

    numbers = {
        "distance": gradient_histogram_distance(frames, target.truth),
        "sharpness": sharpness(frames, target.truth, target.box),
        "pose": pose_error(load_reader(options.reader), frames, target.poses[1:], target.body_height)[0],
    }
    held = {
        "distance": numbers["distance"] <= LARGEST_DISTANCE,
        "sharpness": SHARPNESS[0] <= numbers["sharpness"] <= SHARPNESS[1],
        "pose": numbers["pose"] <= LARGEST_POSE_ERROR,
    }
    print(numbers)
    return [name for name in numbers if not held[name]]
