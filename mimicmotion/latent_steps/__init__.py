"""Latents of every sampling step: recording them beside a run, and decoding them to look at how a clip comes about.

StepRecorder              records one clip; the pipeline's `callback_on_step_end`
StepExperiment            the folder of a run with one recorder per clip
LatentDecoder             latents -> frames by the VAE of a model
ExperimentLatentDecoder   an experiment's step files -> videos
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "recorder": ["StepExperiment", "StepRecorder"],
        "files": ["require_name"],
        "options": [
            "COMPRESS_PRESETS",
            "DEFAULT_DEVICE",
            "DEFAULT_FPS",
            "DEFAULT_QUALITY",
            "DEFAULT_SCALE",
            "DEFAULT_WORKERS",
        ],
        "decoder": ["ExperimentLatentDecoder", "summarize"],
        "latent_decoder": ["LatentDecoder"],
        "report": ["write_pictures", "write_report"],
    },
)
