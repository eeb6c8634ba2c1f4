"""The cache by itself: what was stored comes back, or is computed, whatever happens to the folder and its files."""

import errno
import json
import logging
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from filelock import FileLock

import mimicmotion
from mimicmotion.feature_cache import store as feature_cache
from mimicmotion.feature_cache.store import (
    FORMAT_VERSION,
    CacheCorrupt,
    FeatureCache,
    clear,
    entry_path,
    load_entry,
    prune,
    stored_files,
    verify,
)
from tests.conftest import HANG_SECONDS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import feature_cache as script

KEY = {"content": "abc", "size": [2, 3]}
FORK = multiprocessing.get_context("fork")


def value_of(number=1.0):
    return {"tensor": torch.full((2, 3), number), "name": "x", "size": [2, 3]}


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) if isinstance(one[name], torch.Tensor) else one[name] == other[name]
        for name in one
    )


def never():
    raise AssertionError("it was computed again")


def fill(folder, number=1.0, key=KEY, level="level"):
    FeatureCache(folder).get_or_compute(level, key, lambda: value_of(number))
    return entry_path(folder, level, key)


DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_stored_comes_back_exactly(tmp_path, dtype):
    tensor = (torch.arange(24).reshape(2, 3, 4) * 3.7).to(dtype)
    value = {"tensor": tensor[:, 1:].transpose(0, 1), "plain": [1, 2.5, "a", None, True, {"b": (1, 2)}]}
    computed = FeatureCache(tmp_path).get_or_compute("level", KEY, lambda: value)
    read = FeatureCache(tmp_path).get_or_compute("level", KEY, never)
    assert same(read, value)
    assert same(computed, value)
    assert read["tensor"].dtype == dtype


