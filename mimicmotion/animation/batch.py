"""Many results in one run: resume, one failing video among good ones, a table at the end, an exit code."""

import contextlib
import logging
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from heapq import nlargest
from itertools import chain
from pathlib import Path

from mimicmotion.animation.animator import Animator, Outcome
from mimicmotion.animation.memory import plan_for_card, prepare_for_card, shape_of
from mimicmotion.animation.record import job_inputs
from mimicmotion.animation.recording import check_recording, experiment_name
from mimicmotion.animation.seals import Seals
from mimicmotion.animation.workers import (
    AnimatorWork,
    batch_work,
    fingerprint,
    run_all_on_workers,
    uses_workers,
    video_bytes,
)
from mimicmotion.cli import say
from mimicmotion.config import Config, TestCase, vram_limit
from mimicmotion.errors import INTERRUPTED, MimicMotionError, SetupError, explain, is_lasting, machine_message
from mimicmotion.features import Geometry, frame_geometry
from mimicmotion.files import printable, require_possible, require_writable
from mimicmotion.gallery import refresh_page
from mimicmotion.pipelines import Shape, tile_windows, turbo_steps_and_guidance
from mimicmotion.results import Job, Manifest, RunLog, choose_shard, left_out, plan_jobs, recorded
from mimicmotion.video import VideoSource, effective_stride, open_video, read_picture
from mimicmotion.weights import FULL, without_network

logger = logging.getLogger(__name__)

