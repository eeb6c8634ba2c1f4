"""A planned sentence -> its files, or those of its files that are missing."""

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from mimicmotion.animation import Outcome, forget_latents, plan_frames
from mimicmotion.device import describe_device, peak_memory
from mimicmotion.errors import InputError
from mimicmotion.features import Reference
from mimicmotion.files import printable, write_bytes
from mimicmotion.pipelines import turbo_steps_and_guidance
from mimicmotion.results import Job, add_to_sidecar, provenance, recipe_tag, write_sidecar
from mimicmotion.sentences.kept_parts import keep_parts, kept_parts
from mimicmotion.sentences.plan import SHEET, Plan
from mimicmotion.sentences.subtitles import SUBTITLES
from mimicmotion.sentences.timeline import Timeline, make_timeline
from mimicmotion.sentences.ways import sample_sentence
from mimicmotion.sentences.words import Word, WordReader
from mimicmotion.sentences.writing import shown_frames, write_sheet, write_video
from mimicmotion.timing import StageClock
from mimicmotion.video import open_video

if TYPE_CHECKING:
    from mimicmotion.sentences.maker import SentenceMaker

logger = logging.getLogger(__name__)

SAME_SPEED = 0.01


def perform(maker: "SentenceMaker", outcome: Outcome, plan: Plan, hashes: list[dict[str, str]]) -> None:
    """Makes a sentence, of whose words' files these are the hashes, and all that lies beside it.

    Raises: as `SentenceMaker.make`.
    """
    job, models = plan.job, maker.animator.models
    clock = StageClock(models.device)
    with clock.stage("poses"):
        reference, timeline = read_timeline(maker, plan)
    plan_frames(models, job.case, reference, len(timeline.poses))
    with clock.stage("loading"):
        models.pipeline.vae_fallback_count = 0
    # The weights may still be hashed, which a recipe waits for.
    with clock.stage("sampling"):
        parts = None if maker.config.output.overwrite else kept_parts(job, lambda: maker.recipe(plan, hashes))
        if parts is None:
            parts = sample_sentence(maker.animator, job, timeline, reference, maker.join)
            keep_parts(job, maker.recipe(plan, hashes), parts)
    beside, made_from = maker.companions(job), maker.recipe(plan, hashes)
    with clock.stage("decoding"):
        frames = write_video(models, job, parts, _wanted(timeline, job, beside), made_from)
    _write_beside(maker, job, timeline, reference, frames, beside, made_from)
    outcome.status, outcome.frames, outcome.message = "done", len(timeline.poses), str(job.output)
    outcome.stages = clock.rounded()
    facts = _facts(maker, plan, reference) | _timeline_facts(timeline) | {"stage_seconds": outcome.stages}
    write_sidecar(job.output, made_from, facts, beside)
    forget_latents(job)


def complete(
    maker: "SentenceMaker", outcome: Outcome, plan: Plan, made_from: dict, missing: Collection[Path]
) -> None:
    """Makes what is `missing` beside a finished sentence, for which nothing has to be sampled.

    Raises: InputError when the mp4 is not as long as the sentence; SetupError for a full disk.
    """
    job = plan.job
    reference, timeline = read_timeline(maker, plan)
    wanted, frames = _wanted(timeline, job, missing), {}
    if wanted:
        result = open_video(job.output)
        if result.num_frames != len(timeline.poses):
            what = f"{job.output} has {result.num_frames} frames, its words give {len(timeline.poses)}"
            raise InputError(f"{what}; pass --overwrite to make it again")
        frames = {number: frame for number, frame in result.frames() if number in wanted}
    _write_beside(maker, job, timeline, reference, frames, missing, made_from)
    add_to_sidecar(job.output, missing)
    outcome.status, outcome.frames = "done", len(timeline.poses)
    names = ", ".join(path.name for path in missing)
    outcome.message = f"{job.output} was finished before; made for it: {names}"


def read_timeline(maker: "SentenceMaker", plan: Plan) -> tuple[Reference, Timeline]:
    """The reference of a planned sentence, and its words joined. Raises: InputError that names the row."""
    animator, job = maker.animator, plan.job
    reference = animator.clips.reference(job)
    height, width = reference.pixels.shape[:2]
    with maker.naming(plan.sentence):
        words = read_words(maker, plan, reference)
        timeline = make_timeline(words, maker.config.sentences, maker.join, job.case.fps, width / height)
    return reference, timeline


def read_words(maker: "SentenceMaker", plan: Plan, reference: Reference) -> list[Word]:
    """The words of a sentence, in order; a word that comes twice is read once."""
    reader, read = WordReader(maker.animator), {}
    for name, clip in plan.words:
        if name not in read:
            read[name] = reader.read(name, clip, reference)
    words = [read[name] for name, _ in plan.words]
    speeds = {word.facts["playback_speed"]: printable(word.name) for word in words}
    if max(speeds) - min(speeds) > SAME_SPEED * max(speeds):
        slow, fast = min(speeds), max(speeds)
        logger.warning(
            "%s: the clips have different frame rates, so %s plays at %.2f times its speed and %s at %.2f times",
            plan.job.name, speeds[slow], slow, speeds[fast], fast,
        )  # fmt: skip
    return words


def _wanted(timeline: Timeline, job: Job, files: Collection[Path]) -> set[int]:
    """The frames that the picture among `files` shows; none where it is not among them."""
    if job.beside(SHEET) not in files:
        return set()
    whole, around = shown_frames(len(timeline.poses), timeline.joins)
    return {place for places in (whole, *around) for place in places}


def _write_beside(maker, job: Job, timeline: Timeline, reference: Reference, frames, files, made_from: dict) -> None:
    """Writes those of a sentence's companions that are among `files`."""
    if job.beside(SHEET) in files:
        drawn = maker.animator.clips.draw([reference.pose, *timeline.poses], reference)
        write_sheet(job, frames, drawn, timeline.joins, timeline.spoken, recipe_tag(made_from))
    for ending, text in SUBTITLES.items():
        if job.beside(ending) in files:
            write_bytes(job.beside(ending), text(timeline.spoken, job.case.fps).encode())


def _timeline_facts(timeline: Timeline) -> dict:
    return {
        "frames": len(timeline.poses),
        "words": [
            {"word": word.name, "first_frame": at.first, "frames": at.stop - at.first} | word.facts
            for word, at in zip(timeline.words, timeline.spoken, strict=True)
        ],
        "joins": [
            {"between": join.between, "first_frame": join.first, "frames": join.stop - join.first,
             "fastest_hand": round(join.fastest, 3)}
            for join in timeline.joins
        ],
    }  # fmt: skip


def _facts(maker: "SentenceMaker", plan: Plan, reference: Reference) -> dict:
    config, models, case = maker.config, maker.animator.models, plan.job.case
    steps, guidance = turbo_steps_and_guidance(config.turbo, case)
    height, width = reference.pixels.shape[:2]
    given = {"table": config.sentences.table, "words": config.sentences.words, "reference": case.ref_image_path}
    return {
        "paths": {name: {"given": path, "absolute": os.path.abspath(path)} for name, path in given.items()},
        "made": provenance(config),
        "sentence": plan.sentence.name,
        "row": plan.sentence.row,
        "left_out": plan.left_out,
        "seed": case.seed,
        "fps": case.fps,
        "height": height,
        "width": width,
        "steps": steps,
        "guidance_scale": guidance,
        "vae_chunks_in_fp32": models.pipeline.vae_fallback_count,
        "device": describe_device(models.device),
        "dtype": str(models.dtype),
        "peak_memory_bytes": peak_memory(models.device),
    }
