"""The ffmpeg program of imageio-ffmpeg: where it is, how to name a file to it, what it complained of."""

import math
import numbers
import re
from fractions import Fraction
from pathlib import Path

from mimicmotion.errors import SetupError, UsageError

MAX_FPS = 1000
# Containers that driving videos come in. Without the list a text file called x.mp4 could be a playlist or a
# script that makes ffmpeg open other files and addresses.
CONTAINERS = "mov,matroska,avi,mpegts,flv,ogg,asf,mpeg"


def ffmpeg_exe() -> str:
    """The program's path. Raises: SetupError where imageio-ffmpeg, or its program, is missing."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise SetupError(f"no ffmpeg program ({error}); pip install imageio-ffmpeg") from error


def input_arguments(path: str | Path) -> list[str]:
    """Arguments that open `path` as a local video file, whatever characters its name holds."""
    # "file:" keeps names like "-x.mp4" and "a:b.mp4" from being read as an option or a protocol.
    name = f"file:{Path(path).absolute()}"
    return ["-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-i", name]


def as_fps(fps: Fraction | float, owner: str = "fps") -> Fraction:
    """`fps` as a fraction; `owner` names the setting in the message.

    Raises: UsageError unless it is a finite number above 0 and at most 1000.
    """
    if not isinstance(fps, numbers.Real) or not math.isfinite(fps) or not 0 < fps <= MAX_FPS:
        raise UsageError(f"{owner} is {fps!r}; frames per second are a number above 0, at most {MAX_FPS}")
    return Fraction(fps).limit_denominator(100_000)


def complaint(log: str) -> str:
    """The last line of ffmpeg's log without its source tags, such as "No space left on device"; may be ""."""
    lines = [re.sub(r"^(\[[^\]]*\] ?)+", "", line).strip() for line in log.splitlines()]
    return next((line for line in reversed(lines) if line), "")
