"""The ways to walk, by their names."""

from mimicmotion.worlds.free_walk import FREE_WALK
from mimicmotion.worlds.tile_walk import TILE_WALK
from mimicmotion.worlds.walk import Walk

BY_NAME = {walk.name: walk for walk in (TILE_WALK, FREE_WALK)}
WALKS = tuple(BY_NAME)
DEFAULT_WALK = TILE_WALK.name


def get_walk(name: str = DEFAULT_WALK) -> Walk:
    """The walk of a name, one of WALKS. Raises: KeyError."""
    return BY_NAME[name]
