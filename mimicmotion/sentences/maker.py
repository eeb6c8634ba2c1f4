"""One sentence: from its row and its words' clips to its files; what it depends on, and is it finished."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mimicmotion.animation import Animator, Outcome
from mimicmotion.config import transition_length
from mimicmotion.device import describe_device, peak_memory
from mimicmotion.errors import InputError, MimicMotionError
from mimicmotion.features import Reference
from mimicmotion.files import printable, writable_stem, write_bytes
from mimicmotion.latent_concat import PosedFrames
from mimicmotion.pipelines import turbo_steps_and_guidance
from mimicmotion.results import (
    Job,
    provenance,
    recipe_tag,
    require_places,
    sidecar_path,
    unfinished,
    write_sidecar,
)
from mimicmotion.sentences.clips import WordClips
from mimicmotion.sentences.join import Pace, fastest, transition
from mimicmotion.sentences.subtitles import Spoken, srt, vtt
from mimicmotion.sentences.table import Sentence
from mimicmotion.sentences.trim import body_height
from mimicmotion.sentences.words import Word, WordReader, word_job
from mimicmotion.sentences.writing import SHEET, Join, shown_frames, write_sheet, write_video
from mimicmotion.timing import StageClock

logger = logging.getLogger(__name__)

SUBTITLES = {".srt": srt, ".vtt": vtt}
TRIMMING = ("trim_hand_score", "trim_lowest", "trim_still")
SAME_SPEED = 0.01


@dataclass
class SentenceOutcome(Outcome):
    """How a sentence ended, and its words without a clip."""

    sentence: Sentence = field(kw_only=True)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What a sentence is made of: its words with their clips' jobs, and those that are left out."""

    sentence: Sentence
    job: Job
    words: list[tuple[str, Job]]
    left_out: list[str]


