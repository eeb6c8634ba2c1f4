"""Laws of picture files: any kind comes out right in 8 bits, upright, or says why not."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from mimicmotion.config import ReferenceSettings
from mimicmotion.errors import InputError
from mimicmotion.video import picture_file
from mimicmotion.video.picture_file import EXIF_ORIENTATION, FORMATS, open_picture, read_picture, shown_size

# Dark below, light above, so that a picture that is turned, inverted or scaled wrongly differs from it.
RAMP = np.linspace(1, 0, 24 * 32).reshape(24, 32) ** 2
GREY = np.round(RAMP * 255).astype(np.uint8)
COLORS = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)


def write_tiff(path, values, **tags):
    """One strip of grey, little-endian, as `values` are; tags such as t262=0 replace what would be written."""
    height, width = values.shape
    data = values.tobytes()
    entries = {
        256: width, 257: height, 258: values.dtype.itemsize * 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: height,
        279: len(data), 339: {"u": 1, "i": 2, "f": 3}[values.dtype.kind],
    }  # fmt: skip
    entries |= {int(name[1:]): value for name, value in tags.items()}
    entries[273] = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + data)
    return path


def write_png(path, width, height, depth=8, kind=2, data=b"", **chunks):
    """A PNG with this header; `data` are its rows, each behind a zero."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    more = b"".join(chunk(name.encode(), content) for name, content in chunks.items())
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b""))
    return path


def grey_of(path):
    """The picture's grey, by a look at its three equal channels."""
    pixels = read_picture(path).pixels
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].astype(int)


# Depth


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        ((RAMP * 65535).astype("<u2"), {}),
        ((65535 - RAMP * 65535).astype("<u2"), {"t262": 0}),
        ((RAMP * 32767).astype("<i2"), {}),
        ((RAMP * (2**32 - 1)).astype("<u4"), {}),
        ((RAMP * 65535).astype("<u4"), {}),
        ((RAMP * 255).astype("<i4"), {}),
        (RAMP.astype("<f4"), {}),
        ((RAMP * 255).astype("<f4"), {}),
        ((RAMP * 65535).astype("<f4"), {}),
        ((1 - RAMP).astype("<f4"), {"t262": 0}),
        ((255 - RAMP * 255).astype("u1"), {"t262": 0}),
    ],
    ids=str,
)
def test_grey_of_any_depth_is_the_same_in_8_bits(tmp_path, values, tags):
    assert np.abs(grey_of(write_tiff(tmp_path / "grey.tif", values, **tags)) - RAMP * 255).max() <= 1


def test_12_bits_are_not_taken_for_16(tmp_path):
    packed = np.array([[0xFFF, 0, 0x800, 0x400]])
    low, high = packed[:, ::2], packed[:, 1::2]
    data = np.stack([low >> 4, (low & 15) << 4 | high >> 8, high & 255], axis=2).astype("u1").reshape(1, 6)
    path = write_tiff(tmp_path / "grey.tif", data, t256=4, t258=12)
    assert grey_of(path).tolist() == [[255, 0, 128, 64]]


def test_floats_that_exceed_1_a_little_are_not_black(tmp_path):
    grey = grey_of(write_tiff(tmp_path / "grey.tif", (RAMP * 1.25).astype("<f4")))
    assert np.abs(grey - np.minimum(RAMP * 1.25, 1) * 255).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif", "jp2", "ppm"])
def test_16_bit_grey_in_other_formats(tmp_path, suffix):
    Image.fromarray((RAMP * 65535).astype(np.uint16)).save(tmp_path / f"grey.{suffix}")
    assert np.abs(grey_of(tmp_path / f"grey.{suffix}") - RAMP * 255).max() <= 1


# Modes


MODES = {"png": ["1", "L", "P", "RGB"], "tif": ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB"],
         "jpg": ["1", "L", "RGB", "CMYK", "YCbCr"]}  # fmt: skip


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes])
def test_every_mode_shows_the_same_picture(tmp_path, suffix, mode):
    image = Image.fromarray(COLORS)
    if mode == "LAB":
        spaces = (ImageCms.createProfile(space) for space in ("sRGB", "LAB"))
        image = ImageCms.profileToProfile(image, *spaces, outputMode="LAB")
    image = image.convert(mode)
    image.save(tmp_path / f"picture.{suffix}", **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}))
    pixels = read_picture(tmp_path / f"picture.{suffix}").pixels
    expected = COLORS if mode == "LAB" else np.asarray(image.convert("RGB"))
    assert np.abs(pixels.astype(int) - expected).mean() < 4


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jp2"])
@pytest.mark.parametrize("background", ["white", "#204060"])
def test_the_background_shows_through_what_is_transparent(tmp_path, suffix, background):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    pixels[:, :8, 3] = 0
    pixels[:, 8:] = (250, 10, 20, 255)
    Image.fromarray(pixels).save(tmp_path / f"cut.{suffix}", lossless=True)
    found = read_picture(tmp_path / f"cut.{suffix}", ReferenceSettings(background=background)).pixels
    assert (found[:, :8] == ((255, 255, 255) if background == "white" else (0x20, 0x40, 0x60))).all()
    assert (found[:, 8:] == (250, 10, 20)).all()


