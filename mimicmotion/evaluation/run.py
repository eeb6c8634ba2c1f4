"""A folder of results from settings to figures.

<output_dir>/clips/<key>.json, .jpg   what was measured of one clip, and its pictures
<output_dir>/evaluation.json          protocol, means with intervals, every clip
<output_dir>/evaluation.csv           a line per clip
<output_dir>/evaluation.html          the worst and the best clips
"""

from dataclasses import dataclass, field
from pathlib import Path

from mimicmotion.animation import Outcome, run_all, text_table
from mimicmotion.cli import say
from mimicmotion.config import Config
from mimicmotion.errors import INTERRUPTED, MimicMotionError, SetupError, UsageError
from mimicmotion.evaluation.instruments import Instruments
from mimicmotion.evaluation.items import Item, find_items, require_whole
from mimicmotion.evaluation.kept import Kept
from mimicmotion.evaluation.page import write_page
from mimicmotion.evaluation.summary import Row, protocol, table, write_csv, write_json
from mimicmotion.evaluation.targets import OF_RECORD, Sources, Targets
from mimicmotion.files import require_possible, require_writable, sha256_json
from mimicmotion.places import looked_for
from mimicmotion.progress import Progress
from mimicmotion.results import Job, Shard, choose_shard, require_pose_folder

MOSTLY = 0.5  # share of frames from which on exchanged sides are told


@dataclass
class ItemOutcome(Outcome):
    """How a clip ended, and what was kept of it."""

    item: Item = field(kw_only=True)
    row: Row = field(kw_only=True)


def evaluate_results(config: Config) -> int:
    """Measures every clip of the folder, but those that are kept from before, and writes what comes of it.

    The exit code: 0 all measured, 1 some could not be, 3 the machine, 130 interrupted. One bad clip leaves its reason
    in all that is written, and the others go on. A shard measures its clips; the figures of all of them are for a run
    without --shard.

    Raises: UsageError and SetupError for what can be known before the first clip.
    """
    folder, output = _folders(config)
    shard = choose_shard(config)
    items = find_items(folder, output, plain=config.evaluation.truth is not None)
    mine = [item for item in items if shard.takes(item.name)]
    evaluation = Evaluation(config, Kept(output))
    if config.output.dry_run:
        require_possible(output)
        return evaluation.plan(mine)
    require_writable(output)
    outcomes = [ItemOutcome(_job(config, item), item=item, row=Row(item.name, item.kind)) for item in mine]
    evaluation.instruments.open()
    with Progress("evaluating", len(outcomes), "clip") as bar:
        code = run_all(outcomes, lambda outcome: evaluation.work(outcome, bar))
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


class Evaluation:
    """Instruments, targets and what is kept of the clips of one folder."""

    def __init__(self, config: Config, kept: Kept):
        self.config, self.kept = config, kept
        self.instruments, self.targets = Instruments(config), Targets(config)

    def sources(self, item: Item) -> Sources:
        """Raises: InputError for what is known against a clip before anything is decoded."""
        require_whole(item)
        return self.targets.sources(item)

    def key(self, sources: Sources) -> dict:
        """All that a clip's numbers depend on."""
        record, settings = sources.item.record, self.config.evaluation
        parts = {section: record.get("settings", {}).get(section) for section in OF_RECORD}
        return {
            "kind": sources.item.kind,
            "protocol": settings.protocol,
            "hashes": sources.hashes,
            "settings": sha256_json([parts, record.get("alignment")]),
            "pose": [self.config.pose.backend, self.config.pose.batch_size],
            "instruments": self.instruments.hashes,
            "absent": self.instruments.absent,
            "number_format": [self.config.runtime.device, self.config.runtime.dtype],
        }

    def work(self, outcome: ItemOutcome, bar: Progress) -> None:
        """Measures one clip, or takes what is kept of it. Raises: as `meters.measure`."""
        try:
            sources = self.sources(outcome.item)
            key, row = self.key(sources), outcome.row
            facts = self.kept.load(key) or self._measured(sources, key)
            row.facts = {name: value for name, value in facts.items() if name != "features"}
            row.kept, row.strip, row.status = self.kept.path(key), self.kept.path(key, ".jpg"), "measured"
            row.message = "; ".join(row.facts["notes"])
            outcome.status, outcome.frames = "done", row.facts["frames"]
        finally:
            bar.update()

    def _measured(self, sources: Sources, key: dict) -> dict:
        from mimicmotion.evaluation.meters import measure  # not above: a dry run needs no network

        target = self.targets.find(sources)
        numbers, features, strip = measure(target, sources, self.instruments)
        facts = {
            "frames": target.clip.num_frames,
            "size": list(target.size),
            "sources": sources.hashes,
            "absent": sources.absent,
            "computed_on": f"{self.instruments.models.device.type} {self.instruments.models.dtype}",
            "notes": [*target.notes, *self._encoder_notes(sources.item), *side_notes(numbers)],
            "numbers": numbers,
            "features": features,
        }
        self.kept.save(key, facts, strip)
        return self.kept.load(key) or facts

    def _encoder_notes(self, item: Item) -> list[str]:
        """A word where the model that made a clip has another image encoder than the one it is measured with."""
        weights = item.record.get("weights")
        own = weights.get("image_encoder") if isinstance(weights, dict) else None
        if own in (None, self.instruments.hashes["clip"]):
            return []
        return ["CLIP is by another image encoder than its model's own; pass that model's --base_model_path"]

    def stated(self, rows: list[Row]) -> dict:
        """The protocol, with what no clip could be measured by."""
        absent: dict[str, str] = {}
        for row in rows:
            for name, reason in row.facts.get("absent", {}).items():
                absent.setdefault(name, reason)
        return protocol(self.config, self.instruments, absent)

    def plan(self, items: list[Item]) -> int:
        """Shows what would be measured, without loading or writing anything; 1 where a clip could not be."""
        lines, failing = [], False
        for item in items:
            try:
                sources = self.sources(item)
                known = self.kept.load(self.key(sources)) is not None
                told = "measured before" if known else "to measure"
            except MimicMotionError as error:
                told, failing = f"cannot be measured: {error}", True
            lines.append((item.name, item.kind, told))
        shown = say(text_table(("clip", "kind", "what would be done"), lines))
        return (1 if failing else 0) if shown else SetupError.exit_code


def side_notes(numbers: dict) -> list[str]:
    """A word where most of a clip is nearer with left and right exchanged."""
    share = numbers.get("sides_swapped") or 0.0
    if share <= MOSTLY:
        return []
    return [f"left and right are exchanged in {share:.0%} of the frames, in the result or by the detector"]


def _tell_failures(rows: list[Row]) -> None:
    lines = [(row.name, row.status, row.message) for row in rows if row.status != "measured"]
    if lines:
        say(text_table(("clip", "status", "reason"), lines))


def _tell_shard(shard: Shard, rows: list[Row], planned: int) -> None:
    done = sum(row.status == "measured" for row in rows)
    say(f"shard {shard}: {done} of its {len(rows)} clips measured, of {planned} in all")
    say("When all shards have ended, the same command without --shard takes what is there and writes the figures")
