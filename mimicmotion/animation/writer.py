"""Latents -> frames -> files: the mp4 while the VAE decodes, the comparison, the contact sheet."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import torch

from mimicmotion.animation.clip import Clip
from mimicmotion.animation.models import Models
from mimicmotion.config import Config, SamplingSettings
from mimicmotion.features import DrawnPoses
from mimicmotion.pipelines import turbo_steps_and_guidance
from mimicmotion.progress import Progress
from mimicmotion.results import Job, Row, comparison_frames, contact_sheet, evenly_spaced
from mimicmotion.video import VideoWriter

logger = logging.getLogger(__name__)

SHEET_COLUMNS = 8
PANELS = ("driving video", "poses", "result")
SPEED_TOLERANCE = 0.01  # sound is kept where the result plays this close to the driving video's speed


class ResultWriter:
    """Writes results as the settings of a run say; nothing of a clip is in memory as a whole but its latents."""

    def __init__(self, models: Models):
        self.models, self.output, self.sampling = models, models.config.output, models.config.sampling

    def write(self, clip: Clip, latents: torch.Tensor) -> None:
        """Writes the mp4 while the VAE decodes, the comparison if asked for, and the contact sheet.

        Raises: NumericalError for frames that are not finite, SetupError for a full disk.
        """
        picks = self._write_video(clip, latents)
        if self.output.contact_sheet:
            write_sheet(clip, picks, made_with(self.models.config, clip.job))

    def _write_video(self, clip: Clip, latents: torch.Tensor) -> list[np.ndarray]:
        """Writes the mp4(s) piece by piece; returns the frames for the contact sheet."""
        output, job = self.output, clip.job
        audio = clip.video.path if output.audio == "keep" and sound_fits(clip) else None
        wanted, picks, position = set(evenly_spaced(clip.num_frames, SHEET_COLUMNS)), [], 0
        with ExitStack() as stack:
            writer = stack.enter_context(VideoWriter(job.output, job.case.fps, crf=output.crf, audio_from=audio))
            side = None
            if output.comparison:
                path = job.beside("_comparison.mp4")
                side = stack.enter_context(VideoWriter(path, job.case.fps, crf=output.crf))
                driving_frames = (frame for _, frame in clip.video.frames(clip.driving.stride))
            bar = stack.enter_context(Progress("decoding", clip.num_frames, "frame"))
            for frames in decode_frames(self.models.pipeline, latents, self.sampling):
                writer.write(frames)
                bar.update(len(frames))
                for frame in frames:
                    if position in wanted:
                        picks.append(frame)
                    position += 1
                    if side:
                        panels = (next(driving_frames), drawn_frame(clip.drawn, position), frame)
                        side.write(comparison_frames(*panels, labels=PANELS))
        return picks


def made_with(config: Config, job: Job) -> str:
    """The settings that a picture of the result should say."""
    steps, guidance = turbo_steps_and_guidance(config.turbo, job.case)
    return f"{steps} steps, {config.turbo.scheduler}, guidance {guidance:g}, seed {job.case.seed}"


def write_sheet(clip: Clip, picks: list[np.ndarray], subtitle: str) -> None:
    """Writes the contact sheet beside the result; `picks` are its evenly spaced frames."""
    places = evenly_spaced(clip.num_frames, SHEET_COLUMNS)
    wanted = {clip.driving.frame_indices[place] for place in places}
    sampled = clip.video.frames(clip.driving.stride, max_frames=places[-1] + 1)
    numbers = [f"frame {place}" for place in places]
    source_numbers = [f"frame {clip.driving.frame_indices[place]}" for place in places]
    rows = [
        Row("reference", [clip.reference.pixels]),
        Row("driving video", [frame for index, frame in sampled if index in wanted], source_numbers),
        Row("poses, fitted to the reference", [drawn_frame(clip.drawn, place + 1) for place in places], numbers),
        Row("result", picks, numbers),
    ]
    contact_sheet(clip.job.beside(".jpg"), rows, title=clip.job.output.stem, subtitle=subtitle)


def sound_fits(clip: Clip) -> bool:
    """Whether the driving video has sound and the result plays at its speed."""
    if not clip.video.has_audio:
        return False
    if abs(clip.playback_speed - 1) > SPEED_TOLERANCE:
        speed = f"{clip.playback_speed:.2f}"
        logger.info("The sound is dropped: the result plays at %s times the driving video's speed", speed)
        return False
    return True


def drawn_frame(drawn: DrawnPoses, index: int) -> np.ndarray:
    """One drawn pose as uint8 (height, width, 3)."""
    return drawn[[index]][0].permute(1, 2, 0).numpy()


def decode_frames(
    pipeline, latents: torch.Tensor, sampling: SamplingSettings, drop_first: int = 1
) -> Iterator[np.ndarray]:
    """Decodes latents (1, frames, ...) to uint8 (n, height, width, 3) pieces, in order, rounded to nearest.

    The first `drop_first` frames, the reference's own, are decoded (the VAE needs them) and left out.
    """
    for chunk in pipeline.decode_in_chunks(latents, sampling.decode_chunk_size, sampling.decode_overlap):
        frames = ((chunk[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        dropped = min(drop_first, len(frames))
        drop_first -= dropped
        if len(frames) > dropped:
            yield frames[dropped:].permute(0, 2, 3, 1).contiguous().numpy()
