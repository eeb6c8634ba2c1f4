"""What a video file really holds, found by decoding it once with ffmpeg.

Headers lie: a clip cut with `ffmpeg -c copy` lists frames that are never shown, and a download that stopped
half way lists frames that are not there. One pass that decodes and throws away tells the real count, and
whether the data end early.
"""

import logging
import os
import re
import stat
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mimicmotion.errors import InputError
from mimicmotion.video.ffmpeg import MAX_FPS, ffmpeg_exe, input_arguments

logger = logging.getLogger(__name__)

MAX_SIDE = 8192
# What ffmpeg's demuxers say when the data that the header promises are not there. In a transport stream a
# corrupt packet means less: two of them joined have one.
CUT_SHORT = re.compile(r"partial file|File ended prematurely|in#0/(?:mov|avi)[^\n]*Packet corrupt")
ERROR_LINE = re.compile(r"^(?:\[[^\]]*\] )*\[(?:error|fatal|panic)\] (.*)$", re.MULTILINE)
NO_OUTPUT = "At least one output file must be specified"


@dataclass(frozen=True)
class VideoInfo:
    """A video file that decodes.

    `height` and `width` are those of the picture as shown (after rotation); `num_frames` counts decoded
    frames; `duration` is in seconds, None where the container has none; `num_video_streams` counts cover
    pictures too; `clean` is False where ffmpeg reported errors.
    """

    codec: str
    pix_fmt: str
    height: int
    width: int
    fps: Fraction
    num_frames: int
    duration: float | None
    has_audio: bool
    num_video_streams: int
    clean: bool


def probe_video(path: str | Path) -> VideoInfo:
    """Decodes the whole file once, in ffmpeg, and describes its first video stream.

    Raises: InputError that says what is wrong with the file: missing, not a regular file, not a video, no
    frames, larger than 8192 pixels a side, cut short.
    """
    require_file(path)
    header = _log(path, [])
    stream = _video_line(path, header)
    require_sane_size(path, *_size(stream))
    # Audio packets are copied along, so that a file whose sound is cut short is noticed as well.
    streams = ["-map", "0:V:0", "-map", "0:a:0?", "-c:a", "copy"]
    log = _log(path, [*streams, "-fps_mode", "passthrough", "-f", "null", "-"])
    errors = _errors(log)
    num_frames = int(_search(r"Output stream #0:0 \(video\): (\d+) frames encoded", log, default="0"))
    duration = _duration(header)
    fps = _fps(path, stream, log)
    if CUT_SHORT.search(log):
        promised = f"about {round(duration * fps)}" if duration else "an unknown number"
        raise InputError(
            f"{path}: the data are damaged or end early: {num_frames} frames can be read of {promised}; "
            "copy or download the file again, or re-encode what is left of it with ffmpeg"
        )
    if num_frames == 0:
        raise _unreadable(path, "it holds no video frame" + (f" ({errors[0]})" if errors else ""))
    if errors:
        logger.warning("%s: ffmpeg reports %d errors, the first: %s", path, len(errors), errors[0])
    width, height = _size(_search(r"Output #0.*?(Stream #0:0.*?: Video: [^\n]*)", log))
    pix_fmt = _search(r", ([a-z]\w+)(?:\([^)]*\))?, \d+x\d+", stream, default="")
    return VideoInfo(
        codec=_search(r"Video: (\w+)", stream),
        pix_fmt=pix_fmt,
        height=height,
        width=width,
        fps=fps,
        num_frames=num_frames,
        duration=duration,
        has_audio=_has_audio(header),
        num_video_streams=len(re.findall(r"Stream #0:\d+.*?: Video: ", header)),
        clean=not errors,
    )


def has_audio(path: str | Path) -> bool:
    """Whether the file has an audio stream, by its header. Raises: InputError where it cannot be read."""
    require_file(path)
    header = _log(path, [])
    if "Input #0" not in header:
        raise _unreadable(path, _reason(header))
    return _has_audio(header)


def require_file(path: str | Path) -> None:
    """Raises: InputError unless `path` is a regular file with content. Opens nothing, so it cannot block."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}; check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is not a regular file; give a video file or a folder of frames")
    if status.st_size == 0:
        raise InputError(f"{path} is empty; copy or download it again")


def require_sane_size(path: str | Path, width: int, height: int) -> None:
    """Raises: InputError where a side is 0 or above 8192 pixels."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise InputError(f"{path} is {width}x{height}; scale it to sides of 1 to {MAX_SIDE} pixels")


def _log(path: str | Path, output: list[str]) -> str:
    """ffmpeg's log on `path`, each line with its level; without `output` it only reads the header."""
    command = [ffmpeg_exe(), "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+verbose"]
    done = subprocess.run(
        command + input_arguments(path) + output, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return done.stderr.decode(errors="replace")


def _video_line(path: str | Path, header: str) -> str:
    lines = re.findall(r"Stream #0:\d+.*?: Video: [^\n]*", header)
    lines = [line for line in lines if "(attached pic)" not in line]
    if lines:
        return lines[0]
    if _has_audio(header):
        raise _unreadable(path, "it holds sound but no picture")
    raise _unreadable(path, _reason(header))


def _unreadable(path: str | Path, reason: str) -> InputError:
    return InputError(f"{path} cannot be read as a video: {reason}; give an mp4, mov, mkv, webm or avi file")


def _has_audio(header: str) -> bool:
    return re.search(r"Stream #0:\d+.*?: Audio: ", header) is not None


def _errors(log: str) -> list[str]:
    return [line for line in ERROR_LINE.findall(log) if line != NO_OUTPUT]


def _reason(log: str) -> str:
    errors = _errors(log)
    return errors[0] if errors else "ffmpeg finds no stream in it"


def _search(pattern: str, text: str, default: str | None = None) -> str:
    found = re.search(pattern, text, re.DOTALL)
    if found is None and default is None:
        raise InputError(f"ffmpeg's description of the video is not understood: {text[-300:]}")
    return default if found is None else found[1]


def _size(stream: str) -> tuple[int, int]:
    width, height = _search(r", (\d+x\d+)(?:[ ,]|$)", stream, default="0x0").split("x")
    return int(width), int(height)


def _duration(header: str) -> float | None:
    found = re.search(r"Duration: (\d+):(\d+):(\d+\.\d+)", header)
    return None if found is None else int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def _fps(path: str | Path, stream: str, log: str) -> Fraction:
    """The average frame rate. ffmpeg prints two digits of it; the nominal rate is taken if they agree."""
    printed = re.search(r", ([\d.]+)(k?) (?:fps|tbr)", stream)
    if printed is None:
        raise _unreadable(path, "it does not say how many frames a second it has")
    fps = Fraction(printed[1]) * (1000 if printed[2] else 1)
    nominal = re.search(r" fr:(\d+)/([1-9]\d*) ", log)
    if nominal and round(Fraction(int(nominal[1]), int(nominal[2])), 2) == fps:
        fps = Fraction(int(nominal[1]), int(nominal[2]))
    if not 0 < fps <= MAX_FPS:
        raise _unreadable(path, f"its {float(fps):g} frames a second are outside 0 to {MAX_FPS}")
    return fps
