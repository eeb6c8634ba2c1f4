"""Training of the small world model on sessions of the procedural courtyard, on the loop of `mimicmotion.training`.

vae -> world, with gate before the long run and evaluate after it; scripts/train_world.py is the way in.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": ["evaluate"],
        "options": ["CourtyardOptions", "EvaluateOptions", "GateOptions", "VaeOptions", "WorldOptions"],
        "stages": ["run_stage"],
    },
)
