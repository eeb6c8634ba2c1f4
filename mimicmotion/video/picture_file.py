"""Picture files: opened with care, and one picture of each as 8-bit RGB, upright, of a size that one can work with."""

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimicmotion.config import ReferenceSettings, parse_color
from mimicmotion.errors import InputError, MimicMotionError
from mimicmotion.places import looked_for
from mimicmotion.video.probe import require_file
from mimicmotion.video.stills import WHITE, as_rgb

# Of those that Pillow knows; some others make it start programs, or are only stubs.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "GIF", "BMP", "DIB", "JPEG2000", "PPM", "TGA", "PSD", "PCX", "SGI",
           "QOI", "DDS", "ICO")  # fmt: skip
ANIMATED = ("GIF", "PNG", "WEBP", "AVIF", "TIFF")
COMPRESSED = ("JPEG", "MPO", "WEBP", "AVIF", "QOI")  # their decoders do not notice that the end is missing
LARGE_PIXELS = 178_956_970  # Pillow's own limit; what is larger is reduced to at most
ENOUGH_PIXELS = 1 << 25
WIDEST = 20  # longest side over shortest; nobody can be seen in what is wider, and covering a frame with it takes GB
EXIF_ORIENTATION = 0x0112
TIFF_SUBFILE_TYPE, REDUCED_COPY = 254, 1
JPEG_END = b"\xff\xd9"
ZERO_BYTES = 1024
DOUBTFUL = "its data seem to be damaged: look at it, or download it again"

SAVE_AGAIN = "save it as PNG or JPEG"
# What files begin with, from which byte on, that people take for pictures.
OTHER_KINDS = (
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), f"is a HEIC picture: {SAVE_AGAIN}, as phones do when they "
     "share one as 'most compatible'"),
    (4, (b"ftyp",), "is a video: save one of its frames as PNG"),
    (0, (b"\x1aE\xdf\xa3", b"FLV"), "is a video: save one of its frames as PNG"),
    (0, (b"%PDF", b"%!PS"), "is a document: export it as PNG"),
    (0, (b"<svg", b"<?xml"), "is a drawing of lines (SVG): export it as PNG"),
    (0, (b"<!doc", b"<html"), "is a web page and no picture: download the picture itself"),
    (0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "is a TIFF of a kind that is not read: save it with 8 or 16 bits"),
    (0, (b"v/1\x01", b"#?RADIANCE", b"#?RGBE"), f"is an HDR picture: map its tones and {SAVE_AGAIN}"),
    (0, (b"version https://git-lfs",), "is a pointer of git-lfs: fetch the file itself with: git lfs pull"),
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """What a picture file shows: `pixels` uint8 (h, w, 3), RGB, upright.

    size: (height, width) in the file, upright; larger than that of `pixels` where a huge picture was reduced. notes:
    in words, what was done to it.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def read_picture(path: str | Path, settings: ReferenceSettings | None = None) -> Picture:
    """The picture in a file; its first one where it holds several.

    Raises: InputError that names the file, what is wrong with it and what to do: missing, no picture, of a kind that
    is not read, damaged or cut off, larger than the settings allow.
    """
    path, settings = Path(path), settings or ReferenceSettings()
    with open_picture(path, settings.max_pixels) as image:
        if max(image.size) > WIDEST * min(image.size):
            raise InputError(f"{path} is {image.width}x{image.height}; cut the person out of it")
        stored = image.size
        if image.width * image.height > LARGE_PIXELS:
            image.draft(None, tuple(side // _reduction(*stored) for side in stored))
        reduce = _reduction(*image.size) if stored[0] * stored[1] > LARGE_PIXELS else 1
        pixels = decode(path, image, parse_color(settings.background), reduce)
        width, height = stored[::-1] if _turns(image) else stored
        notes = []
        if pixels.shape[:2] != (height, width):
            notes.append(f"{width}x{height} was reduced to {pixels.shape[1]}x{pixels.shape[0]}")
        if image.format in ANIMATED and getattr(image, "is_animated", False):
            notes.append("it holds several pictures: the first is taken")
        if image.format in ("JPEG", "MPO") and stored[0] * stored[1] <= LARGE_PIXELS and is_doubtful_jpeg(path):
            notes.append(DOUBTFUL)
        return Picture(pixels, (height, width), tuple(notes))


@contextlib.contextmanager
def open_picture(path: str | Path, max_pixels: int) -> Iterator:
    """The file as a Pillow image of which nothing but the header was read. Opens no pipe and no device.

    Raises: InputError for what is no picture or has more than `max_pixels`, and for what fails within the block
    because the file is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    if not os.path.exists(path):
        raise InputError(f"picture not found: {looked_for(path)}; check the path")
    require_file(path, "a picture")
    limit = Image.MAX_IMAGE_PIXELS
    try:
        # Pillow asks it of everything within a file before it takes memory, and refuses twice as much.
        Image.MAX_IMAGE_PIXELS = max_pixels / 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _require_original(path, image)
                yield image
    except (MimicMotionError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{path} {_what_else(path)}") from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path} has more than {max_pixels} pixels; scale it, or raise the limit (reference.max_pixels)"
        ) from error
    except Exception as error:  # Pillow's readers raise whatever they run into
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read as a picture: {reason}; copy or export it again") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def decode(path: Path, image, background: tuple[int, int, int] = WHITE, reduce: int = 1) -> np.ndarray:
    """The pixels of an opened picture, uint8 (h, w, 3), RGB, upright; see `stills.as_rgb`."""
    image.load()
    _require_whole(path, image)
    # Not before: a TIFF is turned while it is loaded, and some files name their orientation behind the pixels.
    return _upright(as_rgb(image, background, reduce), _orientation(image))


