"""A procedural first-person world whose camera is known, so that what a world model shows can be judged.

Everything is exact and follows from a seed: a session's actions, the camera's path and every pixel. The names below
are imported on first use.
"""

_EXPORTS = {
    "Camera": "courtyard",
    "is_free": "courtyard",
    "move": "courtyard",
    "walk": "courtyard",
    "draw_start": "courtyard",
    "render": "renderer",
    "HEIGHT": "renderer",
    "WIDTH": "renderer",
    "Session": "sessions",
    "draw_session": "sessions",
    "hold": "sessions",
    "locate": "tracker",
    "follow": "tracker",
    "nearest_key": "judge",
    "open_place": "judge",
    "true_videos": "judge",
    "squared_error": "judge",
    "JUDGED_KEYS": "judge",
}


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
