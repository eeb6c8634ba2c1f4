"""Laws of frame folders: pictures in the order of their numbers, of any kind, right in 8 bits."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimicmotion.config import VideoSettings
from mimicmotion.errors import InputError, UsageError
from mimicmotion.video.picture_file import EXIF_ORIENTATION
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


@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".webp", ".bmp"])
def test_other_kinds_of_pictures(tmp_path, suffix):
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(numbered_frame(index)).save(folder / f"{index}{suffix}")
    assert indices_of(open_video(folder)) == [0, 1, 2]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled(tmp_path, suffix):
    folder = tmp_path / "frames"
    folder.mkdir()
    grey = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 8
    Image.fromarray(grey).save(folder / f"1{suffix}")
    _, frame = next(open_video(folder).frames())
    assert np.array_equal(frame, np.repeat(np.round(grey / 257)[..., None], 3, axis=2).astype(np.uint8))


@pytest.mark.parametrize("largest", [1, 255, 65535])
def test_float_pictures_are_scaled_by_their_range(tmp_path, largest):
    folder = tmp_path / "frames"
    folder.mkdir()
    ramp = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    ramp[0, 1] = np.nan
    Image.fromarray(ramp * largest).save(folder / "1.tif")
    _, frame = next(open_video(folder).frames())
    assert frame[0, 1].max() == 0 and frame[-1, -1].min() == 255
    assert np.abs(frame[1:, :, 0] - ramp[1:] * 255).max() <= 0.51


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_white_shows_through_what_is_transparent(tmp_path, mode):
    folder = tmp_path / "frames"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    pixels[:, 16:] = (0, 0, 0, 255)
    image = Image.fromarray(pixels)
    if mode == "P":
        image = Image.fromarray(pixels[..., 3] // 255)
        image.putpalette([200, 30, 40, 0, 0, 0])
        image.save(folder / "1.png", transparency=0)
    else:
        image.convert(mode).save(folder / "1.png")
    _, frame = next(open_video(folder).frames())
    assert (frame[:, :16] == 255).all() and (frame[:, 16:] == 0).all()


def test_gaps_in_the_numbers_are_told(tmp_path, caplog):
    source = open_video(frame_folder(tmp_path / "frames", ["1.png", "2.png", "5.png", "6.png", "8.png"]))
    assert "gaps (3 to 4, 7)" in source.notes[0] and "gaps (3 to 4, 7)" in caplog.text
    assert source.num_frames == 5
    assert open_video(frame_folder(tmp_path / "tenths", ["10.png", "20.png", "30.png"])).notes == ()


@pytest.mark.parametrize(
    "settings", [{"max_side": WIDTH - 1}, {"max_pixels": HEIGHT * WIDTH - 1}, {"max_frames": 1}, {"max_bytes": 50_000}]
)
def test_limits_hold_for_folders(tmp_path, settings):
    folder = frame_folder(tmp_path / "frames", ["1.png", "2.png", "3.png"])
    with pytest.raises(InputError, match="the limit"):
        open_video(folder, settings=VideoSettings(**settings))
