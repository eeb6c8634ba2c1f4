"""Training of the embedded tiny model: a pool of rendered clips, and one loop for all stages.

vae -> encoder -> unet -> lcm; each stage reads what the earlier ones wrote to the model's folder and adds its part.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "options": ["RunOptions", "STAGES", "StageOptions", "option"],
        "evaluation_options": ["EvaluateOptions", "ReaderOptions"],
        "evaluation": ["evaluate"],
        "reader": ["train_reader"],
        "networks": ["seeded"],
        "stages": ["run_stage"],
        "loop": ["make_accelerator", "train"],
    },
)
