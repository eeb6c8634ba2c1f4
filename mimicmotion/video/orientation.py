"""From a display matrix, as phones and cameras store it, to filters that put a picture upright."""

import struct

# By the signs of the matrix (a, b, c, d): a stored pixel (x, y) is shown at (a x + c y, b x + d y).
FILTERS = {
    (1, 0, 0, 1): (),
    (-1, 0, 0, 1): ("hflip",),
    (1, 0, 0, -1): ("vflip",),
    (-1, 0, 0, -1): ("hflip", "vflip"),
    (0, 1, -1, 0): ("transpose=clock",),
    (0, -1, 1, 0): ("transpose=cclock",),
    (0, 1, 1, 0): ("transpose=cclock_flip",),
    (0, -1, -1, 0): ("transpose=clock_flip",),
}
TOLERANCE = 0.02  # of a unit: about one degree


def upright_filters(display_matrix: bytes) -> tuple[str, ...]:
    """ffmpeg filters for one of the eight orientations.

    Args:
        display_matrix: nine int32 in the machine's byte order, as libavutil keeps it.

    Raises: ValueError for any other angle, and for a matrix that stretches or skews.
    """
    numbers = struct.unpack("=9i", display_matrix)
    parts = [numbers[0], numbers[1], numbers[3], numbers[4]]
    size = max(map(abs, parts))
    if size == 0:  # left out by its writer: nothing can be shown through it
        return ()
    scaled = [part / size for part in parts]
    signs = tuple(round(part) for part in scaled)
    exact = all(abs(part - sign) <= TOLERANCE for part, sign in zip(scaled, signs, strict=True))
    if not exact or signs not in FILTERS or numbers[2] or numbers[5]:
        shown = ", ".join(f"{part:.2f}" for part in scaled)
        raise ValueError(f"its display matrix ({shown}) is no quarter turn or mirror image")
    return FILTERS[signs]


def swaps_sides(filters: tuple[str, ...]) -> bool:
    """Whether height and width change places."""
    return any(name.startswith("transpose") for name in filters)
