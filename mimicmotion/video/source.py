"""Driving videos: their frames one after the other, as often as wanted.

Frames come from PyAV, or from decord where it is asked for and can be trusted with a file; both give the same pixels.
Both run as processes that write raw frames into a pipe.
"""

import functools
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from mimicmotion.config import VideoSettings
from mimicmotion.errors import InputError, UsageError
from mimicmotion.video import timing
from mimicmotion.video.ffmpeg import as_fps
from mimicmotion.video.frame_folder import open_frame_folder
from mimicmotion.video.probe import VideoInfo, limits, probe_video, require_usable
from mimicmotion.video.process import pipe_frames, worker_command

logger = logging.getLogger(__name__)

FRAME_FOLDER_FPS = 30
DECORD_WORKER = Path(__file__).with_name("decord_worker.py")
# The table that tone mapping looks colours up in takes libswscale 7 s of a processor before the first frame.
HDR_PATIENCE = 5
FRAMES_IN_SILENCE = 500  # that any machine decodes before it counts as hanging
# Of these decord, with libraries of 2018, makes the same colours as PyAV. Of 10-bit 4:2:0, for one, it does not.
DECORD_PIX_FMTS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "gray", "rgb24", "bgr0"}


@dataclass(frozen=True)
class VideoSource:
    """A video whose frames can be read, as often as wanted. Holds no open file.

    `fps` is the frame rate, `height` and `width` are the picture's as shown, `num_frames` counts frames that really
    decode, `duration` is in seconds (None: the container does not say). A video whose frames come unevenly appears as
    one of 30 frames a second, each the nearest in time. `read` yields the frames (uint8 (H, W, 3), RGB) of growing
    indices. `notes` say in words what is done to the frames, and what is wrong with them; `info` is what was found in a
    video file, None for a folder of frames.
    """

    path: Path
    fps: Fraction
    height: int
    width: int
    num_frames: int
    duration: float | None
    has_audio: bool
    read: Callable[[Sequence[int]], Iterator[np.ndarray]] = field(repr=False)
    notes: tuple[str, ...] = ()
    info: VideoInfo | None = None

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

    def remembering(self, indices: Sequence[int], max_bytes: int) -> "VideoSource":
        """The same video, which keeps these frames when it is read, unless they take more than `max_bytes`: to read
        nothing but some of them again costs nothing then.
        """
        if len(indices) * self.height * self.width * 3 > max_bytes:
            return self
        return replace(self, read=_Remembering(self.read, indices))


