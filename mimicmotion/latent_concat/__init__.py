"""Latent concat: keep the latents of clips, join them, decode the whole, and compare the ways to join."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "run": ["run_latent_concat"],
        "bridge": ["PosedFrames"],
    },
)
