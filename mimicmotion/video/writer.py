"""Writing H.264 video: frames stream into ffmpeg while later ones are still being made.

The file appears under its name only when it is complete. The same frames give the same bytes. ffmpeg is the program of
imageio-ffmpeg and not the libraries of PyAV: a full disk, a crash or a kill then ends another process, which keeps its
own words about it; and the bytes of results that exist stay what they are.
"""

import contextlib
import errno
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from mimicmotion.errors import MACHINE_ERRORS, MimicMotionError, SetupError, UsageError
from mimicmotion.files import atomic_path
from mimicmotion.video import process
from mimicmotion.video.ffmpeg import as_fps, complaint, ffmpeg_exe, input_arguments
from mimicmotion.video.probe import sound_start
from mimicmotion.video.process import end, ends_by_itself, watched

# x264's bits depend on its number of threads, so that is fixed, whatever the machine has.
ENCODER_THREADS = 4
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
# Sound that starts so near to the picture, in seconds, starts with it: containers round times to milliseconds.
IN_STEP = 0.005
MACHINE_COMPLAINTS = (
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "Permission denied",
    "Input/output error",
    "Cannot allocate memory",
    "File too large",
    "Too many open files",
    "Stale file handle",
)


class VideoWriter:
    """Streams RGB frames into an mp4; used as `with VideoWriter(path, fps) as writer: writer.write(frames)`.

    Odd sizes grow by one repeated row or column, since yuv420p wants even ones. On an error or an interrupt
    in the block nothing new is left under `path`, and a file that was there stays.

    Args:
        path: the .mp4 to write; its folder is made.
        fps: frames per second, exact as a Fraction.
        crf: x264's quality, 0 (lossless) to 51.
        audio_from: a video whose sound is kept, from where its picture starts, padded with silence or cut to the
            length of the frames. It may have no sound, or be a folder of frames.
        preset: x264's preset, "ultrafast" to "veryslow".
        metadata: tags such as {"comment": ...} that the container stores.

    Raises:
        UsageError: for a bad suffix, fps, crf or preset.
        InputError: when `audio_from` cannot be read.
        SetupError: when the disk is full or the folder cannot be written.
        MimicMotionError: when no frame was written or ffmpeg refuses something else, with its own words.
    """

    def __init__(
        self,
        path: str | Path,
        fps: Fraction | float,
        *,
        crf: int = 18,
        audio_from: str | Path | None = None,
        preset: str = "medium",
        metadata: Mapping[str, str] | None = None,
    ):
        self.path = Path(path)
        self.fps = as_fps(fps)
        if self.path.suffix.lower() != ".mp4":
            raise UsageError(f"{path}: videos are written as .mp4")
        if not 0 <= crf <= 51:
            raise UsageError(f"crf is {crf}; it goes from 0 (lossless) to 51")
        if preset not in PRESETS:
            raise UsageError(f"preset is {preset!r}; x264 knows {', '.join(PRESETS)}")
        self.crf = crf
        self.preset = preset
        self.metadata = dict(metadata or {})
        self.frames_written = 0
        has_file = audio_from is not None and not Path(audio_from).is_dir()
        self._sound_start = sound_start(audio_from) if has_file else None
        self._audio_from = audio_from if self._sound_start is not None else None
        self._ffmpeg: subprocess.Popen | None = None
        self._frame_shape: tuple[int, ...] | None = None

    def __enter__(self) -> "VideoWriter":
        self._file = self._atomic_file()
        return self._file.__enter__()

    def __exit__(self, *error) -> bool | None:
        return self._file.__exit__(*error)

    def write(self, frames: np.ndarray) -> None:
        """Appends uint8 (F, H, W, 3) or (H, W, 3) RGB frames; all calls bring the same H and W.

        Raises: ValueError for another shape or type; SetupError, MimicMotionError when ffmpeg has failed.
        """
        if frames.ndim == 3:
            frames = frames[None]
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape[1:]:
            raise ValueError(f"frames are uint8 (F, H, W, 3), not {frames.dtype} {frames.shape}")
        if self._frame_shape not in (None, frames.shape[1:]):
            raise ValueError(f"a frame of {frames.shape[1:]} follows frames of {self._frame_shape}")
        for frame in frames:
            height, width, _ = self._frame_shape = frame.shape
            self._write_frame(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))

    def _write_frame(self, frame: np.ndarray) -> None:
        if self._ffmpeg is None:
            self._ffmpeg = self._start_ffmpeg(*frame.shape[:2])
        try:
            with watched(self._ffmpeg) as stalled:
                self._ffmpeg.stdin.write(frame.data.cast("B"))
        except OSError as error:
            if stalled.is_set():
                raise self._hangs() from error
            # ffmpeg has closed the pipe, and mostly says why.
            self._finish()
            raise MimicMotionError(f"ffmpeg stopped taking frames for {self.path}") from error
        self.frames_written += 1

    @contextlib.contextmanager
    def _atomic_file(self) -> Iterator["VideoWriter"]:
        with atomic_path(self.path) as temporary, tempfile.TemporaryFile() as self._errors:
            # Sound is added when the frames' length is known: ffmpeg's -shortest, all in one go, ends the sound
            # a few packets earlier or later from run to run.
            silent = temporary.with_stem(f"{temporary.stem}-silent")
            self._pictures = silent if self._audio_from is not None else temporary
            try:
                yield self
                self._finish()
                if self._audio_from is not None:
                    self._add_sound(temporary)
            finally:
                self._stop_ffmpeg()
                silent.unlink(missing_ok=True)

    def _start_ffmpeg(self, height: int, width: int) -> subprocess.Popen:
        command = [ffmpeg_exe(), "-nostdin", "-y", "-loglevel", "error"]
        command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}"]
        command += ["-framerate", str(self.fps), "-i", "pipe:0"]
        command += [*self._encoder_arguments(), *self._container_arguments()]
        return self._popen(command, self._pictures)

    def _add_sound(self, target: Path) -> None:
        """Writes the finished pictures and the sound, cut or padded to their length, into `target`."""
        seconds = f"{float(self.frames_written / self.fps):.6f}"
        command = [ffmpeg_exe(), "-nostdin", "-y", "-loglevel", "error"]
        command += [*input_arguments(self._pictures), *input_arguments(self._audio_from)]
        command += ["-map", "0:v:0", "-map", "1:a:0", "-c:v", "copy", "-c:a", "aac"]
        fit = f"{self._shift_sound()}apad=whole_dur={seconds},atrim=duration={seconds}"
        command += ["-af", fit, *self._container_arguments()]
        self._ffmpeg = self._popen(command, target)
        self._finish()

    def _shift_sound(self) -> str:
        """Filters that let the sound begin with the picture: what comes before it is cut, a later start is silence."""
        if abs(self._sound_start) < IN_STEP:
            return ""
        if self._sound_start > 0:
            return f"asetpts=PTS-STARTPTS,adelay=delays={1000 * self._sound_start:.3f}:all=1,"
        return f"asetpts=PTS-STARTPTS,atrim=start={-self._sound_start:.6f},asetpts=PTS-STARTPTS,"

    def _popen(self, command: list[str], target: Path) -> subprocess.Popen:
        self._target = target
        # A session of its own: Ctrl-C reaches this process, which decides what becomes of the file.
        return subprocess.Popen(
            [*command, f"file:{target.absolute()}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )

    def _encoder_arguments(self) -> list[str]:
        # The conversion and the tag must name the same matrix, or players shift the colours.
        tags = "color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
        convert = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int"
        arguments = ["-vf", f"{convert},format=yuv420p,setparams={tags}"]
        arguments += ["-c:v", "libx264", "-crf", str(self.crf), "-preset", self.preset]
        return [*arguments, "-threads", str(ENCODER_THREADS)]

    def _container_arguments(self) -> list[str]:
        # No date, no program versions: equal frames give equal files.
        arguments = ["-movflags", "+faststart", "-map_metadata", "-1", "-fflags", "+bitexact", "-flags", "+bitexact"]
        for key, value in self.metadata.items():
            arguments += ["-metadata", f"{key}={value}"]
        return arguments

    def _finish(self) -> None:
        """Waits for ffmpeg to complete its file, and checks that it did."""
        if self._ffmpeg is None:
            raise MimicMotionError(f"no frame was written to {self.path}")
        with watched(self._ffmpeg) as stalled, contextlib.suppress(BrokenPipeError):
            self._ffmpeg.stdin.close()
        if not ends_by_itself(self._ffmpeg, self._sign_of_work) or stalled.is_set():
            raise self._hangs()
        status = self._ffmpeg.returncode
        self._errors.seek(0)
        log = self._errors.read().decode(errors="replace")
        machine = next((words for words in MACHINE_COMPLAINTS if words in log), None)
        if machine:
            raise SetupError(f"cannot write {self.path}: {machine}; free some space or choose another folder")
        if status == -signal.SIGXFSZ:
            raise SetupError(f"cannot write {self.path}: {MACHINE_ERRORS[errno.EFBIG]}")
        if status == -signal.SIGKILL:
            raise MimicMotionError(f"ffmpeg was killed while it wrote {self.path}, as for lack of memory; free some")
        if status != 0:
            words = complaint(log) or f"it ended with status {status}"
            raise MimicMotionError(f"ffmpeg could not write {self.path}: {words}")

    def _sign_of_work(self) -> tuple[int, int] | None:
        """What changes while ffmpeg writes."""
        try:
            status = os.stat(self._target)
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns

    def _hangs(self) -> MimicMotionError:
        what = f"ffmpeg hangs (no sign of life for {process.STALL_SECONDS:g} s) and was ended"
        return MimicMotionError(f"{self.path}: {what}; run it again, or check disk and machine")

    def _stop_ffmpeg(self) -> None:
        if self._ffmpeg is None:
            return
        end(self._ffmpeg)
        with contextlib.suppress(BrokenPipeError):
            self._ffmpeg.stdin.close()
        self._ffmpeg.wait()
