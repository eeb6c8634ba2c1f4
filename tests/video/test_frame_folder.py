"""Laws of frame folders: pictures in the order of their numbers, of any kind, right in 8 bits."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimicmotion.errors import InputError, UsageError
from mimicmotion.video.frame_folder import EXIF_ORIENTATION
from mimicmotion.video.source import open_video
from tests.video.clips import HEIGHT, WIDTH, cut_file, numbered_frame, read_index


def indices_of(source, **selection) -> list[int]:
    pairs = [(index, read_index(frame)) for index, frame in source.frames(**selection)]
    assert all(index == drawn for index, drawn in pairs)
    return [drawn for _, drawn in pairs]


def frame_folder(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for index, name in enumerate(names):
        Image.fromarray(numbered_frame(index)).save(folder / name)
    return folder


def test_frame_folder_in_numeric_order(tmp_path):
    folder = frame_folder(tmp_path / "frames", ["f2.png", "f9.JPG", "f010.png", "f11.jpeg"])
    (folder / "notes.txt").write_text("7")
    Image.fromarray(numbered_frame(77)).save(folder / "cover.png")
    source = open_video(folder)
    assert indices_of(source) == [0, 1, 2, 3]
    assert (source.fps, source.num_frames, source.has_audio) == (30, 4, False)
    assert indices_of(source, stride=2, start=1) == [1, 3]
    assert open_video(folder, fps=12.5).duration == pytest.approx(4 / 12.5)


def test_frame_folder_honours_exif_rotation(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    sideways = np.rot90(numbered_frame(5)).copy()
    Image.fromarray(sideways).save(folder / "1.jpg", exif=exif, quality=95)
    source = open_video(folder)
    assert (source.height, source.width) == (HEIGHT, WIDTH)
    assert read_index(next(source.frames())[1]) == 5


def test_bad_frame_folders(tmp_path):
    with pytest.raises(InputError, match="no numbered frames"):
        open_video(frame_folder(tmp_path / "unnumbered", ["a.png"]))
    with pytest.raises(InputError, match="both frame 1"):
        open_video(frame_folder(tmp_path / "twice", ["1.png", "01.jpg"]))
    sizes = frame_folder(tmp_path / "sizes", ["1.png", "2.png"])
    Image.new("RGB", (10, 10)).save(sizes / "2.png")
    with pytest.raises(InputError, match=r"2\.png has another size"):
        open_video(sizes)
    (sizes / "2.png").write_text("no image")
    with pytest.raises(InputError, match=r"2\.png cannot be read"):
        open_video(sizes)
    (sizes / "2.png").unlink()
    os.mkfifo(sizes / "2.png")
    with pytest.raises(InputError, match=r"2\.png is not a regular file"):
        open_video(sizes)


def test_damaged_frame_is_named(tmp_path):
    folder = frame_folder(tmp_path / "frames", ["1.png", "2.png"])
    cut_file(folder / "2.png", folder / "2.png", 0.5)
    with pytest.raises(InputError, match=r"2\.png cannot be read"):
        list(open_video(folder).frames())


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e6, "fast", None])
def test_bad_frame_rate_for_a_folder(tmp_path, fps):
    with pytest.raises(UsageError, match="frames per second"):
        open_video(frame_folder(tmp_path / "frames", ["1.png"]), fps=fps)
