"""Sentences from settings to files.

<output_dir>/<sentence>.mp4            all words, sampled as one clip
<output_dir>/<sentence>.srt, .vtt      the words at their times
<output_dir>/<sentence>.jpg            the sentence and the frames around each join
<output_dir>/<sentence>.json           its record, written last
"""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mimicmotion.animation import (
    Animator,
    AnimatorWork,
    Models,
    fingerprint,
    outcome_facts,
    run_all,
    run_all_on_workers,
    text_table,
    uses_workers,
)
from mimicmotion.cli import say
from mimicmotion.config import Config
from mimicmotion.errors import MimicMotionError, SetupError, UsageError
from mimicmotion.feature_cache import FeatureCache, cached_animator, statistics_lines
from mimicmotion.files import printable, require_possible, require_writable
from mimicmotion.gallery import refresh_page
from mimicmotion.places import looked_for
from mimicmotion.results import RunLog, recorded, require_kept, require_pose_folder, require_reference
from mimicmotion.sentences.maker import SentenceMaker, SentenceOutcome
from mimicmotion.sentences.table import Sentence, read_table

logger = logging.getLogger(__name__)


def make_sentences(config: Config) -> int:
    """Makes every sentence of the table; the exit code as `animate_folder`.

    A finished sentence with the same recipe is skipped. A sentence that cannot be made leaves its reason in the table
    at the end and the others go on.

    Raises: UsageError and SetupError for what can be known before the first sentence.
    """
    on_workers = uses_workers(config)
    _check(config)
    sentences = read_table(config.sentences.table, config.sentences.csv_encoding)
    maker, cache = _maker(config)
    models = maker.animator.models
    models.check()
    if not config.output.overwrite:
        require_kept(_recipes(maker, sentences))
    if config.output.dry_run:
        return dry_run(maker, sentences)
    folder = require_writable(config.sentences.output_dir)
    if not on_workers and not all(map(maker.is_finished, sentences)):
        models.resolve()
        models.check_lcm()
    outcomes = [SentenceOutcome(maker.job(sentence), sentence=sentence) for sentence in sentences]
    try:
        with recorded(folder, config, len(outcomes)) as log:
            if on_workers:
                log.exit_code = _run_on_workers(maker, outcomes, log)
            else:
                log.exit_code = run_all(outcomes, maker.make, log)
    finally:
        for line in statistics_lines(cache.statistics) if cache and not on_workers else ():
            logger.info("Feature cache, %s", line)
    if config.output.page:
        refresh_page(folder)
    say(summary(outcomes))
    return log.exit_code


def _maker(config: Config) -> tuple[SentenceMaker, FeatureCache | None]:
    settings, models = config.feature_cache, Models(config)
    if not settings.enabled:
        return SentenceMaker(Animator(config, models)), None
    cache = FeatureCache(Path(settings.folder), settings.max_gb, settings.force_refresh)
    return SentenceMaker(cached_animator(models, cache)), cache


def sentence_work(config: Config) -> AnimatorWork:
    """What a worker that makes sentences does."""
    maker, _ = _maker(config)
    animator = maker.animator
    return AnimatorWork([animator], maker.make, lambda _: animator, lambda outcome: maker.is_finished(outcome.sentence))


def _run_on_workers(maker: SentenceMaker, outcomes: list[SentenceOutcome], log: RunLog) -> int:
    """As `run_all`; sentences of many words come first."""
    for outcome in outcomes:
        if maker.is_finished(outcome.sentence):
            maker.make(outcome)
    return run_all_on_workers(
        maker.config,
        sorted(outcomes, key=lambda outcome: len(outcome.sentence.words), reverse=True),
        fingerprint([maker.animator]),
        sentence_work,
        (maker.config,),
        lambda outcome: log.item(**outcome_facts(outcome)),
        {maker.config.sentences.output_dir},
    )


def _check(config: Config) -> None:
    """Raises: UsageError for settings that no sentence can be made with."""
    settings = config.sentences
    if not settings.table:
        raise UsageError("which sentences? pass --sentences, a CSV with the columns sentence and words")
    if not settings.words:
        raise UsageError("no folder of word clips is named; pass --words")
    if not Path(settings.words).is_dir():
        raise UsageError(f"no such folder of word clips: {looked_for(settings.words)} (sentences.words); pass --words")
    if len(config.test_case) != 1:
        raise UsageError(f"a sentence has one reference, but test_case has {len(config.test_case)} entries")
    if config.batch.shard:
        raise UsageError("sentences are made by one machine: drop batch.shard")
    if config.latent_steps.folder:
        raise UsageError("sentences record no steps: drop latent_steps.folder")
    require_reference(config.test_case[0], 0)
    require_pose_folder(config)


def _recipes(maker: SentenceMaker, sentences: list[Sentence]) -> Iterator[tuple[Path, dict]]:
    for sentence in sentences:
        try:
            plan = maker.plan(sentence)
            made_from = maker.recipe(plan)
        except MimicMotionError:  # it will fail in its turn
            continue
        yield plan.job.output, made_from


def summary(outcomes: list[SentenceOutcome]) -> str:
    """The end of a run in a table, a row per sentence."""
    header = ("sentence", "row", "status", "words", "frames", "seconds", "result or reason")
    counts = Counter(outcome.status for outcome in outcomes)
    total = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"{text_table(header, list(map(_summary_row, outcomes)))}\n{total}"


def _summary_row(outcome: SentenceOutcome) -> tuple[str, ...]:
    total, left_out, message = len(outcome.sentence.words), len(outcome.left_out), printable(outcome.message)
    if left_out and outcome.status in ("done", "skipped"):
        message += f"; without {', '.join(map(printable, outcome.left_out))}"
    return (
        outcome.job.name,
        str(outcome.sentence.row),
        outcome.status,
        f"{total - left_out} of {total}" if left_out else str(total),
        str(outcome.frames or "-"),
        f"{outcome.seconds:.1f}",
        message,
    )


def dry_run(maker: SentenceMaker, sentences: list[Sentence]) -> int:
    """Shows what would be made of what, without writing or loading anything; 1 where a sentence would fail.

    Raises: SetupError for a folder that cannot be written.
    """
    settings, rows, failing = maker.config.sentences, [], False
    require_possible(settings.output_dir)
    for sentence in sentences:
        try:
            plan = maker.plan(sentence)
            maker.recipe(plan)
            clips = " ".join(printable(job.video.relative_to(settings.words)) for _, job in plan.words)
            without = f"; without {', '.join(map(printable, plan.left_out))}" if plan.left_out else ""
            row = (str(len(plan.words)), f"{clips}{without}")
        except MimicMotionError as error:
            row, failing = ("-", f"cannot be made: {printable(error)}"), True
        rows.append((maker.job(sentence).name, str(sentence.row), *row))
    told = say(text_table(("sentence", "row", "words", "clips or reason"), rows))
    return (1 if failing else 0) if told else SetupError.exit_code
