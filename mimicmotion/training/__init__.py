"""Training of the embedded tiny model, and how good it is.

options              settings of every stage
stages               one stage run from its settings
loop                 the loop that all stages share
checkpoint           where a stopped stage goes on
pool                 rendered clips, drawn once
latent_pool          the pool as the UNet sees it
networks             the networks at a small size
vae_stage            stage: the autoencoder
encoder_stage        stage: the image encoder
unet_stage           stage: UNet and PoseNet
lcm_stage            stage: the LoRA for few steps
decoder_stage        stage: the autoencoder's decoder once more
reader               stage: the pose reader
evaluation           clips made in several ways, and measured
evaluation_options   its settings
evaluation_page      doc/embedded_model.md, its text and tables
evaluation_pictures  its sheet and curves
kept_results         what it has made so far
model_facts          parts and runs of a trained model, for the page

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
        "checkpoint": ["steps_done"],
        "loop": ["make_accelerator", "train"],
    },
)
