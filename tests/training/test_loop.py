"""The training: each stage's steps, resuming, checkpoints and the pool of clips."""

import json
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mimicmotion.errors import InputError, SetupError, UsageError
from mimicmotion.modules import PoseFeatures
from mimicmotion.pipelines import StepCache
from mimicmotion.pipelines.pipeline_mimicmotion import Conditions, TileGuide
from mimicmotion.training import lcm_stage, loop, networks, unet_stage
from mimicmotion.training.encoder_stage import EncoderStage
from mimicmotion.training.latent_pool import open_latents
from mimicmotion.training.lcm_stage import LcmStage
from mimicmotion.training.options import (
    DecoderOptions,
    EncoderOptions,
    LcmOptions,
    UnetOptions,
    VaeOptions,
    parse_phases,
)
from mimicmotion.training.pool import HEIGHT, WIDTH, open_pool, region_coverage
from mimicmotion.training.unet_stage import UnetStage, draw_batch, make_pipeline, phase_of, predict
from mimicmotion.training.vae_stage import VaeStage
from mimicmotion.weights.lookup import LORA_FILE
from mimicmotion.weights.lora import apply_lcm_weights
from scripts import train_tiny
from tests.training.standins import block_pose, make_clip

CPU = torch.device("cpu")

SMALL_VAE = {
    "encoder_block_out_channels": (8,) * 4,
    "decoder_block_out_channels": (8,) * 4,
    "num_encoder_blocks": (1, 1, 1, 1),
    "num_decoder_blocks": (1, 1, 1, 1),
    "latent_channels": 4,
}
SMALL_ENCODER = networks.IMAGE_ENCODER | {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
SMALL_UNET = networks.UNET | {"block_out_channels": (32, 32, 32), "num_attention_heads": (1, 1, 1)}
SHORT_PHASES = "0.5:2:3:random,0.5:1:4:consecutive"
SMALL = {
    VaeOptions: {"batch": 2, "crop": 32},
    DecoderOptions: {"batch": 2, "crop": 32},
    EncoderOptions: {"batch": 2},
    UnetOptions: {"phases": "0.25:2:1:random,0.25:2:3:random,0.5:1:4:consecutive"},
    LcmOptions: {"phases": SHORT_PHASES, "rank": 2},
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return open_pool(tmp_path_factory.mktemp("pool"), 2, 0, make_clip)


@pytest.fixture(scope="module")
def model(pool, tmp_path_factory):
    """The folder of a model of random weights, all parts of it written by their stages."""
    folder = tmp_path_factory.mktemp("model")
    for stage in (
        VaeStage(options_in(folder, VaeOptions), pool, CPU, SMALL_VAE),
        EncoderStage(options_in(folder, EncoderOptions), pool, CPU, SMALL_ENCODER),
    ):
        stage.export()
    data = open_latents(pool, folder / "latents", folder / "out", CPU)
    stage = UnetStage(options_in(folder, UnetOptions), data, CPU, SMALL_UNET)
    torch.nn.init.normal_(stage.networks["pose_net"].final_proj.weight, generator=torch.Generator().manual_seed(0))
    stage.export()
    return folder / "out"


@pytest.fixture(scope="module")
def data(pool, model):
    return open_latents(pool, model.parent / "latents", model, CPU)


def options_in(folder, kind=VaeOptions, **settings):
    common = {"run_dir": folder / "run", "out": folder / "out", "clips": 2, "device": "cpu"}
    return kind(**common | SMALL[kind] | settings)


def run_vae(folder, pool, steps, **settings):
    return run_stage(VaeStage(options_in(folder, steps=8, **settings), pool, CPU, SMALL_VAE), steps)


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
        stage = VaeStage(options, pool, CPU, SMALL_VAE)
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


class TestEncoder:
    def test_resumed_steps_are_bit_equal(self, pool, tmp_path):
        def run(folder, steps):
            stage = EncoderStage(options_in(folder, EncoderOptions, steps=8), pool, CPU, SMALL_ENCODER)
            return run_stage(stage, steps)

        whole = run(tmp_path / "whole", 4)
        run(tmp_path / "cut", 2)
        assert_same_bits(weights_of(run(tmp_path / "cut", 4)), weights_of(whole))

    def test_it_learns_the_colours(self, pool, tmp_path):
        options = options_in(tmp_path, EncoderOptions, steps=60, learning_rate=3e-3)
        run = run_stage(EncoderStage(options, pool, CPU, SMALL_ENCODER), 0)
        losses = [run._one_step()["loss"] for _ in range(60)]
        assert np.mean(losses[-5:]) < 0.2 * losses[0]


class TestLatents:
    def test_they_are_the_pipelines_own(self, pool, data):
        pipeline = make_pipeline(networks.build_unet(SMALL_UNET), data)
        frame = torch.from_numpy(np.array(pool.frames[1, 0])).permute(2, 0, 1)[None] / 255
        expected = pipeline.encode_image(frame * 2 - 1)
        assert np.allclose(data.latents[1, 0], expected[0].numpy(), atol=2e-3)
        embedding = pipeline.embed_image(frame)[0, 0].numpy()
        assert np.abs(embedding).max() > 0.01
        assert np.allclose(data.embeddings[1], embedding, atol=0.02 * np.abs(embedding).max())

    def test_what_is_missing_is_computed_and_nothing_else(self, pool, model, tmp_path):
        whole = open_latents(pool, tmp_path, model, CPU)
        expected = np.array(whole.latents)
        whole.latents[:] = 0
        manifest = tmp_path / "latents.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"done": 1}))
        resumed = open_latents(pool, tmp_path, model, CPU)
        assert not resumed.latents[0].any() and np.array_equal(resumed.latents[1], expected[1])

    def test_a_missing_part_is_named(self, pool, tmp_path):
        with pytest.raises(SetupError, match=r"vae is not there; run scripts/train_tiny.py vae first"):
            open_latents(pool, tmp_path, tmp_path, CPU)


class TestUnet:
    def run(self, folder, data, steps, **settings):
        return run_stage(UnetStage(options_in(folder, UnetOptions, steps=8, **settings), data, CPU, SMALL_UNET), steps)

    def test_resumed_steps_are_bit_equal(self, data, tmp_path):
        whole = self.run(tmp_path / "whole", data, 6)
        self.run(tmp_path / "cut", data, 3)
        assert_same_bits(weights_of(self.run(tmp_path / "cut", data, 6)), weights_of(whole))

    def test_it_predicts_as_the_pipeline_does_with_and_without_conditioning(self, data, model):
        nets = unet_stage.load_networks(model).eval()
        pipeline = make_pipeline(nets, data)
        batch = draw_batch(data, parse_phases("1:1:4:random")[0], 1.0, torch.Generator().manual_seed(1), CPU)
        sigma = torch.full((1, 1, 1, 1, 1), 3.0)
        noisy = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(2)) * 3
        pipeline._guidance_scale = torch.tensor(2.0)
        ids = (unet_stage.TIME_IDS[0], int(unet_stage.TIME_IDS[1]), unet_stage.TIME_IDS[2])
        poses = PoseFeatures(pipeline.pose_net, batch.poses)
        conditions = pipeline._conditions(batch.embeddings, batch.reference[:, 0], ids, poses, 1)
        assert isinstance(conditions, Conditions)
        scaled, timestep = noisy / (1 + 9) ** 0.5, 0.25 * torch.tensor(3.0).log()
        with torch.no_grad():
            guide = TileGuide(pipeline, conditions, "off", StepCache(pipeline.unet, 1))
            expected = guide.predict(scaled, timestep, [0, 1, 2, 3], posed=True)
            for half, v in zip((1.0, 0.0), expected, strict=True):
                kept = torch.full_like(sigma, half)
                assert torch.allclose(predict(nets, pipeline._injection, noisy, sigma, batch, kept), v, atol=1e-5)
        assert not torch.allclose(*expected, atol=1e-3)

    def test_a_perfect_network_has_no_loss(self, data, tmp_path, monkeypatch):
        """With v as it should be, the clean latents come back: the target fits the pipeline's preconditioning."""
        stage = UnetStage(options_in(tmp_path, UnetOptions), data, CPU, SMALL_UNET)

        def perfect(_networks, _injection, noisy, sigma, batch, _kept):
            return ((noisy / (sigma**2 + 1)) - batch.latents) * (sigma**2 + 1).sqrt() / sigma

        monkeypatch.setattr(unet_stage, "predict", perfect)
        monkeypatch.setattr(stage, "_noise_levels", lambda count, _: torch.linspace(0.5, 20, count))
        loss, _ = stage.loss(0, torch.Generator().manual_seed(0))
        assert loss.item() < 1e-6

    def test_hands_weigh_more(self, data):
        batch = draw_batch(data, parse_phases("1:2:16:consecutive")[0], 4.0, torch.Generator().manual_seed(0), CPU)
        assert batch.weights.min() == 1 and batch.weights.max() == 4

    def test_phases_follow_one_another(self):
        phases = parse_phases("0.25:8:3:random,0.75:2:16:consecutive")
        assert [phase_of(phases, progress).clips for progress in (0, 0.2, 0.25, 0.9, 1)] == [8, 8, 2, 2, 2]

    @pytest.mark.parametrize("text", ["0.5:1:3:random", "1:1:3:sorted", "1:0:3:random", "1:1:17:random", "1:1"])
    def test_phases_that_cannot_be_are_refused(self, text):
        with pytest.raises(UsageError, match="phases"):
            parse_phases(text)

    def test_consecutive_frames_follow_one_another(self):
        (phase,) = parse_phases("1:1:5:consecutive")
        for seed in range(20):
            frames = unet_stage._draw_frames(phase, torch.Generator().manual_seed(seed))
            assert frames[0] == 0 and frames[1] >= 1 and frames[-1] <= 15 and (np.diff(frames[1:]) == 1).all()


class TestLcm:
    def stage(self, folder, data, model, **settings):
        return LcmStage(options_in(folder, LcmOptions, steps=8, **{"out": model, **settings}), data, CPU)

    def test_resumed_steps_are_bit_equal(self, data, model, tmp_path):
        whole = run_stage(self.stage(tmp_path / "whole", data, model), 6)
        run_stage(self.stage(tmp_path / "cut", data, model), 3)
        resumed = run_stage(self.stage(tmp_path / "cut", data, model), 6)
        assert_same_bits(weights_of(resumed), weights_of(whole))

    def test_only_the_lora_learns_and_its_slow_copy_follows(self, data, model, tmp_path):
        stage = self.stage(tmp_path, data, model)
        before = {name: p.detach().clone() for name, p in stage.networks.named_parameters()}
        run_stage(stage, 3)
        changed = {n for n, p in stage.networks.named_parameters() if not torch.equal(p, before[n])}
        assert changed and all(".lcm." in name or name.startswith("slow.") for name in changed)
        slow, fast = stage.networks["slow"], stage._adapters()
        distances = [(s - f).abs().max() for s, f in zip(slow, fast, strict=True)]
        assert 0 < max(distances) < 0.05

    def test_the_teacher_is_the_unet_without_its_lora_under_guidance(self, data, model, tmp_path):
        stage = self.stage(tmp_path, data, model)
        run_stage(stage, 2)
        plain = unet_stage.load_networks(model).requires_grad_(False)
        batch = draw_batch(data, stage.phases[0], 1.0, torch.Generator().manual_seed(0), CPU)
        sigma = torch.full((len(batch.latents), 1, 1, 1, 1), 2.0)
        noisy = batch.latents + 2
        injection = unet_stage.PoseInjection(plain["unet"])
        skip, out = stage.scheduler.scalings(sigma)
        without, conditioned = (
            skip * noisy + out * predict(plain, injection, noisy, sigma, batch, torch.full_like(sigma, kept))
            for kept in (0.0, 1.0)
        )
        with torch.no_grad():
            taught = stage._teacher(noisy, sigma, batch)
            student = stage._clean(noisy, sigma, batch)
        assert torch.allclose(taught, without + 2 * (conditioned - without), atol=1e-5)
        assert not torch.allclose(student, conditioned, atol=1e-5)

    def test_perfect_networks_have_no_loss_at_the_levels_of_eight_steps(self, data, model, tmp_path, monkeypatch):
        stage, seen = self.stage(tmp_path, data, model), set()

        def perfect(_networks, _injection, noisy, sigma, batch, _kept):
            seen.update(sigma.flatten().tolist())
            return ((noisy / (sigma**2 + 1)) - batch.latents) * (sigma**2 + 1).sqrt() / sigma

        monkeypatch.setattr(lcm_stage, "predict", perfect)
        losses = [stage.loss(step, torch.Generator().manual_seed(step))[0].item() for step in range(20)]
        assert max(losses) < 1e-3
        stage.scheduler.set_timesteps(8)
        assert sorted(seen) == pytest.approx(sorted(stage.scheduler.sigmas[:-1].tolist()))

    def test_the_turbo_script_can_apply_it(self, data, model, tmp_path):
        stage = self.stage(tmp_path, data, model)
        run_stage(stage, 3)
        trained = stage.networks["unet"]
        folder = tmp_path / "out"
        stage.options.__dict__["out"] = folder
        stage.export()
        pipeline = make_pipeline(unet_stage.load_networks(model), data)
        report = apply_lcm_weights(pipeline, folder / "lcm_lora" / LORA_FILE)
        assert report.matched == len(stage.layers) and report.relative_change > 0
        inputs = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
        arguments = (inputs, torch.tensor([0.3]), torch.ones(1, 1, 64), torch.tensor([[6.0, 127.0, 0.0]]))
        with torch.no_grad():
            assert torch.allclose(pipeline.unet(*arguments).sample, trained(*arguments).sample, atol=2e-3)


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
        stage = VaeStage(options_in(tmp_path), pool, CPU)
        with pytest.raises(InputError, match="does not fit"):
            run_stage(stage, 2)


def test_the_script_trains_and_reports_what_cannot_be(tmp_path, capsys):
    common = ["--run_dir", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--clips", "2", "--processes", "0"]
    common += ["--batch", "2", "--device", "cpu", "--threads", "1"]
    assert train_tiny.main(["vae", *common, "--steps", "3"]) == 0
    assert (tmp_path / "out" / "vae" / "diffusion_pytorch_model.safetensors").is_file()
    assert train_tiny.main(["vae", *common, "--steps", "3", "--seed", "1"]) == 1
    assert "other settings (seed 0 instead of 1)" in capsys.readouterr().err
    assert train_tiny.main(["vae", *common, "--steps", "0"]) == 2
    assert "--steps is 0" in capsys.readouterr().err


def test_an_interrupt_leaves_a_checkpoint_of_whole_steps(pool, tmp_path, monkeypatch):
    options = options_in(tmp_path, steps=8)
    stage = VaeStage(options, pool, CPU, SMALL_VAE)
    draw = stage.loss

    def interrupted_in_the_third(step, generator):
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return draw(step, generator)

    monkeypatch.setattr(stage, "loss", interrupted_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        loop.train(stage, loop.make_accelerator(options))
    assert json.loads((options.folder / "checkpoint.json").read_text())["step"] == 3
    whole = run_vae(tmp_path / "whole", pool, 5)
    assert_same_bits(weights_of(run_vae(tmp_path, pool, 5)), weights_of(whole))


def test_the_time_limit_ends_a_run_that_can_go_on(pool, tmp_path):
    options = options_in(tmp_path, steps=8, stop_after_minutes=0.0)
    assert not loop.train(VaeStage(options, pool, CPU, SMALL_VAE), loop.make_accelerator(options))
    assert (tmp_path / "out" / "vae" / "config.json").is_file()
    assert run_vae(tmp_path, pool, 1).step == 1


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="--steps is 0"):
        VaeOptions(steps=0)


def test_the_learning_rate_warms_up_and_falls():
    rates = [loop.learning_rate(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] < 0.02 and max(rates) == pytest.approx(1, abs=0.05)
    assert rates[200:] == sorted(rates[200:], reverse=True) and 0 < rates[-1] < 0.02
    assert loop.learning_rate(9, 100, 1.0) > 0.9
