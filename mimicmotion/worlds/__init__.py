"""A procedural first-person world whose camera is known, so that what a world model shows can be judged.

courtyard  where walls and pillars stand
walk       what a way to walk between them is: what keys and mouse do to the camera
walks      the ways to walk, by their names
tile_walk  from tile to tile, a block a step
free_walk  to any place, frame by frame
renderer   what a camera sees
sessions   actions as a player would give them, and the path that follows
tracker    where the camera of a picture is
judge      which key was held: the one whose true video is nearest

Everything is exact and follows from a seed: a session's actions, the camera's path and every pixel.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "courtyard": ["Camera", "HIGHEST_PITCH", "SIDE", "WALL_MARGIN", "is_free"],
        "judge": ["JUDGED_KEYS", "nearest_key", "open_place", "squared_error", "true_blocks", "true_videos"],
        "renderer": ["HEIGHT", "WIDTH", "render"],
        "sessions": ["TURNING", "Session", "draw_session", "hold", "leads_on"],
        "tracker": ["LOCK", "follow", "locate", "yaw_difference"],
        "walk": ["BLOCK", "FIRST_BLOCK", "Walk", "block_slice"],
        "walks": ["DEFAULT_WALK", "WALKS", "get_walk"],
    },
)
