"""The main job from settings to files, on a micro model: results, resume, bad input, interrupts."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file

from mimicmotion.animation.animator import Animator
from mimicmotion.animation.batch import animate_folder
from mimicmotion.animation.record import damage
from mimicmotion.config import VideoSettings, load_config
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.files import sha256_file
from mimicmotion.modules import TAEHV, TAESDV
from mimicmotion.results import plan_jobs
from mimicmotion.video import open_video
from mimicmotion.video.probe import probe_video
from mimicmotion.weights import create_pipeline
from tests.conftest import HANG_SECONDS, dancing_poses, last_items, wait_for_line, write_clip, write_pose_file
from tests.tiny_decoders import write_decoder
from tests.video.clips import make_clip

ROOT = Path(__file__).resolve().parents[2]


def settings(project, *overrides):
    return load_config(project / "settings.yaml", overrides=list(overrides))


def run(project, *overrides):
    return animate_folder(settings(project, *overrides))


def results(project):
    folder = project / "outputs" / "videos"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.mp4"))}


def record(project, name="a"):
    return json.loads((project / "outputs" / "videos" / f"{name}.json").read_text())


def summary(project):
    items = last_items(project / "outputs")
    return {Path(item["video"]).name: item["status"] for item in items}


def test_every_video_gets_a_result_a_sheet_and_a_record(project):
    assert run(project) == 0
    for name in ("a", "b", "c"):
        info = probe_video(project / "outputs" / "videos" / f"{name}.mp4")
        assert (info.num_frames, info.height, info.width, info.fps) == (6, 64, 64, 15)
        with PIL.Image.open(project / "outputs" / "videos" / f"{name}.jpg") as sheet:
            assert sheet.width > 6 * 64
    facts = record(project)
    assert facts["frames"] == 6
    assert facts["seed"] == 3
    assert facts["sigmas"][0] == pytest.approx(700)
    assert set(facts["stage_seconds"]) == {"poses", "loading", "sampling", "decoding"}
    assert set(facts["inputs"]) == {"video", "reference", "reference_pose", "poses"}
    page = (project / "outputs" / "index.html").read_text(encoding="utf-8")
    assert [f'"./videos/{name}.mp4"' in page for name in "abcd"] == [True, True, True, False]
    assert "unet" in facts["weights"]
    assert 0 < facts["joints_outside"] < 0.2  # the reference's feet are cropped
    assert facts["settings"]["sampling"]["pose_strength"] == 1
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["made"]["different_settings"]["test_case[0].seed"] == 3 and facts["made"]["date"]
    assert facts["paths"]["video"]["absolute"] == str(project / "videos" / "a.mp4")
    tag = f"mimicmotion recipe {facts['recipe_sha256']}".encode()
    for ending in ("mp4", "jpg"):
        assert tag in (project / "outputs" / "videos" / f"a.{ending}").read_bytes()
    assert summary(project) == {"a.mp4": "done", "b.mp4": "done", "c.mp4": "done"}


def test_frames_are_the_pipelines_own_without_the_reference(project):
    run(project, "output.crf=0", "batch.videos=[a.mp4]")
    config = settings(project)
    animator, job = Animator(config), plan_jobs(config)[0]
    latents = animator.sample(animator.prepare(job))
    decoded = animator.models.pipeline.decode_latents(latents, 7, 8)[0].permute(1, 2, 3, 0)[1:]
    expected = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().numpy()
    written = np.stack([frame for _, frame in open_video(job.output).frames()])
    # 4:2:0 colour averages 2 x 2 pixels, so only brightness is held against the frames.
    assert np.abs(written.mean(axis=3) - expected.mean(axis=3)).mean() < 6


def test_a_small_decoder_makes_the_frames_and_is_part_of_the_recipe(project, tmp_path, caplog):
    network = write_decoder(tmp_path / "tiny.pth", TAESDV)
    tiny, video = f"sampling.decoder={tmp_path / 'tiny.pth'}", "batch.videos=[a.mp4]"
    animator = Animator(settings(project, tiny, video))
    assert animate_folder(animator.config, animator) == 0
    job = plan_jobs(animator.config)[0]
    assert record(project)["settings"]["sampling"]["decoder"] == sha256_file(tmp_path / "tiny.pth")
    assert "seems made for another VAE" in caplog.text  # its weights are drawn
    plain = Animator(settings(project, video)).recipe(job)
    assert "decoder" not in plain["settings"]["sampling"] and plain["weights"] == record(project)["weights"]
    latents = animator.sample(animator.prepare(job))
    with torch.no_grad():
        expected = network(latents)[0]
    found = torch.cat(list(animator.models.decoder.decode_in_chunks(latents, 3)), dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert run(project, tiny, video) == 0
    assert summary(project)["a.mp4"] == "skipped"
    with pytest.raises(UsageError, match=r"sampling\.decoder"):
        run(project, video)


def test_a_decoder_that_does_not_fit_ends_a_run_before_it_begins(project, tmp_path, monkeypatch):
    monkeypatch.setattr("mimicmotion.weights.create_pipeline", lambda *_: pytest.fail("a model was loaded"))
    write_decoder(tmp_path / "tiny.pth", TAEHV)
    for dry in ("false", "true"):
        with pytest.raises(UsageError, match="16 channels"):
            run(project, f"sampling.decoder={tmp_path / 'tiny.pth'}", f"output.dry_run={dry}")
        with pytest.raises(SetupError, match="decoder not found"):
            run(project, "sampling.decoder=nowhere.pth", f"output.dry_run={dry}")


def test_previews_have_a_row_for_each_step_and_change_nothing(project, tmp_path):
    run(project, "batch.videos=[a.mp4]")
    before, wanted = results(project), ["output.preview=true", "batch.videos=[a.mp4]", "output.overwrite=true"]
    assert run(project, *wanted, f"latent_steps.folder={tmp_path / 'steps'}") == 0
    assert results(project) == before
    shown = project / "outputs" / "videos" / "previews" / "a.jpg"
    with PIL.Image.open(shown) as picture:
        size = picture.size
    steps = len(list((tmp_path / "steps").rglob("step_*.npy.gz"))) // 2
    # A square picture of 160 pixels for each of six frames, and for each step such a row with its words.
    assert size[0] == 6 * 164 + 4 and steps * 160 < size[1] < steps * 210 + 40
    assert "preview" not in record(project)["settings"]["output"]


def test_a_preview_that_cannot_be_written_ends_nothing(project, caplog):
    (project / "outputs" / "videos").mkdir(parents=True)
    (project / "outputs" / "videos" / "previews").write_text("in the way")
    assert run(project, "output.preview=true", "batch.videos=[a.mp4]") == 0
    assert "no preview of step 1" in caplog.text


def test_a_second_run_skips_and_changes_nothing(project, monkeypatch):
    run(project)
    before = {path: path.stat().st_mtime_ns for path in (project / "outputs" / "videos").iterdir()}
    monkeypatch.setattr("mimicmotion.weights.create_pipeline", lambda *_: pytest.fail("a model was loaded"))
    assert run(project) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(summary(project).values()) == {"skipped"}


def test_changed_inputs_and_damaged_results_run_again(project):
    run(project, "batch.videos=[a.mp4]")
    write_clip(project / "videos" / "a.mp4", count=12, fps=25)
    write_pose_file(project / "poses" / "a.npz", dancing_poses(6), stride=2, fps=25.0)
    with pytest.raises(UsageError, match=r"inputs\.video"):
        run(project, "batch.videos=[a.mp4]")
    run(project, "batch.videos=[a.mp4]", "output.overwrite=true")
    assert summary(project) == {"a.mp4": "done"}
    (project / "outputs" / "videos" / "a.mp4").write_bytes(b"broken")
    run(project, "batch.videos=[a.mp4]")
    assert summary(project) == {"a.mp4": "done"}
    assert probe_video(project / "outputs" / "videos" / "a.mp4").num_frames == 6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("test_case[0].seed=4", "seed: 3, now 4"),
        ("turbo.num_inference_steps=1", "num_inference_steps: 2, now 1"),
        ("turbo.scheduler=AYS", "scheduler: 'AnimateLCM_SVD', now 'AYS'"),
        ("output.crf=30", "crf: 18, now 30"),
        ("pose.align=linear", "align: 'robust', now 'linear'"),
    ],
)
def test_a_finished_result_is_not_replaced_by_another(project, monkeypatch, change, told):
    assert run(project, "batch.videos=[a.mp4]") == 0
    before = results(project)
    with monkeypatch.context() as patch:
        patch.setattr("mimicmotion.weights.create_pipeline", lambda *_: pytest.fail("a model was loaded"))
        with pytest.raises(UsageError, match=f"(?s)a.mp4: .*{re.escape(told)}.*--overwrite"):
            run(project, change)
    assert results(project) == before
    assert run(project, "batch.videos=[a.mp4]", change, "output.overwrite=true") == 0
    assert results(project) != before or change == "pose.align=linear"


def test_overwrite_gives_the_same_bytes(project):
    run(project, "batch.videos=[a.mp4]")
    before = results(project)
    assert run(project, "batch.videos=[a.mp4]", "output.overwrite=true") == 0
    assert summary(project) == {"a.mp4": "done"}
    assert results(project) == before


def test_order_and_company_change_no_frame(project):
    run(project)
    together = results(project)
    run(project, "batch.videos=[c.mp4]", "output.overwrite=true")
    assert results(project) == together


def test_what_lies_beside_a_result_always_shows_that_result(project, monkeypatch):
    """One result through a life of changed wishes and damaged companions; it is sampled only where it must be."""
    folder, sampled, sample = project / "outputs" / "videos", [], Animator.sample
    monkeypatch.setattr(Animator, "sample", lambda *given: sampled.append(1) or sample(*given))

    def make(*overrides):
        sampled.clear()
        assert run(project, "batch.videos=[a.mp4]", *overrides) == 0
        files = record(project)["files"]
        for ending in {path.name.removeprefix("a") for path in folder.iterdir()} - {".json"}:
            assert files[ending]["sha256"] == sha256_file(folder / f"a{ending}")
        return summary(project)["a.mp4"], len(sampled), set(files)

    assert make("output.comparison=true") == ("done", 1, {".mp4", ".jpg", "_comparison.mp4"})
    first = (folder / "a_comparison.mp4").read_bytes()
    # The comparison of the result before goes with it.
    assert make("test_case[0].seed=9", "output.overwrite=true") == ("done", 1, {".mp4", ".jpg"})
    assert not (folder / "a_comparison.mp4").exists()
    # As an earlier version left it.
    (folder / "a_comparison.mp4").write_bytes(first)
    wanted = ("test_case[0].seed=9", "output.comparison=true")
    assert make(*wanted) == ("done", 0, {".mp4", ".jpg", "_comparison.mp4"})
    mine = (folder / "a_comparison.mp4").read_bytes()
    assert mine != first and probe_video(folder / "a_comparison.mp4").num_frames == 6
    assert record(project)["files"]["_comparison.mp4"]["made_from"] == "a.mp4"
    assert make(*wanted)[:2] == ("skipped", 0)
    (folder / "a_comparison.mp4").write_bytes(b"")
    (folder / "a.jpg").write_bytes((folder / "a.jpg").read_bytes()[:100])
    assert make("test_case[0].seed=9")[:2] == ("done", 0)
    assert (folder / "a_comparison.mp4").read_bytes() == mine
    with PIL.Image.open(folder / "a.jpg") as sheet:
        sheet.load()
    # Whoever deletes what is not asked for any more gets no more of it.
    (folder / "a_comparison.mp4").unlink()
    assert make("test_case[0].seed=9")[:2] == ("skipped", 0)


@pytest.mark.parametrize("name", ["a.mp4", "a.json", "a.jpg"])
def test_a_folder_in_the_place_of_a_file_fails_its_item_before_any_work(project, monkeypatch, name):
    (project / "outputs" / "videos" / name).mkdir(parents=True)
    monkeypatch.setattr(Animator, "prepare", lambda *_: pytest.fail("work was done"))
    assert run(project, "batch.videos=[a.mp4]") == 1
    item = last_items(project / "outputs")[0]
    assert f"{name} is a folder" in item["message"]


def test_another_shape_is_followed_from_the_picture_to_the_result_and_its_record(project):
    PIL.Image.new("RGBA", (64, 96), (90, 120, 150, 0)).save(project / "person.png")
    shape = ("reference.aspect=1:2", "batch.videos=[a.mp4]")
    assert run(project, *shape) == 0
    info = probe_video(project / "outputs" / "videos" / "a.mp4")
    assert (info.width, info.height) == (64, 128)
    facts = record(project)
    assert (facts["width"], facts["height"]) == (64, 128)
    picture = facts["reference_picture"]
    assert (picture["width"], picture["height"], picture["rows_cut"], picture["columns_cut"]) == (64, 96, 0, 0.2558)
    assert "25.6% of its columns are cut" in picture["notes"][0]
    assert facts["settings"]["reference"]["aspect"] == "1:2" and facts["damage"] is None
    jobs = plan_jobs(settings(project, *shape))
    assert Animator(settings(project, *shape)).is_finished(jobs[0])
    for other in ("reference.aspect=published", "reference.background=black"):
        assert not Animator(settings(project, *shape, other)).is_finished(jobs[0])
    assert Animator(settings(project, *shape, "reference.max_pixels=7000")).is_finished(jobs[0])


def test_the_record_says_how_much_of_a_video_is_damaged(tmp_path):
    coding = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "20", "-bf", "0", "-movflags", "+faststart")
    data = make_clip(tmp_path / "clip.mp4", count=80, coding=coding).read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) * 7 // 10] + bytes(len(data) * 3 // 10))
    video = open_video(tmp_path / "half.mp4", settings=VideoSettings(accept_damaged=True))
    found = damage(video)
    assert (found["frames"], found["promised_frames"], found["ends_early"]) == (video.num_frames, 80, True)
    assert damage(open_video(tmp_path / "clip.mp4")) is None


def test_one_bad_video_does_not_stop_the_others(project, capsys):
    (project / "videos" / "b.mp4").write_text("this is no video")
    assert run(project) == 1
    assert summary(project) == {"a.mp4": "done", "b.mp4": "failed", "c.mp4": "done"}
    table = capsys.readouterr().out
    assert "b.mp4" in table
    assert "1 failed" in table
    assert not (project / "outputs" / "videos" / "b.mp4").exists()


def test_a_pipe_named_like_a_video_does_not_block(project):
    os.mkfifo(project / "pipe.mp4")
    config = settings(project, "batch.video_folder=null", f"test_case[0].ref_video_path={project / 'pipe.mp4'}")
    assert animate_folder(config) == 1
    assert summary(project) == {"pipe.mp4": "failed"}


def test_a_crash_in_one_video_does_not_stop_the_others(project, monkeypatch):
    sample = Animator.sample
    calls = []

    def crash_once(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("boom")
        return sample(*arguments)

    monkeypatch.setattr(Animator, "sample", crash_once)
    assert run(project) == 1
    assert summary(project) == {"a.mp4": "done", "b.mp4": "failed", "c.mp4": "done"}


def test_missing_poses_fail_one_video(project):
    (project / "poses" / "c.npz").unlink()
    assert run(project) == 1
    assert summary(project)["c.mp4"] == "failed"


def test_poses_of_another_sampling_are_refused(project):
    write_pose_file(project / "poses" / "a.npz", dancing_poses(4), stride=3)
    assert run(project, "batch.videos=[a.mp4]") == 1
    items = last_items(project / "outputs")
    assert "save the poses again" in items[0]["message"]


def test_not_finite_latents_are_no_black_video(project, monkeypatch):
    config = settings(project, "batch.videos=[a.mp4]")
    poison = create_pipeline

    def poisoned(*arguments):
        pipeline = poison(*arguments)
        pipeline.unet.conv_out.bias.data[0] = float("nan")
        return pipeline

    monkeypatch.setattr("mimicmotion.weights.create_pipeline", poisoned)
    assert animate_folder(config) == 1
    assert results(project) == {}
    items = last_items(project / "outputs")
    assert "sampling step 1 of 2" in items[0]["message"]


def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(project, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mimicmotion.files.os.replace", full)
    assert run(project) == 3
    left = [path.name for path in (project / "outputs" / "videos").iterdir()]
    assert left == []


def test_several_test_cases_have_folders_of_their_own(project):
    config = settings(project, "batch.videos=[a.mp4]")
    second = load_config(project / "settings.yaml", overrides=["test_case[0].seed=9"]).test_case[0]
    config.test_case.append(second)
    assert animate_folder(config) == 0
    folder = project / "outputs" / "videos"
    assert (folder / "case_00" / "a.mp4").read_bytes() != (folder / "case_01" / "a.mp4").read_bytes()


def test_a_single_driving_video_needs_no_folder(project):
    path = project / "videos" / "a.mp4"
    assert run(project, "batch.video_folder=null", f"test_case[0].ref_video_path={path}") == 0
    assert list(results(project)) == ["a.mp4"]


def test_sound_is_kept_only_at_the_right_speed(project):
    write_clip(project / "videos" / "a.mp4", count=12, audio=True)
    write_pose_file(project / "poses" / "a.npz", dancing_poses(6), stride=2)
    run(project, "batch.videos=[a.mp4]")
    assert probe_video(project / "outputs" / "videos" / "a.mp4").has_audio
    run(project, "batch.videos=[a.mp4]", "test_case[0].fps=10", "output.overwrite=true")
    assert not probe_video(project / "outputs" / "videos" / "a.mp4").has_audio
    run(project, "batch.videos=[a.mp4]", "output.audio=drop", "output.overwrite=true")
    assert not probe_video(project / "outputs" / "videos" / "a.mp4").has_audio


def test_dry_run_lists_and_writes_nothing(project, capsys):
    assert run(project, "output.dry_run=true") == 0
    table = capsys.readouterr().out
    assert not (project / "outputs").exists()
    # 7 frames in tiles of 4 with overlap 2 are 3 tiles, times 2 steps, for each of 3 videos.
    assert "18 UNet passes" in table


def test_a_page_that_is_not_wanted_is_not_written(project):
    for path in (project / "poses").iterdir():
        path.unlink()  # no video can be made
    assert run(project, "output.page=false") == 1
    assert not (project / "outputs" / "index.html").exists()
    assert run(project) == 1
    assert "c.npz is missing" in (project / "outputs" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["batch.video_folder=nowhere"], "nowhere"),
        (["batch.videos=[z.mp4]"], "z.mp4"),
        (["test_case[0].ref_image_path=nobody.png"], "nobody.png"),
        (["test_case[0].ref_image_path=null"], "ref_image_path"),
        (["batch.video_folder=null"], "driving video"),
    ],
)
def test_wrong_use_is_said_before_anything_is_written(project, overrides, words):
    with pytest.raises(UsageError, match=words):
        run(project, *overrides)
    assert not (project / "outputs").exists()


def test_missing_weights_are_said_before_any_video_is_read(project, monkeypatch):
    monkeypatch.setattr("mimicmotion.animation.inputs.open_video", lambda *_: pytest.fail("a video was read"))
    with pytest.raises(SetupError, match=r"missing\.pth"):
        run(project, "ckpt_path=missing.pth")


def test_lcm_weights_that_cannot_be_applied_are_said_before_any_video_is_read(project, monkeypatch):
    monkeypatch.setattr("mimicmotion.animation.inputs.open_video", lambda *_: pytest.fail("a video was read"))
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    state = {f"{layer}.lora_{part}.weight": torch.ones(32, 32).to(torch.float8_e4m3fn) for part in "AB"}
    state |= {f"{layer}.lora_A.weight_scale_inv": torch.ones(1)}
    save_file(state, project / "lora.safetensors")
    with pytest.raises(SetupError, match="cannot be placed"):
        run(project, f"turbo.lcm_lora_path={project / 'lora.safetensors'}")


def test_an_output_folder_that_cannot_be_written_is_an_error(project):
    (project / "taken").write_text("a file")
    with pytest.raises(SetupError, match="taken"):
        run(project, f"output.output_dir={project / 'taken'}")


STOPPING = """
import runpy, sys, time
from mimicmotion.pipelines import MimicMotionPipeline
call, calls = MimicMotionPipeline.__call__, []
def stopping(*args, **kwargs):
    calls.append(1)
    if len(calls) == 2:
        print("the second has begun", flush=True)
        # One long wait would go on where a signal comes just before it begins.
        while True:
            time.sleep(0.05)
    return call(*args, **kwargs)
