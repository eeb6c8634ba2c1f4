"""Step latents to videos: right frames for every kind of VAE, resume, bad steps among good ones, exit codes."""

import base64
import html.parser
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mimicmotion.errors import InputError, SetupError, UsageError
from mimicmotion.files import sealed, sha256_file
from mimicmotion.latent_steps import vae_decoder as latent_decoder
from mimicmotion.latent_steps.experiment_decoder import ExperimentLatentDecoder, StepResult, as_result
from mimicmotion.latent_steps.recorder import StepExperiment
from mimicmotion.latent_steps.step_files import write_step
from mimicmotion.latent_steps.vae_decoder import LatentDecoder
from mimicmotion.modules import TAEHV, TAESDV
from mimicmotion.video.probe import probe_video
from mimicmotion.video.source import open_video
from scripts import decode_latent_steps
from tests.conftest import make_temporal_vae, make_tiny_vae, wait_for_line
from tests.tiny_decoders import write_decoder

ROOT = Path(__file__).resolve().parents[2]
SVD_SHAPE = (1, 3, 4, 4, 8)  # B, F, C, H, W
WAN_SHAPE = (1, 4, 3, 4, 8)  # B, C, T, H, W
pytestmark = pytest.mark.usefixtures("logging_as_before")
WAN_MEAN, WAN_STD = [0.1, -0.2, 0.3, 0.0], [1.5, 0.5, 2.0, 1.0]


def make_wan_vae():
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    return AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=WAN_MEAN, latents_std=WAN_STD
    ).eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of models with nothing but a VAE in them."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, make in (("wan", make_wan_vae), ("svd", make_temporal_vae), ("taesd", make_tiny_vae)):
        make().save_pretrained(folder / name / "vae")
    return folder


def latents(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def make_experiment(parent, model, shape, steps=3, videos=("vid_001", "vid_002"), layout="BFCHW"):
    experiment = StepExperiment(parent, "Test", {"model_settings": {"model_id": str(model)}})
    for number, video in enumerate(videos):
        for step in range(steps):
            facts = {"layout": layout, "sigma": 10.0 / (step + 1), "timestep": 1.0}
            array, x0 = latents(shape, 10 * number + step), latents(shape, 99)
            write_step(experiment.folder / "latents" / "prompt_000" / video, f"step_{step:03d}", array, x0, facts)
    return experiment.folder


@pytest.fixture
def reported(tmp_path, models):
    """Two clips of three steps for the small VAE."""
    return make_experiment(tmp_path / "outputs", models / "taesd", SVD_SHAPE)


@pytest.fixture
def experiment(reported, monkeypatch):
    """The same, for tests that do not look at the report: it takes longer than decoding."""
    report = "mimicmotion.latent_steps.write_report"
    monkeypatch.setattr(report, lambda decoder, *_: decoder.output_dir / "report.html")
    return reported


def run(experiment, *argv):
    return decode_latent_steps.main([str(experiment), "--device", "cpu", *argv])


def summary(experiment):
    return json.loads((experiment / "latents_videos" / "decode_summary.json").read_text())


def videos(experiment):
    root = experiment / "latents_videos"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("step_*.mp4"))}


def spoil(experiment, step="prompt_000/vid_001/step_001"):
    (experiment / "latents" / f"{step}.npy.gz").write_bytes(b"this is no step")


def test_the_small_vaes_latents_are_decoded_with_their_scale(tmp_path):
    torch.manual_seed(0)
    vae = make_tiny_vae().eval()
    vae.register_to_config(scaling_factor=0.5)
    vae.save_pretrained(tmp_path / "vae")
    array = latents(SVD_SHAPE)
    with LatentDecoder(tmp_path, "cpu", chunk_size=2) as decoder:
        frames = np.concatenate(list(decoder.decode(array, "BFCHW")))
    with torch.no_grad():
        expected = vae.decode(torch.from_numpy(array[0]).float() / 0.5).sample.permute(0, 2, 3, 1)
    expected = ((expected / 2 + 0.5).clamp(0, 1) * 255).round().numpy()
    assert np.abs(frames - expected).max() <= 1 and frames.std() > 1


