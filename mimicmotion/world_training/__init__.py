"""Training of the small world model on sessions of the procedural courtyard, on the loop of `mimicmotion.training`.

options          settings of every stage
stages           one stage run from its settings
frames           rendered sessions on the disk
vae_stage        stage: the Wan VAE
carrying         its start, which carries colours and their differences
reconstruction   what its frames are wrong by
widening         a wider decoder that begins as the narrower one
coding           frames -> latents -> frames
latents          sessions as the transformer sees them
decoder_stage    stage: the VAE's decoder alone, on true latents and played ones
played           sessions as the transformer plays them, for the decoder
world_stage      stage: the causal transformer, its gate too
parallel         all blocks of a step in one pass, equal to the cached runtime
transformer      its start, the mouse's scale, the head that tells the camera
export           finished parts as files that streaming loads
play             sessions of the real generator while the training runs
evaluation       what the world model can do, in figures
evaluation_page  doc/world.md
evaluation_curves  the course of the training, drawn

vae -> world -> decoder, with gate before the long run and evaluate at the end; scripts/train_world.py is the way in.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": ["evaluate"],
        "options": [
            "CourtyardOptions", "DecoderOptions", "EvaluateOptions", "GateOptions", "VaeOptions", "WorldOptions",
        ],
        "stages": ["run_stage"],
    },
)  # fmt: skip
