"""Flags of every script: they parse, override, and cost nothing until asked."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mimicmotion import cli
from mimicmotion.config import load_config
from mimicmotion.errors import InputError, SetupError

ROOT = Path(__file__).resolve().parents[1]
TURBO = ("run", "device", "pose", "turbo", "recording")
pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def config_of(*argv):
    return cli.parse_config(cli.build_parser("Doc.", TURBO).parse_args(argv), TURBO)


def value_for(flag):
    """A value that differs from what configs/test.yaml gives, as command-line words."""
    special = {
        "turbo.scheduler": "AYS",
        "sampling.tile_layout": "even",
        "sampling.cfg_batch": "off",
        "runtime.dtype": "bf16",
        "runtime.vae_dtype": "fp32",
        "runtime.offload": "model",
        "pose.backend": "mediapipe",
        "pose.align": "linear",
        "output.audio": "drop",
        "test_case[*].resolution": "192",
        "test_case[*].num_frames": "12",
    }
    if flag.kind == "list":
        return ["a.mp4", "b.mp4"]
    if not isinstance(flag.kind, type):
        return []
    return [special.get(flag.path, {int: "3", float: "2.5", str: "words"}[flag.kind])]


def read(config, path):
    owner = config.test_case[0] if path.startswith("test_case") else config
    for part in path.removeprefix("test_case[*].").split("."):
        owner = getattr(owner, part)
    return owner


@pytest.mark.parametrize("flag", [flag for group in TURBO for flag in cli.GROUPS[group]], ids=lambda flag: flag.name)
def test_a_given_flag_overrides_its_setting_and_only_it(flag):
    words = value_for(flag)
    config, default = config_of(flag.name, *words), config_of()
    expected = flag.kind if not words else words if flag.kind == "list" else flag.kind(words[0])
    assert read(config, flag.path) == expected
    assert read(default, flag.path) == read(load_config("configs/test.yaml"), flag.path)


def test_a_flag_of_two_groups_sets_what_both_say(monkeypatch):
    shared = (cli.Flag("--experiment_name", "output.output_dir", str, "of another script"),)
    monkeypatch.setitem(cli.GROUPS, "other", shared)
    groups = ("other", *TURBO[1:])
    arguments = cli.build_parser("Doc.", groups).parse_args(["--experiment_name", "mine"])
    config = cli.parse_config(arguments, groups)
    assert (config.output.output_dir, config.latent_steps.experiment_name) == ("mine", "mine")


def test_another_scheduler_takes_its_own_steps_and_guidance():
    from mimicmotion.pipelines.schedulers import turbo_steps_and_guidance

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


@pytest.mark.parametrize("argv", [["--schedulr", "AYS"], ["--seed", "many"], ["--log_level", "LOUD"]])
def test_wrong_flags_end_with_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.run_script("Doc.", TURBO, lambda config: 0, argv)
    assert caught.value.code == 2


@pytest.mark.parametrize(("error", "code"), [(InputError("x"), 1), (SetupError("x"), 3), (KeyboardInterrupt(), 130)])
def test_errors_end_with_their_code(error, code):
    def work(config):
        raise error

    assert cli.run_script("Doc.", TURBO, work, []) == code


def test_wrong_settings_end_with_2_before_the_work():
    assert cli.run_script("Doc.", TURBO, lambda config: pytest.fail("ran"), ["turbo.stepps=3"]) == 2


def test_print_config_prints_and_stops(capsys):
    assert cli.run_script("Doc.", TURBO, lambda config: pytest.fail("ran"), ["--print_config", "--seed", "5"]) == 0
    assert "seed: 5" in capsys.readouterr().out


def test_sigterm_acts_like_ctrl_c():
    assert cli.run_script("Doc.", TURBO, lambda config: os.kill(os.getpid(), signal.SIGTERM) or 0, []) == 130
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_log_file_gets_the_settings(tmp_path):
    cli.run_script("Doc.", TURBO, lambda config: 0, ["--log_file", str(tmp_path / "logs" / "run.log")])
    assert "base_model_path" in (tmp_path / "logs" / "run.log").read_text()


SCRIPTS = sorted(path for path in [*ROOT.glob("*.py"), *(ROOT / "scripts").glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_answers_without_torch(script):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(script)!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout
