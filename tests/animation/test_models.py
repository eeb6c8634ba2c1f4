"""What a run has open: the networks that its settings name, whatever else is loaded."""

import pytest
import torch
from safetensors.torch import save_file

from mimicmotion.animation import Models, Opened
from mimicmotion.config import load_config
from mimicmotion.errors import SetupError
from tests.conftest import make_scheduler

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture
def loras(tmp_path, micro_model):
    """Two LoRA files of one layer, and the change that each makes of its weight."""
    generator, changes, paths = torch.Generator().manual_seed(1), [], []
    for name in ("a", "b"):
        down, up = torch.randn((2, 32), generator=generator), torch.randn((32, 2), generator=generator)
        paths.append(str(tmp_path / f"{name}.safetensors"))
        save_file({f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}, paths[-1])
        changes.append(up @ down)
    return paths, changes


def settings(project, **turbo):
    return load_config(project / "settings.yaml", {f"turbo.{name}": value for name, value in turbo.items()})


def weight(models):
    return models.pipeline.unet.get_submodule(LAYER).weight


def test_several_loras_are_applied_with_their_scales_and_are_part_of_the_recipe(project, loras):
    (first, second), changes = loras
    plain = Models(settings(project))
    both = Models(settings(project, lcm_lora_path=first, more_lora_paths=[second], more_lora_scales=[0.5]))
    torch.testing.assert_close(weight(both), weight(plain) + changes[0] + 0.5 * changes[1])
    weaker = Models(settings(project, lcm_lora_path=first, more_lora_paths=[second], more_lora_scales=[0.25]))
    alone = Models(settings(project, lcm_lora_path=first))
    hashes = [models.weights for models in (plain, both, weaker, alone)]
    assert all(one != other for number, one in enumerate(hashes) for other in hashes[number + 1 :])


def test_models_share_networks_and_have_their_own_scheduler(project):
    opened = Opened()
    one = Models(settings(project, num_inference_steps=1), opened)
    other = Models(settings(project, scheduler="AYS"), opened)
    bare = Models(settings(project, skip_lcm_scheduler=True), opened)
    shown = []
    for models in (one, other, bare, one):
        shown.append((type(models.pipeline.scheduler).__name__, models.pipeline.unet))
    assert [name for name, _ in shown] == [
        "AnimateLCMSVDStochasticIterativeScheduler",
        "AlignYourStepsScheduler",
        "EulerDiscreteScheduler",
        "AnimateLCMSVDStochasticIterativeScheduler",
    ]
    assert all(unet is shown[0][1] for _, unet in shown)
    one.pipeline.scheduler = somebodys_own = make_scheduler()
    assert one.pipeline.scheduler is somebodys_own


def test_what_went_is_loaded_again(project):
    opened = Opened(keep=1)
    one, other = (
        Models(settings(project), opened),
        Models(load_config(project / "settings.yaml", {"runtime.vae_dtype": "bf16"}), opened),
    )
    first = one.pipeline
    assert other.pipeline is not first
    assert one.pipeline is not first
    assert one.pipeline.vae.dtype == torch.float32 and other.pipeline.vae.dtype == torch.bfloat16


def test_ways_to_compute_are_other_networks_and_a_step_cache_is_none(project):
    def models(**speed):
        return Models(load_config(project / "settings.yaml", {f"speed.{name}": value for name, value in speed.items()}))

    ways = [{}, {"attention": "_native_math"}, {"preset": "max"}]
    ways += [{name: True} for name in ("fp8", "channels_last", "fuse_qkv")]
    assert len({models(**way).networks_key for way in ways}) == len(ways)
    assert models(step_cache=2).networks_key == models().networks_key
    processors = models(attention="_native_math").pipeline.unet.attn_processors.values()
    assert {processor.backend for processor in processors} == {"_native_math"}


def test_a_kernel_that_is_not_there_shows_before_networks_are_loaded(project):
    models = Models(load_config(project / "settings.yaml", {"speed.attention": "flash"}))
    for ask in (models.check, models.resolve, lambda: models.pipeline):
        with pytest.raises(SetupError, match="flash-attn is not installed"):
            ask()


def test_a_detector_is_closed_before_sampling_where_networks_are_offloaded(project, monkeypatch):
    from mimicmotion.pipelines import Rung

    made = []
    monkeypatch.setattr("mimicmotion.animation.models.make_detector", lambda *_, **__: made.append(1) or object())
    models = Models(load_config(project / "settings.yaml", overrides=["pose.backend=mediapipe"]))
    first = models.detector
    models.make_room_for_sampling()
    models.rung = Rung(False, True, "none")
    models.make_room_for_sampling()
    assert models.detector is first
    models.rung = Rung(False, True, "model")
    models.make_room_for_sampling()
    models.make_room_for_sampling()
    assert models.detector is not first
    assert made == [1, 1]
