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


@pytest.mark.parametrize("twin", ["x.mov", "X.mkv"])
def test_equal_stems_are_refused_unless_one_is_chosen(tmp_path, twin):
    (tmp_path / "x.mp4").touch()
    (tmp_path / twin).touch()
    with pytest.raises(UsageError, match="would write the same result"):
        find_videos(tmp_path)
    assert find_videos(tmp_path, [twin]) == [tmp_path / twin]
