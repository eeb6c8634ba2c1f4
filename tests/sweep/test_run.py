"""A sweep from settings to files, on a micro model: cells are ordinary results, stops cost nothing, tables tell all."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mimicmotion.animation import Animator, animate_folder
from mimicmotion.config import load_config, trace_config
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.results import psnr
from mimicmotion.sweep.run import run_sweep
from mimicmotion.video import open_video
from mimicmotion.weights import create_pipeline
from tests.conftest import last_items, read_nothing, write_clip


@pytest.fixture
def loads(monkeypatch):
    """One entry for each time that networks are loaded."""
    seen = []

    def counted(*arguments):
        seen.append(arguments)
        return create_pipeline(*arguments)

    monkeypatch.setattr("mimicmotion.weights.create_pipeline", counted)
    return seen


def sweep(project, *settings, folder="sweep", videos="a.mp4", **given):
    values = {
        "sweep.settings": list(settings),
        "sweep.output_dir": str(project / folder),
        "feature_cache.folder": str(project / "cache"),
        "batch.videos": videos.split(),
        **{name.replace("__", "."): value for name, value in given.items()},
    }
    return run_sweep(trace_config(str(project / "settings.yaml"), values))


def table(project, folder="sweep"):
    with open(project / folder / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if not name.endswith("_seconds")} for row in rows]


def results(project, folder="sweep"):
    root = project / folder
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.mp4") if "compared" not in str(path)
    }


def test_cells_are_the_results_of_single_runs_and_networks_are_loaded_once(project, loads):
    settings = ("skip_lcm_scheduler=false,true", "num_inference_steps=1,2")
    assert sweep(project, *settings, sweep__metrics=True) == 0
    assert len(loads) == 1
    assert len(results(project)) == 4
    for skip in ("false", "true"):
        overrides = [f"turbo.skip_lcm_scheduler={skip}", "turbo.num_inference_steps=2", "batch.videos=[a.mp4]"]
        folder = project / f"single-{skip}"
        assert (
            animate_folder(
                load_config(project / "settings.yaml", overrides=[*overrides, f"output.output_dir={folder}"])
            )
            == 0
        )
        cell, single = project / "sweep" / f"steps-2_skip-lcm-scheduler-{skip}" / "videos", folder / "videos"
        assert (cell / "a.mp4").read_bytes() == (single / "a.mp4").read_bytes()
        records = [json.loads((place / "a.json").read_text()) for place in (cell, single)]
        assert records[0]["recipe_sha256"] == records[1]["recipe_sha256"]
        assert records[0]["sigmas"] == records[1]["sigmas"]
    check_tables(project)
    check_pictures(project)


def check_tables(project):
    rows, whole = table(project), json.loads((project / "sweep" / "sweep.json").read_text())
    assert [(row["cell"], row["clip"]) for row in rows] == [(row["cell"], row["clip"]) for row in whole["rows"]]
    assert whole["swept"] == {"turbo.skip_lcm_scheduler": [False, True], "turbo.num_inference_steps": [1, 2]}
    for row in whole["rows"]:
        # 7 frames in tiles of 4 with overlap 2 are 3 tiles.
        assert row["unet_passes"] == 3 * row["settings"]["turbo.num_inference_steps"]
        assert row["frames"] == 6 and row["status"] == "done"
        assert set(row["seconds"]) == {"poses", "loading", "sampling", "decoding"}
        assert (project / "sweep" / row["output"]).is_file()
    best = "steps-2_skip-lcm-scheduler-false"
    assert {row["measured_against"] for row in whole["rows"] if "measures" in row} == {best}
    assert {row["cell"] for row in whole["rows"] if "measures" not in row} == {best}
    assert all(0 < row["measures"]["psnr"] < 100 for row in whole["rows"] if "measures" in row)
    assert [row["psnr"] != "" for row in rows] == ["measures" in row for row in whole["rows"]]
    assert len(last_items(project / "sweep")) == 4


def check_pictures(project):
    folder = project / "sweep" / "compared" / "videos"
    assert sorted(path.name for path in folder.iterdir()) == ["a_grid.jpg", "a_side_by_side.mp4"]
    video = open_video(folder / "a_side_by_side.mp4")
    assert (video.num_frames, video.fps) == (6, 15)
    with Image.open(folder / "a_grid.jpg") as grid:
        assert grid.height > 4 * 64
    with Image.open(project / "sweep" / "sweep.png") as plot:
        assert plot.width > 300


def test_a_stopped_sweep_goes_on_and_its_tables_are_those_of_an_undisturbed_one(project, monkeypatch):
    settings = ("num_inference_steps=1,2,3",)
    assert sweep(project, *settings, folder="undisturbed") == 0
    sample, calls = Animator.sample, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) in (2, 4):
            raise KeyboardInterrupt
        return sample(*arguments)

    monkeypatch.setattr(Animator, "sample", stopping)
    assert sweep(project, *settings) == 130
    stopped = table(project)
    assert [row["status"] for row in stopped].count("done") == 1
    assert {row["status"] for row in stopped} == {"done", "interrupted", "not run"}
    assert sweep(project, *settings) == 130
    assert sweep(project, *settings) == 0
    assert len(calls) == 5, "what was finished is not sampled again"
    assert results(project) == results(project, "undisturbed")
    assert table(project) == table(project, "undisturbed")


def test_more_values_find_what_is_there(project, loads, capsys):
    assert sweep(project, "num_inference_steps=1") == 0
    before = results(project)
    assert sweep(project, "num_inference_steps=1,2", output__dry_run=True) == 0
    planned = capsys.readouterr().out
    assert "6 UNet passes to do" in planned and "by what the finished results took" in planned
    assert sweep(project, "num_inference_steps=2,1") == 0
    assert [item["status"] for item in last_items(project / "sweep")] == ["done", "skipped"]
    assert results(project).items() >= before.items()
    loads.clear()
    with pytest.MonkeyPatch.context() as patch:
        read_nothing(patch)
        assert sweep(project, "num_inference_steps=1,2", output__dry_run=True) == 0
        assert sweep(project, "num_inference_steps=1,2") == 0
    assert loads == []
    assert "nothing is left to do" in capsys.readouterr().out


def test_a_dry_run_writes_nothing_and_says_that_it_cannot_know(project, capsys):
    assert (
        sweep(project, "num_inference_steps=1,2", "guidance_scale=1,3", output__dry_run=True, videos="a.mp4 b.mp4") == 0
    )
    printed = capsys.readouterr().out
    # (1 + 2) steps of 3 tiles, once without and twice with guidance, on 2 videos.
    assert "4 cells, 8 results, 54 UNet passes to do" in printed
    assert "not known" in printed
    assert not (project / "sweep").exists() and not (project / "cache").exists()


def test_weights_that_fit_no_network_fail_their_cells_alone(project, loads):
    broken = project / "broken.safetensors"
    save_file({"nothing.known": torch.zeros(2)}, broken)
    assert sweep(project, f"lcm_lora_path={broken},null", videos="a.mp4 b.mp4") == 1
    rows = table(project)
    assert [row["status"] for row in rows] == ["failed", "failed", "done", "done"]
    assert "neither a LoRA nor a UNet" in rows[0]["message"]
    assert len(loads) == 2, "what cannot be loaded is not tried for every clip"


def test_networks_that_differ_are_loaded_once_each(project, loads):
    assert sweep(project, "vae_dtype=fp32,bf16", videos="a.mp4 b.mp4", sweep__keep_models=1) == 0
    assert len(loads) == 2
    made = results(project)
    assert made["vae-dtype-fp32/videos/a.mp4"] != made["vae-dtype-bf16/videos/a.mp4"]


def test_one_bad_clip_does_not_stop_the_others(project, capsys):
    (project / "videos" / "b.mp4").write_text("this is no video")
    assert sweep(project, "seed=1,2", videos="a.mp4 b.mp4", output__dry_run=True) == 1
    assert "videos/b cannot run" in capsys.readouterr().out
    assert sweep(project, "seed=1,2", videos="a.mp4 b.mp4") == 1
    assert [row["status"] for row in table(project)] == ["done", "failed"] * 2


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"ckpt_path": "missing.pth"}, SetupError, r"cell seed-1: .*missing\.pth"),
        ({"sweep__truth": "nowhere"}, UsageError, "nowhere"),
        ({"latent_steps__folder": "steps"}, UsageError, "records no steps"),
        ({"runtime__device": "cuda:77"}, SetupError, "cell seed-1"),
    ],
)
def test_what_no_cell_can_do_is_said_before_anything_is_made(project, given, error, words):
    with pytest.raises(error, match=words):
        sweep(project, "seed=1,2", **given)
    assert not (project / "sweep" / "seed-1" / "videos" / "a.mp4").exists()


def test_true_videos_are_measured_against(project):
    write_clip(project / "true" / "a.mp4", count=6, size=(64, 64))
    assert sweep(project, "seed=1", sweep__truth=str(project / "true"), videos="a.mp4 b.mp4") == 0
    rows = table(project)
    assert [row["truth_psnr"] != "" for row in rows] == [row["clip"] == "videos/a" for row in rows]
    truth, own = (np.stack([frame for _, frame in open_video(path).frames()]) for path in (
        project / "true" / "a.mp4", project / "sweep" / rows[0]["output"]
    ))  # fmt: skip
    assert float(rows[0]["truth_psnr"]) == pytest.approx(psnr(own, truth), abs=1e-3)
