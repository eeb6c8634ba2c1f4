"""Sentences from settings to files.

<output_dir>/<sentence>.mp4            all words, one behind the other
<output_dir>/<sentence>.srt, .vtt      the words at their times
<output_dir>/<sentence>.jpg            the sentence and the frames around each join
<output_dir>/<sentence>.json           its record, written last
"""

import contextlib
import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mimicmotion.animation import (
    Animator,
    AnimatorWork,
    Models,
    fingerprint,
    outcome_facts,
    run_all,
    run_all_on_workers,
    still_to_do,
    text_table,
    uses_workers,
)
from mimicmotion.cli import say
from mimicmotion.config import JOINS, Config
from mimicmotion.errors import MimicMotionError, SetupError, UsageError
from mimicmotion.files import printable, require_possible, require_writable
from mimicmotion.gallery import refresh_page
from mimicmotion.pipelines import check_steps
from mimicmotion.places import looked_for
from mimicmotion.results import (
    Manifest,
    RunLog,
    choose_shard,
    recorded,
    require_kept,
    require_pose_folder,
    require_reference,
)
from mimicmotion.sentences.clips import WordClips
from mimicmotion.sentences.comparer import Comparer, means
from mimicmotion.sentences.maker import ALL_WAYS, Maker, SentenceMaker, SentenceOutcome, SentenceSeals
from mimicmotion.sentences.random_words import draw_sentences, table_path
from mimicmotion.sentences.table import Sentence, read_table

logger = logging.getLogger(__name__)


def make_sentences(config: Config) -> int:
    """Makes every sentence of the table, or of a shard of it; the exit code as `animate_folder`.

    A finished sentence with the same recipe is skipped. A sentence that cannot be made leaves its reason in the table
    at the end and the others go on.

    Raises: UsageError and SetupError for what can be known before the first sentence.
    """
    on_workers = uses_workers(config)
    _check(config)
    shard, clips = choose_shard(config), WordClips(config.sentences.words)
    config, sentences = _sentences(config, clips)
    output_dir = config.sentences.output_dir
    animator, by_way, told = _makers_of(config, clips)
    models, makers = animator.models, [maker for way, maker in by_way.items() if way != ALL_WAYS]
    planned = len(sentences) * len(by_way)
    sentences = [sentence for sentence in sentences if shard.jobs_of([makers[0].job(sentence)], output_dir)]
    if not sentences:
        return shard.run_empty(config, output_dir, planned)
    manifest = Manifest(output_dir, shard.part)
    for maker in makers:
        maker.seals = SentenceSeals(maker, manifest)
    models.check()
    if not config.output.overwrite:
        require_kept(result for maker in makers for result in _recipes(maker, sentences))
    if config.output.dry_run:
        return dry_run(makers[0], sentences)
    folder = require_writable(output_dir)
    if not on_workers and not all(maker.is_finished(sentence) for sentence in sentences for maker in makers):
        models.resolve()
        models.check_lcm()
    outcomes = [maker.outcome(sentence) for sentence in sentences for maker in by_way.values()]
    try:
        with recorded(folder, config, len(outcomes), **shard.facts(planned)) as log, _seals_written(makers):
            if on_workers:
                log.exit_code = _run_on_workers(animator, by_way, outcomes, log)
            else:
                log.exit_code = run_all(outcomes, lambda outcome: by_way[outcome.way].make(outcome), log)
    finally:
        for line in told() if not on_workers else ():
            logger.info("Feature cache, %s", line)
    if config.output.page:
        refresh_page(folder)
    say(summary(outcomes))
    if ALL_WAYS in by_way and shard.count == 1:
        rows = by_way[ALL_WAYS].figures(sentences)
        if rows:
            say(f"\n{means(rows)}\n{by_way[ALL_WAYS].write_table(rows)}")
    return log.exit_code


def _makers_of(config: Config, clips: WordClips) -> tuple[Animator, dict[str, Maker], Callable[[], list[str]]]:
    """What makes the sentences in each way, all with one animator; and what the feature cache did, in lines."""
    models = Models(config)
    features, told = (None, list) if config.output.dry_run else _cached(models)
    animator, settings, variant = Animator(config, models, features), config.sentences, config.output.variant
    if not settings.compare:
        return animator, {settings.join: SentenceMaker(animator, clips, settings.join, variant)}, told
    makers = {
        join: SentenceMaker(animator, clips, join, f"{variant}.{join}" if variant else join) for join in _joins(config)
    }
    return animator, makers | {ALL_WAYS: Comparer(list(makers.values()), settings.truth)}, told


@contextlib.contextmanager
def _seals_written(makers: Sequence[SentenceMaker]) -> Iterator[None]:
    """A block in which sentences are made; at its end their seals are on the disk."""
    with contextlib.ExitStack() as stack:
        for maker in makers:
            stack.enter_context(maker.seals.written())
        yield


def sentence_work(config: Config) -> AnimatorWork:
    """What a worker that makes sentences does."""
    animator, makers, _ = _makers_of(config, WordClips(config.sentences.words))
    return AnimatorWork(
        [animator],
        lambda outcome: makers[outcome.way].make(outcome),
        lambda _: animator,
        lambda outcome: outcome.way == ALL_WAYS or makers[outcome.way].is_finished(outcome.sentence),
    )


