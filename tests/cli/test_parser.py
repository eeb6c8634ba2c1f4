"""Flags of every script: they parse, override, and say what they override."""

import functools
from pathlib import Path

import pytest

from mimicmotion import cli
from mimicmotion.cli.parser import is_setting
from mimicmotion.commands import (
    cache,
    causal,
    concat,
    evaluate,
    evaluate_world,
    sentences,
    serve_world,
    stream,
    sweep,
    turbo,
)
from mimicmotion.config import default_config, describe_setting, lookup
from mimicmotion.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
GROUPS = turbo.GROUPS
FLAGS = [flag for group in GROUPS.values() for flag in group]
COMMANDS = {
    "turbo": turbo,
    "cache": cache,
    "sweep": sweep,
    "concat": concat,
    "sentences": sentences,
    "evaluate": evaluate,
    "evaluate_world": evaluate_world,
    "causal": causal,
    "stream": stream,
    "serve_world": serve_world,
}


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@functools.cache
def parser():
    return cli.build_parser("Doc.", GROUPS)


def origin_of(*argv):
    return cli.parse_config(cli.parse_arguments(parser(), list(argv)), GROUPS)


def config_of(*argv):
    return origin_of(*argv).config


@pytest.fixture(scope="module")
def default():
    """The settings of a run without flags."""
    return config_of()


def value_for(flag):
    """A value that differs from what configs/test.yaml gives, as command-line words."""
    special = {
        "turbo.scheduler": "AYS",
        "sampling.tile_layout": "even",
        "sampling.cfg_batch": "off",
        "runtime.dtype": "bf16",
        "runtime.vae_dtype": "fp32",
        "runtime.offload": "model",
        "speed.preset": "max",
        "speed.attention": "sage",
        "runtime.vram": "8",
        "sampling.decode_tile": "256",
        "video.reader": "decord",
        "batch.shard": "2/3",
        "batch.overlap": "on",
        "cluster.workers": "3",
        "pose.backend": "mediapipe",
        "pose.align": "linear",
        "sampling.pose_start": "0.25",
        "sampling.pose_end": "0.5",
        "output.audio": "drop",
        "test_case[*].resolution": "192",
        "test_case[*].num_frames": "12",
        "reference.aspect": "auto",
        "reference.background": "black",
        "sentences.join": "bridge",
    }
    if flag.kind == "list":
        lists = {"pose.draw": ["hands", "body"], "sentences.random": ["4", "10"]}
        return lists.get(flag.path, ["a.mp4", "b.mp4"])
    if not isinstance(flag.kind, type):
        return []
    return [special.get(flag.path, {int: "3", float: "2.5", str: "words"}[flag.kind])]


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_a_given_flag_overrides_its_setting(flag, default):
    words = value_for(flag)
    origin = origin_of(flag.name, *words)
    expected = flag.kind if not words else words if flag.kind == "list" else flag.kind(words[0])
    assert lookup(origin.config, flag.path) == expected
    if expected != lookup(default, flag.path):
        path = flag.path.replace("[*]", "[0]")
        assert [line for line in origin.differences() if line.startswith(f"{path}: ")] == [
            f"{path}: {expected} ({flag.name})"
        ]


def test_the_weights_of_the_model_are_flags():
    config = config_of("--base_model_path", "models/SVD", "--ckpt_path", "models/MimicMotion_1-1.pth")
    assert (config.base_model_path, config.ckpt_path) == ("models/SVD", "models/MimicMotion_1-1.pth")
    assert config.turbo.lcm_lora_path is None, "the file's LCM weights belong to its own model"


def test_several_loras_with_their_scales():
    turbo = config_of("--lcm_lora_path", "a", "b", "c", "--lcm_lora_scale", "1", ".5", "2", "output.crf=3").turbo
    assert (turbo.lcm_lora_path, turbo.more_lora_paths) == ("a", ["b", "c"])
    assert (turbo.lcm_lora_scale, turbo.more_lora_scales) == (1, [0.5, 2])
    alone = config_of("turbo.more_lora_scales=[]", "--lcm_lora_path", "a").turbo
    assert (alone.lcm_lora_path, alone.more_lora_paths) == ("a", None)
    assert config_of("--lcm_lora_path", "a", "b", "--scheduler", "AYS").turbo.more_lora_paths == ["b"]


