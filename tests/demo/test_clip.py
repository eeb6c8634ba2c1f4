"""The demo clip script, with a stand-in for the downloaded video."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimicmotion.demo.clip import REFERENCE_LEFT, REFERENCE_RIGHT, is_complete, write_clip
from tests.video.clips import cut_file, run_ffmpeg

SCRIPT = Path(__file__).parents[2] / "scripts" / "get_demo_clip.py"


@pytest.fixture
def script(without_network) -> dict:
    """The script's globals; pip finds nothing."""
    return runpy.run_path(str(SCRIPT))


def test_no_network_is_a_set_up_error(script, tmp_path, capsys):
    assert script["main"](["--output-dir", str(tmp_path)]) == 3
    message = capsys.readouterr().err
    assert "sports2d==0.8.34" in message and "check the network" in message
    assert list(tmp_path.iterdir()) == []


def test_clip_is_cropped_and_a_second_run_needs_no_network(script, tmp_path):
    picture = ["-f", "lavfi", "-i", "testsrc=s=1000x500:r=30"]
    run_ffmpeg(*picture, "-frames:v", "110", "-preset", "ultrafast", "-crf", "1", tmp_path / "demo.mp4")
    clip, reference = tmp_path / "driving" / "jumping_jacks.mp4", tmp_path / "reference.png"
    assert not is_complete(clip, reference)
    write_clip(tmp_path / "demo.mp4", clip, reference)
    assert script["main"](["--output-dir", str(tmp_path)]) == 0

    run_ffmpeg("-i", tmp_path / "demo.mp4", "-frames:v", "1", tmp_path / "first.png")
    first = np.asarray(Image.open(tmp_path / "first.png"))
    upright = first[0:480, 380:900][:, REFERENCE_LEFT:REFERENCE_RIGHT].astype(int)
    assert np.abs(np.asarray(Image.open(reference)) - upright).mean() < 1

    cut_file(clip, clip, 0.7)
    assert script["main"](["--output-dir", str(tmp_path)]) == 3
