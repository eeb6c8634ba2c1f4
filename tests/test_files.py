"""Files are written whole or not at all, and hashes follow content."""

import errno
import os
from pathlib import Path

import pytest

from mimicmotion.config import load_config
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.files import (
    atomic_path,
    require_local,
    require_possible,
    require_writable,
    sha256_json,
    sha256_path,
    write_bytes,
    write_json,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_written_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["a.txt"]


def test_the_temporary_file_lies_beside_and_keeps_the_suffix(tmp_path):
    with atomic_path(tmp_path / "a.mp4") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".mp4"
        temporary.write_bytes(b"x")
        assert not (tmp_path / "a.mp4").exists()


def test_an_error_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    write_bytes(tmp_path / "a.txt", b"old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("function", ["os.replace", "os.fsync", "os.open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_each_failing_call_of_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch, function, code):
    write_bytes(tmp_path / "a.txt", b"old")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(f"mimicmotion.files.{function}", fail)
    with pytest.raises(SetupError, match=r"a\.txt"):
        write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_errors_that_are_no_trouble_of_the_machine_stay_what_they_are(tmp_path):
    with pytest.raises(OSError, match="a library's own words"), atomic_path(tmp_path / "a.json"):
        raise OSError("a library's own words")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SetupError, match="file"):
        require_writable(tmp_path / "file" / "below")
    assert names(require_writable(tmp_path / "new")) == []


def test_hashes_follow_names_and_content(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").write_bytes(b"a")
    first = sha256_path(tmp_path / "frames")
    assert first == sha256_path(tmp_path / "frames")
    (tmp_path / "frames" / "1.png").write_bytes(b"b")
    assert sha256_path(tmp_path / "frames") != first
    assert sha256_path(tmp_path / "frames" / "1.png") != sha256_path(tmp_path / "frames")
    assert sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1}) != sha256_json({"a": 1})


ADDRESSES = ["s3://bucket/x", "S3://b", "gs://bucket", "hdfs://host:9000/x", "x://y", "file:///data", "s3:/bucket/x"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_no_folder_and_none_is_made_of_it(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    doors = [
        require_writable,
        require_possible,
        lambda path: write_json(Path(path) / "a.json", {}),
        lambda path: load_config(given={"output.output_dir": path}),
        lambda path: load_config(given={"batch.video_folder": path}),
        lambda path: load_config(given={"batch.videos": ["a.mp4", path]}),
        lambda path: load_config(given={"test_case[*].ref_image_path": path}),
        lambda path: load_config(given={"feature_cache.folder": path}),
        lambda path: load_config(given={"ckpt_path": path}),
    ]
    for door in doors:
        with pytest.raises(UsageError, match=r"(?s)address.*sync.*doc/scale_out\.md"):
            door(address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["a:b", "./s3:/x", "/mnt/s3:/x", "a/b:c/d", "video: one/a", "12:/x"])
def test_a_colon_makes_no_address(path):
    require_local(path)