class SentenceMaker:
    """Makes sentences with one animator."""

    def __init__(self, animator: Animator):
        self.animator, self.config = animator, animator.config
        self._clips, self._reader = WordClips(self.config.sentences.words), WordReader(animator)

    def job(self, sentence: Sentence) -> Job:
        """Where the sentence goes. There is no driving video; what is shown of it is the sentence's name."""
        settings, variant = self.config.sentences, self.config.output.variant
        stem = writable_stem(f"{sentence.name}.{variant}" if variant else sentence.name)
        return Job(Path(sentence.name), self.config.test_case[0], 0, Path(settings.output_dir) / f"{stem}.mp4")

    def plan(self, sentence: Sentence) -> Plan:
        """Raises: InputError that names the row, where it has a problem or lacks clips."""
        job = self.job(sentence)
        if sentence.problem:
            raise InputError(f"{self._row(sentence)}: {sentence.problem}")
        clips = self._clips.find(sentence)
        named = list(zip(sentence.words, clips, strict=True))
        missing = [word for word, clip in named if clip is None]
        words = [(word, word_job(clip, self._clips.folder, job)) for word, clip in named if clip is not None]
        lacking = f"{self._row(sentence)}: no clip of {', '.join(map(printable, dict.fromkeys(missing)))}"
        if not words:
            raise InputError(f"{lacking}, and so of none of its words; is --words the right folder?")
        if missing and self.config.sentences.missing == "fail":
            raise InputError(f"{lacking} in {self._clips.folder}; add it, or leave such words out with --missing skip")
        return Plan(sentence, job, words, missing)

    def _row(self, sentence: Sentence) -> str:
        return f"{printable(Path(self.config.sentences.table).name)}, row {sentence.row}"

    @contextmanager
    def _naming(self, sentence: Sentence) -> Iterator[None]:
        """Within, errors of the inputs name the sentence's row."""
        try:
            yield
        except InputError as error:
            raise InputError(f"{self._row(sentence)}: {error}") from error

    def recipe(self, plan: Plan) -> dict:
        """All that a sentence depends on. Raises: InputError when a file is missing."""
        settings = self.config.sentences
        with self._naming(plan.sentence):
            recipes = [self.animator.recipe(job) for _, job in plan.words]
        inputs = {name: value for name, value in recipes[0]["inputs"].items() if name not in ("video", "poses")}
        for number, ((word, _), made_from) in enumerate(zip(plan.words, recipes, strict=True), 1):
            inputs[f"{number}: {word}"] = {
                name: value for name, value in made_from["inputs"].items() if name in ("video", "poses")
            }
        joining = {"join": settings.join}
        if settings.trim:
            joining |= {name: getattr(settings, name) for name in TRIMMING}
        if settings.join == "poses":
            joining |= {"transition_frames": settings.transition_frames, "speed_limit": settings.speed_limit}
        return recipes[0] | {"settings": recipes[0]["settings"] | {"sentences": joining}, "inputs": inputs}

    def is_finished(self, sentence: Sentence) -> bool:
        """Whether `make` would skip the sentence; False for one that will fail."""
        try:
            plan = self.plan(sentence)
            return not self._to_make(plan.job, self.recipe(plan))
        except MimicMotionError:
            return False

    def _companions(self, job: Job) -> list[Path]:
        endings = [*SUBTITLES, *([SHEET] if self.config.output.contact_sheet else [])]
        return [job.beside(ending) for ending in endings]

    def _to_make(self, job: Job, made_from: dict) -> dict[Path, str]:
        companions = self._companions(job)
        require_places(job.output, sidecar_path(job.output), *companions)
        return {job.output: ""} if self.config.output.overwrite else unfinished(job.output, made_from, companions)

    def make(self, outcome: SentenceOutcome) -> None:
        """Makes one sentence with all that lies beside it, or skips it when it is finished.

        Raises: InputError that names the row and the word; NumericalError, SetupError.
        """
        plan = self.plan(outcome.sentence)
        outcome.left_out = plan.left_out
        if plan.left_out:
            names = ", ".join(map(printable, plan.left_out))
            logger.warning("%s: left out, since there is no clip: %s", plan.job.name, names)
        made_from = self.recipe(plan)
        if not outcome.is_finished(self._to_make(plan.job, made_from)):
            self._sample(outcome, plan, made_from)

    def _sample(self, outcome: Outcome, plan: Plan, made_from: dict) -> None:
        job, models, sheet = plan.job, self.animator.models, self.config.output.contact_sheet
        clock = StageClock(models.device)
        with clock.stage("poses"):
            reference = self.animator.clips.reference(job)
            with self._naming(plan.sentence):
                words = self._words(plan, reference)
                poses, spoken, joins = self._joined(words, reference)
            drawn = self.animator.clips.draw([reference.pose, *poses], reference)
        with clock.stage("loading"):
            models.pipeline.vae_fallback_count = 0
        with clock.stage("sampling"):
            latents = self.animator.sampler.sample(PosedFrames(job, reference, drawn))
        with clock.stage("decoding"):
            whole, around = shown_frames(len(poses), joins)
            wanted = {place for places in (whole, *around) for place in places} if sheet else set()
            frames = write_video(models, job, latents, wanted, made_from)
        if sheet:
            write_sheet(job, frames, drawn, joins, spoken, recipe_tag(made_from))
        for ending, text in SUBTITLES.items():
            write_bytes(job.beside(ending), text(spoken, job.case.fps).encode())
        outcome.status, outcome.frames, outcome.message = "done", len(poses), str(job.output)
        outcome.stages = clock.rounded()
        facts = self._facts(plan, reference) | {
            "frames": len(poses),
            "words": [
                {"word": word.name, "first_frame": at.first, "frames": at.stop - at.first} | word.facts
                for word, at in zip(words, spoken, strict=True)
            ],
            "joins": [
                {"between": join.between, "first_frame": join.first, "frames": join.stop - join.first,
                 "fastest_hand": round(join.fastest, 3)}
                for join in joins
            ],
            "stage_seconds": outcome.stages,
        }  # fmt: skip
        write_sidecar(job.output, made_from, facts, self._companions(job))

    def _words(self, plan: Plan, reference: Reference) -> list[Word]:
        read: dict[str, Word] = {}
        for name, clip in plan.words:
            if name not in read:
                read[name] = self._reader.read(name, clip, reference)
        words = [read[name] for name, _ in plan.words]
        speeds = {word.facts["playback_speed"]: printable(word.name) for word in words}
        if max(speeds) - min(speeds) > SAME_SPEED * max(speeds):
            slow, fast = min(speeds), max(speeds)
            logger.warning(
                "%s: the clips have different frame rates, so %s plays at %.2f times its speed and %s at %.2f times",
                plan.job.name, speeds[slow], slow, speeds[fast], fast,
            )  # fmt: skip
        return words

    def _joined(self, words: list[Word], reference: Reference) -> tuple[list[dict], list[Spoken], list[Join]]:
        """The poses of the whole sentence, where each word is, and what lies between them."""
        settings, fps = self.config.sentences, self.config.test_case[0].fps
        height, width = reference.pixels.shape[:2]
        aspect, count = width / height, transition_length(settings.transition_frames)
        size = body_height([pose for word in words for pose in word.poses], aspect) if len(words) > 1 else 1.0
        pace = Pace(size, settings.speed_limit * size / fps, aspect, fps)
        poses, joins = list(words[0].poses), []
        spoken = [Spoken(words[0].name, 0, len(poses))]
        for before, after in pairwise(words):
            between = []
            if settings.join == "poses":
                between = transition(before.poses, after.poses, count, pace)
            first, stop = len(poses), len(poses) + len(between)
            speed = fastest([before.poses[-1], *between, after.poses[0]], aspect) * fps / size
            joins.append(Join(f"{before.name} > {after.name}", first, stop, speed))
            poses += [*between, *after.poses]
            spoken.append(Spoken(after.name, stop, len(poses)))
        return poses, spoken, joins

    def _facts(self, plan: Plan, reference: Reference) -> dict:
        models, case, settings = self.animator.models, plan.job.case, self.config.sentences
        steps, guidance = turbo_steps_and_guidance(self.config.turbo, case)
        height, width = reference.pixels.shape[:2]
        given = {"table": settings.table, "words": settings.words, "reference": case.ref_image_path}
        return {
            "paths": {name: {"given": path, "absolute": os.path.abspath(path)} for name, path in given.items()},
            "made": provenance(self.config),
            "sentence": plan.sentence.name,
            "row": plan.sentence.row,
            "left_out": plan.left_out,
            "seed": case.seed,
            "fps": case.fps,
            "height": height,
            "width": width,
            "steps": steps,
            "guidance_scale": guidance,
            "vae_chunks_in_fp32": models.pipeline.vae_fallback_count,
            "device": describe_device(models.device),
            "dtype": str(models.dtype),
            "peak_memory_bytes": peak_memory(models.device),
        }
