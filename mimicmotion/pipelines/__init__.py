"""The diffusion pipeline, its temporal tiles and its schedulers, in diffusers' terms."""

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