def test_half_transparent_is_mixed_and_opaque_stays_to_the_bit(tmp_path):
    pixels = np.dstack([COLORS, np.full_like(GREY, 255)])
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    assert np.array_equal(read_picture(tmp_path / "opaque.png").pixels, COLORS)
    pixels[..., 3] = 51
    Image.fromarray(pixels).save(tmp_path / "veil.png")
    expected = COLORS * 0.2 + 255 * 0.8
    assert np.abs(read_picture(tmp_path / "veil.png").pixels - expected).max() <= 0.51


def test_transparency_of_palettes_grey_and_16_bits(tmp_path):
    black = ReferenceSettings(background="black")
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    palette.putpalette([200, 30, 40, 10, 20, 30, 90, 90, 90])
    palette.save(tmp_path / "palette.png", transparency=bytes([0, 255, 128]))
    assert read_picture(tmp_path / "palette.png", black).pixels.tolist() == [[[0, 0, 0], [10, 20, 30], [45, 45, 45]]]
    Image.fromarray(np.array([[[250, 0], [250, 255]]], np.uint8), "LA").save(tmp_path / "la.png")
    assert read_picture(tmp_path / "la.png", black).pixels[..., 0].tolist() == [[0, 250]]
    rows = b"\0" + struct.pack(">HHH", 40000, 65535, 0)
    deep = write_png(tmp_path / "deep.png", 3, 1, 16, 0, rows, tRNS=struct.pack(">H", 40000))
    assert read_picture(deep, black).pixels[..., 0].tolist() == [[0, 255, 0]]


