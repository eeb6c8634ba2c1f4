"""Workers that are processes: true deaths, true GPUs' numbers, an interrupt, a driver that is killed, a lost machine.

No torch in them, and one Ray for most; where Ray is not installed they are skipped. None decides by the clock: limits
of time are for what hangs for good, or so long that nobody's machine is that slow.
"""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mimicmotion.cluster import run_on_workers
from mimicmotion.cluster.pool import WorkerLost
from mimicmotion.cluster.ray_actors import RayActors, ray_session
from mimicmotion.config import load_config
from mimicmotion.errors import SetupError
from mimicmotion.streaming.actions import bench_actions, by_block
from tests.cluster import stubs
from tests.cluster.conftest import needs_ray
from tests.conftest import HANG_SECONDS, last_items, wait_for_line

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def do(ray_here, monkeypatch, tmp_path):
    """`do(names, make, **settings)`: (exit code, outcomes by name, lines of the stub's log)"""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("mimicmotion.cluster.run.ray_session", lambda *_: contextlib.nullcontext(ray_here))

    def run(names, make=stubs.make, device="cpu", **settings):
        given = {"workers": "2", "start_timeout": HANG_SECONDS, "cpus_per_worker": 1} | settings
        config = load_config(overrides=[f"cluster.{name}={value}" for name, value in given.items()])
        config.runtime.device = device
        outcomes, settled = stubs.outcomes_of(tmp_path, *names), []
        code = run_on_workers(config, outcomes, make, (), stubs.fingerprint(), settled.append)
        assert len({id(one) for one in settled}) == len(settled)
        log = tmp_path / "log.txt"
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return code, {one.job.name: one for one in outcomes}, lines

    return run


def test_each_way_to_end_a_worker_fails_its_item_alone(do, tmp_path, caplog):
    bad, once = ["segfault"], ["kill-once", "exit-once", "raise-once"]
    code, outcomes, lines = do(["a", *bad, "b", *once, "warn", "clock", "c"])
    assert code == 0
    assert {name for name, one in outcomes.items() if one.status == "failed"} == set(bad)
    assert {name for name, one in outcomes.items() if one.status == "done"} == {"a", "b", *once, "warn", "clock", "c"}
    counts = {name: sum(line[0] == name for line in lines) for name in outcomes}
    assert all(counts[name] == (2 if name in [*bad, *once] else 1) for name in outcomes), counts
    assert "killed or crashed, 2 times" in outcomes["segfault"].message
    assert "ValueError: an odd frame" in caplog.text
    assert {outcomes[name].where["attempt"] for name in once} == {2}
    assert outcomes["a"].where["host"] == socket.gethostname()
    assert "a third of its rows is cut" in caplog.text
    assert all((tmp_path / f"{name}.mp4").read_text() == name for name, one in outcomes.items() if one.status == "done")
    # As nice as whoever started them, and without the GPUs, which they were not given.
    assert {tuple(line[2:]) for line in lines} == {(str(os.nice(0)),)}


def test_a_bad_input_leaves_its_worker_alone(do):
    code, outcomes, lines = do(["input", "a", "b"], workers=1, attempts=3)
    assert code == 0 and outcomes["input"].status == "failed" and outcomes["input"].message == "no person in it"
    assert len({line[1] for line in lines}) == 1, "the process stayed"


def test_a_hang_ends_with_its_time(do):
    code, outcomes, _ = do(["hang"], attempts=1, item_timeout=0.5)
    assert code == 0 and outcomes["hang"].status == "failed"
    assert outcomes["hang"].message == "took more than 0.5 s (--item_timeout)"


def test_what_lacks_everywhere_ends_the_run_with_nothing_failed(do):
    code, outcomes, _ = do(["full-1", "full-2", "full-3"])
    assert code == 3 and {one.status for one in outcomes.values()} == {"not run"}


def test_other_weights_are_refused(do, caplog):
    code, _, lines = do(["a"], make=stubs.make_other)
    assert code == 3 and not lines
    assert f"{socket.gethostname()}" in caplog.text and "weights: here w, there other" in caplog.text


def gpu_stub():
    return stubs.StubWork("cuda:0, none really")


def test_two_workers_share_each_gpu_where_half_a_one_is_asked_for(do):
    names = [f"meet-{number}" for number in range(4)]
    _, outcomes, lines = do(names, gpu_stub, "cuda", workers="auto", gpus_per_worker=0.5)
    assert {one.status for one in outcomes.values()} == {"done"}
    assert sorted(line[2] for line in lines) == sorted(one.where["gpu"] for one in outcomes.values()) == [*"0011"]


def test_a_worker_that_was_given_a_gpu_does_not_fall_back_to_the_processor(do, caplog):
    code, _, lines = do(["a"], device="auto", workers=1)
    assert code == 3 and not lines and "torch finds none" in caplog.text


def test_more_gpus_than_there_are_is_told_at_once(do):
    with pytest.raises(SetupError, match=r"needs 3 GPU.*finds 2"):
        do(["a"], gpu_stub, "cuda", gpus_per_worker=3)


def test_ray_that_is_absent_is_told_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    config = load_config(overrides=["cluster.workers=2"])
    with pytest.raises(SetupError, match=r"requirements-cluster\.txt"):
        run_on_workers(config, [], stubs.make, (), {}, print)


# ----------------------------------------------------------------------------------------------------
# A driver as a process of its own


