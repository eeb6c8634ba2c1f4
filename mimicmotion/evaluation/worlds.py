"""Does a world do what the keys say, does it stay when none is held, is it still there after turning away and back?

Only frames and actions are needed: nothing is known of the camera. A picture moves against the camera: looking left or
walking left moves it to the right, looking up moves it down, walking forward makes it grow away from the horizon.
Growth is taken along the vertical alone, where floors and ceilings tell it from near things that pass at one side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mimicmotion.results import decibels, gradient_energy, mean_squared_error
from mimicmotion.streaming import CAMERA_STEP, Actions, get_mode

WIDTH = 128  # pixels that frames are made smaller to
FLOOR = 0.002  # of the frame, from one frame to the next: what moves less stands still
SEGMENT = 12  # frames, a block
IDLE_FRAMES = 24  # without any key from which on a pause counts
DEGREES = 15.0  # that the mouse value 1 turns: 1.5 for each frame of a look key
FARTHEST = 45.0  # degrees that a turn must have gone away to count, and
LEAST_CHANGE = 0.1  # how much the picture must have changed on the way, of its variance
# Which way each key moves the picture: across to the right, down, or growing; of keys that walk by mode.
WALKING = {
    "universal": {"W": ("growth", 1), "S": ("growth", -1), "A": ("across", 1), "D": ("across", -1)},
    "gta_drive": {"W": ("growth", 1), "S": ("growth", -1)},
    "templerun": {"A": ("across", 1), "D": ("across", -1), "Z": ("across", 1), "C": ("across", -1)},
}


@dataclass(frozen=True)
class Motion:
    """How the picture moves from one frame to the next, as shares of the frame; `speed` is the mean length."""

    across: float
    down: float
    growth: float
    speed: float


def motion(before: np.ndarray, after: np.ndarray) -> Motion:
    """The motion between two frames, uint8 (h, w), by DIS optical flow weighted with the first one's gradients: where
    nothing is to be seen, nothing is known.
    """
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(before, after, None).astype(np.float64)
    height, width = before.shape
    weight = np.hypot(*np.gradient(before.astype(np.float64)))
    if not weight.any():
        return Motion(0.0, 0.0, 0.0, 0.0)
    weight /= weight.sum()
    across, down = (weight[..., None] * flow).sum((0, 1)) / (width, height)
    rows = (np.arange(height) / height)[:, None]
    apart = rows - (weight * rows).sum()
    grown = (weight * apart * (flow[..., 1] / height - down)).sum() / (weight * apart**2).sum()
    speed = (weight * np.linalg.norm(flow / (width, height), axis=-1)).sum()
    return Motion(float(across), float(down), float(grown), float(speed))


def small_grey(frame: np.ndarray) -> np.ndarray:
    """A frame uint8 (h, w, 3) as flow is measured on it: grey, at most 128 pixels wide."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    if grey.shape[1] <= WIDTH:
        return grey
    height = max(16, round(WIDTH * grey.shape[0] / grey.shape[1]))
    return cv2.resize(grey, (WIDTH, height), interpolation=cv2.INTER_AREA)


def implied(mode: str, keyboard: np.ndarray, mouse: np.ndarray | None) -> dict[str, tuple[str, int]]:
    """What an action moves the picture by: key -> (axis, direction). Keys that work against each other on one axis say
    nothing and are left out; "idle" stands for no key where that means no motion.
    """
    held = [key for key, column in get_mode(mode).keys.items() if keyboard[column] > 0.5]
    moves = {key: WALKING[mode][key] for key in held if key in WALKING[mode]}
    if mouse is not None:
        pitch, yaw = float(mouse[0]), float(mouse[1])
        looks = {"left": ("across", 1, yaw < 0), "right": ("across", -1, yaw > 0)}
        looks |= {"up": ("down", 1, pitch > 0), "down": ("down", -1, pitch < 0)}
        moves |= {f"look {name}": (axis, sign) for name, (axis, sign, on) in looks.items() if on}
    if not moves and not held and mode != "templerun":  # whose runner never stands still
        return {"idle": ("speed", 0)}
    signs = {axis: {sign for other, sign in moves.values() if other == axis} for axis, _ in moves.values()}
    return {key: (axis, sign) for key, (axis, sign) in moves.items() if len(signs[axis]) == 1}


