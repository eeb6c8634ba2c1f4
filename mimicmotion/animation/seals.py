"""Finished results, known by the manifest of their folder instead of by reading them. Nothing here imports torch."""

import os
from pathlib import Path

from mimicmotion.animation.models import Models
from mimicmotion.animation.record import (
    COMPARISON,
    SHEET,
    companion_endings,
    companions,
    input_paths,
    job_recipe,
    recipe_of,
)
from mimicmotion.files import sha256_json
from mimicmotion.results import Job, Manifest, Seal, Sealing, require_places, seal_result, sidecar_path, unfinished


class Seals(Sealing):
    """Makes the seals of a run's results and looks them up in `manifest`."""

    def __init__(self, models: Models, manifest: Manifest):
        config = models.config
        super().__init__(manifest, bool(config.output.overwrite or config.latent_steps.folder))
        self.models = models
        self._cases: dict[tuple, str] = {}

    def output(self, item: Job) -> Path:
        """The mp4."""
        return item.output

    def seal(self, item: Job) -> Seal | None:
        """The seal of the job's result as its files are now, as `results.seal_result`."""
        # Where there is no result nothing asks for the weights, whose hashes may not be known yet.
        if not os.path.exists(item.output):
            return None
        inputs = input_paths(self.models, item)
        made_from = self._made_from(item, tuple(inputs))
        wanted = companion_endings(self.models)
        return seal_result(item.output, made_from, inputs.values(), wanted, (SHEET, COMPARISON))

    def is_whole(self, item: Job) -> bool:
        """Whether all files of the result are, to the last byte, what was made from this recipe."""
        beside = companions(self.models, item)
        require_places(item.output, sidecar_path(item.output), *beside)
        return os.path.exists(item.output) and not unfinished(item.output, job_recipe(self.models, item), beside)

    def _made_from(self, job: Job, names: tuple[str, ...]) -> str:
        """Hash of all that the result depends on beside the content of its inputs, which are of these names."""
        key = (job.case_index, names)
        if key not in self._cases:
            self._cases[key] = sha256_json(recipe_of(self.models, job, dict.fromkeys(names, "")))
        return self._cases[key]
