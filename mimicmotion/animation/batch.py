"""Many results in one run: resume, one failing video among good ones, an exit code."""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mimicmotion.animation.animator import Animator, Outcome
from mimicmotion.animation.memory import prepare_for_card
from mimicmotion.animation.outcomes import MANY, Outcomes, outcome_facts, summary_table
from mimicmotion.animation.planning import dry_run, look_through, shapes, uses_workers, video_bytes
from mimicmotion.animation.recording import check_recording
from mimicmotion.animation.seals import Seals
from mimicmotion.animation.workers import (
    AnimatorWork,
    batch_work,
    fingerprint,
    poses_ahead,
    run_all_on_workers,
)
from mimicmotion.cli import say
from mimicmotion.config import Config
from mimicmotion.errors import INTERRUPTED, MimicMotionError, SetupError, explain, is_lasting, machine_message
from mimicmotion.files import require_writable
from mimicmotion.gallery import refresh_page
from mimicmotion.results import Manifest, RunLog, choose_shard, left_out, plan_jobs, recorded

logger = logging.getLogger(__name__)


def animate_folder(
    config: Config,
    animator: Animator | None = None,
    make_work: Callable[[Config], AnimatorWork] = batch_work,
    make_ahead: Callable[[Config], AnimatorWork] | None = None,
) -> int:
    """Runs every job of the configuration; the exit code: 0 all done, 1 some failed, 3 machine, 130 interrupted.

    Args:
        animator: makes the results, one of this configuration; by default a plain one.
        make_work: makes its like in each Ray worker, where the configuration asks for some; a function of a module.
        make_ahead: makes what finds poses ahead for workers, as `poses_ahead`.

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
    finished = not look_through(animator, jobs)
    for folder in {Path(config.output.output_dir), *(job.output.parent for job in jobs)}:
        require_writable(folder)
    check_recording(config)
    known = animator.is_finished if on_workers else animator.seals.holds
    outcomes, work, ahead = Outcomes(jobs, known), Outcome.skip, contextlib.nullcontext()
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
            log.exit_code = _run_on_workers(animator, outcomes, make_work, make_ahead, log)
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


def _run_on_workers(
    animator: Animator,
    outcomes: Outcomes,
    make_work: Callable[[Config], AnimatorWork],
    make_ahead: Callable[[Config], AnimatorWork] | None,
    log: RunLog,
) -> int:
    """As `run_all`; the longest videos come first, so that none is left alone at the end."""
    left = outcomes.unfinished(video_bytes)
    for outcome in outcomes:
        if outcome.status == "skipped":
            log.item(**outcome_facts(outcome))

    def settled(outcome: Outcome) -> None:
        log.item(**outcome_facts(outcome))
        outcomes.settle(outcome)
        if outcome.status == "done":
            animator.seals.note(outcome.job)

    return run_all_on_workers(
        animator.config,
        left,
        fingerprint([animator]),
        make_work,
        (animator.config,),
        settled,
        {job.output.parent for job in outcomes.jobs},
        poses_ahead(animator, make_ahead),
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
