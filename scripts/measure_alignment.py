"""Measures both alignment methods on a stick person whose true size is known; doc/pose.md shows the table.

python scripts/measure_alignment.py   # needs minutes
python scripts/measure_alignment.py --turned   # needs minutes
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimicmotion.cli import HelpFormatter
from mimicmotion.dwpose import (
    ANKLE_Y,
    ANKLES,
    CONFIDENT,
    METHODS,
    Alignment,
    Pose,
    align_pose,
    disturb,
    fit_alignment,
    make_bodies,
    project,
    share_outside,
    stick_figure,
)

FRAMES = 60
TRUE_SCALE = 1.25
VIDEO_SIZE, REF_SIZE = (480, 520), (1024, 576)
HEIGHT, X, FLOOR = 0.6, 0.45, 0.85
REF_X, REF_FLOOR = 0.55, 0.93
PHASE = np.arange(FRAMES) / FRAMES * 4 * np.pi  # two periods
SWING = (1 - np.cos(PHASE)) / 2
LEGS = [9, 10, 12, 13]
HIPS = [8, 11]

Motion = Callable[[np.random.Generator], list[Pose]]


def clip(rng: np.random.Generator, angles: dict, x=X, floor=FLOOR, height=HEIGHT) -> list[Pose]:
    """One pose a frame; every argument is a number or an array over frames. The arms move at random."""
    arms = rng.uniform(0, 3, (FRAMES, 2))
    angles = {name: np.broadcast_to(values, FRAMES) for name, values in angles.items()}
    x, floor, height = (np.broadcast_to(values, FRAMES) for values in (x, floor, height))
    return [
        project(
            stick_figure(arms=arms[f], **{name: values[f] for name, values in angles.items()}),
            height[f],
            (x[f], floor[f]),
            VIDEO_SIZE,
        )
        for f in range(FRAMES)
    ]


def jumping(std: float) -> Motion:
    """Every frame at a random height."""
    return lambda rng: clip(rng, {}, floor=FLOOR + rng.normal(0, std, FRAMES))


def swinging(**amplitudes: float) -> Motion:
    """The named angles swing between 0 and the amplitude."""
    return lambda rng: clip(rng, {name: top * SWING for name, top in amplitudes.items()})


def hopping(rng: np.random.Generator) -> list[Pose]:
    """Crouch, then fly, then crouch: a rope skipper."""
    flight, dip = np.maximum(np.sin(PHASE), 0) ** 2, np.maximum(-np.sin(PHASE), 0) ** 2
    return clip(rng, {"crouch": 0.8 * dip}, floor=FLOOR - 0.2 * flight)


def walking_across(rng: np.random.Generator) -> list[Pose]:
    return clip(rng, {}, x=np.linspace(0.1, 0.9, FRAMES))


def walking_towards(rng: np.random.Generator) -> list[Pose]:
    """The person grows by half; the size at half time counts as the true one."""
    growth = np.linspace(0.8, 1.2, FRAMES)
    return clip(rng, {}, floor=0.5 + 0.35 * growth, height=HEIGHT * growth)


def without(joints: list[int], motion: Motion) -> Motion:
    """The clip does not show these joints."""
    return lambda rng: [hide(pose, joints) for pose in motion(rng)]


def hide(pose: Pose, joints: list[int]) -> Pose:
    score = pose["bodies"]["score"].copy()
    score[:, joints] = 0.1
    return pose | {"bodies": make_bodies(pose["bodies"]["candidate"], score)}


MOTIONS = {
    **{f"jumping, std {std:.2f}": jumping(std) for std in (0.0, 0.02, 0.05, 0.1, 0.2)},
    "skipping (hop 0.2, dip)": hopping,
    "crouching down": swinging(crouch=1.3),
    "bending forward 75 degrees": swinging(bend=1.3),
    "turning half round": swinging(turn=3.1),
    "crouching, bending, turning": swinging(crouch=1.0, bend=0.8, turn=1.0),
    "walking across": walking_across,
    "walking towards the camera": walking_towards,
    "no legs in view, jumping 0.1": without(LEGS, jumping(0.1)),
    "head and shoulders, jumping 0.1": without(LEGS + HIPS, jumping(0.1)),
}


def turning(degrees: float | np.ndarray) -> Motion:
    """Someone who stands, turned clockwise about the middle of the frame; an array turns every frame by its own."""
    degrees = np.broadcast_to(degrees, FRAMES)
    return lambda rng: [turn(pose, angle) for pose, angle in zip(clip(rng, {}), degrees, strict=True)]


def turn(pose: Pose, degrees: float) -> Pose:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    square = np.array([VIDEO_SIZE[1] / VIDEO_SIZE[0], 1])
    points = ((pose["bodies"]["candidate"] - 0.5) * square @ [[cos, sin], [-sin, cos]]) / square + 0.5
    return pose | {"bodies": make_bodies(points, pose["bodies"]["score"])}


TURNED = {
    "standing": turning(0),
    "upside down": turning(180),
    "lying, feet to the left": turning(90),
    "lying, feet to the right": turning(-90),
    "cartwheel": turning(np.arange(FRAMES) * 360 / FRAMES),
    "walking a tenth of the frame": lambda rng: clip(rng, {}, x=np.linspace(0.4, 0.5, FRAMES)),
    "walking across": walking_across,
}
SHAPES = {"9:16": (1024, 576), "16:9": (576, 1024)}


def measure_turned(motion: Motion, repeats: int) -> list[str]:
    """For each shape of the reference and each method: mean share of joints outside, and the size they are drawn at."""
    cells = []
    for size, method in itertools.product(SHAPES.values(), METHODS):
        ref = project(stick_figure(), HEIGHT * TRUE_SCALE, (REF_X, REF_FLOOR), size)
        clips = [motion(np.random.default_rng(seed)) for seed in range(repeats)]
        fits = [fit_alignment(ref, poses, size, VIDEO_SIZE, method) for poses in clips]
        outside = [
            share_outside([align_pose(pose, fit) for pose in poses]) for poses, fit in zip(clips, fits, strict=True)
        ]
        cells.append(f"{100 * np.mean(outside):.0f} %, {100 * np.mean([fit.ay for fit in fits]) / TRUE_SCALE:.0f} %")
    return cells


def fit_once(motion: Motion, method: str, seed: int, clean: bool) -> tuple[Alignment, list[Pose]]:
    rng = np.random.default_rng(seed)
    poses = motion(rng)
    ref = project(stick_figure(), HEIGHT * TRUE_SCALE, (REF_X, REF_FLOOR), REF_SIZE)
    if not clean:
        poses, ref = disturb(poses, rng), disturb([ref], rng, noise=0.002, dropouts=0, outliers=0)[0]
    return fit_alignment(ref, poses, REF_SIZE, VIDEO_SIZE, method), poses


def floor_error(alignment: Alignment, poses: list[Pose]) -> float:
    """How far below the reference's feet the clip's usual footing comes, percent of the picture's height."""
    lowest = [
        pose["bodies"]["candidate"][ANKLES, 1].max()
        for pose in poses
        if pose["bodies"]["score"][0, ANKLES].min() > CONFIDENT
    ]
    if not lowest:
        return float("nan")
    ref_feet = REF_FLOOR + ANKLE_Y * HEIGHT * TRUE_SCALE
    return 100 * (alignment.ay * float(np.median(lowest)) + alignment.by - ref_feet)


