"""A sentence's latents -> mp4, and a picture: the whole, and the frames around each join."""

from collections.abc import Sequence

import numpy as np

from mimicmotion.animation import Models
from mimicmotion.errors import MimicMotionError
from mimicmotion.features import DrawnPoses
from mimicmotion.latent_concat import Part, joined_frames
from mimicmotion.progress import Progress
from mimicmotion.results import Job, Row, contact_sheet, evenly_spaced, recipe_tag
from mimicmotion.sentences.plan import SHEET
from mimicmotion.sentences.subtitles import Spoken
from mimicmotion.sentences.timeline import Join
from mimicmotion.video import VideoWriter

COLUMNS = 8
BESIDE = 2  # frames of both words that are shown beside a transition


def write_video(models: Models, job: Job, parts: list[Part], wanted: set[int], made_from: dict) -> dict:
    """Writes the mp4 of joined latents while the VAE decodes; returns the frames with the numbers `wanted`.

    Raises: NumericalError for frames that are not finite, SetupError for a full disk.
    """
    total, position, kept = sum(part.shown for part in parts), 0, {}
    tags, crf = {"comment": recipe_tag(made_from)}, models.config.output.crf
    with (
        VideoWriter(job.output, job.case.fps, crf=crf, metadata=tags) as writer,
        Progress("decoding", total, "frame") as bar,
    ):
        for frames in joined_frames(models.decoder, parts, models.config.sampling):
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