# Orientation, several pictures, size


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_shown_upright(tmp_path, suffix, orientation):
    corners = np.zeros((16, 32, 3), np.uint8)
    corners[:8, :8], corners[:8, 24:] = 250, 120
    image = Image.fromarray(corners)
    exif = image.getexif()
    exif[EXIF_ORIENTATION] = orientation
    path = tmp_path / f"turned.{suffix}"
    image.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    expected = np.asarray(ImageOps.exif_transpose(image))
    picture = read_picture(path)
    assert picture.size == picture.pixels.shape[:2] == expected.shape[:2]
    assert np.abs(picture.pixels.astype(int) - expected).max() < 12
    with open_picture(path, 1000) as opened:
        assert shown_size(opened) == expected.shape[1::-1]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_the_first_of_several_pictures_is_taken_and_told(tmp_path, name):
    pictures = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
    picture = read_picture(tmp_path / name)
    assert picture.pixels[4, 4, 0] > 200 > picture.pixels[4, 4, 2]
    assert picture.notes == ("it holds several pictures: the first is taken",)


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "I;16", "F", "P"])
def test_huge_pictures_are_reduced_to_their_means(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(picture_file, "LARGE_PIXELS", 60 * 90 - 1)
    monkeypatch.setattr(picture_file, "ENOUGH_PIXELS", 25 * 35)
    monkeypatch.setattr("mimicmotion.video.stills.BAND_PIXELS", 700)
    blocks = np.random.default_rng(0).integers(0, 256, (30, 20), dtype=np.uint8)
    large = np.kron(blocks, np.ones((3, 3), np.uint8))
    image = {"I;16": large * np.uint16(257), "F": large / np.float32(255)}.get(kind, large)
    image = Image.fromarray(image)
    path = tmp_path / ("huge.tif" if kind == "F" else "huge.png")
    (image.convert(kind) if kind in ("RGB", "RGBA", "P") else image).save(path)
    picture = read_picture(path)
    assert picture.size == (90, 60) and picture.notes == ("60x90 was reduced to 20x30",)
    assert np.array_equal(picture.pixels, np.repeat(blocks[..., None], 3, axis=2))


def test_huge_jpegs_are_reduced_while_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_file, "LARGE_PIXELS", 1000)
    monkeypatch.setattr(picture_file, "ENOUGH_PIXELS", 600)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    Image.fromarray(np.kron(GREY, np.ones((4, 4), np.uint8))).save(tmp_path / "huge.jpg", exif=exif, quality=95)
    picture = read_picture(tmp_path / "huge.jpg")
    assert picture.size == (128, 96)
    assert picture.pixels.shape[0] * picture.pixels.shape[1] <= 600
    expected = Image.fromarray(np.rot90(GREY, -1)).resize(picture.pixels.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(picture.pixels[..., 0].astype(int) - np.asarray(expected)).mean() < 6


def test_too_many_pixels_are_refused_by_the_header(tmp_path):
    path = write_png(tmp_path / "bomb.png", 30_000, 30_000)
    with pytest.raises(InputError, match=r"more than 300000000 pixels.*reference\.max_pixels"):
        read_picture(path)
    Image.new("L", (40, 30)).save(tmp_path / "small.png")
    assert read_picture(tmp_path / "small.png", ReferenceSettings(max_pixels=1200)).size == (30, 40)
    with pytest.raises(InputError, match="more than 1199 pixels"):
        read_picture(tmp_path / "small.png", ReferenceSettings(max_pixels=1199))


def test_pillows_own_limit_is_as_before_afterwards(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    read_picture(tmp_path / "a.png")
    with pytest.raises(InputError):
        read_picture(write_png(tmp_path / "bomb.png", 30_000, 30_000))
    assert before == Image.MAX_IMAGE_PIXELS


def test_what_is_far_too_long_is_refused(tmp_path):
    with pytest.raises(InputError, match="100000x10; cut the person out"):
        read_picture(write_png(tmp_path / "line.png", 100_000, 10))


# Damage, and what is no picture


def encoded(kind, **options):
    noise = np.random.default_rng(0).integers(0, 60, (96, 96, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise + np.repeat(np.kron(GREY, np.ones((4, 3), np.uint8))[:, :, None], 3, 2) // 2).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


COMPRESSED = [("PNG", {}), ("JPEG", {"quality": 95}), ("JPEG", {"quality": 95, "progressive": True}), ("GIF", {}),
              ("WEBP", {"quality": 95}), ("WEBP", {"lossless": True}), ("AVIF", {"quality": 95}), ("QOI", {}),
              ("TIFF", {"compression": "tiff_lzw"}), ("JPEG2000", {})]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), COMPRESSED, ids=str)
@pytest.mark.parametrize("rest", ["absent", "zeros"])
def test_half_a_picture_is_refused(tmp_path, kind, options, rest):
    data = encoded(kind, **options)
    half = data[: len(data) // 2]
    path = tmp_path / "half.picture"
    path.write_bytes(data)
    read_picture(path)
    path.write_bytes(half + (bytes(len(data) - len(half)) if rest == "zeros" else b""))
    with pytest.raises(InputError, match=r"half\.picture"):
        read_picture(path)


def test_noise_within_a_png_is_noticed(tmp_path):
    data = bytearray(encoded("PNG"))
    data[len(data) // 2] ^= 1
    (tmp_path / "hit.png").write_bytes(data)
    with pytest.raises(InputError, match=r"hit\.png"):
        read_picture(tmp_path / "hit.png")


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"subsampling": 0}], ids=str)
def test_a_jpeg_that_misses_bytes_is_doubted_and_a_whole_one_is_not(tmp_path, options):
    data = encoded("JPEG", quality=95, **options)
    (tmp_path / "whole.jpg").write_bytes(data + b"what a phone writes behind the picture")
    assert read_picture(tmp_path / "whole.jpg").notes == ()
    third = len(data) // 3
    (tmp_path / "hit.jpg").write_bytes(data[:third] + data[2 * third :])
    assert read_picture(tmp_path / "hit.jpg").notes == (picture_file.DOUBTFUL,)


def test_zeros_behind_the_end_do_no_harm(tmp_path):
    for kind in ("JPEG", "WEBP"):
        (tmp_path / "padded").write_bytes(encoded(kind) + bytes(5000))
        assert read_picture(tmp_path / "padded").size == (96, 96)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"\x1aE\xdf\xa3\x01", "video"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><svg/>", "SVG"),
        (b"%PDF-1.7", "document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "document"),
        (b"\n<!DOCTYPE html><title>404</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"no picture", "PNG or JPEG"),
        (b"\x89PNG\r\n\x1a\n broken", r"bad\.png"),
        (b"\xff\xd8\xff", r"bad\.png"),
        (b"", "empty"),
    ],
)
def test_what_is_no_picture_is_told_with_the_remedy(tmp_path, content, words):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_picture(tmp_path / "bad.png")
    assert "bad.png" in str(caught.value)


def test_depths_and_previews_that_are_not_read(tmp_path):
    with pytest.raises(InputError, match="8 or 16 bits"):
        read_picture(write_tiff(tmp_path / "double.tif", RAMP.astype("<f8")))
    with pytest.raises(InputError, match="preview"):
        read_picture(write_tiff(tmp_path / "camera.dng", GREY, t254=1))


def test_pipes_folders_and_absent_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="not a regular file; give a picture"):
        read_picture(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="not a regular file"):
        read_picture(tmp_path)
    for name in ("none.png", "x" * 300, "zero\0"):
        with pytest.raises(InputError, match="not found"):
            read_picture(tmp_path / name)


def test_pillow_knows_all_formats():
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)
