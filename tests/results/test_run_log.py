"""The history of an output folder: nothing lost, whoever writes and whatever breaks."""

import contextlib
import errno
import json
import multiprocessing
import os
import sys

import pytest

from mimicmotion import cli
from mimicmotion.commands import run_command
from mimicmotion.config import load_config
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.results import run_log
from mimicmotion.results.history import one_run, read_history
from mimicmotion.results.run_log import LOG_NAME, append_line, read_lines, recorded

WRITERS, LINES = 8, 40


def lines(folder):
    return list(read_lines(folder / LOG_NAME))


def write_many(path, writer):
    for number in range(LINES):
        record = {"kind": "item", "run": f"run-{writer}", "time": "2026-11-28", "number": number, "text": "x" * 5000}
        append_line(path, record)


def test_eight_writers_lose_no_line(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(tmp_path / LOG_NAME, number)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    records = lines(tmp_path)
    assert None not in records
    for writer in range(WRITERS):
        assert [r["number"] for r in records if r["run"] == f"run-{writer}"] == list(range(LINES))


@pytest.mark.parametrize(
    "torn", [b'{"kind": "run", "run": "x", "ti', b"\0\0\0\0", b"\xff\xfe\n[1]\n", b"[" * 100_000, b'{"kind": 1}\n']
)
def test_a_broken_line_harms_no_other(tmp_path, torn):
    config = load_config()
    with recorded(tmp_path, config) as log:
        log.item(status="done")
    (tmp_path / LOG_NAME).write_bytes((tmp_path / LOG_NAME).read_bytes() + torn)
    with recorded(tmp_path, config) as log:
        log.item(status="failed")
    kinds = [record["kind"] for record in lines(tmp_path) if record]
    assert kinds == ["run", "item", "end"] * 2
    runs, damaged = read_history(tmp_path)
    assert [run.counts for run in runs] == [{"done": 1}, {"failed": 1}]
    assert damaged[tmp_path / LOG_NAME] >= 1


def test_a_full_disk_leaves_whole_lines_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    whole = os.write

    def full(descriptor, data):
        whole(descriptor, data[:7])
        raise OSError(errno.ENOSPC, "No space left on device")

    with recorded(tmp_path, load_config()) as log:
        with monkeypatch.context() as patch:
            patch.setattr(run_log.os, "write", full)
            log.item(status="done", number=1)
            log.item(status="done", number=2)
        log.item(status="done", number=3)
    assert [record["kind"] for record in lines(tmp_path)] == ["run", "item", "end"]
    assert lines(tmp_path)[1]["number"] == 3
    assert caplog.text.count("cannot be written") == 1


@pytest.mark.parametrize(
    ("error", "code"), [(SetupError("x"), 3), (UsageError("x"), 2), (KeyboardInterrupt(), 130), (RuntimeError("x"), 1)]
)
def test_an_error_ends_the_run_with_its_code(tmp_path, error, code):
    with pytest.raises(type(error)), recorded(tmp_path, load_config()):
        raise error
    assert lines(tmp_path)[-1]["exit_code"] == code


def test_the_beginning_tells_command_settings_and_code(tmp_path):
    config = load_config(overrides=["output.crf=20"])
    argv = ["--seed", "3", "--hub_token", "abc", "api_key=abc", "output.crf=20"]
    with cli.started_by("mimicmotion turbo", argv), recorded(tmp_path, config):
        pass
    begun = lines(tmp_path)[0]
    assert begun["command"] == [
        "mimicmotion",
        "turbo",
        "--seed",
        "3",
        "--hub_token",
        "...",
        "api_key=...",
        "output.crf=20",
    ]
    assert begun["different_settings"]["output.crf"] == 20
    assert begun["folder"] == os.getcwd()
    assert begun["versions"]["python"]
    assert "abc" not in (tmp_path / LOG_NAME).read_text()


def test_a_package_that_was_run_as_a_module_is_run_so_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/mimicmotion/__main__.py", "turbo", "--seed", "3"])
    with cli.started_by("mimicmotion turbo", ["--seed", "3"]):
        assert cli.command_line() == [sys.executable, "-m", "mimicmotion", "turbo", "--seed", "3"]


def made_history(folder, monkeypatch):
    """Two runs by command, one of which was killed, and one from Python."""
    for number, (program, values, status) in enumerate(
        [
            ("mimicmotion turbo", ["output.crf=20"], "done"),
            ("mimicmotion cache", ["output.crf=30"], "failed"),
            (None, [], "done"),
        ]
    ):
        monkeypatch.setattr(run_log.secrets, "token_hex", lambda _, number=number: f"{number}" * 6)
        monkeypatch.setattr(run_log, "now", lambda number=number: f"2026-11-2{number}T10:00:00+00:00")
        started = cli.started_by(program, values) if program else contextlib.nullcontext()
        with started, recorded(folder, load_config(overrides=values)) as log:
            log.item(status=status, video="a b.mp4", message="because", seconds=1.5)
    records = lines(folder)
    records.remove(next(r for r in records if r["kind"] == "end" and r["run"].endswith("111111")))
    (folder / LOG_NAME).write_text("".join(json.dumps(record) + "\n" for record in records))


def printed(capsys, *argv):
    assert run_command("history", [str(word) for word in argv]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("logging_as_before")
def test_the_list_filters_and_a_run_can_be_shown_compared_and_run_again(tmp_path, monkeypatch, capsys):
    made_history(tmp_path, monkeypatch)
    everything = printed(capsys, tmp_path)
    assert everything.count("exit code") == 3 and "exit code no end" in everything and "from Python" in everything
    assert "111111" not in printed(capsys, tmp_path, "--status", "done")
    assert "000000" not in printed(capsys, tmp_path, "--since", "2026-11-21")
    assert printed(capsys, tmp_path, "--grep", "crf=30").count("exit code") == 1
    assert printed(capsys, tmp_path, "--last", "1").count("exit code") == 1
    assert len(json.loads(printed(capsys, tmp_path, "--json"))) == 3
    assert "a b.mp4  because" in printed(capsys, tmp_path, "--items", "111111")
    assert "output.crf: 20, then 30" in printed(capsys, tmp_path, "--diff", "000000", "111111")
    assert "output.crf: 30, then default" in printed(capsys, tmp_path, "--diff", "111111", "last")
    again = printed(capsys, tmp_path, "--rerun", "000000")
    assert again == f"cd {os.getcwd()} && mimicmotion turbo output.crf=20\n"


@pytest.mark.usefixtures("logging_as_before")
def test_what_is_not_there_is_told(tmp_path, monkeypatch):
    assert run_command("history", [str(tmp_path / "nowhere")]) == 2
    assert run_command("history", [str(tmp_path)]) == 2
    (tmp_path / LOG_NAME).write_text("damaged\n")
    assert run_command("history", [str(tmp_path), "--rerun", "last"]) == 2
    (tmp_path / LOG_NAME).unlink()
    made_history(tmp_path, monkeypatch)
    assert run_command("history", [str(tmp_path), "--rerun", "last"]) == 2
    with pytest.raises(UsageError, match="3 runs"):
        one_run(read_history(tmp_path)[0], "2026")
