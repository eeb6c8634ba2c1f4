"""A folder of results from settings to figures.

<output_dir>/clips/<key>.json, .jpg   what was measured of one clip, and its pictures
<output_dir>/evaluation.json          protocol, means with intervals, every clip
<output_dir>/evaluation.csv           a line per clip
<output_dir>/evaluation.html          the worst and the best clips
"""

from pathlib import Path

from mimicmotion.animation import run_all, text_table, uses_workers
from mimicmotion.cli import say
from mimicmotion.config import Config
from mimicmotion.errors import INTERRUPTED, MimicMotionError, SetupError, UsageError
from mimicmotion.evaluation.items import Item, find_items
from mimicmotion.evaluation.kept import Kept
from mimicmotion.evaluation.measuring import Evaluation, ItemOutcome
from mimicmotion.evaluation.page import write_page
from mimicmotion.evaluation.summary import Row, table, write_csv, write_json
from mimicmotion.evaluation.workers import measure_on_workers
from mimicmotion.files import require_possible, require_writable
from mimicmotion.places import looked_for
from mimicmotion.progress import Progress
from mimicmotion.results import Job, Shard, choose_shard, require_pose_folder


def evaluate_results(config: Config) -> int:
    """Measures every clip of the folder, but those that are kept from before, and writes what comes of it.

    The exit code: 0 all measured, 1 some could not be, 3 the machine, 130 interrupted. One bad clip leaves its reason
    in all that is written, and the others go on. A shard measures its clips; the figures of all of them are for a run
    without --shard.

    Raises: UsageError and SetupError for what can be known before the first clip.
    """
    on_workers = uses_workers(config)
    folder, output = _folders(config)
    shard = choose_shard(config)
    items = find_items(folder, output, plain=config.evaluation.truth is not None)
    mine = [item for item in items if shard.takes(item.name)]
    evaluation = Evaluation(config, Kept(output))
    if config.output.dry_run:
        require_possible(output)
        return _dry_run(evaluation, mine)
    require_writable(output)
    outcomes = [ItemOutcome(_job(config, item), item=item, row=Row(item.name, item.kind)) for item in mine]
    code = measure_on_workers(evaluation, outcomes) if on_workers else _measure_here(evaluation, outcomes)
    rows = [outcome.row for outcome in outcomes]
    for outcome in outcomes:
        if outcome.status == "failed":
            outcome.row.status, outcome.row.message = "failed", outcome.message
    _tell_failures(rows)
    if code in (INTERRUPTED, SetupError.exit_code):
        return code
    if shard.count > 1:
        _tell_shard(shard, rows, len(items))
        return code
    content = write_json(output / "evaluation.json", rows, evaluation.stated(rows))
    write_csv(output / "evaluation.csv", rows)
    page = write_page(output / "evaluation.html", rows, content, config.evaluation.shown)
    say(table(content))
    say(f"{content['clips_measured']} of {content['clips_in_all']} clips measured; look at {page}")
    return code


def _measure_here(evaluation: Evaluation, outcomes: list[ItemOutcome]) -> int:
    """As `run_all`, with a bar."""
    evaluation.instruments.open()
    with Progress("evaluating", len(outcomes), "clip") as bar:

        def work(outcome: ItemOutcome) -> None:
            try:
                evaluation.work(outcome)
            finally:
                bar.update()

        return run_all(outcomes, work)


def _dry_run(evaluation: Evaluation, items: list[Item]) -> int:
    """Shows what would be measured, without loading or writing anything; 1 where a clip could not be."""
    lines, failing = [], False
    for item in items:
        try:
            sources = evaluation.sources(item)
            known = evaluation.kept.load(evaluation.key(sources)) is not None
            told = "measured before" if known else "to measure"
        except MimicMotionError as error:
            told, failing = f"cannot be measured: {error}", True
        lines.append((item.name, item.kind, told))
    shown = say(text_table(("clip", "kind", "what would be done"), lines))
    return (1 if failing else 0) if shown else SetupError.exit_code


def _folders(config: Config) -> tuple[Path, Path]:
    """The folder of results and that of the evaluation. Raises: UsageError for settings that exclude each other."""
    settings = config.evaluation
    if settings.results is None:
        raise UsageError("which results? name the folder that a run wrote to (--output_dir)")
    if settings.truth is not None and settings.protocol == "self":
        raise UsageError("--protocol self takes the driving video as truth; drop --truth, or the protocol")
    if (settings.fvd_weights or settings.fid_vid_weights) and settings.truth is None and settings.protocol != "self":
        raise UsageError("FVD and FID-VID are distances to true videos; pass --truth, or --protocol self")
    for flag, path in (("--truth", settings.truth), ("--inputs", settings.inputs)):
        if path is not None and not Path(path).is_dir():
            raise UsageError(f"{flag}: no such folder: {looked_for(path)}")
    require_pose_folder(config)
    folder = Path(settings.results)
    return folder, Path(settings.output_dir) if settings.output_dir else folder / "evaluation"


def _job(config: Config, item: Item) -> Job:
    """A clip as `run_all` names it."""
    return Job(Path(item.name), config.test_case[0], 0, item.video)


def _tell_failures(rows: list[Row]) -> None:
    lines = [(row.name, row.status, row.message) for row in rows if row.status != "measured"]
    if lines:
        say(text_table(("clip", "status", "reason"), lines))


def _tell_shard(shard: Shard, rows: list[Row], planned: int) -> None:
    done = sum(row.status == "measured" for row in rows)
    say(f"shard {shard}: {done} of its {len(rows)} clips measured, of {planned} in all")
    say("When all shards have ended, the same command without --shard takes what is there and writes the figures")
