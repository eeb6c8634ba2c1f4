"""Laws of printing and logging: nothing on the other side can end a run, and nothing is lost that could be shown."""

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mimicmotion.cli import ask, guarded_console, say
from mimicmotion.cli.output import Console, LogFile, LogFormatter

ROOT = Path(__file__).resolve().parents[2]
NAME = "tänzer \udcff 舞.mp4"


class Broken(io.StringIO):
    """A stream whose other side fails."""

    def __init__(self, error):
        super().__init__()
        self.broken = error

    def write(self, text):
        raise self.broken


def shown_in(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(stream)
    console.write(NAME)
    console.flush()
    return stream.buffer.getvalue().decode(encoding)


def test_what_an_encoding_lacks_is_escaped_and_the_rest_is_there():
    assert shown_in("utf-8") == r"tänzer \udcff 舞.mp4"
    assert shown_in("latin-1") == r"tänzer \udcff \u821e.mp4"
    assert shown_in("ascii") == r"t\xe4nzer \udcff \u821e.mp4"


@pytest.mark.parametrize(
    ("error", "taken"),
    [(BrokenPipeError(32, "Broken pipe"), True), (OSError(28, "No space left"), False), (ValueError("closed"), True)],
)
def test_a_stream_that_fails_raises_nothing_and_only_a_lost_table_is_told(monkeypatch, caplog, error, taken):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    assert [say("one"), say("two")] == [taken, taken]
    assert ("No space left" in caplog.text) == (not taken)


def test_a_stream_that_is_not_there_takes_everything(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert say("words")


def test_the_streams_are_put_back(capsys):
    before = sys.stdout, sys.stderr
    with guarded_console(), guarded_console():
        print("words")
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "words\n"


def formatted(message, *args):
    return LogFormatter("%(message)s").format(logging.LogRecord("a", logging.INFO, "b", 1, message, args, None))


def test_a_name_in_the_log_moves_no_cursor_and_breaks_no_line():
    assert formatted("%s: %s", Path("a\nb.mp4"), "x\x1b[31m") == r"a\nb.mp4: x\x1b[31m"
    assert formatted("two\n\tlines %s", 3) == "two\n\tlines 3"


def test_a_log_file_on_a_full_disk_is_told_once(capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    handler = LogFile("/dev/full")
    for number in range(3):
        handler.handle(logging.LogRecord("a", logging.INFO, "b", 1, f"{number} {NAME}", None, None))
    handler.close()
    assert capsys.readouterr().err.count("cannot be written") == 1


SCRIPT = """
import logging, sys
from mimicmotion.cli import run_script, say
from mimicmotion.progress import Progress
def work(config):
    with Progress("sampling", 3, terminal=True) as progress:
        for _ in range(3):
            logging.getLogger("mimicmotion").info("a name: %s", sys.argv[1])
            progress.update()
    print(sys.argv[1] * 9999)
    return 0 if say(sys.argv[1]) else 3
sys.exit(run_script("Doc.", {}, work, []))
"""


def result_of(shell, **environment):
    """(exit code, what stderr has) of the script above in a shell line that holds it as "$@"."""
    command = ["bash", "-c", shell, "bash", sys.executable, "-c", SCRIPT, NAME]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, check=False)
    return done.returncode, done.stderr.decode(errors="backslashreplace")


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ('"$@" | head -c 1 > /dev/null; exit ${PIPESTATUS[0]}', 0),
        ('"$@" 2>&1 | true; exit ${PIPESTATUS[0]}', 0),
        ('"$@" > /dev/full', 3),
        ('"$@" > /dev/full 2>&1', 3),
        ('"$@" >&- 2>&- <&-', 0),
    ],
)
def test_whoever_listens_the_exit_code_is_that_of_the_work(shell, code):
    assert (found := result_of(shell))[0] == code
    assert not any(words in found[1] for words in ("Traceback", "Exception ignored", "Logging error")), found[1]


def test_a_console_of_ascii_shows_every_name():
    code, errors = result_of('"$@" > /dev/null', PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0")
    assert code == 0 and "Traceback" not in errors and "a name: t" in errors


def test_a_question_that_the_terminal_cannot_show_is_escaped(monkeypatch):
    asked = []

    def answer(question):
        asked.append(question)
        question.encode("ascii")
        return "W"

    monkeypatch.setattr("builtins.input", answer)
    assert ask("键? ") == "W"
    assert asked == ["键? ", "\\u952e? "]
