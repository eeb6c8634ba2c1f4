"""The evaluation: every way on a micro model, what is kept, the figures and the page."""

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mimicmotion.errors import SetupError, UsageError
from mimicmotion.puppets.pose_reader import PoseReader, ReaderConfig, save_reader
from mimicmotion.results import metrics
from mimicmotion.training import evaluation, evaluation_page, evaluation_pictures, model_facts
from mimicmotion.training.evaluation_options import EvaluateOptions
from mimicmotion.training.kept_results import KeptResults
from tests.conftest import save_micro_model

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (2, 192, 128, 3)
LORA_LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A micro model with a LoRA, and a reader that was never trained."""
    folder = tmp_path_factory.mktemp("model") / "micro"
    torch.manual_seed(0)
    save_micro_model(folder)
    lora = {f"unet.{LORA_LAYER}.lora_{part}.weight": torch.randn(*shape) for part, shape in
            (("A", (2, 32)), ("B", (32, 2)))}  # fmt: skip
    (folder / "lcm_lora").mkdir()
    save_file(lora, folder / "lcm_lora" / "pytorch_lora_weights.safetensors")
    save_reader(PoseReader(ReaderConfig(widths=(8, 8, 8))), folder.parent / "reader.safetensors", {})
    return folder


def options_for(model, out, **settings):
    common = {"clips": 1, "frames": 3, "device": "cpu", "inference_config": ROOT / "configs" / "test.yaml"}
    paths = {"out_dir": out, "doc": out / "page.md", "reader": model.parent / "reader.safetensors", "run_dir": out}
    return EvaluateOptions(model=model, **common | paths | settings)


@pytest.fixture(scope="module")
def evaluated(model, tmp_path_factory):
    """The folder of an evaluation that is done."""
    out = tmp_path_factory.mktemp("evaluation")
    evaluation.evaluate(options_for(model, out, ways="truth,copy,vae,turbo1,turbo4_plain"))
    return out


class TestRun:
    def test_every_way_has_every_number(self, evaluated):
        results = json.loads((evaluated / "evaluation.json").read_text())
        assert list(results["means"]) == ["truth", "copy", "vae", "turbo1", "turbo4_plain"]
        for numbers in results["means"].values():
            assert set(evaluation_page.COLUMNS) - {"st_lpips"} <= set(numbers)
        truth = results["means"]["truth"]
        assert (truth["psnr"], truth["ssim_box"], truth["sharpness"], truth["temporal"]) == (100, 1, 1, 0)
        assert results["clips"][0]["numbers"]["copy"] == results["means"]["copy"]

    def test_the_copy_is_measured_against_the_true_frames(self, evaluated):
        target = evaluation.make_target(1_000_000, 3)
        copy = target.frames[:1].repeat(2, 0)
        numbers = json.loads((evaluated / "evaluation.json").read_text())["means"]["copy"]
        assert numbers["psnr"] == pytest.approx(metrics.psnr(copy, target.frames[1:]), abs=1e-4)
        assert numbers["psnr_box"] == pytest.approx(metrics.psnr(copy, target.frames[1:], target.box), abs=1e-4)
        assert numbers["psnr_box"] < numbers["psnr"]

    def test_the_vae_row_is_what_the_vae_makes_of_the_truth(self, evaluated, model):
        from diffusers import AutoencoderTiny

        truth = evaluation.make_target(1_000_000, 3).truth
        vae = AutoencoderTiny.from_pretrained(model / "vae").eval()
        with torch.no_grad():
            pixels = torch.from_numpy(truth).permute(0, 3, 1, 2) / 127.5 - 1
            expected = (vae.decode(vae.encode(pixels).latents).sample / 2 + 0.5).clamp(0, 1) * 255
        with np.load(evaluated / "clips" / "1000000" / "vae.npz") as kept:
            assert np.abs(kept["frames"] - expected.permute(0, 2, 3, 1).numpy()).max() < 1.5

    def test_the_lora_and_the_number_of_steps_count(self, evaluated):
        def frames(way):
            with np.load(evaluated / "clips" / "1000000" / f"{way}.npz") as kept:
                return kept["frames"].astype(int)

        assert frames("turbo1").shape == SHAPE
        assert np.abs(frames("turbo1") - frames("turbo4_plain")).mean() > 1

    def test_page_and_pictures_are_there(self, evaluated):
        page = (evaluated / "page.md").read_text()
        for name in ("page.png", "page_steps.png"):
            assert f"]({name})" in page
            with Image.open(evaluated / name) as picture:
                assert picture.width > 300
        assert (evaluated / "page.png").stat().st_size < 600_000
        assert "{" not in page and "None" not in page

    def test_a_second_run_makes_and_measures_nothing(self, evaluated, model, monkeypatch):
        def forbidden(*_):
            raise AssertionError("was made again")

        before = (evaluated / "evaluation.json").read_bytes()
        monkeypatch.setattr(evaluation.Sampler, "frames", forbidden)
        monkeypatch.setattr(evaluation.Measurer, "numbers", forbidden)
        evaluation.evaluate(options_for(model, evaluated, ways="truth,copy,vae,turbo1,turbo4_plain"))
        assert (evaluated / "evaluation.json").read_bytes() == before

    def test_other_weights_make_only_their_ways_void(self, evaluated, model):
        options = options_for(model, evaluated)
        before = {way: evaluation.recipe(evaluation.WAYS[way], options) for way in ("truth", "turbo1", "turbo4_plain")}
        path = model / "lcm_lora" / "pytorch_lora_weights.safetensors"
        stored = path.read_bytes()
        path.write_bytes(stored[:-1] + bytes([stored[-1] ^ 1]))
        try:
            after = {way: evaluation.recipe(evaluation.WAYS[way], options) for way in before}
        finally:
            path.write_bytes(stored)
        assert [way for way in before if before[way] != after[way]] == ["turbo1"]


class TestSettings:
    def test_unknown_ways_are_named(self):
        with pytest.raises(UsageError, match=r"turbo5 is unknown.*turbo4"):
            evaluation.chosen_ways("truth,turbo5")

    def test_ways_keep_their_order(self):
        assert evaluation.chosen_ways("turbo4, truth") == ["truth", "turbo4"]
        assert evaluation.chosen_ways(None) == list(evaluation.WAYS)

    @pytest.mark.parametrize(("clips", "frames"), [(0, 16), (1001, 16), (1, 2)])
    def test_impossible_counts_are_refused(self, clips, frames):
        with pytest.raises(UsageError, match="--clips"):
            evaluation.make_targets(clips, frames)

    def test_a_missing_reader_is_said_before_any_work(self, model, tmp_path):
        with pytest.raises(SetupError, match=r"train_tiny\.py reader"):
            evaluation.evaluate(options_for(model, tmp_path, reader=tmp_path / "absent.safetensors"))
        assert not list(tmp_path.iterdir())

    def test_the_script_has_both_commands(self, monkeypatch):
        monkeypatch.syspath_prepend(ROOT / "scripts")
        sys.modules.pop("train_tiny", None)
        script = importlib.import_module("train_tiny")
        assert script.parse(["evaluate", "--clips", "2", "--ways", "truth"]) == EvaluateOptions(clips=2, ways="truth")
        assert script.parse(["reader", "--steps", "5"]).steps == 5
        assert script.main(["evaluate", "--ways", "nonsense"]) == 2


class TestKeptResults:
    FRAMES = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.uint8)

    @pytest.fixture
    def kept(self, tmp_path):
        kept = KeptResults(tmp_path, {"turbo4": "recipe"}, "instruments")
        kept.save_frames("turbo4", 5, self.FRAMES, 1.5)
        kept.save_numbers("turbo4", 5, {"psnr": 20.0})
        return kept

    def test_they_come_back(self, kept):
        frames, seconds = kept.frames("turbo4", 5, SHAPE)
        assert np.array_equal(frames, self.FRAMES) and seconds == 1.5
        assert kept.numbers("turbo4", 5) == {"psnr": 20.0}
        assert kept.frames("turbo4", 6, SHAPE) is None and kept.numbers("turbo4", 6) is None

    def test_of_another_recipe_they_are_void(self, kept):
        other = KeptResults(kept.folder, {"turbo4": "other"}, "instruments")
        assert other.frames("turbo4", 5, SHAPE) is None and other.numbers("turbo4", 5) is None

    def test_other_instruments_measure_the_same_frames_again(self, kept):
        other = KeptResults(kept.folder, {"turbo4": "recipe"}, "other")
        assert other.frames("turbo4", 5, SHAPE) is not None and other.numbers("turbo4", 5) is None

    @pytest.mark.parametrize("suffix", [".npz", ".json"])
    @pytest.mark.parametrize("data", [b"", b"no such file", b"{}"])
    def test_damaged_ones_are_void(self, kept, suffix, data):
        kept.path("turbo4", 5, suffix).write_bytes(data)
        found = kept.frames("turbo4", 5, SHAPE) if suffix == ".npz" else kept.numbers("turbo4", 5)
        assert found is None

    def test_cut_ones_are_void(self, kept):
        path = kept.path("turbo4", 5, ".npz")
        path.write_bytes(path.read_bytes()[:-100])
        assert kept.frames("turbo4", 5, SHAPE) is None


GOOD = {
    "truth": {"pose_error": 0.8},
    "copy": {"psnr_box": 17.0},
    "vae": {"psnr": 31.0},
    "euler25": {"psnr_box": 21.5, "sharpness": 0.9, "pose_error": 2.0, "st_lpips": 0.1},
    "turbo4": {"st_lpips": 0.11, "sharpness": 0.85, "pose_error": 3.0},
    "turbo4_plain": {"st_lpips": 0.2},
}


def changed(way, name, value):
    return GOOD | {way: GOOD[way] | {name: value}}


class TestFigures:
    def test_all_may_be_reached(self):
        assert [figure.reached for figure in evaluation_page.figures(GOOD)] == [True] * 9

    @pytest.mark.parametrize(
        ("way", "name", "value", "place"),
        [
            ("truth", "pose_error", 1.6, 0),
            ("vae", "psnr", 29.9, 1),
            ("copy", "psnr_box", 17.6, 2),
            ("euler25", "sharpness", 0.84, 3),
            ("euler25", "sharpness", 1.16, 3),
            ("euler25", "pose_error", 3.1, 4),
            ("turbo4", "st_lpips", 0.116, 5),
            ("turbo4_plain", "st_lpips", 0.125, 6),
            ("turbo4", "sharpness", 0.79, 7),
            ("turbo4", "sharpness", 1.21, 7),
            ("turbo4", "pose_error", 3.6, 8),
        ],
    )
    def test_each_is_missed_beyond_its_limit_and_only_it(self, way, name, value, place):
        found = evaluation_page.figures(changed(way, name, value))
        assert [i for i, figure in enumerate(found) if not figure.reached] == [place]
        assert found[place].what.split(",")[0] in evaluation_page.verdict(found)

    def test_what_was_not_measured_is_neither(self):
        found = evaluation_page.figures({"vae": {"psnr": 31.0}})
        assert [figure.reached for figure in found].count(None) == 8
        assert "8 were not measured" in evaluation_page.verdict(found)
        assert evaluation_page.figures_table(found).count("not measured") == 8

    def test_what_turbo_could_gain_is_told_once_all_of_it_is_measured(self):
        assert "not measured" in evaluation_page.room_for_turbo(GOOD)
        distances = {"vae": 0.04, "teacher": 0.16, "turbo4": 0.19, "turbo4_plain": 0.2}
        text = evaluation_page.room_for_turbo({way: {"st_lpips": distance} for way, distance in distances.items()})
        assert [float(word) for word in re.findall(r"0\.\d+", text)] == [0.2, 0.8, 0.95, 0.94]


def test_standard_errors_are_those_of_the_mean():
    means, errors = evaluation.mean_numbers([{"psnr": 1.0}, {"psnr": 2.0}, {"psnr": 6.0}])
    assert means == {"psnr": 3.0}
    assert errors["psnr"] == pytest.approx(np.std([1, 2, 6], ddof=1) / 3**0.5, abs=1e-5)
    assert evaluation.mean_numbers([{"psnr": 1.0}])[1] == {"psnr": 0.0}


def test_a_sheet_keeps_to_its_limit(tmp_path):
    rng = np.random.default_rng(0)
    rows = [[(str(i), rng.integers(0, 256, (96, 64, 3), np.uint8)) for i in range(3)] for _ in range(8)]
    evaluation_pictures.draw_sheet(tmp_path / "whole.png", rows)
    evaluation_pictures.draw_sheet(tmp_path / "small.png", rows, limit=90_000)
    assert (tmp_path / "whole.png").stat().st_size > 400_000
    assert 20_000 < (tmp_path / "small.png").stat().st_size <= 90_000


def test_parameters_are_counted_from_the_files(tmp_path):
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(2)}, tmp_path / "weights.safetensors")
    facts = model_facts.part_facts(tmp_path)
    assert facts == {"parameters": 17, "bytes": (tmp_path / "weights.safetensors").stat().st_size}


def test_a_stage_is_described_by_its_record(tmp_path):
    lines = [{"step": i + 1, "loss": float(i), "seconds": 1.8} for i in range(200)]
    (tmp_path / "loss.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    facts = model_facts.run_facts(tmp_path)
    assert (facts["steps"], facts["hours"], facts["loss"]) == (200, 0.1, 149.5)
    assert model_facts.run_facts(tmp_path / "absent") is None
