"""Compilation block by block: blocks that are alike share what is compiled, so the first call takes less long.

diffusers' `compile_repeated_blocks` knows no blocks of this UNet.
"""

import torch
from torch import nn

# A block is compiled for each shape of its weights, and again for each size of its input until torch generalises. At
# the published size that is more than the 8 after which torch gives up, in silence, and computes uncompiled.
MOST_VARIANTS = 64


def compile_pipeline(pipeline) -> None:
    """Compiles the UNet and the VAE decoder of a MimicMotionPipeline, in place, at their first call."""
    compile_blocks(pipeline.unet)
    compile_blocks(pipeline.vae.decoder)


def compile_blocks(network: nn.Module) -> list[nn.Module]:
    """Compiles the residual and transformer blocks of a network in place, or all of it where it has none; what was
    compiled.
    """
    from diffusers.models.resnet import SpatioTemporalResBlock
    from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel

    kinds = (SpatioTemporalResBlock, TransformerSpatioTemporalModel)
    blocks = [module for module in network.modules() if isinstance(module, kinds)] or [network]
    settings = torch._dynamo.config
    settings.recompile_limit = max(settings.recompile_limit, MOST_VARIANTS)
    for block in blocks:
        block.compile()
    return blocks
