"""Temporal tiles: which frames the UNet sees together, and how their predictions are weighted.

MimicMotion's progressive latent fusion (arXiv 2406.19680, section 3.4). Frame 0 is the reference and belongs to
every tile, so a nominal overlap of O shares O - 1 driving frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LAYOUTS = ("upstream", "even")


def tile_windows(num_frames: int, tile_size: int, tile_overlap: int, layout: str = "upstream") -> list[list[int]]:
    """Frame indices of each tile; together they cover 0..num_frames-1.

    Args:
        num_frames: frames to sample, the reference included.
        tile_size: frames per tile; a shorter clip is one tile of its own length.
        tile_overlap: nominal overlap, 1..tile_size-1; not used where one tile is enough.
        layout: "upstream" starts tiles every (tile_size - tile_overlap) frames and moves the last one back to
            the clip's end, as published; "even" spreads the same number of tiles evenly, so that the last
            one's waste becomes overlap everywhere.

    Raises:
        ValueError: for sizes that leave frames out, or an unknown layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"tile layout {layout!r} is unknown; choose one of {', '.join(LAYOUTS)}")
    if num_frames < 1 or tile_size < 2:
        raise ValueError(f"{num_frames} frames in tiles of {tile_size}: at least 1 frame and tiles of 2 are needed")
    if not 0 <= tile_overlap < tile_size:
        raise ValueError(f"tile overlap {tile_overlap} must be below the tile size {tile_size}")
    if num_frames <= tile_size:
        return [list(range(num_frames))]
    if tile_overlap < 1:
        raise ValueError(
            f"tile overlap 0 leaves frames between the tiles out ({num_frames} frames, tile {tile_size}); "
            "use 1 or more: the reference frame takes one place in every tile"
        )
    return [[0, *range(start + 1, start + tile_size)] for start in _starts(num_frames, tile_size, tile_overlap, layout)]


def _starts(num_frames: int, tile_size: int, tile_overlap: int, layout: str) -> list[int]:
    last = num_frames - tile_size
    starts = list(range(0, last + 1, tile_size - tile_overlap))
    if starts[-1] < last:
        starts.append(last)
    if layout == "even":
        return [round(i * last / (len(starts) - 1)) for i in range(len(starts))]
    return starts


def tile_weights(tile_size: int) -> torch.Tensor:
    """Weight of each place in a tile, (tile_size,), float32: a triangle that favours the middle."""
    import torch  # not above: what only counts tiles needs no torch

    position = (torch.arange(tile_size) + 0.5) * 2.0 / tile_size
    return torch.minimum(position, 2 - position)


def fuse_tiles(predictions: list[torch.Tensor], windows: list[list[int]], num_frames: int) -> torch.Tensor:
    """Weighted mean of per-tile predictions, each (batch, len(window), ...) -> (batch, num_frames, ...)."""
    total = predictions[0].new_zeros(predictions[0].shape[0], num_frames, *predictions[0].shape[2:])
    count = predictions[0].new_zeros(num_frames)
    for prediction, window in zip(predictions, windows, strict=True):
        weights = tile_weights(len(window)).to(prediction)
        total[:, window] += prediction * weights.reshape(-1, *[1] * (prediction.ndim - 2))
        count[window] += weights
    return total / count.reshape(-1, *[1] * (total.ndim - 2))
