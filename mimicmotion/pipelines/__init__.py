"""The diffusion pipeline, its temporal tiles and its schedulers, in diffusers' terms.

pipeline_mimicmotion  MimicMotionPipeline: conditions, the sampling loop over tiles
tiling                which frames a tile has, and its weights where tiles overlap
chunked_vae           latents -> frames in chunks, blended, again in float32 on overflow
schedulers            every sampler by name; a new one is entered here
lcm_scheduler         AnimateLCM-SVD's stochastic consistency steps
few_steps             steps and guidance that each sampler is made for
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pipeline_mimicmotion": ["MimicMotionPipeline", "squash_for_clip"],
        "chunked_vae": ["StandaloneVae"],
        "tiling": ["tile_windows"],
        "made_for": ["turbo_steps_and_guidance"],
        "schedulers": ["make_scheduler"],
        "ays_scheduler": ["AlignYourStepsScheduler"],
        "lcm_scheduler": ["AnimateLCMSVDStochasticIterativeScheduler"],
    },
)
