"""Folders of numbered pictures as a video."""

import itertools
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimicmotion.config import VideoSettings
from mimicmotion.errors import InputError
from mimicmotion.video.picture_file import decode, open_picture, shown_size

logger = logging.getLogger(__name__)

FRAME_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}


@dataclass(frozen=True)
class FrameFolder:
    """Pictures of one size in pixels, in order; `notes` say in words what is missing."""

    files: list[Path]
    height: int
    width: int
    notes: tuple[str, ...]

    def read(self, indices: range) -> Iterator[np.ndarray]:
        """Their pixels: uint8 (H, W, 3), RGB, upright. Raises: InputError for a picture that cannot be read."""
        for index in indices:
            with open_picture(self.files[index], self.height * self.width) as image:
                yield decode(self.files[index], image)


def open_frame_folder(folder: Path, settings: VideoSettings) -> FrameFolder:
    """The numbered pictures of a folder; only their headers are read.

    Raises: InputError for a folder without them, two of one number, pictures of several sizes or beyond the limits.
    """
    numbered = _numbered_frames(folder)
    if not numbered:
        raise InputError(f"{folder} holds no numbered frames; name them like 0001.png or frame_12.jpg")
    files = [path for _, path in numbered]
    if len(files) > settings.max_frames:
        raise InputError(f"{folder} has {len(files)} frames; the limit is {settings.max_frames} (video.max_frames)")
    width, height = _image_size(files[0], settings)
    for file in files:
        if _image_size(file, settings) != (width, height):
            first = f"{files[0].name} ({width}x{height})"
            raise InputError(f"{file} has another size than {first}; make them equal")
    if len(files) * width * height * 3 > settings.max_bytes:
        raise InputError(
            f"{folder} has {len(files)} frames of {width}x{height}; the limit for all is {settings.max_bytes} bytes "
            "(video.max_bytes)"
        )
    gaps = _gaps([number for number, _ in numbered])
    if gaps:
        logger.warning("%s: %s", folder, gaps)
    return FrameFolder(files, height, width, (gaps,) if gaps else ())


def has_frames(folder: Path) -> bool:
    """Whether a folder holds any numbered picture; False where it cannot be opened."""
    try:
        return any(file.suffix.lower() in FRAME_SUFFIXES and _number(file) is not None for file in folder.iterdir())
    except OSError:
        return False


def _number(file: Path) -> int | None:
    found = re.search(r"[0-9]+$", file.stem)
    return int(found[0]) if found and not file.name.startswith(".") else None


def _numbered_frames(folder: Path) -> list[tuple[int, Path]]:
    """Pictures whose names end in a number, with it, in its order."""
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES]
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; check its permissions") from error
    numbered = sorted((number, path) for path in files if (number := _number(path)) is not None)
    for (number, path), (other, twin) in itertools.pairwise(numbered):
        if number == other:
            raise InputError(f"{folder}: {path.name} and {twin.name} are both frame {number}; remove one")
    return numbered


def _gaps(numbers: list[int]) -> str:
    """Which numbers are missing, in words; "" where they follow each other at one distance."""
    steps = [b - a for a, b in itertools.pairwise(numbers)]
    usual = min(steps, default=1)
    gaps = [(a + usual, b - usual) for (a, b), step in zip(itertools.pairwise(numbers), steps, strict=True)
            if step > usual]  # fmt: skip
    if not gaps:
        return ""
    shown = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in gaps[:5])
    return f"its numbers have gaps ({shown}{', ...' if len(gaps) > 5 else ''}): the frames are shown without a pause"


def _image_size(file: Path, settings: VideoSettings) -> tuple[int, int]:
    """(width, height) as shown. Raises: InputError beyond the limits, of which the header alone tells."""
    with open_picture(file, sys.maxsize) as image:
        width, height = image.size
        if max(width, height) > settings.max_side or width * height > settings.max_pixels:
            raise InputError(
                f"{file} is {width}x{height}; the limits are {settings.max_side} pixels a side (video.max_side) and "
                f"{settings.max_pixels} in all (video.max_pixels); scale it"
            )
        return shown_size(image)
