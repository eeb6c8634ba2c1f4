"""Frames and latents on the disk, the two stages on the loop, the gate and the script."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mimicmotion.errors import InputError, MimicMotionError, UsageError
from mimicmotion.streaming import get_mode, load_generator
from mimicmotion.streaming.actions import idle
from mimicmotion.training import make_accelerator, steps_done
from mimicmotion.training.loop import TrainingRun
from mimicmotion.world_training import GateOptions, VaeOptions, WorldOptions
from mimicmotion.world_training.frames import open_frames
from mimicmotion.world_training.latents import open_latents
from mimicmotion.world_training.stages import judge_gate
from mimicmotion.world_training.vae_stage import VaeStage
from mimicmotion.world_training.world_stage import Layout, WorldStage, wrong_actions
from mimicmotion.worlds import draw_session, render
from scripts import train_world

from .standins import FRAMES, HEIGHT, WALK, WIDTH, WORLD, encoder_in, vae_options, world_in, world_options

CPU = torch.device("cpu")


def run_to(stage, steps):
    run = TrainingRun(stage, make_accelerator(stage.options))
    while run.step < steps:
        run._one_step()
    run.save()
    return {name: value.clone() for name, value in run.averages.items()} | dict(stage.networks.state_dict())


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert not [name for name in one if not torch.equal(one[name], other[name])]


class TestPools:
    def test_frames_are_those_of_the_seeds_and_stay(self, tmp_path):
        frames = open_frames(tmp_path, 3, WALK)
        assert len(frames) == 3
        assert np.array_equal(frames[2], render(draw_session(2, FRAMES, WALK).cameras))
        path = tmp_path / "frames-000000.npy"
        written = path.stat().st_mtime_ns
        assert len(open_frames(tmp_path, 2, WALK)) == 2
        assert path.stat().st_mtime_ns == written

    def test_frames_of_another_world_are_refused(self, tmp_path):
        open_frames(tmp_path, 1, WALK)
        (tmp_path / "frames.json").write_text(json.dumps({"world": "another"}))
        with pytest.raises(InputError, match="another world"):
            open_frames(tmp_path, 1, WALK)

    def test_a_damaged_file_is_named(self, tmp_path):
        open_frames(tmp_path, 1, WALK)
        (tmp_path / "frames-000000.npy").write_bytes(b"nothing")
        with pytest.raises(InputError, match="frames-000000"):
            open_frames(tmp_path, 1, WALK)

    def test_latents_are_kept_and_more_can_be_added(self, pool, vae_folder, tmp_path):
        again = open_latents(tmp_path / "latents", encoder_in(vae_folder), 3, None)
        assert len(again) == 3
        assert torch.equal(again.latents, pool.latents[:3])
        assert pool.latents.shape == (4, 16, 6, HEIGHT // 8, WIDTH // 8)
        assert pool.keyboard.shape == (4, 12 + FRAMES, 4)

    def test_latents_of_other_networks_are_refused(self, pool, vae_folder, tmp_path):
        encoder = encoder_in(vae_folder)
        encoder.vae.vae.quant_conv.bias.data += 1
        with pytest.raises(InputError, match="other weights"):
            open_latents(tmp_path / "latents", encoder, 4, None)

    def test_conditions_are_those_of_a_session(self, pool, vae_folder):
        encoder = encoder_in(vae_folder)
        frames = render(draw_session(1, 1, WALK).cameras, HEIGHT, WIDTH)
        first = torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1
        wanted = encoder.vae.encode_condition(first)
        for start in (0, 3, 6, 27):
            condition = pool.condition(torch.tensor([1]), start, 3)
            assert torch.allclose(condition[:, 4:], wanted[:, :, start : start + 3], atol=5e-3)
            mask = condition[:, :4].amax((1, 3, 4))
            assert mask.tolist() == [[float(start == 0), 0, 0]]
        assert torch.allclose(pool.tail, wanted[0, :, -1], atol=1e-3)


class TestStages:
    def test_a_cut_vae_run_goes_on_with_the_same_bits(self, tmp_path, clips):
        def stage(name):
            return VaeStage(vae_options(tmp_path / name, columns=16, steps=4), WORLD, clips, WALK, CPU)

        run_to(stage("cut"), 1)
        assert_same_bits(run_to(stage("cut"), 2), run_to(stage("whole"), 2))

    @pytest.mark.parametrize("copies", [1, 2])
    def test_a_cut_world_run_goes_on_with_the_same_bits(self, tmp_path, pool, copies):
        def stage(name):
            options = world_options(tmp_path / name, steps=4, copies=copies, own_from=0, own_share=0.7)
            return WorldStage(options, WORLD, pool, pool, CPU)

        run_to(stage("cut"), 2)
        assert_same_bits(run_to(stage("cut"), 4), run_to(stage("whole"), 4))
        assert steps_done(stage("cut").options.folder) == 4
        assert steps_done(tmp_path / "none") is None

    def test_training_lowers_the_loss(self, tmp_path, pool):
        stage = WorldStage(world_options(tmp_path, steps=40, learning_rate=3e-3), WORLD, pool, pool, CPU)
        generator = torch.Generator
        before = np.mean([stage.loss(0, generator().manual_seed(n))[0].item() for n in range(4)])
        run_to(stage, 40)
        after = np.mean([stage.loss(0, generator().manual_seed(n))[0].item() for n in range(4)])
        assert after < 0.8 * before

    def test_an_own_session_is_the_one_that_the_runtime_makes(self, tmp_path, pool, vae_folder, clips, monkeypatch):
        stage = WorldStage(world_options(tmp_path, out=vae_folder), WORLD, pool, pool, CPU)
        stage.export()
        runtime = load_generator(world_in(vae_folder))
        row = torch.tensor([2])
        draws = torch.Generator().manual_seed(5)
        made = stage.own_rollout(row, pool.latents[row].float(), 0, draws)
        assert torch.equal(made[:, :, 3:], pool.latents[row, :, 3:].float())  # two blocks: the last is left as it is
        draws.manual_seed(5)
        monkeypatch.setattr("mimicmotion.streaming.generator.block_generator", lambda seed, start: draws)
        state = runtime.start(render(draw_session(2, 1, WALK).cameras, HEIGHT, WIDTH)[0], 0)
        inputs = stage._block_inputs(pool, row, 0)
        wanted = runtime.denoise_block(state, *(
            torch.cat((part, part[:, -1:]), dim=1)  # the runtime drops the newest action frame
            for part in (inputs["keyboard"], inputs["mouse"] / stage.options.mouse_scale)
        ))  # fmt: skip
        assert torch.allclose(made[:, :, :3], wanted, atol=0.03)  # weights and conditions are in half precision
        assert not torch.allclose(made[:, :, :3], pool.latents[row, :, :3].float(), atol=0.3)

    def test_what_follows_a_lost_context_counts_less(self, tmp_path, pool):
        stage = WorldStage(world_options(tmp_path), WORLD, pool, pool, CPU)
        truth = pool.latents[:2].float()
        layout = Layout(2, 2, 1)
        lost = truth.clone()
        lost[1, :, :3] += 3
        first, other, after_true, after_lost = stage._trust(lost, truth, layout).tolist()
        assert first == other == after_true == 1
        assert after_lost < 0.2

    def test_an_exported_model_plays_in_the_runtime(self, tmp_path, pool, vae_folder, clips):
        stage = WorldStage(world_options(tmp_path, out=vae_folder), WORLD, pool, pool, CPU)
        stage.export()
        generator = load_generator(world_in(vae_folder))
        frames = generator.generate(clips[0][0], [idle(get_mode("universal"))] * 2)
        assert frames.shape == (21, HEIGHT, WIDTH, 3)
        again = WorldStage(world_options(tmp_path, init_from=vae_folder), WORLD, pool, pool, CPU)
        for name, value in stage.model.state_dict().items():
            assert torch.allclose(again.model.state_dict()[name], value, atol=2e-3), name

    def test_a_wider_model_begins_as_the_narrower_one(self, tmp_path, pool, vae_folder):
        WorldStage(world_options(tmp_path, out=vae_folder), WORLD, pool, pool, CPU).export()
        wider = dataclasses.replace(WORLD, model={**WORLD.model, "ffn_dim": 96})
        options = world_options(tmp_path, init_from=vae_folder)
        same, wide = (WorldStage(options, world, pool, pool, CPU) for world in (WORLD, wider))
        assert wide.model.blocks[0].ffn[0].weight.shape == (96, 64)
        assert wide.model.blocks[0].ffn[0].weight[64:].abs().min() > 0
        for name, value in same.gaps(pool).items():
            assert wide.gaps(pool)[name] == pytest.approx(value, abs=1e-3)
        narrower = dataclasses.replace(WORLD, model={**WORLD.model, "ffn_dim": 32})
        with pytest.raises(UsageError, match="take 64 or more"):
            WorldStage(options, narrower, pool, pool, CPU)

    def test_a_trial_does_not_overwrite_the_model(self, tmp_path, pool, vae_folder):
        options = GateOptions(run_dir=tmp_path, out=tmp_path / "out", height=HEIGHT, width=WIDTH, device="cpu")
        WorldStage(options, WORLD, pool, pool, CPU).export()
        assert not (tmp_path / "out").exists()

    def test_every_kind_of_wrong_action_is_measured(self, pool, tmp_path):
        stage = WorldStage(world_options(tmp_path), WORLD, pool, pool, CPU)
        figures = stage.gaps(pool)
        assert set(figures) == {"right", "other", "mirrored", "none"}
        assert all(np.isfinite(value) for value in figures.values())

    def test_figures_and_a_sheet_are_written(self, pool, tmp_path):
        drawn = {}

        def play(state):
            drawn["mouse"] = state["blocks.0.action_model.mouse_mlp.0.weight"].clone()
            return [("row", np.zeros((2, 8, 8, 3), np.uint8))], {"obeyed": 0.5}

        stage = WorldStage(world_options(tmp_path), WORLD, pool, pool, CPU, play)
        stage.write_sheet(tmp_path / "sheet-0000007.jpg")
        line = json.loads((tmp_path / "figures.jsonl").read_text())
        assert line["step"] == 7
        assert line["obeyed"] == 0.5
        own = stage.model.state_dict()["blocks.0.action_model.mouse_mlp.0.weight"]
        assert torch.allclose(drawn["mouse"][:, 64:], own[:, 64:] * 15)
        assert torch.equal(drawn["mouse"][:, :64], own[:, :64])

    def test_wrong_actions_are_wrong(self, pool):
        changed = wrong_actions(pool)
        assert changed["right"] is pool
        assert torch.equal(changed["other"].mouse[1], pool.mouse[0])
        assert torch.equal(changed["mirrored"].keyboard[..., 0], pool.keyboard[..., 1])
        assert not changed["none"].keyboard.any()


class TestSettings:
    def test_the_gate_opens_only_for_a_gap(self):
        judge_gate({"right": 20.0, "other": 18.9}, 1.0)
        for other in (19.1, float("nan")):
            with pytest.raises(MimicMotionError, match="gate"):
                judge_gate({"right": 20.0, "other": other}, 1.0)

    def test_the_gate_is_small(self):
        options = GateOptions()
        assert options.height * options.width < 64 * 112 / 4
        assert options.folder != WorldOptions().folder

    @pytest.mark.parametrize(
        "flags",
        [
            ["vae", "--frames", "12"],
            ["decoder", "--columns", "9"],
            ["world", "--batch", "1"],
            ["world", "--height", "32"],
            ["evaluate", "--sessions", "0"],
        ],
    )
    def test_settings_that_cannot_be_are_told_at_once(self, flags, capsys):
        assert train_world.main(flags) == 2
        assert "error: " in capsys.readouterr().err

    @pytest.mark.parametrize("stage", list(train_world.COMMANDS))
    def test_walks_share_no_file(self, stage):
        free = train_world.parse([stage, "--walk", "free"])
        named = [name for name in ("world", "out", "run_dir", "page") if hasattr(free, name)]
        assert len(named) >= 3
        tiles = train_world.parse([stage])
        assert not {getattr(free, name) for name in named} & {getattr(tiles, name) for name in named}
        assert train_world.parse([stage, "--walk", "free", "--out", "there"]).out == Path("there")

    def test_flags_reach_their_settings(self):
        options = train_world.parse(["vae", "--steps", "7", "--init_from", "somewhere"])
        assert isinstance(options, VaeOptions)
        assert (options.steps, str(options.init_from)) == (7, "somewhere")
        with pytest.raises(UsageError):
            train_world.parse(["vae", "--columns", "9"])
