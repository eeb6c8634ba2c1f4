"""Files that come with the package are found from any folder."""

from pathlib import Path

import pytest

from mimicmotion import places
from mimicmotion.config import load_config, trace_config
from mimicmotion.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/test.yaml"


def test_in_a_checkout_the_home_is_the_repository():
    assert places.HOME == ROOT


def test_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert places.find(CONFIG) == ROOT / CONFIG
    Path("configs").mkdir()
    Path(CONFIG).write_text("output: {crf: 7}\n")
    assert places.find(CONFIG) == Path(CONFIG)
    assert load_config(CONFIG).output.crf == load_config().output.crf == 7


@pytest.mark.parametrize("path", ["nowhere.yaml", "owner/model", "W*12 " * 200, "/nowhere/configs/test.yaml"])
def test_what_is_nowhere_stays_as_it_is(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert places.find(path) == Path(path)


def test_from_the_repository_settings_are_as_the_file_has_them(monkeypatch):
    """Records hold paths as they were given: a run from the repository writes what it always wrote."""
    monkeypatch.chdir(ROOT)
    config = load_config()
    assert config.base_model_path == "assets/models/tiny"
    assert config.turbo.lcm_lora_path == "assets/models/tiny/lcm_lora"
    assert (config.streaming.config_path, config.streaming.image) == (
        "configs/streaming/world.yaml",
        "assets/streaming/first_frame.png",
    )


def test_from_elsewhere_the_embedded_files_are_found(tmp_path, monkeypatch):
    from mimicmotion.streaming import read_world

    monkeypatch.chdir(tmp_path)
    origin = trace_config()
    config = origin.config
    streaming = (config.streaming.config_path, config.streaming.image)
    for path in (config.base_model_path, config.turbo.lcm_lora_path, *streaming):
        assert Path(path).is_absolute() and Path(path).exists()
    assert read_world("configs/streaming/tiny.yaml").mode == read_world(config.streaming.config_path).mode
    assert not [line for line in origin.differences() if line.startswith(("base_model_path", "streaming"))]


def test_outputs_stay_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(overrides=["output.output_dir=scripts", "feature_cache.folder=doc"])
    assert (config.output.output_dir, config.feature_cache.folder) == ("scripts", "doc")


def test_a_missing_configuration_names_both_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        load_config("configs/mine.yaml")
    assert str(tmp_path) in str(caught.value) and str(ROOT) in str(caught.value)