def test_the_small_vae_decodes_in_tiles_what_it_decodes_whole(models):
    array = np.repeat(np.repeat(latents((1, 1, 4, 10, 2)), 8, axis=3), 8, axis=4)
    with LatentDecoder(models / "taesd", "cpu") as decoder:
        (whole,) = decoder.decode(array)
        decoder.vae.enable_tiling()
        (tiled,) = decoder.decode(array)
    assert whole.shape == tiled.shape == (1, 640, 128, 3)
    assert np.abs(whole.astype(int) - tiled).mean() < 2 < whole.std()


def test_wan_latents_are_decoded_with_mean_and_deviation(models):
    array = latents(WAN_SHAPE)
    with LatentDecoder(models / "wan", "cpu") as decoder:
        frames = np.concatenate(list(decoder.decode(array, "BCTHW")))
    assert frames.shape == (1 + 4 * (3 - 1), 32, 64, 3)
    vae = make_wan_vae()
    mean, std = (torch.tensor(values).reshape(1, 4, 1, 1, 1) for values in (WAN_MEAN, WAN_STD))
    with torch.no_grad():
        expected = vae.decode(torch.from_numpy(array).float() * std + mean).sample[0].permute(1, 2, 3, 0)
    levels = ((expected / 2 + 0.5).clamp(0, 1) * 255).numpy()
    np.testing.assert_allclose(frames, levels, rtol=0, atol=0.502)  # rounded, by operations that round otherwise
    assert frames.std() > 1


@pytest.mark.parametrize("layout", [TAEHV, TAESDV], ids=lambda layout: layout.name)
def test_the_file_of_a_small_decoder_takes_the_place_of_a_vae(tmp_path, layout):
    network = write_decoder(tmp_path / "tiny.pth", layout, channels=4)
    wan = layout is TAEHV
    array, order = (latents(WAN_SHAPE), "BCTHW") if wan else (latents(SVD_SHAPE), "BFCHW")
    with LatentDecoder(tmp_path / "tiny.pth", "cpu", chunk_size=2) as decoder:
        frames = np.concatenate(list(decoder.decode(array, order)))
        with pytest.raises(InputError, match="laid out"):
            next(decoder.decode(array, "BFCHW" if wan else "BCTHW"))
    clip = torch.from_numpy(array).float()
    with torch.no_grad():
        expected = network(clip.movedim(1, 2) if wan else clip)[0][0].permute(0, 2, 3, 1)
    np.testing.assert_allclose(frames, ((expected / 2 + 0.5).clamp(0, 1) * 255).numpy(), rtol=0, atol=0.502)
    assert frames.std() > 1


def test_svd_latents_are_decoded_as_the_pipeline_does(pipeline, tmp_path):
    pipeline.vae.save_pretrained(tmp_path / "vae")
    array = latents((1, 11, 4, 4, 6)).astype(np.float32)
    with LatentDecoder(tmp_path, "cpu", chunk_size=4) as decoder:
        frames = np.concatenate(list(decoder.decode(array)))
    expected = pipeline.decode_latents(torch.from_numpy(array), 11, 4)[0].permute(1, 2, 3, 0)
    np.testing.assert_array_equal(frames, ((expected / 2 + 0.5).clamp(0, 1) * 255).round().numpy())


def test_the_folder_of_a_vae_itself_will_do(models):
    with LatentDecoder(models / "taesd" / "vae", "cpu") as decoder:
        assert sum(len(frames) for frames in decoder.decode(latents(SVD_SHAPE))) == 3


@pytest.mark.parametrize(
    ("model", "shape", "layout"),
    [
        ("svd", WAN_SHAPE, None),
        ("wan", SVD_SHAPE, None),
        ("svd", SVD_SHAPE, "BCTHW"),
        ("svd", (2, 3, 4, 4, 6), None),
        ("wan", (3, 4, 4, 6), None),
    ],
)
def test_latents_that_do_not_fit_are_refused(models, model, shape, layout):
    with LatentDecoder(models / model, "cpu") as decoder, pytest.raises(InputError):
        list(decoder.decode(latents(shape), layout))


