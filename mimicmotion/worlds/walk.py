"""What a way to walk through the courtyard is: what keys and mouse do to the camera."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mimicmotion.worlds.courtyard import Camera

FIRST_BLOCK, BLOCK = 9, 12  # frames


@dataclass(frozen=True)
class Walk:
    """One way. Actions are keyboard (N, 4) and mouse (N, 2) of N frames, as in mode `universal`.

    held: letters held together and how often sessions draw them
    tries: actions that a wall makes void are drawn anew until there were so many
    rest_share: share of sessions that stand still from some part on
    aligned_share: share of sessions whose actions change with the blocks only, as they do when played
    first_frame_decides: whether a block's other actions are not felt
    still_error: metres and degrees by which a camera that should stand may be off
    quarter_turn: blocks of J that turn by 90 degrees
    draw_start(generator): a camera to begin from
    follow_actions(start, keyboard, mouse): cameras (N, 4) of a session from its first frame on
    end(camera, keyboard, mouse): the camera when all of a part's actions are felt
    block(camera, before, keyboard, mouse): cameras of the frames of a block after the first one; camera: of the frame
        before it; before: keyboard (4,) and mouse (2,) of that frame
    reachable(camera, frames): cameras (n, 4) where one may be after so many frames
    length(frames): metres that a walking key leads in a part of so many frames
    """

    name: str
    held: Mapping[str, float]
    tries: int
    rest_share: float
    aligned_share: float
    first_frame_decides: bool
    still_error: tuple[float, float]
    quarter_turn: int
    draw_start: Callable[[np.random.Generator], Camera]
    follow_actions: Callable[[Camera, np.ndarray, np.ndarray], np.ndarray]
    end: Callable[[Camera, np.ndarray, np.ndarray], Camera]
    block: Callable[[Camera, tuple, np.ndarray, np.ndarray], np.ndarray]
    reachable: Callable[[Camera, int], np.ndarray]
    length: Callable[[int], float]


def block_slice(block: int) -> slice:
    """The frames of a block of a session."""
    return slice(0, FIRST_BLOCK) if block == 0 else slice(BLOCK * block - 3, BLOCK * block + 9)
