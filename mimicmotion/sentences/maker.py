"""One sentence: what it is made of and depends on, is it finished; who makes it is in `perform`. No torch here."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mimicmotion.animation import Animator, Outcome, input_paths, recipe_of
from mimicmotion.errors import InputError, MimicMotionError
from mimicmotion.files import printable, sha256_json, writable_stem
from mimicmotion.results import Job, Manifest, Seal, Sealing, require_places, seal_result, sidecar_path, unfinished
from mimicmotion.sentences.clips import WordClips
from mimicmotion.sentences.plan import COMPANIONS, Plan, companions
from mimicmotion.sentences.table import Sentence
from mimicmotion.sentences.timeline import AT_ONCE
from mimicmotion.sentences.words import word_job

logger = logging.getLogger(__name__)

ALL_WAYS = "all ways"
TRIMMING = ("trim_hand_score", "trim_lowest", "trim_still")


class Maker(Protocol):
    """What makes something of a sentence."""

    def make(self, outcome: "SentenceOutcome") -> None:
        """Makes it, or skips what is finished. Raises: MimicMotionError."""


@dataclass
class SentenceOutcome(Outcome):
    """How a sentence ended, its words without a clip, and the `way` it is made: a join, or ALL_WAYS for comparing."""

    sentence: Sentence = field(kw_only=True)
    way: str = field(kw_only=True)
    left_out: list[str] = field(default_factory=list)


class SentenceMaker:
    """Makes sentences with one animator.

    Args:
        clips: the clips of the words.
        join: the way from word to word, as `sentences.join`.
        variant: what the names of the sentences get, as `output.variant`.
    """

    def __init__(self, animator: Animator, clips: WordClips, join: str, variant: str | None = None):
        self.animator, self.config, self.join = animator, animator.config, join
        self._clips, self._variant = clips, variant
        self.seals: SentenceSeals | None = None

    def job(self, sentence: Sentence) -> Job:
        """Where the sentence goes. There is no driving video; what is shown of it is the sentence's name."""
        stem = writable_stem(f"{sentence.name}.{self._variant}" if self._variant else sentence.name)
        folder = Path(self.config.sentences.output_dir)
        return Job(Path(sentence.name), self.config.test_case[0], 0, folder / f"{stem}.mp4")

    def outcome(self, sentence: Sentence) -> SentenceOutcome:
        """For `make`."""
        return SentenceOutcome(self.job(sentence), sentence=sentence, way=self.join)

    def plan(self, sentence: Sentence) -> Plan:
        """Raises: InputError that names the row, where it has a problem or lacks clips."""
        job = self.job(sentence)
        if sentence.problem:
            raise InputError(f"{self.row(sentence)}: {sentence.problem}")
        clips = self._clips.find(sentence)
        named = list(zip(sentence.words, clips, strict=True))
        missing = [word for word, clip in named if clip is None]
        words = [(word, word_job(clip, self._clips.folder, job)) for word, clip in named if clip is not None]
        lacking = f"{self.row(sentence)}: no clip of {', '.join(map(printable, dict.fromkeys(missing)))}"
        if not words:
            raise InputError(f"{lacking}, and so of none of its words; is --words the right folder?")
        if missing and self.config.sentences.missing == "fail":
            raise InputError(f"{lacking} in {self._clips.folder}; add it, or leave such words out with --missing skip")
        return Plan(sentence, job, words, missing)

    def row(self, sentence: Sentence) -> str:
        """Where the sentence stands in the table, in words."""
        return f"{printable(Path(self.config.sentences.table).name)}, row {sentence.row}"

    @contextmanager
    def naming(self, sentence: Sentence) -> Iterator[None]:
        """Within, errors of the inputs name the sentence's row."""
        try:
            yield
        except InputError as error:
            raise InputError(f"{self.row(sentence)}: {error}") from error

    def inputs(self, plan: Plan) -> list[dict[str, str]]:
        """Content hashes of each word's files, for `recipe`. Raises: InputError when a file is missing."""
        with self.naming(plan.sentence):
            return [self.animator.inputs(job) for _, job in plan.words]

    def recipe(
        self,
        plan: Plan,
        hashes: list[dict[str, str]] | None = None,
        recipe_of_word: Callable[[Job, dict[str, str]], dict] | None = None,
    ) -> dict:
        """All that a sentence depends on. Raises: as `inputs`.

        hashes: its `inputs` where they are known. recipe_of_word: as `Animator.recipe`, which it is unless given.
        """
        settings, recipe_of_word = self.config.sentences, recipe_of_word or self.animator.recipe
        hashes = self.inputs(plan) if hashes is None else hashes
        recipes = [recipe_of_word(job, of_word) for (_, job), of_word in zip(plan.words, hashes, strict=True)]
        inputs = {name: value for name, value in recipes[0]["inputs"].items() if name not in ("video", "poses")}
        for number, ((word, _), made_from) in enumerate(zip(plan.words, recipes, strict=True), 1):
            inputs[f"{number}: {word}"] = {
                name: value for name, value in made_from["inputs"].items() if name in ("video", "poses")
            }
        joining = {"join": self.join}
        if settings.trim:
            joining |= {name: getattr(settings, name) for name in TRIMMING}
        if self.join not in AT_ONCE:
            joining |= {"transition_frames": settings.transition_frames, "speed_limit": settings.speed_limit}
        if self.join == "bridge":
            joining["bridge_strength"] = self.config.latent_concat.bridge_strength
        return recipes[0] | {"settings": recipes[0]["settings"] | {"sentences": joining}, "inputs": inputs}

    def is_finished(self, sentence: Sentence) -> bool:
        """Whether `make` would skip the sentence; False for one that will fail."""
        try:
            plan = self.plan(sentence)
            if self.seals:
                return self.seals.is_finished(plan)
            return not self._to_make(plan.job, lambda: self.recipe(plan))
        except MimicMotionError:
            return False

    def is_made(self, sentence: Sentence) -> bool:
        """Whether the sentence itself is there, made as it would be now."""
        try:
            plan = self.plan(sentence)
            if self.seals and self.seals.holds(plan):
                return True
            if not os.path.exists(plan.job.output):
                return False
            return plan.job.output not in unfinished(plan.job.output, self.recipe(plan))
        except MimicMotionError:
            return False

    def companions(self, job: Job) -> list[Path]:
        """The files that lie beside a sentence."""
        return companions(job, self.config.output.contact_sheet)

    def _to_make(self, job: Job, made_from: Callable[[], dict]) -> dict[Path, str]:
        beside = self.companions(job)
        require_places(job.output, sidecar_path(job.output), *beside)
        # A recipe waits for the weights' hashes, so it is not asked for where there is no result.
        if self.config.output.overwrite or not os.path.exists(job.output):
            return {job.output: ""}
        return unfinished(job.output, made_from(), beside)

    def make(self, outcome: SentenceOutcome) -> None:
        """Makes one sentence with all that lies beside it, or skips it when it is finished.

        What lies beside a finished sentence and is missing or changed is made anew without sampling.

        Raises: InputError that names the row and the word; NumericalError, SetupError.
        """
        plan = self.plan(outcome.sentence)
        outcome.left_out = plan.left_out
        if plan.left_out:
            names = ", ".join(map(printable, plan.left_out))
            logger.warning("%s: left out, since there is no clip: %s", plan.job.name, names)
        if self.seals and self.seals.holds(plan):
            outcome.skip()
            return
        hashes = self.inputs(plan)
        missing = self._to_make(plan.job, lambda: self.recipe(plan, hashes))
        if outcome.is_finished(missing):
            return
        from mimicmotion.sentences.perform import complete, perform

        if plan.job.output in missing:
            perform(self, outcome, plan, hashes)
        else:
            complete(self, outcome, plan, self.recipe(plan, hashes), list(missing))
        self.note(outcome)

    def note(self, outcome: "SentenceOutcome") -> None:
        """Seals a sentence that was just made."""
        if self.seals and outcome.status == "done":
            self.seals.note(self.plan(outcome.sentence))


