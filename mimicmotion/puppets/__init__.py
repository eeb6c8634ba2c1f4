"""Procedural people with exact ground truth: pictures, whole-body keypoints and a map of body parts.

They train and measure the embedded model and serve tests and demos. person -> motion -> skeleton -> render -> clips.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "clips": ["RENDERER_VERSION", "TRAINING_SEEDS", "VALIDATION_SEEDS", "make_clip"],
        "motion": ["KINDS"],
        "export": ["draw_puppets"],
    },
)
