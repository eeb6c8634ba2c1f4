"""Sessions from a folder to figures; a bad one stops no other."""

import csv
import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest

from mimicmotion.config import load_config
from mimicmotion.errors import UsageError
from mimicmotion.evaluation import evaluate_sessions
from mimicmotion.files import sealed, sha256_file
from mimicmotion.streaming import get_mode, parse_script
from mimicmotion.video import VideoWriter
from mimicmotion.worlds import get_walk, open_place, render

FREE = get_walk("free")
SCRIPT = "J*36 L*36 Q*25"


@functools.cache
def true_session():
    """(actions, frames) of the script in the courtyard."""
    actions = parse_script(get_mode("universal"), SCRIPT)
    return actions, render(FREE.follow_actions(open_place(0, FREE), actions.keyboard, actions.mouse))


def write_session(folder, name, change=lambda frames: frames, **values):
    """A true session of the courtyard with its record, its frames changed."""
    actions, frames = true_session()
    frames = change(frames)
    folder.mkdir(parents=True, exist_ok=True)
    with VideoWriter(folder / f"{name}.mp4", 12, crf=8, preset="ultrafast") as writer:
        writer.write(np.ascontiguousarray(frames))
    runs = [
        {"frames": 1, "keyboard": keys.tolist(), "mouse": look.tolist()}
        for keys, look in zip(actions.keyboard, actions.mouse, strict=True)
    ]
    video = folder / f"{name}.mp4"
    record = {"videos": {video.name: sha256_file(video)}, "begun_from": {}, "settings": {}, "mode": "universal"}
    video.with_suffix(".json").write_text(json.dumps(sealed(record | {"actions": runs} | values)))


def settings(folder, **values):
    config = load_config()
    return dataclasses.replace(
        config, evaluation=dataclasses.replace(config.evaluation, results=str(folder), **values)
    )


def test_true_still_and_mirrored_sessions_are_told_apart(tmp_path):
    folder = tmp_path / "sessions"
    write_session(folder, "true")
    write_session(folder, "still", lambda frames: frames[:1].repeat(len(frames), 0))
    write_session(folder, "mirrored", lambda frames: frames[:, :, ::-1])
    write_session(folder, "wrong", actions=[{"frames": 3, "keyboard": [0] * 4, "mouse": [0, 0]}])
    (folder / "other.mp4").write_bytes(b"no session")
    assert evaluate_sessions(settings(folder)) == 1
    output = folder / "evaluation"
    found = {entry["name"]: entry for entry in json.loads((output / "worlds.json").read_text())["sessions"]}
    assert set(found) == {"true", "still", "mirrored", "wrong"}
    assert "actions of 3 frames and 97 frames" in found["wrong"]["message"]
    true, still, mirrored = (found[name]["numbers"] for name in ("true", "still", "mirrored"))
    assert true["closure"] > 0.95 and true["agreement"] > 0.9 and true["idle_psnr"] > 30
    assert still["closure"] == 0 and still["agreement"] < 0.5
    assert mirrored["obeyed"]["look left"] == mirrored["obeyed"]["look right"] == 0
    lines = list(csv.DictReader((output / "worlds.csv").open()))
    assert [line["status"] for line in lines] == ["done", "done", "done", "failed"]
    first = (output / "worlds.json").read_bytes()
    assert evaluate_sessions(settings(folder)) == 1 and (output / "worlds.json").read_bytes() == first
    assert (output / "worlds.jpg").stat().st_size > 1000


def test_a_session_whose_video_was_changed_is_not_measured(tmp_path, capsys):
    folder = tmp_path / "sessions"
    write_session(folder, "true", videos={"true.mp4": "0" * 64})
    assert evaluate_sessions(settings(folder)) == 1
    assert "is not the video of its record" in capsys.readouterr().out


def test_standard_sessions_are_played_and_measured(tmp_path, monkeypatch):
    def play(config):
        assert config.output.overwrite and config.streaming.num_latents is None
        scripts.append(config.streaming.actions)
        place = Path(config.output.output_dir)
        write_session(place.parent, place.name, lambda frames: frames[:20], actions=[run | {"frames": 20}])
        return 0

    scripts, run = [], {"keyboard": [0] * 4, "mouse": [0, -0.1]}
    monkeypatch.setattr("mimicmotion.streaming.run_causal", play, raising=False)
    config = settings(tmp_path, play=True, output_dir=str(tmp_path / "out"))
    with pytest.raises(UsageError, match="drop the folder of sessions"):
        evaluate_sessions(config)
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, results=None))
    assert evaluate_sessions(config) == 0
    assert "Q*9 J*60 L*60 Q*12" in scripts and len(scripts) == 4
    found = json.loads((tmp_path / "out" / "worlds.json").read_text())
    assert len(found["sessions"]) == 4 and found["obeyed"] == {"look left": 1}


def test_a_folder_without_sessions_is_refused(tmp_path):
    for folder, told in ((None, "which sessions"), (tmp_path / "no", "no such folder"), (tmp_path, "no session lies")):
        config = settings(folder)
        if folder is None:
            config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, results=None))
        with pytest.raises(UsageError, match=told):
            evaluate_sessions(config)