class SentenceSeals(Sealing):
    """The seals of one maker's sentences."""

    def __init__(self, maker: SentenceMaker, manifest: Manifest):
        super().__init__(manifest, maker.config.output.overwrite)
        self._maker = maker

    def output(self, item: Plan) -> Path:
        """The mp4."""
        return item.job.output

    def seal(self, item: Plan) -> Seal | None:
        """Over the clips of all words, in their order, beside what the other results have."""
        output, models = item.job.output, self._maker.animator.models
        if not output.exists():
            return None
        paths = [input_paths(models, job) for _, job in item.words]
        unhashed = [dict.fromkeys(of_word, "") for of_word in paths]
        made_from = self._maker.recipe(item, unhashed, lambda job, of_word: recipe_of(models, job, of_word))
        files = [path for of_word in paths for path in of_word.values()]
        wanted = [path.name.removeprefix(output.stem) for path in self._maker.companions(item.job)]
        return seal_result(output, sha256_json(made_from), files, wanted, COMPANIONS)

    def is_whole(self, item: Plan) -> bool:
        """Whether all files of the sentence are, to the last byte, what was made from this recipe."""
        beside = self._maker.companions(item.job)
        require_places(item.job.output, sidecar_path(item.job.output), *beside)
        return item.job.output.exists() and not unfinished(item.job.output, self._maker.recipe(item), beside)
