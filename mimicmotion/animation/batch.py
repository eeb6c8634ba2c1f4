"""Many results in one run: resume, one failing video among good ones, a table at the end, an exit code."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mimicmotion.animation.animator import Animator, Outcome
from mimicmotion.animation.recording import check_recording
from mimicmotion.config import Config, TestCase
from mimicmotion.errors import INTERRUPTED, MimicMotionError, SetupError
from mimicmotion.features import Geometry, frame_geometry, read_picture
from mimicmotion.files import remove_stale_temporaries, require_writable
from mimicmotion.pipelines import tile_windows, turbo_steps_and_guidance
from mimicmotion.results import Job, RunLog, left_out, plan_jobs, recorded
from mimicmotion.video import VideoSource, effective_stride, open_video

logger = logging.getLogger(__name__)

NOT_A_VIDEO = "not a video"


def animate_folder(config: Config, animator: Animator | None = None) -> int:
    """Runs every job of the configuration; the exit code: 0 all done, 1 some failed, 3 machine, 130 interrupted.

    animator: makes the results, one of this configuration; by default a plain one.

    A finished result with the same recipe is skipped. One failing video leaves its reason in the summary and the
    others go on; a full disk or missing weights end the run, since later jobs would fail the same way.

    Raises: UsageError and SetupError for what can be known before the first job.
    """
    jobs = plan_jobs(config)
    if config.output.dry_run:
        print(dry_run_table(config, jobs))
        return 0
    for folder in {job.output.parent for job in jobs}:
        require_writable(folder)
        remove_stale_temporaries(folder)
    check_recording(config)
    animator = animator or Animator(config)
    animator.models.check()
    outcomes, work = [Outcome(job) for job in jobs], Outcome.skip
    with recorded(config.output.output_dir, config) as log:
        if not all(animator.is_finished(job) for job in jobs):
            animator.models.resolve()
            work = animator.animate
        log.exit_code = run_all(outcomes, work, log)
    print(summary_table(outcomes, left_out(config)))
    return log.exit_code


def run_all(outcomes: list[Outcome], work: Callable[[Outcome], None], log: RunLog) -> int:
    """Does `work` on one outcome after the other and notes how each ended, in the history too; the exit code as
    `animate_folder`.
    """
    for number, outcome in enumerate(outcomes, 1):
        name = f"[{number}/{len(outcomes)}] {outcome.job.video.name}"
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
            logger.error("%s: %s", name, outcome.message, exc_info=not isinstance(error, MimicMotionError))
            if isinstance(error, SetupError):
                return error.exit_code
        finally:
            outcome.seconds = time.perf_counter() - start
            log.item(**_facts(outcome))
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


def explain(error: Exception) -> str:
    """What went wrong, in one line for the user."""
    if isinstance(error, MimicMotionError):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return "out of memory; try --offload model, --cfg_batch off, a lower --resolution or --decode_chunk_size"
    return f"{type(error).__name__}: {error}"


def _facts(outcome: Outcome) -> dict:
    """How a video ended, as plain values."""
    return {
        "video": str(outcome.job.video),
        "test_case": outcome.job.case_index,
        "output": str(outcome.job.output),
        "status": outcome.status,
        "message": outcome.message,
        "frames": outcome.frames,
        "seconds": round(outcome.seconds, 3),
        "stage_seconds": outcome.stages,
    }


def summary_table(outcomes: list[Outcome], others: Sequence[Path] = ()) -> str:
    """The end of a run in a table, one row per job, and one for each file beside the videos that is none."""
    header = ("video", "status", "frames", "seconds", "result or reason")
    rows = [
        (
            outcome.job.video.name,
            outcome.status,
            str(outcome.frames or "-"),
            f"{outcome.seconds:.1f}",
            outcome.message,
        )
        for outcome in outcomes
    ]
    rows += [(path.name, "left out", "-", "-", NOT_A_VIDEO) for path in others]
    counts = {status: sum(o.status == status for o in outcomes) for status in dict.fromkeys(o.status for o in outcomes)}
    return text_table(header, rows) + "\n" + ", ".join(f"{count} {status}" for status, count in counts.items())


def dry_run_table(config: Config, jobs: list[Job]) -> str:
    """What would run: sampled frames, tiles and UNet passes of every job, without loading a model."""
    header = ("video", "size", "frames", "tiles", "steps", "UNet passes", "result")
    rows = [_dry_run_row(config, job) for job in jobs]
    rows += [(path.name, "-", "-", "-", "-", "-", NOT_A_VIDEO) for path in left_out(config)]
    passes = sum(int(row[5]) for row in rows if row[5].isdigit())
    return f"{text_table(header, rows)}\n{len(jobs)} results, {passes} UNet passes"


def _dry_run_row(config: Config, job: Job) -> tuple[str, ...]:
    try:
        geometry, frames = planned(config, job, open_video(job.video, settings=config.video))
    except MimicMotionError as error:
        return (job.video.name, "-", "-", "-", "-", "-", f"cannot run: {error}")
    tiles, steps, passes = count_passes(config, job.case, frames)
    size = f"{geometry.width}x{geometry.height}"
    return (job.video.name, size, str(frames), str(tiles), str(steps), str(passes), str(job.output))


def planned(config: Config, job: Job, video: VideoSource) -> tuple[Geometry, int]:
    """Size and number of frames of a job's result, before anything is detected or sampled.

    Raises: InputError for a reference that cannot be read.
    """
    picture = read_picture(job.case.ref_image_path)
    frames = -(-video.num_frames // effective_stride(video.fps, job.case.sample_stride))
    return frame_geometry(*picture.shape[:2], job.case.resolution), frames


def count_passes(config: Config, case: TestCase, frames: int) -> tuple[int, int, int]:
    """(tiles, steps, UNet passes in all) of a result of `frames` frames, the reference's own not counted."""
    tiles = len(tile_windows(1 + frames, case.num_frames, case.frames_overlap, config.sampling.tile_layout))
    steps, guidance = turbo_steps_and_guidance(config.turbo, case)
    return tiles, steps, steps * tiles * (2 if guidance > 1 else 1)


def text_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)
