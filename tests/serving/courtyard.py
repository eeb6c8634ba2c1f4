"""A world that is true: the interface of StreamingGenerator over `mimicmotion.worlds`, frame for frame as they tell.

It needs no network, and its camera can be found in what it shows.
"""

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from mimicmotion.errors import InputError, UsageError
from mimicmotion.streaming import Actions, frame_count, get_mode
from mimicmotion.worlds import HEIGHT, WIDTH, get_walk, open_place, render

VERSION = 1
FREE = get_walk("free")


@dataclass
class CourtyardState:
    """seed, start as of a StreamState; camera (4,) of the newest frame, and the action that it is left by."""

    seed: int
    start: int
    camera: np.ndarray
    keyboard: np.ndarray | None = None
    mouse: np.ndarray | None = None

    @property
    def frames_done(self):
        return frame_count(self.start) if self.start else 0

    @property
    def nbytes(self):
        return self.camera.nbytes

    def advance(self, after):
        vars(self).update(vars(after))

    def copy(self):
        return replace(self, camera=self.camera.copy())


class Courtyard:
    """Stands in for a generator. seconds: how long a block takes."""

    def __init__(self, seconds=0.0, name="courtyard"):
        self.mode, self.height, self.width, self.frames_per_block = get_mode("universal"), HEIGHT, WIDTH, 3
        self.model = SimpleNamespace(device=torch.device("cpu"))
        self.seconds, self.name = seconds, name
        self.blocks = 0  # made so far, by all sessions

    def take_picture(self, image):
        return np.array(Image.fromarray(np.asarray(image)).convert("RGB").resize((self.width, self.height)))

    def start(self, image, seed):
        """The brightness of a picture moves the beginning, so that another one is another place."""
        return CourtyardState(seed, 0, open_place(seed + int(np.asarray(image).mean()), FREE))

    def block_frames(self, state):
        return frame_count(state.start + self.frames_per_block) - state.frames_done

    def denoise_next(self, state, action):
        frames = self.block_frames(state)
        if len(action) not in (1, frames):
            raise UsageError(f"this block has {frames} frames; got actions for {len(action)}")
        action = action if len(action) == frames else action.repeat(frames)
        cameras, camera = [], state.camera
        keyboard, mouse = state.keyboard, state.mouse
        for index in range(frames):
            if keyboard is not None:
                camera = FREE.end(camera, keyboard[None], mouse[None])
            cameras.append(camera)
            keyboard, mouse = action.keyboard[index], action.mouse[index]
        return cameras, replace(
            state, start=state.start + self.frames_per_block, camera=camera, keyboard=keyboard, mouse=mouse
        )

    def decode_next(self, state, block, clock=None):
        return render(np.array(block[0])), block[1]

    def next_block(self, state, action, clock=None):
        self.blocks += 1
        time.sleep(self.seconds)
        block = self.denoise_next(state, action)
        frames, after = self.decode_next(state, block)
        if clock:
            clock.seconds |= {"denoise": 0.001, "decode": 0.002, "transport": 0.0005}
        return frames, after

    def fingerprint(self):
        return hashlib.sha256(self.name.encode()).hexdigest()

    def save_state(self, state, path):
        values = {"version": VERSION, "seed": state.seed, "start": state.start, "camera": state.camera.tolist()}
        if state.keyboard is not None:
            values |= {"keyboard": state.keyboard.tolist(), "mouse": state.mouse.tolist()}
        Path(path).write_text(json.dumps(values))

    def load_state(self, path):
        try:
            values = json.loads(Path(path).read_text())
            if values["version"] != VERSION:
                raise ValueError("another version")
            pair = {name: np.array(values[name], np.float32) for name in ("keyboard", "mouse") if name in values}
            return CourtyardState(values["seed"], values["start"], np.array(values["camera"]), **pair)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no saved session: {error}") from error


def still(count=1):
    """Actions of no move."""
    mode = get_mode("universal")
    return Actions(np.zeros((count, mode.keyboard_dim), np.float32), np.zeros((count, 2), np.float32))
