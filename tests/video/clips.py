"""Small clips whose frames carry their own index, so that tests can tell which frame they got."""

import subprocess
from pathlib import Path

import numpy as np

from mimicmotion.video.ffmpeg import ffmpeg_exe

BITS = 8
BLOCK = 16
HEIGHT, WIDTH = 64, BITS * BLOCK


def numbered_frame(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A frame with `index` as black and white blocks along its upper half; below red left, blue right."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[HEIGHT // 2 :, : WIDTH // 2, 0] = 255
    frame[HEIGHT // 2 :, WIDTH // 2 :, 2] = 255
    for bit in range(BITS):
        frame[: HEIGHT // 2, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (index >> bit & 1)
    return frame


def read_index(frame: np.ndarray) -> int:
    """The index that `numbered_frame` drew, also after lossy coding."""
    return sum((frame[BLOCK // 2, bit * BLOCK + BLOCK // 2].mean() > 127) << bit for bit in range(BITS))


def run_ffmpeg(*arguments: str | Path, pixels: bytes | None = None) -> None:
    command = [ffmpeg_exe(), "-y", "-loglevel", "error", *arguments]
    done = subprocess.run(command, input=pixels or b"", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def make_clip(
    path: Path,
    count: int = 40,
    fps: str = "30",
    coding: tuple = (),
    sound: float = 0,
    size: tuple = (HEIGHT, WIDTH),
) -> Path:
    """Writes `count` numbered frames, and `sound` seconds of a tone, as `path`'s suffix asks."""
    frames = b"".join(numbered_frame(index, *size).tobytes() for index in range(count))
    arguments = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[1]}x{size[0]}", "-r", fps, "-i", "-"]
    if sound:
        arguments += ["-f", "lavfi", "-i", f"sine=d={sound}"]
    if path.suffix.lower() in (".mp4", ".mov", ".mkv") and not coding:
        coding = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "25", "-preset", "veryfast")
    run_ffmpeg(*arguments, *coding, path, pixels=frames)
    return path


def cut_file(source: Path, target: Path, keep: float | int) -> Path:
    """Copies the first part of a file: a fraction of it, or all but the last -keep bytes."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * keep) if keep > 0 else keep])
    return target
