"""A run before its first job: what it would make, at what cost, and what it asks of a card. No torch by itself."""

import contextlib
import os
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from heapq import nlargest
from itertools import chain
from pathlib import Path

from mimicmotion.animation.animator import Animator
from mimicmotion.animation.memory import plan_for_card, shape_of
from mimicmotion.animation.outcomes import MANY, NOT_A_VIDEO, text_table
from mimicmotion.animation.record import job_inputs
from mimicmotion.animation.recording import experiment_name
from mimicmotion.cli import say
from mimicmotion.config import Config, TestCase, vram_limit
from mimicmotion.errors import MimicMotionError, SetupError, UsageError
from mimicmotion.features import Geometry, frame_geometry
from mimicmotion.files import printable, require_possible
from mimicmotion.pipelines import Shape, tile_windows, turbo_steps_and_guidance
from mimicmotion.results import Job, left_out
from mimicmotion.video import VideoSource, effective_stride, open_video, read_picture
from mimicmotion.weights import FULL, without_network

PLANNED_FOR = 32  # jobs of a test case whose videos are opened before the first, to plan for the card
CANNOT_RUN = "cannot run"


def uses_workers(config: Config) -> bool:
    """Whether jobs are for Ray workers. Raises: UsageError for a cluster that is named, and workers that are not."""
    if config.cluster.workers is None and config.cluster.address is not None:
        raise UsageError(
            "--ray_address (cluster.address) names a cluster for workers; pass --workers N or auto as well"
        )
    return config.cluster.workers is not None


def dry_run(animator: Animator, jobs: list[Job]) -> int:
    """Shows what would run, without writing or loading anything; 1 where some job would fail.

    Raises: UsageError and SetupError that the run would raise before its first job.
    """
    config = animator.config
    for folder in {job.output.parent for job in jobs}:
        require_possible(folder)
    if config.latent_steps.folder:
        experiment_name(config)
        require_possible(config.latent_steps.folder)
    with without_network():
        animator.models.check()
    left = [jobs[place] for place in look_through(animator, jobs)]
    # These are there on every machine; whether others are needs torch, and seconds.
    runtime = config.runtime
    plain = runtime.device in ("auto", "cpu") and {runtime.dtype, runtime.vae_dtype} <= {"auto", "fp32"}
    plain = plain and runtime.offload == "none" and config.sampling.decoder == FULL
    plain = (plain and config.speed.attention == "native") or uses_workers(config)
    if not plain and left:
        animator.models.resolve()
    rows = {job.output: _dry_run_row(animator, job) for job in left}
    finished = {} if len(jobs) > MANY else {job.output: _finished_row(job) for job in jobs}
    table = dry_run_table(list((finished | rows).values()), left_out(config))
    table += f"\n{len(left)} results, {sum(int(row[5]) for row in rows.values() if row[5].isdigit())} UNet passes"
    if len(left) < len(jobs):
        table += f"; {len(jobs) - len(left)} more are finished"
    limit, on_cpu = vram_limit(config.runtime.vram), config.runtime.device == "cpu"
    if limit is not None and (asked := list(shapes(animator, left, on_cpu))):
        table += "\n" + plan_for_card(config, asked, limit, on_cpu)[1]
    if not say(table):
        return SetupError.exit_code
    return 1 if any(row[-1].startswith(CANNOT_RUN) for row in rows.values()) else 0


def shapes(animator: Animator, jobs: list[Job], on_cpu: bool) -> Iterator[Shape]:
    """What the unfinished jobs ask of a card, of each test case those with the largest videos; jobs that will fail
    are left out.
    """
    config, left = animator.config, defaultdict(list)
    for job in jobs:
        if not animator.is_finished(job):
            left[job.case_index].append(job)
    # Opening a video takes a while, and the plan asks for the most that any job needs.
    for job in chain.from_iterable(nlargest(PLANNED_FOR, some, key=video_bytes) for some in left.values()):
        with contextlib.suppress(MimicMotionError):
            geometry, frames = planned(config, job, open_video(job.video, settings=config.video))
            yield shape_of(config, job.case, geometry.height, geometry.width, frames, on_cpu)


def video_bytes(job: Job) -> int:
    """How large a driving video is; a guess at how long it takes."""
    with contextlib.suppress(OSError):
        if os.path.isdir(job.video):
            return sum(entry.stat().st_size for entry in os.scandir(job.video))
        return os.stat(job.video).st_size
    return 0


def look_through(animator: Animator, jobs: Sequence[Job]) -> "array[int]":
    """The places of the jobs that have to be made; each job is looked at once, and of a finished one no video is read
    that a seal tells of.

    Raises: UsageError where finished results, made differently, lie in the places of the others.
    """
    left = array("q", (place for place, job in enumerate(jobs) if not animator.is_finished(job)))
    if not animator.config.output.overwrite:
        animator.require_kept(jobs[place] for place in left)
    return left


def dry_run_table(rows: list[tuple[str, ...]], others: Sequence[Path]) -> str:
    """What would run: sampled frames, tiles and UNet passes of every job, and what lies there beside the videos."""
    header = ("video", "size", "frames", "tiles", "steps", "UNet passes", "result")
    more = [(printable(path.name), "-", "-", "-", "-", "-", NOT_A_VIDEO) for path in others]
    return text_table(header, rows + more)


def _finished_row(job: Job) -> tuple[str, ...]:
    return (job.name, "-", "-", "-", "-", "-", f"{printable(job.output)} (finished)")


def _dry_run_row(animator: Animator, job: Job) -> tuple[str, ...]:
    config = animator.config
    try:
        job_inputs(animator.models, job)
        geometry, frames = planned(config, job, open_video(job.video, settings=config.video))
    except MimicMotionError as error:
        return (job.name, "-", "-", "-", "-", "-", f"{CANNOT_RUN}: {printable(error)}")
    tiles, steps, passes = count_passes(config, job.case, frames)
    size = f"{geometry.width}x{geometry.height}"
    return (job.name, size, str(frames), str(tiles), str(steps), str(passes), printable(job.output))


def planned(config: Config, job: Job, video: VideoSource) -> tuple[Geometry, int]:
    """Size and number of frames of a job's result, before anything is detected or sampled.

    Raises: InputError for a reference that cannot be read.
    """
    picture = read_picture(job.case.ref_image_path, config.reference)
    frames = -(-video.num_frames // effective_stride(video.fps, job.case.sample_stride))
    return frame_geometry(*picture.size, job.case.resolution, config.reference.aspect), frames


def count_passes(config: Config, case: TestCase, frames: int) -> tuple[int, int, int]:
    """(tiles, steps, UNet passes in all) of a result of `frames` frames, the reference's own not counted."""
    tiles = len(tile_windows(1 + frames, case.num_frames, case.frames_overlap, config.sampling.tile_layout))
    steps, guidance = turbo_steps_and_guidance(config.turbo, case)
    return tiles, steps, steps * tiles * (2 if guidance > 1 else 1)