def measure(motion: Motion, method: str, repeats: int, clean: bool) -> list[str]:
    """Median scale, worst relative error of the scale, median floor error."""
    fits = [fit_once(motion, method, seed, clean) for seed in range(repeats)]
    scales = np.array([alignment.ay for alignment, _ in fits])
    worst = 100 * np.abs(scales / TRUE_SCALE - 1).max()
    floor = np.median([floor_error(*fit) for fit in fits])
    return [f"{np.median(scales):.3f}", f"{worst:.1f} %", "-" if np.isnan(floor) else f"{floor:+.1f} %"]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="random clips per motion")
    parser.add_argument("--clean", action="store_true", help="no noise, dropouts and outliers")
    parser.add_argument("--turned", action="store_true", help="how much of people who do not stand is outside")
    args = parser.parse_args(argv)
    if args.turned:
        columns = [f"{shape}, {method}: outside, size" for shape, method in itertools.product(SHAPES, METHODS)]
        print("| motion | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
        for name, motion in TURNED.items():
            print(f"| {name} | " + " | ".join(measure_turned(motion, args.repeats)) + " |")
        return
    print(f"true scale {TRUE_SCALE}, {FRAMES} frames, {args.repeats} random clips per row")
    print("| motion | " + " | ".join(f"{m}: scale | worst error | floor" for m in METHODS) + " |")
    print("|---|" + "---|" * 3 * len(METHODS))
    for name, motion in MOTIONS.items():
        cells = [cell for method in METHODS for cell in measure(motion, method, args.repeats, args.clean)]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
