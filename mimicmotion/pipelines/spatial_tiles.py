"""Frames decoded in overlapping tiles, for cards that cannot decode a single one at once.

A decoder's norms and its attention see a tile instead of the frame, so tiles are part of the result: colours may drift
a little from tile to tile, which the linear blend spreads over the overlap.
"""

from collections.abc import Callable

import torch

OVERLAP = 4  # neighbouring tiles share at least a side divided by this


def in_tiles(decode: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor, side: int) -> torch.Tensor:
    """`decode(latents)` in tiles of `side` x `side` latents, blended.

    Args:
        decode: (frames, 4, h, w) -> (frames, 3, s h, s w), for a whole factor s.
        latents: (frames, 4, height, width); where both are at most `side` this is one call.

    Returns:
        (frames, 3, s height, s width), float32 where there are tiles.
    """
    height, width = latents.shape[-2:]
    if max(height, width) <= side:
        return decode(latents)
    total = weights = None
    for top in starts(height, side):
        for left in starts(width, side):
            part = latents[..., top : top + side, left : left + side]
            decoded = decode(part).float()
            scale = decoded.shape[-1] // part.shape[-1]
            if total is None:
                total = decoded.new_zeros(*decoded.shape[:2], scale * height, scale * width)
                weights = decoded.new_zeros(scale * height, scale * width)
            weight = tile_weight(*decoded.shape[-2:], scale * side // OVERLAP).to(decoded)
            place = (slice(scale * top, scale * (top + side)), slice(scale * left, scale * (left + side)))
            total[..., *place] += decoded * weight
            weights[place] += weight
    return total.div_(weights)


def starts(length: int, side: int) -> list[int]:
    """Where tiles of `side` begin, evenly spread, so that neighbours share a quarter or more of it."""
    if length <= side:
        return [0]
    count = 1 - (side - length) // (side - side // OVERLAP)
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def tile_weight(height: int, width: int, ramp: int) -> torch.Tensor:
    """Weight of each pixel of a tile, (height, width): it rises from every edge over `ramp` pixels."""
    rows, columns = (
        (torch.minimum(torch.arange(length), torch.arange(length).flip(0)) + 1).clamp(max=ramp) / ramp
        for length in (height, width)
    )
    return rows[:, None] * columns
