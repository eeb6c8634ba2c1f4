"""The latents of every sampling step, written down beside a run; torch is imported when a clip is sampled."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mimicmotion.animation.models import Models
from mimicmotion.config import Config
from mimicmotion.files import remove_stale_temporaries, require_writable
from mimicmotion.pipelines import turbo_steps_and_guidance

if TYPE_CHECKING:
    from mimicmotion.animation.clip import Clip
    from mimicmotion.latent_steps import StepExperiment, StepRecorder


def check_recording(config: Config) -> None:
    """Raises: UsageError for a name that is a path, SetupError for a folder that cannot be written."""
    if config.latent_steps.folder:
        experiment_name(config)
        folder = require_writable(config.latent_steps.folder)
        from mimicmotion.latent_steps import recorded_folders

        # Each run has folders of its own: what killed ones left lies in theirs.
        for place in recorded_folders(folder):
            remove_stale_temporaries(place)


class StepRecording:
    """The recordings of a run, one folder for all of its clips."""

    def __init__(self, models: Models):
        self.models, self.config = models, models.config

    @contextmanager
    def recorder(self, clip: "Clip") -> Iterator["StepRecorder"]:
        """The `callback_on_step_end` that writes down the steps of a clip."""
        job, case = clip.job, clip.job.case
        steps, guidance = turbo_steps_and_guidance(self.config.turbo, case)
        facts = {
            "video": str(job.video),
            "reference": case.ref_image_path,
            "result": str(job.output),
            "seed": case.seed,
            "steps": steps,
            "guidance_scale": guidance,
        }
        with self.experiment.recorder(job.case_index, facts) as recorder:
            yield recorder
        self.experiment.finish(recorder)

    @cached_property
    def experiment(self) -> "StepExperiment":
        """The recording of this run's sampling steps; its folder is made when the first clip is sampled."""
        from mimicmotion.latent_steps import StepExperiment

        config, base = self.config, Path(self.config.base_model_path)
        description = {
            "model_settings": {
                "model_id": str(base.resolve()) if base.exists() else config.base_model_path,
                "ckpt_path": config.ckpt_path,
                "lcm_lora_path": config.turbo.lcm_lora_path,
                "more_lora_paths": config.turbo.more_lora_paths,
                "weights": self.models.weights,
            },
            "video_settings": {
                "fps": config.test_case[0].fps,
                "conditioning_fps": config.sampling.conditioning_fps,
                "decode_chunk_size": config.sampling.decode_chunk_size,
            },
            "scheduler": json.loads(self.models.pipeline.scheduler.to_json_string()),
            "test_case": [asdict(case) for case in config.test_case],
            "reference": asdict(config.reference),
        }
        return StepExperiment(config.latent_steps.folder, experiment_name(config), description)


def experiment_name(config: Config) -> str:
    """What a recording of steps is called: as asked, or after the videos' folder.

    Raises: UsageError for a name that is a path.
    """
    from mimicmotion.latent_steps import LONGEST_NAME, require_name

    if config.latent_steps.experiment_name:
        return require_name(config.latent_steps.experiment_name, "--experiment_name")
    videos = config.batch.video_folder or Path(config.test_case[0].ref_video_path or "steps/video").parent
    name = re.sub(r"\W+", "_", os.path.basename(os.path.realpath(videos)))
    return name.encode()[:LONGEST_NAME].decode(errors="ignore") or "steps"
