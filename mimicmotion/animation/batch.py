"""Many results in one run: resume, one failing video among good ones, a table at the end, an exit code."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mimicmotion.animation.animator import Animator, Outcome
from mimicmotion.animation.recording import check_recording, experiment_name
from mimicmotion.animation.workers import (
    AnimatorWork,
    batch_work,
    fingerprint,
    run_all_on_workers,
    uses_workers,
    video_bytes,
)
from mimicmotion.cli import say
from mimicmotion.config import Config, TestCase
from mimicmotion.errors import INTERRUPTED, MimicMotionError, SetupError, explain, is_lasting, machine_message
from mimicmotion.features import Geometry, frame_geometry
from mimicmotion.files import printable, require_possible, require_writable
from mimicmotion.gallery import refresh_page
from mimicmotion.pipelines import tile_windows, turbo_steps_and_guidance
from mimicmotion.results import Job, RunLog, choose_shard, left_out, plan_jobs, recorded
from mimicmotion.video import VideoSource, effective_stride, open_video, read_picture
from mimicmotion.weights import without_network

logger = logging.getLogger(__name__)

NOT_A_VIDEO = "not a video"
NAME_COLUMN = 60
CANNOT_RUN = "cannot run"


def animate_folder(
    config: Config,
    animator: Animator | None = None,
    make_work: Callable[[Config], AnimatorWork] = batch_work,
) -> int:
    """Runs every job of the configuration; the exit code: 0 all done, 1 some failed, 3 machine, 130 interrupted.

    Args:
        animator: makes the results, one of this configuration; by default a plain one.
        make_work: makes its like in each Ray worker, where the configuration asks for some; a function of a module.

    A finished result with the same recipe is skipped. One failing video leaves its reason in the summary and the
    others go on; a full disk or missing weights end the run, since later jobs would fail the same way. Of a shard
    (`batch.shard`) none but its own jobs are looked at.

    Raises: UsageError and SetupError for what can be known before the first job.
    """
    on_workers = uses_workers(config)
    shard, planned = choose_shard(config), plan_jobs(config)
    jobs = shard.jobs_of(planned, config.output.output_dir)
    if not jobs:
        return shard.run_empty(config, config.output.output_dir, len(planned))
    animator = animator or Animator(config)
    if config.output.dry_run:
        return dry_run(animator, jobs)
    animator.models.check()
    animator.require_kept(jobs)
    for folder in {Path(config.output.output_dir), *(job.output.parent for job in jobs)}:
        require_writable(folder)
    check_recording(config)
    outcomes, work = [Outcome(job) for job in jobs], Outcome.skip
    # Devices and networks are the workers' matter: this machine may have none.
    if not on_workers and not all(animator.is_finished(job) for job in jobs):
        animator.models.resolve()
        animator.models.check_lcm()
        work = animator.animate
    with recorded(config.output.output_dir, config, len(jobs), **shard.facts(len(planned))) as log:
        if on_workers:
            log.exit_code = _run_on_workers(animator, outcomes, make_work, log)
        else:
            log.exit_code = run_all(outcomes, work, log)
    if config.output.page:
        refresh_page(config.output.output_dir)
    say(summary_table(outcomes, left_out(config)))
    return log.exit_code


def _run_on_workers(
    animator: Animator, outcomes: list[Outcome], make_work: Callable[[Config], AnimatorWork], log: RunLog
) -> int:
    """As `run_all`; the longest videos come first, so that none is left alone at the end."""
    for outcome in outcomes:
        if animator.is_finished(outcome.job):
            outcome.skip()
    return run_all_on_workers(
        animator.config,
        sorted(outcomes, key=lambda outcome: video_bytes(outcome.job), reverse=True),
        fingerprint([animator]),
        make_work,
        (animator.config,),
        lambda outcome: log.item(**outcome_facts(outcome)),
        {outcome.job.output.parent for outcome in outcomes},
    )


def run_all(outcomes: list[Outcome], work: Callable[[Outcome], None], log: RunLog | None = None) -> int:
    """Does `work` on one outcome after the other and notes how each ended, in the history `log` too; the exit code as
    `animate_folder`.
    """
    for number, outcome in enumerate(outcomes, 1):
        name = f"[{number}/{len(outcomes)}] {outcome.job.name}"
        start = time.perf_counter()
        try:
            logger.info("%s", name)
            work(outcome)
        except KeyboardInterrupt:
            outcome.status, outcome.message = "interrupted", "run the same command again to go on"
            return INTERRUPTED
        # Whatever one video does to us, the others still get their turn.
        except Exception as error:
            outcome.status, outcome.message = "failed", explain(error)
            known = isinstance(error, MimicMotionError) or machine_message(error) is not None
            logger.error("%s: %s", name, outcome.message, exc_info=not known)
            if is_lasting(error):
                return SetupError.exit_code
        finally:
            outcome.seconds = time.perf_counter() - start
            if log:
                log.item(**outcome_facts(outcome))
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


def outcome_facts(outcome: Outcome) -> dict:
    """How a video ended, as plain values for the history."""
    return {
        "video": str(outcome.job.video),
        "test_case": outcome.job.case_index,
        "output": str(outcome.job.output),
        "status": outcome.status,
        "message": outcome.message,
        "frames": outcome.frames,
        "seconds": round(outcome.seconds, 3),
        "stage_seconds": outcome.stages,
        **outcome.where,
    }


def summary_table(outcomes: list[Outcome], others: Sequence[Path] = ()) -> str:
    """The end of a run in a table, one row per job, and one for each file beside the videos that is none."""
    header = ("video", "status", "frames", "seconds", "result or reason")
    rows = [
        (
            outcome.job.name,
            outcome.status,
            str(outcome.frames or "-"),
            f"{outcome.seconds:.1f}",
            printable(outcome.message),
        )
        for outcome in outcomes
    ]
    rows += [(printable(path.name), "left out", "-", "-", NOT_A_VIDEO) for path in others]
    counts = {status: sum(o.status == status for o in outcomes) for status in dict.fromkeys(o.status for o in outcomes)}
    return text_table(header, rows) + "\n" + ", ".join(f"{count} {status}" for status, count in counts.items())


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
    animator.require_kept(jobs)
    # These are there on every machine; whether others are needs torch, and seconds.
    runtime = config.runtime
    plain = runtime.device in ("auto", "cpu") and {runtime.dtype, runtime.vae_dtype} <= {"auto", "fp32"}
    if not plain and not uses_workers(config) and not all(animator.is_finished(job) for job in jobs):
        animator.models.resolve()
    rows = [_dry_run_row(animator, job) for job in jobs]
    if not say(dry_run_table(rows, left_out(config))):
        return SetupError.exit_code
    return 1 if any(row[-1].startswith(CANNOT_RUN) for row in rows) else 0


def dry_run_table(rows: list[tuple[str, ...]], others: Sequence[Path]) -> str:
    """What would run: sampled frames, tiles and UNet passes of every job, and what lies there beside the videos."""
    header = ("video", "size", "frames", "tiles", "steps", "UNet passes", "result")
    passes = sum(int(row[5]) for row in rows if row[5].isdigit())
    more = [(printable(path.name), "-", "-", "-", "-", "-", NOT_A_VIDEO) for path in others]
    return f"{text_table(header, rows + more)}\n{len(rows)} results, {passes} UNet passes"


def _dry_run_row(animator: Animator, job: Job) -> tuple[str, ...]:
    config = animator.config
    try:
        animator.recipe(job)
        geometry, frames = planned(config, job, open_video(job.video, settings=config.video))
    except MimicMotionError as error:
        return (job.name, "-", "-", "-", "-", "-", f"{CANNOT_RUN}: {printable(error)}")
    tiles, steps, passes = count_passes(config, job.case, frames)
    size = f"{geometry.width}x{geometry.height}"
    return (job.name, size, str(frames), str(tiles), str(steps), str(passes), printable(job.output))


def _in_column(name: str) -> str:
    """A name as wide as a column may be, with both of its ends."""
    return name if len(name) <= NAME_COLUMN else f"{name[: NAME_COLUMN - 23]}...{name[-20:]}"


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


def text_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Rows under a header, in columns; a long first entry is shortened in its middle."""
    rows = [(_in_column(row[0]), *row[1:]) for row in rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)
