"""The same networks, computed faster: attention kernels, compilation block by block, layouts of weights.

attention   attention kernels by name: is one there, and the processor that calls it in every layer of a UNet
compiling   networks compiled block by block
weights     convolutions with the channels last, projections in one product, 8-bit storage
chosen      what the settings ask for, what excludes each other; needs no torch
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attention": ["attend", "require_attention", "set_attention"],
        "chosen": ["Acceleration", "check_acceleration", "chosen_acceleration"],
        "compiling": ["compile_blocks", "compile_pipeline"],
        "weights": ["arrange_weights", "require_acceleration"],
    },
)
