"""Latents of every sampling step: recorded beside a run, and decoded to look at how a clip comes about.

recorder            StepExperiment, a run's folder, and StepRecorder, the pipeline's callback_on_step_end
step_files          names, writing, filtering and checked reading of step files
vae_decoder         LatentDecoder: latents -> frames by the VAE of a model, any latents
experiment_decoder  ExperimentLatentDecoder: an experiment's step files -> videos, resumable
report              contact sheet, progress video and report.html of decoded steps
options             defaults of decoding, apart so that --help needs no torch
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "recorder": ["StepExperiment", "StepRecorder"],
        "step_files": ["LONGEST_NAME", "recorded_folders", "require_name"],
        "options": [
            "COMPRESS_PRESETS",
            "DEFAULT_DEVICE",
            "DEFAULT_FPS",
            "DEFAULT_QUALITY",
            "DEFAULT_SCALE",
            "DEFAULT_WORKERS",
        ],
        "experiment_decoder": ["ExperimentLatentDecoder", "summarize"],
        "vae_decoder": ["LatentDecoder"],
        "report": ["write_pictures", "write_report"],
    },
)
