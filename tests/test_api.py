"""The public face: names that cost nothing to import, and frames in memory equal to the script's."""

import subprocess
import sys

import numpy as np
import pytest

import mimicmotion
from mimicmotion.api import resolve
from mimicmotion.config import load_config
from mimicmotion.errors import UsageError
from tests.conftest import write_clip


def test_every_public_name_is_there_and_importing_costs_nothing():
    assert {"animate", "load_config", "create_pipeline", "StreamingGenerator", "ExperimentLatentDecoder"} <= set(
        mimicmotion.__all__
    )
    assert all(hasattr(mimicmotion, name) for name in mimicmotion.__all__)
    code = "import sys, mimicmotion; assert not {'torch', 'numpy', 'diffusers', 'omegaconf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_stay_what_they_are_whatever_was_imported():
    code = (
        "import mimicmotion.animation, mimicmotion.latent_steps, mimicmotion.streaming\n"
        "from mimicmotion import animate\nassert callable(animate)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_settings_are_named_as_flags_or_by_path():
    config = resolve(None, {"seed": 7, "sampling.decode_overlap": 2})
    assert (config.test_case[0].seed, config.sampling.decode_overlap) == (7, 2)
    assert config.turbo.num_inference_steps == 4 and config.turbo.lcm_lora_path
    for wrong in ("sed", "sampling.decode_overlapp"):
        with pytest.raises(UsageError, match=wrong):
            resolve(None, {wrong: 1})


def test_another_scheduler_takes_its_own_steps_as_on_a_command_line():
    turbo = resolve(None, {"scheduler": "AYS"}).turbo
    assert (turbo.num_inference_steps, turbo.guidance_scale, turbo.lcm_lora_path) == (None, None, None)
    assert resolve(None, {"scheduler": "AYS", "num_inference_steps": 8}).turbo.num_inference_steps == 8


def test_settings_to_start_from_stay_as_they_are():
    start = load_config(given={"test_case[*].seed": 3})
    changed = resolve(start, {"seed": 4})
    assert (start.test_case[0].seed, changed.test_case[0].seed) == (3, 4)
    assert changed.turbo == start.turbo


def test_frames_are_the_scripts_and_nothing_is_written_unless_asked(project, tmp_path, monkeypatch):
    video, picture = write_clip(tmp_path / "a.mp4"), project / "person.png"
    config = load_config(project / "settings.yaml", {"pose.folder": str(project / "poses")})
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    frames = mimicmotion.animate(picture, video, config)
    assert frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[-1] == 3
    assert set(tmp_path.rglob("*")) == before
    again = mimicmotion.animate(picture, video, config, output=tmp_path / "out" / "a.mp4")
    assert np.array_equal(again, frames)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.mp4", "a.jpg", "a.json"}
    assert not np.array_equal(mimicmotion.animate(picture, video, config, seed=9), frames)
