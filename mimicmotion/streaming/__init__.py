"""Action-driven video, block by block: the causal generator of Matrix-Game-2, offline and live.

In short: load_generator(read_world("configs/streaming/tiny.yaml")).stream(image, actions).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "generator": ["StreamState", "StreamingGenerator"],
        "loading": ["load_generator"],
        "run": ["run_benchmark", "run_causal", "run_streaming"],
        "vae": ["frame_count"],
        "world": ["read_world"],
    },
)
