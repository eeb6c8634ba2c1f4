"""How a script starts and ends."""

import logging
import os
import signal

import pytest

from mimicmotion import cli
from mimicmotion.commands import turbo
from mimicmotion.errors import InputError, SetupError

pytestmark = pytest.mark.usefixtures("logging_as_before")


def run(work, argv, **options):
    return cli.run_script("Doc.", turbo.GROUPS, work, argv, **options)


def never(config):
    pytest.fail("ran")


@pytest.mark.parametrize("argv", [["--schedulr", "AYS"], ["--seed", "many"], ["--log_level", "LOUD"]])
def test_wrong_flags_end_with_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        run(never, argv)
    assert caught.value.code == 2


@pytest.mark.parametrize(("error", "code"), [(InputError("x"), 1), (SetupError("x"), 3), (KeyboardInterrupt(), 130)])
def test_errors_end_with_their_code(error, code):
    def work(config):
        raise error

    assert run(work, []) == code


@pytest.mark.parametrize("argv", [["turbo.stepps=3"], ["--seed", "-1"], ["--inference_config", "nowhere.yaml"]])
def test_wrong_settings_end_with_2_before_the_work(argv):
    assert run(never, argv) == 2


def test_a_log_file_that_cannot_be_written_is_a_set_up_error(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(never, ["--log_file", str(tmp_path / "file" / "run.log")]) == 3


def test_print_config_prints_everything_and_stops(capsys):
    assert run(never, ["--print_config", "--seed", "5"]) == 0
    text = capsys.readouterr().out
    assert "seed: 5" in text and "benchmark_repeats: 3" in text


def test_sigterm_acts_like_ctrl_c():
    assert run(lambda config: os.kill(os.getpid(), signal.SIGTERM) or 0, []) == 130
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_log_has_what_differs_from_the_defaults_and_why(tmp_path):
    log = tmp_path / "logs" / "run.log"
    assert run(lambda config: 0, ["--log_file", str(log), "--seed", "7", "output.crf=20", "--fps", "15"]) == 0
    lines = [line.split(" INFO ", 1)[1] for line in log.read_text().splitlines()]
    assert "test_case[0].seed: 7 (--seed)" in lines
    assert "output.crf: 20 (output.crf=20)" in lines
    assert "test_case[0].resolution: 128 (configs/test.yaml)" in lines
    assert not [line for line in lines if "fps" in line or "scheduler_rho" in line or "base_model_path" in line]


def test_settings_may_be_prepared_before_they_are_logged(caplog):
    def prepare(origin):
        origin.config.output.crf = 30
        origin.sources["output.crf"] = "somebody"

    seen = []
    with caplog.at_level(logging.INFO):
        assert run(lambda config: seen.append(config.output.crf) or 0, [], prepare=prepare) == 0
    assert seen == [30]
