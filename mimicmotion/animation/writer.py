"""Latents -> frames -> files: the mp4 while the VAE decodes, the comparison, the contact sheet."""

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from mimicmotion.animation.clip import SHEET_COLUMNS, Clip
from mimicmotion.animation.models import Models
from mimicmotion.animation.record import COMPARISON, SHEET
from mimicmotion.config import Config, SamplingSettings
from mimicmotion.errors import InputError
from mimicmotion.features import DrawnPoses
from mimicmotion.pipelines import turbo_steps_and_guidance
from mimicmotion.progress import Progress
from mimicmotion.results import Job, Row, comparison_frames, contact_sheet, evenly_spaced, recipe_tag
from mimicmotion.video import VideoWriter, open_video
from mimicmotion.weights import FULL

logger = logging.getLogger(__name__)

PANELS = ("driving video", "poses", "result")
SPEED_TOLERANCE = 0.01  # sound is kept where the result plays this close to the driving video's speed


class ResultWriter:
    """Writes results as the settings of a run say; nothing of a clip is in memory as a whole but its latents."""

    def __init__(self, models: Models):
        self.models, self.output, self.sampling = models, models.config.output, models.config.sampling

    def write(self, clip: Clip, latents: torch.Tensor, made_from: dict, decoder=None) -> None:
        """Writes the mp4 while the VAE decodes, the comparison if asked for, and the contact sheet.

        Mp4 and sheet carry the hash of the recipe `made_from`: a file that was sent to somebody can be told by it.
        `decoder` is another than that of the models.

        Raises: NumericalError for frames that are not finite, SetupError for a full disk.
        """
        job, output = clip.job, self.output
        audio = clip.video.path if output.audio == "keep" and sound_fits(clip) else None
        tags = {"comment": recipe_tag(made_from)}
        with VideoWriter(job.output, job.case.fps, crf=output.crf, audio_from=audio, metadata=tags) as writer:
            frames = written(writer, decode_frames(decoder or self.models.decoder, latents, self.sampling))
            picks = self._follow(clip, frames, output.comparison)
        if output.contact_sheet:
            write_sheet(clip, picks, made_with(self.models.config, job), recipe_tag(made_from))

    def complete(self, clip: Clip, missing: Collection[Path], made_from: dict) -> None:
        """Makes the companions `missing` of a finished result from its mp4.

        Raises: InputError when the mp4 is not as long as the clip; SetupError for a full disk.
        """
        job = clip.job
        result = open_video(job.output)
        if result.num_frames != clip.num_frames:
            what = f"{job.output} has {result.num_frames} frames, its driving video gives {clip.num_frames}"
            raise InputError(f"{what}; pass --overwrite to make it again")
        picks = self._follow(clip, (frame[None] for _, frame in result.frames()), job.beside(COMPARISON) in missing)
        if job.beside(SHEET) in missing:
            write_sheet(clip, picks, made_with(self.models.config, job), recipe_tag(made_from))

    def _follow(self, clip: Clip, result: Iterable[np.ndarray], comparison: bool) -> list[np.ndarray]:
        """Takes the result's frames piece by piece; returns those for the contact sheet, writes a comparison if asked
        for.
        """
        wanted, picks, position = set(evenly_spaced(clip.num_frames, SHEET_COLUMNS)), [], 0
        with ExitStack() as stack:
            side = None
            if comparison:
                path = clip.job.beside(COMPARISON)
                side = stack.enter_context(VideoWriter(path, clip.job.case.fps, crf=self.output.crf))
                driving_frames = (frame for _, frame in clip.video.frames(clip.driving.stride))
            bar = stack.enter_context(Progress("decoding", clip.num_frames, "frame"))
            for frames in result:
                bar.update(len(frames))
                for frame in frames:
                    if position in wanted:
                        picks.append(frame)
                    position += 1
                    if side:
                        panels = (next(driving_frames), drawn_frame(clip.drawn, position), frame)
                        side.write(comparison_frames(*panels, labels=PANELS))
        return picks


def written(writer: VideoWriter, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields pieces of frames that have just been written."""
    for frames in pieces:
        writer.write(frames)
        yield frames


def made_with(config: Config, job: Job) -> str:
    """The settings that a picture of the result should say."""
    steps, guidance = turbo_steps_and_guidance(config.turbo, job.case)
    decoder = "" if config.sampling.decoder == FULL else f", decoder {Path(config.sampling.decoder).name}"
    return f"{steps} steps, {config.turbo.scheduler}, guidance {guidance:g}, seed {job.case.seed}{decoder}"


def write_sheet(clip: Clip, picks: list[np.ndarray], subtitle: str, comment: str) -> None:
    """Writes the contact sheet beside the result; `picks` are its evenly spaced frames."""
    places = evenly_spaced(clip.num_frames, SHEET_COLUMNS)
    wanted = [clip.driving.frame_indices[place] for place in places]
    numbers = [f"frame {place}" for place in places]
    source_numbers = [f"frame {clip.driving.frame_indices[place]}" for place in places]
    rows = [
        Row("reference", [clip.reference.pixels]),
        Row("driving video", list(clip.video.read(wanted)), source_numbers),
        Row("poses, fitted to the reference", [drawn_frame(clip.drawn, place + 1) for place in places], numbers),
        Row("result", picks, numbers),
    ]
    contact_sheet(clip.job.beside(SHEET), rows, title=clip.job.output.stem, subtitle=subtitle, comment=comment)


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
    decoder, latents: torch.Tensor, sampling: SamplingSettings, drop_first: int = 1
) -> Iterator[np.ndarray]:
    """Decodes latents (1, frames, ...) to uint8 (n, height, width, 3) pieces, in order, rounded to nearest.

    The first `drop_first` frames, the reference's own, are decoded (the VAE needs them) and left out.
    """
    asked = (sampling.decode_chunk_size, sampling.decode_overlap, sampling.decode_tile)
    for chunk in decoder.decode_in_chunks(latents, *asked):
        frames = ((chunk[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        dropped = min(drop_first, len(frames))
        drop_first -= dropped
        if len(frames) > dropped:
            yield frames[dropped:].permute(0, 2, 3, 1).contiguous().numpy()
