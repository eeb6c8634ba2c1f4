"""What the command refuses before it serves, how it ends, and the embedded world played through all of it."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mimicmotion.commands import run_command
from mimicmotion.config import default_config
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.serving import Server, listening, serve_world
from mimicmotion.serving.run import speed_line
from mimicmotion.streaming import actions_of, create_generator, read_log, world_of
from mimicmotion.video import probe_video
from mimicmotion.worlds import get_walk, open_place, render
from tests.serving.window import Window

ROOT = Path(__file__).resolve().parents[2]


def test_a_used_port_is_told(config):
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        config.serving.port = port
        with pytest.raises(SetupError, match=rf"port {port}: .*--port"):
            serve_world(config)


@pytest.mark.parametrize("host", ["no such host", "a" * 300, "999.1.1.1"])
def test_a_host_that_is_none_is_told(config, host):
    config.serving.host = host
    with pytest.raises(UsageError, match="--host"):
        serve_world(config)


def test_an_address_of_another_machine_is_told(config):
    config.serving.host = "192.0.2.1"
    with pytest.raises(SetupError, match=r"192\.0\.2\.1"):
        serve_world(config)


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "websockets"])
def test_a_missing_package_is_told_with_the_line_that_installs_it(config, monkeypatch, missing):
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(SetupError, match=f"{missing}: pip install -r requirements-web.txt"):
        serve_world(config)


@pytest.mark.parametrize("port", ["-1", "65536", "a"])
def test_an_impossible_port_is_wrong_use(port, logging_as_before, capsys):
    try:
        code = run_command("serve_world", ["--port", port])
    except SystemExit as error:
        code = error.code
    assert code == 2


def test_what_cannot_be_begun_with_is_told_before_anything_is_loaded(config, tmp_path):
    config.serving.image = "nowhere.png"
    with pytest.raises(UsageError, match="--img_path"):
        serve_world(config)
    config.serving.image = None
    (tmp_path / "log").write_text("{}\n")
    config.streaming.replay = str(tmp_path / "log")
    with pytest.raises(UsageError, match="--replay"):
        serve_world(config)


def test_any_other_address_has_a_token_in_its_link(config):
    from tests.serving.courtyard import Courtyard

    with listening("0.0.0.0", 0) as listener:
        config.serving.host = "0.0.0.0"
        link = Server(Courtyard(), config, listener).link
        assert re.fullmatch(rf"http://{re.escape(socket.gethostname())}:\d+/\?token=[\w-]{{32,}}", link)


def test_the_speed_is_told():
    assert speed_line(0.4, 12, 12) == "400 ms a block of 12 frames: 12 frames a second play live"
    assert speed_line(3, 12, 12).endswith("4.0 frames a second, 3.0 times slower than live")


@pytest.mark.parametrize(("number", "seed"), [(1, 8), (2, 5), (3, 3)])
def test_the_offered_pictures_are_places_of_the_courtyard(number, seed):
    from PIL import Image

    pixels = np.array(Image.open(ROOT / f"assets/streaming/courtyard_{number}.png"))
    assert np.array_equal(pixels, render(open_place(seed, get_walk())[None])[0])


def test_the_embedded_world_is_played_recorded_and_played_again(tmp_path):
    """The command itself in a process of its own, ended by Ctrl-C while it records; then its log by another server."""
    command = [sys.executable, "scripts/serve_world.py", "--port", "0", "--output_dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        link = next(re.search(r"http://\S+", line)[0] for line in process.stdout if "http" in line)
        assert "ms a block" in process.stdout.readline()
        with Window(SimpleNamespace(link=link)) as window:
            window.pause(seed=3)
            window.say("record", on=True)
            window.hear("status", recording=True)
            window.step("W", "L")
            assert window.heard[-1]["ms"]["denoise"] > 0
        process.send_signal(signal.SIGINT)
        _, log = process.communicate()
    assert process.returncode == 130, log
    assert "Traceback" not in log and "token" not in log
    (record,) = tmp_path.glob("world-*.json")
    facts = json.loads(record.read_text())
    assert facts["frames"] == 21 and set(facts["videos"]) == {record.stem + end for end in (".mp4", "_icon.mp4")}
    assert probe_video(record.with_suffix(".mp4")).num_frames == 21
    log = read_log(record.with_suffix(".session.jsonl"))
    assert len(list(actions_of(log))) == 21 and log.header.seed == 3
    config = default_config()
    config.streaming.config_path, config.output.output_dir = config.serving.config_path, str(tmp_path)
    config.serving.port = 0
    generator = create_generator(config, world_of(config))
    assert generator.fingerprint() == log.header.generator
    with (
        listening("127.0.0.1", 0) as listener,
        Server(generator, config, listener, log) as server,
        Window(server) as window,
    ):
        window.see_from(2)
        (tmp_path / "again").write_bytes(window.request(f"/api/session/{window.sid}/script")[2])
        assert not any(message["type"] == "error" for message in window.heard)
    again = [block.frames_sha256 for block in read_log(tmp_path / "again").blocks]
    assert again[:2] == [block.frames_sha256 for block in log.blocks] and len(again) > 2