@pytest.mark.parametrize(
    "words",
    [
        ["--lcm_lora_path", "a", "b", "--lcm_lora_scale", "1", "2", "3"],
        ["--lcm_lora_scale", "1", "2"],
        ["--lcm_lora_path", "a", "b", "--no_fuse_lcm_lora"],
        ["turbo.lcm_lora_path=null", "turbo.more_lora_paths=[b]"],
        ["--lcm_lora_path", "a", "b", "turbo.more_lora_scales=[.nan]"],
    ],
)
def test_loras_that_do_not_fit_their_scales_are_refused(words):
    with pytest.raises(UsageError, match=r"LoRA|more_lora"):
        config_of(*words)


def test_a_flag_of_two_groups_sets_what_both_say():
    shared = (cli.Flag("--experiment_name", "output.output_dir", str, "of another script"),)
    groups = {"other": shared, "recording": cli.RECORDING}
    arguments = cli.parse_arguments(cli.build_parser("Doc.", groups), ["--experiment_name", "mine"])
    config = cli.parse_config(arguments, groups).config
    assert (config.output.output_dir, config.latent_steps.experiment_name) == ("mine", "mine")


def test_another_scheduler_takes_its_own_steps_and_guidance():
    from mimicmotion.pipelines import turbo_steps_and_guidance

    def choice(*argv):
        config = config_of(*argv)
        return turbo_steps_and_guidance(config.turbo, config.test_case[0])

    assert choice() == (4, 1.0)
    assert choice("--scheduler", "AYS") == (10, 2.0)
    assert choice("--scheduler", "DPMSolver++") == (12, 2.0)
    assert choice("--scheduler", "EulerDiscreteScheduler") == (25, 2.0)
    assert choice("--scheduler", "AYS", "--num_inference_steps", "5") == (5, 2.0)
    assert choice("--scheduler", "AYS", "turbo.guidance_scale=1.5") == (10, 1.5)
    assert choice("--num_inference_steps", "8") == (8, 1.0)


def test_a_setting_counts_wherever_it_stands():
    words = "output.crf=3 --videos a.mp4 turbo.num_inference_steps=8 --seed 5 pose.max_gap=1"
    config = config_of(*words.split())
    assert config.batch.videos == ["a.mp4"]
    assert (config.output.crf, config.turbo.num_inference_steps, config.pose.max_gap) == (3, 8, 1)
    assert config.test_case[0].seed == 5


def test_a_mistyped_setting_behind_a_list_is_told_as_one():
    with pytest.raises(UsageError, match=r"turbo\.stepps.*num_inference_steps"):
        config_of("--videos", "a.mp4", "turbo.stepps=8")


def test_a_file_that_looks_like_a_setting_stays_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("output.crf=20").touch()
    assert config_of("--videos", "output.crf=20", "take=2.mp4").batch.videos == ["output.crf=20", "take=2.mp4"]


@pytest.mark.parametrize("token", ["test_case[0].seed=1", "test_case[*].seed=1", "ckpt_path=x", "turbo.scheduler=AYS"])
def test_settings_are_known_by_their_paths(token):
    assert is_setting(token)


@pytest.mark.parametrize("token", ["a.mp4", "--seed=5", "-x=1", "take=2.mp4", "=3", "W*12 W+L*24", "videos/a=b.mp4"])
def test_other_words_are_no_settings(token):
    assert not is_setting(token)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_each_flags_default_and_the_setting_it_overrides(name):
    groups, default = COMMANDS[name].GROUPS, default_config()
    parser = cli.build_parser("Doc.", groups)
    assert "such as output.crf=20" in parser.format_help()
    about = {action.option_strings[0]: action.help for action in parser._actions if action.option_strings}
    for flag in {flag.name: flag for group in reversed(groups.values()) for flag in group}.values():
        value = lookup(default, flag.path)
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        shown = shown.replace("'", "")  # of lists
        assert about[flag.name].endswith(f" [{flag.path}, default {shown}]")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_names_a_single_setting(name):
    for group in COMMANDS[name].GROUPS.values():
        for flag in group:
            describe_setting(flag.path)


def test_the_help_of_any_parser_shows_defaults_once():
    import argparse

    parser = argparse.ArgumentParser(formatter_class=cli.HelpFormatter)
    parser.add_argument("--frames", type=int, default=40, help="length")
    parser.add_argument("--sizes", nargs="+", default=[1, 2], help="of each")
    parser.add_argument("--rate", default="50%", help="share")
    parser.add_argument("--told", default=3, help="said here (default: three)")
    parser.add_argument("--off", action="store_true", help="a switch")
    text = parser.format_help()
    shown = ("length (default: 40)", "of each (default: 1 2)", "share (default: 50%)", "said here (default: three)")
    for words in shown:
        assert words in text
    assert text.count("default") == 4
