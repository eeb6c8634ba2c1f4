"""How people move: smooth angles over time for walking, waving, signing, dancing, looking, crouching, jumping."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

# Curves that a motion does not name stay near these values (radians; dx, hop in body heights).
REST = {
    "yaw": 0.0,
    "twist": 0.0,
    "bend": 0.0,
    "lean": 0.0,
    "head_yaw": 0.0,
    "head_pitch": 0.0,
    "head_roll": 0.0,
    "dx": 0.0,
    "hop": 0.0,
    "mouth": 0.1,
    **{f"{side}_{name}": value for side in ("right", "left") for name, value in (
        ("raise", 0.2), ("forward", 0.3), ("elbow", 0.2), ("inward", 0.2), ("curl", 0.35), ("spread", 0.5),
        ("hip", 0.0), ("apart", 0.06), ("knee", 0.04),
    )},
}  # fmt: skip

# Someone who stands quietly: arms a little away from the body, so that a picture shows both apart.
STANDING = {f"{side}_{name}": value for side in ("right", "left") for name, value in (
    ("raise", 0.32), ("forward", 0.2), ("elbow", -0.06), ("inward", 0.2), ("curl", 0.3), ("apart", 0.09),
)}  # fmt: skip


@dataclass
class Motion:
    """Angles of every joint as functions of time.

    Attributes:
        kind: its name in KINDS.
        curves: name in REST -> function of times in seconds, (T,) to (T,).
    """

    kind: str
    curves: dict[str, Callable] = field(default_factory=dict)

    def angles(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Every curve of REST at `times` (T,) in seconds."""
        still = np.zeros_like(times)
        return {name: self.curves[name](times) if name in self.curves else still + REST[name] for name in REST}


def draw_motion(rng: np.random.Generator, kind: str | None = None) -> Motion:
    """A motion of the given kind of KINDS, or of any. Raises: KeyError for another name."""
    kind = kind or str(rng.choice(list(KINDS)))
    motion = Motion(kind)
    _breathe(motion, rng)
    KINDS[kind](motion, rng)
    return motion


