"""Walking from tile to tile, as in an old dungeon game: every block of frames is one whole step.

The camera stands on a tile of one metre and looks in one of eight directions. What is held at a block's first frame
counts for the whole block: a key leads to the next tile in its direction or, where a wall or a pillar is in the way,
nowhere; the mouse turns by 45 degrees. It is evenly on its way through the block, and there at its last frame. So a
world that is only nearly right is drawn back to a tile, and errors do not add up.
"""

from functools import cache

import numpy as np

from mimicmotion.worlds.courtyard import SIDE, WALL_MARGIN, Camera, is_free
from mimicmotion.worlds.walks import BLOCK, FIRST_BLOCK, Walk

TILE = 1.0
TURN = np.radians(45)
TURNS_AT = 0.025  # mouse value from which on a block turns, a quarter of a step
# Two keys at once and late changes are rarer than they are easy to play.
HELD = {
    "Q": 8, "W": 16, "S": 12, "A": 13, "D": 13, "J": 12, "L": 12, "WJ": 3, "WL": 3, "WA": 2, "WD": 2, "SA": 1, "SD": 1,
    "AJ": 1, "AL": 1, "DJ": 1, "DL": 1, "SJ": 1, "SL": 1, "I": 0.5, "K": 0.5,
}  # fmt: skip


def draw_start(generator: np.random.Generator) -> Camera:
    """A free tile and one of the eight directions."""
    return states()[generator.integers(len(states()))].copy()


@cache
def states() -> np.ndarray:
    """All cameras (n, 4) that stand on a free tile."""
    places = np.arange(WALL_MARGIN, SIDE - WALL_MARGIN + TILE / 2, TILE)
    return np.array([(x, y, turn * TURN, 0.0) for x in places for y in places if is_free(x, y) for turn in range(8)])


def step(camera: Camera, keyboard: np.ndarray, mouse: np.ndarray) -> Camera:
    """The camera one block later; camera: on a tile; keyboard (4,), mouse (2,)."""
    x, y, yaw, _ = camera
    forward, right = float(keyboard[0] - keyboard[1]), float(keyboard[3] - keyboard[2])
    if forward or right:
        direction = yaw - np.arctan2(right, forward)
        there = np.array([x, y]) + TILE * np.round([np.cos(direction), np.sin(direction)])
        if all(is_free(*place) for place in np.linspace([x, y], there, BLOCK)):
            x, y = there
    turn = -np.sign(mouse[1]) if abs(mouse[1]) >= TURNS_AT else 0
    return np.array([x, y, yaw + turn * TURN, 0.0])


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
    """The camera on a free tile that is nearest; a turn of 45 degrees counts like the way to the next tile."""
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
    aligned_share=1.0,
    first_frame_decides=True,
    quarter_turn=2,
    draw_start=draw_start,
    follow_actions=follow_actions,
    end=end,
    block=block,
    reachable=reachable,
    length=lambda _frames: TILE,
)