def test_when_memory_runs_out_it_goes_on_in_tiles_then_on_the_cpu(models, monkeypatch):
    decoder = LatentDecoder(models / "wan", "cpu")
    plain = np.concatenate(list(decoder.decode(latents(WAN_SHAPE))))
    decode_once, tried = decoder._decode_once, []

    def fail_off_cpu(tensor):
        tried.append((decoder.device.type, decoder.vae.use_tiling))
        if decoder.device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode_once(tensor)

    monkeypatch.setattr(decoder, "_decode_once", fail_off_cpu)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
    decoder.device = torch.device("cuda")
    frames = np.concatenate(list(decoder.decode(latents(WAN_SHAPE))))
    assert tried == [("cuda", False), ("cuda", True), ("cpu", True)]
    np.testing.assert_array_equal(frames, plain)


def test_no_memory_even_on_the_cpu_is_said(models, monkeypatch):
    def fail(_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with LatentDecoder(models / "svd", "cpu") as decoder:
        monkeypatch.setattr(decoder, "_decode_once", fail)
        with pytest.raises(SetupError, match="out of memory"):
            list(decoder.decode(latents(SVD_SHAPE)))


@pytest.mark.parametrize(
    ("model", "shape", "layout", "frames"), [("wan", WAN_SHAPE, "BCTHW", 9), ("svd", SVD_SHAPE, "BFCHW", 3)]
)
def test_an_experiment_becomes_videos_in_the_same_tree(tmp_path, models, model, shape, layout, frames):
    experiment = make_experiment(tmp_path, models / model, shape, steps=2, videos=("vid_001",), layout=layout)
    with ExperimentLatentDecoder(experiment, "cpu") as decoder:
        results = decoder.decode_experiment()
    assert {clip: list(steps) for clip, steps in results.items()} == {"prompt_000/vid_001": ["step_000", "step_001"]}
    for name in ("step_000", "step_001"):
        info = probe_video(experiment / "latents_videos" / "prompt_000" / "vid_001" / f"{name}.mp4")
        assert (info.num_frames, info.height, info.width, info.fps) == (frames, 32, 64, 12)
        assert results["prompt_000/vid_001"][name].frames == frames
    totals = summary(experiment)
    assert (totals["total_steps"], totals["successful"], totals["failed"], totals["success_rate"]) == (2, 2, 0, 1.0)
    assert totals["seconds_per_step"] > 0
    assert totals["total_bytes"] == sum(len(content) for content in videos(experiment).values())


def test_one_clip_is_decoded_by_its_folder(experiment):
    decoder = ExperimentLatentDecoder(experiment, "cpu")
    results = decoder.decode_video_directory(experiment / "latents" / "prompt_000" / "vid_002", "step_000,step_002")
    decoder.cleanup()
    assert {name: result.status for name, result in results.items()} == {"step_000": "done", "step_002": "done"}
    assert list(videos(experiment)) == ["prompt_000/vid_002/step_000.mp4", "prompt_000/vid_002/step_002.mp4"]
    for elsewhere in (experiment, experiment / "latents" / "prompt_000", experiment / "latents" / ".." / "x" / "y"):
        with pytest.raises(UsageError, match="no folder of a clip"):
            decoder.decode_video_directory(elsewhere)


def test_the_scripts_filters_fps_quality_and_scale(experiment, tmp_path):
    out = tmp_path / "elsewhere"
    options = ["--output-dir", str(out), "--fps", "24", "--scale", "0.5"]
    assert run(experiment, "--video-filter", "vid_001", "--step-filter", "step_000-step_001", *options) == 0
    assert sorted(path.name for path in out.rglob("step_*.mp4")) == ["step_000.mp4", "step_001.mp4"]
    info = probe_video(out / "prompt_000" / "vid_001" / "step_000.mp4")
    assert (info.fps, info.height, info.width) == (24, 16, 32)
    fine = (out / "prompt_000" / "vid_001" / "step_000.mp4").stat().st_size
    coarse = [*options, "--quality", "1", "--overwrite"]
    assert run(experiment, "--video-filter", "vid_001", "--step-filter", "step_000", *coarse) == 0
    assert (out / "prompt_000" / "vid_001" / "step_000.mp4").stat().st_size < fine
    assert not (experiment / "latents_videos").exists()


def test_a_compress_preset_is_a_quality_and_a_scale(experiment):
    assert run(experiment, "--compress-preset", "tiny", "--step-filter", "step_000") == 0
    assert summary(experiment)["settings"] == {"fps": 12, "quality": 0.5, "crf": 48, "scale": 0.5}
    assert run(experiment, "--compress-preset", "tiny", "--scale", "1", "--step-filter", "step_000", "--overwrite") == 0
    assert probe_video(experiment / "latents_videos" / "prompt_000" / "vid_001" / "step_000.mp4").width == 64


def test_a_dry_run_prints_what_the_real_run_decodes(experiment, capsys):
    run(experiment, "--video-filter", "vid_002", "--step-filter", "step_000")
    capsys.readouterr()
    assert run(experiment, "--video-filter", "vid_002", "--preview", "x0", "--dry-run") == 0
    listed = re.findall(r"^decode .*-> (.*)$", capsys.readouterr().out, re.MULTILINE)
    before = videos(experiment)
    assert list(before) == ["prompt_000/vid_002/step_000.mp4"]
    assert run(experiment, "--video-filter", "vid_002", "--preview", "x0") == 0
    new = [str(experiment / "latents_videos" / name) for name in videos(experiment) if name not in before]
    assert sorted(listed) == new
    assert len(new) == 5


def test_one_corrupt_step_never_stops_the_rest(experiment):
    spoil(experiment)
    (experiment / "latents" / "prompt_000" / "vid_002" / "step_000_metadata.json").write_text('{"file": "../../x"}')
    assert run(experiment) == 1
    assert len(videos(experiment)) == 4
    totals = summary(experiment)
    assert (totals["successful"], totals["failed"]) == (4, 2)
    reasons = {failure["step"]: failure["reason"] for failure in totals["failures"]}
    assert "gzip" in reasons["prompt_000/vid_001/step_001"]
    assert "describes" in reasons["prompt_000/vid_002/step_000"]


def test_a_second_run_decodes_nothing_and_a_changed_step_alone(experiment, monkeypatch):
    assert run(experiment) == 0
    before = videos(experiment)
    with monkeypatch.context() as patch:
        patch.setattr(latent_decoder, "load_vae", lambda *_: pytest.fail("a model was loaded"))
        assert run(experiment) == 0
    assert videos(experiment) == before
    assert summary(experiment)["skipped"] == 6
    write_step(experiment / "latents" / "prompt_000" / "vid_001", "step_000", latents(SVD_SHAPE, 77), None, {})
    assert run(experiment) == 0
    assert (summary(experiment)["skipped"], summary(experiment)["decoded"]) == (5, 1)
    changed = [name for name, content in videos(experiment).items() if content != before[name]]
    assert changed == ["prompt_000/vid_001/step_000.mp4"]


def test_overwrite_decodes_again(experiment):
    run(experiment, "--step-filter", "step_000")
    assert run(experiment, "--step-filter", "step_000", "--overwrite") == 0
    assert summary(experiment)["decoded"] == 2


@pytest.mark.parametrize("options", [["--fps", "6"], ["--quality", "2"], ["--scale", "2"]])
def test_finished_videos_are_not_replaced_by_others(experiment, options):
    run(experiment, "--step-filter", "step_000")
    before = videos(experiment)
    for more in ([], ["--dry-run"]):
        assert run(experiment, "--step-filter", "step_000", *options, *more) == 2
    assert videos(experiment) == before
    # What was not decoded yet can be.
    assert run(experiment, "--step-filter", "step_001", *options) == 0
    assert run(experiment, "--step-filter", "step_000", *options, "--overwrite") == 0
    assert summary(experiment)["decoded"] == 2


def test_other_weights_or_a_damaged_video_decode_again(experiment, models):
    run(experiment, "--step-filter", "step_000")
    (experiment / "latents_videos" / "prompt_000" / "vid_001" / "step_000.mp4").write_bytes(b"cut off")
    run(experiment, "--step-filter", "step_000")
    assert (summary(experiment)["decoded"], summary(experiment)["skipped"]) == (1, 1)
    other = ["--step-filter", "step_000", "--model", str(models / "svd")]
    assert run(experiment, *other) == 2
    run(experiment, *other, "--overwrite")
    assert summary(experiment)["decoded"] == 2


def test_an_unreadable_summary_is_written_anew(experiment):
    run(experiment, "--step-filter", "step_000")
    before = videos(experiment)
    for text in ("[]", "[" * 100_000):
        (experiment / "latents_videos" / "decode_summary.json").write_text(text)
        assert run(experiment, "--step-filter", "step_000") == 0
        assert summary(experiment)["decoded"] == 2
    assert videos(experiment) == before


def edit_summary(experiment, change):
    path = experiment / "latents_videos" / "decode_summary.json"
    content = json.loads(path.read_text())
    change(content["steps"]["prompt_000/vid_001/step_000"])
    path.write_text(json.dumps(content))


def test_a_tampered_summary_is_not_believed(experiment):
    run(experiment, "--step-filter", "step_000")
    before, frames = videos(experiment), summary(experiment)["steps"]["prompt_000/vid_001/step_000"]["frames"]
    edit_summary(experiment, lambda entry: entry.update(frames=999))
    run(experiment, "--step-filter", "step_000")
    assert (summary(experiment)["decoded"], summary(experiment)["skipped"]) == (1, 1)
    assert videos(experiment) == before
    assert summary(experiment)["steps"]["prompt_000/vid_001/step_000"]["frames"] == frames


@pytest.mark.parametrize("value", [None, -1, 1e30, "x", [], {}, [[]], True])
def test_no_entry_counts_that_was_changed_or_has_other_types(value):
    whole = StepResult("done", "a.mp4", 0.5, 6, 1000, sigma=0.1, timestep=2.5, message="m", recipe="r")
    kinds = {name: type(entry) for name, entry in asdict(whole).items()}
    for field in kinds:
        old = {name: entry for name, entry in asdict(whole).items() if name != "sha256"}
        assert as_result(sealed(asdict(whole)) | {field: value}) is None
        if field != "sha256" and not isinstance(value, kinds[field]) and value is not None:
            assert as_result(old | {field: value}) is None
    assert as_result(value) in (None, StepResult())
    assert as_result(json.loads(json.dumps(sealed(asdict(whole))))) == whole


def test_a_video_of_the_same_size_is_not_taken_for_the_finished_one(experiment):
    run(experiment, "--step-filter", "step_000")
    video = experiment / "latents_videos" / "prompt_000" / "vid_001" / "step_000.mp4"
    content = video.read_bytes()
    video.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    run(experiment, "--step-filter", "step_000")
    assert summary(experiment)["decoded"] == 1 and video.read_bytes() == content


def test_summaries_of_earlier_versions_keep_sound_videos(experiment):
    run(experiment, "--step-filter", "step_000")
    old = lambda entry: [entry.pop(name) for name in ("sha256", "record_sha256")]  # noqa: E731
    edit_summary(experiment, old)
    run(experiment, "--step-filter", "step_000")
    assert summary(experiment)["skipped"] == 2
    video = experiment / "latents_videos" / "prompt_000" / "vid_001" / "step_000.mp4"
    assert summary(experiment)["steps"]["prompt_000/vid_001/step_000"]["sha256"] == sha256_file(video)
    edit_summary(experiment, old)
    video.write_bytes(bytes(video.stat().st_size))
    run(experiment, "--step-filter", "step_000")
    assert summary(experiment)["decoded"] == 1


def test_a_folder_in_the_place_of_a_video_fails_that_step(experiment):
    (experiment / "latents_videos" / "prompt_000" / "vid_001" / "step_000.mp4").mkdir(parents=True)
    assert run(experiment, "--step-filter", "step_000") == 1
    assert (summary(experiment)["decoded"], summary(experiment)["failed"]) == (1, 1)
    assert "is a folder" in summary(experiment)["failures"][0]["reason"]


def test_workers_give_the_same_files(experiment, tmp_path):
    spoil(experiment)
    assert run(experiment) == 1
    one = videos(experiment)
    assert run(experiment, "--overwrite", "--workers", "3") == 1
    assert videos(experiment) == one
    assert summary(experiment)["decoded"] == 5


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_an_interrupted_run_goes_on_where_it_stopped(experiment, monkeypatch, number, workers):
    decode_once, calls = LatentDecoder._decode_once, []

    def interrupted(decoder, tensor):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return decode_once(decoder, tensor)

    with monkeypatch.context() as patch:
        patch.setattr(LatentDecoder, "_decode_once", interrupted)
        assert run(experiment, "--workers", str(workers)) == 130
    done = videos(experiment)
    assert 2 <= len(done) < 6
    assert summary(experiment)["not_run"] == 6 - len(done)
    assert not list(experiment.rglob(".tmp-*"))
    stamps = {name: (experiment / "latents_videos" / name).stat().st_mtime_ns for name in done}
    assert run(experiment) == 0
    assert stamps == {name: (experiment / "latents_videos" / name).stat().st_mtime_ns for name in done}
    assert (summary(experiment)["skipped"], summary(experiment)["decoded"]) == (len(done), 6 - len(done))
    assert len(videos(experiment)) == 6


def start_and_stop_in_the_third(experiment):
    """The script in a process of its own, with a decoder that says so and waits when it comes to the third step."""
    code = (
        "import sys, time\n"
        "from mimicmotion.latent_steps import vae_decoder as latent_decoder\n"
        "from scripts import decode_latent_steps\n"
        "decode = latent_decoder.LatentDecoder._decode_once\n"
        "calls = []\n"
        "def stopping(self, tensor):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3:\n"
        "        print('the third has begun', flush=True)\n"
        "        while True:\n"  # one long wait would go on where a signal comes just before it begins
        "            time.sleep(0.05)\n"
        "    return decode(self, tensor)\n"
        "latent_decoder.LatentDecoder._decode_once = stopping\n"
        f"sys.exit(decode_latent_steps.main([{str(experiment)!r}, '--device', 'cpu']))\n"
    )
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_killed_run_goes_on_where_it_stopped(experiment):
    process = start_and_stop_in_the_third(experiment)
    wait_for_line(process, "the third has begun")
    process.kill()
    process.communicate()
    done = videos(experiment)
    assert process.returncode == -signal.SIGKILL
    assert run(experiment) == 0
    assert summary(experiment)["skipped"] == len(done) == 2
    assert len(videos(experiment)) == 6


@pytest.mark.parametrize(
    "argv",
    [
        ["--video-filter", "vid_1"],
        ["--step-filter", "step_000-step_001,step_019"],
        ["--prompt-filter", "../prompt_000"],
        ["--fps", "0"],
        ["--quality", "11"],
        ["--scale", "0"],
        ["--workers", "0"],
        ["--device", "gpu"],
    ],
)
def test_wrong_use_ends_with_2_before_anything_is_written(experiment, argv):
    assert run(experiment, *argv) == 2
    assert not (experiment / "latents_videos").exists()


@pytest.mark.parametrize("argv", [["--scale", "big"], ["--preview", "x1"], ["--compress-preset", "huge"], ["--step"]])
def test_wrong_flags_end_with_2(experiment, argv):
    with pytest.raises(SystemExit) as caught:
        run(experiment, *argv)
    assert caught.value.code == 2


def test_what_is_no_experiment_ends_with_2(tmp_path):
    assert run(tmp_path) == 2
    assert run(tmp_path / "absent") == 2


@pytest.mark.parametrize("model", [None, 7, ""])
def test_an_experiment_must_name_its_model(experiment, model):
    content = yaml.safe_dump({"model_settings": {"model_id": model}})
    (experiment / "configs" / "generation_config.yaml").write_text(content)
    assert run(experiment) == 2


def test_a_missing_model_or_device_ends_with_3(experiment, tmp_path):
    assert run(experiment, "--model", str(tmp_path / "absent")) == 3
    assert videos(experiment) == {}
    assert summary(experiment)["not_run"] == 6
    if not torch.cuda.is_available():
        assert decode_latent_steps.main([str(experiment), "--device", "cuda:1"]) == 3


def test_a_recording_of_the_embedded_model_uses_the_one_here(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(latent_decoder, "require_embedded_model", lambda: built.append(1) or tmp_path)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text('{"_class_name": "AutoencoderTiny"}')
    assert latent_decoder.find_vae("/elsewhere/assets/models/tiny") == tmp_path / "vae"
    assert built == [1]


def test_another_vae_than_the_recordings_is_told(experiment, caplog):
    path = experiment / "configs" / "generation_config.yaml"
    content = yaml.safe_load(path.read_text())
    content["model_settings"]["weights"] = {"vae": "0" * 64}
    path.write_text(yaml.safe_dump(content))
    ExperimentLatentDecoder(experiment, "cpu").plan()
    assert "has changed since the recording" in caplog.text


def test_a_vae_of_another_kind_is_named(experiment, models):
    path = experiment.parent / "other" / "vae"
    path.mkdir(parents=True)
    (path / "config.json").write_text('{"_class_name": "AutoencoderOobleck"}')
    decoder = ExperimentLatentDecoder(experiment, "cpu", model=str(path.parent))
    with pytest.raises(SetupError, match="AutoencoderOobleck"):
        decoder.decode_experiment()


def test_a_full_disk_ends_the_run(experiment, monkeypatch):
    replace = os.replace

    def full(source, target):
        if str(target).endswith(".mp4"):
            raise OSError(28, "No space left on device")
        return replace(source, target)

    monkeypatch.setattr("mimicmotion.files.os.replace", full)
    assert run(experiment) == 3
    assert videos(experiment) == {}
    assert summary(experiment)["not_run"] == 6


def test_a_link_does_not_lead_the_videos_elsewhere(experiment, tmp_path):
    (tmp_path / "victim").mkdir()
    (experiment / "latents_videos").mkdir()
    (experiment / "latents_videos" / "prompt_000").symlink_to(tmp_path / "victim")
    assert run(experiment) == 2
    assert list((tmp_path / "victim").iterdir()) == []


def test_pictures_to_look_at(reported):
    assert run(reported, "--preview", "x0", "--contact-sheet", "--progress-video") == 0
    folder = reported / "latents_videos" / "prompt_000" / "vid_001"
    assert (folder / "contact_sheet.jpg").stat().st_size > 1000
    assert (folder / "step_002_x0.mp4").is_file()
    progress = open_video(folder / "progress.mp4")
    # Three frames of each of three steps; latents and x0 side by side, enlarged fourfold, below a line of text.
    assert (progress.num_frames, progress.height, progress.width) == (9, 24 + 4 * 32, 2 * 4 * 64)
    first = next(iter(progress.frames()))[1]
    source = next(iter(open_video(folder / "step_000.mp4").frames()))[1]
    shown = first[24::4, : 4 * 64 : 4].astype(int)
    assert np.abs(shown.mean(axis=2) - source.mean(axis=2)).mean() < 12


class Links(html.parser.HTMLParser):
    """Collects what a page refers to, its tags, and its text."""

    def __init__(self):
        super().__init__()
        self.targets, self.tags, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.targets += [value for name, value in attributes if name in ("src", "href", "data")]

    def handle_data(self, data):
        self.text += data


def report(experiment):
    page = Links()
    page.feed((experiment / "latents_videos" / "report.html").read_text())
    return page


def test_the_report_holds_everything_and_refers_to_nothing(reported):
    spoil(reported)
    assert run(reported, "--preview", "x0", "--progress-video") == 1
    page = report(reported)
    kinds = [target.partition(";")[0] for target in page.targets]
    assert sorted(kinds) == ["data:image/jpeg"] * 2 + ["data:video/mp4"] * 2
    picture = next(target for target in page.targets if target.startswith("data:image"))
    assert base64.b64decode(picture.partition(",")[2]).startswith(b"\xff\xd8")
    assert page.tags.count("polyline") == 2
    assert page.tags.count("circle") == 6
    assert "step_001" in page.text
    assert "not a readable step file" in page.text


def test_the_report_escapes_what_it_is_told(reported):
    path = reported / "configs" / "generation_config.yaml"
    content = yaml.safe_load(path.read_text())
    content["videos"] = {"prompt_000/vid_001": {"video": "<script>alert(1)</script>", 'x"><img src=y>': 1}}
    path.write_text(yaml.safe_dump(content))
    (reported / "latents" / "prompt_000" / "vid_001" / "step_000_metadata.json").write_text(
        json.dumps({"file": "<script>alert(2)</script>", "sigma": "<script>"})
    )
    assert run(reported, "--step-filter", "step_000,step_001") == 1
    page = report(reported)
    assert "script" not in page.tags
    assert page.tags.count("img") == 2
    assert "<script>alert(1)</script>" in page.text
    assert "<script>alert(2)</script>" in page.text


def test_x0_must_have_been_recorded(reported):
    for path in reported.rglob("*_x0.npy.gz"):
        path.unlink()
    assert run(reported, "--preview", "x0") == 2
    assert run(reported, "--step-filter", "step_000") == 0


def test_latents_of_others_need_no_metadata(reported):
    for path in reported.rglob("*_metadata.json"):
        path.unlink()
    assert run(reported, "--contact-sheet") == 0
    assert "polyline" not in report(reported).tags