def _run_on_workers(animator: Animator, makers: dict[str, Maker], outcomes: list[SentenceOutcome], log: RunLog) -> int:
    """As `run_all`; sentences of many words come first, and comparisons when all that they compare is made."""
    config, code = animator.config, 0

    def settled(outcome: SentenceOutcome) -> None:
        log.item(**outcome_facts(outcome))
        if outcome.way != ALL_WAYS:
            makers[outcome.way].note(outcome)

    for comparing in (False, True):
        some = [outcome for outcome in outcomes if (outcome.way == ALL_WAYS) == comparing]
        for outcome in some:
            if makers[outcome.way].is_finished(outcome.sentence):
                makers[outcome.way].make(outcome)
        if code not in (0, 1):
            return code
        ended = run_all_on_workers(
            config,
            sorted(still_to_do(some, settled), key=lambda outcome: len(outcome.sentence.words), reverse=True),
            fingerprint([animator]),
            sentence_work,
            (config,),
            settled,
            {config.sentences.output_dir},
        )
        code = max(code, ended)
    return code


def _check(config: Config) -> None:
    """Raises: UsageError for settings that no sentence can be made with."""
    settings = config.sentences
    if settings.table and settings.random:
        raise UsageError("--sentences names a table and --random draws one; choose one")
    if not settings.table and not settings.random:
        raise UsageError(
            "which sentences? pass --sentences, a CSV with the columns sentence and words, or --random K N"
        )
    if not settings.words:
        raise UsageError("no folder of word clips is named; pass --words")
    if not Path(settings.words).is_dir():
        raise UsageError(f"no such folder of word clips: {looked_for(settings.words)} (sentences.words); pass --words")
    if len(config.test_case) != 1:
        raise UsageError(f"a sentence has one reference, but test_case has {len(config.test_case)} entries")
    if config.latent_steps.folder:
        raise UsageError("sentences record no steps: drop latent_steps.folder")
    if "bridge" in _joins(config):
        if not config.latent_concat.bridge_strength:
            raise UsageError("--bridge_strength 0 samples nothing between words; give more, or pass --join slerp")
        check_steps(config)
    if settings.truth and not settings.compare:
        raise UsageError("--truth is what --compare measures against; pass --compare too")
    if settings.truth and not Path(settings.truth).is_dir():
        raise UsageError(f"no such folder of true sentences: {looked_for(settings.truth)} (sentences.truth)")
    require_reference(config.test_case[0], 0)
    require_pose_folder(config)


def _joins(config: Config) -> tuple[str, ...]:
    """The ways in which each sentence is made."""
    return JOINS if config.sentences.compare else (config.sentences.join,)


def _sentences(config: Config, clips: WordClips) -> tuple[Config, list[Sentence]]:
    """The settings with the table that is made, and its sentences."""
    settings = config.sentences
    if not settings.random:
        return config, read_table(settings.table, settings.csv_encoding)
    seed = config.test_case[0].seed
    path = table_path(settings.output_dir, settings.random, seed)
    if not config.output.dry_run:
        require_writable(settings.output_dir)
    sentences = draw_sentences(clips, path, settings.random, seed, not config.output.dry_run)
    return dataclasses.replace(config, sentences=dataclasses.replace(settings, table=str(path))), sentences


def _cached(models: Models):
    """What finds out about the inputs, with the feature cache of the settings, and a function that gives what it did,
    in lines.
    """
    settings = models.config.feature_cache
    if not settings.enabled:
        return None, list
    from mimicmotion.feature_cache import FeatureCache, cached_animator, statistics_lines

    cache = FeatureCache(Path(settings.folder), settings.max_gb, settings.force_refresh)
    return cached_animator(models, cache).features, lambda: statistics_lines(cache.statistics)


def _recipes(maker: SentenceMaker, sentences: list[Sentence]) -> Iterator[tuple[Path, dict]]:
    for sentence in sentences:
        if maker.is_finished(sentence):
            continue
        try:
            plan = maker.plan(sentence)
            made_from = maker.recipe(plan) if os.path.exists(plan.job.output) else None
        except MimicMotionError:  # it will fail in its turn
            continue
        if made_from:
            yield plan.job.output, made_from


def summary(outcomes: list[SentenceOutcome]) -> str:
    """The end of a run in a table, a row per sentence."""
    header = ("sentence", "row", "status", "words", "frames", "seconds", "result or reason")
    counts = Counter(outcome.status for outcome in outcomes)
    total = ", ".join(f"{count} {status}" for status, count in counts.items())
    compared = any(outcome.way == ALL_WAYS for outcome in outcomes)
    return f"{text_table(header, [_summary_row(outcome, compared) for outcome in outcomes])}\n{total}"


def _summary_row(outcome: SentenceOutcome, compared: bool) -> tuple[str, ...]:
    total, left_out, message = len(outcome.sentence.words), len(outcome.left_out), printable(outcome.message)
    if left_out and outcome.status in ("done", "skipped"):
        message += f"; without {', '.join(map(printable, outcome.left_out))}"
    return (
        f"{outcome.job.name}, {outcome.way}" if compared else outcome.job.name,
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
            maker.inputs(plan)
            clips = " ".join(printable(job.video.relative_to(settings.words)) for _, job in plan.words)
            without = f"; without {', '.join(map(printable, plan.left_out))}" if plan.left_out else ""
            row = (str(len(plan.words)), f"{clips}{without}")
        except MimicMotionError as error:
            row, failing = ("-", f"cannot be made: {printable(error)}"), True
        rows.append((maker.job(sentence).name, str(sentence.row), *row))
    told = say(text_table(("sentence", "row", "words", "clips or reason"), rows))
    return (1 if failing else 0) if told else SetupError.exit_code