class _Remembering:
    """The `read` of a video that keeps some frames."""

    def __init__(self, read: Callable[[Sequence[int]], Iterator[np.ndarray]], wanted: Sequence[int]):
        self._read, self._kept = read, dict.fromkeys(wanted)

    def __call__(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        kept = [self._kept.get(index) for index in indices]
        if all(frame is not None for frame in kept):
            yield from (frame.copy() for frame in kept)
            return
        for index, frame in zip(indices, self._read(indices), strict=True):
            if index in self._kept:
                self._kept[index] = frame.copy()
            yield frame


def open_video(
    path: str | Path,
    fps: Fraction | float = FRAME_FOLDER_FPS,
    info: VideoInfo | None = None,
    settings: VideoSettings | None = None,
) -> VideoSource:
    """Opens a video file, or a folder of numbered pictures shown at `fps`.

    A file is decoded once before anything is returned, so that `num_frames` is real; not where `info` is given, what
    `probe_video` found in this very file before.

    Raises: InputError that names the file, what is wrong with it and what to do; UsageError for a bad `fps`;
    SetupError where the reader's library is missing.
    """
    path, settings = Path(path), settings or VideoSettings()
    if path.is_dir():
        folder = open_frame_folder(path, settings)
        fps = as_fps(fps)
        source = VideoSource(
            path=path,
            fps=fps,
            height=folder.height,
            width=folder.width,
            num_frames=len(folder.files),
            duration=float(len(folder.files) / fps),
            has_audio=False,
            read=folder.read,
            notes=folder.notes,
        )
    else:
        info = info or probe_video(path, settings)
        require_usable(path, info, settings.accept_damaged)
        source = _file_source(path, info, settings)
    for note in source.notes:
        logger.info("%s: %s", path, note)
    return source


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


def _file_source(path: Path, info: VideoInfo, settings: VideoSettings) -> VideoSource:
    fps, num_frames, read = info.fps, info.num_frames, functools.partial(_read_file, path, info, settings)
    if info.times is not None:
        fps, num_frames = Fraction(timing.RESAMPLED_FPS), timing.num_resampled(info.times)
        read = functools.partial(_read_instants, path, info, settings)
    if num_frames > settings.max_frames:
        raise InputError(f"{path}: it lasts {num_frames} frames; the limit is {settings.max_frames} (video.max_frames)")
    return VideoSource(
        path=path,
        fps=fps,
        height=info.height,
        width=info.width,
        num_frames=num_frames,
        duration=info.duration,
        has_audio=info.has_audio,
        read=read,
        notes=info.notes,
        info=info,
    )


def _read_instants(path: Path, info: VideoInfo, settings: VideoSettings, indices: range) -> Iterator[np.ndarray]:
    """For each index the frame that is nearest to index / 30 seconds; one may come several times."""
    wanted = [timing.frame_at(info.times, index / timing.RESAMPLED_FPS) for index in indices]
    distinct = list(dict.fromkeys(wanted))
    frames = zip(distinct, _read_file(path, info, settings, distinct), strict=True)
    here, frame = None, None
    for index in wanted:
        if here != index:
            here, frame = next(frames)
            yield frame.copy()
        else:
            yield frame.copy()


def _read_file(path: Path, info: VideoInfo, settings: VideoSettings, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames of growing indices: from decord where it is asked for and fits, and from PyAV what that does not give."""
    shape, done = (info.height, info.width, 3), 0
    if settings.reader == "decord" and isinstance(indices, range) and decord_suits(path, info):
        command = _decord_command(path, info, indices)
        for frame in pipe_frames(command, None, shape, len(indices), logger.info):
            yield frame
            done += 1
        if done == len(indices):
            return
        logger.info("%s: decord gave %d of %d frames; PyAV reads the rest", path, done, len(indices))
    rest = indices[done:]
    words: list[str] = []
    request = _request(path, info, settings, rest)
    # What lies between two of them is decoded in silence.
    gap = max((after - before for before, after in pairwise((0, *rest))), default=0)
    patience = (HDR_PATIENCE if info.transfer else 1) * (1 + gap // FRAMES_IN_SILENCE)
    for frame in pipe_frames(worker_command(path), request, shape, len(rest), words.append, patience):
        yield frame
        done += 1
    if done < len(indices):
        raise InputError(
            f"{path}: frame {indices[done]} cannot be read any more ({' '.join(words) or 'the reader ended'}); "
            "was the file changed meanwhile?"
        )


def decord_suits(path: Path, info: VideoInfo) -> bool:
    """Whether decord gives the same frames of this file as PyAV.

    It turns mirrored pictures wrongly, knows neither sample aspect nor interlacing nor HDR, opens only names in UTF-8
    and has its own choice among several streams. Its memory can be watched on Linux only.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    plain = info.clean and info.num_video_streams == 1 and info.times is None and info.pix_fmt in DECORD_PIX_FMTS
    as_stored = not info.turn and info.sample_aspect == 1 and not info.interlaced and info.transfer is None
    return plain and as_stored and sys.platform == "linux" and importlib.util.find_spec("decord") is not None


def _decord_command(path: Path, info: VideoInfo, indices: range) -> list[str]:
    numbers = (indices.start, indices.stop, indices.step, info.num_frames, info.height, info.width)
    # -P keeps the package's folder, whose file names are common words, out of the process's import path.
    return [sys.executable, "-P", str(DECORD_WORKER), str(path.absolute()), *map(str, numbers)]


def _request(path: Path, info: VideoInfo, settings: VideoSettings, indices: Sequence[int]) -> dict:
    wanted = {"indices": indices}
    if isinstance(indices, range):
        wanted = {"range": [indices.start, indices.stop, indices.step]}
    return {
        "task": "frames",
        "path": str(path.absolute()),
        "height": info.height,
        "width": info.width,
        "turn": info.turn,
        "interlaced": info.interlaced,
        "transfer": info.transfer,
        "one_thread": not info.clean,
        **limits(settings),
        **wanted,
    }