def obeys(found: Motion, axis: str, sign: int) -> bool:
    """Whether a motion is what a key implies."""
    value = getattr(found, axis)
    return value < FLOOR if sign == 0 else value * sign > FLOOR


@dataclass(frozen=True)
class Turn:
    """Frames of a turn on the spot: where it begins, where it has gone farthest, where it is back; `degrees` away."""

    first: int
    farthest: int
    back: int
    degrees: float


def find_turns(mode: str, actions: Actions) -> list[Turn]:
    """Turns away and back without a step between. The action of a frame is felt in the next one."""
    if actions.mouse is None:
        return []
    walks = [any(actions.keyboard[f, c] > 0.5 for c in get_mode(mode).keys.values()) for f in range(len(actions))]
    look = np.concatenate([np.zeros((1, 2)), np.cumsum(actions.mouse, 0)[:-1]])  # pitch and yaw at each frame
    turns, first = [], 0
    while first < len(actions):
        stop = next((f for f in range(first, len(actions)) if walks[f]), len(actions) - 1) + 1
        turn = _turn(look[first:stop], first)
        if turn:
            turns.append(turn)
        first = turn.back if turn else stop
    return turns


def _turn(look: np.ndarray, first: int) -> Turn | None:
    """The first turn away and back among the looks of consecutive frames."""
    away = np.abs(look - look[0]).max(1) * DEGREES
    beginning = next((f for f in range(1, len(away)) if away[f] > 0), None)
    if beginning is None:
        return None
    tolerance = CAMERA_STEP * DEGREES / 2
    for back in range(beginning + 1, len(away)):
        farthest = int(away[:back].argmax())
        if away[back] <= tolerance and away[farthest] >= FARTHEST:
            return Turn(first + beginning - 1, first + farthest, first + back, float(away[farthest]))
    return None


def closure(first: np.ndarray, farthest: np.ndarray, back: np.ndarray) -> float:
    """1 where the picture after a turn is the one before it, 0 where it is as far from it as the one at the farthest
    point, or where the picture never turned away. Pictures uint8 (h, w, 3).
    """
    away = mean_squared_error(farthest, first)
    if away < LEAST_CHANGE * first.astype(np.float64).var((0, 1)).sum() / 3:
        return 0.0
    return 1 - mean_squared_error(back, first) / away


def colour_shift(frames: np.ndarray, image: np.ndarray) -> float:
    """How far the mean colour of frames (n, h, w, 3) is from that of a picture (h, w, 3): the worst channel, 0..255."""
    return float(np.abs(frames.mean((0, 1, 2)) - image.mean((0, 1))).max())


