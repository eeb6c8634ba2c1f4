"""Temporary files: those of living writers stay, those of dead ones go, and nothing else is touched."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mimicmotion.files import atomic_path, remove_stale_temporaries, require_writable
from tests.conftest import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
WRITING = """
import sys, time
from mimicmotion.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    print(temporary.name, flush=True)
    sys.stdin.read()
    temporary.write_bytes(b"whole")
"""
# Equal fields tell a whole file: each is one write of its own.
LOOPING = """
import itertools, sys
from mimicmotion.files import atomic_path
print("begins", flush=True)
for number in itertools.count():
    with atomic_path(sys.argv[1]) as temporary, open(temporary, "w") as file:
        for part in ("{", f'"first": {number}, "padding": "', "x" * 20000, f'", "last": {number}', "}"):
            file.write(part)
            file.flush()
"""


def start(code, path):
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return process, process.stdout.readline().strip()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_living_writer_keeps_its_file_and_a_dead_one_does_not(tmp_path):
    process, temporary = start(WRITING, tmp_path / "a.mp4")
    os.utime(tmp_path / temporary, (0, 0))  # its age is no reason
    for _ in range(2):
        require_writable(tmp_path)
        assert names(tmp_path) == [temporary]
    process.kill()
    process.communicate()
    assert names(tmp_path) == [temporary]
    require_writable(tmp_path)
    assert names(tmp_path) == []


def test_a_writer_whose_folder_is_cleaned_ends_well(tmp_path):
    process, _ = start(WRITING, tmp_path / "a.mp4")
    remove_stale_temporaries(tmp_path)
    _, errors = process.communicate("", timeout=HANG_SECONDS)
    assert process.returncode == 0, errors
    assert names(tmp_path) == ["a.mp4"] and (tmp_path / "a.mp4").read_bytes() == b"whole"


def test_the_own_process_counts_as_living(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"x")
        remove_stale_temporaries(tmp_path)
    assert names(tmp_path) == ["a.txt"]


FOREIGN = [
    ".tmp-", ".tmp-1", ".tmp-notes.txt", ".tmp-12-0123456.mp4", ".tmp-12-0123456789.mp4", ".tmp-12-0123456g.mp4",
    ".tmp-x-01234567.mp4", "tmp-12-01234567.mp4", ".tmp-12-01234567.mp4.part", ".tmp-12-01234567 copy.mp4", "a.mp4",
]  # fmt: skip


def test_files_that_only_look_alike_stay(tmp_path):
    for name in FOREIGN:
        (tmp_path / name).write_bytes(b"somebody's")
    for name in ("1.mp4", "2.json", "3.gz", "4"):
        (tmp_path / f".tmp-{name[0]}-0123abcd{name[1:]}").write_bytes(b"ours")
    remove_stale_temporaries(tmp_path)
    assert names(tmp_path) == sorted(FOREIGN)


def test_what_is_no_file_is_neither_followed_nor_waited_for(tmp_path):
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / ".tmp-1-00000001").symlink_to(tmp_path / "victim")
    (tmp_path / ".tmp-1-00000002").mkdir()
    os.mkfifo(tmp_path / ".tmp-1-00000003")
    before = names(tmp_path)
    remove_stale_temporaries(tmp_path)
    assert names(tmp_path) == before and (tmp_path / "victim").read_bytes() == b"mine"
    remove_stale_temporaries(tmp_path / "nowhere")


def test_without_locks_files_are_written_and_none_is_removed(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(95, "not supported")

    monkeypatch.setattr("mimicmotion.files.fcntl.flock", no_locks)
    (tmp_path / ".tmp-1-01234567.json").write_bytes(b"who knows")
    require_writable(tmp_path)
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"x")
    assert names(tmp_path) == [".tmp-1-01234567.json", "a.txt"]


def test_a_file_taken_away_before_it_was_locked_gets_another_name(tmp_path, monkeypatch):
    import fcntl

    tried = []

    def late(descriptor, operation):
        if not tried:
            next(tmp_path.iterdir()).unlink()
        tried.append(operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with atomic_path(tmp_path / "a.txt") as temporary:
        assert names(tmp_path) == [temporary.name]
        temporary.write_bytes(b"x")
    assert len(tried) == 2 and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("seed", range(8))
def test_kills_at_random_times_tear_no_file(tmp_path, seed):
    path = tmp_path / "a.json"
    process, _ = start(LOOPING, path)
    time.sleep(random.Random(seed).uniform(0, 0.05))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if path.exists():
        read = json.loads(path.read_text())
        assert read["first"] == read["last"]
    require_writable(tmp_path)
    assert names(tmp_path) in ([], ["a.json"])
