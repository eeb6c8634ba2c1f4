"""Times the drawing of a pose against the plain way on the whole canvas, in turns, and compares the pictures.

python scripts/benchmark_draw.py   # needs minutes
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimicmotion.cli import HelpFormatter
from mimicmotion.dwpose import Pose, draw_pose, draw_pose_plain, project, stick_figure

SIZES = ((576, 1024), (1024, 576), (128, 192), (192, 128))


def random_person(rng: np.random.Generator, size: tuple[int, int]) -> Pose:
    """A standing figure with all 18 joints, two hands and a face, most of it within the frame."""
    arms = tuple(rng.uniform(0, 3, 2))
    figure = stick_figure(crouch=rng.uniform(0, 0.8), turn=rng.uniform(-0.5, 0.5), arms=arms)
    pose = project(figure, rng.uniform(0.6, 0.9), (rng.uniform(0.4, 0.6), 0.95), size)
    joints = pose["bodies"]["candidate"]
    return pose | {
        "hands": joints[[7, 4], None] + rng.normal(0, 0.015, (2, 21, 2)),
        "hands_score": rng.uniform(0.3, 1, (2, 21)),
        "faces": joints[None, [0]] + rng.normal(0, 0.015, (1, 68, 2)),
        "faces_score": rng.uniform(0.3, 1, (1, 68)),
    }


def timed(draw, pose: Pose, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    picture = draw(pose, *size)
    return picture, time.perf_counter() - start


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    parser.add_argument("--poses", type=int, default=40, help="random poses per size")
    poses = parser.parse_args(argv).poses
    rng = np.random.default_rng(0)
    for size in SIZES:
        seconds, different = {draw_pose: [], draw_pose_plain: []}, 0
        for _ in range(poses):
            pose = random_person(rng, size)
            pictures = []
            for draw, times in seconds.items():
                picture, elapsed = timed(draw, pose, size)
                pictures.append(picture)
                times.append(elapsed)
            different += int((pictures[0] != pictures[1]).any(axis=0).sum())
        fast, plain = (1000 * statistics.median(times) for times in seconds.values())
        print(
            f"{size[0]}x{size[1]}: plain {plain:.1f} ms, draw_pose {fast:.1f} ms, ratio {plain / fast:.1f}, "
            f"{different} of {poses * size[0] * size[1]} pixels differ"
        )


if __name__ == "__main__":
    main()
