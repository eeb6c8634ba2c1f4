"""The training: each stage's steps, resuming, checkpoints and the pool of clips."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_standins import block_pose, make_clip

from mimicmotion.errors import InputError, UsageError
from mimicmotion.training import loop
from mimicmotion.training.options import VaeOptions
from mimicmotion.training.pool import HEIGHT, WIDTH, open_pool, region_coverage
from mimicmotion.training.vae_stage import VaeStage

SMALL_VAE = {
    "encoder_block_out_channels": (8,) * 4,
    "decoder_block_out_channels": (8,) * 4,
    "num_encoder_blocks": (1, 1, 1, 1),
    "num_decoder_blocks": (1, 1, 1, 1),
    "latent_channels": 4,
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return open_pool(tmp_path_factory.mktemp("pool"), 2, 0, make_clip)


def options_in(folder, kind=VaeOptions, **settings):
    small = {"batch": 2, "crop": 32} if kind is VaeOptions else {}
    return kind(run_dir=folder / "run", out=folder / "out", clips=2, device="cpu", **small | settings)


def run_vae(folder, pool, steps, **settings):
    options = options_in(folder, steps=8, **settings)
    return run_stage(VaeStage(options, pool, torch.device("cpu"), SMALL_VAE), steps)


def run_stage(stage, steps):
    """Trains until so many steps are done of the 8 that the learning rate is made for."""
    run = loop.TrainingRun(stage, loop.make_accelerator(stage.options))
    while run.step < steps:
        run._one_step()
    run.save()
    return run


def weights_of(run):
    return {name: p.detach().clone() for name, p in run.stage.networks.named_parameters()} | {
        f"average {name}": average.clone() for name, average in run.averages.items()
    }


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


class TestPool:
    def test_every_clip_is_of_its_own_seed(self, pool):
        for seed in range(2):
            assert np.array_equal(pool.frames[seed], make_clip(seed).frames)

    def test_a_pool_that_was_cut_goes_on_to_the_same_files(self, pool, tmp_path, monkeypatch):
        drawn = []

        def cut_after_one(seed, *size):
            if size[0] == 16:
                drawn.append(seed)
                if drawn == [0, 1]:
                    raise KeyboardInterrupt
            return make_clip(seed, *size)

        with pytest.raises(KeyboardInterrupt):
            open_pool(tmp_path, 2, 0, cut_after_one)
        assert json.loads((tmp_path / "pool.json").read_text())["rendered"] == 1
        resumed = open_pool(tmp_path, 2, 0, cut_after_one)
        assert drawn == [0, 1, 1]
        for name in ("frames", "poses", "pictures", "attributes", "regions"):
            assert np.array_equal(getattr(resumed, name), getattr(pool, name)), name

    def test_a_pool_of_another_renderer_is_refused(self, pool):
        def other(seed, *size):
            return make_clip(seed + 1, *size)

        with pytest.raises(InputError, match=r"another pool.*renderer"):
            open_pool(pool.folder, 2, 0, other)

    def test_a_smaller_pool_is_part_of_a_larger_one(self, pool):
        assert len(open_pool(pool.folder, 1, 0, make_clip)) == 1
        with pytest.raises(InputError, match="clips 2 instead of 3"):
            open_pool(pool.folder, 3, 0, make_clip)

    def test_only_hands_seen_clearly_are_regions(self):
        seen = region_coverage(block_pose(0.25, 0.5), HEIGHT, WIDTH)
        hidden = region_coverage(block_pose(0.25, 0.5, left_hand_score=0.5), HEIGHT, WIDTH)
        assert not hidden.any()
        rows, columns = np.nonzero(seen)
        assert seen[12, 4] == 255  # the middle of the hand, at 0.275 and 0.525
        assert rows.min() >= 11 and rows.max() <= 14 and columns.min() >= 3 and columns.max() <= 5


class TestVae:
    def test_resumed_steps_are_bit_equal(self, pool, tmp_path):
        whole = run_vae(tmp_path / "whole", pool, 4)
        run_vae(tmp_path / "cut", pool, 2)
        assert_same_bits(weights_of(run_vae(tmp_path / "cut", pool, 4)), weights_of(whole))

    def test_another_seed_gives_other_weights(self, pool, tmp_path):
        one = weights_of(run_vae(tmp_path / "one", pool, 1))
        other = weights_of(run_vae(tmp_path / "other", pool, 1, seed=1))
        assert not torch.equal(one["vae.encoder.layers.0.weight"], other["vae.encoder.layers.0.weight"])

    def test_training_ends_with_the_part_and_its_records(self, pool, tmp_path):
        options = options_in(tmp_path, steps=3)
        stage = VaeStage(options, pool, torch.device("cpu"), SMALL_VAE)
        assert loop.train(stage, loop.make_accelerator(options))
        weights = load_file(tmp_path / "out" / "vae" / "diffusion_pytorch_model.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
        config = json.loads((tmp_path / "out" / "vae" / "config.json").read_text())
        with torch.no_grad():
            latents = stage.vae.encode(torch.rand(4, 3, 64, 64) * 2 - 1).latents
        assert config["scaling_factor"] != 1 and torch.isfinite(latents).all()
        assert [line["step"] for line in loop.read_losses(options.folder / "loss.jsonl")] == [1, 2, 3]
        assert (options.folder / "curve.png").stat().st_size > 1000
        assert (options.folder / "sheet-0000003.jpg").stat().st_size > 1000


class TestCheckpoint:
    def test_a_damaged_file_is_refused(self, pool, tmp_path):
        run_vae(tmp_path, pool, 1)
        (path,) = (tmp_path / "run" / "vae").glob("checkpoint-*.safetensors")
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"{path.name} is damaged.*delete"):
            run_vae(tmp_path, pool, 2)

    def test_facts_that_cannot_be_read_are_refused(self, pool, tmp_path):
        run_vae(tmp_path, pool, 1)
        (tmp_path / "run" / "vae" / "checkpoint.json").write_text("{")
        with pytest.raises(InputError, match=r"checkpoint.json is damaged"):
            run_vae(tmp_path, pool, 2)

    def test_other_settings_are_refused(self, pool, tmp_path):
        run_vae(tmp_path, pool, 1)
        with pytest.raises(InputError, match=r"other settings \(seed 0 instead of 1\)"):
            run_vae(tmp_path, pool, 2, seed=1)

    def test_other_networks_are_refused(self, pool, tmp_path):
        run_vae(tmp_path, pool, 1)
        stage = VaeStage(options_in(tmp_path), pool, torch.device("cpu"))
        with pytest.raises(InputError, match="does not fit"):
            run_stage(stage, 2)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="--steps is 0"):
        VaeOptions(steps=0)


def test_the_learning_rate_warms_up_and_falls():
    rates = [loop.learning_rate(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] < 0.02 and max(rates) == pytest.approx(1, abs=0.05)
    assert rates[200:] == sorted(rates[200:], reverse=True) and 0 < rates[-1] < 0.02
