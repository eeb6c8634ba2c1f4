"""Who comes when in a sweep."""

from collections.abc import Sequence
from typing import TypeVar

Variant = TypeVar("Variant")


def in_turns(networks: Sequence[str], clips: int, keep: int) -> list[tuple[int, int]]:
    """(variant, clip) of every result, in the order in which they are made.

    Variants take turns clip by clip, each clip beginning with another one, so that what changes with time (a machine
    that warms up, a neighbour's load) falls on all of them. Where there are more networks than stay loaded, those that
    do go first, so that each is loaded once.

    Args:
        networks: for each variant what it is loaded from.
        clips: number of clips.
        keep: how many networks stay loaded.
    """
    different, order = list(dict.fromkeys(networks)), []
    for start in range(0, len(different), keep):
        loaded = different[start : start + keep]
        variants = [number for number, key in enumerate(networks) if key in loaded]
        for clip in range(clips):
            order += [(variant, clip) for variant in rotated(variants, clip)]
    return order


def rotated(items: Sequence[Variant], by: int) -> list[Variant]:
    """The items, beginning with another one."""
    start = by % len(items)
    return [*items[start:], *items[:start]]
