"""The diffusion pipeline, its temporal tiles and its schedulers, in diffusers' terms.

pipeline_mimicmotion  MimicMotionPipeline: conditions, the sampling loop over tiles
call_checks           what the arguments of a call must be, refused before a network runs
noise                 unit noise by seed, one generator for each video
noise_levels          a scheduler asked for its levels; schedulers refused that this UNet does not know
tiling                which frames a tile has
step_cache            deep features used again between whole steps, stored for each tile and half
tile_fusion           predictions of overlapping tiles weighted into one
chunked_vae           latents -> frames in chunks, blended, again in float32 on overflow
tiny_clip             the same by a small decoder
spatial_tiles         a frame decoded in tiles, where a card cannot decode it at once
in_pieces             large blocks of UNet and VAE that work piece by piece, for less memory
vram_plan             how much memory of a card a run takes, by formula, and how it takes less
schedulers            every sampler by name; a new one is entered here
lcm_scheduler         AnimateLCM-SVD's stochastic consistency steps
ays_scheduler         Euler steps at Align Your Steps' noise levels
made_for              steps and guidance that each sampler is made for
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pipeline_mimicmotion": ["MimicMotionPipeline", "squash_for_clip"],
        "chunked_vae": ["StandaloneVae"],
        "tiny_clip": ["UNLIKE", "TinyClipDecoder", "likeness"],
        "step_cache": ["StepCache"],
        "tiling": ["tile_windows"],
        "vram_plan": [
            "GIB",
            "LEFT_FREE",
            "PIECE",
            "Rung",
            "Shape",
            "allowed_rungs",
            "in_gib",
            "most",
            "most_overlapped",
            "peak",
            "plan",
        ],
        "noise_levels": ["set_noise_levels"],
        "made_for": ["check_steps", "turbo_steps_and_guidance"],
        "schedulers": ["make_scheduler"],
        "ays_scheduler": ["AlignYourStepsScheduler"],
        "lcm_scheduler": ["AnimateLCMSVDStochasticIterativeScheduler"],
    },
)
