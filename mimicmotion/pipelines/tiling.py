"""Temporal tiles: which frames the UNet sees together.

MimicMotion's progressive latent fusion (arXiv 2406.19680, section 3.4). Frame 0 is the reference and belongs to
every tile, so a nominal overlap of O shares O - 1 driving frames.
"""

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