NOT_A_VIDEO = "not a video"
NAME_COLUMN = 60
MANY = 10_000  # jobs; more are counted rather than listed, and no page shows their results
PLANNED_FOR = 32  # jobs of a test case whose videos are opened before the first, to plan for the card
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

    A finished result with the same recipe is skipped, known by its seal in the folder's manifest or by its content.
    One failing video leaves its reason in the summary and the others go on; a full disk or missing weights end the
    run, since later jobs would fail the same way. Of a shard (`batch.shard`) none but its own jobs are looked at.

    Raises: UsageError and SetupError for what can be known before the first job.
    """
    on_workers = uses_workers(config)
    shard, planned = choose_shard(config), plan_jobs(config)
    jobs = shard.jobs_of(planned, config.output.output_dir)
    if not jobs:
        return shard.run_empty(config, config.output.output_dir, len(planned))
    animator = animator or Animator(config)
    animator.seals = Seals(animator.models, Manifest(config.output.output_dir, shard.part))
    if config.output.dry_run:
        return dry_run(animator, jobs)
    animator.models.check()
    finished = look_through(animator, jobs)
    for folder in {Path(config.output.output_dir), *(job.output.parent for job in jobs)}:
        require_writable(folder)
    check_recording(config)
    outcomes, work, ahead = Outcomes(jobs, animator.seals.holds), Outcome.skip, contextlib.nullcontext()
    if finished:
        outcomes.skip_all()
    # Devices and networks are the workers' matter: this machine may have none.
    elif not on_workers:
        animator.models.resolve()
        animator.models.check_lcm()
        prepare_for_card(animator.models, lambda: shapes(animator, jobs, animator.models.device.type == "cpu"))
        work, ahead = animator.animate, animator.preparing(jobs)
    facts = shard.facts(len(planned))
    with recorded(config.output.output_dir, config, len(jobs), **facts) as log, animator.seals.written(), ahead:
        if on_workers and not finished:
            log.exit_code = _run_on_workers(animator, outcomes, make_work, log)
        else:
            log.exit_code = run_all(outcomes, work, log)
        if outcomes.no_turn:
            log.skipped(outcomes.no_turn)
    if config.output.page and not outcomes.many:
        refresh_page(config.output.output_dir)
    elif config.output.page:
        logger.info("No page of all results is written of more than %d; scripts/gallery.py writes one", MANY)
    say(summary_table(outcomes, left_out(config)))
    return log.exit_code


def look_through(animator: Animator, jobs: Sequence[Job]) -> bool:
    """Whether all of the jobs are finished, each looked at once.

    Raises: UsageError where finished results, made differently, lie in the places of the others.
    """
    if animator.config.output.overwrite:
        return all(map(animator.is_finished, jobs))
    left = array("q", (place for place, job in enumerate(jobs) if not animator.is_finished(job)))
    animator.require_kept(jobs[place] for place in left)
    return not left


class Outcomes:
    """How the jobs of a run end. Of more than MANY, those that were finished before are counted and have no turn, and
    so many that end well are kept; the others are counted too. What fails is always kept.

    Iterating gives what is kept; `numbered` gives each job its turn.

    Args:
        is_finished: tells which jobs of many need no turn.
    """

    def __init__(self, jobs: Sequence[Job], is_finished: Callable[[Job], bool]):
        self.jobs, self._is_finished = jobs, is_finished
        self.many = len(jobs) > MANY
        self.kept = [] if self.many else [Outcome(job) for job in jobs]
        self.no_turn = 0
        self._dropped: Counter = Counter()

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.kept)

    def skip_all(self) -> None:
        """Notes that all were finished before; of many, none has a turn then."""
        if self.many:
            self.no_turn = len(self.jobs)

    def numbered(self) -> Iterator[tuple[int, Outcome]]:
        """The number, from 1 on, and the outcome of each job, which the caller settles."""
        if not self.many:
            yield from enumerate(self.kept, 1)
        elif not self.no_turn:
            yield from self._turns()

    def _turns(self) -> Iterator[tuple[int, Outcome]]:
        for number, job in enumerate(self.jobs, 1):
            if self._is_finished(job):
                self.no_turn += 1
                continue
            if len(self.kept) > MANY and self.kept[-1].status in ("done", "skipped"):
                self._dropped[self.kept.pop().status] += 1
            self.kept.append(Outcome(job))
            yield number, self.kept[-1]

    def counts(self) -> Counter:
        """How many ended in which way."""
        counts = Counter(outcome.status for outcome in self.kept) + self._dropped + Counter(skipped=self.no_turn)
        return counts + Counter({"not run": len(self.jobs) - counts.total()})


def _run_on_workers(
    animator: Animator, outcomes: Outcomes, make_work: Callable[[Config], AnimatorWork], log: RunLog
) -> int:
    """As `run_all`; the longest videos come first, so that none is left alone at the end."""
    turns = [outcome for _, outcome in outcomes.numbered()]
    for outcome in turns:
        if animator.is_finished(outcome.job):
            outcome.skip()

    def settled(outcome: Outcome) -> None:
        log.item(**outcome_facts(outcome))
        if outcome.status == "done":
            animator.seals.note(outcome.job)

    return run_all_on_workers(
        animator.config,
        sorted(turns, key=lambda outcome: video_bytes(outcome.job), reverse=True),
        fingerprint([animator]),
        make_work,
        (animator.config,),
        settled,
        {outcome.job.output.parent for outcome in turns},
    )


def run_all(outcomes: Sequence[Outcome] | Outcomes, work: Callable[[Outcome], None], log: RunLog | None = None) -> int:
    """Does `work` on one outcome after the other and notes how each ended, in the history `log` too; the exit code as
    `animate_folder`.
    """
    for number, outcome in outcomes.numbered() if isinstance(outcomes, Outcomes) else enumerate(outcomes, 1):
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


def summary_table(outcomes: Sequence[Outcome] | Outcomes, others: Sequence[Path] = ()) -> str:
    """The end of a run in a table, one row per outcome, and one for each file beside the videos that is none."""
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
    counts = outcomes.counts() if isinstance(outcomes, Outcomes) else Counter(outcome.status for outcome in outcomes)
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
    plain = plain and runtime.offload == "none" and config.sampling.decoder == FULL
    plain = (plain and config.speed.attention == "native") or uses_workers(config)
    if not plain and not all(animator.is_finished(job) for job in jobs):
        animator.models.resolve()
    rows = [_dry_run_row(animator, job) for job in jobs]
    table = dry_run_table(rows, left_out(config))
    limit, on_cpu = vram_limit(config.runtime.vram), config.runtime.device == "cpu"
    if limit is not None and (asked := list(shapes(animator, jobs, on_cpu))):
        table += "\n" + plan_for_card(config, asked, limit, on_cpu)[1]
    if not say(table):
        return SetupError.exit_code
    return 1 if any(row[-1].startswith(CANNOT_RUN) for row in rows) else 0


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


def dry_run_table(rows: list[tuple[str, ...]], others: Sequence[Path]) -> str:
    """What would run: sampled frames, tiles and UNet passes of every job, and what lies there beside the videos."""
    header = ("video", "size", "frames", "tiles", "steps", "UNet passes", "result")
    passes = sum(int(row[5]) for row in rows if row[5].isdigit())
    more = [(printable(path.name), "-", "-", "-", "-", "-", NOT_A_VIDEO) for path in others]
    return f"{text_table(header, rows + more)}\n{len(rows)} results, {passes} UNet passes"


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
