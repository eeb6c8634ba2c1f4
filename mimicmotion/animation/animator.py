"""One result: a reference picture performs the motion of one driving video.

    Animator.animate(outcome)   poses -> latents -> frames -> mp4, contact sheet, sidecar
      prepare                   picture and video -> pixels, aligned poses; no diffusion model is needed
      sample                    the pipeline call
      write                     latents -> frames, piece by piece, while the mp4 is written

An Animator holds what the jobs of a run share; `batch` runs many of them. Its parts can be used without it. Within
`preparing`, what the next jobs need is made ready beside the one that has its turn: clips, or sampled latents.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mimicmotion.animation.memory import can_overlap, outgrows_plan, plan_frames
from mimicmotion.animation.models import Models
from mimicmotion.animation.record import (
    decoding_facts,
    job_inputs,
    job_recipe,
    sampling_facts,
    still_to_make,
    write_record,
)
from mimicmotion.animation.seals import Seals
from mimicmotion.config import Config
from mimicmotion.errors import MimicMotionError, is_out_of_memory
from mimicmotion.results import Job, add_to_sidecar, require_kept

if TYPE_CHECKING:
    import torch

    from mimicmotion.animation.ahead import Ahead
    from mimicmotion.animation.clip import Clip, ClipMaker
    from mimicmotion.animation.inputs import InputFeatures
    from mimicmotion.animation.sampler import Sampler
    from mimicmotion.animation.writer import ResultWriter

logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """How a job ended: status "done", "skipped", "failed", "interrupted" or "not run"; the rest is for the summary.

    where: of a job that a worker did, the host, process, GPU and attempt, for the history.
    """

    job: Job
    status: str = "not run"
    seconds: float = 0.0
    frames: int = 0
    message: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    where: dict = field(default_factory=dict)

    def is_finished(self, missing: dict[Path, str]) -> bool:
        """Whether no file of the result is `missing`; it is skipped then. What is odd about missing ones is logged."""
        if not missing:
            self.skip()
        for path, reason in missing.items():
            if reason:
                logger.warning("%s is made anew: %s", path, reason)
        return not missing

    def skip(self) -> None:
        """Notes that the result was there."""
        self.status, self.message = "skipped", "finished before with the same settings"


class InItsTurn(Exception):
    """What cannot be done beside another result."""


@dataclass(frozen=True)
class Ready:
    """What a job's result needs before it can be written.

    inputs: content hashes of the files that the clip was made of; seconds: of the stages so far; latents: None where
    they are not needed or not sampled yet; facts: what the record will say of the sampling.
    """

    clip: "Clip"
    inputs: dict[str, str]
    seconds: dict[str, float]
    latents: "torch.Tensor | None" = None
    facts: dict = field(default_factory=dict)


class Animator:
    """The parts that make a result, put together; each is made, and torch imported, when it is first needed.

    Args:
        config: the settings of the run.
        models: networks and detector; by default those that the settings name.
        features: what finds out about the inputs, InputFeatures or its cached twin.

    `seals` is set by a run that knows finished results by a manifest, `ahead` within `preparing`: what prepares clips
    and, where writing overlaps sampling, samples them.
    """

    def __init__(self, config: Config, models: Models | None = None, features: "InputFeatures | None" = None):
        self.config = config
        self.models = models or Models(config)
        self.seals: Seals | None = None
        self.ahead: Ahead | None = None
        self._jobs: Sequence[Job] = ()
        self._clips_ahead: Ahead | None = None
        self._overlaps, self._writing = False, threading.Event()
        self._features = features

    @cached_property
    def features(self) -> "InputFeatures":
        """What finds out about the inputs."""
        from mimicmotion.animation.inputs import InputFeatures

        return self._features or InputFeatures(self.models)

    @cached_property
    def clips(self) -> "ClipMaker":
        """What makes jobs ready to be sampled. Who asks for it will need networks soon."""
        from mimicmotion.animation.clip import ClipMaker

        self.models.hash_ahead()
        return ClipMaker(self.models, self.features)

    @cached_property
    def sampler(self) -> "Sampler":
        """What samples them."""
        from mimicmotion.animation.sampler import Sampler

        return Sampler(self.models, self.features)

    @cached_property
    def writer(self) -> "ResultWriter":
        """What writes them."""
        from mimicmotion.animation.writer import ResultWriter

        return ResultWriter(self.models)

    def inputs(self, job: Job) -> dict[str, str]:
        """Content hashes of the job's files, for `recipe`. Raises: InputError when one of them is missing."""
        return job_inputs(self.models, job)

    def recipe(self, job: Job, inputs: dict[str, str] | None = None) -> dict:
        """All that the job's result depends on, the weights among it, whose hashes may take a while; `inputs` are its
        files' hashes where they are known. Raises: as `inputs`.
        """
        return job_recipe(self.models, job, inputs)

    def is_finished(self, job: Job) -> bool:
        """Whether `animate` would skip the job; False for one that will fail."""
        if self.seals:
            return self.seals.is_finished(job)
        try:
            return not still_to_make(self.models, job, lambda: self.recipe(job))
        except MimicMotionError:
            return False

    def require_kept(self, jobs: Iterable[Job]) -> None:
        """Raises: UsageError where finished results, made differently, lie in the places of these jobs."""
        if not self.config.output.overwrite:
            require_kept(self._recipes(jobs))

    def _recipes(self, jobs: Iterable[Job]) -> Iterator[tuple[Path, dict]]:
        for job in jobs:
            if not os.path.exists(job.output):
                continue
            with contextlib.suppress(MimicMotionError):  # it will fail in its turn
                yield job.output, self.recipe(job)

    def animate(self, outcome: Outcome) -> None:
        """Makes one result and writes it with contact sheet and sidecar, or skips it when it is finished.

        Of a finished result whose companions are missing or belong to another, these alone are made anew.

        Raises: InputError for what is wrong with the input, NumericalError, SetupError.
        """
        job = outcome.job
        if self.seals and self.seals.holds(job):
            outcome.skip()
            return
        inputs = job_inputs(self.models, job)
        missing = still_to_make(self.models, job, lambda: job_recipe(self.models, job, inputs))
        if outcome.is_finished(missing):
            return
        ready = self._ready(job, inputs, job.output in missing)
        made_from = job_recipe(self.models, job, ready.inputs)
        if job.output not in missing:
            self._complete(outcome, ready.clip, made_from, list(missing))
            return
        from mimicmotion.timing import StageClock

        clock = StageClock(self.models.device)
        clock.seconds |= ready.seconds
        with clock.stage("decoding"):
            facts = self._written(ready, made_from)
        outcome.status, outcome.frames, outcome.message = "done", ready.clip.num_frames, str(job.output)
        outcome.stages = clock.rounded()
        write_record(self.models, ready.clip, made_from, facts | {"stage_seconds": outcome.stages})
        if self.seals:
            self.seals.note(job)

    def _complete(self, outcome: Outcome, clip: "Clip", made_from: dict, missing: list[Path]) -> None:
        """Makes the companions of a finished result, for which nothing has to be sampled."""
        self.writer.complete(clip, missing, made_from)
        add_to_sidecar(outcome.job.output, missing)
        if self.seals:
            self.seals.note(outcome.job)
        names = ", ".join(path.name for path in missing)
        outcome.status, outcome.frames = "done", clip.num_frames
        outcome.message = f"{outcome.job.output} was finished before; made for it: {names}"

    @contextlib.contextmanager
    def preparing(self, jobs: Sequence[Job]) -> Iterator[None]:
        """A block in which these jobs are animated in their order, and what the next ones need is made ready meanwhile,
        as `batch.prefetch` and `batch.overlap` say.
        """
        self._jobs = jobs
        try:
            yield
        finally:
            if self.ahead:
                self.ahead.close()
                self.features.stop.clear()
            self.ahead, self._clips_ahead, self._jobs, self._overlaps = None, None, (), False

    def _ready(self, job: Job, inputs: dict[str, str], sampled: bool) -> "Ready":
        """What the job's result needs, made of files of these hashes, now or ahead."""
        if self._jobs and not self.ahead:
            self._begin_ahead()
        if not self.ahead:
            ready = self._read(job)
        else:
            ready = _taken(self.ahead, job, inputs)
            if self._overlaps and sampled and ready.latents is None:  # it seemed finished until now
                ready, _ = self.ahead.take(job)
        if not sampled or ready.latents is not None:
            return ready
        if self._overlaps:
            self.ahead.settle()  # one pipeline samples one clip at a time
        return self._sampled(ready)

    def _begin_ahead(self) -> None:
        from mimicmotion.animation.ahead import Ahead

        self._overlaps, stop = can_overlap(self.models), self.features.stop
        if depth := self._depth():
            self._clips_ahead = self.ahead = Ahead(self._read, self._jobs, self.is_finished, depth, stop)
        if self._overlaps:
            self.ahead = Ahead(self._read_and_sampled, self._jobs, self.is_finished, 1, stop, self._clips_ahead)

    def _depth(self) -> int:
        depth = self.config.batch.prefetch
        if depth is None:
            # A CPU that samples has no time left over, and a card that networks leave no room for a detector on it.
            full = self.models.offload != "none" and self.models.backend == "dwpose"
            depth = 0 if full or self.models.device.type == "cpu" else 1
        return depth

    def _read(self, job: Job) -> "Ready":
        """The job's clip."""
        start = time.perf_counter()
        inputs = job_inputs(self.models, job)
        clip = self.clips.prepare(job)
        return Ready(clip, inputs, {"poses": time.perf_counter() - start})

    def _sampled(self, ready: "Ready") -> "Ready":
        """The same with latents."""
        from mimicmotion.timing import StageClock

        clip, models = ready.clip, self.models
        if self._writing.is_set() and outgrows_plan(models, clip.job.case, clip.reference, clip.num_frames):
            raise InItsTurn(f"{clip.job.name} needs another plan for the card")
        plan_frames(models, clip.job.case, clip.reference, clip.num_frames)
        clock = StageClock(models.device)
        clock.seconds |= ready.seconds
        with clock.stage("loading"):
            models.pipeline.vae_fallback_count, models.pipeline.decode_chunks = 0, []
        with clock.stage("sampling"):
            latents = self.sampled(clip, lambda: job_recipe(models, clip.job, ready.inputs))
        return replace(ready, latents=latents, seconds=clock.seconds, facts=sampling_facts(models))

    def _read_and_sampled(self, job: Job) -> "Ready":
        """The job's clip, with latents where they are needed, while another result is written."""
        inputs = job_inputs(self.models, job)
        missing = still_to_make(self.models, job, lambda: job_recipe(self.models, job, inputs))
        ready = _taken(self._clips_ahead, job, inputs) if self._clips_ahead else self._read(job)
        if job.output not in missing:
            return ready
        sampled = self._sampled(ready)
        # Where a larger clip has changed the plan, the card may have no room for two any more.
        self.ahead.depth = int(can_overlap(self.models))
        return sampled

    def _written(self, ready: "Ready", made_from: dict) -> dict:
        """Writes the result; what the record says of sampling and decoding."""
        given = ready.clip, ready.latents, made_from
        if not self._overlaps:
            self.write(*given)
            return sampling_facts(self.models)
        decoder = self.models.decoder_beside()
        self._writing.set()
        try:
            self.writer.write(*given, decoder)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # By itself, and then in smaller chunks if it must.
            self.ahead.settle()
            decoder.may_halve = True
            self.writer.write(*given, decoder)
        finally:
            self._writing.clear()
        return ready.facts if self.models.decoder_hash else decoding_facts(self.models, decoder, ready.facts)

    def prepare(self, job: Job) -> "Clip":
        """As `ClipMaker.prepare`; where no run was planned for the card, this clip is."""
        clip = self.clips.prepare(job)
        plan_frames(self.models, job.case, clip.reference, clip.num_frames)
        return clip

    def find_out(self, job: Job) -> None:
        """As `ClipMaker.find_out`."""
        self.clips.find_out(job)

    def sample(self, clip: "Clip") -> "torch.Tensor":
        """As `Sampler.sample_recorded`."""
        return self.sampler.sample_recorded(clip)

    def sampled(self, clip: "Clip", made_from: Callable[[], dict]) -> "torch.Tensor":
        """As `sample`, unless an earlier run did and failed behind it; latents are kept until the result is whole."""
        from mimicmotion.animation.kept_latents import keep_latents, kept_latents

        # A recording wants the steps, and who overwrites wants everything made anew.
        fresh = self.config.output.overwrite or self.config.latent_steps.folder
        latents = None if fresh else kept_latents(clip.job, made_from)
        if latents is not None:
            self.sampler.set_noise_levels(clip)
            return latents
        latents = self.sample(clip)
        keep_latents(clip.job, made_from(), latents)
        return latents

    def write(self, clip: "Clip", latents: "torch.Tensor", made_from: dict) -> None:
        """As `ResultWriter.write`."""
        self.writer.write(clip, latents, made_from)


def _taken(ahead: "Ahead", job: Job, inputs: dict[str, str]) -> Ready:
    """What was made ready ahead; made anew where the job's files, whose hashes are `inputs`, have changed since."""
    ready, _ = ahead.take(job)
    return ready if ready.inputs == inputs else ahead.take(job)[0]
