"""Joined latents -> frames -> mp4, piece by piece."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mimicmotion.animation import decode_frames
from mimicmotion.config import Config, SamplingSettings
from mimicmotion.errors import MimicMotionError
from mimicmotion.latent_concat.join import Part, decode_groups
from mimicmotion.progress import Progress
from mimicmotion.video import VideoWriter


def joined_frames(
    decoder, parts: Iterable[Part], sampling: SamplingSettings, isolate: bool = False
) -> Iterator[np.ndarray]:
    """The shown frames of joined latents, uint8 (n, height, width, 3) pieces; few are in memory at a time."""
    for latents, hidden in decode_groups(list(parts), isolate):
        yield from decode_frames(decoder, latents, sampling, drop_first=hidden)


def write_video(path: Path, decoder, parts: list[Part], fps: float, config: Config, isolate: bool = False) -> int:
    """Writes an mp4 while the VAE decodes; returns its number of frames."""
    total = sum(part.shown for part in parts)
    with (
        VideoWriter(path, fps, crf=config.output.crf) as writer,
        Progress("decoding", total, "frame") as progress,
    ):
        for frames in joined_frames(decoder, parts, config.sampling, isolate):
            writer.write(frames)
            progress.update(len(frames))
    if writer.frames_written != total:
        raise MimicMotionError(f"{path} has {writer.frames_written} frames instead of {total}")
    return total
