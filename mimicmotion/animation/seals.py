"""Finished results, known by the manifest of their folder instead of by reading them. Nothing here imports torch."""

import contextlib
import os
import time
from collections.abc import Iterator

from mimicmotion.animation.models import Models
from mimicmotion.animation.record import (
    COMPARISON,
    SHEET,
    companion_endings,
    companions,
    input_paths,
    job_recipe,
    recipe_of,
    still_to_make,
)
from mimicmotion.errors import MimicMotionError
from mimicmotion.files import FINE_TICK_NS, sha256_json
from mimicmotion.results import Job, Manifest, Seal, seal_result, unfinished


class Seals:
    """Makes the seals of a run's results and looks them up in `manifest`."""

    def __init__(self, models: Models, manifest: Manifest):
        self.models, self.manifest = models, manifest
        self._cases: dict[tuple, str] = {}
        self._made: list[Job] = []

    def holds(self, job: Job) -> bool:
        """Whether the job is finished, by its seal alone."""
        return self._counts(self.seal(job))

    def is_finished(self, job: Job) -> bool:
        """Whether the job is finished, by its seal or by its content; it is sealed then. False for one that fails."""
        try:
            seal = self.seal(job)
            if self._counts(seal):
                return True
            finished = not still_to_make(self.models, job, lambda: job_recipe(self.models, job))
        except MimicMotionError:
            return False
        if finished and seal:
            self.manifest.add(job.output, seal)
        return finished

    def seal(self, job: Job) -> Seal | None:
        """The seal of the job's result as its files are now, as `results.seal_result`."""
        # Where there is no result nothing asks for the weights, whose hashes may not be known yet.
        if not os.path.exists(job.output):
            return None
        inputs = input_paths(self.models, job)
        made_from = self._made_from(job, tuple(inputs))
        wanted = companion_endings(self.models)
        return seal_result(job.output, made_from, inputs.values(), wanted, (SHEET, COMPARISON))

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """A block in which results are made; at its end all seals are on the disk."""
        try:
            yield
        finally:
            if self._made:
                time.sleep(FINE_TICK_NS / 1e9)
                self._seal_made()
            self.manifest.flush(at_once=True)

    def note(self, job: Job) -> None:
        """Notes that the job's result has just been made; it is sealed when the next one is, or at the end."""
        self._seal_made()
        self._made.append(job)
        self.manifest.flush()

    def _seal_made(self) -> None:
        # What changes a file within a tick of its clock would not show. So a result is sealed when it is older, and
        # its content is looked at once more, after its seal was taken.
        for job in self._made:
            with contextlib.suppress(MimicMotionError, OSError):
                seal, made_from = self.seal(job), job_recipe(self.models, job)
                if seal and not unfinished(job.output, made_from, companions(self.models, job)):
                    self.manifest.add(job.output, seal)
        self._made.clear()

    def _counts(self, seal: Seal | None) -> bool:
        config = self.models.config
        again = config.output.overwrite or config.latent_steps.folder  # what is finished is made again
        return not again and seal is not None and seal in self.manifest

    def _made_from(self, job: Job, names: tuple[str, ...]) -> str:
        """Hash of all that the result depends on beside the content of its inputs, which are of these names."""
        key = (job.case_index, names)
        if key not in self._cases:
            self._cases[key] = sha256_json(recipe_of(self.models, job, dict.fromkeys(names, "")))
        return self._cases[key]
