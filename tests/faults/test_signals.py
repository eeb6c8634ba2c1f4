"""Ctrl-C, SIGTERM and SIGHUP: nothing torn, the table and the record written, exit code 130; children end too."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mimicmotion.cli import exit_code_of, interrupts_deferred, interrupts_noted, interrupts_raised
from tests.conftest import HANG_SECONDS, last_items, wait_for_line

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"]

# The turbo run with a stub for the model: no torch is imported. It writes a video, and waits at the stage of argv[1].
# From then on a repeated SIGTERM comes whenever a handler has been changed: that is where it finds another one.
STUB = """
import os, runpy, signal, sys, time
import numpy as np
from mimicmotion.animation.animator import Animator
from mimicmotion.animation.models import Models
from mimicmotion.results.sidecar import write_sidecar
from mimicmotion.video import VideoWriter

stage, script, *arguments = sys.argv[1:]

change = signal.signal

def change_and_repeat(number, handler):
    before = change(number, handler)
    os.kill(os.getpid(), signal.SIGTERM)
    return before

def here(name):
    if name == stage:
        signal.signal = change_and_repeat
        print("at", name, flush=True)
        # One long wait would go on where the signal comes just before it begins.
        while True:
            time.sleep(0.05)

def animate(self, outcome):
    here("poses")
    with VideoWriter(outcome.job.output, 15) as writer:
        for _ in range(20):
            writer.write(np.zeros((256, 256, 3), np.uint8))
        here("decoding")
    here("record")
    write_sidecar(outcome.job.output, {}, {})
    outcome.status = "done"

