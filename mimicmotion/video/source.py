"""Driving videos: which ones a folder holds, and their frames one after the other.

Frames come from decord as in the published model, or from ffmpeg where decord cannot be trusted with a file.
Both run as processes that write raw frames into a pipe, and both give the same pixels.
"""

import functools
import importlib.util
import itertools
import logging
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from mimicmotion.errors import InputError, UsageError
from mimicmotion.video.ffmpeg import as_fps, complaint, ffmpeg_exe, input_arguments
from mimicmotion.video.probe import VideoInfo, probe_video, require_file, require_sane_size

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi"}
FRAME_SUFFIXES = {".png", ".jpg", ".jpeg"}
FRAME_FOLDER_FPS = 30
DECORD_WORKER = Path(__file__).with_name("decord_worker.py")
# A reader that gives no frame for so long hangs and is ended.
STALL_SECONDS = 60.0
EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class VideoSource:
    """A video whose frames can be read, as often as wanted. Holds no open file.

    `fps` is the average frame rate, `height` and `width` are the picture's as shown, `num_frames` counts
    frames that really decode, `duration` is in seconds (None: the container does not say). `read` yields the
    frames (uint8 (H, W, 3), RGB) of a range of indices.
    """

    path: Path
    fps: Fraction
    height: int
    width: int
    num_frames: int
    duration: float | None
    has_audio: bool
    read: Callable[[range], Iterator[np.ndarray]] = field(repr=False)

    def frames(
        self, stride: int = 1, start: int = 0, max_frames: int | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index, frame) for the frames start, start + stride, ...: uint8 (H, W, 3), RGB, 0-255.

        Memory does not grow with the length of the video. Each frame is the receiver's own.

        Raises: InputError when a frame cannot be read; the sequence is never silently short.
        """
        if stride < 1 or start < 0:
            raise ValueError(f"stride is {stride} and start is {start}; they begin at 1 and 0")
        indices = range(start, self.num_frames, stride)[:max_frames]
        yield from zip(indices, self.read(indices), strict=True)


def open_video(
    path: str | Path, fps: Fraction | float = FRAME_FOLDER_FPS, info: VideoInfo | None = None
) -> VideoSource:
    """Opens a video file, or a folder of numbered png or jpg frames shown at `fps`.

    A file is decoded once in ffmpeg before anything is returned, so that `num_frames` is real; not where `info` is
    given, what `probe_video` found in this very file before.

    Raises: InputError that names the file, what is wrong with it and what to do; UsageError for a bad `fps`.
    """
    path = Path(path)
    if path.is_dir():
        return _open_frame_folder(path, as_fps(fps))
    info = info or probe_video(path)
    return VideoSource(
        path=path,
        fps=info.fps,
        height=info.height,
        width=info.width,
        num_frames=info.num_frames,
        duration=info.duration,
        has_audio=info.has_audio,
        read=functools.partial(_read_file, path, info),
    )


def find_videos(folder: str | Path, names: Sequence[str] | None = None) -> list[Path]:
    """The video files and frame folders in `folder`, sorted by name; hidden ones are left out.

    Args:
        names: take only these, by file name or by stem.

    Raises: UsageError for a folder without videos, an unknown name, or two videos of one stem (their results
        would have the same name).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give a folder of driving videos")
    found = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and _is_video(path))
    if not found:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES))
        raise UsageError(f"no video in {folder}: put {kinds} files or folders of numbered frames there")
    unknown = [name for name in names or [] if not any(_is_called(path, name) for path in found)]
    if unknown:
        there = ", ".join(path.name for path in found)
        raise UsageError(f"no video called {', '.join(unknown)} in {folder}; there are: {there}")
    if names is not None:
        found = [path for path in found if any(_is_called(path, name) for name in names)]
    _refuse_equal_stems(found)
    return found


def video_stem(path: Path) -> str:
    """What results of this video are called: the file name without its suffix; a folder's whole name."""
    return path.name if path.is_dir() else path.stem


def effective_stride(fps: Fraction | float, sample_stride: int) -> int:
    """Every how many frames a video is sampled: `sample_stride` times the full 24s in `fps`, at least once.

    As in the published model (dwpose/preprocess.py). Raises: UsageError unless `sample_stride` is at least 1.
    """
    if sample_stride < 1:
        raise UsageError(f"sample_stride is {sample_stride}; it must be at least 1")
    return sample_stride * max(1, int(fps / 24))


def playback_speed(source_fps: Fraction | float, stride: int, output_fps: Fraction | float) -> float:
    """How fast the result moves against the video: 1 is real time, 2 twice as fast."""
    return float(stride * output_fps / source_fps)


# ----------------------------------------------------------------------------------------------------
# Video files


def _read_file(path: Path, info: VideoInfo, indices: range) -> Iterator[np.ndarray]:
    """Frames from decord, and from ffmpeg from where decord stops."""
    done = 0
    if _decord_suits(path, info):
        for frame in _pipe_frames(_decord_command(path, info, indices), info, len(indices), logger.info):
            yield frame
            done += 1
        if done == len(indices):
            return
        logger.info("%s: decord gave %d of %d frames; ffmpeg reads the rest", path, done, len(indices))
    rest = indices[done:]
    words: list[str] = []
    for frame in _pipe_frames(_ffmpeg_command(path, rest), info, len(rest), words.append):
        yield frame
        done += 1
    if done < len(indices):
        raise InputError(
            f"{path}: frame {indices[done]} cannot be read any more ({' '.join(words) or 'ffmpeg ended'}); "
            "was the file changed meanwhile?"
        )


