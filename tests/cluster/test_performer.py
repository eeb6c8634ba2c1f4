"""What a worker answers, whatever its work does."""

import logging
import os

import pytest

from mimicmotion.cli import command_line
from mimicmotion.cluster.performer import MOST_LINES, Performer
from mimicmotion.errors import InputError, NumericalError, SetupError, UsageError
from mimicmotion.progress import Progress
from tests.cluster.fake import outcomes_of


class Work:
    def __init__(self, do=lambda item: None, ready=True, device="cpu", load=lambda item: None):
        self.do, self.load, self._ready, self._device = do, load, ready, device

    def fingerprint(self):
        return {"weights": "w"}

    def is_ready(self, item):
        return self._ready

    def device(self):
        return self._device


@pytest.fixture
def prepared(monkeypatch, tmp_path, logging_as_before):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.chdir(os.getcwd())

    def prepare(work, gpus=(), tell=lambda stage: None, command=()):
        performer = Performer(tell, gpus)
        answer = performer.prepare(lambda: work, (), str(tmp_path), logging.INFO, command)
        assert (answer.kind, answer.fingerprint, os.getcwd()) == ("ready", {"weights": "w"}, str(tmp_path))
        return performer

    return prepare


def raising(error):
    def do(item):
        raise error

    return do


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("bad"), "ended"),
        (NumericalError("bad"), "ended"),
        (SetupError("bad"), "setup"),
        (OSError(28, "No space left on device"), "setup"),
        (ImportError("bad"), "setup"),
        (ValueError("bad"), "broken"),
        (MemoryError(), "broken"),
        (RuntimeError("CUDA out of memory"), "broken"),
        (OSError(5, "Input/output error"), "broken"),
        (SystemExit(0), "broken"),
    ],
)
def test_what_each_error_means(prepared, error, kind):
    (outcome,) = outcomes_of("a")
    answer = prepared(Work(raising(error))).run(outcome)
    assert answer.kind == kind and answer.facts["process"] == os.getpid()
    if kind == "ended":
        assert (answer.item.status, answer.item.message) == ("failed", "bad")
    else:
        assert answer.message


def test_what_is_not_there_yet_is_asked_for_once(prepared):
    performer, (outcome,) = prepared(Work(ready=False)), outcomes_of("a")
    assert performer.run(outcome).kind == "load"
    assert performer.load(outcome).facts["device"] == "cpu"
    assert performer.run(outcome, True).kind == "ended", "even where what was loaded did not stay"


@pytest.mark.parametrize("error", [SetupError("no weights"), UsageError("no such dtype")])
def test_networks_that_are_not_there_are_the_machines_matter(prepared, error):
    assert prepared(Work(load=raising(error))).load(outcomes_of("a")[0]).kind == "setup"


def test_a_folder_that_is_not_there(tmp_path, logging_as_before, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    answer = Performer().prepare(Work, (), str(tmp_path / "none"), logging.INFO)
    assert answer.kind == "setup" and "same files" in answer.message and answer.facts["host"]


def test_gpus_are_those_that_were_given(prepared):
    prepared(Work(), gpus=["3"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1", "as Ray set it"
    answer = prepared(Work(device="cpu, 8 threads"), gpus=["3"]).load(None)
    assert answer.kind == "setup" and "GPU 3" in answer.message and answer.facts["gpu"] == "3"
    assert prepared(Work(device="cuda:0, H200"), gpus=["3"]).load(None).kind == "ready"
    prepared(Work())
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_stages_warnings_and_the_command_come_through(prepared):
    seen, told = [], []

    def do(item):
        seen.append(command_line())
        with Progress("sampling", 1):
            pass
        for number in range(100):
            logging.getLogger("mimicmotion").warning("odd %d", number)
        item.status = "done"

    answer = prepared(Work(do), tell=told.append, command=["mimicmotion", "turbo"]).run(outcomes_of("a")[0])
    assert seen == [["mimicmotion", "turbo"]] and told == ["sampling"]
    assert len(answer.log) == MOST_LINES and answer.log[1] == (logging.WARNING, "odd 1")
