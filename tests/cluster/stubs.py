"""Work for true workers that imports no torch: the name of an item says what becomes of it."""

import ctypes
import logging
import os
import signal
import time
from pathlib import Path

from mimicmotion.animation import Outcome
from mimicmotion.config import TestCase
from mimicmotion.errors import InputError, SetupError
from mimicmotion.progress import Progress
from mimicmotion.results import Job


def outcomes_of(folder, *names):
    return [Outcome(Job(Path(name), TestCase(), 0, Path(folder, f"{name}.mp4"))) for name in names]


def fingerprint():
    return {"weights": "w"}


class StubWork:
    """Writes a file for each item that it does; `log.txt` beside it tells who was asked for what."""

    def __init__(self, device="cpu"):
        self.loaded, self._device = False, device

    def fingerprint(self):
        return fingerprint()

    def is_ready(self, outcome):
        return self.loaded

    def load(self, outcome):
        self.loaded = True

    def device(self):
        return self._device

    def do(self, outcome):
        output, name = outcome.job.output, outcome.job.name
        with open(output.parent / "log.txt", "a") as log:
            log.write(f"{name} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')} {os.nice(0)}\n")
        with Progress("sampling", 1):
            once = output.with_suffix(".once")
            first = not once.exists()
            once.touch()
            act(name, first, output.parent / "log.txt")
        output.write_text(name)
        outcome.status, outcome.message, outcome.frames = "done", str(output), 3


def act(name, first, log):
    """Does what the name says; with `once` in it only the first time."""
    kind = name.split("-")[0]
    if "once" in name and not first:
        return
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "segfault":
        ctypes.string_at(0)
    elif kind == "exit":
        os._exit(0)
    elif kind == "raise":
        raise ValueError("an odd frame")
    elif kind == "memory":
        raise MemoryError
    elif kind == "input":
        raise InputError("no person in it")
    elif kind == "full":
        raise SetupError("the disk is full")
    elif kind == "hang":
        time.sleep(9999)
    elif kind == "meet":
        # Until four processes are here.
        while len({line.split()[1] for line in log.read_text().splitlines()}) < 4:
            time.sleep(0.02)
    elif kind == "warn":
        logging.getLogger("mimicmotion").warning("a third of its rows is cut")
    elif kind == "clock":
        # What a machine whose clock is a day behind believes.
        true_time = time.time
        time.time = lambda: true_time() - 86400


class World:
    """A world model whose sessions are its callers'."""

    def __init__(self):
        import torch

        from tests.streaming.micro import make_generator

        torch.set_num_threads(1)
        self._generator = make_generator()

    def start(self, picture, seed):
        return self._generator.start(picture, seed)

    def step(self, state, action):
        """The next frames, and the session after them."""
        frames = self._generator.step(state, action)
        return frames, state


def make():
    return StubWork()


def make_other():
    """Of a machine that has other weights."""
    work = StubWork()
    work.fingerprint = lambda: {"weights": "other"}
    return work
