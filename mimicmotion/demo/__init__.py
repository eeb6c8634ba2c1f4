"""The demo's inputs, made when a run needs some and none are named: a clip to be driven by, and a person to animate.

clip    a real person's clip, cut from a video that a package holds
inputs  what a run takes, and a drawn person where that clip cannot be had
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"clip": ["get_demo_clip"], "inputs": ["DEMO_FOLDER", "provide_inputs"]},
)
