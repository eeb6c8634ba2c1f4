"""One result: a reference picture performs the motion of one driving video.

    Animator.animate(outcome)   poses -> latents -> frames -> mp4, contact sheet, sidecar
      prepare                   picture and video -> pixels, aligned poses; no diffusion model is needed
      sample                    the pipeline call
      write                     latents -> frames, piece by piece, while the mp4 is written

An Animator holds what the jobs of a run share; `batch` runs many of them. Its parts can be used without it.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mimicmotion.animation.memory import plan_frames
from mimicmotion.animation.models import Models
from mimicmotion.animation.record import job_inputs, job_recipe, still_to_make, write_record
from mimicmotion.animation.seals import Seals
from mimicmotion.config import Config
from mimicmotion.errors import MimicMotionError
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


class Animator:
    """The parts that make a result, put together; each is made, and torch imported, when it is first needed.

    Args:
        config: the settings of the run.
        models: networks and detector; by default those that the settings name.
        features: what finds out about the inputs, InputFeatures or its cached twin.

    `seals` is set by a run that knows finished results by a manifest, `ahead` within `preparing`.
    """

    def __init__(self, config: Config, models: Models | None = None, features: "InputFeatures | None" = None):
        self.config = config
        self.models = models or Models(config)
        self.seals: Seals | None = None
        self.ahead: Ahead | None = None
        self._jobs: Sequence[Job] = ()
        self._features = features

    @cached_property
    def features(self) -> "InputFeatures":
        """What finds out about the inputs."""
        from mimicmotion.animation.inputs import InputFeatures

        return self._features or InputFeatures(self.models)

    @cached_property
    def clips(self) -> "ClipMaker":
        """What makes jobs ready to be sampled."""
        from mimicmotion.animation.clip import ClipMaker

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

    def recipe(self, job: Job) -> dict:
        """All that the job's result depends on. Raises: InputError when one of its files is missing."""
        return job_recipe(self.models, job)

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
        if job.output not in missing:
            self._complete(outcome, job_recipe(self.models, job, inputs), list(missing))
            return
        from mimicmotion.timing import StageClock

        clock = StageClock(self.models.device)
        clip, clock.seconds["poses"] = self._prepared(job)
        with clock.stage("loading"):
            self.models.pipeline.vae_fallback_count, self.models.pipeline.decode_chunks = 0, []
        with clock.stage("sampling"):
            latents = self.sampled(clip, lambda: job_recipe(self.models, job, inputs))
        made_from = job_recipe(self.models, job, inputs)
        with clock.stage("decoding"):
            self.write(clip, latents, made_from)
        outcome.status, outcome.frames, outcome.message = "done", clip.num_frames, str(job.output)
        outcome.stages = clock.rounded()
        write_record(self.models, clip, made_from, {"stage_seconds": outcome.stages})
        if self.seals:
            self.seals.note(job)

    def _complete(self, outcome: Outcome, made_from: dict, missing: list[Path]) -> None:
        """Makes the companions of a finished result, for which nothing has to be sampled."""
        clip, _ = self._prepared(outcome.job)
        self.writer.complete(clip, missing, made_from)
        add_to_sidecar(outcome.job.output, missing)
        if self.seals:
            self.seals.note(outcome.job)
        names = ", ".join(path.name for path in missing)
        outcome.status, outcome.frames = "done", clip.num_frames
        outcome.message = f"{outcome.job.output} was finished before; made for it: {names}"

    @contextlib.contextmanager
    def preparing(self, jobs: Sequence[Job]) -> Iterator[None]:
        """A block in which these jobs are animated in their order, and the clips of the next ones are made ready
        meanwhile, as many as `batch.prefetch` says.
        """
        self._jobs = jobs
        try:
            yield
        finally:
            if self.ahead:
                self.ahead.close()
            self.ahead, self._jobs = None, ()

    def _prepared(self, job: Job) -> tuple["Clip", float]:
        """The clip of a job and the seconds that making it took, whenever that was."""
        if self._jobs and self.ahead is None and (depth := self._depth()):
            from mimicmotion.animation.ahead import Ahead

            self.ahead = Ahead(self.clips.prepare, self._jobs, self.is_finished, depth, self.features.stop)
        if self.ahead:
            return self.ahead.take(job)
        start = time.perf_counter()
        clip = self.prepare(job)
        return clip, time.perf_counter() - start

    def _depth(self) -> int:
        depth = self.config.batch.prefetch
        if depth is None:
            # A CPU that samples has no time left over.
            depth = 0 if self.models.device.type == "cpu" else 1
        return depth

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