def test_a_view_is_stored_without_the_storage_behind_it(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.get_or_compute("level", KEY, lambda: {"tensor": torch.zeros(1_000_000)[:10]})
    assert entry_path(tmp_path, "level", KEY).stat().st_size < 10_000


def test_pack_and_unpack_are_applied_to_new_and_to_stored_values(tmp_path):
    coding = {"pack": lambda number: {"half": number / 2}, "unpack": lambda value: value["half"] * 2}
    assert FeatureCache(tmp_path).get_or_compute("level", KEY, lambda: 7, **coding) == 7
    assert FeatureCache(tmp_path).get_or_compute("level", KEY, never, **coding) == 7


def test_level_and_every_part_of_the_key_name_another_entry(tmp_path):
    paths = {
        entry_path(tmp_path, level, key)
        for level in ("a", "b")
        for key in ({"x": 1}, {"x": 2}, {"y": 1}, {"x": 1, "y": None}, {"x": [1]}, {"x": {"z": 1}}, {"x": "1"})
    }
    assert len(paths) == 14


def test_statistics_count_hits_misses_and_bytes(tmp_path):
    cache = FeatureCache(tmp_path)
    for key in (KEY, KEY, {"other": 1}):
        cache.get_or_compute("level", key, value_of)
    numbers = cache.statistics["level"]
    size = entry_path(tmp_path, "level", KEY).stat().st_size
    assert (numbers.hits, numbers.misses, numbers.bytes_read) == (1, 2, size)
    assert numbers.bytes_written == sum(file.size for file in stored_files(tmp_path))


def test_force_refresh_computes_once_more_and_stores(tmp_path):
    fill(tmp_path, 1.0)
    cache = FeatureCache(tmp_path, force_refresh=True)
    assert same(cache.get_or_compute("level", KEY, lambda: value_of(2.0)), value_of(2.0))
    assert same(cache.get_or_compute("level", KEY, never), value_of(2.0))
    assert same(FeatureCache(tmp_path).get_or_compute("level", KEY, never), value_of(2.0))


def test_an_error_while_computing_is_the_callers_and_nothing_is_stored(tmp_path):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        FeatureCache(tmp_path).get_or_compute("level", KEY, fail)
    assert stored_files(tmp_path) == []
    assert same(FeatureCache(tmp_path).get_or_compute("level", KEY, value_of), value_of())


def test_a_value_that_is_not_finite_is_returned_and_not_kept(tmp_path, caplog):
    value = FeatureCache(tmp_path).get_or_compute("level", KEY, lambda: value_of(float("nan")))
    assert value["tensor"].isnan().all()
    assert stored_files(tmp_path) == []
    assert "not finite" in caplog.text


# ----------------------------------------------------------------------------------------------------
# Damaged and hostile entries


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


def entry_with(**changes):
    return {"format_version": FORMAT_VERSION, "level": "level", "key": KEY, "source": {}, "value": value_of()} | changes


def write_compressed(path):
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def replace_by_link(path):
    moved = path.rename(path.with_name("elsewhere"))
    path.symlink_to(moved)


def replace_by_pipe(path):
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "web page": lambda path: path.write_text("<html>not found</html>"),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "malicious": lambda path: torch.save(entry_with(value=Malicious(path.parent.parent / "marker")), path),
    "malicious raw": lambda path: path.write_bytes(pickle.dumps(Malicious(path.parent.parent / "marker"))),
    "compressed": write_compressed,
    "older version": lambda path: torch.save(entry_with(format_version=FORMAT_VERSION - 1), path),
    "newer version": lambda path: torch.save(entry_with(format_version=FORMAT_VERSION + 1), path),
    "another key": lambda path: torch.save(entry_with(key={"content": "xyz"}), path),
    "a list": lambda path: torch.save([1, 2], path),
    "a field less": lambda path: torch.save({k: v for k, v in entry_with().items() if k != "source"}, path),
    "a field more": lambda path: torch.save(entry_with(more=1), path),
    "value of a wrong type": lambda path: torch.save(entry_with(value=torch.zeros(3)), path),
    "terabytes by stride 0": lambda path: torch.save(
        entry_with(value={"tensor": torch.zeros(1).as_strided((10**6, 10**6), (0, 0))}), path
    ),
    "not finite": lambda path: torch.save(entry_with(value=value_of(float("inf"))), path),
    "sparse": lambda path: torch.save(entry_with(value={"tensor": torch.eye(3).to_sparse()}), path),
    "a link": replace_by_link,
    "a pipe": replace_by_pipe,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_bad_entry_is_reported_set_aside_and_computed_again(tmp_path, damage, caplog):
    path = fill(tmp_path)
    damage(path)
    cache = FeatureCache(tmp_path)
    assert same(cache.get_or_compute("level", KEY, lambda: value_of(2.0)), value_of(2.0))
    assert cache.statistics["level"].set_aside == 1
    assert [record.message for record in caplog.records if "set aside" in record.message]
    assert os.path.lexists(f"{path}.corrupt")
    assert not (tmp_path / "marker").exists()
    assert same(FeatureCache(tmp_path).get_or_compute("level", KEY, never), value_of(2.0))


def test_an_entry_that_does_not_unpack_is_set_aside(tmp_path):
    fill(tmp_path)
    cache = FeatureCache(tmp_path)
    assert cache.get_or_compute("level", KEY, lambda: {"wanted": 3}, unpack=lambda value: value["wanted"]) == 3
    assert cache.statistics["level"].set_aside == 1


def test_a_flipped_bit_never_gives_another_value(tmp_path):
    path = fill(tmp_path)
    whole, refused = path.read_bytes(), 0
    data_start = whole.index(torch.ones(6).numpy().tobytes())
    places = {*range(0, len(whole), 7), *range(data_start, data_start + 24)}
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            entry, _ = load_entry(path)
        except CacheCorrupt:
            refused += 1
            continue
        assert entry["key"] == KEY
        assert same(entry["value"], value_of())
        assert not data_start <= place < data_start + 24
    assert refused > 24


def test_a_file_above_the_limit_is_not_read(tmp_path):
    path = fill(tmp_path)
    with pytest.raises(CacheCorrupt, match="bytes"):
        load_entry(path, max_bytes=100)


def test_nothing_is_ever_loaded_as_code():
    sources = list(Path(mimicmotion.__file__).parent.rglob("*.py"))
    assert Path(feature_cache.__file__) in sources
    assert not [path for path in sources if "weights_only=False" in path.read_text()]


# ----------------------------------------------------------------------------------------------------
# Many processes, and sudden ends


def count_and_compute(log, computing):
    with open(log, "a") as file:
        file.write("computed\n")
    if computing:
        computing.wait(HANG_SECONDS)
    else:
        time.sleep(0.3)  # so that most of the others come meanwhile; nothing depends on it
    return value_of(5.0)


def ask(folder, log, asking, computing, results):
    asking.wait(HANG_SECONDS)
    value = FeatureCache(folder).get_or_compute("level", KEY, lambda: count_and_compute(log, computing))
    results.put(float(value["tensor"].sum()))


def run_processes(count, folder, log, meet=False):
    """Asks in `count` processes at once; where they `meet`, no value is ready before all of them compute it."""
    results, asking, computing = FORK.Queue(), FORK.Barrier(count), FORK.Barrier(count) if meet else None
    processes = [FORK.Process(target=ask, args=(folder, log, asking, computing, results)) for _ in range(count)]
    for process in processes:
        process.start()
    values = [results.get(timeout=HANG_SECONDS) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return values


def test_eight_processes_on_one_key_compute_once(tmp_path):
    log = tmp_path / "log"
    assert run_processes(8, tmp_path / "cache", log) == [30.0] * 8
    assert log.read_text().count("computed") == 1
    assert len(stored_files(tmp_path / "cache")) == 1


def test_without_working_locks_all_processes_succeed(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_acquire", lambda lock: None)
    log = tmp_path / "log"
    assert run_processes(8, tmp_path / "cache", log, meet=True) == [30.0] * 8
    assert log.read_text().count("computed") == 8
    assert [problem for _, problem in verify(tmp_path / "cache")] == [""]
    assert not list((tmp_path / "cache").rglob("*.corrupt"))


def test_a_lock_that_is_stuck_is_passed_over(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(feature_cache, "LOCK_TIMEOUT", 0.3)
    monkeypatch.setattr(feature_cache, "LOCK_REPORT", 0.1)
    caplog.set_level(logging.INFO)
    (tmp_path / "level").mkdir()
    with FileLock(entry_path(tmp_path, "level", KEY).with_suffix(".lock")):
        assert same(FeatureCache(tmp_path).get_or_compute("level", KEY, value_of), value_of())
    assert "Waiting for another process" in caplog.text
    assert "passed over" in caplog.text
    assert same(FeatureCache(tmp_path).get_or_compute("level", KEY, never), value_of())


def store_for_ever(folder, told):
    number = 0
    while True:
        number += 1
        for place in range(5):
            tensor = torch.full((20_000,), float(number))
            cache = FeatureCache(folder, force_refresh=True)
            cache.get_or_compute("level", {"place": place}, lambda t=tensor: {"tensor": t})
            told.send(place)


def test_kill_9_at_any_time_leaves_whole_entries(tmp_path, caplog):
    generator, found = random.Random(0), 0
    for _ in range(15):
        stored, told = FORK.Pipe(duplex=False)
        process = FORK.Process(target=store_for_ever, args=(tmp_path, told))
        process.start()
        told.close()
        for place in [0, 1, 2, 3, 4] * 2:  # it is in the midst of storing
            assert stored.recv() == place
        time.sleep(0.02 * generator.random())
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        problems = [problem for _, problem in verify(tmp_path)]
        assert set(problems) <= {""}
        found = len(problems)
    assert found == 5
    # The locks died with their holders.
    caplog.set_level(logging.INFO)
    assert FeatureCache(tmp_path, force_refresh=True).get_or_compute("level", {"place": 0}, value_of)
    assert "Waiting for another process" not in caplog.text


def die_while_replacing(folder):
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    FeatureCache(folder, force_refresh=True).get_or_compute("level", KEY, lambda: value_of(2.0))


def test_kill_9_just_before_the_end_keeps_the_old_entry_and_its_rest_is_removed_later(tmp_path):
    fill(tmp_path, 1.0)
    process = FORK.Process(target=die_while_replacing, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = (tmp_path / "level").glob(".tmp-*")
    assert same(FeatureCache(tmp_path).get_or_compute("level", KEY, never), value_of(1.0))
    assert not left.exists()  # its writer is dead


# ----------------------------------------------------------------------------------------------------
# Folders that cannot be written


def warnings_in(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("function", ["replace", "fsync", "open"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_disk_that_fails_costs_one_warning_and_no_value(tmp_path, monkeypatch, caplog, code, function, nth):
    fill(tmp_path, 1.0, key={"number": 0})
    real, calls = getattr(os, function), []

    def failing(path, *arguments, **names):
        calls.append(path)
        if len(calls) >= nth:
            raise OSError(code, os.strerror(code))
        return real(path, *arguments, **names)

    cache = FeatureCache(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(f"mimicmotion.files.os.{function}", failing)
        for number in range(4):
            value = cache.get_or_compute("level", {"number": number}, lambda n=number: value_of(n + 1.0))
            assert same(value, value_of(number + 1.0))
    assert calls
    assert len(warnings_in(caplog)) == 1
    assert "goes on without" in warnings_in(caplog)[0]
    assert not list(tmp_path.rglob(".tmp-*"))
    assert {problem for _, problem in verify(tmp_path)} <= {""}


def test_a_folder_that_is_a_file_costs_one_warning(tmp_path, caplog):
    (tmp_path / "taken").write_text("a file")
    cache = FeatureCache(tmp_path / "taken")
    for number in range(3):
        assert same(cache.get_or_compute("level", {"n": number}, lambda: value_of(2.0)), value_of(2.0))
    assert len(warnings_in(caplog)) == 1
    assert (tmp_path / "taken").read_text() == "a file"


@pytest.fixture
def mounted(tmp_path):
    """Mounts a small file system, or mounts it again with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except OSError:
            done = None
        if done is None or done.returncode:
            pytest.skip("file systems cannot be mounted here")
        return folder

    yield mount
    while subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode == 0:
        pass


def test_a_full_disk_costs_one_warning_and_leaves_no_torn_entry(mounted, caplog):
    folder = mounted("size=128k")
    cache = FeatureCache(folder)
    for number in range(6):
        tensor = torch.full((10_000,), float(number))
        value = cache.get_or_compute("level", {"number": number}, lambda t=tensor: {"tensor": t})
        assert torch.equal(value["tensor"], tensor)
    assert len(warnings_in(caplog)) == 1
    assert "full" in warnings_in(caplog)[0]
    assert [problem for _, problem in verify(folder)] == ["", ""]
    assert not list(folder.rglob(".tmp-*"))


def test_a_read_only_disk_still_gives_what_it_holds(mounted, caplog):
    fill(mounted("size=1m"), 1.0)
    folder = mounted("size=1m,remount,ro")
    cache = FeatureCache(folder)
    assert same(cache.get_or_compute("level", KEY, never), value_of(1.0))
    for number in range(3):
        assert same(cache.get_or_compute("level", {"n": number}, lambda: value_of(2.0)), value_of(2.0))
    assert len(warnings_in(caplog)) == 1
    refreshing = FeatureCache(folder, force_refresh=True)
    for _ in range(2):
        assert same(refreshing.get_or_compute("level", KEY, lambda: value_of(3.0)), value_of(3.0))
    assert len(stored_files(folder)) == 1


# ----------------------------------------------------------------------------------------------------
# Size


def fill_with_ages(folder, ages, numbers=1000):
    """Entries of 4 * `numbers` bytes and a little more, last used `ages` seconds ago; their size."""
    for age in ages:
        FeatureCache(folder).get_or_compute("level", {"age": age}, lambda: {"tensor": torch.zeros(numbers)})
        os.utime(entry_path(folder, "level", {"age": age}), (time.time() - age,) * 2)
    return stored_files(folder)[0].size


def ages_left(folder):
    return {age for age in range(0, 1000, 10) if entry_path(folder, "level", {"age": age}).exists()}


def test_the_least_recently_used_go_first_and_the_size_is_bounded(tmp_path):
    size = fill_with_ages(tmp_path, [10, 20, 30, 40, 50, 60])
    limit = 4.5 * size / 1e9
    FeatureCache(tmp_path).get_or_compute("level", {"age": 60}, never)  # used just now
    cache = FeatureCache(tmp_path, max_gb=limit)
    cache.get_or_compute("level", {"age": 0}, lambda: {"tensor": torch.zeros(1000)})
    assert ages_left(tmp_path) == {0, 10, 20, 60}
    assert sum(file.size for file in stored_files(tmp_path)) <= limit * 1e9


def test_what_the_run_itself_used_or_made_stays_even_above_the_limit(tmp_path):
    fill_with_ages(tmp_path, [10, 20, 30])
    cache = FeatureCache(tmp_path, max_gb=0)
    cache.get_or_compute("level", {"age": 20}, never)
    for age in (100, 110):
        cache.get_or_compute("level", {"age": age}, value_of)
    assert ages_left(tmp_path) == {20, 100, 110}


def test_an_entry_in_use_is_neither_pruned_nor_cleared(tmp_path):
    fill_with_ages(tmp_path, [10, 20])
    with FileLock(entry_path(tmp_path, "level", {"age": 20}).with_suffix(".lock")):
        prune(tmp_path, 0)
        assert ages_left(tmp_path) == {20}
        clear(tmp_path)
        assert ages_left(tmp_path) == {20}
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def pretend_entries(folder, count):
    """Files that look like entries from outside, of one byte each."""
    (folder / "level").mkdir(parents=True)
    for number in range(count):
        (folder / "level" / f"{number:064x}.pt").write_bytes(b"x")


def count_looks(monkeypatch, work):
    """How often `work` asks the system about a file, and how many names it is told."""
    calls, real = [], {name: getattr(os, name) for name in ("stat", "lstat", "listdir", "scandir")}

    def counted(name):
        def call(*given, **options):
            found = real[name](*given, **options)
            calls.extend(found if name == "listdir" else [name])
            return found

        return call

    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(os, name, counted(name))
        work()
    return len(calls)


def test_a_store_looks_at_as_many_files_whatever_the_cache_holds(tmp_path, monkeypatch):
    looks = {}
    for entries in (10, 1000):
        folder = tmp_path / str(entries)
        pretend_entries(folder, entries)
        cache = FeatureCache(folder, max_gb=1)
        cache.get_or_compute("level", {"a": 0}, value_of)  # counts once
        looks[entries] = count_looks(monkeypatch, lambda cache=cache: cache.get_or_compute("level", {"a": 1}, value_of))
        assert kept_size(folder) == sum(file.size for file in stored_files(folder))
    assert looks[10] == looks[1000] < 60


def test_a_run_above_the_limit_by_its_own_entries_does_not_look_again_at_each(tmp_path, monkeypatch):
    pruned = []
    monkeypatch.setattr(feature_cache, "prune", lambda *a, **k: pruned.append(1) or prune(*a, **k))
    cache = FeatureCache(tmp_path, max_gb=1e-9)
    for number in range(60):
        cache.get_or_compute("level", {"a": number}, value_of)
    assert len(stored_files(tmp_path)) == 60
    assert len(pruned) < 35  # each time a tenth more than the last


def kept_size(folder):
    return json.loads((folder / "size.json").read_text())["bytes"]


def test_a_value_that_is_stored_again_counts_once(tmp_path):
    for number in range(3):
        cache = FeatureCache(tmp_path, max_gb=1, force_refresh=True)
        cache.get_or_compute("level", KEY, lambda number=number: {"tensor": torch.zeros(1000 * (3 - number))})
        assert kept_size(tmp_path) == stored_files(tmp_path)[0].size


@pytest.mark.parametrize("damage", ["absent", "torn", "empty", "changed", "of_another_kind", "a_folder"])
def test_a_size_that_is_damaged_is_counted_anew(tmp_path, damage):
    fill(tmp_path, key={"a": 1})
    path = tmp_path / "size.json"
    if damage in ("absent", "a_folder"):
        path.unlink()
    if damage == "a_folder":
        path.mkdir()
    elif damage != "absent":
        whole = path.read_text()
        changed = whole.replace('"bytes": ', '"bytes": 9')
        path.write_text({"torn": whole[:20], "empty": "", "changed": changed, "of_another_kind": "[1]"}[damage])
    FeatureCache(tmp_path, max_gb=1).get_or_compute("level", {"a": 2}, value_of)
    assert len(stored_files(tmp_path)) == 2
    if damage != "a_folder":
        assert kept_size(tmp_path) == sum(file.size for file in stored_files(tmp_path))


def test_what_others_bring_and_take_away_is_found_after_some_stores(tmp_path, monkeypatch):
    monkeypatch.setattr("mimicmotion.feature_cache.size.LEAST_STORES", 3)
    cache = FeatureCache(tmp_path, max_gb=1)
    cache.get_or_compute("level", {"a": 0}, value_of)
    entry_path(tmp_path, "level", {"a": 0}).unlink()
    (tmp_path / "level" / f"{1:064x}.pt").write_bytes(b"x" * 1000)
    for number in range(1, 6):
        cache.get_or_compute("level", {"a": number}, value_of)
    assert kept_size(tmp_path) == sum(file.size for file in stored_files(tmp_path))


def store_many(folder, writer):
    cache = FeatureCache(folder, max_gb=1)
    for number in range(10):
        cache.get_or_compute("level", {"writer": writer, "number": number}, value_of)


def test_several_processes_lose_no_byte_of_the_size(tmp_path):
    fill(tmp_path, key={"a": 1})  # counted, before they add
    writers = [FORK.Process(target=store_many, args=(tmp_path, writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(stored_files(tmp_path)) == 41
    assert kept_size(tmp_path) == sum(file.size for file in stored_files(tmp_path))


def test_pruning_by_the_script_corrects_the_size(tmp_path):
    size = fill_with_ages(tmp_path, [20, 30, 40])
    (tmp_path / "level" / f"{1:064x}.pt").write_bytes(b"x" * 50)  # nobody added it
    prune(tmp_path, 2.5 * size / 1e9)
    assert kept_size(tmp_path) == sum(file.size for file in stored_files(tmp_path))


def test_no_limit_prunes_nothing_and_files_set_aside_go_first(tmp_path):
    size = fill_with_ages(tmp_path, [20, 30])
    damaged = entry_path(tmp_path, "level", {"age": 20})
    damaged.rename(f"{damaged}.corrupt")
    assert FeatureCache(tmp_path).max_gb is None
    assert [file.path.name for file in prune(tmp_path, 1.5 * size / 1e9)] == [f"{damaged.name}.corrupt"]
    assert ages_left(tmp_path) == {30}


# ----------------------------------------------------------------------------------------------------
# The script


def run_script(*arguments):
    return script.main([str(argument) for argument in arguments])


def test_the_script_lists_verifies_prunes_and_clears(tmp_path, capsys):
    fill_with_ages(tmp_path, [10, 20])
    key = {"content": 1}
    FeatureCache(tmp_path).get_or_compute("other", key, value_of, source={"path": "/videos/a.mp4"})
    folder = ("--feature_cache_dir", tmp_path)
    assert run_script("list", *folder) == 0
    listed = capsys.readouterr().out
    assert "'/videos/a.mp4'" in listed
    assert "bytes in 3 files" in listed
    assert run_script("verify", *folder) == 0
    damaged = entry_path(tmp_path, "level", {"age": 10})
    damaged.write_bytes(damaged.read_bytes()[:-20])
    assert run_script("verify", "--dry_run", *folder) == 1
    assert damaged.exists()
    assert run_script("verify", *folder) == 1
    assert not damaged.exists()
    assert run_script("verify", *folder) == 0
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert run_script("prune", "--max_gb", "0", "--dry_run", *folder) == 0
    assert run_script("clear", "--dry_run", *folder) == 0
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    assert run_script("clear", "--level", "level", *folder) == 0
    assert [file.level for file in stored_files(tmp_path)] == ["other"]
    assert run_script("prune", "--max_gb", "0", *folder) == 0
    assert stored_files(tmp_path) == []


def test_the_script_touches_no_foreign_file(tmp_path):
    fill(tmp_path)
    foreign = [tmp_path / "level" / "notes.txt", tmp_path / "latents.pt", tmp_path / "level" / "clip.pt"]
    for path in foreign:
        path.write_text("mine")
    assert run_script("verify", "--feature_cache_dir", tmp_path) == 0
    assert run_script("clear", "--feature_cache_dir", tmp_path) == 0
    assert [path.read_text() for path in foreign] == ["mine"] * 3
    assert stored_files(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list", "--feature_cache_dir", "nowhere"), "nowhere"),
        (("clear", "--level", "x", "--feature_cache_dir", "."), "no level x"),
        (("prune", "--level", "tests", "--feature_cache_dir", "."), "whole cache"),
        (("prune", "--max_gb", "nan", "--feature_cache_dir", "."), "0 or more"),
    ],
)
def test_wrong_use_of_the_script_is_said(arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    assert run_script(*arguments) == 2
    assert words in capsys.readouterr().err
