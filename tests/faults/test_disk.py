"""What fails on the disk leaves the old file or the new one, never a third thing and nothing beside it."""

import contextlib
import errno
import fcntl
import os
import resource

import pytest

from mimicmotion.animation.animator import Outcome
from mimicmotion.animation.batch import run_all
from mimicmotion.cli import exit_code_of
from mimicmotion.errors import MACHINE_ERRORS, InputError, MimicMotionError, SetupError
from mimicmotion.files import atomic_path, require_writable, require_writable_file, write_bytes
from mimicmotion.results import Job
from tests.faults.writers import WRITERS, contents, left

CALLS = [(os, "open"), (os, "fsync"), (os, "replace"), (fcntl, "flock"), (os, "fstat")]


class NthCall:
    """Lets the n-th of all calls of CALLS fail with `code`."""

    def __init__(self, monkeypatch, code, n):
        self.calls, self.code, self.n = 0, code, n
        for module, name in CALLS:
            monkeypatch.setattr(module, name, self.wrapped(getattr(module, name)))

    def wrapped(self, call):
        def counted(*args, **kwargs):
            self.calls += 1
            if self.calls == self.n:
                raise OSError(self.code, os.strerror(self.code))
            return call(*args, **kwargs)

        return counted


@pytest.mark.parametrize("name", WRITERS)
def test_whichever_call_fails_the_file_is_the_old_or_the_new_one(tmp_path, monkeypatch, name):
    path, old, new = contents(tmp_path, name)
    codes = [errno.ENOSPC, errno.EIO, errno.EINTR, errno.EACCES, errno.EMFILE, errno.EROFS, errno.EDQUOT]
    for n in range(1, 100):
        # A video costs half a second; every code meets every call in the other writers.
        code = codes[n % len(codes)]
        with monkeypatch.context() as patch:
            injected = NthCall(patch, code, n)
            try:
                WRITERS[name](path, 2)
            except SetupError as error:
                assert MACHINE_ERRORS[code] in str(error)
        assert left(path) == [name], n
        assert path.read_bytes() in (old, new), n
        if injected.calls < n:
            assert path.read_bytes() == new
            return
        WRITERS[name](path, 1)
    pytest.fail("there is no end of calls")


@contextlib.contextmanager
def limit(kind, value):
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_grows_too_large_is_told_with_the_remedy(tmp_path, name):
    path, old, new = contents(tmp_path, name)
    for allowed in (0, len(new) // 2) if name != "x.mp4" else (200,):
        with limit(resource.RLIMIT_FSIZE, allowed), pytest.raises(SetupError, match=r"ulimit -f|File too large"):
            WRITERS[name](path, 2)
        assert left(path) == [name] and path.read_bytes() == old


@pytest.mark.parametrize("name", WRITERS)
def test_too_many_open_files_are_told_with_the_remedy(tmp_path, name):
    path, old, new = contents(tmp_path, name)
    lowest = os.dup(0)  # the number that the next file would get
    os.close(lowest)
    for more in range(30):
        try:
            with limit(resource.RLIMIT_NOFILE, lowest + more):
                WRITERS[name](path, 2)
        except SetupError as error:
            assert "ulimit -n" in str(error)
            assert left(path) == [name] and path.read_bytes() == old
        else:
            break
    assert more and path.read_bytes() == new


def test_a_folder_under_the_name_of_a_file_concerns_that_file_alone(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(MimicMotionError, match="move it away") as caught:
        write_bytes(tmp_path / "a.json", b"x")
    assert caught.value.exit_code == 1
    with pytest.raises(MimicMotionError, match="too long"):
        write_bytes(tmp_path / ("a" * 300), b"x")
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="a file stands where a folder is needed"):
        write_bytes(tmp_path / "file" / "b" / "c.json", b"x")
    assert left(tmp_path / "x") == ["a.json", "file"]


def test_the_place_that_is_full_is_named(tmp_path):
    elsewhere = str(tmp_path / "elsewhere" / "scratch")
    with pytest.raises(SetupError, match=f"cannot write {elsewhere}: the disk is full"), atomic_path(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "full", elsewhere)


def test_nothing_is_written_through_a_planted_link(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    monkeypatch.setattr("mimicmotion.files.uuid.uuid4", lambda: type("Known", (), {"hex": "0" * 32}))
    (tmp_path / "out" / f".tmp-{os.getpid()}-00000000").symlink_to(victim)
    with pytest.raises(SetupError):
        require_writable(tmp_path / "out")
    assert victim.read_bytes() == b"mine"


def test_a_result_that_is_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "a.txt").symlink_to(tmp_path / "victim")
    write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "victim").read_bytes() == b"mine" and not (tmp_path / "a.txt").is_symlink()


def test_where_a_file_is_to_go_is_tried_before_work(tmp_path):
    assert require_writable_file(tmp_path / "new" / "a.safetensors", "--save_state").parent.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(SetupError):
        require_writable_file(tmp_path / "file" / "a.safetensors", "--save_state")
    with pytest.raises(MimicMotionError, match=r"--save_state .* is a folder"):
        require_writable_file(tmp_path / "new", "--save_state")


def outcomes(*names):
    from pathlib import Path

    return [Outcome(Job(Path(name), None, 0, Path(name))) for name in names]


def statuses(errors):
    """How three jobs end, the first of which raises the error, and the exit code."""
    items = outcomes("a", "b", "c")

    def work(outcome):
        if outcome is items[0]:
            raise errors
        outcome.status = "done"

    code = run_all(items, work)
    return code, [outcome.status for outcome in items], items[0].message


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.EFBIG])
def test_what_would_fail_again_ends_the_batch(code):
    error = OSError(code, os.strerror(code), "/some/place")
    assert statuses(error) == (3, ["failed", "not run", "not run"], f"/some/place: {MACHINE_ERRORS[code]}")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken", "/a.mp4"), MemoryError(), InputError("no person")])
def test_what_one_input_does_stays_with_it(error):
    code, found, message = statuses(error)
    assert (code, found) == (1, ["failed", "done", "done"])
    assert message and "Error" not in message


@pytest.mark.parametrize("code", MACHINE_ERRORS)
def test_any_trouble_of_the_machine_ends_a_script_with_3_and_a_remedy(code, caplog):
    def work():
        raise OSError(code, os.strerror(code), "/some/place")

    assert exit_code_of(work) == 3
    assert f"/some/place: {MACHINE_ERRORS[code]}" in caplog.text and "Traceback" not in caplog.text


def test_a_fault_of_the_program_is_shown_as_one():
    with pytest.raises(ZeroDivisionError):
        exit_code_of(lambda: 1 // 0)