def _decord_suits(path: Path, info: VideoInfo) -> bool:
    # It opens only names in UTF-8, has its own choice among several streams, and its memory can be watched on
    # Linux only.
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    plain = info.clean and info.num_video_streams == 1
    return plain and sys.platform == "linux" and importlib.util.find_spec("decord") is not None


def _decord_command(path: Path, info: VideoInfo, indices: range) -> list[str]:
    numbers = (indices.start, indices.stop, indices.step, info.num_frames, info.height, info.width)
    # -P keeps the package's folder, whose file names are common words, out of the process's import path.
    return [sys.executable, "-P", str(DECORD_WORKER), str(path.absolute()), *map(str, numbers)]


def _ffmpeg_command(path: Path, indices: range) -> list[str]:
    select = rf"select=gte(n\,{indices.start})*not(mod(n-{indices.start}\,{indices.step}))"
    # passthrough: otherwise clips of variable frame rate get duplicates. No scaler flags: the default is
    # decord's, others change colours by up to 30 levels.
    output = ["-map", "0:V:0", "-vf", select, "-fps_mode", "passthrough"]
    output += ["-frames:v", str(len(indices)), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    return [ffmpeg_exe(), "-nostdin", "-loglevel", "error", *input_arguments(path), *output]


def _pipe_frames(
    command: list[str], info: VideoInfo, count: int, report: Callable[[str], object]
) -> Iterator[np.ndarray]:
    """Up to `count` frames that `command` writes to its standard output; fewer when it fails or hangs.

    What it last said on standard error then goes to `report`.
    """
    if count == 0:
        return
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, bufsize=1 << 20
        )
        try:
            for _ in range(count):
                frame = np.empty((info.height, info.width, 3), np.uint8)
                if not _fill(process, frame):
                    errors.seek(0)
                    report(complaint(errors.read().decode(errors="replace")))
                    return
                yield frame
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def _fill(process: subprocess.Popen, frame: np.ndarray) -> bool:
    """Reads one whole frame; False at the end of the pipe, which killing a stalled process brings too."""
    watchdog = threading.Timer(STALL_SECONDS, process.kill)
    watchdog.start()
    try:
        return process.stdout.readinto(frame.data.cast("B")) == frame.nbytes
    finally:
        watchdog.cancel()


# ----------------------------------------------------------------------------------------------------
# Folders of frames


def _open_frame_folder(folder: Path, fps: Fraction) -> VideoSource:
    files = _numbered_frames(folder)
    if not files:
        raise InputError(f"{folder} holds no numbered frames; name them like 0001.png or frame_12.jpg")
    width, height = _image_size(files[0])
    for file in files:
        if _image_size(file) != (width, height):
            first = f"{files[0].name} ({width}x{height})"
            raise InputError(f"{file} has another size than {first}; make them equal")
    return VideoSource(
        path=folder,
        fps=fps,
        height=height,
        width=width,
        num_frames=len(files),
        duration=float(len(files) / fps),
        has_audio=False,
        read=lambda indices: (_load_frame(files[index]) for index in indices),
    )


def _numbered_frames(folder: Path) -> list[Path]:
    """Images whose names end in a number, in the order of that number."""
    numbered = sorted(
        (int(number[0]), path)
        for path in folder.iterdir()
        if path.suffix.lower() in FRAME_SUFFIXES
        and not path.name.startswith(".")
        and (number := re.search(r"[0-9]+$", path.stem))
    )
    for (number, path), (other, twin) in itertools.pairwise(numbered):
        if number == other:
            raise InputError(f"{folder}: {path.name} and {twin.name} are both frame {number}; remove one")
    return [path for _, path in numbered]


def _image_size(file: Path) -> tuple[int, int]:
    """(width, height) as shown, from the header alone."""
    from PIL import Image

    require_file(file)
    try:
        with Image.open(file) as image:
            quarter_turn = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
            width, height = reversed(image.size) if quarter_turn else image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{file} cannot be read as an image: {error}; replace or remove it") from error
    require_sane_size(file, width, height)
    return width, height


def _load_frame(file: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except OSError as error:
        raise InputError(f"{file} cannot be read as an image: {error}; replace or remove it") from error


# ----------------------------------------------------------------------------------------------------
# Folders of videos


def _is_video(path: Path) -> bool:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return True
    return path.is_dir() and any(
        file.suffix.lower() in FRAME_SUFFIXES and re.search(r"[0-9]$", file.stem) for file in path.iterdir()
    )


def _is_called(path: Path, name: str) -> bool:
    return name in (path.name, video_stem(path))


def _refuse_equal_stems(paths: list[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        # Without case, since some file systems know none.
        twin = seen.setdefault(video_stem(path).casefold(), path)
        if twin is not path:
            raise UsageError(
                f"{twin.name} and {path.name} in {path.parent} would write the same result; rename one, "
                "or select one by its full name"
            )