def start(folder, *names, after="a"):
    """A run of stubs that hangs at `hang`, which has begun, and has done `after` before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.driver", str(folder), *names],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for_line(process, f"{after}: done")
    while not (folder / "hang.once").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


def wait_for_the_end_of(session, name=b""):
    """Waits until no process of the session, or none with that name, is left."""
    while any(name in called(path) for path in Path("/proc").glob("[0-9]*") if fields(path)[3:4] == [str(session)]):
        time.sleep(0.05)


def called(path):
    with contextlib.suppress(OSError):
        return (path / "cmdline").read_bytes()
    return b""


def fields(path):
    """State, parent, group and session of a process."""
    with contextlib.suppress(OSError):
        found = (path / "stat").read_text().rpartition(")")[2].split()
        return found if found[0] not in "ZX" else []
    return []


def end_of(process, folder):
    """How each result ended, of a run that was interrupted at `hang`; no process of it is left."""
    output, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130 and "Traceback" not in output, output
    wait_for_the_end_of(process.pid)
    assert " not run" in output
    return {one["video"]: one["status"] for one in last_items(folder)}


@needs_ray
def test_a_scheduler_ends_everything_and_is_told_what_was_under_way(tmp_path):
    process = start(tmp_path, "a", "hang", "hang-2", "b")
    process.terminate()
    ended = end_of(process, tmp_path)
    assert ended["a"] == "done" and ended["hang"] == "interrupted" and "b" not in ended
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"a.mp4"}


@needs_ray
def test_what_a_killed_driver_left_is_done_by_the_next_which_ctrl_c_ends(tmp_path):
    process = start(tmp_path, "a", "hang", "hang-2")
    process.kill()
    process.communicate()
    # Ray's own agents stay for a minute; they do nothing.
    wait_for_the_end_of(process.pid, b"RayPerformer")
    (tmp_path / "hang.once").unlink()
    process = start(tmp_path, "a", "b", "hang", "hang-2", "c", after="b")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    ended = end_of(process, tmp_path)
    assert ended["a"] == "skipped" and ended["b"] == "done" and ended["hang"] == "interrupted" and "c" not in ended


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379"])
def test_an_address_where_nobody_answers(address):
    config = load_config(overrides=["cluster.workers=2", f"cluster.address={address}"])
    with pytest.raises(SetupError, match=r"nobody answers at .*--ray_address"):
        run_on_workers(config, [], stubs.make, (), {}, print)


@needs_ray
def test_a_node_that_is_lost_takes_no_result_along():
    command = [sys.executable, "scripts/benchmark_cluster.py", "--only", "nodes", "--items", "6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 results" in done.stdout


def test_a_world_is_an_actor_that_takes_a_session_and_gives_it_back(ray_here):
    """Between two blocks the session is elsewhere: here."""
    from tests.streaming.micro import make_generator

    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    here = make_generator()
    actions = list(itertools.islice(by_block(bench_actions(here.mode, 0), here.mode), 2))
    wanted, state = [], here.start(picture, 3)
    for action in actions:
        wanted.append(here.step(state, action))
    world = ray_here.remote(num_cpus=1)(stubs.World).remote()
    state, made = ray_here.get(world.start.remote(picture, 3)), []
    for action in actions:
        frames, state = ray_here.get(world.step.remote(state, action))
        made.append(frames)
    ray_here.kill(world)
    assert all(np.array_equal(one, other) for one, other in zip(made, wanted, strict=True))


@pytest.mark.parametrize("failures", [0, 2, 3])
def test_ray_that_does_not_start_on_a_busy_machine_is_started_again(monkeypatch, caplog, failures):
    def init(*_, **__):
        started.append(None)
        if len(started) <= failures:
            raise RuntimeError("The current node timed out during startup.")

    started, ended = [], []
    fake = SimpleNamespace(init=init, shutdown=lambda: ended.append(None))
    fake.job_config = SimpleNamespace(JobConfig=lambda **_: None)
    monkeypatch.setitem(sys.modules, "ray", fake)
    config = load_config(overrides=["cluster.workers=2"])
    with contextlib.ExitStack() as stack:
        if failures == 3:
            stack.enter_context(pytest.raises(SetupError, match="does not start on this machine: The current node"))
        with ray_session(config.cluster) as ray:
            assert ray is fake
    assert len(started) == min(failures + 1, 3) and len(ended) == min(failures, 2) + 1
    assert caplog.text.count("is started once more") == min(failures, 2)


class Ends:
    """Ray's errors by their names."""

    class OutOfMemoryError(Exception):
        pass

    class ActorDiedError(Exception):
        pass

    class ActorUnavailableError(Exception):
        pass


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Ends.OutOfMemoryError("Task was killed due to the node running low on memory."), "the memory of its machine"),
        (Ends.ActorUnavailableError("The actor is temporarily unavailable"), "cannot be reached"),
        (Ends.ActorDiedError("The actor died because its node has died."), "the worker's machine was lost"),
        (Ends.ActorDiedError("The actor's worker process has died."), "killed or crashed"),
        (Ends.ActorDiedError("something\nof another version"), "ActorDiedError: something"),
        (ValueError(), "ValueError: ValueError"),
    ],
    ids=str,
)
def test_how_a_worker_ended_is_told_in_words(error, words):
    def get(_ticket):
        raise error

    actors = object.__new__(RayActors)
    actors._ray = SimpleNamespace(exceptions=Ends, get=get)
    with pytest.raises(WorkerLost) as told:
        actors.answer(None)
    assert words in str(told.value)