class SessionMeter:
    """Measures a session whose frames come in blocks, uint8 (n, h, w, 3); the action of a frame moves the next one."""

    def __init__(self, mode: str, actions: Actions):
        self._mode, self._actions, self._at = mode, actions, 0
        self._turns = find_turns(mode, actions)
        self._idle = idle_runs(mode, actions)
        self._kept: dict[int, np.ndarray] = {}
        self._wanted = {frame for turn in self._turns for frame in (turn.first, turn.farthest, turn.back)}
        self._before: np.ndarray | None = None
        self._obeyed: dict[str, list[bool]] = {}
        self._segment: list[np.ndarray] = []
        self.segments: list[dict[str, float]] = []
        self.pauses: list[dict[str, float]] = []
        self._pause: np.ndarray | None = None

    def add(self, frames: np.ndarray) -> None:
        """Takes the next frames."""
        for frame in frames:
            self._look(frame)
            if self._at in self._wanted:
                self._kept[self._at] = frame
            self._rest(frame)
            self._segment.append(frame)
            if len(self._segment) == SEGMENT:
                self._end_segment()
            self._at += 1

    def _look(self, frame: np.ndarray) -> None:
        grey = small_grey(frame)
        if self._before is not None:
            mouse = None if self._actions.mouse is None else self._actions.mouse[self._at - 1]
            found = motion(self._before, grey)
            for key, (axis, sign) in implied(self._mode, self._actions.keyboard[self._at - 1], mouse).items():
                self._obeyed.setdefault(key, []).append(obeys(found, axis, sign))
        self._before = grey

    def _rest(self, frame: np.ndarray) -> None:
        for first, stop in self._idle:
            if self._at == first:
                self._pause = frame
            elif self._at == stop - 1 and self._pause is not None:
                error = mean_squared_error(frame, self._pause)
                drift = {"first_frame": first, "frames": stop - first, "psnr": decibels(error)}
                self.pauses.append(drift | {"colour_shift": colour_shift(frame[None], self._pause)})

    def _end_segment(self) -> None:
        frames, self._segment = np.stack(self._segment), []
        colour = frames.mean((0, 1, 2))
        first = self.segments[0] if self.segments else None
        energy = gradient_energy(frames)
        self.segments.append(
            {
                "first_frame": self._at + 1 - SEGMENT,
                "red": float(colour[0]),
                "green": float(colour[1]),
                "blue": float(colour[2]),
                "gradient_energy": energy,
                "colour_shift": _shift(colour, first),
                "sharpness": 1.0 if first is None else _ratio(energy, first["gradient_energy"]),
            }
        )

    def turns(self) -> Iterator[tuple[Turn, list[np.ndarray]]]:
        """Each turn with its three pictures."""
        for turn in self._turns:
            yield turn, [self._kept[frame] for frame in (turn.first, turn.farthest, turn.back)]

    def numbers(self) -> dict:
        """Measures by name; None where the session has nothing to measure by. `obeyed` has a share for each key."""
        obeyed = {key: float(np.mean(found)) for key, found in sorted(self._obeyed.items())}
        closed = [closure(*pictures) for _, pictures in self.turns()]
        last = self.segments[-1] if self.segments else {}
        return {
            "agreement": float(np.mean(list(obeyed.values()))) if obeyed else None,
            "closure": float(np.mean(closed)) if closed else None,
            "drift_colour": last.get("colour_shift") if len(self.segments) > 1 else None,
            "drift_sharpness": last.get("sharpness") if len(self.segments) > 1 else None,
            "idle_colour": max((pause["colour_shift"] for pause in self.pauses), default=None),
            "idle_psnr": min((pause["psnr"] for pause in self.pauses), default=None),
            "obeyed": obeyed,
        }


def idle_runs(mode: str, actions: Actions) -> list[tuple[int, int]]:
    """Runs of frames, first and stop, through which no key is felt."""
    quiet = [
        "idle" in implied(mode, actions.keyboard[f], None if actions.mouse is None else actions.mouse[f])
        for f in range(len(actions))
    ]
    runs, start = [], None
    for frame, still in enumerate([*quiet, False]):
        if still and start is None:
            start = frame
        elif not still and start is not None:
            # The first of them still feels the key before it, and shows what the pause begins with.
            if frame - start >= IDLE_FRAMES:
                runs.append((start, frame))
            start = None
    return runs


def _shift(colour: np.ndarray, first: dict | None) -> float:
    return 0.0 if first is None else float(max(abs(colour - [first[name] for name in ("red", "green", "blue")])))


def _ratio(value: float, of: float) -> float:
    return value / of if of else 0.0


def actions_of(record: Sequence[dict], frames: int) -> Actions:
    """The actions of a session's record as frames. Raises: ValueError where they are none, or not so many."""
    keyboard, mice = [], []
    for run in record:
        keyboard += [run["keyboard"]] * int(run["frames"])
        mice += [run["mouse"]] * int(run["frames"])
    if len(keyboard) != frames or not frames:
        raise ValueError(f"it has actions of {len(keyboard)} frames and {frames} frames")
    keys = np.array(keyboard, np.float32)
    mouse = None if mice[0] is None else np.array(mice, np.float32)
    if keys.ndim != 2 or not np.isfinite(keys).all() or (mouse is not None and not np.isfinite(mouse).all()):
        raise ValueError("its actions are no numbers")
    return Actions(keys, mouse)
