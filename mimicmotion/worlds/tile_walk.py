"""Walking from tile to tile of the checker floor, as in an old dungeon game: every block of frames is one whole step.

The camera stands in the middle of one of the 16 tiles and looks along a wall. What is held at a block's first frame
counts for the whole block: the mouse turns by 90 degrees, else a key leads to the next tile or, at a wall, nowhere. It
is evenly on its way through the block, and there at the last frame. So a world that is nearly right is drawn back to a
tile, and errors do not add up.
"""

from functools import cache

import numpy as np

from mimicmotion.worlds.courtyard import SIDE, WALL_MARGIN, Camera, is_free
from mimicmotion.worlds.walk import BLOCK, FIRST_BLOCK, Walk

TILE = 2.0
TURN = np.radians(90)
TURNS_AT = 0.025  # mouse value from which on a block turns, a quarter of a step
HELD = {
    "Q": 10, "W": 16, "S": 12, "A": 12, "D": 12, "J": 14, "L": 14, "WJ": 1, "WL": 1, "SJ": 0.5, "SL": 0.5, "AJ": 0.5,
    "AL": 0.5, "DJ": 0.5, "DL": 0.5, "WA": 1, "WD": 1, "SA": 1, "SD": 1, "WS": 0.5, "AD": 0.5, "I": 0.5, "K": 0.5,
}  # fmt: skip


def draw_start(generator: np.random.Generator) -> Camera:
    """A tile and one of the four directions."""
    return states()[generator.integers(len(states()))].copy()


@cache
def states() -> np.ndarray:
    """All cameras (64, 4) that stand on a tile."""
    places = np.arange(WALL_MARGIN, SIDE - WALL_MARGIN + TILE / 2, TILE)
    return np.array([(x, y, turn * TURN, 0.0) for x in places for y in places for turn in range(4)])


def step(camera: Camera, keyboard: np.ndarray, mouse: np.ndarray) -> Camera:
    """The camera one block later; camera: on a tile; keyboard (4,), mouse (2,).

    Turning comes before walking, forward and back before left and right.
    """
    x, y, yaw, _ = camera
    if abs(mouse[1]) >= TURNS_AT:
        return np.array([x, y, yaw - np.sign(mouse[1]) * TURN, 0.0])
    forward, right = float(keyboard[0] - keyboard[1]), float(keyboard[3] - keyboard[2])
    if forward or right:
        direction = yaw if forward else yaw - np.pi / 2
        way = TILE * (forward or right) * np.round([np.cos(direction), np.sin(direction)])
        if is_free(x + way[0], y + way[1]):
            x, y = x + way[0], y + way[1]
    return np.array([x, y, yaw, 0.0])


def follow_actions(start: Camera, keyboard: np.ndarray, mouse: np.ndarray) -> np.ndarray:
    """Cameras (N, 4) of frames 0 .. N - 1 of a session that begins on a tile."""
    cameras, there, first = [np.asarray(start, np.float64)[None]], start, 0
    while first < len(keyboard):
        frames = BLOCK if first else FIRST_BLOCK
        before, there = there, step(there, keyboard[first], mouse[first])
        cameras.append(_between(before, there, frames if first else frames - 1))
        first += frames
    return np.concatenate(cameras)[: len(keyboard)]


def end(camera: Camera, keyboard: np.ndarray, mouse: np.ndarray) -> Camera:
    """Where one block of actions leads."""
    return step(camera, keyboard[0], mouse[0])


def block(camera: Camera, _before: tuple, keyboard: np.ndarray, mouse: np.ndarray) -> np.ndarray:
    """Cameras of a block's frames, from the tile and direction that are nearest to `camera`."""
    begin = nearest_state(camera)
    return _between(begin, step(begin, keyboard[0], mouse[0]), BLOCK)[: len(keyboard)]


def nearest_state(camera: Camera) -> Camera:
    """The camera on a tile that is nearest; a turn of 90 degrees counts like the way to the next tile."""
    away = np.hypot(*(states() - camera)[:, :2].T) / TILE
    turned = np.abs(np.angle(np.exp(1j * (states()[:, 2] - camera[2])))) / TURN
    return states()[np.argmin(np.hypot(away, turned))].copy()


def reachable(_camera: Camera, _frames: int) -> np.ndarray:
    """All tiles: a world that is lost may be anywhere."""
    return states()


def _between(one: Camera, other: Camera, frames: int) -> np.ndarray:
    """(frames, 4): evenly on the way, the last one is `other`."""
    return one + (other - one) * (np.arange(1, frames + 1) / frames)[:, None]


TILE_WALK = Walk(
    "tiles",
    held=HELD,
    tries=1,  # who plays walks into walls, and must find that they stand
    rest_share=0.25,  # who plays also looks on, for longer than keys that are drawn anew would
    aligned_share=1.0,
    first_frame_decides=True,
    still_error=(TILE / 2, np.degrees(TURN) / 2),  # nearer to its own tile and direction than to others
    quarter_turn=1,
    draw_start=draw_start,
    follow_actions=follow_actions,
    end=end,
    block=block,
    reachable=reachable,
    length=lambda _frames: TILE,
)
