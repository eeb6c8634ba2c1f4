"""Action-driven video, block by block: the causal generator of Matrix-Game-2, offline and live.

The rest of the project uses the names below; they are imported on first use, because they pull in torch and
diffusers. In short: load_generator(read_world("configs/streaming/tiny.yaml")).stream(image, actions).
"""

_EXPORTS = {
    "StreamingGenerator": "generator",
    "StreamState": "generator",
    "load_generator": "loading",
    "read_world": "loading",
}


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