def stand(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Angles of one frame, (1,) each, of a person who stands quietly, turned almost to the viewer."""
    angles = REST | STANDING | {"yaw": rng.uniform(-0.12, 0.12), "head_yaw": rng.uniform(-0.1, 0.1)}
    return {name: np.full(1, value) for name, value in angles.items()}


def wander(rng: np.random.Generator, low: float, high: float, slow: float = 0.15, fast: float = 0.7) -> Callable:
    """A smooth curve within low..high made of three sines between `slow` and `fast` Hz."""
    frequencies = 2 * np.pi * rng.uniform(slow, fast, 3)
    phases = rng.uniform(0, 2 * np.pi, 3)
    parts = rng.uniform(0.4, 1.0, 3)
    parts = parts / parts.sum()

    def curve(times: np.ndarray) -> np.ndarray:
        swing = (parts * np.sin(times[:, None] * frequencies + phases)).sum(-1)
        return (low + high) / 2 + (high - low) / 2 * np.sin(1.4 * swing)

    return curve


def swing(middle: float, size: float, frequency: float, phase: float, power: int = 1) -> Callable:
    """middle + size * sin(...)**power."""
    return lambda times: middle + size * np.sin(2 * np.pi * frequency * times + phase) ** power


def _breathe(motion: Motion, rng: np.random.Generator) -> None:
    motion.curves.update(
        yaw=wander(rng, -0.35, 0.35, 0.05, 0.2),
        lean=wander(rng, -0.06, 0.06),
        bend=wander(rng, -0.02, 0.08),
        dx=wander(rng, -0.02, 0.02, 0.05, 0.3),
        head_yaw=wander(rng, -0.3, 0.3),
        head_pitch=wander(rng, -0.15, 0.15),
        head_roll=wander(rng, -0.12, 0.12),
        mouth=wander(rng, 0.0, 0.5, 0.3, 1.5),
    )
    for side in ("right", "left"):
        _arm(motion, rng, side, (0.1, 0.5), (0.0, 0.7), (0.1, 0.7), (0.0, 0.6))
        motion.curves[f"{side}_curl"] = wander(rng, 0.1, 0.9)
        motion.curves[f"{side}_spread"] = wander(rng, 0.2, 1.0)
        motion.curves[f"{side}_apart"] = wander(rng, 0.03, 0.12, 0.05, 0.2)


def _arm(motion: Motion, rng, side: str, lift: tuple, forward: tuple, elbow: tuple, inward: tuple, fast=0.7) -> None:
    for name, limits in (("raise", lift), ("forward", forward), ("elbow", elbow), ("inward", inward)):
        motion.curves[f"{side}_{name}"] = wander(rng, *limits, 0.15, fast)


def _gesture(motion: Motion, rng: np.random.Generator) -> None:
    for side in ("right", "left"):
        _arm(motion, rng, side, (0.15, 1.3), (0.0, 1.2), (0.2, 1.8), (0.0, 1.0))


def _wave(motion: Motion, rng: np.random.Generator) -> None:
    side = "right" if rng.random() < 0.5 else "left"
    _arm(motion, rng, side, (1.2, 2.1), (0.0, 0.5), (0.5, 1.0), (0.0, 0.3))
    motion.curves[f"{side}_elbow"] = swing(0.8, 0.5, rng.uniform(0.8, 1.8), rng.uniform(0, 6))
    motion.curves[f"{side}_curl"] = wander(rng, 0.0, 0.25)
    motion.curves[f"{side}_spread"] = wander(rng, 0.7, 1.2)


def _sign(motion: Motion, rng: np.random.Generator) -> None:
    for side in ("right", "left"):
        _arm(motion, rng, side, (0.3, 0.9), (0.4, 1.2), (1.0, 2.1), (0.2, 1.2), fast=1.2)
        motion.curves[f"{side}_curl"] = wander(rng, 0.0, 1.5, 0.3, 1.5)
        motion.curves[f"{side}_spread"] = wander(rng, 0.0, 1.2, 0.3, 1.5)


def _dance(motion: Motion, rng: np.random.Generator) -> None:
    beat, phase = rng.uniform(0.6, 1.2), rng.uniform(0, 6)
    for side in ("right", "left"):
        _arm(motion, rng, side, (0.2, 2.6), (-0.1, 1.1), (0.0, 1.9), (-0.2, 0.9), fast=1.0)
        motion.curves[f"{side}_apart"] = wander(rng, 0.05, 0.4)
        motion.curves[f"{side}_hip"] = wander(rng, -0.1, 0.5)
        motion.curves[f"{side}_knee"] = wander(rng, 0.05, 0.9)
    motion.curves["twist"] = swing(0.0, rng.uniform(0.1, 0.45), beat / 2, phase)
    motion.curves["lean"] = swing(0.0, rng.uniform(0.05, 0.2), beat / 2, phase + 1)
    motion.curves["dx"] = swing(0.0, rng.uniform(0.01, 0.05), beat / 2, phase + 2)


def _walk(motion: Motion, rng: np.random.Generator) -> None:
    pace, phase, stride = rng.uniform(0.7, 1.1), rng.uniform(0, 6), rng.uniform(0.3, 0.5)
    facing = rng.choice((-1, 1)) * rng.uniform(0.2, 1.25)
    motion.curves["yaw"] = wander(rng, facing - 0.15, facing + 0.15, 0.05, 0.2)
    for side, shift in (("right", 0.0), ("left", np.pi)):
        motion.curves[f"{side}_hip"] = swing(0.08, stride, pace, phase + shift)
        motion.curves[f"{side}_knee"] = swing(0.05, 1.1 * stride, pace, phase + shift + 1.2, power=2)
        motion.curves[f"{side}_raise"] = swing(0.45, 0.15, pace, phase + shift + np.pi)
        motion.curves[f"{side}_forward"] = swing(0.6, 1.6, pace, phase + shift + np.pi)
        motion.curves[f"{side}_inward"] = wander(rng, 0.0, 0.3)
    motion.curves["twist"] = swing(0.0, 0.12, pace, phase)


def _look(motion: Motion, rng: np.random.Generator) -> None:
    motion.curves["head_yaw"] = wander(rng, -1.0, 1.0, 0.2, 0.6)
    motion.curves["head_pitch"] = wander(rng, -0.35, 0.35)
    motion.curves["yaw"] = wander(rng, -0.7, 0.7, 0.1, 0.35)
    _gesture(motion, rng)


def _crouch(motion: Motion, rng: np.random.Generator) -> None:
    rate, phase, depth = rng.uniform(0.25, 0.55), rng.uniform(0, 6), rng.uniform(0.5, 1.0)
    for side in ("right", "left"):
        motion.curves[f"{side}_hip"] = swing(0.05, depth, rate, phase, power=2)
        motion.curves[f"{side}_knee"] = swing(0.1, 1.9 * depth, rate, phase, power=2)
        motion.curves[f"{side}_apart"] = wander(rng, 0.1, 0.35, 0.05, 0.2)
        _arm(motion, rng, side, (0.3, 1.7), (0.2, 1.4), (0.0, 1.2), (0.0, 0.8))
    motion.curves["bend"] = swing(0.0, 0.35 * depth, rate, phase, power=2)


def _jump(motion: Motion, rng: np.random.Generator) -> None:
    rate, phase, height = rng.uniform(0.6, 1.0), rng.uniform(0, 6), rng.uniform(0.04, 0.1)
    up = swing(0.0, 1.0, rate, phase)
    motion.curves["hop"] = lambda times: height * np.maximum(up(times), 0)
    for side in ("right", "left"):
        motion.curves[f"{side}_hip"] = lambda times: 0.05 + 0.5 * np.maximum(-up(times), 0)
        motion.curves[f"{side}_knee"] = lambda times: 0.1 + 1.0 * np.maximum(-up(times), 0)
        motion.curves[f"{side}_apart"] = swing(0.15, 0.12, rate, phase)
        motion.curves[f"{side}_raise"] = swing(1.2, rng.uniform(0.6, 1.1), rate, phase)


KINDS = {
    "gesture": _gesture,
    "wave": _wave,
    "sign": _sign,
    "dance": _dance,
    "walk": _walk,
    "look": _look,
    "crouch": _crouch,
    "jump": _jump,
}
