"""All ways to join a sentence beside each other: what they depend on, are they compared; no torch here.

<output_dir>/joins/<sentence>.mp4    the ways side by side
<output_dir>/joins/<sentence>.jpg    the frames around each join, way under way
<output_dir>/joins/<sentence>.json   its record, with the figures of each join
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from mimicmotion.animation import text_table
from mimicmotion.config import JOINS
from mimicmotion.errors import InputError, MimicMotionError
from mimicmotion.files import content_sha256, printable, read_record, writable_stem, write_bytes
from mimicmotion.latent_concat import join_detector_fingerprint
from mimicmotion.results import Job, require_places, sidecar_path, unfinished
from mimicmotion.sentences.maker import ALL_WAYS, SentenceMaker, SentenceOutcome
from mimicmotion.sentences.plan import SHEET, TRUE
from mimicmotion.sentences.table import Sentence

FOLDER = "joins"
VERSION = 1  # of the figures
FIGURES = ("place", "change", "double", "total", "true_place", "true_change", "true_pixels")


class Comparer:
    """Compares what `makers`, one for each way, have made of a sentence.

    truth: a folder of true sentences, see doc/sentences.md.
    """

    def __init__(self, makers: Sequence[SentenceMaker], truth: str | None):
        self.makers, self.truth = {maker.join: maker for maker in makers}, truth
        self.config = makers[0].config

    def job(self, sentence: Sentence) -> Job:
        """Where the comparison goes."""
        job, variant = self.makers["poses"].job(sentence), self.config.output.variant
        stem = writable_stem(f"{sentence.name}.{variant}" if variant else sentence.name)
        return Job(job.video, job.case, 0, job.output.parent / FOLDER / f"{stem}.mp4")

    def outcome(self, sentence: Sentence) -> SentenceOutcome:
        """For `make`."""
        return SentenceOutcome(self.job(sentence), sentence=sentence, way=ALL_WAYS)

    def true_files(self, sentence: Sentence) -> tuple[Path, Path] | None:
        """The true sentence and its poses; None where there is to be none."""
        if not self.truth:
            return None
        return Path(self.truth) / f"{sentence.name}.mp4", Path(self.truth) / f"{sentence.name}.npz"

    def made(self, sentence: Sentence) -> dict[str, SentenceMaker]:
        """The ways whose results are there."""
        return {join: maker for join, maker in self.makers.items() if maker.is_made(sentence)}

    def recipe(self, sentence: Sentence, ways: dict[str, SentenceMaker]) -> dict:
        """All that the comparison depends on. Raises: InputError where the true sentence is missing."""
        settings = self.makers["poses"].recipe(self.makers["poses"].plan(sentence))
        inputs = {join: content_sha256(maker.job(sentence).output) for join, maker in ways.items()}
        for path in self.true_files(sentence) or ():
            if not path.is_file():
                row = self.makers["poses"].row(sentence)
                raise InputError(f"{row}: {printable(path)} is missing, where --truth expects the true sentence")
            inputs[f"{TRUE}{path.suffix}"] = content_sha256(path)
        judged = {"version": VERSION, "detector": join_detector_fingerprint(self.makers["poses"].animator.models)}
        return settings | {"settings": settings["settings"] | {"joins": judged}, "inputs": settings["inputs"] | inputs}

    def is_finished(self, sentence: Sentence) -> bool:
        """Whether `make` would skip the sentence; False for one that will fail."""
        try:
            return not self._to_make(sentence, self.recipe(sentence, self.made(sentence)))
        except MimicMotionError:
            return False

    def _to_make(self, sentence: Sentence, made_from: dict) -> dict[Path, str]:
        job = self.job(sentence)
        # A single word has no join to show.
        beside = [job.beside(SHEET)] if len(self.makers["poses"].plan(sentence).words) > 1 else []
        require_places(job.output, sidecar_path(job.output), *beside)
        return unfinished(job.output, made_from, beside)

    def make(self, outcome: SentenceOutcome) -> None:
        """Compares the ways that are there. Raises: InputError that names the row; SetupError."""
        outcome.left_out = self.makers["poses"].plan(outcome.sentence).left_out
        ways = self.made(outcome.sentence)
        if not ways:
            raise InputError(f"{self.makers['poses'].row(outcome.sentence)}: none of its ways is made")
        made_from = self.recipe(outcome.sentence, ways)
        if outcome.is_finished(self._to_make(outcome.sentence, made_from)):
            return
        from mimicmotion.sentences.judging import compare_ways

        compare_ways(outcome, self.makers["poses"], ways, self.true_files(outcome.sentence), made_from)

    def figures(self, sentences: Sequence[Sentence]) -> list[dict]:
        """What the records say of each join and way: sentence, join, way and FIGURES."""
        rows = []
        for sentence in sentences:
            record = read_record(sidecar_path(self.job(sentence).output)) or {}
            for at in record.get("joins", []):
                named = {"sentence": sentence.name, "join": at["between"]}
                rows += [named | {"way": way} | figures for way, figures in at["ways"].items()]
        return rows

    def write_table(self, rows: Sequence[dict]) -> Path:
        """Writes all figures as a CSV beside the comparisons. Raises: SetupError."""
        text, path = io.StringIO(), Path(self.config.sentences.output_dir) / FOLDER / "joins.csv"
        writer = csv.DictWriter(text, ("sentence", "join", "way", *FIGURES), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_bytes(path, text.getvalue().encode())
        return path


def means(rows: Sequence[dict]) -> str:
    """A table of each way's means over all joins."""
    named = [name for name in FIGURES if any(name in row for row in rows)]
    lines = []
    for way in (TRUE, *JOINS):
        of_way = [row for row in rows if row["way"] == way]
        if of_way:
            shown = [f"{sum(row[name] for row in of_way) / len(of_way):.2f}" for name in named if name in of_way[0]]
            lines.append((way, str(len(of_way)), *shown))
    return text_table(("way", "joins", *named), lines)
