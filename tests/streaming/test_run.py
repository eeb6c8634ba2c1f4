"""The scripts as they are typed, on a micro world: batch equals live, sessions go on, bad settings end at once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mimicmotion.config import load_config
from mimicmotion.errors import InputError, SetupError, UsageError
from mimicmotion.files import sha256_file
from mimicmotion.modules import TAEHV, TAESDV
from mimicmotion.streaming import loading
from mimicmotion.streaming import run as run_module
from mimicmotion.streaming.benchmark import percentiles, rates
from mimicmotion.streaming.run import latents_for, run_benchmark, run_causal, run_streaming
from mimicmotion.streaming.tiny import ensure_weights
from tests.conftest import HANG_SECONDS, wait_for_file
from tests.streaming.micro import micro_world
from tests.streaming.test_play import Script, count, names
from tests.tiny_decoders import write_decoder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return micro_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def settings(world, tmp_path):
    def make(**streaming):
        given = {f"streaming.{name}": value for name, value in streaming.items()}
        given |= {"streaming.config_path": str(world), "runtime.device": "cpu"}
        given |= {"streaming.image": str(ROOT / "assets/streaming/first_frame.png")}
        return load_config(ROOT / "configs/test.yaml", given | {"output.output_dir": str(tmp_path / "out")})

    return make


def type_in(monkeypatch, *answers):
    script = Script(*answers)
    monkeypatch.setattr(run_module, "Terminal", lambda: script.terminal)
    return script


def test_batch_writes_the_published_number_of_frames(settings, tmp_path):
    assert run_causal(settings(num_latents=12)) == 0
    assert names(tmp_path / "out") == [
        "demo.json", "demo.mp4", "demo.session.jsonl", "demo_icon.mp4", "index.html", "runs.jsonl",
    ]  # fmt: skip
    assert '"world"' in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert count(tmp_path / "out" / "demo.mp4") == count(tmp_path / "out" / "demo_icon.mp4") == 45


def test_the_record_says_how_a_session_was_made(settings, tmp_path):
    run_causal(settings(actions="W*9 W+L*12", seed=4))
    record = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert record["frames"] == 21
    assert record["seed"] == 4
    assert [entry["frames"] for entry in record["actions"]] == [9, 12]
    assert record["actions"][0]["keyboard"] == record["actions"][1]["keyboard"]
    assert record["actions"][0]["mouse"] != record["actions"][1]["mouse"]
    for path in (tmp_path / "out").glob("*.mp4"):
        assert record["videos"][path.name] == sha256_file(path)
    assert record["begun_from"]["sha256"] == sha256_file(settings().streaming.image)


@pytest.mark.parametrize("actions", ["bench", "W*9 W+L*12 Q*12 J*3"])
def test_streamed_video_is_the_batch_video_byte_for_byte(settings, tmp_path, actions):
    run_causal(settings(actions=actions, num_latents=12, seed=2))
    run_streaming(settings(actions=actions, max_latents=12, seed=2))
    for suffix in ("", "_icon"):
        batch, live = (tmp_path / "out" / f"{stem}{suffix}.mp4" for stem in ("demo", "first_frame"))
        assert batch.read_bytes() == live.read_bytes()


@pytest.mark.parametrize("run", [run_causal, run_streaming])
def test_no_session_replaces_another_unasked(settings, tmp_path, run):
    first, second = (settings(actions="W*9", seed=seed, max_latents=3, num_latents=3) for seed in (1, 2))
    run(first)
    left = [path for ending in ("*.mp4", "*.json", "*.session.jsonl") for path in (tmp_path / "out").glob(ending)]
    kept = {path: path.read_bytes() for path in left if not path.stem.endswith("_current")}
    run(second)
    assert {path: path.read_bytes() for path in kept} == kept
    assert {path.suffix for path in (tmp_path / "out").glob("*-002.*")} == {".mp4", ".json", ".jsonl"}
    second.output.overwrite = True
    run(second)
    assert any(path.read_bytes() != content for path, content in kept.items())


def test_script_sets_the_length_and_may_be_a_file(settings, tmp_path, capsys):
    (tmp_path / "walk.txt").write_text("W*9\nL*13\n")
    run_causal(settings(actions=str(tmp_path / "walk.txt")))
    assert count(tmp_path / "out" / "demo.mp4") == 33
    assert "demo.mp4 (33 frames)" in capsys.readouterr().out
    assert [latents_for(frames, 3) for frames in (1, 9, 10, 21, 22, 597)] == [3, 3, 6, 6, 9, 150]


def test_typed_session_and_the_next_picture(settings, tmp_path, monkeypatch):
    script = type_in(monkeypatch, "", "W", "L", "n", "", "missing.png", "", "Q", "U", "", "W", "K", "n", "n")
    assert run_streaming(settings(ask="three")) == 0
    assert script.answers == []
    # The second session begins with the same picture and leaves the first one's videos alone.
    assert count(tmp_path / "out" / "first_frame.mp4") == 9
    assert count(tmp_path / "out" / "first_frame-002.mp4") == 21


def test_end_of_input_is_a_clean_end(settings, tmp_path, monkeypatch):
    type_in(monkeypatch)
    assert run_streaming(settings()) == 0
    type_in(monkeypatch, "", "W", "L", "", "W")
    assert run_streaming(settings(ask="three")) == 0
    assert count(tmp_path / "out" / "first_frame.mp4") == 9


def test_saved_session_goes_on(settings, tmp_path):
    whole, state = settings(actions="bench", max_latents=12), str(tmp_path / "walk.safetensors")
    run_streaming(whole)
    expected = frames_of(tmp_path / "out" / "first_frame_current.mp4")
    run_streaming(settings(actions="bench", max_latents=9, save_state=state))
    run_streaming(settings(actions="bench", max_latents=3, resume_from=state))
    assert count(tmp_path / "out" / "walk.mp4") == 12
    assert frames_of(tmp_path / "out" / "walk_current.mp4") == expected


def frames_of(path):
    import av

    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in video.decode(video=0)]


@pytest.mark.parametrize(
    "change, error",
    [
        ({"num_latents": 10}, UsageError),
        ({"actions": "X*3"}, UsageError),
        ({"actions": "no such file.txt"}, UsageError),
        ({"config_path": "nowhere.yaml"}, UsageError),
        ({"image": "nowhere.png"}, InputError),
    ],
)
def test_bad_settings_end_before_models_load(settings, monkeypatch, change, error):
    monkeypatch.setattr(run_module, "load_generator", lambda *a, **k: pytest.fail("loaded"))
    config = settings()
    for name, value in change.items():
        setattr(config.streaming, name, value)
    with pytest.raises(error):
        run_causal(config)


def test_a_place_where_no_session_can_be_saved_is_told_before_models_load(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "load_generator", lambda *a, **k: pytest.fail("loaded"))
    (tmp_path / "file").touch()
    for path, error in ((tmp_path / "file" / "s.safetensors", SetupError), (tmp_path, UsageError)):
        with pytest.raises(error):
            run_streaming(settings(actions="bench", save_state=str(path)))


def test_ctrl_c_ends_the_script_with_its_video(world, tmp_path):
    command = [sys.executable, str(ROOT / "scripts/inference_streaming.py"), "--config_path", str(world)]
    command += ["--actions", "bench", "--output_dir", str(tmp_path), "--device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_file(tmp_path / "first_frame_current.mp4", process)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=HANG_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "interrupted" in out
    frames = count(tmp_path / "first_frame.mp4")
    assert frames >= 9
    assert frames % 12 == 9
    assert f"first_frame.mp4 ({frames} frames)" in out


@pytest.mark.parametrize("name", ["demo.mp4", "demo_icon.mp4", "demo.json"])
def test_a_folder_in_a_videos_place_is_said_before_models_load(settings, tmp_path, monkeypatch, name):
    monkeypatch.setattr(run_module, "load_generator", lambda *a, **k: pytest.fail("loaded"))
    (tmp_path / "out" / name).mkdir(parents=True)
    config = settings(num_latents=3)
    config.output.overwrite = True  # else a name that is taken is not used
    with pytest.raises(InputError, match="is a folder"):
        run_causal(config)


def test_weights_that_are_not_what_was_noted_end_a_run_before_it_begins(tmp_path, settings, monkeypatch):
    config = settings()
    config.streaming.config_path = str(micro_world(tmp_path))
    world = run_module.world_of(config)
    ensure_weights(world)
    path = Path(world.weights_folder) / world.vae_file
    (path.parent / "weights.json").write_text(json.dumps({path.name: {"sha256": "0" * 64}}))
    with pytest.raises(SetupError, match=path.name):
        run_causal(config)
    config.runtime.verify_weights = True
    monkeypatch.setattr(run_module, "load_generator", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(SetupError, match=path.name):
        run_causal(config)


def test_a_small_decoder_takes_the_place_of_the_vaes(settings, tmp_path, caplog):
    decoder, state = str(tmp_path / "tiny.safetensors"), str(tmp_path / "walk.safetensors")
    write_decoder(Path(decoder), TAEHV)
    run_streaming(settings(actions="bench", max_latents=9, decoder=decoder))
    expected = frames_of(tmp_path / "out" / "first_frame_current.mp4")
    assert count(tmp_path / "out" / "first_frame.mp4") == 33
    assert "seems made for another VAE" in caplog.text  # its weights are drawn
    assert json.loads((tmp_path / "out" / "first_frame.json").read_text())["settings"]["decoder"] == decoder
    run_streaming(settings(actions="bench", max_latents=6, decoder=decoder, save_state=state))
    with pytest.raises(InputError, match="another --decoder"):
        run_streaming(settings(actions="bench", max_latents=3, resume_from=state))
    run_streaming(settings(actions="bench", max_latents=3, decoder=decoder, resume_from=state))
    assert frames_of(tmp_path / "out" / "walk_current.mp4") == expected


def test_a_decoder_that_does_not_fit_is_refused_before_models_load(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load_model", lambda *a: pytest.fail("loaded"))
    write_decoder(tmp_path / "tiny.pth", TAESDV)
    with pytest.raises(UsageError, match="4 channels"):
        run_causal(settings(num_latents=3, decoder=str(tmp_path / "tiny.pth")))
    with pytest.raises(SetupError, match="decoder not found"):
        run_causal(settings(num_latents=3, decoder="nowhere.pth"))


def test_rates_are_frames_over_seconds():
    milliseconds = np.array([[60, 20, 20], [40, 40, 20]])  # denoise, decode, transport of two blocks
    assert rates(milliseconds, 12) == {"with_decode": 120.0, "denoise_only": 240.0}
    assert percentiles(milliseconds)["total"] == {"p50": 100.0, "p95": 100.0}


@pytest.mark.parametrize("random_weights", [False, True])
def test_benchmark_measures_every_stage_and_flat_memory(settings, tmp_path, capsys, random_weights):
    run_benchmark(settings(benchmark_blocks=20, random_weights=random_weights))
    figures = json.loads((tmp_path / "out" / "benchmark_streaming.json").read_text())
    blocks = figures["ms_per_block"]
    assert all(
        0 < blocks[stage]["p50"] <= blocks[stage]["p95"] for stage in ("denoise", "decode", "transport", "total")
    )
    rate = figures["frames_per_second"]
    assert 0 < rate["with_decode"] < rate["denoise_only"]
    memory = figures["memory"]
    assert memory["block_10"]["session_mib"] == memory["last_block"]["session_mib"] > 0
    assert figures["overlapped"]["frames_equal"] and figures["overlapped"]["frames_per_second"] > 0
    assert "frames per second" in capsys.readouterr().out