def shown_size(image) -> tuple[int, int]:
    """(width, height) of an opened picture, upright. A PNG is decoded for it: its orientation may stand at the end."""
    # Pillow tells the size of a TIFF upright from the start.
    return image.size[::-1] if image.format != "TIFF" and _turns(image) else image.size


def _reduction(width: int, height: int) -> int:
    """The side of the squares that become one pixel."""
    return math.ceil(math.sqrt(width * height / ENOUGH_PIXELS))


def _orientation(image) -> int:
    """As EXIF counts: 1 is upright, from 5 on it lies on its side."""
    return image.getexif().get(EXIF_ORIENTATION, 1)


def _turns(image) -> bool:
    orientation = _orientation(image)
    return isinstance(orientation, int) and 5 <= orientation <= 8


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    from PIL import Image, ImageOps

    if orientation == 1:
        return pixels
    image = Image.fromarray(pixels)
    image.getexif()[EXIF_ORIENTATION] = orientation
    return np.array(ImageOps.exif_transpose(image))


def _require_whole(path: Path, image) -> None:
    """Raises an error for damage that decoders pass over: what was never written becomes grey or noise in silence."""
    from PIL import Image

    if image.format == "PNG":
        with Image.open(path, formats=["PNG"]) as twin:
            twin.verify()
    if image.format not in COMPRESSED:
        return
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - ZERO_BYTES))
        if any(file.read()):
            return
    data = path.read_bytes()
    if image.format == "WEBP":
        data = data[: 8 + int.from_bytes(data[4:8], "little")]
    written = data.rstrip(b"\0")
    # Some cameras fill up with zeros behind the end.
    if len(data) - len(written) >= ZERO_BYTES and not written.endswith(JPEG_END):
        raise InputError(f"{path} is damaged: it ends in zeros, as a download that broke off; download it again")


def is_doubtful_jpeg(path: Path) -> bool:
    """Whether ffmpeg's decoder finds errors in the data of a JPEG; Pillow's says nothing of them and shows noise."""
    import av
    from av.error import FFmpegError

    data = path.read_bytes()

    def decodes(options: dict[str, str]) -> bool:
        decoder = av.CodecContext.create("mjpeg", "r")
        decoder.options, decoder.thread_count = options, 1
        try:
            return bool(decoder.decode(av.Packet(data)))
        except (FFmpegError, ValueError, MemoryError):
            return False

    # Some kinds of JPEG it does not know at all: of these it can say nothing.
    return not decodes({"err_detect": "explode"}) and decodes({})


def _require_original(path: Path, image) -> None:
    """Raises: InputError for a camera's raw file, in which Pillow sees a small preview only."""
    if image.format == "TIFF" and image.tag_v2.get(TIFF_SUBFILE_TYPE, 0) & REDUCED_COPY:
        raise InputError(f"{path} begins with a small preview, as cameras' raw files do: {SAVE_AGAIN}")


def _what_else(path: Path) -> str:
    """What a file is that is no picture, and what to do, as the end of a sentence."""
    with open(path, "rb") as file:
        head = file.read(64)
    for start, beginnings, words in OTHER_KINDS:
        if head[start:].lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(tuple(b.lower() for b in beginnings)):
            return words
    return f"cannot be read as a picture: it is of no kind that is read, or damaged; {SAVE_AGAIN}"
