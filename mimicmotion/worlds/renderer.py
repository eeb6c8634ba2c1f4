"""What a camera in the courtyard sees, by casting one ray for each half column of pixels.

Walls and pillars stand upright, so a column needs one intersection, and how much of a pixel they cover is exact in
the vertical. The floor is a checker board that fades into its mean where its tiles become smaller than pixels.
"""

import numpy as np

from mimicmotion.worlds.courtyard import PILLARS, SIDE, Camera

HEIGHT, WIDTH = 64, 112
RAYS = 2  # of each column of pixels
VIEW = np.radians(90)  # from the left side of the picture to the right one
EYE, WALL_TOP, PILLAR_TOP = 0.6, 1.2, 1.8
TILE = 2.0
PANEL = 2.0
AT_ONCE = 4  # frames; more do not fit into a core's cache

WALLS = np.array([[205, 50, 50], [50, 175, 70], [60, 90, 215], [230, 205, 60]], np.float32) / 255  # W, E, S, N
PILLAR_COLOURS = (
    np.array([[235, 60, 200], [40, 215, 225], [250, 150, 30], [245, 245, 245], [125, 60, 225]], np.float32) / 255
)
# Light and dark tiles of the four quarters: south-west, south-east, north-west, north-east.
TILES = np.array(
    [
        [[0.64, 0.55, 0.42], [0.42, 0.34, 0.26]],
        [[0.45, 0.62, 0.50], [0.26, 0.40, 0.31]],
        [[0.48, 0.52, 0.70], [0.29, 0.31, 0.45]],
        [[0.70, 0.50, 0.53], [0.45, 0.28, 0.31]],
    ],
    np.float32,
)
HAZE = np.array([0.6, 0.7, 0.8], np.float32)
SKY_LOW, SKY_HIGH = np.array([0.75, 0.85, 0.95], np.float32), np.array([0.25, 0.45, 0.85], np.float32)
PILLAR_SHADES = (1.0, 0.72, 0.86, 0.58)  # sides that face west, east, south, north


def render(cameras: Camera, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Frames uint8 (N, height, width, 3) of cameras (N, 4). The horizontal view is 90 degrees at any size."""
    cameras = np.asarray(cameras, np.float32)
    parts = (cameras[start : start + AT_ONCE] for start in range(0, len(cameras), AT_ONCE))
    return np.concatenate([to_levels(paint(part, height, width)) for part in parts])


def to_levels(pictures: np.ndarray) -> np.ndarray:
    """Pictures in 0..1 as uint8."""
    return (pictures.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def paint(cameras: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pictures float32 (N, height, width, 3) in 0..1 of float32 cameras, all at once."""
    focal = np.float32(width / 2 / np.tan(VIEW / 2))
    x, y, yaw, pitch = (cameras[:, i, None] for i in range(4))
    across = ((np.arange(width * RAYS, dtype=np.float32) + 0.5) / RAYS - width / 2) / focal
    # Directions (N, columns) with a unit component along the view; right is (sin, -cos).
    dx, dy = _nonzero(np.cos(yaw) + np.sin(yaw) * across), _nonzero(np.sin(yaw) - np.cos(yaw) * across)
    depth, colour = _cast_walls(x, y, dx, dy)
    depth, colour, top = _cast_pillars(x, y, dx, dy, depth, colour)
    haze = np.exp(-depth / 14)[..., None]
    colour = colour * haze + HAZE * (1 - haze)
    # Looking up shifts the picture down: enough for the few degrees that a camera can pitch.
    horizon = (height / 2 + focal * np.tan(pitch)).astype(np.float32)
    rows = np.arange(height, dtype=np.float32)[None, :, None] + 0.5
    upper, lower = horizon - focal * (top - EYE) / depth, horizon + focal * EYE / depth
    cover = np.clip(rows - upper[:, None] + 0.5, 0, 1) * np.clip(lower[:, None] - rows + 0.5, 0, 1)
    below = rows - horizon[:, None]
    floor = _floor(x, y, dx, dy, below, focal)
    up = np.clip(-below / (0.62 * height), 0, 1)[..., None]
    back = np.where((below > 0)[..., None], floor, SKY_LOW * (1 - up) + SKY_HIGH * up)
    picture = back * (1 - cover[..., None]) + colour[:, None] * cover[..., None]
    return picture.reshape(len(cameras), height, width, RAYS, 3).mean(3)


def _nonzero(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < 1e-6, np.float32(1e-6), values)


def _cast_walls(x, y, dx, dy) -> tuple[np.ndarray, np.ndarray]:
    """Distance along the view (N, columns) and colour (N, columns, 3) of the wall that each ray meets."""
    to_x = np.where(dx > 0, SIDE - x, -x) / dx
    to_y = np.where(dy > 0, SIDE - y, -y) / dy
    meets_x = to_x < to_y
    depth = np.minimum(to_x, to_y)
    wall = np.where(meets_x, np.where(dx > 0, 1, 0), np.where(dy > 0, 3, 2))
    along = np.where(meets_x, y + dy * depth, x + dx * depth)
    share = (along / SIDE)[..., None]
    panel = np.floor(along / PANEL)[..., None] % 2
    colour = WALLS[wall] * (0.55 + 0.6 * share) + np.array([0.125, 0.05, 0.15], np.float32) * (1 - share)
    return depth, (colour * (1 - 0.28 * panel)).astype(np.float32)


def _cast_pillars(x, y, dx, dy, depth, colour) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth and colour with the pillars in front of the walls, and how high each ray's surface is."""
    top = np.full(depth.shape, WALL_TOP, np.float32)
    shades = np.array(PILLAR_SHADES, np.float32)
    for (west, south, east, north), paint_colour in zip(PILLARS.astype(np.float32), PILLAR_COLOURS, strict=True):
        x_one, x_other, y_one, y_other = (west - x) / dx, (east - x) / dx, (south - y) / dy, (north - y) / dy
        enter_x, enter_y = np.minimum(x_one, x_other), np.minimum(y_one, y_other)
        near = np.maximum(enter_x, enter_y)
        far = np.minimum(np.maximum(x_one, x_other), np.maximum(y_one, y_other))
        hit = (near < far) & (near > 0) & (near < depth)
        side = np.where(enter_x > enter_y, np.where(dx > 0, 0, 1), np.where(dy > 0, 2, 3))
        colour = np.where(hit[..., None], paint_colour * shades[side][..., None], colour)
        depth = np.where(hit, near, depth)
        top = np.where(hit, np.float32(PILLAR_TOP), top)
    return depth, colour, top


def _floor(x, y, dx, dy, below, focal) -> np.ndarray:
    """Colour (N, rows, columns, 3) of the floor `below` so many pixels under the horizon, (N, rows, 1)."""
    depth = focal * EYE / np.maximum(below, 0.5)
    floor_x, floor_y = x[:, None] + dx[:, None] * depth, y[:, None] + dy[:, None] * depth
    quarter = (floor_x > SIDE / 2) + 2 * (floor_y > SIDE / 2)
    # A triangle wave, 0 at the tiles' borders, divided by a pixel's footprint there: steep near, flat far away.
    footprint = np.maximum(depth * depth / (focal * EYE), 0.03)
    waves = (np.abs(place / TILE % 2 - 1) * TILE - TILE / 2 for place in (floor_x, floor_y))
    wave_x, wave_y = (np.clip(wave / footprint, -1, 1) for wave in waves)
    light = (wave_x * wave_y * np.clip(1.6 - depth / 6, 0, 1) * 0.5 + 0.5)[..., None]
    return TILES[quarter, 0] * light + TILES[quarter, 1] * (1 - light)
