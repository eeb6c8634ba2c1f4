"""Layers of settings, and what is refused with which words."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

from mimicmotion.config import (
    PRECISIONS,
    Config,
    aspect_ratio,
    check_config,
    default_config,
    describe_setting,
    load_config,
    lookup,
    parse_color,
    to_yaml,
    trace_config,
    walk,
)
from mimicmotion.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
TEST_YAML = ROOT / "configs" / "test.yaml"


def load(content, tmp_path, **arguments):
    path = tmp_path / "settings.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return load_config(path, **arguments)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_files_are_valid(path):
    config = load_config(path)
    assert config.test_case[0].ref_image_path


def test_test_yaml_keeps_the_documents_names_and_turbo_its_own_steps():
    config = load_config(TEST_YAML)
    assert (config.turbo.num_inference_steps, config.turbo.guidance_scale) == (4, 1.0)
    assert (config.test_case[0].num_inference_steps, config.test_case[0].guidance_scale) == (25, 2.0)


def test_mimicmotion_yaml_is_the_published_model():
    config = load_config(ROOT / "configs" / "mimicmotion.yaml")
    assert config.base_model_path == "stabilityai/stable-video-diffusion-img2vid-xt-1-1"
    assert config.ckpt_path == "models/MimicMotion_1-1.pth"
    assert (config.test_case[0].num_frames, config.test_case[0].resolution) == (72, 576)


def test_an_upstream_file_is_enough(tmp_path):
    content = {
        "base_model_path": "base",
        "ckpt_path": "models/MimicMotion_1-1.pth",
        "batch": {"video_folder": "videos"},
        "test_case": [{"ref_video_path": "a.mp4", "ref_image_path": "b.jpg", "num_frames": 16, "seed": 1}],
    }
    config = load(content, tmp_path)
    assert config.test_case[0].num_frames == 16
    assert config.test_case[0].sample_stride == 2


@pytest.mark.parametrize(
    ("aspect", "ratio"),
    [("published", None), ("auto", None), ("keep", None), ("3:4", Fraction(3, 4)), ("2.5:1", Fraction(5, 2))],
)
def test_shapes_of_frames(tmp_path, aspect, ratio):
    assert aspect_ratio(load({"reference": {"aspect": aspect}}, tmp_path).reference.aspect) == ratio


@pytest.mark.parametrize("aspect", ["16:9", "9:16", "1:1"])
def test_a_shape_means_itself_with_and_without_quotes(tmp_path, aspect):
    width, height = map(int, aspect.split(":"))
    for content in (f"reference: {{aspect: '{aspect}'}}", f"reference:\n  aspect: {aspect}\n"):
        assert load(content, tmp_path).reference.aspect == aspect
    config = load_config(overrides=[f"reference.aspect={aspect}"])
    assert config.reference.aspect == aspect
    assert aspect_ratio(aspect) == Fraction(width, height)
    assert load(to_yaml(config), tmp_path).reference.aspect == aspect


@pytest.mark.parametrize("aspect", ["wide", "5:1", "1:100", "0:9", "9:0", "-3:4", "3:4:5", "nan:1", "1e3:1", "", "7"])
def test_shapes_that_are_refused(aspect):
    with pytest.raises(UsageError, match=r"reference\.aspect"):
        load_config(given={"reference.aspect": aspect})


def test_colours_of_the_background():
    assert parse_color(load_config(given={"reference.background": "#0a141e"}).reference.background) == (10, 20, 30)
    for bad in ("", "wite", "#12", "rgb(999,0,0)", "x" * 1000):
        with pytest.raises(UsageError, match=r"reference\.background"):
            load_config(given={"reference.background": bad})


def test_later_layers_win(tmp_path):
    content = {"output": {"crf": 20, "audio": "drop"}, "test_case": [{"seed": 1}, {"seed": 2}]}
    given = {"output.crf": 21, "test_case[*].seed": 7}
    assert load({}, tmp_path).output.crf == Config().output.crf
    assert load(content, tmp_path).output.crf == 20
    assert load(content, tmp_path, given=given).output.crf == 21
    assert load(content, tmp_path, given=given, overrides=["output.crf=22"]).output.crf == 22
    config = load(content, tmp_path, given=given, overrides=["test_case[1].seed=9"])
    assert [case.seed for case in config.test_case] == [7, 9]
    assert config.output.audio == "drop"


def test_resolved_settings_can_be_loaded_again(tmp_path):
    config = load_config(TEST_YAML, overrides=["turbo.scheduler=AYS", "turbo.scheduler_sigma_min=1e-3"])
    assert load(to_yaml(config), tmp_path) == config


def test_numbers_in_scientific_notation_are_numbers(tmp_path):
    assert load("turbo:\n  scheduler_sigma_min: 1e-3\n", tmp_path).turbo.scheduler_sigma_min == 1e-3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"turbo": {"schedulr": "AYS"}}, ["turbo.schedulr", "did you mean 'scheduler'"]),
        ({"turbbo": {}}, ["turbbo", "did you mean 'turbo'"]),
        ({"test_case": [{"sed": 1}]}, ["test_case[0].sed", "did you mean 'seed'"]),
        ({"turbo": {"scheduler": "AnimateLCM"}}, ["turbo.scheduler", "AnimateLCM_SVD"]),
        ({"output": {"crf": "low"}}, ["output.crf", "Integer"]),
        ({"turbo": {"fuse_lcm_lora": "perhaps"}}, ["fuse_lcm_lora", "bool"]),
        ({"output": {"crf": 99}}, ["output.crf", "0 to 51"]),
        ({"test_case": [{"resolution": 100}]}, ["test_case[0].resolution", "64", "128"]),
        ({"test_case": [{"resolution": 0}]}, ["test_case[0].resolution", "64"]),
        ({"test_case": [{"num_frames": 8, "frames_overlap": 8}]}, ["frames_overlap 8", "num_frames 8"]),
        ({"test_case": [{"frames_overlap": 0}]}, ["frames_overlap", "1 or more"]),
        ({"test_case": [{"num_inference_steps": 0}]}, ["num_inference_steps", "1 or more"]),
        ({"test_case": [{"fps": float("nan")}]}, ["fps", "nan", "0.1 to 1000"]),
        ({"test_case": [{"guidance_scale": float("inf")}]}, ["test_case[0].guidance_scale", "inf", "0 or more"]),
        ({"turbo": {"scheduler_sigma_max": float("inf")}}, ["turbo.scheduler_sigma_max", "inf", "a number"]),
        ({"turbo": {"lcm_lora_scale": float("nan")}}, ["turbo.lcm_lora_scale", "nan", "a number"]),
        ({"feature_cache": {"max_gb": float("nan")}}, ["feature_cache.max_gb", "nan", "0 or more"]),
        ({"test_case": []}, ["test_case is empty"]),
        ({"sampling": {"decode_chunk_size": 4, "decode_overlap": 4}}, ["decode_overlap 4", "decode_chunk_size 4"]),
        ({"turbo": {"scheduler_sigma_min": 800}}, ["scheduler_sigma_min"]),
        ({"sampling": {"pose_start": 0.6, "pose_end": 0.5}}, ["pose_start 0.6", "pose_end 0.5"]),
        ({"sampling": {"image_embed_strength": float("nan")}}, ["sampling.image_embed_strength", "0 to 10"]),
        ({"pose": {"draw": ["hands", "ears"]}}, ["pose.draw", "ears", "body, hands, face"]),
        ({"pose": {"draw": [["body"]]}}, ["pose.draw"]),
        ({"pose": {"draw": []}}, ["pose.draw is empty", "--pose_strength 0"]),
        ({"batch": 3}, ["batch"]),
        ([1, 2], ["keys and values"]),
        ("a: [", ["not valid YAML"]),
    ],
)
def test_bad_files_are_refused_with_the_key(content, words, tmp_path):
    with pytest.raises(UsageError) as caught:
        load(content, tmp_path)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("turbo.num_inference_steps", ["path=value"]),
        ("turbo.num_steps=3", ["turbo.num_steps", "num_inference_steps"]),
        ("turbo.num_inference_steps=four", ["turbo.num_inference_steps", "Integer"]),
        ("turbo.num_inference_steps=[", ["not valid YAML"]),
        ("test_case[5].seed=1", ["test cases 0 to 0"]),
        ("output.crf.deep=1", ["output.crf.deep"]),
    ],
)
def test_bad_overrides_are_refused(override, words):
    with pytest.raises(UsageError) as caught:
        load_config(TEST_YAML, overrides=[override])
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


LIMITED = [
    path
    for path, _ in walk(Config())
    if any(describe_setting(path).metadata.get(name) not in (None, ()) for name in ("choices", "low", "high", "most"))
]


def test_a_default_passes_its_own_check():
    check_config(Config())


@pytest.mark.parametrize("path", LIMITED)
def test_what_a_setting_may_be_is_checked(path):
    """Each choice passes and another word does not; each limit passes and a step beyond it does not."""
    limits = describe_setting(path).metadata
    for choice in limits["choices"]:
        value = [choice] if isinstance(lookup(Config(), path), list) else choice
        assert lookup(load_config(given={path: value}), path) == value
    beyond = ["nothing"] if limits["choices"] else []
    steps = (("low", -1), ("high", 1), ("most", 1))
    beyond += [limits[name] + step for name, step in steps if limits[name] is not None]
    beyond = [value for value in beyond if value != 2**63]  # no integer of the file format
    for value in beyond:
        with pytest.raises(UsageError, match=re.escape(path)):
            load_config(given={path: value})


def test_the_published_choices_are_there():
    """The document promises these words."""
    assert describe_setting("turbo.scheduler").metadata["choices"][:2] == ("AnimateLCM_SVD", "EulerDiscreteScheduler")
    assert describe_setting("runtime.dtype").metadata["choices"] == PRECISIONS
    assert describe_setting("latent_concat.interp_mode").metadata["choices"] == ("linear", "slerp", "smooth")


@pytest.mark.parametrize("path", ["turbo", "turbo.nothing", "test_case", "test_case[0]", "output.crf.deep", ""])
def test_what_is_no_single_setting_has_no_description(path):
    with pytest.raises(KeyError):
        describe_setting(path)


def test_every_setting_is_walked_and_can_be_looked_up():
    config = load_config(TEST_YAML)
    walked = dict(walk(config))
    assert all(lookup(config, path) == value for path, value in walked.items())
    lists = sum(isinstance(value, list) for value in walked.values())  # their values follow their names
    single = sum(": " in line for line in to_yaml(config).splitlines() if not line.endswith(":"))
    assert len(walked) == single + lists > 90


# ----------------------------------------------------------------------------------------------------
# Where a setting came from


def test_every_layer_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("output: {crf: 20, audio: drop}\ntest_case: [{seed: 1}, {fps: 12}]\nturbo: {scheduler: AYS}\n")
    given = {"test_case[*].seed": 7, "output.audio": "keep"}
    names = {"test_case[*].seed": "--seed"}
    origin = trace_config(path, given, ["turbo.scheduler=DPMSolver++"], names)
    assert origin.sources == {
        "output.crf": str(path),
        "output.audio": "as given",
        "test_case[0].seed": "--seed",
        "test_case[1].seed": "--seed",
        "test_case[1].fps": str(path),
        "turbo.scheduler": "turbo.scheduler=DPMSolver++",
    }
    assert origin.differences() == [
        "test_case[0].seed: 7 (--seed)",
        f"test_case[1].fps: 12.0 ({path})",
        "test_case[1].seed: 7 (--seed)",
        "turbo.scheduler: DPMSolver++ (turbo.scheduler=DPMSolver++)",
        f"output.crf: 20 ({path})",
    ]


def test_a_command_tells_of_its_own_parts_of_the_packages_file_and_of_all_that_was_asked_for(monkeypatch):
    monkeypatch.chdir(ROOT)
    origin = trace_config(None, None, ["turbo.guidance_scale=2.5", "streaming.fps=15"])
    told = origin.differences({"streaming", "output"})
    assert told == ["turbo.guidance_scale: 2.5 (turbo.guidance_scale=2.5)", "streaming.fps: 15.0 (streaming.fps=15)"]
    assert "test_case[0].resolution: 128 (configs/test.yaml)" in origin.differences({"test_case"})


def test_the_defaults_differ_from_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    assert trace_config(tmp_path / "empty.yaml").differences() == []


def test_without_a_path_the_packages_own_file_is_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert load_config() == load_config(TEST_YAML) == default_config()


def test_on_and_off_mean_the_choices_of_that_name(tmp_path):
    (tmp_path / "settings.yaml").write_text("sampling: {cfg_batch: off}\nstreaming: {overlap: 'off'}\n")
    config = load_config(tmp_path / "settings.yaml", overrides=["batch.overlap=on"])
    assert (config.sampling.cfg_batch, config.streaming.overlap, config.batch.overlap) == ("off", "off", "on")
    with pytest.raises(UsageError, match=r"sampling\.cfg_batch is 'yes'; known are: auto, on, off"):
        load_config(overrides=["sampling.cfg_batch='yes'"])