MimicMotionPipeline.__call__ = stopping
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start_and_stop_in_the_second(project):
    """The script as it is typed, but it says when it comes to sampling the second video, and waits there."""
    script = ["inference_raw_batch_turbo.py", "--inference_config", str(project / "settings.yaml")]
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPING, *script],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for_line(process, "the second has begun")
    return process


def test_a_killed_run_goes_on_with_the_same_files(project):
    run(project)
    expected = results(project)
    for path in (project / "outputs").rglob("*"):
        if path.is_file():
            path.unlink()
    process = start_and_stop_in_the_second(project)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    finished = {path.name for path in (project / "outputs" / "videos").glob("*.json")}
    assert finished == {"a.json"}
    assert run(project) == 0
    assert summary(project)["a.mp4"] == "skipped"
    assert results(project) == expected


def test_an_interrupt_ends_with_130_and_a_summary(project):
    process = start_and_stop_in_the_second(project)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130, output
    assert summary(project)["a.mp4"] == "done"
    assert "interrupted" in summary(project).values()


def test_what_is_no_video_is_named_in_the_tables(project, capsys):
    (project / "videos" / "notes.txt").write_text("to do")
    assert run(project, "output.dry_run=true") == 0
    assert "notes.txt" in capsys.readouterr().out
    assert run(project, "batch.videos=[a.mp4]") == 0
    assert "notes.txt" not in capsys.readouterr().out  # chosen by name: nothing was left out unasked
    assert run(project) == 0
    printed = capsys.readouterr().out
    assert re.search(r"notes\.txt +left out .* not a video", printed) and "1 skipped, 2 done" in printed
