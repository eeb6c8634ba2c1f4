"""Network parts that diffusers does not have.

pose_net        PoseNet, and the hook that adds its features behind the UNet's conv_in
cpu_operations  3D convolutions and Wan's norm, fast on a CPU, put into diffusers' networks
tiny_decoder    small causal decoders of latents, in the published layouts TAEHV and TAESDV
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cpu_operations": ["use_fast_operations"],
        "pose_net": ["PoseFeatures", "PoseInjection", "PoseNet"],
        "tiny_decoder": ["SPATIAL_RATIO", "TAEHV", "TAESDV", "TinyDecoder", "TinyLayout"],
    },
)
