"""What a video file really holds, found by decoding it once.

Headers lie: a clip cut with `ffmpeg -c copy` lists frames that are never shown, a browser's recording claims 1000
frames a second, and a download that stopped half way lists frames that are not there. One pass that decodes and throws
away tells the real count, the real times, and what is damaged.
"""

import logging
import os
import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mimicmotion.config import VideoSettings
from mimicmotion.errors import InputError
from mimicmotion.video import timing
from mimicmotion.video.ffmpeg import MAX_FPS
from mimicmotion.video.process import ask

logger = logging.getLogger(__name__)

# A file may have rounded its times to milliseconds before they came into this container.
MILLISECOND = 0.001
# Errors that cover so many frames are told, more are refused.
FEW_FRAMES = 3
# So much earlier than its header says a file may end: durations are rounded, and streams differ in length.
END_SECONDS, END_FRAMES, END_SHARE = 0.5, 4, 0.02


@dataclass(frozen=True)
class VideoInfo:
    """A video file that decodes.

    `height` and `width` are those of the picture as shown: upright, with square pixels. `num_frames` counts decoded
    frames; `fps` is how many a second there are on average. `times` are the frames' in seconds from the first one;
    None where they come evenly. `duration` is in seconds, None where the container has none. `audio_offset` is how
    many seconds after the picture the sound starts. `num_video_streams` counts cover pictures too. `turn` holds the
    filters that put the picture upright, `sample_aspect` is width over height of a stored pixel, `transfer` "PQ" or
    "HLG" for HDR. `promised_frames` is how many frames the header leads to expect, about; `damaged_frames` are those
    that errors cover; `whole` is False where data are missing; `clean` is False where there was any error; `alpha_lost`
    is True where there is transparency that no decoder here can read.
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
    times: tuple[float, ...] | None = None
    audio_offset: float = 0.0
    turn: tuple[str, ...] = ()
    sample_aspect: float = 1.0
    interlaced: bool = False
    transfer: str | None = None
    promised_frames: int = 0
    damaged_frames: int = 0
    whole: bool = True
    alpha_lost: bool = False

    @property
    def usable(self) -> bool:
        """Whether all is there, but for errors in a few frames."""
        return self.whole and self.damaged_frames <= FEW_FRAMES

    @property
    def damage(self) -> str:
        """What is wrong with the data, in words; "" where nothing is."""
        if not self.whole:
            return f"{self.num_frames} frames can be read of about {self.promised_frames}"
        if self.damaged_frames:
            return f"errors cover {self.damaged_frames} of {self.num_frames} frames"
        return ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done to the frames beside decoding, and what is wrong with them, in words."""
        notes = []
        if self.times is not None:
            notes.append(f"its frames come unevenly: sampled at equal instants, {timing.RESAMPLED_FPS} a second")
        if self.sample_aspect != 1:
            notes.append(f"its pixels are {self.sample_aspect:.4g} times as wide as high: made square")
        if self.interlaced:
            notes.append("it is interlaced: deinterlaced")
        if self.transfer:
            notes.append(f"it is HDR ({self.transfer}): tone-mapped")
        if self.alpha_lost:
            notes.append("its transparency cannot be read: what it hides shows")
        if self.damage:
            notes.append(f"it is damaged: {self.damage}")
        return tuple(notes)


def probe_video(path: str | Path, settings: VideoSettings | None = None) -> VideoInfo:
    """Decodes the whole file once, in a process of its own, and describes its first video stream.

    A damaged file is described as well: see `VideoInfo.usable`.

    Raises: InputError that says what is wrong with the file: missing, not a regular file, not a video, no frames,
    beyond the limits of `settings`, turned by an odd angle.
    """
    require_file(path)
    facts = ask(Path(path), "facts", limits(settings or VideoSettings()))
    base = Fraction(*facts["time_base"])
    times = timing.clean_times(facts["pts"], base, facts.get("restarts", False))
    claims = [Fraction(*claim) for claim in facts["claimed_rates"]]
    fps, even = timing.frame_rate(times, claims, max(float(base), MILLISECOND))
    if fps is None or not 0 < fps <= MAX_FPS:
        told = "says nothing of" if fps is None else f"has {float(fps):g}"
        raise InputError(
            f"{path} cannot be read as a video: it {told} frames a second, which are above 0 and at most {MAX_FPS}"
        )
    duration, num_frames = facts["duration"], len(times)
    promised = max(num_frames, facts.get("claimed_frames", 0), round((duration or 0) * fps))
    return VideoInfo(
        codec=facts["codec"],
        pix_fmt=facts["pix_fmt"],
        height=facts["height"],
        width=facts["width"],
        fps=fps,
        num_frames=num_frames,
        duration=duration,
        has_audio=facts.get("has_audio", False),
        num_video_streams=facts.get("num_video_streams", 1),
        clean=facts["clean"],
        times=None if even else tuple(times),
        audio_offset=facts.get("audio_offset") or 0.0,
        turn=tuple(facts.get("turn", ())),
        sample_aspect=float(Fraction(*facts.get("sample_aspect", (1, 1)))),
        interlaced=facts.get("interlaced", False),
        transfer=facts.get("transfer"),
        promised_frames=promised,
        damaged_frames=facts.get("damaged_frames", 0),
        alpha_lost=facts.get("alpha_lost", False),
        whole=not facts.get("holes", 0) and not _ends_early(facts, fps),
    )


def _ends_early(facts: dict, fps: Fraction) -> bool:
    duration = facts["duration"]
    if duration is None:
        return False
    return duration - facts["end"] > max(END_SECONDS, END_FRAMES / fps, END_SHARE * duration)


def limits(settings: VideoSettings) -> dict:
    """What a worker refuses to exceed."""
    return {
        "max_side": settings.max_side,
        "max_pixels": settings.max_pixels,
        "max_frames": settings.max_frames,
        "max_bytes": settings.max_bytes,
    }


def require_usable(path: str | Path, info: VideoInfo, accept_damaged: bool) -> None:
    """Raises: InputError for a damaged file, unless `accept_damaged`; that and smaller damage is a warning."""
    if not info.damage:
        return
    if info.usable or accept_damaged:
        logger.warning("%s is damaged: %s", path, info.damage)
        return
    what = "the data are damaged or end early" if not info.whole else "the data are damaged"
    raise InputError(
        f"{path}: {what}: {info.damage}; copy or download the file again, or take what is there with --accept_damaged"
    )


def sound_start(path: str | Path, settings: VideoSettings | None = None) -> float | None:
    """How many seconds after the picture the sound of a file starts; None for a file without sound.

    Raises: InputError where it cannot be read.
    """
    require_file(path)
    facts = ask(Path(path), "sound", limits(settings or VideoSettings()))
    return (facts["audio_offset"] or 0.0) if facts["has_audio"] else None


def require_file(path: str | Path, wanted: str = "a video file or a folder of frames") -> None:
    """Raises: InputError unless `path` is a regular file with content. Opens nothing, so it cannot block."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}; check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is not a regular file; give {wanted}")
    if status.st_size == 0:
        raise InputError(f"{path} is empty; copy or download it again")
