"""Action-driven video, block by block: the causal generator of Matrix-Game-2, offline and live.

In short: load_generator(read_world("configs/streaming/tiny.yaml")).stream(image, actions).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "actions": ["Actions", "encode", "get_mode", "join"],
        "clip": ["ImageEncoder"],
        "generator": ["StreamState", "StreamingGenerator"],
        "loading": ["load_clip", "load_generator", "load_model", "load_vae"],
        "model": ["PATCH", "CausalWanModel", "timestep_embedding", "unpatchify"],
        "rope": ["action_rope", "rotate", "video_rope"],
        "run": ["run_benchmark", "run_causal", "run_streaming"],
        "schedule": ["make_scheduler"],
        "tiny": ["draw_weights"],
        "vae": ["StreamingVAE", "frame_count", "new_memory", "to_uint8"],
        "world": ["WorldConfig", "read_world"],
    },
)
