"""Where is the camera of a picture? Candidates are rendered small and compared, the best is refined.

The picture may be blurred: what counts is which camera's view differs least from it. `locate` also returns how much
that is, in grey levels, so that a caller can tell a lock from a guess.
"""

import numpy as np

from mimicmotion.worlds.courtyard import HIGHEST_PITCH, SIDE, WALL_MARGIN, Camera, is_free
from mimicmotion.worlds.renderer import HEIGHT, WIDTH, paint
from mimicmotion.worlds.walk import Walk

SHRINK = 4
GRID, TURNS = 9, 24  # places along a side and directions that a search everywhere starts from
BEST = 16  # of them that are refined
AT_ONCE = 64
# Standard deviations of place and yaw (degrees) that the best camera is varied by, round by round.
ROUNDS = ((0.2, 6.0), (0.08, 2.5), (0.03, 1.0), (0.012, 0.4))
VARIATIONS = 36
LOCK = 12.0  # grey levels: the remaining difference below which a camera counts as found


def locate(frame: np.ndarray, candidates: np.ndarray | None = None, seed: int = 0) -> tuple[Camera, float]:
    """The camera that sees `frame` uint8 (64, 112, 3), and the root mean square difference in grey levels.

    candidates: cameras (n, 4) of which the best two are refined; None searches the whole courtyard.
    """
    target = shrink(frame)
    best = BEST if candidates is None else 2
    candidates = everywhere() if candidates is None else candidates
    generator = np.random.default_rng(seed)
    starts = candidates[np.argsort(differences(candidates, target))[:best]]
    return min((refine(start, target, generator) for start in starts), key=lambda found: found[1])


def follow(frames: np.ndarray, camera: Camera, walk: Walk, every: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Cameras (n, 4) of every `every`-th of consecutive frames, and the differences that remain (n,).

    camera: of the frame before the first one.
    """
    found, left = [], []
    for index in range(every - 1, len(frames), every):
        camera, error = locate(frames[index], walk.reachable(camera, every), seed=index)
        found.append(camera)
        left.append(error)
    return np.array(found), np.array(left)


def refine(start: Camera, target: np.ndarray, generator: np.random.Generator) -> tuple[Camera, float]:
    """Varies a camera, keeps the best, and varies that less; the difference at the end is the second value."""
    best, error = start, np.inf
    for place, turn in ROUNDS:
        size = np.array([place, place, np.radians(turn), np.radians(turn) / 3])
        varied = best + size * generator.standard_normal((VARIATIONS, 4))
        varied[0] = best
        varied[:, :2] = varied[:, :2].clip(WALL_MARGIN, SIDE - WALL_MARGIN)
        varied[:, 3] = varied[:, 3].clip(-HIGHEST_PITCH, HIGHEST_PITCH)
        errors = differences(varied, target)
        best, error = varied[errors.argmin()], float(errors.min())
    return best, error


def everywhere() -> np.ndarray:
    """Cameras on a grid over the courtyard, looking level in all directions."""
    sides = np.linspace(WALL_MARGIN, SIDE - WALL_MARGIN, GRID)
    turns = np.linspace(0, 2 * np.pi, TURNS, endpoint=False)
    return np.array([(x, y, turn, 0.0) for x in sides for y in sides if is_free(x, y) for turn in turns])


def differences(cameras: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Root mean square difference (n,) in grey levels of the cameras' small views from `target`."""
    parts = (cameras[start : start + AT_ONCE].astype(np.float32) for start in range(0, len(cameras), AT_ONCE))
    views = (255 * paint(part, HEIGHT // SHRINK, WIDTH // SHRINK) for part in parts)
    return np.concatenate([np.sqrt(np.square(view - target).mean((1, 2, 3))) for view in views])


def shrink(frame: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) to the size that views are compared at, float32."""
    height, width = HEIGHT // SHRINK, WIDTH // SHRINK
    return frame.astype(np.float32).reshape(height, SHRINK, width, SHRINK, 3).mean((1, 3))


def yaw_difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Degrees, -180 to 180."""
    return np.degrees(np.angle(np.exp(1j * (np.asarray(one) - other))))
