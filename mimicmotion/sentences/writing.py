"""A sentence's latents -> mp4, and a picture: the whole, and the frames around each join."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mimicmotion.animation import Models, decode_frames
from mimicmotion.errors import MimicMotionError
from mimicmotion.features import DrawnPoses
from mimicmotion.progress import Progress
from mimicmotion.results import Job, Row, contact_sheet, evenly_spaced, recipe_tag
from mimicmotion.sentences.subtitles import Spoken
from mimicmotion.video import VideoWriter

SHEET = ".jpg"
COLUMNS = 8
BESIDE = 2  # frames of both words that are shown beside a transition


@dataclass(frozen=True)
class Join:
    """Frames `first` to `stop` (excluded) lie between two words; `fastest`: body heights per second of the hands."""

    between: str
    first: int
    stop: int
    fastest: float


def write_video(models: Models, job: Job, latents: torch.Tensor, wanted: set[int], made_from: dict) -> dict:
    """Writes the mp4 while the VAE decodes; returns the frames with the numbers `wanted`.

    Raises: NumericalError for frames that are not finite, SetupError for a full disk.
    """
    total, position, kept = latents.shape[1] - 1, 0, {}
    tags, crf = {"comment": recipe_tag(made_from)}, models.config.output.crf
    with (
        VideoWriter(job.output, job.case.fps, crf=crf, metadata=tags) as writer,
        Progress("decoding", total, "frame") as bar,
    ):
        for frames in decode_frames(models.decoder, latents, models.config.sampling):
            writer.write(frames)
            bar.update(len(frames))
            kept |= {position + i: frame for i, frame in enumerate(frames) if position + i in wanted}
            position += len(frames)
        if position != total:
            raise MimicMotionError(f"{job.output} has {position} frames instead of {total}")
    return kept


def shown_frames(total: int, joins: Sequence[Join]) -> tuple[list[int], list[list[int]]]:
    """Which frames the picture shows: of the whole sentence, and around each join."""
    around = []
    for join in joins:
        frames = range(max(0, join.first - BESIDE), min(total, join.stop + BESIDE))
        around.append([frames[i] for i in evenly_spaced(len(frames), COLUMNS)])
    return evenly_spaced(total, COLUMNS), around


def write_sheet(
    job: Job, frames: dict[int, np.ndarray], drawn: DrawnPoses, joins: Sequence[Join], words: Sequence[Spoken], tag: str
) -> None:
    """Writes the picture beside the result. `frames`: those that `shown_frames` names, by number."""
    whole, around = shown_frames(len(drawn) - 1, joins)
    rows = _rows("the whole sentence", whole, frames, drawn, words)
    for join, places in zip(joins, around, strict=True):
        label = f"{join.between}, {join.stop - join.first} between"
        rows += _rows(label, places, frames, drawn, words)
    title = " ".join(spoken.word for spoken in words)
    contact_sheet(job.beside(SHEET), rows, title=title, comment=tag)


def _rows(
    label: str, places: list[int], frames: dict[int, np.ndarray], drawn: DrawnPoses, words: Sequence[Spoken]
) -> list[Row]:
    captions = [f"{place} {_word_at(place, words)}" for place in places]
    poses = [drawn[[place + 1]][0].permute(1, 2, 0).numpy() for place in places]
    return [Row(f"{label}, poses", poses), Row(f"{label}, result", [frames[place] for place in places], captions)]


def _word_at(frame: int, words: Sequence[Spoken]) -> str:
    return next((spoken.word for spoken in words if spoken.first <= frame < spoken.stop), "-")
