"""A renderer of one moving block per clip with the puppets' signature, for tests of the training."""

from dataclasses import dataclass

import numpy as np

from mimicmotion.dwpose.keypoints import pose_from_arrays


@dataclass
class Block:
    """The person: a colour in 0..255."""

    colour: np.ndarray

    def attributes(self) -> np.ndarray:
        return (self.colour / 255).astype(np.float32)


@dataclass
class BlockClip:
    """What `mimicmotion.puppets.clips.make_clip` returns, as far as the training reads it."""

    frames: np.ndarray
    poses: list
    person: Block


def make_clip(seed: int, frame_count: int = 16, height: int = 192, width: int = 128) -> BlockClip:
    """A block that moves with its hands; one hand is seen clearly and the other is not."""
    rng = np.random.default_rng(seed)
    colour, start, speed = rng.integers(0, 256, 3), rng.uniform(0.2, 0.5, 2), rng.uniform(-0.01, 0.01, 2)
    frames = np.full((frame_count, height, width, 3), 255 - colour, np.uint8)
    poses = []
    for index, frame in enumerate(frames):
        left, top = start + index * speed
        frame[int(top * height) : int((top + 0.3) * height), int(left * width) : int((left + 0.3) * width)] = colour
        poses.append(block_pose(left, top))
    return BlockClip(frames, poses, Block(colour))


def block_pose(left: float, top: float, left_hand_score: float = 0.9) -> dict:
    """A pose with all joints in a box; the left hand at its upper left corner, the right hand hidden."""
    box = np.linspace(0, 0.3, 18)[:, None] + np.array([left, top])
    hands = np.tile(np.linspace(0, 0.05, 21)[:, None], (1, 2, 1, 2)) + np.array([left, top])
    scores = np.stack([np.full(21, left_hand_score), np.full(21, 0.2)])
    faces = np.tile(np.linspace(0.1, 0.15, 68)[:, None], (1, 2)) + np.array([left, top])
    return pose_from_arrays(
        body=box[None], body_score=np.ones((1, 18)), hands=hands, hands_score=scores[None],
        faces=faces[None], faces_score=np.full((1, 68), 0.2),
    )  # fmt: skip
