"""Network parts that diffusers does not have.

pose_net  PoseNet, and the hook that adds its features behind the UNet's conv_in
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pose_net": ["PoseFeatures", "PoseInjection", "PoseNet"],
    },
)
