"""Network parts that diffusers does not have."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pose_net": ["PoseFeatures", "PoseInjection", "PoseNet"],
    },
)
