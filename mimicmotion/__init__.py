"""Motion-driven video generation: animate a reference person with driving videos.

    from mimicmotion import animate
    frames = animate("person.png", "dance.mp4", seed=7)

What a program needs is named here; each name is imported when it is first used, so importing the package costs
nothing. doc/structure.md tells what lies behind.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "animation": ["Animator", "animate_folder"],
        "api": ["animate"],
        "config": ["Config", "load_config"],
        "errors": ["InputError", "MimicMotionError", "NumericalError", "SetupError", "UsageError"],
        "latent_steps": ["ExperimentLatentDecoder", "LatentDecoder", "StepRecorder"],
        "pipelines": ["AnimateLCMSVDStochasticIterativeScheduler", "MimicMotionPipeline"],
        "streaming": ["StreamingGenerator", "load_generator", "read_world"],
        "weights": ["apply_lcm_weights", "create_pipeline"],
    },
)
