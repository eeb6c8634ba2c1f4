"""Clips of procedural people: frames, poses and parts that are exact, from a seed."""

from typing import NamedTuple

import numpy as np

from mimicmotion.dwpose import Pose
from mimicmotion.puppets.keypoints import read_keypoints
from mimicmotion.puppets.motion import draw_motion, stand
from mimicmotion.puppets.person import Person, draw_person, step_back
from mimicmotion.puppets.render import SUPERSAMPLING, render
from mimicmotion.puppets.skeleton import pose_skeleton

RENDERER_VERSION = 1  # of the pictures that a seed gives
FPS = 15
TRAINING_SEEDS = range(1_000_000)
VALIDATION_SEEDS = range(1_000_000, 1_001_000)  # never trained on
DEMO_SEEDS = range(2_000_000, 2_010_000)  # neither trained nor measured on
LONGEST_S = 60.0


class PuppetClip(NamedTuple):
    """T frames of one person; frame 0 is the reference, the same person at another moment.

    Attributes:
        frames: (T, height, width, 3) uint8 RGB.
        poses: the T poses, with one person each.
        parts: (T, height, width) uint8, indices into `render.PARTS`, 0 is background.
        person: who it is.
    """

    frames: np.ndarray
    poses: list[Pose]
    parts: np.ndarray
    person: Person


def make_clip(
    seed: int,
    frame_count: int = 16,
    height: int = 192,
    width: int = 128,
    kind: str | None = None,
    whole_body: bool = False,
) -> PuppetClip:
    """The clip of a seed: a reference and `frame_count - 1` consecutive frames at 15 frames per second.

    Args:
        kind: a motion of `motion.KINDS`; None lets the seed choose.
        whole_body: never only the upper half.

    Raises: ValueError for fewer than 1 frame.
    """
    if frame_count < 1:
        raise ValueError(f"frame_count must be at least 1, not {frame_count}")
    rng = np.random.default_rng(seed)
    person, motion = draw_person(rng, whole_body), draw_motion(rng, kind)
    times = _times(rng, frame_count)
    return show(person, motion.angles(times), height, width, rng)


def make_still(seed: int, height: int = 192, width: int = 128) -> PuppetClip:
    """One frame of the person of a seed: head to feet, standing quietly, arms a little away from the body."""
    rng = np.random.default_rng(seed)
    person = step_back(draw_person(rng, whole_body=True), rng)
    return show(person, stand(rng), height, width, rng)


def show(
    person: Person, angles: dict[str, np.ndarray], height: int, width: int, rng: np.random.Generator
) -> PuppetClip:
    """The clip of a person with the angles of a motion, each (T,); `rng` draws confidences."""
    skeleton = pose_skeleton(person, angles)
    frames, large_parts = render(person, skeleton, height, width)
    poses = read_keypoints(person, skeleton, large_parts, height, width, rng)
    middle = SUPERSAMPLING // 2
    return PuppetClip(frames, poses, large_parts[:, middle::SUPERSAMPLING, middle::SUPERSAMPLING].copy(), person)


def _times(rng: np.random.Generator, frame_count: int) -> np.ndarray:
    """Seconds of the motion; the reference lies before the driving frames, which play at 0.6 to 1.6 times life."""
    start = rng.uniform(3.0, LONGEST_S)
    reference = start - rng.uniform(0.6, 3.0)
    speed = rng.uniform(0.6, 1.6)
    return np.concatenate([[reference], start + np.arange(frame_count - 1) * speed / FPS])