Animator.animate, Animator.is_finished = animate, lambda self, job: False
Models.check = Models.resolve = lambda self: here("check")
sys.argv = [script, *arguments]
runpy.run_path(script, run_name="__main__")
"""


def start(folder, stage):
    (folder / "videos").mkdir(exist_ok=True)
    for name in ("a.mp4", "b.mp4"):
        (folder / "videos" / name).write_bytes(b"nobody reads it")
    (folder / "person.png").write_bytes(b"nobody reads it")
    command = ["inference_raw_batch_turbo.py", "--batch_folder", folder / "videos", "--output_dir", folder / "out"]
    command += ["--ref_image_path", folder / "person.png"]
    process = subprocess.Popen(
        [sys.executable, "-c", STUB, stage, *map(str, command)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if stage:
        wait_for_line(process, f"at {stage}")
    return process


def end_of(process):
    output, _ = process.communicate(timeout=HANG_SECONDS)
    assert "Traceback" not in output, output
    return process.returncode, output


def written(folder):
    return sorted(str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*") if path.is_file())


def statuses(folder):
    return [item["status"] for item in last_items(folder / "out")]


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_while_a_video_is_written(tmp_path, name):
    process = start(tmp_path, "decoding")
    process.send_signal(signal.Signals[name])
    code, output = end_of(process)
    assert code == 130 and "interrupted" in output
    assert written(tmp_path) == ["index.html", "runs.jsonl"] and statuses(tmp_path) == ["interrupted"]


@pytest.mark.parametrize("stage", ["check", "poses", "record"])
def test_a_signal_at_another_stage(tmp_path, stage):
    process = start(tmp_path, stage)
    process.send_signal(signal.SIGHUP)
    code, output = end_of(process)
    assert code == 130, output
    of_run = ["index.html", "runs.jsonl"]
    assert written(tmp_path) == {"check": [], "poses": of_run, "record": [*of_run, "videos/a.mp4"]}[stage]


def test_a_scheduler_that_repeats_itself_loses_nothing(tmp_path):
    process = start(tmp_path, "decoding")
    for name in ("SIGTERM", "SIGTERM", "SIGHUP", "SIGTERM"):
        process.send_signal(signal.Signals[name])
    code, output = end_of(process)
    assert code == 130, output
    assert written(tmp_path) == ["index.html", "runs.jsonl"] and statuses(tmp_path) == ["interrupted"]


def test_what_a_kill_left_goes_with_the_next_run(tmp_path):
    process = start(tmp_path, "decoding")
    children = children_of(process.pid)
    process.kill()
    process.communicate()
    assert children
    wait_for_end(children)
    left = written(tmp_path)
    assert [".tmp-" in name for name in left] == [False, True] and left[0] == "runs.jsonl"
    (tmp_path / "out" / ".tmp-1-01234567.json").write_bytes(b"of another kill, while the table was written")
    assert end_of(start(tmp_path, ""))[0] == 0
    results = [f"videos/{stem}.{kind}" for stem in "ab" for kind in ("json", "mp4")]
    assert written(tmp_path) == ["index.html", "runs.jsonl", *results]


IMPORTING = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv_given:
            os.kill(os.getpid(), signal.SIGINT)

sys.argv_given, script = sys.argv[1:]
sys.argv = [script, "--dry_run"]
sys.meta_path.insert(0, Interrupting())
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize("module", ["mimicmotion", "argparse", "mimicmotion.errors", "mimicmotion.cli", "omegaconf"])
def test_ctrl_c_while_python_starts(module):
    command = [sys.executable, "-c", IMPORTING, module, "inference_raw_batch_turbo.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr


# ----------------------------------------------------------------------------------------------------
# The mechanism


def send(name):
    os.kill(os.getpid(), signal.Signals[name])


@pytest.mark.parametrize("name", SIGNALS)
def test_each_raises_waits_or_is_noted(name):
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_raised():
        with interrupts_deferred():
            send(name)
            done.append("the whole block")
        done.append("no more")
    with interrupts_noted() as noted:
        send(name)
    assert done == ["the whole block"] and noted == [signal.Signals[name]]


def test_only_a_second_ctrl_c_cuts_what_waits():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_raised(), interrupts_deferred():
        for name in ("SIGTERM", "SIGTERM", "SIGHUP", "SIGINT"):
            send(name)
        done.append("four kept waiting")
        send("SIGINT")
        done.append("never")
    assert done == ["four kept waiting"]


def test_after_the_first_only_ctrl_c_disturbs_the_end():
    done = []

    def work():
        try:
            send("SIGTERM")
        finally:
            send("SIGTERM")
            send("SIGHUP")
            done.append("cleaned up")

    assert exit_code_of(work) == 130 and done == ["cleaned up"]


def test_handlers_are_put_back_and_ignored_signals_stay_ignored():
    before = [signal.getsignal(signal.Signals[name]) for name in SIGNALS]
    with interrupts_raised(), interrupts_deferred():
        assert signal.getsignal(signal.SIGHUP) not in before
    assert [signal.getsignal(signal.Signals[name]) for name in SIGNALS] == before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts_raised():
            send("SIGHUP")
    finally:
        signal.signal(signal.SIGHUP, before[2])


def test_an_error_does_not_swallow_an_interrupt_that_waits():
    with pytest.raises(KeyboardInterrupt), interrupts_raised(), interrupts_deferred():
        send("SIGTERM")
        raise ValueError


def test_threads_go_on_without_signals():
    done = []
    thread = threading.Thread(target=lambda: exit_code_of(lambda: done.append(1) or 0))
    thread.start()
    thread.join()
    assert done == [1]


# ----------------------------------------------------------------------------------------------------
# Children

# A worker that hangs in native code with the interpreter locked: PyDLL keeps the lock.
HANGING = "import ctypes; from mimicmotion.video.worker import end_with_parent; end_with_parent(); "
HANGING += "print('hangs', flush=True); ctypes.PyDLL(None).sleep(9999)"
PARENT = """
import sys
from mimicmotion.video.process import started
with started([sys.executable, "-c", sys.argv[1]]) as (process, _):
    process.stdout.readline()
    print(process.pid, flush=True)
    process.stdout.readline()
"""


def test_a_worker_ends_with_its_reader_even_where_it_hangs():
    command = [sys.executable, "-c", PARENT, HANGING]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    child = int(process.stdout.readline())
    assert os.path.exists(f"/proc/{child}")
    process.kill()
    process.communicate()
    wait_for_end([child])


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_end(pids):
    """Waits until no process of these runs; one that nobody waits for may stay as a name."""
    deadline = time.monotonic() + HANG_SECONDS
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.02)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
