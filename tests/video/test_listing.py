"""Laws of listing: every video of a folder, and the rest by name."""

import pytest
from PIL import Image

from mimicmotion.errors import UsageError
from mimicmotion.video.listing import find_videos, not_videos, video_stem
from tests.video.clips import numbered_frame


def test_find_videos_sorted_in_any_case(tmp_path):
    for name in ["b.MP4", "a.mov", ".hidden.mp4", "notes.txt", "c.WebM"]:
        (tmp_path / name).touch()
    (tmp_path / "frames.v1").mkdir()
    Image.fromarray(numbered_frame(0)).save(tmp_path / "frames.v1" / "001.png")
    (tmp_path / "results").mkdir()
    (tmp_path / "named.mp4").mkdir()
    found = find_videos(tmp_path)
    assert [path.name for path in found] == ["a.mov", "b.MP4", "c.WebM", "frames.v1", "named.mp4"]
    assert [video_stem(path) for path in found] == ["a", "b", "c", "frames.v1", "named.mp4"]


def test_find_videos_by_name(tmp_path):
    for name in ["a.mp4", "b.mp4", "c.mkv"]:
        (tmp_path / name).touch()
    assert [path.name for path in find_videos(tmp_path, ["c", "a.mp4", "c.mkv"])] == ["a.mp4", "c.mkv"]
    with pytest.raises(UsageError, match=r"no video called d\.mp4.*a\.mp4, b\.mp4, c\.mkv"):
        find_videos(tmp_path, ["a", "d.mp4"])


def test_folders_without_videos(tmp_path):
    with pytest.raises(UsageError, match="no video in"):
        find_videos(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        find_videos(tmp_path / "nowhere")


def test_a_file_or_paths_of_files_are_taken_as_they_are(tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ["clips/a.mp4", "clips/b.gif", "c.mkv"]:
        (tmp_path / name).touch()
    one = tmp_path / "clips" / "a.mp4"
    assert find_videos(one) == [one]
    assert find_videos(tmp_path / "clips", ["b", str(tmp_path / "c.mkv"), str(one)]) == [
        tmp_path / "clips" / "b.gif",
        tmp_path / "c.mkv",
        one,
    ]
    assert not_videos(one) == []


def test_what_is_no_video_is_named(tmp_path):
    for name in ["a.mp4", "notes.txt", "pose.npz", ".hidden"]:
        (tmp_path / name).touch()
    (tmp_path / "results").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "still.webp")
    pictures = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    pictures[0].save(tmp_path / "moving.webp", save_all=True, append_images=pictures[1:], duration=100)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert [path.name for path in find_videos(tmp_path)] == ["a.mp4", "moving.webp"]
    assert [path.name for path in not_videos(tmp_path)] == ["loop", "notes.txt", "pose.npz", "results", "still.webp"]


@pytest.mark.parametrize(
    "suffix", ["mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "flv", "wmv", "3gp", "mpg", "gif", "apng"]
)
def test_suffixes(tmp_path, suffix):
    (tmp_path / f"clip.{suffix.upper()}").touch()
    assert len(find_videos(tmp_path)) == 1
