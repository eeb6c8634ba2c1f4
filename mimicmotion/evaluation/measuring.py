"""One clip measured, or taken from what is kept of it."""

from dataclasses import dataclass, field

from mimicmotion.animation import Outcome
from mimicmotion.config import Config
from mimicmotion.errors import MimicMotionError
from mimicmotion.evaluation.instruments import Instruments
from mimicmotion.evaluation.items import Item, require_whole
from mimicmotion.evaluation.kept import Kept
from mimicmotion.evaluation.summary import Row, protocol
from mimicmotion.evaluation.targets import OF_RECORD, Sources, Targets
from mimicmotion.files import sha256_json

MOSTLY = 0.5  # share of frames from which on exchanged sides are told


@dataclass
class ItemOutcome(Outcome):
    """How a clip ended, and what was kept of it."""

    item: Item = field(kw_only=True)
    row: Row = field(kw_only=True)


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

    def is_kept(self, item: Item) -> bool:
        """Whether `work` would measure nothing; False for a clip that will fail."""
        try:
            return self.kept.load(self.key(self.sources(item))) is not None
        except MimicMotionError:
            return False

    def work(self, outcome: ItemOutcome) -> None:
        """Measures one clip, or takes what is kept of it. Raises: as `meters.measure`."""
        sources = self.sources(outcome.item)
        key, row = self.key(sources), outcome.row
        facts = self.kept.load(key) or self._measured(sources, key)
        row.facts = {name: value for name, value in facts.items() if name != "features"}
        row.kept, row.strip, row.status = self.kept.path(key), self.kept.path(key, ".jpg"), "measured"
        row.message = "; ".join(row.facts["notes"])
        outcome.status, outcome.frames = "done", row.facts["frames"]

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


def side_notes(numbers: dict) -> list[str]:
    """A word where most of a clip is nearer with left and right exchanged."""
    share = numbers.get("sides_swapped") or 0.0
    if share <= MOSTLY:
        return []
    return [f"left and right are exchanged in {share:.0%} of the frames, in the result or by the detector"]
